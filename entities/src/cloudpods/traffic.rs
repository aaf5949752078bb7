//! How much traffic a pod has in a month, from the counters of its network.

use crate::Result;
use crate::db::{SystemTx, TenantTx, statement};
use crate::ids::{CloudpodId, RowId};
use crate::tables::{cloudpod, cloudpod_traffic};
use chrono::{Datelike, NaiveDate, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::{Deserialize, Serialize};

/// The counters as a node tells them: bytes since the container was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Seconds since it was started: counters begin anew with that.
    #[serde(default)]
    pub uptime_secs: u64,
    /// When they were read, in seconds since 1970.
    #[serde(default)]
    pub read_at: i64,
}

/// By how much readings of two workers may lie apart, in seconds.
const APART: u64 = 120;

/// By how much a start may look too early, in seconds.
const ROUNDED: i64 = 3;

impl Counters {
    /// Whether the container was started again since an earlier reading. A late or overtaken answer is no
    /// start.
    fn began_after(&self, before: &Self) -> bool {
        let age = i64::try_from(self.uptime_secs).unwrap_or(i64::MAX);
        let started = self.read_at.saturating_sub(age);
        let is_less = self.bytes_in < before.bytes_in || self.bytes_out < before.bytes_out;
        // Both are known to a second or two.
        let about = if is_less { started.saturating_add(ROUNDED) } else { started };
        (before.read_at > 0 && about > before.read_at)
            || self.uptime_secs.saturating_add(APART) < before.uptime_secs
    }
}

/// How much came since the counters were read before, and what they are now. A container that was
/// started again counts from nothing.
fn since(before: Option<Counters>, now: Counters) -> ((u64, u64), Counters) {
    let Some(b) = before.filter(|b| !now.began_after(b)) else {
        return ((now.bytes_in, now.bytes_out), now);
    };
    let more = (now.bytes_in.saturating_sub(b.bytes_in), now.bytes_out.saturating_sub(b.bytes_out));
    let last = Counters {
        bytes_in: now.bytes_in.max(b.bytes_in),
        bytes_out: now.bytes_out.max(b.bytes_out),
        uptime_secs: now.uptime_secs.max(b.uptime_secs),
        read_at: now.read_at.max(b.read_at),
    };
    (more, last)
}

fn this_month() -> NaiveDate {
    let today = Utc::now().date_naive();
    today.with_day(1).unwrap_or(today)
}

/// Adds what came since the last reading to the month of now. The pod's row is locked, so that no
/// byte is counted twice.
pub async fn count(tx: &SystemTx, id: CloudpodId, now: Counters) -> Result<()> {
    let row = super::lock(tx, id).await?;
    let before = row.counters.clone().map(serde_json::from_value).transpose()?;
    let ((bytes_in, bytes_out), last) = since(before, now);
    let tenant = row.tenant_id;
    let mut active: cloudpod::ActiveModel = row.into();
    active.counters = Set(Some(serde_json::to_value(last)?));
    active.update(tx.conn()).await?;
    if bytes_in == 0 && bytes_out == 0 {
        return Ok(());
    }
    let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let sql =
        "INSERT INTO cloudpod_traffic (id, tenant_id, cloudpod_id, month, bytes_in, bytes_out)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (cloudpod_id, month) DO UPDATE
        SET bytes_in = cloudpod_traffic.bytes_in + excluded.bytes_in,
            bytes_out = cloudpod_traffic.bytes_out + excluded.bytes_out";
    let values = [
        RowId::new().0.into(),
        tenant.0.into(),
        id.0.into(),
        this_month().into(),
        whole(bytes_in).into(),
        whole(bytes_out).into(),
    ];
    tx.conn().execute_raw(statement(sql, values)).await?;
    Ok(())
}

/// The traffic of a pod of the tenant, the newest month first, at most two years.
pub async fn list_traffic(tx: &TenantTx, id: CloudpodId) -> Result<Vec<cloudpod_traffic::Model>> {
    super::find_pod(tx, id).await?;
    Ok(tx
        .own::<cloudpod_traffic::Entity>()
        .filter(cloudpod_traffic::Column::CloudpodId.eq(id))
        .order_by_desc(cloudpod_traffic::Column::Month)
        .limit(24)
        .all(tx.conn())
        .await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_begin_anew_with_a_start() {
        let at = |bytes_in, bytes_out, uptime_secs, read_at| Counters {
            bytes_in,
            bytes_out,
            uptime_secs,
            read_at,
        };
        let first = at(50, 70, 600, 10_000);
        assert_eq!(since(None, first), ((50, 70), first));
        assert_eq!(since(Some(first), at(90, 70, 660, 10_060)).0, (40, 0));
        // Started again, and used more than before.
        let again = at(90, 99, 30, 10_060);
        assert_eq!(since(Some(first), again), ((90, 99), again));
        // Started in the second of the last reading.
        let at_once = at(5, 6, 4, 10_004);
        assert_eq!(since(Some(first), at_once), ((5, 6), at_once));
        // An answer that came late looks as if it had been started later.
        assert_eq!(since(Some(first), at(60, 70, 660, 10_090)).0, (10, 0));
        // Of two workers one was overtaken; the next counts from the higher.
        let (none, last) = since(Some(first), at(40, 60, 590, 9_990));
        assert_eq!((none, last), ((0, 0), first));
        // A worker whose clock is slow.
        assert_eq!(since(Some(first), at(3, 4, 20, 9_000)).0, (3, 4));
        // What was read by an older version has no time.
        assert_eq!(since(Some(at(50, 70, 0, 0)), at(60, 80, 660, 10_000)).0, (10, 10));
    }
}
