//! Jobs, as those see them who watch over them.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, accepted, field, ok, page};
use crate::routes::migration::status::LogLine;
use crate::schema;
use crate::state::State;
use actix_web::{get, post, web};
use chrono::{DateTime, Utc};
use entities::error::Error;
use entities::ids::{JobId, ServerId, TenantId};
use entities::jobs::Stopping;
use entities::oversight::{self, Count, Filter, Look, Part, Seen, Stuck};
use entities::redaction::{redact, redact_text};
use entities::tables::job_step;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

/// How many lines of the log stand with a job, and come with one look of its stream.
pub(in crate::routes) const LINES: u64 = 500;

/// Whether there may be more lines than these.
pub(in crate::routes) fn is_full(lines: usize) -> bool {
    u64::try_from(lines).is_ok_and(|lines| lines >= LINES)
}

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_jobs)
        .service(summarize_jobs)
        .service(view_job)
        .service(stop_job)
        .service(requeue_job);
}

/// What a job is and how far it is.
#[derive(Debug, Serialize, ToSchema)]
struct JobBase {
    id: Uuid,
    tenant_id: Uuid,
    /// Such as `enroll`, `migration`, `activation`, `certificate`, `hosting` or `cloudpod`.
    kind: String,
    /// What it does, such as `analyze`, `apply` or `rollback` of a migration.
    phase: String,
    #[schema(schema_with = schema::job_state)]
    state: String,
    /// Where it works; shown to the platform's staff, and of a migration to all.
    server_id: Option<Uuid>,
    /// What only one job works on at a time on that server, such as `account:shop`.
    subject: String,
    /// How often it was begun anew: steps belong to a run.
    run: i32,
    /// How often a worker has taken it up at the same place.
    attempts: i32,
    /// Which in line among those of its kind, when it waits.
    queue_position: Option<i64>,
    error_code: Option<String>,
    error: Option<String>,
    /// Until when it is to have ended; then it is stopped and taken back.
    deadline_at: Option<DateTime<Utc>>,
    cancel_requested_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    /// When it was queued last.
    queued_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
}

/// A job in a list.
#[derive(Debug, Serialize, ToSchema)]
struct JobRow {
    #[serde(flatten)]
    base: JobBase,
    /// How many seconds ago it was queued; of one that has ended, how long it took from there.
    age_secs: i64,
    /// Until when its worker holds it, unless the worker says before that it goes on.
    lease_until: Option<DateTime<Utc>>,
    #[schema(schema_with = schema::stuck)]
    stuck: Vec<Stuck>,
}

/// A step of a job. Input, output and error are shown without what could be a secret.
#[derive(Debug, Serialize, ToSchema)]
struct JobStep {
    run: i32,
    /// Which of its run's, from 1 on.
    seq: i32,
    name: String,
    /// `started`, `done`, `failed`, `undone` or `undo_failed`.
    state: String,
    #[schema(value_type = Option<Object>)]
    input: Option<Value>,
    /// Whatever the step came to.
    #[schema(value_type = Option<Value>)]
    output: Option<Value>,
    error: Option<String>,
    started_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

/// A job with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
struct JobView {
    #[serde(flatten)]
    row: JobRow,
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// All runs, the newest first.
    steps: Vec<JobStep>,
    /// The first lines of its log.
    log: Vec<LogLine>,
}

/// What the `status` events of a job's stream carry.
#[derive(Debug, Serialize)]
struct JobProgress {
    #[serde(flatten)]
    base: JobBase,
    result: Option<Value>,
    steps: Vec<JobStep>,
}

/// What goes wrong on a server is for its operators, unless it was the tenant's own choice of a server.
fn sees_all(caller: &Caller, kind: &str) -> bool {
    caller.0.is_platform_staff() || kind == "migration"
}

fn base(caller: &Caller, seen: Seen) -> JobBase {
    let Seen { job, standing } = seen;
    let all = sees_all(caller, &job.kind);
    let shown_error = |error: String| match all {
        true => redact_text(&error),
        false => "It has failed. Your provider knows of it.".to_owned(),
    };
    JobBase {
        id: job.id.0,
        tenant_id: job.tenant_id.0,
        kind: job.kind,
        phase: job.phase,
        state: job.state,
        server_id: all.then_some(job.server_id.0),
        subject: job.subject,
        run: job.run,
        attempts: job.attempts,
        queue_position: standing.queue_position,
        error_code: job.error_code,
        error: job.error_message.map(shown_error),
        deadline_at: job.deadline_at,
        cancel_requested_at: job.cancel_requested_at,
        created_at: job.created_at,
        queued_at: job.queued_at,
        started_at: job.started_at,
        completed_at: job.completed_at,
    }
}

fn row(caller: &Caller, seen: Seen) -> JobRow {
    let at_work = ["running", "unwinding"].contains(&seen.job.state.as_str());
    JobRow {
        age_secs: seen.standing.age_secs,
        lease_until: seen.job.lease_until.filter(|_| at_work),
        stuck: seen.standing.stuck.clone(),
        base: base(caller, seen),
    }
}

fn steps(all: bool, rows: Vec<job_step::Model>) -> Vec<JobStep> {
    let shown = |value: Option<Value>| value.filter(|_| all).map(|value| redact(&value));
    let step = |row: job_step::Model| JobStep {
        run: row.run,
        seq: row.seq,
        name: row.name,
        state: row.state,
        // A step without fields has null for its input.
        input: shown(Some(row.input).filter(Value::is_object)),
        output: shown(row.output),
        error: row.error.filter(|_| all).map(|error| redact_text(&error)),
        started_at: row.started_at,
        finished_at: row.finished_at,
    };
    rows.into_iter().map(step).collect()
}

fn lines(all: bool, look: &mut Look) -> Vec<LogLine> {
    let log = std::mem::take(&mut look.log);
    log.into_iter().filter(|_| all).map(LogLine::redacted).collect()
}

/// What is new of a job.
pub(in crate::routes) struct News {
    pub lines: Vec<LogLine>,
    /// The last line that was looked at, shown or not.
    pub last: Option<i64>,
    /// Whether there may be lines after that.
    pub more: bool,
    /// The `status` event.
    pub status: String,
    pub ended: bool,
}

/// Reads what is new of a job after this line of its log.
pub(in crate::routes) async fn read_news(
    state: &State,
    caller: &Caller,
    id: JobId,
    after: i64,
) -> Result<News, Error> {
    let part = Part { after, lines: Some(LINES) };
    let mut look = oversight::look(&state.db, &caller.0, id, part).await?;
    let all = sees_all(caller, &look.seen.job.kind);
    let (last, more) = (look.log.last().map(|line| line.seq), is_full(look.log.len()));
    let ended = ["done", "failed"].contains(&look.seen.job.state.as_str());
    let lines = lines(all, &mut look);
    let result = look.seen.job.result.clone().filter(|_| all);
    let progress = JobProgress {
        result: result.as_ref().map(redact),
        steps: steps(all, look.steps),
        base: base(caller, look.seen),
    };
    Ok(News { lines, last, more, status: serde_json::to_string(&progress)?, ended })
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct JobFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Such as `migration`.
    #[param(schema_with = schema::part)]
    kind: Option<String>,
    #[param(schema_with = schema::maybe_job_state)]
    state: Option<String>,
    /// Those on this server.
    server_id: Option<Uuid>,
    /// Those of this tenant.
    tenant_id: Option<Uuid>,
    /// Those that do not get on, or those that do.
    stuck: Option<bool>,
}

/// Jobs, newest first: to the platform's staff those of all tenants, to others their own.
#[utoipa::path(
    tag = "jobs",
    params(JobFilter),
    responses((status = 200, body = Success<Vec<JobRow>>))
)]
#[get("/api/jobs")]
async fn list_jobs(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<JobFilter>,
) -> Result<Answer<Vec<JobRow>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    if let Some(state) = &query.state {
        schema::check_job_state(state)?;
    }
    let filter = Filter {
        kind: query.kind.clone(),
        state: query.state.clone(),
        server: query.server_id.map(ServerId),
        tenant: query.tenant_id.map(TenantId),
        stuck: query.stuck,
    };
    let (seen, total) =
        oversight::list_jobs(&state.db, &caller.0, &filter, paging.offset(), paging.per_page)
            .await?;
    let rows = seen.into_iter().map(|seen| row(&caller, seen)).collect();
    Ok(page(rows, paging.meta(total)))
}

/// How many jobs of a kind are in a state.
#[derive(Debug, Serialize, ToSchema)]
struct JobCount {
    kind: String,
    #[schema(schema_with = schema::job_state)]
    state: String,
    count: i64,
    /// How many of them do not get on.
    stuck: i64,
    /// How many seconds ago the oldest of them was queued.
    oldest_secs: i64,
}

impl From<Count> for JobCount {
    fn from(count: Count) -> Self {
        Self {
            kind: count.kind,
            state: count.state,
            count: count.count,
            stuck: count.stuck,
            oldest_secs: count.oldest_secs,
        }
    }
}

/// How many jobs there are by kind and state, of those that one may see.
#[utoipa::path(
    tag = "jobs",
    responses((status = 200, body = Success<Vec<JobCount>>))
)]
#[get("/api/jobs/summary")]
async fn summarize_jobs(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<Vec<JobCount>>, ApiError> {
    let counts = oversight::summarize(&state.db, &caller.0).await?;
    Ok(ok(counts.into_iter().map(Into::into).collect()))
}

/// A job with its steps and its log. What could be a secret is not shown.
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
    let part = Part { after: 0, lines: Some(LINES) };
    let mut look = oversight::look(&state.db, &caller.0, JobId(*id), part).await?;
    let all = sees_all(&caller, &look.seen.job.kind);
    let log = lines(all, &mut look);
    let result = look.seen.job.result.clone().filter(|_| all);
    Ok(ok(JobView {
        result: result.as_ref().map(redact),
        steps: steps(all, look.steps),
        log,
        row: row(&caller, look.seen),
    }))
}

/// Why something is done with a job; it stands in the audit trail.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct JobReason {
    #[schema(schema_with = schema::title)]
    reason: String,
}

/// Where a job stands after that.
#[derive(Debug, Serialize, ToSchema)]
struct JobMoved {
    job_id: Uuid,
    #[schema(schema_with = schema::job_state)]
    state: String,
}

/// Stops a job of any tenant, for the platform's staff. One that waits is over at once (`failed`), and
/// what it was for stands as after a failure: a service or a certificate is tried again by itself. One
/// that runs is stopped within seconds and taken back (`running` until then); one that cannot be taken
/// back half-way is refused.
#[utoipa::path(
    tag = "jobs",
    params(("id" = Uuid, Path, description = "the job")),
    request_body = JobReason,
    responses((status = 202, body = Success<JobMoved>))
)]
#[post("/api/jobs/{id}/cancel")]
async fn stop_job(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<JobReason>,
) -> Result<Answer<JobMoved>, ApiError> {
    let reason = field("reason", &body.reason)?;
    let stopping = oversight::cancel(&state.db, &caller.0, JobId(*id), &reason).await?;
    let now = match stopping {
        Stopping::AtOnce => "failed",
        Stopping::Asked => "running",
    };
    Ok(accepted(JobMoved { job_id: *id, state: now.to_owned() }))
}

/// Brings a job of any tenant on, for the platform's staff. One that waits, or whose worker is gone, is
/// announced to the workers again; an enrolment, an analysis or an activation that has failed is run
/// again. What else has failed has its own way to be tried again, which the refusal names.
#[utoipa::path(
    tag = "jobs",
    params(("id" = Uuid, Path, description = "the job")),
    request_body = JobReason,
    responses((status = 202, body = Success<JobMoved>))
)]
#[post("/api/jobs/{id}/requeue")]
async fn requeue_job(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<JobReason>,
) -> Result<Answer<JobMoved>, ApiError> {
    let reason = field("reason", &body.reason)?;
    let now = oversight::requeue(&state.db, &caller.0, JobId(*id), &reason).await?;
    Ok(accepted(JobMoved { job_id: *id, state: now }))
}
