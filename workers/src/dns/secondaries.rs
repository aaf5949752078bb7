//! The secondary servers: they transfer each zone from the first one (RFC 5936), which tells them when
//! it has changed (RFC 1996). Those with an API are given the zones that they shall have.

use crate::dns::{Secondary, Servers, query};
use crate::error::Result;
use chrono::{TimeDelta, Utc};
use entities::dns::Copy;
use entities::dns::sync::{self, Held};
use entities::error::Error;
use entities::tables::dns_zone;
use entities::values::DomainName;
use futures::StreamExt;
use hickory_proto::rr::RecordType;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a transfer is waited for before the zone is left to a later look.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds until a server that is behind is looked at again, at first and later.
const AGAIN_SECS: i64 = 5;
const LATER_SECS: i64 = 60;
/// How many zones are taken, and looked at, at once.
const BATCH: i64 = 64;
const AT_ONCE: usize = 16;

/// Lets the secondary servers, and nobody else beside this machine, transfer the zone.
pub async fn allow(servers: &Servers, name: &DomainName) -> Result<()> {
    let mut from: Vec<String> =
        servers.secondaries.iter().map(|s| s.address.ip().to_string()).collect();
    let mut notify: Vec<String> =
        servers.secondaries.iter().map(|s| s.address.to_string()).collect();
    from.sort();
    from.dedup();
    notify.sort();
    let api = &servers.primary.api;
    api.keep_metadata(name, "ALLOW-AXFR-FROM", &from).await?;
    api.keep_metadata(name, "ALSO-NOTIFY", &notify).await
}

/// Tells the secondary servers that a zone has changed; what they make of it is looked at beside.
pub async fn announce(servers: &Servers, held: &Held, name: &DomainName) -> Result<()> {
    if servers.secondaries.is_empty() {
        return Ok(());
    }
    if let Err(error) = servers.primary.api.notify(name).await {
        tracing::debug!(zone = %name, cause = %error.chain(), "dns.not_notified");
    }
    let tx = servers.db.system().await?;
    sync::look_at_copies(&tx, held.zone.id).await?;
    tx.commit().await
}

/// Looks at the copies that are due; how many.
pub async fn look(servers: &Servers) -> Result<usize> {
    let tx = servers.db.system().await?;
    let zones = sync::take_copies_due(&tx, BATCH).await?;
    tx.commit().await?;
    let count = zones.len();
    futures::stream::iter(zones)
        .for_each_concurrent(AT_ONCE, |zone| async move {
            if let Err(error) = follow(servers, &zone).await {
                tracing::warn!(zone = zone.name, cause = %error.chain(), "dns.copies_unknown");
            }
        })
        .await;
    Ok(count)
}

/// Brings a zone to the secondary servers and records what they have. One that is away or behind is
/// looked at again; the zone is in order at the first server all the same.
async fn follow(servers: &Servers, zone: &dns_zone::Model) -> Result<()> {
    let name = &entities::dns::name_of(zone)?;
    let expected = serial(servers.primary.address, name).await;
    let mut copies = BTreeMap::new();
    for server in &servers.secondaries {
        let copy = match &expected {
            Ok(Some(expected)) => copy(servers, zone, server, *expected).await,
            Ok(None) => Err(Error::internal("the first server answers no SOA")),
            Err(error) => Err(Error::internal(error.to_string())),
        };
        let now = Utc::now();
        let copy = match copy {
            Ok(serial) => Copy { serial: Some(serial), error: None, checked_at: now },
            Err(error) => {
                tracing::warn!(zone = %name, server = server.name, cause = %error.chain(), "dns.copy_behind");
                let serial = serial(server.address, name).await.ok().flatten();
                Copy { serial, error: Some(error.to_string()), checked_at: now }
            }
        };
        copies.insert(server.name.clone(), copy);
    }
    let behind = copies.values().any(|copy| copy.error.is_some());
    let is_fresh = zone.applied_at.is_some_and(|at| Utc::now() - at < TimeDelta::minutes(1));
    let pause = if is_fresh { AGAIN_SECS } else { LATER_SECS };
    let again = Utc::now().checked_add_signed(TimeDelta::seconds(pause)).filter(|_| behind);
    let tx = servers.db.system().await?;
    sync::record_copies(&tx, zone.id, &copies, again).await?;
    tx.commit().await
}

async fn serial(server: std::net::SocketAddr, name: &DomainName) -> Result<Option<u32>> {
    Ok(query::ask(server, &format!("{name}."), RecordType::SOA).await?.serial())
}

/// The serial that the server has, once it is the first server's.
async fn copy(
    servers: &Servers,
    zone: &dns_zone::Model,
    server: &Secondary,
    expected: u32,
) -> Result<u32> {
    let name = entities::dns::name_of(zone)?;
    if serial(server.address, &name).await? == Some(expected) {
        return Ok(expected);
    }
    if let Some(api) = &server.api {
        let mark = servers.mark(zone.id).await?;
        match api.find_settings(&name).await? {
            None => api.create_secondary(&name, &mark, servers.transfer_from).await?,
            Some(has) if has.account != mark && servers.marked(&has.account).await?.is_none() => {
                return Err(behind(server, "has a zone of this name that was not made here"));
            }
            Some(has) => {
                let from = [servers.transfer_from.to_string()];
                if has.kind != "Slave" || has.masters != from || has.account != mark {
                    let change = serde_json::json!({
                        "kind": "Slave", "masters": from, "account": mark,
                    });
                    api.update_zone(&name, &change).await?;
                }
            }
        }
        api.transfer(&name).await?;
    }
    let begun = std::time::Instant::now();
    loop {
        let has = serial(server.address, &name).await?;
        if has == Some(expected) {
            return Ok(expected);
        }
        if begun.elapsed() > PATIENCE {
            let what = match has {
                Some(has) => format!("has the serial {has}, not {expected}"),
                None => "does not answer for the zone".to_owned(),
            };
            return Err(behind(server, &what));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn behind(server: &Secondary, what: &str) -> Error {
    let text = format!("The secondary server {} {what}.", server.name);
    Error::refused(entities::error::Code::DnsFailed, text)
}

/// Removes our zone from the secondary servers that have an API.
pub async fn remove(servers: &Servers, mark: &str, name: &DomainName) -> Result<()> {
    for server in &servers.secondaries {
        let Some(api) = &server.api else { continue };
        if api.find_zone(name).await?.is_some_and(|zone| zone.account == mark) {
            api.delete_zone(name).await?;
        }
    }
    Ok(())
}
