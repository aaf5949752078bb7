//! How often zones may be changed, by the generic cell rate algorithm: one moment for each limit, at
//! which it is whole again. They lie in the zone's row and in one of the tenant's, and are written with
//! the change, so that what is refused or fails is not counted. Our own jobs are not counted either.

use crate::Result;
use crate::db::TenantTx;
use crate::error::{Code, Error};
use crate::ids::{RowId, TenantId};
use crate::tables::{dns_budget, dns_zone};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// So many changes in so many seconds: as many at once, and then one each `secs / changes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub changes: u32,
    pub secs: u32,
}

impl Limit {
    /// Reads `CHANGES/SECONDS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (changes, secs) = text.split_once('/')?;
        let limit = Self { changes: changes.parse().ok()?, secs: secs.parse().ok()? };
        (limit.changes > 0 && limit.secs > 0).then_some(limit)
    }

    fn name(self) -> String {
        format!("{}/{}", self.changes, self.secs)
    }
}

/// What holds of each zone, and of all zones of a tenant together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub zone: Vec<Limit>,
    pub tenant: Vec<Limit>,
}

type Ends = BTreeMap<String, DateTime<Utc>>;

/// Takes one change from each limit; the seconds to wait when one is used up.
fn take(ends: &Ends, limits: &[Limit], now: DateTime<Utc>) -> Result<Ends, (Limit, u64)> {
    let mut taken = Ends::new();
    for limit in limits {
        let whole = TimeDelta::seconds(limit.secs.into());
        let step = whole / i32::try_from(limit.changes).unwrap_or(i32::MAX);
        let end = ends.get(&limit.name()).copied().unwrap_or(now).max(now);
        let next = end.checked_add_signed(step).unwrap_or(end);
        let over = (next - now) - whole;
        if over > TimeDelta::zero() {
            let secs = over.num_milliseconds().unsigned_abs().div_ceil(1000).max(1);
            return Err((*limit, secs));
        }
        taken.insert(limit.name(), next);
    }
    Ok(taken)
}

fn refused(what: &str, (limit, secs): (Limit, u64)) -> Error {
    let text = format!(
        "{what} was changed too often: {} changes in {} s are allowed. Wait {secs} s, and put many \
         changes into one batch, which counts as one.",
        limit.changes, limit.secs
    );
    Error::later(Code::TooManyRequests, text, secs)
}

fn read(budget: &Value) -> Result<Ends> {
    Ok(serde_json::from_value(budget.clone())?)
}

/// Takes one change of this zone, whose row is locked. What is left of it is for the caller to write
/// into the row.
pub(crate) async fn take_change(
    tx: &TenantTx,
    zone: &dns_zone::Model,
    limits: &Limits,
) -> Result<Value> {
    let now = Utc::now();
    let left =
        take(&read(&zone.budget)?, &limits.zone, now).map_err(|r| refused("This zone", r))?;
    take_of_tenant(tx.conn(), tx.tenant(), limits).await?;
    Ok(serde_json::to_value(left)?)
}

/// Takes one change of the tenant, of no zone in particular.
pub(crate) async fn take_of_tenant(
    conn: &DatabaseTransaction,
    tenant: TenantId,
    limits: &Limits,
) -> Result<()> {
    let row =
        dns_budget::ActiveModel { id: Set(RowId::new()), tenant_id: Set(tenant), budget: NotSet };
    let once = OnConflict::column(dns_budget::Column::TenantId).do_nothing().to_owned();
    dns_budget::Entity::insert(row).on_conflict(once).exec_without_returning(conn).await?;
    let row = dns_budget::Entity::find()
        .filter(dns_budget::Column::TenantId.eq(tenant))
        .lock_exclusive()
        .one(conn)
        .await?;
    let row = row.ok_or_else(|| Error::internal("a tenant without a budget"))?;
    let ends = take(&read(&row.budget)?, &limits.tenant, Utc::now())
        .map_err(|refusal| refused("The DNS of this tenant", refusal))?;
    let mut row: dns_budget::ActiveModel = row.into();
    row.budget = Set(serde_json::to_value(ends)?);
    row.update(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_pace() {
        let limit = Limit::parse("10/5").unwrap();
        let start: DateTime<Utc> = "2026-11-23T00:00:00Z".parse().unwrap();
        let mut ends = Ends::new();
        for _ in 0..10 {
            ends = take(&ends, &[limit], start).unwrap();
        }
        assert_eq!(take(&ends, &[limit], start), Err((limit, 1)));
        let later = start + TimeDelta::milliseconds(500);
        ends = take(&ends, &[limit], later).unwrap();
        assert!(take(&ends, &[limit], later).is_err());
        let day = Limit::parse("2/86400").unwrap();
        let ends = take(&take(&Ends::new(), &[limit, day], start).unwrap(), &[limit, day], start);
        assert_eq!(take(&ends.unwrap(), &[limit, day], start), Err((day, 43_200)));
    }

    #[test]
    fn limits_are_read() {
        assert_eq!(Limit::parse("60/60"), Some(Limit { changes: 60, secs: 60 }));
        for text in ["", "60", "0/60", "60/0", "-1/60", "a/b"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
    }
}
