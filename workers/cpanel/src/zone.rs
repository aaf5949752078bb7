//! `dnszones/DOMAIN.db`: zone files of the account, as far as they are carried over.

use crate::account::Zone;
use crate::findings::Findings;
use values::DomainName;
use zonefile::{Broken, Field, RecordSet, check_zone};

/// Reads the zone of `name`. Fails when the file as a whole cannot be trusted. What cannot be carried
/// over is reported and left out.
pub fn parse(name: &DomainName, bytes: &[u8], findings: &mut Findings) -> Result<Zone, Broken> {
    let file = zonefile::read(name, bytes)?;
    let signing = file.left_out.iter().filter(|line| line.is_signing()).count();
    if signing > 0 {
        let text = format!(
            "Its {signing} records of DNSSEC are left out: its signing ends with the move. Take the DS out of the zone above before."
        );
        findings.lost(&format!("signing:{name}"), text);
    }
    for line in file.left_out.iter().filter(|line| !line.is_signing()) {
        let item = format!("record:{name}:{}", line.line);
        findings.lost(&item, format!("The record is left out ({}): {}", line.why, line.text));
    }
    let mut records = file.sets;
    drop_aliases(&mut records, findings);
    drop_misplaced(name, &mut records, findings);
    Ok(Zone { name: name.clone(), serial: file.soa.map(|soa| soa.serial), records })
}

/// An ALIAS has our name server ask others in the account's name, which nobody here has agreed to.
fn drop_aliases(sets: &mut Vec<RecordSet>, findings: &mut Findings) {
    sets.retain(|set| {
        if set.rtype == "ALIAS" {
            let to = set.records.first().map(String::as_str).unwrap_or_default();
            let text =
                format!("It led to {to} and is left out: the type ALIAS is not carried over.");
            findings.lost(&format!("record:{}:ALIAS", set.name), text);
        }
        set.rtype != "ALIAS"
    });
}

/// Sets where no name server answers them, and for some of which it refuses the zone. One that leads
/// to an alias stays: mail servers follow it all the same.
fn drop_misplaced(name: &DomainName, sets: &mut Vec<RecordSet>, findings: &mut Findings) {
    let mut at = 0..;
    let problems = check_zone(name, sets);
    sets.retain(|set| {
        let at = at.next();
        let problem = problems.iter().find(|(index, problem)| {
            Some(*index) == at && matches!(problem.field, Field::Name | Field::Type)
        });
        if let Some((_, problem)) = problem {
            let records: Vec<&str> = set.records.iter().map(String::as_str).collect();
            let text =
                format!("It is left out, since it {}: {}", problem.message, records.join(", "));
            findings.lost(&format!("record:{}:{}", set.name, set.rtype), text);
        }
        problem.is_none()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use zonefile::txt_value;

    fn zone(text: &str) -> (BTreeMap<(String, String), RecordSet>, Findings) {
        let mut findings = Findings::default();
        let name = DomainName::parse("x.example").unwrap();
        let zone = parse(&name, text.as_bytes(), &mut findings).unwrap();
        let sets = zone.records.into_iter().map(|s| ((s.name.clone(), s.rtype.clone()), s));
        (sets.collect(), findings)
    }

    #[test]
    fn a_real_zone() {
        let bytes =
            include_bytes!("../tests/fixtures/metadata/b_modern/dnszones/fxtwo.com.example.db");
        let mut findings = Findings::default();
        let name = DomainName::parse("fxtwo.com.example").unwrap();
        let zone = parse(&name, bytes, &mut findings).unwrap();
        assert_eq!((findings.warnings.len(), findings.not_transferable.len()), (0, 0));
        assert_eq!(zone.serial, Some(2_024_032_700));
        let get = |name: &str, rtype: &str| {
            zone.records.iter().find(|s| s.name == name && s.rtype == rtype).unwrap()
        };
        let dkim = get("default._domainkey.fxtwo.com.example.", "TXT").records.first().unwrap();
        let value = String::from_utf8(txt_value(dkim).unwrap()).unwrap();
        assert!(value.starts_with("v=DKIM1; k=rsa; p=MIIB") && value.ends_with("IDAQAB;"));
        assert!(!value.contains("IiT2 U3kD") && value.contains("IiT2U3kD"));
        let dmarc = get("_dmarc.fxtwo.com.example.", "TXT").records.first().unwrap();
        assert!(dmarc.contains("v=DMARC1;p=quarantine") && dmarc.contains("postmaster@fxtwo"));
        // The user forgot the dot; the zone means what it says.
        get("fxtwo.com.fxtwo.com.example.", "TXT");
        assert_eq!(get("fxtwo.com.example.", "NS").records.len(), 4);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let name = DomainName::parse("x.example").unwrap();
        for (text, line) in [
            ("$INCLUDE /etc/passwd\n", 1),
            ("\n$GENERATE 1-9 a A 192.0.2.1\n", 2),
            ("a TXT \"x\n", 1),
            ("a A ( 1\n", 1),
        ] {
            let refused = parse(&name, text.as_bytes(), &mut Findings::default()).unwrap_err();
            assert_eq!(refused.line, line, "{text}");
        }
        let (sets, findings) = zone(
            "a LUA A \"os.execute()\"\nother.example. A 192.0.2.1\nb A 999.1.1.1\nc CNAME d\nc TXT \"x\"\n\
             e+f A 192.0.2.1\n A 192.0.2.9\ng ALIAS bank.example.\n@ DS 1 13 2 abab\n\
             @ RRSIG A 13 2 1 20260101000000 20250101000000 1 x.example. AAAA\n@ DNSKEY 257 3 13 AAAA\n\
             h NS ns.other.example.\nmail.h MX 10 x.example.\nmx CNAME x.example.\n@ MX 10 mx\n",
        );
        let kept: Vec<String> =
            sets.keys().map(|(name, rtype)| format!("{name} {rtype}")).collect();
        assert_eq!(
            kept,
            ["c.x.example. TXT", "h.x.example. NS", "mx.x.example. CNAME", "x.example. MX"]
        );
        let lost: Vec<&str> = findings.not_transferable.iter().map(|l| l.item.as_str()).collect();
        assert_eq!(
            lost,
            [
                "signing:x.example",
                "record:x.example:1",
                "record:x.example:2",
                "record:x.example:3",
                "record:x.example:4",
                "record:x.example:6",
                "record:x.example:7",
                "record:x.example:9",
                "record:g.x.example.:ALIAS",
                "record:mail.h.x.example.:MX",
            ]
        );
    }
}
