//! Room that is held for orders: of what a tenant may have, as much as somebody is about to pay for,
//! so that nobody pays for what there is no room for.

use crate::Result;
use crate::catalogue::Kind;
use crate::cloudpods;
use crate::db::{SystemTx, statement};
use crate::hosting;
use crate::ids::{OrderId, OrderItemId, RowId, TenantId};
use crate::tables::reservation::{self, Column};
use crate::tables::{order_item, orders};
use crate::tenants::{self, Limits};
use chrono::{TimeDelta, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QuerySelect, QueryTrait,
};

/// How long room is held for somebody who is about to pay: as long as Stripe keeps a session open.
pub(super) const HELD_FOR: TimeDelta = TimeDelta::hours(24);

/// Holds room for all lines of an order that nothing was made for yet, for a while or, once it was paid
/// for, until it is used. What is held already is not asked about again. The order's row is locked.
pub(super) async fn hold(
    conn: &DatabaseTransaction,
    order: &orders::Model,
    for_a_while: bool,
) -> Result<()> {
    let items = open_items(conn, order.id).await?;
    hold_quota(conn, order, &items, (Kind::HostingPlan, ACCOUNTS)).await?;
    hold_quota(conn, order, &items, (Kind::CloudpodPlan, cloudpods::LIMIT)).await?;
    let expires_at = for_a_while.then(|| Utc::now() + HELD_FOR);
    let rows = items.into_iter().map(|item| reservation::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(item.tenant_id),
        order_id: Set(item.order_id),
        order_item_id: Set(item.id),
        kind: Set(item.kind),
        quantity: Set(item.quantity),
        expires_at: Set(expires_at),
        released_at: NotSet,
        consumed_at: NotSet,
        created_at: Set(Utc::now()),
    });
    let again = OnConflict::column(Column::OrderItemId)
        .update_column(Column::ExpiresAt)
        .value(Column::ReleasedAt, Expr::val(None::<chrono::DateTime<Utc>>))
        .to_owned();
    let insert = reservation::Entity::insert_many(rows).on_conflict(again);
    insert.exec_without_returning(conn).await?;
    Ok(())
}

/// Lets nobody else take of what an order's lines are counted under, always in one order.
pub(super) async fn lock(
    conn: &DatabaseTransaction,
    tenant: TenantId,
    items: &[order_item::Model],
) -> Result<()> {
    for (kind, name) in [(Kind::HostingPlan, ACCOUNTS), (Kind::CloudpodPlan, cloudpods::LIMIT)] {
        if items.iter().any(|item| item.kind == kind) {
            tenants::lock_limit(conn, tenant, name).await?;
        }
    }
    Ok(())
}

/// Refuses an order that goes beyond a limit of its tenant, unless all of it is held already.
async fn hold_quota(
    conn: &DatabaseTransaction,
    order: &orders::Model,
    items: &[order_item::Model],
    (kind, name): (Kind, &str),
) -> Result<()> {
    let plans = items.iter().filter(|item| item.kind == kind);
    let wanted: u64 = plans.map(|item| u64::from(item.quantity.unsigned_abs())).sum();
    if wanted == 0 {
        return Ok(());
    }
    let tenant = order.tenant_id;
    tenants::lock_limit(conn, tenant, name).await?;
    let own = Condition::all().add(Column::OrderId.eq(order.id));
    if held(conn, kind, own).await? >= wanted {
        return Ok(());
    }
    let limit: fn(&Limits) -> Option<u32> = match kind {
        Kind::CloudpodPlan => |limits| limits.cloudpods,
        _ => |limits| limits.accounts,
    };
    tenants::reserve(conn, tenant, limit, name, async |conn| {
        let there = match kind {
            Kind::CloudpodPlan => cloudpods::create::count_pods(conn, tenant).await?,
            _ => hosting::count_taken(conn, tenant, None).await?,
        };
        let others =
            Condition::all().add(Column::TenantId.eq(tenant)).add(Column::OrderId.ne(order.id));
        // Room for one more behind all but the last of them is room for all.
        let others = held(conn, kind, others).await?;
        Ok(there.saturating_add(others).saturating_add(wanted).saturating_sub(1))
    })
    .await
}

/// What the limit is called under which hosting accounts are counted.
pub(crate) const ACCOUNTS: &str = "hosting accounts";

/// The lines of an order that nothing was made for yet.
pub(super) async fn open_items(
    conn: &DatabaseTransaction,
    order: OrderId,
) -> Result<Vec<order_item::Model>> {
    let consumed = reservation::Entity::find()
        .filter(Column::OrderId.eq(order))
        .filter(Column::ConsumedAt.is_not_null())
        .select_only()
        .column(Column::OrderItemId)
        .into_query();
    Ok(order_item::Entity::find()
        .filter(order_item::Column::OrderId.eq(order))
        .filter(order_item::Column::Id.not_in_subquery(consumed))
        .all(conn)
        .await?)
}

/// Which rows hold room at this moment; the transaction may have begun long before it got the lock.
fn live() -> Condition {
    let clock = Expr::cust("clock_timestamp()");
    Condition::all().add(Column::ReleasedAt.is_null()).add(Column::ConsumedAt.is_null()).add(
        Condition::any()
            .add(Column::ExpiresAt.is_null())
            .add(Expr::col(Column::ExpiresAt).gt(clock)),
    )
}

/// How many of a kind are held room for.
async fn held<C: ConnectionTrait>(conn: &C, kind: Kind, whose: Condition) -> Result<u64> {
    let rows: Vec<i32> = reservation::Entity::find()
        .filter(live())
        .filter(whose)
        .filter(Column::Kind.eq(kind))
        .select_only()
        .column(Column::Quantity)
        .into_tuple()
        .all(conn)
        .await?;
    Ok(rows.into_iter().map(|quantity| u64::from(quantity.unsigned_abs())).sum())
}

/// How many hosting accounts of a tenant are ordered and not made yet.
pub(crate) async fn count_held<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    held(conn, Kind::HostingPlan, Condition::all().add(Column::TenantId.eq(tenant))).await
}

/// How many pods of a tenant are ordered and not made yet.
pub(crate) async fn count_held_pods<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    held(conn, Kind::CloudpodPlan, Condition::all().add(Column::TenantId.eq(tenant))).await
}

/// Gives back what is held for an order. May be repeated.
pub(super) async fn release(conn: &DatabaseTransaction, order: OrderId) -> Result<()> {
    let sql = "UPDATE reservation SET released_at = now()
        WHERE order_id = $1 AND released_at IS NULL AND consumed_at IS NULL";
    conn.execute_raw(statement(sql, [order.0.into()])).await?;
    Ok(())
}

/// Gives the room that is held for a line to what was just made for it, which counts itself from this
/// transaction on. Whether it had not been given before.
pub async fn consume(tx: &SystemTx, item: OrderItemId) -> Result<bool> {
    let sql = "UPDATE reservation SET consumed_at = now(), released_at = NULL
        WHERE order_item_id = $1 AND consumed_at IS NULL";
    Ok(tx.conn().execute_raw(statement(sql, [item.0.into()])).await?.rows_affected() > 0)
}
