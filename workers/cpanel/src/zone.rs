//! `dnszones/DOMAIN.db`: BIND master files into record sets.

use crate::account::Zone;
use crate::findings::Findings;
use crate::plan::RecordSet;
use crate::zone_text::{Line, Token, lines, quote};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use values::DomainName;

/// Types that are carried over. Others are reported: some run code in a name server (LUA), some
/// belong to the signing that ends with the move (DS, DNSKEY, RRSIG).
const TYPES: &[&str] = &[
    "A", "AAAA", "CAA", "CNAME", "DNAME", "MX", "NAPTR", "NS", "PTR", "SRV", "SSHFP", "TLSA", "TXT",
];

const DEFAULT_TTL: u32 = 14_400;

/// Reads the zone of `name`. Fails when the file as a whole cannot be trusted: quotes that do not
/// close, `$INCLUDE`, `$GENERATE`. A record that cannot be read is reported and left out.
pub fn parse(
    name: &DomainName,
    bytes: &[u8],
    findings: &mut Findings,
) -> Result<Zone, &'static str> {
    let apex = format!("{name}.");
    let mut state = State {
        origin: apex.clone(),
        owner: None,
        default_ttl: None,
        last_ttl: None,
        serial: None,
        sets: BTreeMap::new(),
    };
    for line in lines(bytes)? {
        match line.tokens.first().and_then(Token::plain) {
            Some(directive) if directive.starts_with('$') && !line.indented => {
                state.directive(directive, &line)?;
            }
            _ => {
                if let Err(why) = state.record(&apex, &line) {
                    let item = format!("record:{name}:{}", line.number);
                    let text = format!("The record is left out ({why}): {}", line.shown());
                    findings.lost(&item, text);
                }
            }
        }
    }
    state.drop_mixed_cnames(findings);
    let records = state
        .sets
        .into_iter()
        .map(|((name, rtype), (ttl, records))| RecordSet { name, rtype, ttl, records })
        .collect();
    Ok(Zone { name: name.clone(), serial: state.serial, records })
}

struct State {
    origin: String,
    owner: Option<String>,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    serial: Option<u32>,
    sets: BTreeMap<(String, String), (u32, BTreeSet<String>)>,
}

impl State {
    fn directive(&mut self, directive: &str, line: &Line) -> Result<(), &'static str> {
        let argument = line.tokens.get(1).and_then(Token::plain);
        match (directive.to_ascii_uppercase().as_str(), argument) {
            ("$TTL", Some(text)) => self.default_ttl = Some(ttl(text).ok_or("a $TTL out of form")?),
            ("$ORIGIN", Some(text)) => {
                self.origin = absolute(text, &self.origin).ok_or("an $ORIGIN out of form")?;
            }
            ("$INCLUDE", _) => return Err("it includes another file"),
            ("$GENERATE", _) => return Err("it generates records"),
            _ => return Err("a directive that is not known"),
        }
        Ok(())
    }

    fn record(&mut self, apex: &str, line: &Line) -> Result<(), &'static str> {
        let mut tokens = line.tokens.as_slice();
        if !line.indented {
            let (first, rest) = tokens.split_first().ok_or("it is empty")?;
            tokens = rest;
            // A name that cannot be read must not leave the records below it to the name before.
            self.owner = None;
            let text = first.plain().ok_or("a name with escapes")?;
            self.owner = Some(absolute(text, &self.origin).ok_or("a name out of form")?);
        }
        let owner = self.owner.clone().ok_or("it has no name")?;
        let mut own_ttl = None;
        let rtype = loop {
            let (first, rest) = tokens.split_first().ok_or("it has no type")?;
            tokens = rest;
            let text = first.plain().ok_or("it has no type")?.to_ascii_uppercase();
            match text.as_str() {
                "IN" => {}
                "CH" | "HS" | "CS" => return Err("a class other than IN"),
                _ if text.starts_with(|c: char| c.is_ascii_digit()) => {
                    own_ttl = Some(ttl(&text).ok_or("a TTL out of form")?);
                }
                _ => break text,
            }
        };
        let ttl = own_ttl.or(self.default_ttl).or(self.last_ttl).unwrap_or(DEFAULT_TTL);
        self.last_ttl = Some(ttl);
        if rtype == "SOA" {
            self.serial = tokens.get(2).and_then(Token::plain).and_then(|t| t.parse().ok());
            return Ok(());
        }
        if !TYPES.contains(&rtype.as_str()) {
            return Err("a type that is not carried over");
        }
        if owner != apex && !owner.strip_suffix(apex).is_some_and(|rest| rest.ends_with('.')) {
            return Err("its name lies outside the zone");
        }
        let data = rdata(&rtype, tokens, &self.origin).ok_or("data out of form")?;
        let set = self.sets.entry((owner, rtype)).or_insert((ttl, BTreeSet::new()));
        set.0 = set.0.min(ttl);
        set.1.insert(data);
        Ok(())
    }

    /// Nothing may stand beside a CNAME (RFC 1034 section 3.6.2), and a name server refuses a zone
    /// where something does.
    fn drop_mixed_cnames(&mut self, findings: &mut Findings) {
        let mut types: BTreeMap<String, usize> = BTreeMap::new();
        for (name, _) in self.sets.keys() {
            *types.entry(name.clone()).or_default() += 1;
        }
        self.sets.retain(|(name, rtype), (_, records)| {
            if rtype != "CNAME" {
                return true;
            }
            while records.len() > 1 {
                records.pop_last();
                let item = format!("record:{name}:CNAME");
                findings.lost(&item, "Only one of its CNAME records is kept.");
            }
            let mixed = types.get(name).is_some_and(|n| *n > 1);
            if mixed {
                let item = format!("record:{name}:CNAME");
                let to = records.first().map(String::as_str).unwrap_or_default();
                let text =
                    format!("It led to {to} and is left out: other records stand beside it.");
                findings.lost(&item, text);
            }
            !mixed
        });
    }
}

/// Record data in presentation form.
fn rdata(rtype: &str, tokens: &[Token], origin: &str) -> Option<String> {
    let plain = |at: usize| tokens.get(at).and_then(Token::plain);
    let name = |at: usize| plain(at).and_then(|t| absolute_or_root(t, origin));
    let number = |at: usize| plain(at).and_then(|t| t.parse::<u16>().ok());
    let count = tokens.len();
    match (rtype, count) {
        ("TXT", 1..) => Some(txt(tokens)),
        ("A", 1) => plain(0)?.parse::<Ipv4Addr>().ok().map(|a| a.to_string()),
        ("AAAA", 1) => plain(0)?.parse::<Ipv6Addr>().ok().map(|a| a.to_string()),
        ("CNAME" | "DNAME" | "NS" | "PTR", 1) => absolute(plain(0)?, origin),
        ("MX", 2) => Some(format!("{} {}", number(0)?, name(1)?)),
        ("SRV", 4) => Some(format!("{} {} {} {}", number(0)?, number(1)?, number(2)?, name(3)?)),
        ("CAA", 3) => {
            let flags: u8 = plain(0)?.parse().ok()?;
            let tag = plain(1)?.to_ascii_lowercase();
            let valid = !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric());
            valid.then_some(())?;
            Some(format!("{flags} {tag} {}", quote(&tokens.get(2)?.bytes)))
        }
        ("SSHFP" | "TLSA", 3..) => {
            let numbers = if rtype == "SSHFP" { 2 } else { 3 };
            let mut parts = Vec::new();
            for at in 0..numbers {
                parts.push(plain(at)?.parse::<u8>().ok()?.to_string());
            }
            let hex: String = tokens.iter().skip(numbers).filter_map(Token::plain).collect();
            let valid = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
            valid.then(|| format!("{} {}", parts.join(" "), hex.to_ascii_lowercase()))
        }
        ("NAPTR", 6) => {
            let text = |at: usize| tokens.get(at).map(|t| quote(&t.bytes));
            let (order, preference) = (number(0)?, number(1)?);
            Some(format!(
                "{order} {preference} {} {} {} {}",
                text(2)?,
                text(3)?,
                text(4)?,
                name(5)?
            ))
        }
        _ => None,
    }
}

/// Strings keep their borders; only one over 255 octets, which no server can send, is split.
fn txt(tokens: &[Token]) -> String {
    let mut strings = Vec::new();
    for token in tokens {
        if token.bytes.is_empty() {
            strings.push(quote(b""));
        }
        strings.extend(token.bytes.chunks(255).map(quote));
    }
    strings.join(" ")
}

/// The octets of a TXT record's strings, joined: what a resolver's user sees. None when `text` is not
/// in presentation form.
#[must_use]
pub fn txt_value(text: &str) -> Option<Vec<u8>> {
    let lines = lines(text.as_bytes()).ok()?;
    Some(lines.iter().flat_map(|l| l.tokens.iter()).flat_map(|t| t.bytes.clone()).collect())
}

/// The presentation form of a TXT record with these octets.
#[must_use]
pub fn txt_record(value: &[u8]) -> String {
    if value.is_empty() {
        quote(b"")
    } else {
        value.chunks(255).map(quote).collect::<Vec<_>>().join(" ")
    }
}

fn absolute_or_root(text: &str, origin: &str) -> Option<String> {
    if text == "." { Some(".".to_owned()) } else { absolute(text, origin) }
}

/// An absolute name in lower case with its final dot. Labels may hold what service names and
/// wildcards need, and no more.
fn absolute(text: &str, origin: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let name = match lower.as_str() {
        "@" => origin.to_owned(),
        name if name.ends_with('.') => name.to_owned(),
        name => format!("{name}.{origin}"),
    };
    let labels = name.strip_suffix('.')?;
    let valid = labels.len() <= 253
        && labels.split('.').enumerate().all(|(at, label)| {
            (at == 0 && label == "*")
                || (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    valid.then_some(name)
}

/// Seconds, or a sum of numbers with units: `1h30m`, `1D`.
fn ttl(text: &str) -> Option<u32> {
    let mut total = 0_u32;
    let mut number: Option<u32> = None;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let total = total.checked_add(number.unwrap_or(0))?;
    (total <= i32::MAX.unsigned_abs()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(text: &str) -> (BTreeMap<(String, String), RecordSet>, Findings) {
        let mut findings = Findings::default();
        let name = DomainName::parse("x.example").unwrap();
        let zone = parse(&name, text.as_bytes(), &mut findings).unwrap();
        let sets = zone.records.into_iter().map(|s| ((s.name.clone(), s.rtype.clone()), s));
        (sets.collect(), findings)
    }

    fn one(text: &str, name: &str, rtype: &str) -> (u32, String) {
        let (sets, findings) = zone(text);
        assert!(findings.warnings.is_empty(), "{findings:?}");
        let set = &sets[&(name.to_owned(), rtype.to_owned())];
        (set.ttl, set.records.iter().cloned().collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn a_real_zone() {
        let bytes =
            include_bytes!("../tests/fixtures/metadata/b_modern/dnszones/fxtwo.com.example.db");
        let mut findings = Findings::default();
        let name = DomainName::parse("fxtwo.com.example").unwrap();
        let zone = parse(&name, bytes, &mut findings).unwrap();
        assert!(findings.warnings.is_empty(), "{findings:?}");
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
    fn inheritance_units_and_parentheses() {
        let text = "$TTL 1h\n@ IN SOA ns. a. (\n 7 ; serial\n 1h 1h\n 1w 1d )\n\tA 192.0.2.1\n  1D IN AAAA 2001:DB8::1\n\
            $ORIGIN sub.x.example.\nwww IN 5m CNAME @\n*.w A 192.0.2.2\n";
        assert_eq!(one(text, "x.example.", "A"), (3600, "192.0.2.1".into()));
        assert_eq!(one(text, "x.example.", "AAAA"), (86_400, "2001:db8::1".into()));
        assert_eq!(one(text, "www.sub.x.example.", "CNAME"), (300, "sub.x.example.".into()));
        assert_eq!(one(text, "*.w.sub.x.example.", "A").1, "192.0.2.2");
    }

    #[test]
    fn escapes_and_long_strings() {
        let text = "a TXT \"semi\\; quote\\\" at\\@end\"\nb TXT \"\\228\" c\\032d\n";
        assert_eq!(one(text, "a.x.example.", "TXT").1, "\"semi; quote\\\" at@end\"");
        assert_eq!(one(text, "b.x.example.", "TXT").1, "\"\\228\" \"c d\"");
        let long = format!("a TXT \"{}\"\n", "x".repeat(300));
        let (_, value) = one(&long, "a.x.example.", "TXT");
        assert_eq!(value.len(), 300 + 5);
    }

    #[test]
    fn what_is_refused() {
        let name = DomainName::parse("x.example").unwrap();
        for text in
            ["$INCLUDE /etc/passwd\n", "$GENERATE 1-9 a A 192.0.2.1\n", "a TXT \"x\n", "a A ( 1\n"]
        {
            assert!(parse(&name, text.as_bytes(), &mut Findings::default()).is_err());
        }
        let (sets, findings) = zone(
            "a LUA A \"os.execute()\"\nother.example. A 192.0.2.1\nb A 999.1.1.1\nc CNAME d\nc TXT \"x\"\ne/f A 192.0.2.1\n A 192.0.2.9\n",
        );
        assert_eq!(sets.len(), 1);
        assert_eq!(findings.not_transferable.len(), 6, "{findings:?}");
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let name = DomainName::parse("x.example").unwrap();
            let _outcome = parse(&name, &bytes, &mut Findings::default());
        }

        #[test]
        fn txt_bytes_survive(value in proptest::collection::vec(any::<u8>(), 0..700)) {
            let text = txt_record(&value);
            prop_assert_eq!(txt_value(&text).unwrap(), value.clone());
            let (sets, _) = zone(&format!("a TXT {text}\n"));
            let set = &sets[&("a.x.example.".to_owned(), "TXT".to_owned())];
            prop_assert_eq!(txt_value(set.records.first().unwrap()).unwrap(), value);
        }
    }
}
