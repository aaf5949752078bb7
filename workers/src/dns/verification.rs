//! Looking whether a domain is its tenant's: for the TXT record that the world sees.

use crate::dns::{Servers, query};
use crate::error::Result;
use entities::dns::verification;
use entities::tables::dns_zone;
use hickory_proto::rr::RecordType;

/// How many are looked for at once.
const BATCH: u64 = 50;

/// Looks for the records that are due; how many.
pub async fn look(servers: &Servers) -> Result<usize> {
    let tx = servers.db.system().await?;
    let zones = verification::due(&tx, BATCH).await?;
    drop(tx);
    let count = zones.len();
    futures::future::try_join_all(zones.iter().map(|zone| look_at(servers, zone))).await?;
    Ok(count)
}

async fn look_at(servers: &Servers, zone: &dns_zone::Model) -> Result<()> {
    let refusal = refusal(servers, zone).await;
    let tx = servers.db.system().await?;
    verification::record(&tx, zone.id, refusal.as_deref()).await?;
    tx.commit().await?;
    match refusal {
        None => tracing::info!(zone = zone.name, "dns.verified"),
        Some(why) => tracing::debug!(zone = zone.name, why, "dns.not_verified"),
    }
    Ok(())
}

/// Why the zone is not verified; none: it is.
async fn refusal(servers: &Servers, zone: &dns_zone::Model) -> Option<String> {
    let name = verification::record_name(&zone.name);
    let token = zone.verification_token.as_deref().unwrap_or_default();
    match query::ask(servers.resolver, &name, RecordType::TXT).await {
        Err(error) => Some(error.to_string()),
        Ok(answered) if answered.texts().iter().any(|text| text == token.as_bytes()) => None,
        Ok(answered) if answered.records.is_empty() => Some(format!(
            "The world sees no TXT record at {name} ({}). Set it where the domain's DNS is now.",
            answered.code
        )),
        Ok(_) => Some(format!("The TXT records at {name} do not hold the expected text.")),
    }
}
