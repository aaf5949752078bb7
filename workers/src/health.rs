//! The servers' health, asked every minute and kept in their rows.

use crate::agent;
use crate::error::Result;
use crate::world::World;
use cpanel::protocol::{Call, Health};
use entities::servers;
use entities::tables::server;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);

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
    for row in rows {
        let health = probe(world, &row).await;
        let told = match health {
            Ok(health) => Ok(serde_json::to_value(health)?),
            Err(error) => Err(error.to_string()),
        };
        let tx = world.db.system().await?;
        match &told {
            Ok(health) => servers::record_health(&tx, row.id, Ok(health)).await?,
            Err(message) => servers::record_health(&tx, row.id, Err(message)).await?,
        }
        tx.commit().await?;
    }
    Ok(())
}

async fn probe(world: &World, row: &server::Model) -> Result<Health> {
    let session = world.fleet.session(world, row).await?;
    agent::call(&session, None, Call::Health, None).await
}
