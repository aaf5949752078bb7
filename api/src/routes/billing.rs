//! Invoices, payments, what goes back, and the customer's own page at Stripe.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, NoBody, Paging, Success, accepted, field, maybe_whole, ok, page,
};
use crate::routes::catalogue::MoneyView;
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{get, post, web};
use chrono::{DateTime, Utc};
use entities::billing::invoices::{self, CreditNote};
use entities::billing::repayments::{self, Asked, Kind, State as Stands};
use entities::billing::{customers, payments};
use entities::error::Error;
use entities::ids::{InvoiceId, PaymentId};
use entities::tables::{invoice, payment, repayment};
use entities::tenancy::Permission;
use entities::values::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(view_billing)
        .service(open_portal)
        .service(list_invoices)
        .service(view_invoice)
        .service(list_payments)
        .service(refund_payment)
        .service(list_repayments);
}

/// The payment method that is charged.
#[derive(Debug, Serialize, ToSchema)]
struct PaymentMethodView {
    /// `card`, `sepa_debit`.
    kind: String,
    brand: Option<String>,
    last4: Option<String>,
    expires_month: Option<i64>,
    expires_year: Option<i64>,
}

/// The tenant as a customer.
#[derive(Debug, Serialize, ToSchema)]
struct BillingView {
    /// Where Stripe writes to.
    email: Option<String>,
    /// None: nothing was paid yet, or it was taken away.
    payment_method: Option<PaymentMethodView>,
    /// Whether money is missing.
    delinquent: bool,
}

/// How the tenant stands as a customer: what is charged, and whether money is missing.
#[utoipa::path(tag = "billing", responses((status = 200, body = Success<BillingView>)))]
#[get("/api/billing")]
async fn view_billing(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<BillingView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    let Some(row) = customers::find_customer(&tx).await? else {
        return Ok(ok(BillingView { email: None, payment_method: None, delinquent: false }));
    };
    let card: Option<customers::Card> =
        row.card.map(serde_json::from_value).transpose().map_err(Error::from)?;
    let payment_method = card.map(|card| PaymentMethodView {
        kind: card.kind,
        brand: card.brand,
        last4: card.last4,
        expires_month: card.expires_month,
        expires_year: card.expires_year,
    });
    Ok(ok(BillingView { email: row.email, payment_method, delinquent: row.delinquent }))
}

#[derive(Debug, Serialize, ToSchema)]
struct PortalView {
    /// Works once, and for a short while.
    url: String,
}

/// Opens the page of Stripe's on which a customer looks after cards, invoices and subscriptions.
#[utoipa::path(tag = "billing", responses((status = 200, body = Success<PortalView>)))]
#[post("/api/billing/portal")]
async fn open_portal(
    caller: Caller,
    state: web::Data<State>,
    _: NoBody,
) -> Result<Answer<PortalView>, ApiError> {
    let back = format!("{}/billing", state.billing.config.dashboard_url);
    let url = billing::customers::portal(&state.billing, &caller.0, &back).await?;
    Ok(ok(PortalView { url }))
}

/// What lowers an invoice after it was written.
#[derive(Debug, Serialize, ToSchema)]
struct CreditNoteView {
    number: String,
    money: MoneyView,
    pdf_url: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct InvoiceView {
    id: Uuid,
    number: Option<String>,
    order_id: Option<Uuid>,
    subscription_id: Option<Uuid>,
    /// Stripe's word: `open`, `paid`, `void` or `uncollectible`.
    status: String,
    /// Why it was written: `subscription_cycle`.
    reason: Option<String>,
    subtotal: MoneyView,
    tax: MoneyView,
    total: MoneyView,
    paid: MoneyView,
    remaining: MoneyView,
    /// How often it was tried to be charged.
    attempts: i64,
    next_attempt_at: Option<DateTime<Utc>>,
    /// Whether the bank asks the customer for something first: it is done on the page.
    requires_action: bool,
    /// Where it can be looked at and paid.
    page_url: Option<String>,
    pdf_url: Option<String>,
    credit_notes: Vec<CreditNoteView>,
    period_start: Option<DateTime<Utc>>,
    period_end: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

fn view(row: invoice::Model) -> Result<InvoiceView, Error> {
    let currency = row.currency.parse()?;
    let money = |amount| MoneyView::from(Money::new(amount, currency));
    let notes: Vec<CreditNote> = serde_json::from_value(row.credit_notes)?;
    let notes = notes.into_iter().map(|note| CreditNoteView {
        number: note.number,
        money: money(note.amount),
        pdf_url: note.pdf_url,
    });
    Ok(InvoiceView {
        credit_notes: notes.collect(),
        id: row.id.0,
        number: row.number,
        order_id: row.order_id.map(|id| id.0),
        subscription_id: row.subscription_id.map(|id| id.0),
        status: row.status,
        reason: row.reason,
        subtotal: money(row.subtotal),
        tax: money(row.tax),
        total: money(row.total),
        paid: money(row.amount_paid),
        remaining: money(row.amount_remaining),
        attempts: row.attempts,
        next_attempt_at: row.next_attempt_at,
        requires_action: row.requires_action,
        page_url: row.page_url,
        pdf_url: row.pdf_url,
        period_start: row.period_start,
        period_end: row.period_end,
        created_at: row.created_at,
    })
}

/// The tenant's invoices, newest first, each with its PDF.
#[utoipa::path(
    tag = "billing",
    params(Pages),
    responses((status = 200, body = Success<Vec<InvoiceView>>))
)]
#[get("/api/invoices")]
async fn list_invoices(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<InvoiceView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    let (rows, total) = invoices::list_invoices(&tx, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

/// An invoice.
#[utoipa::path(
    tag = "billing",
    params(("id" = Uuid, Path, description = "the invoice")),
    responses((status = 200, body = Success<InvoiceView>))
)]
#[get("/api/invoices/{id}")]
async fn view_invoice(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<InvoiceView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    Ok(ok(view(invoices::find_invoice(&tx, InvoiceId(*id)).await?)?))
}

#[derive(Debug, Serialize, ToSchema)]
struct PaymentView {
    id: Uuid,
    order_id: Uuid,
    /// Stripe's word.
    status: String,
    money: MoneyView,
    /// What of it went back.
    refunded: MoneyView,
    created_at: DateTime<Utc>,
}

fn payment_view(row: payment::Model) -> Result<PaymentView, Error> {
    let currency = row.currency.parse()?;
    Ok(PaymentView {
        id: row.id.0,
        order_id: row.order_id.0,
        status: row.status,
        money: Money::new(row.amount, currency).into(),
        refunded: Money::new(row.refunded, currency).into(),
        created_at: row.created_at,
    })
}

/// What the tenant has paid, newest first.
#[utoipa::path(
    tag = "billing",
    params(Pages),
    responses((status = 200, body = Success<Vec<PaymentView>>))
)]
#[get("/api/payments")]
async fn list_payments(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<PaymentView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    let (rows, total) = payments::list_payments(&tx, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(payment_view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

/// Money that goes back.
#[derive(Debug, Serialize, ToSchema)]
struct RepaymentView {
    id: Uuid,
    order_id: Uuid,
    payment_id: Option<Uuid>,
    /// `refund`: to where it came from; `credit`: it lowers what is billed next.
    #[schema(schema_with = schema::repayment_kind)]
    kind: Kind,
    money: MoneyView,
    cause: String,
    #[schema(schema_with = schema::repayment_state)]
    state: Stands,
    /// Why it did not go.
    error: Option<String>,
    created_at: DateTime<Utc>,
}

fn repayment_view(row: repayment::Model) -> Result<RepaymentView, Error> {
    Ok(RepaymentView {
        id: row.id.0,
        order_id: row.order_id.0,
        payment_id: row.payment_id.map(|id| id.0),
        kind: row.kind,
        money: Money::new(row.amount, row.currency.parse()?).into(),
        cause: row.cause,
        state: row.state,
        error: row.error,
        created_at: row.created_at,
    })
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct RefundNew {
    /// In minor units; left out: all that is left.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1)]
    amount: Option<i64>,
    /// For the customer, and for those who look at it later.
    #[schema(schema_with = schema::title)]
    reason: String,
}

/// Gives money of a payment of any tenant back, for the platform's people. When all of it went back,
/// what was bought is suspended.
#[utoipa::path(
    tag = "billing",
    params(("id" = Uuid, Path, description = "the payment")),
    request_body = RefundNew,
    responses((status = 202, body = Success<RepaymentView>))
)]
#[post("/api/payments/{id}/refund")]
async fn refund_payment(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<RefundNew>,
) -> Result<Answer<RepaymentView>, ApiError> {
    let asked = Asked {
        payment: PaymentId(*id),
        amount: body.amount,
        reason: field("reason", &body.reason)?,
    };
    let row = repayments::refund(&state.db, &caller.0, &asked).await?;
    Ok(accepted(repayment_view(row)?))
}

/// What went back to the tenant, or is on its way, newest first.
#[utoipa::path(
    tag = "billing",
    params(Pages),
    responses((status = 200, body = Success<Vec<RepaymentView>>))
)]
#[get("/api/repayments")]
async fn list_repayments(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<RepaymentView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    let (rows, total) = repayments::list_repayments(&tx, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(repayment_view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}
