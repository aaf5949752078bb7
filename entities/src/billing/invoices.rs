//! Invoices as Stripe wrote them.

use crate::Result;
use crate::audit::Audit;
use crate::billing::{customers, subscriptions};
use crate::db::{SystemTx, TenantTx};
use crate::error::Error;
use crate::ids::{InvoiceId, OrderId};
use crate::tables::invoice::{self, Column};
use crate::tables::orders;
use crate::tenancy::TenantCtx;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use values::Money;

/// What lowers an invoice after it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreditNote {
    pub stripe_id: String,
    pub number: String,
    /// In minor units of the invoice's currency.
    pub amount: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdf_url: Option<String>,
}

/// What was seen of an invoice at Stripe.
#[derive(Debug, Clone)]
pub struct Seen {
    pub stripe_id: String,
    pub customer: String,
    /// By Stripe's id.
    pub subscription: Option<String>,
    /// What we wrote into it.
    pub order: Option<OrderId>,
    pub number: Option<String>,
    /// `draft`, `open`, `paid`, `void` or `uncollectible`.
    pub status: String,
    pub reason: Option<String>,
    pub currency: String,
    pub subtotal: i64,
    pub tax: i64,
    pub total: i64,
    pub amount_paid: i64,
    pub amount_remaining: i64,
    pub attempts: i64,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub requires_action: bool,
    pub page_url: Option<String>,
    pub pdf_url: Option<String>,
    pub credit_notes: Vec<CreditNote>,
    pub period_start: Option<DateTime<Utc>>,
    pub period_end: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// How far an invoice is: it never goes back, so that what was seen earlier changes nothing.
fn rank(status: &str) -> u8 {
    match status {
        "draft" => 0,
        "open" => 1,
        "uncollectible" => 2,
        // An invoice that was given up may be paid still.
        "paid" | "void" => 3,
        _ => 0,
    }
}

/// Brings our row to what was seen; answers the order that it belongs to. None: it is none of ours, or
/// of no order.
pub async fn record(tx: &SystemTx, seen: &Seen) -> Result<Option<OrderId>> {
    let Some(tenant) = customers::tenant_of(tx, &seen.customer).await? else { return Ok(None) };
    let subscription = match &seen.subscription {
        Some(id) => subscriptions::by_stripe_id(tx, id).await?,
        None => None,
    };
    let subscription = subscription.filter(|row| row.tenant_id == tenant);
    let order = match (&subscription, seen.order) {
        (Some(row), _) => Some(row.order_id),
        (None, Some(id)) => orders::Entity::find_by_id(id)
            .filter(orders::Column::TenantId.eq(tenant))
            .one(tx.conn())
            .await?
            .map(|row| row.id),
        (None, None) => None,
    };
    if let Some(order) = order {
        crate::orders::status::lock(tx, order).await?;
    }
    let known = invoice::Entity::find()
        .filter(Column::StripeId.eq(seen.stripe_id.as_str()))
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    let mut row = match &known {
        Some(row) if rank(&row.status) > rank(&seen.status) => return Ok(order),
        Some(row) => row.clone().into_active_model(),
        None => invoice::ActiveModel {
            id: Set(InvoiceId::new()),
            tenant_id: Set(tenant),
            stripe_id: Set(seen.stripe_id.clone()),
            created_at: Set(seen.created_at),
            ..Default::default()
        },
    };
    fill(&mut row, seen)?;
    row.subscription_id = Set(subscription.map(|row| row.id));
    row.order_id = Set(order);
    let row = match known {
        Some(_) => row.update(tx.conn()).await?,
        None => row.insert(tx.conn()).await?,
    };
    tell(tx, known.as_ref(), &row).await?;
    Ok(order)
}

fn fill(row: &mut invoice::ActiveModel, seen: &Seen) -> Result<()> {
    row.number = Set(seen.number.clone());
    row.status = Set(seen.status.clone());
    row.reason = Set(seen.reason.clone());
    row.currency = Set(seen.currency.clone());
    row.subtotal = Set(seen.subtotal);
    row.tax = Set(seen.tax);
    row.total = Set(seen.total);
    row.amount_paid = Set(seen.amount_paid);
    row.amount_remaining = Set(seen.amount_remaining);
    row.attempts = Set(seen.attempts);
    row.next_attempt_at = Set(seen.next_attempt_at);
    row.requires_action = Set(seen.requires_action);
    row.page_url = Set(seen.page_url.clone());
    row.pdf_url = Set(seen.pdf_url.clone());
    row.credit_notes = Set(serde_json::to_value(&seen.credit_notes)?);
    row.period_start = Set(seen.period_start);
    row.period_end = Set(seen.period_end);
    Ok(())
}

/// Writes down what is news: that it was paid, that a try to charge it failed, that the customer must
/// do something.
async fn tell(tx: &SystemTx, before: Option<&invoice::Model>, row: &invoice::Model) -> Result<()> {
    let ctx = TenantCtx::system(row.tenant_id);
    let was_paid = before.is_some_and(|row| row.status == "paid");
    if row.status == "paid" && !was_paid {
        let entry = Audit::InvoicePaid {
            invoice: row.id,
            number: row.number.clone(),
            money: Money::new(row.amount_paid, row.currency.parse()?),
        };
        tx.audit(&ctx, entry).await?;
    }
    let Some(order) = row.order_id else { return Ok(()) };
    let tried = before.map_or(0, |row| row.attempts);
    let failed = row.status == "open" && row.attempts > tried;
    let asked = before.is_some_and(|row| row.requires_action);
    if row.requires_action && !asked {
        tx.audit(&ctx, Audit::PaymentActionRequired { order }).await?;
    } else if failed {
        let number = row.number.as_deref().unwrap_or("of the subscription");
        let reason = format!("The invoice {number} could not be charged (try {}).", row.attempts);
        tx.audit(&ctx, Audit::PaymentFailed { order, reason }).await?;
    }
    Ok(())
}

/// A page of the tenant's invoices but for drafts, newest first, and how many there are.
pub async fn list_invoices(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<invoice::Model>, u64)> {
    let query = tx.own::<invoice::Entity>().filter(Column::Status.ne("draft"));
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// An invoice of the tenant.
pub async fn find_invoice(tx: &TenantTx, id: InvoiceId) -> Result<invoice::Model> {
    tx.own_by_id::<invoice::Entity>(id).one(tx.conn()).await?.ok_or(Error::NotFound("invoice"))
}

/// By Stripe's id, of any tenant.
pub async fn by_stripe_id(tx: &SystemTx, id: &str) -> Result<Option<invoice::Model>> {
    Ok(invoice::Entity::find().filter(Column::StripeId.eq(id)).one(tx.conn()).await?)
}
