//! Dead letters: messages that no worker could act on.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, NoBody, Paging, Success, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, web};
use chrono::{DateTime, Utc};
use entities::dead_letters::{self, Filter, Reason};
use entities::error::Error;
use entities::ids::RowId;
use entities::redaction::{redact, redact_text};
use entities::tables::dead_letter;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// How much of a message is shown.
const SHOWN: usize = 4000;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_dead_letters).service(replay_dead_letter).service(discard_dead_letter);
}

/// A message that no worker could act on.
#[derive(Debug, Serialize, ToSchema)]
struct DeadLetterView {
    id: Uuid,
    /// Where it lay, such as `migrapanel.jobs`; `mail` is the post to people.
    queue: String,
    #[schema(schema_with = schema::dead_letter_reason)]
    reason: Reason,
    /// What the worker said last.
    error: String,
    /// What it says, without what could be a secret; bytes that are no text are replaced, and a long one
    /// is cut off.
    payload: String,
    /// How long it was.
    bytes: i64,
    /// How often it came.
    count: i64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
    /// When it was sent to its queue again; after that it has come back if `last_at` is later.
    replayed_at: Option<DateTime<Utc>>,
}

impl From<dead_letter::Model> for DeadLetterView {
    fn from(row: dead_letter::Model) -> Self {
        let payload = match serde_json::from_slice::<Value>(&row.payload) {
            Ok(value) => redact(&value).to_string(),
            Err(_no_json) => redact_text(&String::from_utf8_lossy(&row.payload)),
        };
        Self {
            id: row.id.0,
            queue: row.queue,
            reason: row.reason,
            error: redact_text(&row.error),
            payload: payload.chars().take(SHOWN).collect(),
            bytes: row.bytes,
            count: row.count,
            first_at: row.first_at,
            last_at: row.last_at,
            replayed_at: row.replayed_at,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct DeadLetterFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Such as `migrapanel.jobs`.
    #[param(schema_with = schema::part)]
    queue: Option<String>,
    #[param(schema_with = schema::maybe_dead_letter_reason)]
    reason: Option<String>,
    /// Those that were replayed and did not come back, or those that wait for somebody to look.
    replayed: Option<bool>,
}

fn reason(text: &str) -> Result<Reason, Error> {
    let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
    known.ok_or_else(|| {
        let names = Reason::ALL.map(Reason::as_str).join(", ");
        Error::field("reason", format!("must be one of {names}"))
    })
}

/// Messages that no worker could act on, those that came last first.
#[utoipa::path(
    tag = "jobs",
    params(DeadLetterFilter),
    responses((status = 200, body = Success<Vec<DeadLetterView>>))
)]
#[get("/api/dead-letters")]
async fn list_dead_letters(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<DeadLetterFilter>,
) -> Result<Answer<Vec<DeadLetterView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let filter = Filter {
        queue: query.queue.clone(),
        reason: query.reason.as_deref().map(reason).transpose()?,
        replayed: query.replayed,
    };
    let (rows, total) =
        dead_letters::list_letters(&state.db, &caller.0, &filter, paging.offset(), paging.per_page)
            .await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// Sends a dead letter to its queue again, byte for byte: do it when its cause is mended. When it fails
/// again, it is here again.
#[utoipa::path(
    tag = "jobs",
    params(("id" = Uuid, Path, description = "the dead letter")),
    responses((status = 200, body = Success<DeadLetterView>))
)]
#[post("/api/dead-letters/{id}/replay")]
async fn replay_dead_letter(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<DeadLetterView>, ApiError> {
    Ok(ok(dead_letters::replay(&state.db, &caller.0, RowId(*id)).await?.into()))
}

/// Nothing but that it went well.
#[derive(Debug, Serialize, ToSchema)]
struct Discarded {}

/// Removes a dead letter that needs nothing any more.
#[utoipa::path(
    tag = "jobs",
    params(("id" = Uuid, Path, description = "the dead letter")),
    responses((status = 200, body = Success<Discarded>))
)]
#[delete("/api/dead-letters/{id}")]
async fn discard_dead_letter(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Discarded>, ApiError> {
    dead_letters::discard(&state.db, &caller.0, RowId(*id)).await?;
    Ok(ok(Discarded {}))
}
