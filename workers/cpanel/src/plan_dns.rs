//! Zones as they will be served: our name servers, the target's addresses, the customer's records.

use crate::account::Zone;
use crate::plan::{Component, Ownership, RecordSet, Resource, StepName};
use crate::planner::Draft;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use zonefile::{txt_record, txt_value};

/// Seconds that others may remember our name servers.
const NS_TTL: u32 = 86_400;

/// Host names that cPanel makes for its own services.
const SERVICE_HOSTS: &[&str] = &[
    "cpanel",
    "whm",
    "webmail",
    "webdisk",
    "cpcalendars",
    "cpcontacts",
    "autodiscover",
    "autoconfig",
];

/// First labels of records that tell clients of the source's services, or prove something to it.
const SERVICE_LABELS: &[&str] = &["_caldav", "_caldavs", "_carddav", "_carddavs", "_autodiscover"];
const PROOF_LABELS: &[&str] = &["_cpanel-dcv-test-record", "_acme-challenge"];

type Sets = BTreeMap<(String, String), (u32, BTreeSet<String>)>;

pub(crate) fn plan(draft: &mut Draft<'_>) {
    if !draft.wants(Component::Dns) {
        return;
    }
    for domain in &draft.input.account.domains {
        let served = draft
            .input
            .account
            .zones
            .iter()
            .any(|zone| zone.name == domain.name || domain.name.is_below(&zone.name));
        let refused = format!("zone:{}", domain.name);
        let refused = draft.input.account.not_transferable.iter().any(|l| l.item == refused);
        if !served && !refused && draft.input.options.components.is_empty() {
            draft.warn(
                "zone_missing",
                domain.name.as_str(),
                "The archive has no zone for it: its DNS stays where it is. Point it at this server there, or make a zone.",
            );
        }
    }
    for zone in &draft.input.account.zones {
        let name = &zone.name;
        let wanted = draft.input.options.wants_item(Component::Dns, name.as_str());
        if !wanted || !draft.restores(name.as_str()) {
            continue;
        }
        let records = served(draft, zone);
        let active = draft.input.control.answers(name);
        if !active {
            draft.warn(
                "zone_dormant",
                name.as_str(),
                "It is not answered until the domain is verified.",
            );
        }
        let own = draft.input.control.ownership.get(name) == Some(&Ownership::Own);
        let action = draft.action(own);
        let count: usize = records.iter().map(|s| s.records.len()).sum();
        let summary = format!("Serve the zone {name} with {count} records");
        let resource = Resource::Zone { name: name.clone(), records, active };
        let place = (StepName::Dns, Component::Dns);
        draft.add(format!("zone:{name}"), place, action, (summary, resource));
    }
}

/// What a zone's records are rewritten with.
struct Rewrite<'r> {
    apex: String,
    source4: &'r BTreeSet<Ipv4Addr>,
    source6: &'r BTreeSet<Ipv6Addr>,
    target4: Ipv4Addr,
    target6: Option<Ipv6Addr>,
    /// The source's host name with its final dot.
    hostname: Option<String>,
    /// Names of the account's own domains with their final dot.
    own: BTreeSet<String>,
}

fn served(draft: &mut Draft<'_>, zone: &Zone) -> Vec<RecordSet> {
    let account = draft.input.account;
    let control = draft.input.control;
    let rewrite = Rewrite {
        apex: format!("{}.", zone.name),
        source4: &account.source.ipv4,
        source6: &account.source.ipv6,
        target4: control.ipv4,
        target6: control.ipv6,
        hostname: account.source.hostname.as_ref().map(|h| format!("{}.", h.to_ascii_lowercase())),
        own: account.domains.iter().map(|d| format!("{}.", d.name)).collect(),
    };
    let mut sets = Sets::new();
    for set in &zone.records {
        if rewrite.is_dropped(set) {
            continue;
        }
        let mut records = BTreeSet::new();
        for record in &set.records {
            records.extend(rewrite.record(draft, set, record));
        }
        if set.rtype == "TXT" {
            records = rewrite.one_spf(draft, set, records);
        }
        if !records.is_empty() {
            sets.insert((set.name.clone(), set.rtype.clone()), (set.ttl, records));
        }
    }
    let servers = control.nameservers.iter().map(|n| format!("{n}.")).collect();
    sets.insert((rewrite.apex.clone(), "NS".to_owned()), (NS_TTL, servers));
    sets.into_iter()
        .map(|((name, rtype), (ttl, records))| RecordSet { name, rtype, ttl, records })
        .collect()
}

impl Rewrite<'_> {
    /// Whether a whole set is cPanel's own, or the source's.
    fn is_dropped(&self, set: &RecordSet) -> bool {
        if set.rtype == "NS" && set.name == self.apex {
            return true;
        }
        let Some((label, rest)) = set.name.split_once('.') else { return false };
        if PROOF_LABELS.contains(&label) {
            return true;
        }
        if SERVICE_LABELS.contains(&label) {
            // Somebody may have pointed these at a mail provider of their own.
            return set.rtype != "SRV" || set.records.iter().any(|r| self.is_cpanels(r));
        }
        SERVICE_HOSTS.contains(&label)
            && self.own.contains(rest)
            && !self.own.contains(&set.name)
            && set.records.iter().all(|r| self.is_sources(r))
    }

    /// Whether an SRV record leads to cPanel's discovery service, to the source or to the account.
    fn is_cpanels(&self, record: &str) -> bool {
        let target = record.rsplit(' ').next().unwrap_or_default();
        target.ends_with(".cpanel.net.") || target == "." || self.is_sources(target)
    }

    /// Whether data is an address or a name of the source server, or a name of the account.
    fn is_sources(&self, data: &str) -> bool {
        data.parse::<Ipv4Addr>().is_ok_and(|ip| self.source4.contains(&ip))
            || data.parse::<Ipv6Addr>().is_ok_and(|ip| self.source6.contains(&ip))
            || self.hostname.as_deref() == Some(data)
            || self.own.iter().any(|d| data == d || data.ends_with(&format!(".{d}")))
    }

    /// A record as it is served; none when it goes.
    fn record(&self, draft: &mut Draft<'_>, set: &RecordSet, record: &str) -> Option<String> {
        match set.rtype.as_str() {
            "A" if record.parse().is_ok_and(|ip| self.source4.contains(&ip)) => {
                Some(self.target4.to_string())
            }
            "AAAA" if record.parse().is_ok_and(|ip| self.source6.contains(&ip)) => {
                if self.target6.is_none() {
                    let message =
                        "Its IPv6 address was the source's and goes: the server has none.";
                    draft.lose(format!("record:{}:AAAA", set.name), message);
                }
                self.target6.map(|ip| ip.to_string())
            }
            "MX" | "CNAME" => Some(self.renamed(draft, set, record)),
            "TXT" => Some(self.text(record).unwrap_or_else(|| record.to_owned())),
            _ => Some(record.to_owned()),
        }
    }

    /// What led to the source server by its own name leads to the zone's apex, which is the target.
    fn renamed(&self, draft: &mut Draft<'_>, set: &RecordSet, record: &str) -> String {
        let target = record.rsplit(' ').next().unwrap_or_default();
        if self.hostname.as_deref() != Some(target) || set.name == self.apex && set.rtype == "CNAME"
        {
            return record.to_owned();
        }
        let message = format!(
            "Its {} led to the source server and leads to the zone's own name now.",
            set.rtype
        );
        draft.adapt("source_name_replaced", "record", &set.name, message);
        let kept = record.strip_suffix(target).unwrap_or_default();
        format!("{kept}{}", self.apex)
    }

    /// An SPF record with the source's addresses exchanged; none when nothing changes, so that all
    /// other text stays as it is, byte for byte.
    fn text(&self, record: &str) -> Option<String> {
        let value = spf(record)?;
        let mut terms: Vec<String> = Vec::new();
        for term in value.split(' ').filter(|t| !t.is_empty()) {
            if let Some(term) = self.term(term)
                && !terms.contains(&term)
            {
                terms.push(term);
            }
        }
        let text = terms.join(" ");
        (text != value).then(|| txt_record(text.as_bytes()))
    }

    /// A term of SPF; none when it named an address that the target has no like of.
    fn term(&self, term: &str) -> Option<String> {
        let (sign, bare) = match term.split_at_checked(1) {
            Some((sign @ ("+" | "-" | "~" | "?"), bare)) => (sign, bare),
            _ => ("", term),
        };
        let lower = bare.to_ascii_lowercase();
        if let Some(ip) = lower.strip_prefix("ip4:") {
            let ip = ip.strip_suffix("/32").unwrap_or(ip);
            if ip.parse().is_ok_and(|ip| self.source4.contains(&ip)) {
                return Some(format!("{sign}ip4:{}", self.target4));
            }
        }
        if let Some(ip) = lower.strip_prefix("ip6:") {
            let ip = ip.strip_suffix("/128").unwrap_or(ip);
            if ip.parse().is_ok_and(|ip| self.source6.contains(&ip)) {
                return self.target6.map(|ip| format!("{sign}ip6:{ip}"));
            }
        }
        Some(term.to_owned())
    }

    /// Two SPF records at one name are an error to every receiver (RFC 7208 section 4.5).
    fn one_spf(
        &self,
        draft: &mut Draft<'_>,
        set: &RecordSet,
        records: BTreeSet<String>,
    ) -> BTreeSet<String> {
        let (policies, mut rest): (BTreeSet<String>, BTreeSet<String>) =
            records.into_iter().partition(|r| spf(r).is_some());
        if policies.len() <= 1 {
            rest.extend(policies);
            return rest;
        }
        draft.adapt(
            "spf_merged",
            "record",
            &set.name,
            "It had several SPF records; they are joined into one.",
        );
        let mut terms: Vec<String> = vec!["v=spf1".to_owned()];
        let mut last: Option<String> = None;
        for policy in policies.iter().filter_map(|p| spf(p)) {
            for term in policy.split(' ').skip(1).filter(|t| !t.is_empty()) {
                let bare = term.trim_start_matches(['+', '-', '~', '?']).to_ascii_lowercase();
                if bare == "all" || bare.starts_with("redirect=") {
                    last.get_or_insert_with(|| term.to_owned());
                } else if !terms.iter().any(|t| t == term) {
                    terms.push(term.to_owned());
                }
            }
        }
        terms.extend(last);
        rest.insert(txt_record(terms.join(" ").as_bytes()));
        rest
    }
}

/// The text of an SPF record; none for other records.
fn spf(record: &str) -> Option<String> {
    let value = String::from_utf8(txt_value(record)?).ok()?;
    let lower = value.to_ascii_lowercase();
    (lower == "v=spf1" || lower.starts_with("v=spf1 ")).then_some(value)
}
