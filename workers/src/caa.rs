//! Whether a domain lets our certificate authority issue (RFC 8659): asked before anything is ordered,
//! so that a refusal names the record and costs no order.

use crate::dns::query::{self, Answered};
use crate::error::Result;
use entities::certificates::{CertificateName, Challenge};
use entities::error::{Code, Error};
use entities::values::DomainName;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::CAA;
use hickory_proto::rr::{RData, RecordType};
use std::net::SocketAddr;

/// Which authority is to issue, and how it will be shown that the name is ours.
#[derive(Debug, Clone, Copy)]
pub struct Issuer<'a> {
    /// What CAA records call it.
    pub identity: &'a DomainName,
    pub challenge: Challenge,
}

/// Refuses a name whose CAA records keep the authority from issuing: those at the name, or else at the
/// nearest name above that has any.
pub async fn check(resolver: SocketAddr, issuer: Issuer<'_>, name: &CertificateName) -> Result<()> {
    let mut rest = Some(name.base().as_str());
    while let Some(owner) = rest {
        let records = records(resolver, owner).await?;
        if !records.is_empty() {
            return judge(&records, issuer, name).map_err(|record| {
                let text = format!(
                    "A CAA record at {owner} keeps {} from issuing for {name}: {record}. Change it, or add one with issue \"{}\".",
                    issuer.identity, issuer.identity
                );
                Error::refused(Code::CaaForbids, text)
            });
        }
        rest = owner.split_once('.').map(|(_, parent)| parent);
    }
    Ok(())
}

async fn records(resolver: SocketAddr, owner: &str) -> Result<Vec<CAA>> {
    let asked = query::ask(resolver, &format!("{owner}."), RecordType::CAA).await;
    let Answered { code, records, .. } = asked.map_err(|error| {
        tracing::warn!(cause = %error.chain(), "caa.unanswered");
        let text = "The resolver does not answer. Check MIGRAPANEL__RESOLVER.";
        Error::refused(Code::DnsFailed, text)
    })?;
    match code {
        ResponseCode::NoError => {}
        // One that answers for its own zones only refuses what lies above them.
        ResponseCode::NXDomain | ResponseCode::Refused => return Ok(Vec::new()),
        code => {
            let text = format!(
                "The CAA records of {owner} cannot be looked up ({code}): its name servers must answer before an authority issues."
            );
            return Err(Error::refused(Code::DnsFailed, text));
        }
    }
    let caa = |record: hickory_proto::rr::Record| match record.data {
        RData::CAA(caa) => Some(caa),
        _ => None,
    };
    Ok(records.into_iter().filter_map(caa).collect())
}

/// Whether the records let the authority issue; otherwise the one that stands in the way.
fn judge(records: &[CAA], issuer: Issuer<'_>, name: &CertificateName) -> Result<(), String> {
    let known = ["issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"];
    let strange =
        |r: &&CAA| r.issuer_critical && !known.iter().any(|k| r.tag.eq_ignore_ascii_case(k));
    if let Some(record) = records.iter().find(strange) {
        return Err(shown(record));
    }
    let with = |tag: &str| -> Vec<&CAA> {
        records.iter().filter(|r| r.tag.eq_ignore_ascii_case(tag)).collect()
    };
    let mut relevant = with("issue");
    if name.is_wildcard() && !with("issuewild").is_empty() {
        relevant = with("issuewild");
    }
    match relevant.first() {
        Some(first) if !relevant.iter().any(|record| allows(record, issuer)) => Err(shown(first)),
        _ => Ok(()),
    }
}

/// Whether the record names the authority, and the way of validation unless it leaves that open
/// (RFC 8657).
fn allows(record: &CAA, issuer: Issuer<'_>) -> bool {
    let value = String::from_utf8_lossy(&record.value);
    let mut parts = value.split(';').map(str::trim);
    let named = parts.next().unwrap_or_default();
    if !named.eq_ignore_ascii_case(issuer.identity.as_str()) {
        return false;
    }
    let methods = parts
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("validationmethods"));
    methods.is_none_or(|(_, methods)| {
        methods.split(',').any(|method| method.trim() == issuer.challenge.as_str())
    })
}

fn shown(record: &CAA) -> String {
    let value: String = String::from_utf8_lossy(&record.value).chars().take(200).collect();
    format!("{} {} \"{value}\"", record.flags(), record.tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(records: &[(bool, &str, &str)], name: &str) -> Result<(), String> {
        let records: Vec<CAA> = records
            .iter()
            .map(|(critical, tag, value)| {
                let mut record = CAA::new_issue(*critical, None, Vec::new());
                (record.tag, record.value) = ((*tag).to_owned(), value.as_bytes().to_vec());
                record
            })
            .collect();
        let identity = DomainName::parse("ca.example").unwrap();
        let issuer = Issuer { identity: &identity, challenge: Challenge::Dns };
        judge(&records, issuer, &CertificateName::parse(name).unwrap())
    }

    #[test]
    fn who_may_issue() {
        let (host, wild) = ("a.example", "*.a.example");
        for allowed in [
            &[][..],
            &[(false, "iodef", "mailto:x@a.example")],
            &[(false, "issue", "other.example"), (false, "ISSUE", " CA.example ; policy=ev")],
            &[(true, "issue", "ca.example")],
            &[(false, "issue", "ca.example; validationmethods=http-01,dns-01")],
            &[(false, "unknown", "x")],
        ] {
            assert_eq!(judged(allowed, host), Ok(()), "{allowed:?}");
            assert_eq!(judged(allowed, wild), Ok(()), "{allowed:?}");
        }
        for forbidden in [
            &[(false, "issue", ";")][..],
            &[(false, "issue", "")],
            &[(false, "issue", "other.example")],
            &[(false, "issue", "ca.example.org")],
            &[(false, "issue", "ca.example; validationmethods=http-01")],
            &[(false, "issue", "ca.example"), (true, "unknown", "x")],
        ] {
            assert!(judged(forbidden, host).is_err(), "{forbidden:?}");
            assert!(judged(forbidden, wild).is_err(), "{forbidden:?}");
        }
        // What is said of wildcards counts for them, and for them only.
        let wild_only = [(false, "issue", "ca.example"), (false, "issuewild", ";")];
        assert_eq!(judged(&wild_only, host), Ok(()));
        assert_eq!(judged(&wild_only, wild), Err("0 issuewild \";\"".to_owned()));
        let only_wild = [(false, "issue", ";"), (false, "issuewild", "ca.example")];
        assert!(judged(&only_wild, host).is_err());
        assert_eq!(judged(&only_wild, wild), Ok(()));
        assert_eq!(judged(&[(false, "issuewild", ";")], host), Ok(()));
    }
}
