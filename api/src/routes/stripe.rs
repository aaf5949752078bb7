//! What Stripe tells, and what became of it.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, NoBody, Paging, Success, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use billing::inbox;
use billing::signature::{self, Refusal};
use chrono::{DateTime, Utc};
use entities::billing::events::{self, Filter, Source, State as Stands};
use entities::error::{Code, Error};
use entities::tables::stripe_event;
use redis::AsyncCommands;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(receive_stripe_event)
        .service(list_stripe_events)
        .service(view_stripe_event)
        .service(replay_stripe_event);
}

/// How long an event that was kept is known without asking Postgres: longer than Stripe repeats one.
const KNOWN_SECS: u64 = 4 * 86_400;

/// Where Stripe delivers its events, signed over the body as it is sent. What was kept is answered
/// with 200 and handled afterwards; anything that Stripe has not signed, or signed more than five
/// minutes away from now, with 400.
#[utoipa::path(
    tag = "stripe",
    security(()),
    request_body(content = Object, description = "an event of Stripe's"),
    params(("stripe-signature" = String, Header, description = "`t=…,v1=…`")),
    responses((status = 200, body = Object))
)]
#[post("/api/webhooks/stripe")]
async fn receive_stripe_event(
    request: HttpRequest,
    state: web::Data<State>,
    body: web::Bytes,
) -> Result<HttpResponse, ApiError> {
    let header = request.headers().get("stripe-signature").and_then(|value| value.to_str().ok());
    let header = header.ok_or_else(|| unsigned(Refusal::Malformed))?;
    signature::verify(header, &body, &state.stripe_webhook_secrets, Utc::now())
        .map_err(unsigned)?;
    let received = || HttpResponse::Ok().json(json!({ "received": true }));
    let id = serde_json::from_slice::<Value>(&body).ok();
    let id = id.as_ref().and_then(|event| event.get("id")?.as_str()).map(str::to_owned);
    let key = id.map(|id| state.redis_key(&format!("stripe:{id}")));
    if let Some(key) = &key {
        let known = state.with_redis(async |redis| redis.exists::<_, bool>(key).await).await;
        if known.is_ok_and(|known| known) {
            return Ok(received());
        }
    }
    let kept = inbox::keep(&state.db, &body, Source::Webhook).await?;
    // After the commit: whoever finds it there may rely on the row.
    if let (Some(key), Some(_)) = (&key, kept.id) {
        let set =
            state.with_redis(async |redis| redis.set_ex::<_, _, ()>(key, 1, KNOWN_SECS).await);
        if let Err(error) = set.await {
            tracing::debug!(%error, "stripe.not_remembered");
        }
    }
    Ok(received())
}

fn unsigned(why: Refusal) -> Error {
    let text = match why {
        Refusal::Malformed => "The header Stripe-Signature is missing or not of the form t=…,v1=….",
        Refusal::OutOfTime => {
            "This was signed more than five minutes away from now. Check the clock, or send it anew."
        }
        Refusal::Wrong => {
            "No signature fits. Check that STRIPE_WEBHOOK_SECRET is that of this endpoint."
        }
    };
    Error::refused(Code::SignatureInvalid, text)
}

/// An event of Stripe's.
#[derive(Debug, Serialize, ToSchema)]
struct StripeEventView {
    /// Stripe's; of what could not be read, `unreadable:` and its SHA-256.
    id: String,
    kind: String,
    /// By Stripe's clock.
    created_at: DateTime<Utc>,
    received_at: DateTime<Utc>,
    /// `webhook`, or `reconciler` when it did not come by itself.
    source: String,
    livemode: bool,
    api_version: Option<String>,
    /// What it is about.
    object_kind: Option<String>,
    object_id: Option<String>,
    #[schema(schema_with = schema::stripe_event_state)]
    state: Stands,
    /// Why it was not handled.
    note: Option<String>,
    attempts: i32,
    /// When it is tried next.
    next_at: Option<DateTime<Utc>>,
    handled_at: Option<DateTime<Utc>>,
}

impl From<stripe_event::Model> for StripeEventView {
    fn from(row: stripe_event::Model) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            created_at: row.created_at,
            received_at: row.received_at,
            source: row.source,
            livemode: row.livemode,
            api_version: row.api_version,
            object_kind: row.object_kind,
            object_id: row.object_id,
            next_at: (row.state == Stands::Pending).then_some(row.next_at),
            state: row.state,
            note: row.note,
            attempts: row.attempts,
            handled_at: row.handled_at,
        }
    }
}

/// The same with what was sent.
#[derive(Debug, Serialize, ToSchema)]
struct StripeEventDetail {
    #[serde(flatten)]
    event: StripeEventView,
    /// As it came; bytes that are no text are replaced.
    body: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct StripeEventFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    #[param(schema_with = schema::stripe_event_state)]
    state: Option<String>,
    /// Such as `invoice.paid`.
    #[param(schema_with = schema::part)]
    kind: Option<String>,
}

/// What Stripe told, newest first. Those that are `dead` wait for somebody to look.
#[utoipa::path(
    tag = "stripe",
    params(StripeEventFilter),
    responses((status = 200, body = Success<Vec<StripeEventView>>))
)]
#[get("/api/stripe-events")]
async fn list_stripe_events(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<StripeEventFilter>,
) -> Result<Answer<Vec<StripeEventView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let wanted = query.state.as_deref().map(|text| {
        let known = Stands::ALL.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| {
            let names = Stands::ALL.map(Stands::as_str).join(", ");
            Error::field("state", format!("must be one of {names}"))
        })
    });
    let filter = Filter { state: wanted.transpose()?, kind: query.kind.clone() };
    let (rows, total) =
        events::list_events(&state.db, &caller.0, &filter, paging.offset(), paging.per_page)
            .await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// An event, with what was sent.
#[utoipa::path(
    tag = "stripe",
    params(("id" = String, Path, description = "the event")),
    responses((status = 200, body = Success<StripeEventDetail>))
)]
#[get("/api/stripe-events/{id}")]
async fn view_stripe_event(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<String>,
) -> Result<Answer<StripeEventDetail>, ApiError> {
    let row = events::find_event(&state.db, &caller.0, &id).await?;
    let body = String::from_utf8_lossy(&row.body).into_owned();
    Ok(ok(StripeEventDetail { event: row.into(), body }))
}

/// Lets an event be handled once more, whatever became of it.
#[utoipa::path(
    tag = "stripe",
    params(("id" = String, Path, description = "the event")),
    responses((status = 200, body = Success<StripeEventView>))
)]
#[post("/api/stripe-events/{id}/replay")]
async fn replay_stripe_event(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<String>,
    _: NoBody,
) -> Result<Answer<StripeEventView>, ApiError> {
    Ok(ok(events::replay(&state.db, &caller.0, &id).await?.into()))
}
