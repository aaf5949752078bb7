//! Where a migration stands, and what it logged.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Success, ok, page};
use crate::state::State;
use actix_web::{get, web};
use chrono::{DateTime, Utc};
use entities::error::Error;
use entities::ids::JobId;
use entities::redaction::redact_text;
use entities::tables::{job, job_log, job_step, migration, migration_resource};
use entities::tenancy::Permission;
use entities::{jobs, migrations};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Where a migration stands.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::routes) struct StatusView {
    job_id: Uuid,
    /// `queued`, `analyzing`, `analyzed`, `applying`, `completed`, `completed_with_losses`, `failed`,
    /// `rolling_back`, `rolled_back`, `undo_failed` or `cancelled`.
    status: String,
    /// Of 100.
    progress: i32,
    progress_note: Option<String>,
    current_step: Option<String>,
    /// Which in line, when it waits.
    queue_position: Option<u64>,
    steps: Vec<StepView>,
    error: Option<ErrorView>,
    source_path: String,
    target_user: String,
    plan_digest: Option<String>,
    /// What became of each thing.
    resources: Vec<ResourceView>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    name: String,
    /// `started`, `done`, `failed`, `undone` or `undo_failed`.
    state: String,
    error: Option<String>,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ErrorView {
    code: String,
    message: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ResourceView {
    id: String,
    component: String,
    action: String,
    summary: String,
    /// `migrated`, `adapted`, `disabled`, `not_transferred` or `failed`.
    outcome: String,
    detail: String,
}

impl From<job_step::Model> for StepView {
    fn from(row: job_step::Model) -> Self {
        Self {
            name: row.name,
            state: row.state,
            error: row.error,
            started_at: row.started_at,
            finished_at: row.finished_at,
        }
    }
}

impl From<migration_resource::Model> for ResourceView {
    fn from(row: migration_resource::Model) -> Self {
        Self {
            id: row.operation_id,
            component: row.component,
            action: row.action,
            summary: row.summary,
            outcome: row.outcome,
            detail: row.detail,
        }
    }
}

/// Reads where a migration stands.
pub(in crate::routes) async fn read_status(
    state: &State,
    caller: &Caller,
    id: JobId,
) -> Result<StatusView, Error> {
    let tx = state.db.read(&caller.0, Permission::MigrationsRead).await?;
    let (job, row) = migrations::find_migration(&tx, id).await?;
    let steps = jobs::list_own_steps(&tx, &job).await?;
    let resources = migrations::list_resources(&tx, id).await?;
    drop(tx);
    let position = if job.state == "queued" {
        jobs::queue_position(&state.db.system().await?, &job).await?
    } else {
        None
    };
    Ok(status_view(job, row, steps, resources, position))
}

fn status_view(
    job: job::Model,
    row: migration::Model,
    steps: Vec<job_step::Model>,
    resources: Vec<migration_resource::Model>,
    queue_position: Option<u64>,
) -> StatusView {
    StatusView {
        job_id: row.id.0,
        status: row.state.as_str().to_owned(),
        progress: row.progress,
        progress_note: row.progress_note,
        current_step: row.current_step,
        queue_position,
        steps: steps.into_iter().map(Into::into).collect(),
        error: job
            .error_code
            .zip(job.error_message)
            .map(|(code, message)| ErrorView { code, message }),
        source_path: row.source_path,
        target_user: row.target_user,
        plan_digest: row.plan_digest,
        resources: resources.into_iter().map(Into::into).collect(),
        created_at: job.created_at,
        started_at: job.started_at,
        completed_at: job.completed_at,
    }
}

/// Where a migration stands, step by step.
#[utoipa::path(
    tag = "migration",
    params(("id" = Uuid, Path, description = "the job")),
    responses((status = 200, body = Success<StatusView>))
)]
#[get("/api/migration/job/{id}/status")]
pub(super) async fn view_status(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<StatusView>, ApiError> {
    Ok(ok(read_status(&state, &caller, JobId(*id)).await?))
}

/// What became of everything, part by part.
#[derive(Debug, Serialize, ToSchema)]
struct ReportView {
    job_id: Uuid,
    /// As in the job's status: `completed` only if nothing was left behind.
    status: String,
    /// How many items came to each outcome.
    totals: BTreeMap<String, u64>,
    /// `files`, `databases`, `email`, `dns`, `ssl`.
    components: BTreeMap<String, ComponentReport>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
struct ComponentReport {
    totals: BTreeMap<String, u64>,
    items: Vec<ResourceView>,
}

/// The fidelity report of an applied migration: each item with what became of it. `migrated` as it
/// was, `adapted` with the change that `detail` names, `disabled` until it is confirmed,
/// `not_transferred` and `failed` with the reason.
#[utoipa::path(
    tag = "migration",
    params(("id" = Uuid, Path, description = "the job")),
    responses((status = 200, body = Success<ReportView>))
)]
#[get("/api/migration/job/{id}/report")]
pub(super) async fn view_report(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ReportView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::MigrationsRead).await?;
    let (_, row) = migrations::find_migration(&tx, JobId(*id)).await?;
    let resources = migrations::list_resources(&tx, row.id).await?;
    let mut report = ReportView {
        job_id: row.id.0,
        status: row.state.as_str().to_owned(),
        totals: BTreeMap::new(),
        components: BTreeMap::new(),
    };
    for item in resources.into_iter().map(ResourceView::from) {
        let part = report.components.entry(item.component.clone()).or_default();
        for totals in [&mut report.totals, &mut part.totals] {
            let count = totals.entry(item.outcome.clone()).or_default();
            *count = count.saturating_add(1);
        }
        part.items.push(item);
    }
    Ok(ok(report))
}

/// A line of a job's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogLine {
    pub seq: i64,
    /// `info`, `warn` or `error`.
    level: String,
    step: Option<String>,
    message: String,
    created_at: DateTime<Utc>,
}

impl LogLine {
    /// The line without what could be a secret.
    pub(in crate::routes) fn redacted(row: job_log::Model) -> Self {
        let message = redact_text(&row.message);
        Self { message, ..row.into() }
    }
}

impl From<job_log::Model> for LogLine {
    fn from(row: job_log::Model) -> Self {
        Self {
            seq: row.seq,
            level: row.level,
            step: row.step,
            message: row.message,
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LogWindow {
    /// Only lines after this one: the last page's `meta.next`.
    #[param(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    after: Option<i64>,
    /// At most this many, 1 to 1000; by default 200.
    #[param(minimum = 1, maximum = 1000)]
    per_page: Option<u64>,
}

/// What a migration did, oldest first.
#[utoipa::path(
    tag = "migration",
    params(("id" = Uuid, Path, description = "the job"), LogWindow),
    responses((status = 200, body = Success<Vec<LogLine>>))
)]
#[get("/api/migration/job/{id}/logs")]
pub(super) async fn list_logs(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    window: web::Query<LogWindow>,
) -> Result<Answer<Vec<LogLine>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::MigrationsRead).await?;
    let (_, row) = migrations::find_migration(&tx, JobId(*id)).await?;
    let limit = window.per_page.unwrap_or(200).clamp(1, 1000);
    let lines = jobs::list_logs(&tx, row.id, window.after.unwrap_or(0), limit).await?;
    let next = lines.last().map(|line| line.seq);
    Ok(page(lines.into_iter().map(Into::into).collect(), json!({ "next": next })))
}
