//! Zone files, written.

use crate::name::relative;
use crate::{RecordSet, Soa};
use std::fmt::Write;
use values::DomainName;

/// Writes a zone file that every name server reads (ALIAS apart, which is PowerDNS' own), always the
/// same for the same zone: SOA, the apex with its NS first, then every name in the order of the tree.
/// [`read`](crate::read) gives back what it was made of.
#[must_use]
pub fn write(zone: &DomainName, soa: &Soa, sets: &[RecordSet]) -> String {
    let mut ordered: Vec<&RecordSet> = sets.iter().collect();
    ordered.sort_by_cached_key(|set| {
        let labels: Vec<&str> = relative(zone, &set.name).split('.').rev().collect();
        let at_apex = labels == ["@"];
        (!at_apex, labels, set.rtype != "NS", set.rtype.as_str())
    });
    let mut out = format!("$ORIGIN {zone}.\n");
    let Soa { primary, hostmaster, serial, refresh, retry, expire, minimum, ttl } = soa;
    let data = format!("{primary} {hostmaster} {serial} {refresh} {retry} {expire} {minimum}");
    line(&mut out, ("@", *ttl, "SOA"), &data);
    for set in ordered {
        for record in &set.records {
            line(&mut out, (relative(zone, &set.name), set.ttl, &set.rtype), record);
        }
    }
    out
}

fn line(out: &mut String, (name, ttl, rtype): (&str, u32, &str), data: &str) {
    // Writing to a String cannot fail.
    writeln!(out, "{name}\t{ttl}\tIN\t{rtype}\t{data}").unwrap_or_default();
}
