//! The audit trail: looking, and taking it away.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Success, page};
use crate::state::State;
use actix_web::web::Bytes;
use actix_web::{HttpResponse, get, web};
use chrono::{DateTime, Utc};
use entities::audit::{self, Audit, Cursor, Filter};
use entities::error::Error;
use entities::ids::RequestId;
use entities::tables::audit_log;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// How many entries of an export are held in memory at once.
const PAGE: u64 = 500;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_audit).service(export_audit);
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// Only entries of this kind, such as `LOGIN`.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    kind: Option<String>,
    /// Only entries of this actor: an id, or an address or name as in `actor_label`.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    actor: Option<String>,
    /// Only entries from this moment on.
    #[param(pattern = r"^(19[7-9]|[2-9][0-9]{2})[0-9]-")]
    from: Option<DateTime<Utc>>,
    /// Only entries before this moment.
    #[param(pattern = r"^(19[7-9]|[2-9][0-9]{2})[0-9]-")]
    to: Option<DateTime<Utc>>,
    /// Only entries of this request.
    request_id: Option<Uuid>,
    /// Where to go on: the last page's `meta.next`.
    #[param(pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    cursor: Option<String>,
    /// At most this many, 1 to 200; by default 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AuditEntry {
    id: Uuid,
    kind: String,
    /// `user`, `key`, `system`, `bootstrap` or `anonymous`.
    actor_kind: String,
    actor_id: Option<Uuid>,
    /// The actor's address or name when it happened.
    actor_label: Option<String>,
    /// The platform's person who acted as the actor.
    impersonator_id: Option<Uuid>,
    impersonator_label: Option<String>,
    request_id: Option<Uuid>,
    ip: Option<String>,
    user_agent: Option<String>,
    #[schema(value_type = Object)]
    data: Value,
    /// What a change found, and what it left.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    created_at: DateTime<Utc>,
}

impl From<audit_log::Model> for AuditEntry {
    fn from(row: audit_log::Model) -> Self {
        Self {
            id: row.id.0,
            kind: row.kind,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id,
            actor_label: row.actor_label,
            impersonator_id: row.impersonator_id.map(|id| id.0),
            impersonator_label: row.impersonator_label,
            request_id: row.request_id.map(|id| id.0),
            ip: row.ip,
            user_agent: row.user_agent,
            data: row.data,
            before: row.before,
            after: row.after,
            created_at: row.created_at,
        }
    }
}

/// Who did what, newest first. A page stays as it is, whatever is recorded meanwhile.
#[utoipa::path(
    tag = "audit",
    params(Wanted),
    responses((status = 200, body = Success<Vec<AuditEntry>>))
)]
#[get("/api/audit")]
async fn list_audit(
    caller: Caller,
    state: web::Data<State>,
    wanted: web::Query<Wanted>,
) -> Result<Answer<Vec<AuditEntry>>, ApiError> {
    let wanted = wanted.into_inner();
    let limit = wanted.limit.unwrap_or(50);
    if !(1..=200).contains(&limit) {
        return Err(Error::field("limit", "must be 1 to 200").into());
    }
    let filter = Filter {
        kind: wanted.kind,
        actor: wanted.actor,
        from: wanted.from,
        to: wanted.to,
        request: wanted.request_id.map(RequestId),
        after: wanted.cursor.as_deref().map(Cursor::parse).transpose()?,
    };
    let tx = state.db.read(&caller.0, Permission::AuditRead).await?;
    let mut rows = audit::list_entries(&tx, filter, limit.saturating_add(1)).await?;
    let more = u64::try_from(rows.len()).is_ok_and(|count| count > limit);
    rows.truncate(usize::try_from(limit).map_err(Error::internal)?);
    let next = rows.last().filter(|_| more).map(|row| Cursor::of(row).to_string());
    Ok(page(rows.into_iter().map(Into::into).collect(), json!({ "next": next })))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct Span {
    /// Only entries from this moment on.
    #[param(pattern = r"^(19[7-9]|[2-9][0-9]{2})[0-9]-")]
    from: Option<DateTime<Utc>>,
    /// Only entries before this moment; by default now.
    #[param(pattern = r"^(19[7-9]|[2-9][0-9]{2})[0-9]-")]
    to: Option<DateTime<Utc>>,
}

/// The trail as JSON Lines, oldest first: each entry without its empty fields, with the number `seq`
/// and the `hash` of its seal, once it is sealed. The hash is the SHA-256 over the hash before (64
/// zeros for number 1) and the line without `seq` and `hash`, its keys sorted at each level and
/// without spaces.
#[utoipa::path(
    tag = "audit",
    params(Span),
    responses((status = 200, content_type = "application/jsonl", body = String))
)]
#[get("/api/audit/export")]
async fn export_audit(
    caller: Caller,
    state: web::Data<State>,
    span: web::Query<Span>,
) -> Result<HttpResponse, ApiError> {
    let to = span.to.unwrap_or_else(Utc::now);
    let tx = state.db.read_audited(&caller.0, Permission::AuditRead).await?;
    tx.audit(Audit::AuditExported { from: span.from, to }).await?;
    tx.commit().await?;
    let filter = Filter { from: span.from, to: Some(to), ..Filter::default() };
    let export = Export { state, caller, filter: Some(filter) };
    let body = futures::stream::try_unfold(export, |mut export| async move {
        let lines = export.next_lines().await.map_err(ApiError::from)?;
        Ok::<_, actix_web::Error>(lines.map(|lines| (lines, export)))
    });
    Ok(HttpResponse::Ok()
        .content_type("application/jsonl")
        .insert_header(("cache-control", "no-store"))
        .insert_header(("content-disposition", "attachment; filename=\"audit.jsonl\""))
        .streaming(body))
}

/// An export under way: each page is read when the one before has been sent, in a transaction of
/// its own, so that a slow client holds none.
struct Export {
    state: web::Data<State>,
    caller: Caller,
    /// What is still to come; nothing once the end was reached.
    filter: Option<Filter>,
}

impl Export {
    async fn next_lines(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(filter) = self.filter.take() else { return Ok(None) };
        let tx = self.state.db.read(&self.caller.0, Permission::AuditRead).await?;
        let rows = audit::export_entries(&tx, filter.clone(), PAGE).await?;
        drop(tx);
        let mut lines = Vec::new();
        for (row, seal) in &rows {
            let mut line = audit::record(row);
            if let Some(seal) = seal {
                line.insert("seq".to_owned(), json!(seal.seq));
                line.insert("hash".to_owned(), json!(seal.hash));
            }
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        self.filter = rows.last().map(|(row, _)| Filter { after: Some(Cursor::of(row)), ..filter });
        Ok(self.filter.is_some().then(|| Bytes::from(lines)))
    }
}
