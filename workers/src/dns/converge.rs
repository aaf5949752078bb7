//! Making the first server equal to a zone's rows: compare, write what differs, read back, compare.

use crate::dns::{Servers, secondaries, signing};
use crate::error::Result;
use crate::powerdns::{Rrset, ServerZone};
use entities::dns::name_of;
use entities::dns::sync::{self, Held, Outcome};
use entities::error::{Code, Error};
use entities::ids::ZoneId;
use entities::tables::dns_zone;
use entities::values::DomainName;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use zonefile::{RecordSet, Soa};

/// How often a call that the server's backend failed is tried again at once.
const TRIES: u32 = 3;
/// How long a saga waits for its turn, and for a server that is away.
const PATIENCE: Duration = Duration::from_secs(15);

/// Brings one zone, which this worker has taken, to the servers, and gives it back.
pub async fn converge(servers: &Servers, taken: &dns_zone::Model) -> Result<()> {
    let tx = servers.db.system().await?;
    let held = sync::load(&tx, taken).await?;
    tx.commit().await?;
    let Some(held) = held else { return Ok(()) };
    let name = name_of(&held.zone)?;
    if held.zone.state == "deleting" {
        return remove(servers, &held, &name).await;
    }
    let outcome = match held.zone.active {
        true => apply(servers, &held, &name).await,
        false => withhold(servers, &held, &name).await,
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(zone = %name, cause = %error.chain(), "dns.zone_failed");
            Outcome::Failed(error.to_string())
        }
    };
    let tx = servers.db.system().await?;
    sync::record(&tx, taken, &outcome).await?;
    tx.commit().await?;
    if matches!(outcome, Outcome::Applied { .. }) {
        tracing::info!(zone = %name, version = held.zone.version, "dns.zone_applied");
        secondaries::announce(servers, &held, &name).await?;
    }
    Ok(())
}

/// The same for a job that needs the zone at the servers now. The error is what keeps it from there.
pub async fn converge_now(servers: &Servers, zone: ZoneId) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let tx = servers.db.system().await?;
        let taken = sync::take_one(&tx, servers.worker, zone).await?;
        tx.commit().await?;
        if let Some(taken) = taken {
            converge(servers, &taken).await?;
        }
        let tx = servers.db.system().await?;
        let Some(row) = sync::load_zone(&tx, zone).await? else { return Ok(()) };
        drop(tx);
        if row.state == "in_sync" {
            return Ok(());
        }
        if Instant::now() >= until {
            let why = row.error.unwrap_or_else(|| {
                "The DNS servers do not have the zone yet. Check that the DNS worker runs."
                    .to_owned()
            });
            return Err(Error::refused(Code::DnsFailed, why));
        }
        if row.error.is_some() {
            return Err(Error::refused(Code::DnsFailed, row.error.unwrap_or_default()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn apply(servers: &Servers, held: &Held, name: &DomainName) -> Result<Outcome> {
    let api = &servers.primary.api;
    let wanted = wanted(held);
    let mark = servers.mark(held.zone.id).await?;
    let mut tries = 0;
    loop {
        let difference = match api.find_zone(name).await? {
            None => {
                if held.zone.applied_version.is_none() {
                    refuse_below_foreign(servers, name).await?;
                }
                Difference::Missing
            }
            Some(zone) => {
                refuse_foreign(held, &zone, &mark, name)?;
                keep_settings(servers, held, &zone, name, &mark).await?;
                compare(name, &wanted, &zone.rrsets)
            }
        };
        let written = match &difference {
            Difference::None => {
                secondaries::allow(servers, name).await?;
                signing::keep(servers, held, name).await?;
                // It had this very version before: the difference was somebody else's doing.
                let repaired = tries > 0 && held.zone.applied_version == Some(held.zone.version);
                return Ok(Outcome::Applied { version: held.zone.version, repaired });
            }
            Difference::Missing => {
                let sets: Vec<RecordSet> = wanted.values().cloned().collect();
                api.create_zone(name, &mark, &sets).await
            }
            Difference::Some { put, gone } => {
                tracing::debug!(zone = %name, put = put.len(), gone = gone.len(), "dns.writing");
                api.change_sets(name, put, gone).await
            }
        };
        tries += 1;
        match written {
            Ok(()) if tries <= TRIES => {}
            Ok(()) => return Err(differs(&difference)),
            Err(error) if tries < TRIES => {
                tracing::debug!(zone = %name, cause = %error.chain(), "dns.again");
                tokio::time::sleep(Duration::from_millis(50 * u64::from(tries))).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn differs(difference: &Difference) -> Error {
    let which = match difference {
        Difference::Some { put, gone } => {
            let put = put.iter().map(|set| format!("{} {}", set.name, set.rtype));
            let gone = gone.iter().map(|(name, rtype)| format!("{name} {rtype}"));
            put.chain(gone).take(5).collect::<Vec<_>>().join(", ")
        }
        _ => "the whole zone".to_owned(),
    };
    let text = format!("The DNS server took the zone and answers it otherwise: {which}.");
    Error::refused(Code::DnsFailed, text)
}

/// A zone that the server has and that we have not made is somebody's work.
fn refuse_foreign(held: &Held, zone: &ServerZone, mark: &str, name: &DomainName) -> Result<()> {
    if zone.account == mark || held.zone.applied_version.is_some() {
        return Ok(());
    }
    Err(Error::refused(
        Code::DnsFailed,
        format!("The DNS server has a zone {name} that was not made here. Remove it there first."),
    ))
}

/// Nobody takes a name out of a zone that somebody has made at the server by hand.
async fn refuse_below_foreign(servers: &Servers, name: &DomainName) -> Result<()> {
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        let Ok(above) = DomainName::parse(parent) else { return Ok(()) };
        if let Some(zone) = servers.primary.api.find_settings(&above).await?
            && servers.marked(&zone.account).await?.is_none()
            && !is_known(servers, &above).await?
        {
            return Err(Error::refused(
                Code::DnsFailed,
                format!("The DNS server has a zone {above} above it that was not made here."),
            ));
        }
        rest = parent;
    }
    Ok(())
}

/// Zones that were made by an older version bear no mark yet.
async fn is_known(servers: &Servers, name: &DomainName) -> Result<bool> {
    let tx = servers.db.system().await?;
    entities::dns::restore::is_known(&tx, name).await
}

/// What holds of the whole zone at the server.
async fn keep_settings(
    servers: &Servers,
    held: &Held,
    zone: &ServerZone,
    name: &DomainName,
    mark: &str,
) -> Result<()> {
    // Signatures end: with a secondary server, the serial has to grow with them.
    let signed = ["on", "ending"].contains(&held.zone.dnssec.as_str());
    let edit = if signed { "INCEPTION-INCREMENT" } else { "" };
    let fits = zone.kind == "Master"
        && zone.account == mark
        && zone.soa_edit_api.is_empty()
        && zone.soa_edit == edit;
    if fits {
        return Ok(());
    }
    let change = json!({
        "kind": "Master", "account": mark, "soa_edit_api": "", "soa_edit": edit, "api_rectify": true,
    });
    servers.primary.api.update_zone(name, &change).await
}

type Wanted = BTreeMap<(String, String), RecordSet>;

fn wanted(held: &Held) -> Wanted {
    let apex = format!("{}.", held.zone.name);
    let soa = RecordSet {
        name: apex.clone(),
        rtype: "SOA".to_owned(),
        ttl: held.soa.ttl,
        records: [soa_content(&held.soa)].into(),
    };
    let sets = held.sets.iter().cloned().chain(std::iter::once(soa));
    sets.map(|set| ((set.name.clone(), set.rtype.clone()), set)).collect()
}

fn soa_content(soa: &Soa) -> String {
    format!(
        "{} {} {} {} {} {} {}",
        soa.primary, soa.hostmaster, soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum
    )
}

/// How a server's zone differs from what it shall be.
#[derive(Debug)]
enum Difference {
    None,
    Missing,
    Some { put: Vec<RecordSet>, gone: Vec<(String, String)> },
}

fn compare(zone: &DomainName, wanted: &Wanted, has: &[Rrset]) -> Difference {
    let mut put = Vec::new();
    let mut gone = Vec::new();
    let mut seen = BTreeMap::new();
    for set in has {
        let key = (set.name.to_lowercase(), set.rtype.clone());
        if !wanted.contains_key(&key) {
            gone.push(key.clone());
        }
        seen.insert(key, set);
    }
    for (key, set) in wanted {
        if !seen.get(key).is_some_and(|has| is_same(zone, set, has)) {
            put.push(set.clone());
        }
    }
    match put.is_empty() && gone.is_empty() {
        true => Difference::None,
        false => Difference::Some { put, gone },
    }
}

/// Whether a server's set is ours, record by record and none twice.
fn is_same(zone: &DomainName, wanted: &RecordSet, has: &Rrset) -> bool {
    if has.ttl != wanted.ttl
        || has.records.len() != wanted.records.len()
        || has.records.iter().any(|record| record.disabled)
    {
        return false;
    }
    let contents = has.records.iter().map(|record| record.content.clone());
    let contents: std::collections::BTreeSet<String> = contents.collect();
    contents == wanted.records || canonical(zone, wanted, &contents) == Some(wanted.records.clone())
}

/// The same data may be written otherwise by another version of the server.
fn canonical(
    zone: &DomainName,
    set: &RecordSet,
    contents: &std::collections::BTreeSet<String>,
) -> Option<std::collections::BTreeSet<String>> {
    if set.rtype == "SOA" {
        return Some(contents.iter().map(|content| content.to_lowercase()).collect());
    }
    let lines = contents.iter().map(|c| format!("{} {} IN {} {c}\n", set.name, set.ttl, set.rtype));
    let file = zonefile::read(zone, lines.collect::<String>().as_bytes()).ok()?;
    match file.sets.as_slice() {
        [one] if file.left_out.is_empty() => Some(one.records.clone()),
        _ => None,
    }
}

/// The servers do not answer for a zone that sleeps.
async fn withhold(servers: &Servers, held: &Held, name: &DomainName) -> Result<Outcome> {
    take_away(servers, held, name).await?;
    Ok(Outcome::Withheld { version: held.zone.version })
}

/// Removes our zone from all servers, and nobody else's.
async fn take_away(servers: &Servers, held: &Held, name: &DomainName) -> Result<()> {
    let mark = servers.mark(held.zone.id).await?;
    if let Some(zone) = servers.primary.api.find_zone(name).await?
        && (zone.account == mark || held.zone.applied_version.is_some())
    {
        servers.primary.api.delete_zone(name).await?;
        if servers.primary.api.has_zone(name).await? {
            let text = "The DNS server still has the zone after removing it.";
            return Err(Error::refused(Code::DnsFailed, text));
        }
    }
    secondaries::remove(servers, &mark, name).await
}

async fn remove(servers: &Servers, held: &Held, name: &DomainName) -> Result<()> {
    let outcome = take_away(servers, held, name).await;
    let tx = servers.db.system().await?;
    match outcome {
        Ok(()) => {
            sync::forget(&tx, &held.zone).await?;
            tracing::info!(zone = %name, "dns.zone_removed");
        }
        Err(error) => {
            tracing::warn!(zone = %name, cause = %error.chain(), "dns.zone_not_removed");
            sync::record(&tx, &held.zone, &Outcome::Failed(error.to_string())).await?;
        }
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::powerdns::Content;

    fn has(ttl: u32, contents: &[&str]) -> Rrset {
        let record = |c: &&str| Content { content: (*c).to_owned(), disabled: false };
        Rrset {
            name: "www.shop.test.".to_owned(),
            rtype: "A".to_owned(),
            ttl,
            records: contents.iter().map(record).collect(),
        }
    }

    #[test]
    fn a_record_that_stands_twice_is_a_difference() {
        let zone = DomainName::parse("shop.test").unwrap();
        let wanted = RecordSet {
            name: "www.shop.test.".to_owned(),
            rtype: "A".to_owned(),
            ttl: 60,
            records: ["192.0.2.1".to_owned(), "192.0.2.2".to_owned()].into(),
        };
        assert!(is_same(&zone, &wanted, &has(60, &["192.0.2.2", "192.0.2.1"])));
        for other in [
            has(61, &["192.0.2.1", "192.0.2.2"]),
            has(60, &["192.0.2.1"]),
            has(60, &["192.0.2.1", "192.0.2.1"]),
            has(60, &["192.0.2.1", "192.0.2.2", "192.0.2.2"]),
            has(60, &["192.0.2.1", "192.0.2.3"]),
        ] {
            assert!(!is_same(&zone, &wanted, &other), "{other:?}");
        }
    }
}
