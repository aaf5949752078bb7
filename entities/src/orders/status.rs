//! Where an order stands, and the one way from one status to the next.

use crate::Result;
use crate::audit::Audit;
use crate::cloudpods::{hostnames, sold};
use crate::db::{Db, SystemTx, statement};
use crate::due::{self, Due};
use crate::error::{Code, Error};
use crate::ids::{OrderId, RowId};
use crate::orders::reservations;
use crate::outbox::{self, Message};
use crate::tables::{order_transition, orders};
use crate::tenancy::{Actor, TenantCtx};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ConnectionTrait, DatabaseTransaction, DeriveActiveEnum,
    EntityTrait, EnumIter, QuerySelect,
};
use serde::{Deserialize, Serialize};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its lines may still be changed.
    #[sea_orm(string_value = "draft")]
    Draft,
    /// Somebody is about to pay; room is held for it.
    #[sea_orm(string_value = "pending_payment")]
    PendingPayment,
    #[sea_orm(string_value = "paid")]
    Paid,
    #[sea_orm(string_value = "provisioning")]
    Provisioning,
    /// All that was bought is there.
    #[sea_orm(string_value = "active")]
    Active,
    /// Some of it is there.
    #[sea_orm(string_value = "partially_active")]
    PartiallyActive,
    /// None of it could be made.
    #[sea_orm(string_value = "failed")]
    Failed,
    #[sea_orm(string_value = "cancelled")]
    Cancelled,
    #[sea_orm(string_value = "refunded")]
    Refunded,
    /// It was not paid in time; it may still be.
    #[sea_orm(string_value = "expired")]
    Expired,
}

impl Status {
    /// All of them, in the order of an order's life.
    pub const ALL: [Self; 10] = [
        Self::Draft,
        Self::PendingPayment,
        Self::Paid,
        Self::Provisioning,
        Self::Active,
        Self::PartiallyActive,
        Self::Failed,
        Self::Cancelled,
        Self::Refunded,
        Self::Expired,
    ];

    /// Where an order may go from here. The one table of it. What was not paid in time may be paid
    /// late, what failed may be tried again, and money that came for a cancelled order is given back.
    #[must_use]
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Draft => &[Self::PendingPayment, Self::Paid, Self::Cancelled],
            Self::PendingPayment => &[Self::Paid, Self::Cancelled, Self::Expired],
            Self::Expired => &[Self::PendingPayment, Self::Paid, Self::Cancelled],
            Self::Paid => &[Self::Provisioning, Self::Refunded],
            Self::Provisioning => &[Self::Active, Self::PartiallyActive, Self::Failed],
            Self::PartiallyActive => {
                &[Self::Provisioning, Self::Active, Self::Cancelled, Self::Refunded]
            }
            Self::Failed => &[Self::Provisioning, Self::Cancelled, Self::Refunded],
            Self::Active => &[Self::Cancelled, Self::Refunded],
            Self::Cancelled => &[Self::Refunded],
            // The money came back from the bank.
            Self::Refunded => &[Self::Active],
        }
    }

    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::PendingPayment => "pending_payment",
            Self::Paid => "paid",
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::PartiallyActive => "partially_active",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
            Self::Expired => "expired",
        }
    }
}

/// Brings an order to a status in the name of `ctx`; whether it was not there already. The row stays
/// locked until the end of the transaction, so that of many who come with the same news one acts on
/// it. What is not allowed is refused with `order_state`, what finds no room with `quota_exceeded` or
/// `no_capacity`, and a container whose name another has with `conflict`.
pub async fn advance(
    tx: &SystemTx,
    ctx: &TenantCtx,
    id: OrderId,
    to: Status,
    cause: &str,
) -> Result<bool> {
    let row = lock(tx, id).await?;
    let there = ctx.within(row.tenant_id);
    if row.status != to && row.status.next().contains(&to) {
        match to {
            Status::PendingPayment => {
                hold_names(tx, &row).await?;
                hold_places(tx, &row, true).await?;
            }
            Status::Paid => {
                hold_names(tx, &row).await?;
                hold_places(tx, &row, false).await?;
            }
            // What is paid for by now and cannot be made fails by itself, and its money goes back.
            Status::Provisioning => hold_places(tx, &row, false).await?,
            _ => {}
        }
    }
    let Some((_, entry)) = step(tx.conn(), ctx.actor(), row, to, cause).await? else {
        return Ok(false);
    };
    tx.audit(&there, entry).await?;
    Ok(true)
}

/// The order, locked until the transaction ends.
pub async fn lock(tx: &SystemTx, id: OrderId) -> Result<orders::Model> {
    let row = orders::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("order"))
}

/// Holds room anew for an order that waits for payment still, and whose row is locked.
pub(crate) async fn hold_again(tx: &SystemTx, row: &orders::Model) -> Result<()> {
    hold_names(tx, row).await?;
    reservations::hold(tx.conn(), row, true).await?;
    hold_places(tx, row, true).await
}

/// Refuses to go on with an order of containers whose names are others' by now. From here on the order
/// has them: the limit is locked, as by everybody who takes a name.
async fn hold_names(tx: &SystemTx, row: &orders::Model) -> Result<()> {
    let items = reservations::open_items(tx.conn(), row.id).await?;
    reservations::lock(tx.conn(), row.tenant_id, &items).await?;
    hostnames::refuse_taken(tx, row, &items).await
}

/// Holds places on servers for the pods of an order. Those of an order that comes to nothing are given
/// back by [`crate::cloudpods::placement::release_idle`].
async fn hold_places(tx: &SystemTx, row: &orders::Model, for_a_while: bool) -> Result<()> {
    let items = reservations::open_items(tx.conn(), row.id).await?;
    // Limits before places: whoever makes a container without an order locks them in this order, too.
    reservations::lock(tx.conn(), row.tenant_id, &items).await?;
    let until = for_a_while.then(|| Utc::now() + reservations::HELD_FOR);
    Box::pin(sold::hold(tx, row, &items, until)).await
}

/// Brings an order, whose row is locked, to a status; none when it is there. The caller records the
/// entry.
pub(super) async fn step(
    conn: &DatabaseTransaction,
    actor: Actor,
    row: orders::Model,
    to: Status,
    cause: &str,
) -> Result<Option<(orders::Model, Audit)>> {
    let from = row.status;
    if from == to {
        return Ok(None);
    }
    if !from.next().contains(&to) {
        return Err(refusal(&row, to));
    }
    match to {
        Status::PendingPayment => reservations::hold(conn, &row, true).await?,
        Status::Paid | Status::Provisioning => reservations::hold(conn, &row, false).await?,
        Status::Active
        | Status::Failed
        | Status::Cancelled
        | Status::Refunded
        | Status::Expired => reservations::release(conn, row.id).await?,
        Status::Draft | Status::PartiallyActive => {}
    }
    record(conn, &row, Some(from), to, (actor, cause)).await?;
    let mut active: orders::ActiveModel = row.into();
    active.status = Set(to);
    active.status_at = Set(Utc::now());
    let row = active.update(conn).await?;
    outbox::append(conn, row.tenant_id, Message::OrderChanged { order: row.id }).await?;
    let entry = entry(&row, from, cause);
    Ok(Some((row, entry)))
}

/// Why an order cannot become this.
fn refusal(row: &orders::Model, to: Status) -> Error {
    let (number, from, to) = (&row.number, row.status.as_str(), to.as_str());
    let text = format!("The order {number} is {from}: from there it cannot become {to}.");
    Error::refused(Code::OrderState, text)
}

/// Writes down that an order went from one status to another, by whom and why.
pub(super) async fn record(
    conn: &DatabaseTransaction,
    row: &orders::Model,
    before: Option<Status>,
    after: Status,
    (actor, cause): (Actor, &str),
) -> Result<()> {
    let transition = order_transition::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(row.tenant_id),
        order_id: Set(row.id),
        before: Set(before),
        after: Set(after),
        cause: Set(cause.to_owned()),
        actor: Set(serde_json::to_value(actor)?),
        created_at: Set(Utc::now()),
    };
    order_transition::Entity::insert(transition).exec_without_returning(conn).await?;
    Ok(())
}

/// What the trail says of it.
pub(super) fn entry(row: &orders::Model, from: Status, cause: &str) -> Audit {
    let (order, number, from, cause) = (row.id, row.number.clone(), from, cause.to_owned());
    match row.status {
        Status::Draft | Status::PendingPayment => {
            Audit::OrderPaymentPending { order, number, from, cause }
        }
        Status::Paid => Audit::OrderPaid { order, number, from, cause },
        Status::Provisioning => Audit::OrderProvisioning { order, number, from, cause },
        Status::Active => Audit::OrderCompleted { order, number, from, cause },
        Status::PartiallyActive => Audit::OrderPartiallyCompleted { order, number, from, cause },
        Status::Failed => Audit::OrderFailed { order, number, from, cause },
        Status::Cancelled => Audit::OrderCancelled { order, number, from, cause },
        Status::Refunded => Audit::OrderRefunded { order, number, from, cause },
        Status::Expired => Audit::OrderExpired { order, number, from, cause },
    }
}

/// Orders that were not paid while room was held for them.
const OVERDUE: &str =
    "SELECT o.id FROM orders o WHERE o.status = 'pending_payment' AND o.next_at <= now()
      AND EXISTS (SELECT FROM reservation r WHERE r.order_id = o.id AND r.released_at IS NULL
            AND r.consumed_at IS NULL AND r.expires_at <= clock_timestamp())
    ORDER BY o.next_at LIMIT $1";

/// One of them, unless somebody works on it.
const STILL_OVERDUE: &str = "SELECT o.id FROM orders o
    WHERE o.id = $1 AND o.status = 'pending_payment'
      AND EXISTS (SELECT FROM reservation r WHERE r.order_id = o.id AND r.released_at IS NULL
            AND r.consumed_at IS NULL AND r.expires_at <= clock_timestamp())
    FOR UPDATE OF o SKIP LOCKED";

/// Lets orders expire that were not paid while room was held for them, up to `limit`; how many did.
/// Those that somebody works on are left for the next time, and one that breaks it holds up no other.
pub async fn expire_overdue(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "orders", sql: OVERDUE }, limit, async |tx, id| {
        if tx.conn().query_one_raw(statement(STILL_OVERDUE, [id.into()])).await?.is_none() {
            return Ok(false);
        }
        let row = lock(tx, OrderId(id)).await?;
        let ctx = TenantCtx::system(row.tenant_id);
        let step = step(tx.conn(), Actor::System, row, Status::Expired, "It was not paid in time.");
        if let Some((_, entry)) = step.await? {
            tx.audit(&ctx, entry).await?;
        }
        Ok(true)
    })
    .await
}
