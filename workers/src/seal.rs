//! Sealing the audit trail behind its writers, and recording what was counted for it.

use entities::Result;
use entities::audit::{seal, unknown};
use entities::db::Db;
use std::time::{Duration, Instant};

/// How many entries of a tenant are sealed in one transaction.
const BATCH: i64 = 1000;
/// How often the platform's trail notes where the other chains end.
const ANCHOR: Duration = Duration::from_secs(600);
/// How long to wait when nothing is left to seal.
const PAUSE: Duration = Duration::from_secs(1);

/// Seals for ever. Any number of relays may do so; one that dies leaves nothing half done.
pub async fn keep_sealing(db: Db) {
    let mut anchored: Option<Instant> = None;
    loop {
        if anchored.is_none_or(|at| at.elapsed() > ANCHOR) {
            anchored = Some(Instant::now());
            match seal::anchor_heads(&db).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "audit.anchored"),
                Err(error) => tracing::warn!(cause = %error.chain(), "audit.anchor_failed"),
            }
        }
        match seal_once(&db).await {
            Ok(0) => tokio::time::sleep(PAUSE).await,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(cause = %error.chain(), "audit.seal_failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Records the counts that are due and seals one batch of each tenant; how many chains grew. Each new
/// head is logged: the log, which lies elsewhere, then witnesses that a chain's end was not cut off.
pub async fn seal_once(db: &Db) -> Result<usize> {
    unknown::record_unknown_logins(db).await?;
    let heads = seal::seal_entries(db, BATCH).await?;
    for head in &heads {
        tracing::info!(tenant.id = %head.tenant, head = %head, "audit.sealed");
    }
    Ok(heads.len())
}
