//! How the servers are, and zones on them that nobody has any more.

use crate::dns::{Servers, query};
use crate::error::Result;
use crate::powerdns::PowerDns;
use entities::dns::servers::{Seen, keep_servers, record_server};
use entities::dns::sync;
use entities::error::Error;
use entities::ids::ZoneId;
use entities::values::DomainName;
use hickory_proto::rr::RecordType;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Looks at every server and records what is seen.
pub async fn look(servers: &Servers) -> Result<()> {
    let mut all = vec![Seen {
        name: "primary".to_owned(),
        is_primary: true,
        ..seen(servers, servers.primary.address, Some(&servers.primary.api)).await
    }];
    for server in &servers.secondaries {
        let seen = seen(servers, server.address, server.api.as_ref()).await;
        all.push(Seen { name: server.name.clone(), ..seen });
    }
    let names: Vec<String> = all.iter().map(|server| server.name.clone()).collect();
    let tx = servers.db.system().await?;
    for mut server in all {
        if !server.is_primary {
            server.zones_behind = Some(sync::count_behind(&tx, &server.name).await?);
        }
        if let Some(error) = &server.error {
            tracing::warn!(server = server.name, error, "dns.server_unhealthy");
        }
        record_server(&tx, server).await?;
    }
    keep_servers(&tx, &names).await?;
    let (waiting, failing, oldest_secs) = sync::backlog(&tx).await?;
    tx.commit().await?;
    tracing::info!(waiting, failing, oldest_secs, "dns.zones");
    Ok(())
}

async fn seen(servers: &Servers, address: SocketAddr, api: Option<&PowerDns>) -> Seen {
    let mut seen = Seen { address: address.to_string(), has_api: api.is_some(), ..Seen::default() };
    // Whatever it says to this: it answers.
    match query::ask(address, "version.bind.", RecordType::TXT).await {
        Ok(answered) => seen.latency_ms = i32::try_from(answered.took.as_millis()).ok(),
        Err(error) => seen.error = Some(error.to_string()),
    }
    if let Some(api) = api
        && let Err(error) = ask_api(servers, api, &mut seen).await
    {
        seen.error = Some(error.to_string());
    }
    seen
}

async fn ask_api(servers: &Servers, api: &PowerDns, seen: &mut Seen) -> Result<()> {
    seen.version = Some(api.version().await?);
    let (mut ours, mut foreign) = (0_i64, 0_i64);
    for zone in api.list_zones().await? {
        match servers.marked(&zone.account).await? {
            Some(_) => ours = ours.saturating_add(1),
            None => foreign = foreign.saturating_add(1),
        }
    }
    seen.zones = Some(ours);
    seen.foreign_zones = Some(foreign);
    Ok(())
}

/// Removes zones that bear our mark and have no row: a server that was restored from a copy of long ago
/// would go on answering for what is gone. Zones of others are never touched.
pub async fn remove_orphans(servers: &Servers) -> Result<usize> {
    let mut apis = vec![&servers.primary.api];
    apis.extend(servers.secondaries.iter().filter_map(|server| server.api.as_ref()));
    let mut removed = 0;
    for api in apis {
        let mut marked: Vec<(ZoneId, String)> = Vec::new();
        for zone in api.list_zones().await? {
            if let Some(id) = servers.marked(&zone.account).await? {
                marked.push((id, zone.name));
            }
        }
        let ids: Vec<ZoneId> = marked.iter().map(|(id, _)| *id).collect();
        let tx = servers.db.system().await?;
        let there: BTreeSet<ZoneId> = sync::existing(&tx, &ids).await?.into_iter().collect();
        drop(tx);
        for (_, name) in marked.iter().filter(|(id, _)| !there.contains(id)) {
            tracing::warn!(zone = name, "dns.orphan_removed");
            api.delete_zone(&DomainName::parse(name).map_err(Error::from)?).await?;
            removed += 1;
        }
    }
    Ok(removed)
}
