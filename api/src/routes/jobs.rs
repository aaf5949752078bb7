//! Jobs of the platform, such as a server's enrolment.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Success, ok};
use crate::routes::migration::status::LogLine;
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use entities::ids::JobId;
use entities::jobs;
use entities::tenancy::Permission;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(view_job);
}

#[derive(Debug, Serialize, ToSchema)]
struct JobView {
    id: Uuid,
    /// `enroll` or `migration`.
    kind: String,
    phase: String,
    /// `queued`, `running`, `unwinding`, `done` or `failed`.
    state: String,
    server_id: Uuid,
    error_code: Option<String>,
    error: Option<String>,
    #[schema(value_type = Option<Object>)]
    result: Option<serde_json::Value>,
    /// The newest lines of its log.
    log: Vec<LogLine>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
}

/// A job with its log.
#[utoipa::path(
    tag = "jobs",
    params(("id" = Uuid, Path, description = "the job")),
    responses((status = 200, body = Success<JobView>))
)]
#[get("/api/jobs/{id}")]
async fn view_job(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<JobView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::JobsRead).await?;
    let row = jobs::find_job(&tx, JobId(*id)).await?;
    let log = jobs::list_logs(&tx, row.id, 0, 500).await?;
    Ok(ok(JobView {
        id: row.id.0,
        kind: row.kind,
        phase: row.phase,
        state: row.state,
        server_id: row.server_id.0,
        error_code: row.error_code,
        error: row.error_message,
        result: row.result,
        log: log.into_iter().map(Into::into).collect(),
        created_at: row.created_at,
        started_at: row.started_at,
        completed_at: row.completed_at,
    }))
}
