//! The audit trail.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Success, page};
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use entities::audit;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_audit);
}

#[derive(Debug, Deserialize, IntoParams)]
struct Window {
    /// Only entries before this moment: the last page's `meta.next`.
    before: Option<DateTime<Utc>>,
    /// At most this many, 1 to 200; by default 50.
    per_page: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AuditEntry {
    id: Uuid,
    kind: String,
    actor_kind: String,
    actor_id: Option<Uuid>,
    request_id: Option<Uuid>,
    ip: Option<String>,
    #[schema(value_type = Object)]
    data: serde_json::Value,
    created_at: DateTime<Utc>,
}

/// Who did what, newest first.
#[utoipa::path(
    tag = "audit",
    params(Window),
    responses((status = 200, body = Success<Vec<AuditEntry>>), (status = "4XX", body = crate::error::Failure))
)]
#[get("/api/audit")]
async fn list_audit(
    caller: Caller,
    state: web::Data<State>,
    window: web::Query<Window>,
) -> Result<Answer<Vec<AuditEntry>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::AuditRead).await?;
    let limit = window.per_page.unwrap_or(50).clamp(1, 200);
    let rows = audit::list_entries(&tx, window.before, limit).await?;
    let next = rows.last().map(|row| row.created_at);
    let entries = rows
        .into_iter()
        .map(|row| AuditEntry {
            id: row.id.0,
            kind: row.kind,
            actor_kind: row.actor_kind,
            actor_id: row.actor_id.map(|id| id.0),
            request_id: row.request_id.map(|id| id.0),
            ip: row.ip,
            data: row.data,
            created_at: row.created_at,
        })
        .collect();
    Ok(page(entries, json!({ "next": next })))
}
