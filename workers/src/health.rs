//! The servers' health, asked every minute and kept in their rows.

use crate::agent;
use crate::error::Result;
use crate::world::World;
use cpanel::protocol::{Call, Health};
use entities::servers;
use entities::tables::server;
use futures::StreamExt;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);
/// How long a server may take to say how it is; it may be given a new agent first.
const LIMIT: Duration = Duration::from_secs(300);
/// How many servers are asked at once.
const AT_ONCE: usize = 8;

/// Probes for as long as the process lives.
pub async fn keep_probing(world: World) {
    loop {
        if let Err(error) = probe_all(&world).await {
            tracing::warn!(cause = %error.chain(), "health.probe_failed");
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn probe_all(world: &World) -> Result<()> {
    let tx = world.db.system().await?;
    let rows = servers::list_enrolled(&tx, servers::Kind::Hosting).await?;
    drop(tx);
    // One that hangs delays no other.
    futures::stream::iter(rows)
        .for_each_concurrent(AT_ONCE, |row| async move {
            if let Err(error) = probe_one(world, &row).await {
                tracing::warn!(server = %row.name, cause = %error.chain(), "health.probe_failed");
            }
        })
        .await;
    Ok(())
}

async fn probe_one(world: &World, row: &server::Model) -> Result<()> {
    let told = match tokio::time::timeout(LIMIT, probe(world, row)).await {
        Ok(Ok(health)) => Ok(serde_json::to_value(health)?),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => {
            Err(format!("The server did not say within {} s how it is.", LIMIT.as_secs()))
        }
    };
    let tx = world.db.system().await?;
    match &told {
        Ok(health) => servers::record_health(&tx, row.id, Ok(health)).await?,
        Err(message) => servers::record_health(&tx, row.id, Err(message)).await?,
    }
    tx.commit().await
}

async fn probe(world: &World, row: &server::Model) -> Result<Health> {
    let session = world.fleet.session(world, row).await?;
    agent::call(&session, None, Call::Health, None).await
}
