//! Paying for an order: a page of Stripe's, and the way back from it.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, NoBody, Success, ok};
use crate::schema;
use crate::state::State;
use actix_web::http::header;
use actix_web::{HttpResponse, get, post, web};
use billing::{checkout, look};
use chrono::{DateTime, Utc};
use entities::billing::checkouts::{self, State as Stands};
use entities::error::Error;
use entities::ids::OrderId;
use entities::tables::checkout as table;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(open_checkout)
        .service(view_checkout)
        .service(close_checkout)
        .service(return_from_checkout);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CheckoutNew {
    /// A discount; left out, one may be entered on the page.
    #[serde(default)]
    #[validate(length(min = 1, max = 100))]
    #[schema(schema_with = schema::maybe_title)]
    promotion_code: Option<String>,
}

/// An attempt to pay for an order.
#[derive(Debug, Serialize, ToSchema)]
struct CheckoutView {
    order_id: Uuid,
    /// Counts from 1.
    attempt: i32,
    #[schema(schema_with = schema::checkout_state)]
    state: Stands,
    /// Where the buyer pays, while it is open.
    url: Option<String>,
    /// Stripe's word: `unpaid`, `paid`, `no_payment_required`, or `requires_action` while the bank asks
    /// the buyer for something.
    payment_state: Option<String>,
    /// Why it came to nothing.
    error: Option<String>,
    expires_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl From<table::Model> for CheckoutView {
    fn from(row: table::Model) -> Self {
        Self {
            order_id: row.order_id.0,
            attempt: row.attempt,
            state: row.state,
            url: row.url,
            payment_state: row.payment_state,
            error: row.error,
            expires_at: row.expires_at,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

/// Opens a page on which the order is paid for, or answers the one that is open. Room is held for the
/// order until it runs out, a day later; then it may be opened again.
#[utoipa::path(
    tag = "checkout",
    params(("id" = Uuid, Path, description = "the order")),
    request_body = CheckoutNew,
    responses((status = 200, body = Success<CheckoutView>))
)]
#[post("/api/orders/{id}/checkout")]
async fn open_checkout(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CheckoutNew>,
) -> Result<Answer<CheckoutView>, ApiError> {
    let code = body.promotion_code;
    let row = checkout::open(&state.billing, &caller.0, OrderId(*id), code).await?;
    Ok(ok(row.into()))
}

/// The newest attempt to pay for an order.
#[utoipa::path(
    tag = "checkout",
    params(("id" = Uuid, Path, description = "the order")),
    responses((status = 200, body = Success<CheckoutView>))
)]
#[get("/api/orders/{id}/checkout")]
async fn view_checkout(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CheckoutView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::BillingRead).await?;
    Ok(ok(checkouts::find_newest(&tx, OrderId(*id)).await?.into()))
}

/// Closes the page that is open: nobody pays on it any more, and another may be opened. What was paid
/// meanwhile counts.
#[utoipa::path(
    tag = "checkout",
    params(("id" = Uuid, Path, description = "the order")),
    responses((status = 200, body = Success<CheckoutView>))
)]
#[post("/api/orders/{id}/checkout/close")]
async fn close_checkout(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<CheckoutView>, ApiError> {
    let row = checkout::give_up(&state.billing, &caller.0, OrderId(*id)).await?;
    Ok(ok(row.into()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    session_id: String,
}

/// Where Stripe sends the buyer after paying: the order is fulfilled, unless the news of it was
/// quicker, and the buyer goes on to the dashboard.
#[utoipa::path(
    tag = "checkout",
    security(()),
    params(("session_id" = String, Query, description = "of the Checkout Session")),
    responses((status = 303, description = "to the order in the dashboard"))
)]
#[get("/api/checkout/return")]
async fn return_from_checkout(
    state: web::Data<State>,
    query: web::Query<Back>,
) -> Result<HttpResponse, ApiError> {
    let id = &query.session_id;
    // Stripe is asked about our own sessions only.
    let order = checkouts::order_of_session(&state.db, id).await?;
    let order = order.ok_or(Error::NotFound("checkout"))?;
    if let Err(error) = look::session(&state.billing, id).await {
        // The news of it comes by itself.
        tracing::warn!(cause = %error.chain(), "checkout.return_not_seen");
    }
    let to = format!("{}/orders/{order}", state.billing.config.dashboard_url);
    Ok(HttpResponse::SeeOther().insert_header((header::LOCATION, to)).finish())
}
