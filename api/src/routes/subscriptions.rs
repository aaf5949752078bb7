//! What is paid for again and again.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, NoBody, Paging, Success, ok, page};
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{get, post, web};
use billing::change::{self, Deed, Preview, Seen, Wanted};
use chrono::{DateTime, Utc};
use entities::billing::subscriptions::{self, Status};
use entities::error::Error;
use entities::ids::{PriceId, SubscriptionId};
use entities::tables::subscription;
use entities::tenancy::{Permission, TenantCtx};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_subscriptions)
        .service(view_subscription)
        .service(preview_subscription)
        .service(change_subscription)
        .service(cancel_subscription)
        .service(keep_subscription)
        .service(pause_subscription)
        .service(resume_subscription);
}

/// One thing that is paid for.
#[derive(Debug, Serialize, ToSchema)]
struct SubscriptionItemView {
    /// Of the catalogue.
    price_id: Option<Uuid>,
    quantity: i64,
}

/// What is paid for again and again with an order.
#[derive(Debug, Serialize, ToSchema)]
struct SubscriptionView {
    id: Uuid,
    order_id: Uuid,
    #[schema(schema_with = schema::subscription_status)]
    status: Status,
    currency: String,
    items: Vec<SubscriptionItemView>,
    /// What is paid for now.
    period_start: Option<DateTime<Utc>>,
    period_end: Option<DateTime<Utc>>,
    trial_end: Option<DateTime<Utc>>,
    cancel_at_period_end: bool,
    /// When it is going to end.
    cancel_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    /// Since when money is missing.
    past_due_since: Option<DateTime<Utc>>,
    /// Where it can be paid, and where the bank's questions are answered.
    action_url: Option<String>,
    started_at: Option<DateTime<Utc>>,
}

fn view(row: subscription::Model) -> Result<SubscriptionView, Error> {
    let items = subscriptions::items(&row)?.into_iter().map(|item| SubscriptionItemView {
        price_id: item.price.map(|id| id.0),
        quantity: item.quantity,
    });
    Ok(SubscriptionView {
        items: items.collect(),
        id: row.id.0,
        order_id: row.order_id.0,
        status: row.status,
        currency: row.currency,
        period_start: row.period_start,
        period_end: row.period_end,
        trial_end: row.trial_end,
        cancel_at_period_end: row.cancel_at_period_end,
        cancel_at: row.cancel_at,
        ended_at: row.ended_at,
        past_due_since: row.past_due_at,
        action_url: row.action_url,
        started_at: row.started_at,
    })
}

/// The tenant's subscriptions, newest first.
#[utoipa::path(
    tag = "subscriptions",
    params(Pages),
    responses((status = 200, body = Success<Vec<SubscriptionView>>))
)]
#[get("/api/subscriptions")]
async fn list_subscriptions(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<SubscriptionView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    let (rows, total) =
        subscriptions::list_subscriptions(&tx, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

async fn show(
    state: &State,
    ctx: &TenantCtx,
    id: Uuid,
) -> Result<Answer<SubscriptionView>, ApiError> {
    let tx = state.db.read(ctx, Permission::BillingRead).await?;
    let row = subscriptions::find_subscription(&tx, SubscriptionId(id)).await?;
    Ok(ok(view(row)?))
}

/// A subscription.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    responses((status = 200, body = Success<SubscriptionView>))
)]
#[get("/api/subscriptions/{id}")]
async fn view_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<SubscriptionView>, ApiError> {
    show(&state, &caller.0, *id).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceWanted {
    /// What is to be paid: a price of the catalogue, of the same kind, currency and tenant's view.
    price_id: Uuid,
    /// What it takes the place of; left out: the only one.
    #[serde(default)]
    from_price_id: Option<Uuid>,
}

/// What a change comes to.
#[derive(Debug, Serialize, ToSchema)]
struct ProrationView {
    /// What is charged at once; below zero: what is credited.
    due_now: SumView,
    lines: Vec<ProrationLine>,
    /// To be sent with the change.
    proration_at: DateTime<Utc>,
}

/// An amount in the minor units of its currency that may be below zero: a credit.
#[derive(Debug, Serialize, ToSchema)]
struct SumView {
    amount: i64,
    #[schema(schema_with = schema::currency)]
    currency: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProrationLine {
    description: String,
    money: SumView,
    period_start: Option<DateTime<Utc>>,
    period_end: Option<DateTime<Utc>>,
}

fn shown(preview: Preview) -> ProrationView {
    let currency = preview.currency;
    let sum = |amount| SumView { amount, currency: currency.clone() };
    let lines = preview.lines.into_iter().map(|line| ProrationLine {
        description: line.description,
        money: sum(line.amount),
        period_start: line.period_start,
        period_end: line.period_end,
    });
    let lines = lines.collect();
    ProrationView { due_now: sum(preview.due_now), lines, proration_at: preview.at }
}

fn wanted(id: Uuid, price: Uuid, from: Option<Uuid>) -> Wanted {
    Wanted { subscription: SubscriptionId(id), from: from.map(PriceId), to: PriceId(price) }
}

/// What changing to another price would come to now: what is charged or credited for the rest of the
/// period. Nothing is changed. A plan of CloudPods with a smaller disk is refused, and one that their
/// servers have no room for.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    request_body = PriceWanted,
    responses((status = 200, body = Success<ProrationView>))
)]
#[post("/api/subscriptions/{id}/preview")]
async fn preview_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<PriceWanted>,
) -> Result<Answer<ProrationView>, ApiError> {
    let wanted = wanted(*id, body.price_id, body.from_price_id);
    let preview = change::preview(&state.billing, &caller.0, wanted).await?;
    Ok(ok(shown(preview)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceChange {
    price_id: Uuid,
    #[serde(default)]
    from_price_id: Option<Uuid>,
    /// As the preview said.
    proration_at: DateTime<Utc>,
    /// The preview's `due_now`, in minor units.
    due_now: i64,
}

/// Changes to another price, at what the preview has shown. When it comes to another amount by now, or
/// cannot be paid, nothing is changed.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    request_body = PriceChange,
    responses((status = 200, body = Success<SubscriptionView>))
)]
#[post("/api/subscriptions/{id}/change")]
async fn change_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<PriceChange>,
) -> Result<Answer<SubscriptionView>, ApiError> {
    let wanted = wanted(*id, body.price_id, body.from_price_id);
    let seen = Seen { at: body.proration_at, due_now: body.due_now };
    change::change(&state.billing, &caller.0, wanted, seen).await?;
    show(&state, &caller.0, *id).await
}

/// When a subscription is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EndingWhen {
    PeriodEnd,
    Now,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Ending {
    /// `period_end`, or `now`, which takes an OWNER: what was bought is suspended at once, and nothing
    /// is given back by itself.
    when: EndingWhen,
}

async fn carry_out(
    state: &State,
    ctx: &TenantCtx,
    id: Uuid,
    deed: Deed,
) -> Result<Answer<SubscriptionView>, ApiError> {
    change::carry_out(&state.billing, ctx, SubscriptionId(id), deed).await?;
    show(state, ctx, id).await
}

/// Ends a subscription. What was bought is kept for a while after its end, and then terminated.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    request_body = Ending,
    responses((status = 200, body = Success<SubscriptionView>))
)]
#[post("/api/subscriptions/{id}/cancel")]
async fn cancel_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Ending>,
) -> Result<Answer<SubscriptionView>, ApiError> {
    let deed = match body.when {
        EndingWhen::PeriodEnd => Deed::CancelAtPeriodEnd,
        EndingWhen::Now => Deed::CancelNow,
    };
    carry_out(&state, &caller.0, *id, deed).await
}

/// Lets a subscription go on that was to end with its period.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    responses((status = 200, body = Success<SubscriptionView>))
)]
#[post("/api/subscriptions/{id}/keep")]
async fn keep_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<SubscriptionView>, ApiError> {
    carry_out(&state, &caller.0, *id, Deed::KeepOn).await
}

/// Pauses a subscription: nothing is charged, and what was bought is suspended.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    responses((status = 200, body = Success<SubscriptionView>))
)]
#[post("/api/subscriptions/{id}/pause")]
async fn pause_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<SubscriptionView>, ApiError> {
    carry_out(&state, &caller.0, *id, Deed::Pause).await
}

/// Lets a paused subscription go on.
#[utoipa::path(
    tag = "subscriptions",
    params(("id" = Uuid, Path, description = "the subscription")),
    responses((status = 200, body = Success<SubscriptionView>))
)]
#[post("/api/subscriptions/{id}/resume")]
async fn resume_subscription(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<SubscriptionView>, ApiError> {
    carry_out(&state, &caller.0, *id, Deed::Resume).await
}
