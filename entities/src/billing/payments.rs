//! Money that came, and what customers' banks ask back of it.

use crate::Result;
use crate::audit::Audit;
use crate::billing::customers;
use crate::db::{SystemTx, TenantTx, statement};
use crate::error::Error;
use crate::ids::{OrderId, PaymentId, RowId};
use crate::orders;
use crate::tables::dispute;
use crate::tables::payment::{self, Column};
use crate::tenancy::TenantCtx;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use values::Money;

/// What was seen of a payment at Stripe.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Of the PaymentIntent.
    pub stripe_id: String,
    pub customer: Option<String>,
    pub order: OrderId,
    /// What it paid, by its id at Stripe.
    pub invoice: Option<String>,
    /// `succeeded`, `processing`, `requires_action` and others.
    pub status: String,
    pub currency: String,
    /// What came.
    pub amount: i64,
    /// What of it went back.
    pub refunded: i64,
    pub created_at: DateTime<Utc>,
}

/// Brings our row to what was seen; none: it is none of ours. Only money that came is kept.
pub async fn record(
    tx: &SystemTx,
    seen: &Seen,
    look: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Option<payment::Model>> {
    let order = match orders::status::lock(tx, seen.order).await {
        Err(Error::NotFound(_)) => return Ok(None),
        order => order?,
    };
    let customer = customers::customer_of(tx, order.tenant_id).await?;
    if customer.is_none() || customer != seen.customer {
        return Ok(None);
    }
    let known = payment::Entity::find()
        .filter(Column::StripeId.eq(seen.stripe_id.as_str()))
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    // Somebody who looked later was quicker; or somebody made the row since this look was begun.
    if let Some(row) = &known
        && look.map_or(seen.refunded < row.refunded, |look| look <= row.seen)
    {
        return Ok(known);
    }
    let mut row = match &known {
        Some(row) => row.clone().into_active_model(),
        None if seen.status != "succeeded" => return Ok(None),
        None => payment::ActiveModel {
            id: Set(PaymentId::new()),
            tenant_id: Set(order.tenant_id),
            order_id: Set(order.id),
            stripe_id: Set(seen.stripe_id.clone()),
            looks: Set(0),
            created_at: Set(seen.created_at),
            ..Default::default()
        },
    };
    if seen.invoice.is_some() {
        row.invoice = Set(seen.invoice.clone());
    }
    row.status = Set(seen.status.clone());
    row.currency = Set(seen.currency.clone());
    row.amount = Set(seen.amount);
    row.refunded = Set(seen.refunded);
    let was_back = known.as_ref().and_then(|row| row.refunded_at);
    let is_back = seen.amount > 0 && seen.refunded >= seen.amount;
    row.refunded_at = Set(is_back.then(|| was_back.unwrap_or(now)));
    row.seen = Set(look.or_else(|| known.as_ref().map(|row| row.seen)).unwrap_or(0));
    if known.is_some() {
        return Ok(Some(row.update(tx.conn()).await?));
    }
    let row = row.insert(tx.conn()).await?;
    let entry = Audit::PaymentSucceeded {
        payment: row.id,
        order: order.id,
        money: Money::new(row.amount, row.currency.parse()?),
    };
    tx.audit(&TenantCtx::system(order.tenant_id), entry).await?;
    Ok(Some(row))
}

/// By Stripe's id of the PaymentIntent, of any tenant.
pub async fn by_stripe_id(tx: &SystemTx, id: &str) -> Result<Option<payment::Model>> {
    Ok(payment::Entity::find().filter(Column::StripeId.eq(id)).one(tx.conn()).await?)
}

/// What came for an order and is its own: not what came when nobody could take it, oldest first.
pub(crate) async fn wanted_of_order(tx: &SystemTx, order: OrderId) -> Result<Vec<payment::Model>> {
    let mut rows = of_order(tx, order).await?;
    let back = super::repayments::of_order(tx, order).await?;
    rows.retain(|row| {
        let reference = super::repayments::unwanted(row.id);
        !back.iter().any(|repayment| repayment.reference == reference)
    });
    Ok(rows)
}

/// Numbers a look that is about to begin, for [`record`]: of two looks the one that was begun later
/// stands. None: the payment is not known yet.
pub async fn begin_look(tx: &SystemTx, stripe_id: &str) -> Result<Option<i64>> {
    let sql = "UPDATE payment SET looks = looks + 1 WHERE stripe_id = $1 RETURNING looks";
    let row = tx.conn().query_one_raw(statement(sql, [stripe_id.into()])).await?;
    row.map(|row| row.try_get("", "looks").map_err(Error::from)).transpose()
}

/// What came for an order, oldest first.
pub async fn of_order(tx: &SystemTx, order: OrderId) -> Result<Vec<payment::Model>> {
    Ok(payment::Entity::find()
        .filter(Column::OrderId.eq(order))
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Id)
        .all(tx.conn())
        .await?)
}

/// A page of the tenant's payments, newest first, and how many there are.
pub async fn list_payments(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<payment::Model>, u64)> {
    let query = tx.own::<payment::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A payment of any tenant, locked.
pub(crate) async fn lock(tx: &SystemTx, id: PaymentId) -> Result<payment::Model> {
    let row = payment::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("payment"))
}

/// What was seen of a dispute at Stripe.
#[derive(Debug, Clone)]
pub struct SeenDispute {
    pub stripe_id: String,
    /// Of the PaymentIntent.
    pub payment: String,
    pub status: String,
    pub reason: String,
    pub currency: String,
    pub amount: i64,
    pub created_at: DateTime<Utc>,
}

/// Whether a dispute is over, and how: what was seen before it ended changes nothing.
fn is_closed(status: &str) -> bool {
    matches!(status, "won" | "lost" | "warning_closed" | "prevented")
}

/// Brings our row to what was seen; answers the order that was paid. None: it is none of ours.
pub async fn record_dispute(
    tx: &SystemTx,
    seen: &SeenDispute,
    now: DateTime<Utc>,
) -> Result<Option<OrderId>> {
    let Some(payment) = by_stripe_id(tx, &seen.payment).await? else { return Ok(None) };
    orders::status::lock(tx, payment.order_id).await?;
    let known = dispute::Entity::find()
        .filter(dispute::Column::StripeId.eq(seen.stripe_id.as_str()))
        .one(tx.conn())
        .await?;
    if known.as_ref().is_some_and(|row| row.status == seen.status || is_closed(&row.status)) {
        return Ok(Some(payment.order_id));
    }
    let is_new = known.is_none();
    let mut row = match known {
        Some(row) => row.into_active_model(),
        None => dispute::ActiveModel {
            id: Set(RowId::new()),
            tenant_id: Set(payment.tenant_id),
            payment_id: Set(payment.id),
            stripe_id: Set(seen.stripe_id.clone()),
            created_at: Set(seen.created_at),
            ..Default::default()
        },
    };
    row.status = Set(seen.status.clone());
    row.reason = Set(seen.reason.clone());
    row.currency = Set(seen.currency.clone());
    row.amount = Set(seen.amount);
    row.closed_at = Set(is_closed(&seen.status).then_some(now));
    let ctx = TenantCtx::system(payment.tenant_id);
    let (order, money) = (payment.order_id, Money::new(seen.amount, seen.currency.parse()?));
    if is_new {
        row.insert(tx.conn()).await?;
        tx.audit(&ctx, Audit::DisputeOpened { order, money, reason: seen.reason.clone() }).await?;
    } else {
        row.update(tx.conn()).await?;
    }
    if is_closed(&seen.status) {
        tx.audit(&ctx, Audit::DisputeClosed { order, money, status: seen.status.clone() }).await?;
    }
    Ok(Some(order))
}

/// The disputes of an order's payments.
pub async fn disputes_of(
    tx: &SystemTx,
    payments: &[payment::Model],
) -> Result<Vec<dispute::Model>> {
    let ids = payments.iter().map(|payment| payment.id);
    let query = dispute::Entity::find().filter(dispute::Column::PaymentId.is_in(ids));
    Ok(query.order_by_asc(dispute::Column::CreatedAt).all(tx.conn()).await?)
}
