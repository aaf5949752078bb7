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
    /// When it was started, in seconds since 1970: counters begin anew with it.
    pub started: i64,
}

/// How much came since the counters were read before. A container that was started again counts from
/// nothing; its start is known to some seconds only.
fn since(before: Option<Counters>, now: Counters) -> (u64, u64) {
    let same = |b: &Counters| {
        b.started.abs_diff(now.started) <= 10
            && now.bytes_in >= b.bytes_in
            && now.bytes_out >= b.bytes_out
    };
    match before.filter(same) {
        Some(b) => {
            (now.bytes_in.saturating_sub(b.bytes_in), now.bytes_out.saturating_sub(b.bytes_out))
        }
        None => (now.bytes_in, now.bytes_out),
    }
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
    let (bytes_in, bytes_out) = since(before, now);
    let tenant = row.tenant_id;
    let mut active: cloudpod::ActiveModel = row.into();
    active.counters = Set(Some(serde_json::to_value(now)?));
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
        let at = |bytes_in, bytes_out, started| Counters { bytes_in, bytes_out, started };
        assert_eq!(since(None, at(5, 7, 100)), (5, 7));
        assert_eq!(since(Some(at(5, 7, 100)), at(9, 7, 103)), (4, 0));
        assert_eq!(since(Some(at(5, 7, 100)), at(9, 9, 500)), (9, 9));
        assert_eq!(since(Some(at(5, 7, 100)), at(3, 9, 100)), (3, 9));
    }
}
