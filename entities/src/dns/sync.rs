//! What a worker needs to make DNS servers equal to the rows. One worker at a time has a zone, by a
//! lease; whoever lost it while writing has the zone looked at again, so that a late write does not
//! stay.

use crate::Result;
use crate::audit::Audit;
use crate::db::{SystemTx, statement};
use crate::dns::{Copy, all_sets, delegation, soa};
use crate::ids::{WorkerId, ZoneId};
use crate::tables::dns_zone;
use crate::tenancy::TenantCtx;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use std::collections::BTreeMap;
use zonefile::{RecordSet, Soa};

/// For how long a worker may take over one zone.
const LEASE_SECS: f64 = 60.0;
/// The longest pause between attempts.
const PAUSE_MAX_SECS: i64 = 300;

/// Which zones are due.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// So many at most.
    pub limit: i64,
    /// Seconds after which a zone that is in order is compared again.
    pub check_secs: f64,
}

/// A zone that a worker has for a while.
#[derive(Debug, Clone)]
pub struct Held {
    pub zone: dns_zone::Model,
    pub sets: Vec<RecordSet>,
    pub soa: Soa,
}

const DUE: &str = "(
      (z.state <> 'in_sync' AND (z.next_at IS NULL OR z.next_at <= now()))
   OR (z.active AND z.state = 'in_sync' AND z.dnssec IN ('starting', 'ending')
        AND (z.dnssec_next_at IS NULL OR z.dnssec_next_at <= now()))
   OR (z.active AND z.state = 'in_sync'
        AND (z.checked_at IS NULL OR z.checked_at < now() - make_interval(secs => $3))))";

/// Takes zones that are due: those that were changed first.
pub async fn take_due(tx: &SystemTx, worker: WorkerId, due: Due) -> Result<Vec<dns_zone::Model>> {
    let sql = format!(
        "UPDATE dns_zone SET lease_owner = $1, lease_until = now() + make_interval(secs => {LEASE_SECS}),
            fence = fence + 1
         WHERE id IN (SELECT z.id FROM dns_zone z
            WHERE (z.lease_until IS NULL OR z.lease_until < now()) AND {DUE}
            ORDER BY z.state = 'in_sync', z.next_at NULLS FIRST, z.checked_at NULLS FIRST
            LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING *"
    );
    let values = [worker.0.into(), due.limit.into(), due.check_secs.into()];
    let rows = tx.conn().query_all_raw(statement(&sql, values)).await?;
    rows.iter().map(|row| Ok(dns_zone::Model::from_query_result(row, "")?)).collect()
}

/// Takes one zone, due or not; none when another worker has it, or it is gone.
pub async fn take_one(
    tx: &SystemTx,
    worker: WorkerId,
    zone: ZoneId,
) -> Result<Option<dns_zone::Model>> {
    let sql = format!(
        "UPDATE dns_zone SET lease_owner = $1, lease_until = now() + make_interval(secs => {LEASE_SECS}),
            fence = fence + 1
         WHERE id = $2 AND (lease_until IS NULL OR lease_until < now()) RETURNING *"
    );
    let row = tx.conn().query_one_raw(statement(&sql, [worker.0.into(), zone.0.into()])).await?;
    Ok(row.map(|row| dns_zone::Model::from_query_result(&row, "")).transpose()?)
}

/// What the servers shall have, of one moment; none when somebody else has the zone by now.
pub async fn load(tx: &SystemTx, held: &dns_zone::Model) -> Result<Option<Held>> {
    let row = dns_zone::Entity::find_by_id(held.id)
        .filter(dns_zone::Column::Fence.eq(held.fence))
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    let Some(zone) = row else { return Ok(None) };
    let sets = all_sets(tx.conn(), zone.tenant_id, zone.id).await?;
    let soa = soa(&zone, &sets)?;
    Ok(Some(Held { zone, sets, soa }))
}

/// What became of a zone.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The primary server has this version. Whether it had differed although it should not have.
    Applied { version: i64, repaired: bool },
    /// The servers do not answer for it, as it shall be.
    Withheld { version: i64 },
    /// It could not be brought there.
    Failed(String),
}

/// Records what became of a zone and gives it back. Whoever has lost it has it looked at again.
pub async fn record(tx: &SystemTx, held: &dns_zone::Model, outcome: &Outcome) -> Result<()> {
    let (sql, values): (&str, Vec<sea_orm::Value>) = match outcome {
        Outcome::Applied { version, .. } => (
            "applied_version = $3, applied_at = now(), checked_at = now(), error = NULL,
             attempts = 0, next_at = NULL,
             state = CASE WHEN state = 'deleting' THEN state
                WHEN version = $3 THEN 'in_sync' ELSE 'pending' END",
            vec![(*version).into()],
        ),
        Outcome::Withheld { version } => (
            "applied_version = NULL, applied_at = now(), checked_at = now(), error = NULL,
             attempts = 0, next_at = NULL,
             state = CASE WHEN state = 'deleting' THEN state
                WHEN version = $3 AND NOT active THEN 'in_sync' ELSE 'pending' END",
            vec![(*version).into()],
        ),
        Outcome::Failed(error) => {
            let pause = pause(held.attempts);
            (
                "error = $3, attempts = attempts + 1, checked_at = now(),
                 next_at = now() + make_interval(secs => $4),
                 state = CASE WHEN state = 'deleting' THEN state ELSE 'error' END",
                vec![error.as_str().into(), pause.into()],
            )
        }
    };
    let sql = format!(
        "UPDATE dns_zone SET lease_owner = NULL, lease_until = NULL, {sql}
         WHERE id = $1 AND fence = $2"
    );
    let mut all: Vec<sea_orm::Value> = vec![held.id.0.into(), held.fence.into()];
    all.extend(values);
    let statement = sea_orm::Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, all);
    let done = tx.conn().execute_raw(statement).await?.rows_affected();
    if done == 0 {
        return look_again(tx, held.id).await;
    }
    if let Outcome::Applied { repaired, .. } = outcome {
        audit(tx, held, *repaired).await?;
    }
    Ok(())
}

/// A writer that was late may have undone what a newer one did.
async fn look_again(tx: &SystemTx, zone: ZoneId) -> Result<()> {
    tracing::warn!(zone = %zone, "dns.lost_zone_is_looked_at_again");
    let sql =
        "UPDATE dns_zone SET state = 'pending', next_at = NULL WHERE id = $1 AND state = 'in_sync'";
    tx.conn().execute_raw(statement(sql, [zone.0.into()])).await?;
    Ok(())
}

async fn audit(tx: &SystemTx, held: &dns_zone::Model, repaired: bool) -> Result<()> {
    let ctx = TenantCtx::system(held.tenant_id);
    if held.applied_version.is_none() {
        let entry = Audit::DnsZoneProvisioned { zone: held.id, name: held.name.clone() };
        tx.audit(&ctx, entry).await?;
    }
    if repaired {
        let entry = Audit::DnsZoneRepaired { zone: held.id, name: held.name.clone() };
        tx.audit(&ctx, entry).await?;
    }
    Ok(())
}

/// 1 s, 2 s, 4 s … five minutes.
fn pause(attempts: i32) -> f64 {
    let doubled = 1_i64.checked_shl(u32::try_from(attempts).unwrap_or(0)).unwrap_or(PAUSE_MAX_SECS);
    let secs = i32::try_from(doubled.clamp(1, PAUSE_MAX_SECS)).unwrap_or(1);
    f64::from(secs)
}

/// Removes the rows of a zone that all servers have forgotten.
pub async fn forget(tx: &SystemTx, held: &dns_zone::Model) -> Result<()> {
    let servers = delegation::servers_of(tx, held).await?;
    let gone = dns_zone::Entity::delete_many()
        .filter(dns_zone::Column::Id.eq(held.id))
        .filter(dns_zone::Column::Fence.eq(held.fence))
        .filter(dns_zone::Column::State.eq("deleting"))
        .exec(tx.conn())
        .await?;
    if gone.rows_affected == 0 {
        return Ok(());
    }
    delegation::part(tx, &held.name, &servers).await?;
    // Whoever has transferred it before takes nothing older.
    let sql = "INSERT INTO dns_serial (name, serial) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET serial = excluded.serial";
    let values = [held.name.as_str().into(), held.serial.into()];
    tx.conn().execute_raw(statement(sql, values)).await?;
    let entry = Audit::DnsZoneRemoved { zone: held.id, name: held.name.clone() };
    tx.audit(&TenantCtx::system(held.tenant_id), entry).await
}

/// Zones whose copies on the secondary servers are to be looked at. Whoever takes them has a while
/// before they are due again.
pub async fn take_copies_due(tx: &SystemTx, limit: i64) -> Result<Vec<dns_zone::Model>> {
    let sql = "UPDATE dns_zone SET copies_next_at = now() + make_interval(secs => 30)
         WHERE id IN (SELECT id FROM dns_zone WHERE active AND applied_version IS NOT NULL
            AND state <> 'deleting' AND copies_next_at <= now()
            ORDER BY copies_next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING *";
    let rows = tx.conn().query_all_raw(statement(sql, [limit.into()])).await?;
    rows.iter().map(|row| Ok(dns_zone::Model::from_query_result(row, "")?)).collect()
}

/// The copies of a zone are to be looked at now.
pub async fn look_at_copies(tx: &SystemTx, zone: ZoneId) -> Result<()> {
    let sql = "UPDATE dns_zone SET copies_next_at = now() WHERE id = $1";
    tx.conn().execute_raw(statement(sql, [zone.0.into()])).await?;
    Ok(())
}

/// What a secondary server was seen to have of a zone; looked at again soon while it is behind.
pub async fn record_copies(
    tx: &SystemTx,
    zone: ZoneId,
    seen: &BTreeMap<String, Copy>,
    again: Option<DateTime<Utc>>,
) -> Result<()> {
    let sql = "UPDATE dns_zone SET copies = $2, copies_next_at = $3 WHERE id = $1";
    let again: sea_orm::Value = again.into();
    let values = [zone.0.into(), serde_json::to_value(seen)?.into(), again];
    tx.conn().execute_raw(statement(sql, values)).await?;
    Ok(())
}

/// How many active zones a secondary server does not have in the version that the primary has.
pub async fn count_behind(tx: &SystemTx, server: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM dns_zone WHERE active AND applied_version IS NOT NULL
        AND state <> 'deleting' AND copies -> $1 ->> 'error' IS NOT NULL";
    let row = tx.conn().query_one_raw(statement(sql, [server.into()])).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get_by_index(0))?)
}

/// The ids of zones that there are, of these.
pub async fn existing(tx: &SystemTx, ids: &[ZoneId]) -> Result<Vec<ZoneId>> {
    Ok(dns_zone::Entity::find()
        .filter(dns_zone::Column::Id.is_in(ids.iter().copied()))
        .select_only()
        .column(dns_zone::Column::Id)
        .into_tuple()
        .all(tx.conn())
        .await?)
}

/// The zone, whoever owns it, for a worker.
pub async fn load_zone(tx: &SystemTx, id: ZoneId) -> Result<Option<dns_zone::Model>> {
    Ok(dns_zone::Entity::find_by_id(id).one(tx.conn()).await?)
}

/// How many zones wait for their servers, how many of them because of an error, and for how many
/// seconds the oldest does.
pub async fn backlog(tx: &SystemTx) -> Result<(u64, u64, i64)> {
    let waiting = dns_zone::Entity::find().filter(dns_zone::Column::State.ne("in_sync"));
    let failing = waiting.clone().filter(dns_zone::Column::State.eq("error"));
    let oldest = waiting.clone().order_by_asc(dns_zone::Column::UpdatedAt).one(tx.conn()).await?;
    let age = oldest.map_or(TimeDelta::zero(), |row| Utc::now() - row.updated_at);
    Ok((waiting.count(tx.conn()).await?, failing.count(tx.conn()).await?, age.num_seconds()))
}
