//! `cp/USER`: the account record, and the small files beside it.

use crate::account::Routing;
use crate::findings::Findings;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use values::DomainName;

/// The facts of `cp/USER` that a restore uses.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Record {
    pub user: Option<String>,
    pub main_domain: Option<DomainName>,
    /// `DNS1…`: the other live domains.
    pub domains: Vec<DomainName>,
    /// `XDNS1…`: removed ones, not to be restored.
    pub removed: Vec<DomainName>,
    pub ip: Option<Ipv4Addr>,
    pub disk_quota_bytes: Option<u64>,
    pub routing: BTreeMap<DomainName, Routing>,
    pub suspended: bool,
    /// `MAILBOX_FORMAT=mdbox`.
    pub mdbox: bool,
}

/// Reads `KEY=VALUE` lines; a value may hold `=`. Unknown keys are passed over, doubtful values
/// reported.
#[must_use]
pub fn parse(text: &str, findings: &mut Findings) -> Record {
    let mut record = Record::default();
    for line in text.lines() {
        let line = line.trim_end_matches('\r');
        if line.starts_with('#') {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        match key {
            "USER" => record.user = Some(value.to_owned()),
            "IP" => record.ip = value.parse().ok(),
            "DNS" => record.main_domain = domain(value, findings),
            "SUSPENDED" => record.suspended = value == "1",
            "MAILBOX_FORMAT" => record.mdbox = value == "mdbox",
            // Blocks of 1 KiB; 0 and `unlimited` mean no quota.
            "DISK_BLOCK_LIMIT" => {
                let blocks = value.parse::<u64>().ok().filter(|n| *n > 0);
                record.disk_quota_bytes = blocks.and_then(|n| n.checked_mul(1024));
            }
            _ => numbered(key, value, &mut record, findings),
        }
    }
    record
}

fn numbered(key: &str, value: &str, record: &mut Record, findings: &mut Findings) {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if key.strip_prefix("XDNS").is_some_and(is_number) {
        record.removed.extend(DomainName::parse(value));
    } else if key.strip_prefix("DNS").is_some_and(is_number) {
        record.domains.extend(domain(value, findings));
    } else if let Some(name) = key.strip_prefix("MXCHECK-") {
        let routing = match value {
            "local" => Routing::Local,
            "remote" => Routing::Remote,
            "secondary" => Routing::Secondary,
            _ => Routing::Auto, // `0` and `auto`: the zone decides
        };
        if let Ok(name) = DomainName::parse(name) {
            record.routing.insert(name, routing);
        }
    }
}

/// A domain name, or a warning. Wildcards are host patterns and silently none.
pub(crate) fn domain(text: &str, findings: &mut Findings) -> Option<DomainName> {
    if text.starts_with('*') {
        return None;
    }
    match DomainName::parse(text) {
        Ok(name) => Some(name),
        Err(invalid) => {
            findings.lost(&format!("domain:{text}"), format!("The {invalid}."));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_record() {
        let text = include_str!("../tests/fixtures/metadata/b_modern/cp/fxtwocom");
        let mut findings = Findings::default();
        let record = parse(text, &mut findings);
        assert_eq!(record.user.as_deref(), Some("fxtwocom"));
        assert_eq!(record.main_domain.unwrap().as_str(), "fxtwo.com.example");
        assert_eq!(record.disk_quota_bytes, Some(20 << 30));
        assert_eq!(record.ip, Some(Ipv4Addr::new(192, 0, 2, 74)));
        assert!(!record.mdbox && !record.suspended && findings.warnings.is_empty());
    }
}
