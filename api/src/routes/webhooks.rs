//! Outbound webhooks: who is told of events, and what they were told.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, NoBody, Paging, Success, accepted, created, ok, page, printable,
};
use crate::routes::auth::Nothing;
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::ids::RowId;
use entities::tables::{webhook_attempt, webhook_delivery, webhook_endpoint};
use entities::tenancy::Permission;
use entities::webhooks::deliveries::{self, State as Stands};
use entities::webhooks::{self, Change, New};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_webhook_endpoint)
        .service(list_webhook_endpoints)
        .service(view_webhook_endpoint)
        .service(update_webhook_endpoint)
        .service(delete_webhook_endpoint)
        .service(rotate_webhook_secret)
        .service(test_webhook_endpoint)
        .service(list_webhook_deliveries)
        .service(view_webhook_delivery)
        .service(replay_webhook_delivery);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookEndpointNew {
    /// Where events are sent: `https://`, at a public address.
    #[validate(length(min = 8, max = 500))]
    #[schema(schema_with = schema::webhook_url)]
    url: String,
    /// For those who look at it later.
    #[serde(default)]
    #[validate(length(max = 200), custom(function = printable))]
    #[schema(schema_with = schema::note_200)]
    description: String,
    /// What it is told of; left out or empty: everything.
    #[serde(default)]
    #[schema(schema_with = schema::webhook_events)]
    events: BTreeSet<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookEndpointView {
    id: Uuid,
    url: String,
    description: String,
    /// Empty: everything.
    #[schema(value_type = Vec<String>)]
    events: serde_json::Value,
    enabled: bool,
    /// `gone` (it answered 410), `failing` (it took nothing for five days) or `by_hand`.
    disabled_reason: Option<String>,
    disabled_at: Option<DateTime<Utc>>,
    /// Since when it has taken nothing.
    failing_since: Option<DateTime<Utc>>,
    /// Until when the secret before the last rotation signs, too.
    old_secret_until: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<webhook_endpoint::Model> for WebhookEndpointView {
    fn from(row: webhook_endpoint::Model) -> Self {
        Self {
            id: row.id.0,
            url: row.url,
            description: row.description,
            events: row.events,
            enabled: row.disabled_at.is_none(),
            disabled_reason: row.disabled_reason,
            disabled_at: row.disabled_at,
            failing_since: row.failing_since,
            old_secret_until: row.old_until.filter(|until| *until > Utc::now()),
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookEndpointMade {
    /// What the calls are signed with, for a library of the Standard Webhooks specification. Shown
    /// this once.
    secret: String,
    #[serde(flatten)]
    about: WebhookEndpointView,
}

/// Makes an endpoint: it is told of what happens to the tenant that is acted in and to all below it,
/// by the Standard Webhooks specification 1.0.0 (headers `webhook-id`, `webhook-timestamp` and
/// `webhook-signature`; body `{type, timestamp, data}`). An answer of 2xx takes an event; anything
/// else, and a redirect, is tried again for three days. 410 disables the endpoint.
#[utoipa::path(
    tag = "webhooks",
    request_body = WebhookEndpointNew,
    responses((status = 201, body = Success<WebhookEndpointMade>))
)]
#[post("/api/webhook-endpoints")]
async fn create_webhook_endpoint(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<WebhookEndpointNew>,
) -> Result<Answer<WebhookEndpointMade>, ApiError> {
    let new = New { url: body.url, description: body.description, events: body.events };
    let tx = state.db.write(&caller.0, Permission::WebhooksWrite).await?;
    let keys = state.secrets.sealing();
    let (row, secret) = webhooks::create_endpoint(&tx, keys, state.webhooks, new).await?;
    tx.commit().await?;
    Ok(created(WebhookEndpointMade {
        secret: secret.expose_secret().to_owned(),
        about: row.into(),
    }))
}

/// The endpoints of the tenant that is acted in, newest first.
#[utoipa::path(
    tag = "webhooks",
    params(Pages),
    responses((status = 200, body = Success<Vec<WebhookEndpointView>>))
)]
#[get("/api/webhook-endpoints")]
async fn list_webhook_endpoints(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<WebhookEndpointView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::WebhooksRead).await?;
    let (rows, total) = webhooks::list_endpoints(&tx, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// One endpoint.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the endpoint")),
    responses((status = 200, body = Success<WebhookEndpointView>))
)]
#[get("/api/webhook-endpoints/{id}")]
async fn view_webhook_endpoint(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<WebhookEndpointView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::WebhooksRead).await?;
    Ok(ok(webhooks::find_endpoint(&tx, RowId(*id)).await?.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookEndpointChange {
    #[validate(length(min = 8, max = 500))]
    #[schema(schema_with = schema::maybe_webhook_url)]
    url: Option<String>,
    #[validate(length(max = 200), custom(function = printable))]
    #[schema(schema_with = schema::maybe_note_200)]
    description: Option<String>,
    #[schema(schema_with = schema::maybe_webhook_events)]
    events: Option<BTreeSet<String>>,
    /// What waits is sent when it is enabled again; what happens while it is disabled is not told.
    enabled: Option<bool>,
}

/// Changes an endpoint; what is left out stays.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the endpoint")),
    request_body = WebhookEndpointChange,
    responses((status = 200, body = Success<WebhookEndpointView>))
)]
#[patch("/api/webhook-endpoints/{id}")]
async fn update_webhook_endpoint(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<WebhookEndpointChange>,
) -> Result<Answer<WebhookEndpointView>, ApiError> {
    let change = Change {
        url: body.url,
        description: body.description,
        events: body.events,
        enabled: body.enabled,
    };
    let tx = state.db.write(&caller.0, Permission::WebhooksWrite).await?;
    let row = webhooks::update_endpoint(&tx, state.webhooks, RowId(*id), change).await?;
    tx.commit().await?;
    Ok(ok(row.into()))
}

/// Takes an endpoint away, with the log of what it was told.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the endpoint")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/webhook-endpoints/{id}")]
async fn delete_webhook_endpoint(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::WebhooksWrite).await?;
    webhooks::delete_endpoint(&tx, RowId(*id)).await?;
    tx.commit().await?;
    Ok(ok(Nothing {}))
}

/// Gives an endpoint a new secret. For 24 hours each call is signed with both, so that the receiver
/// can be changed in peace.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the endpoint")),
    responses((status = 201, body = Success<WebhookEndpointMade>))
)]
#[post("/api/webhook-endpoints/{id}/rotate-secret")]
async fn rotate_webhook_secret(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<WebhookEndpointMade>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::WebhooksWrite).await?;
    let (row, secret) = webhooks::rotate_secret(&tx, state.secrets.sealing(), RowId(*id)).await?;
    tx.commit().await?;
    Ok(created(WebhookEndpointMade {
        secret: secret.expose_secret().to_owned(),
        about: row.into(),
    }))
}

/// Sends an endpoint an event `webhook.test`, whatever it wants to hear; the delivery tells what came
/// of it.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the endpoint")),
    responses((status = 202, body = Success<WebhookDeliveryView>))
)]
#[post("/api/webhook-endpoints/{id}/test")]
async fn test_webhook_endpoint(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<WebhookDeliveryView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::WebhooksWrite).await?;
    let row = deliveries::test_endpoint(&tx, RowId(*id)).await?;
    tx.commit().await?;
    Ok(accepted(row.into()))
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookDeliveryView {
    id: Uuid,
    endpoint_id: Uuid,
    /// As the endpoint is told it in `webhook-id`, at each try the same.
    webhook_id: String,
    /// What is told, such as `migration.completed`.
    event: String,
    /// `pending`, `delivered` or `failed` (given up).
    state: String,
    /// How often it was tried since it was made or sent again.
    attempts: i32,
    /// When a pending one is tried next.
    next_at: Option<DateTime<Utc>>,
    delivered_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<webhook_delivery::Model> for WebhookDeliveryView {
    fn from(row: webhook_delivery::Model) -> Self {
        let (state, is_pending) = match Stands::of(&row) {
            Stands::Pending => ("pending", true),
            Stands::Delivered => ("delivered", false),
            Stands::Failed => ("failed", false),
        };
        Self {
            id: row.id.0,
            endpoint_id: row.endpoint_id.0,
            webhook_id: deliveries::webhook_id(row.event_id),
            event: row.event,
            state: state.to_owned(),
            attempts: row.attempts,
            next_at: is_pending.then_some(row.next_at),
            delivered_at: row.delivered_at,
            failed_at: row.failed_at,
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DeliveriesWanted {
    /// `pending`, `delivered` or `failed`; left out: all.
    #[param(schema_with = schema::delivery_state)]
    state: Option<DeliveryState>,
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DeliveryState {
    Pending,
    Delivered,
    Failed,
}

/// What an endpoint was told in the last 30 days, and is to be told, newest first.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the endpoint"), DeliveriesWanted),
    responses((status = 200, body = Success<Vec<WebhookDeliveryView>>))
)]
#[get("/api/webhook-endpoints/{id}/deliveries")]
async fn list_webhook_deliveries(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    query: web::Query<DeliveriesWanted>,
) -> Result<Answer<Vec<WebhookDeliveryView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let wanted = query.state.map(|state| match state {
        DeliveryState::Pending => Stands::Pending,
        DeliveryState::Delivered => Stands::Delivered,
        DeliveryState::Failed => Stands::Failed,
    });
    let tx = state.db.read(&caller.0, Permission::WebhooksRead).await?;
    let place = (paging.offset(), paging.per_page);
    let (rows, total) = deliveries::list_deliveries(&tx, RowId(*id), wanted, place).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookAttemptView {
    /// What the endpoint answered with; null: nothing came.
    status: Option<i32>,
    /// Why it counts as failed; null: the event was taken.
    error: Option<String>,
    /// How the answer began.
    answer: String,
    duration_ms: i64,
    created_at: DateTime<Utc>,
}

impl From<webhook_attempt::Model> for WebhookAttemptView {
    fn from(row: webhook_attempt::Model) -> Self {
        Self {
            status: row.status,
            error: row.error,
            answer: row.answer,
            duration_ms: row.duration_ms,
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookDeliveryWhole {
    #[serde(flatten)]
    about: WebhookDeliveryView,
    /// What is sent, byte for byte.
    body: String,
    /// Every try, the oldest first.
    tries: Vec<WebhookAttemptView>,
}

/// One delivery, with its body and every try.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the delivery")),
    responses((status = 200, body = Success<WebhookDeliveryWhole>))
)]
#[get("/api/webhook-deliveries/{id}")]
async fn view_webhook_delivery(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<WebhookDeliveryWhole>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::WebhooksRead).await?;
    let (row, tries) = deliveries::find_delivery(&tx, RowId(*id)).await?;
    Ok(ok(WebhookDeliveryWhole {
        body: row.body.clone(),
        about: row.into(),
        tries: tries.into_iter().map(Into::into).collect(),
    }))
}

/// Sends a delivery again, whatever became of it, with the same `webhook-id` and body.
#[utoipa::path(
    tag = "webhooks",
    params(("id" = Uuid, Path, description = "the delivery")),
    responses((status = 202, body = Success<WebhookDeliveryView>))
)]
#[post("/api/webhook-deliveries/{id}/replay")]
async fn replay_webhook_delivery(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<WebhookDeliveryView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::WebhooksWrite).await?;
    let row = deliveries::replay(&tx, RowId(*id)).await?;
    tx.commit().await?;
    Ok(accepted(row.into()))
}
