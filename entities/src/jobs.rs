//! Jobs: rows that workers carry out. A worker claims a job with a lease and a fence; every write
//! for it says `WHERE fence = mine`, so that a worker that was taken over can no longer change
//! anything. Steps and their outputs are stored, so that another worker goes on where one died.

use crate::db::{SystemTx, TenantTx, statement};
use crate::error::{Code, Error};
use crate::ids::{JobId, RequestId, RowId, ServerId, TenantId, WorkerId};
use crate::outbox::{self, Message};
use crate::tables::{job, job_log, job_step};
use crate::tenancy::{StoredActor, TenantCtx};
use crate::{Result, telemetry};
use chrono::Utc;
use cpanel::protocol::Level;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::{Value, json};

/// The advisory lock under which claims are decided, one at a time in the whole installation.
const CLAIM_LOCK: i64 = 0x6d69_6772;

/// What kind of work a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server's enrolment.
    Enroll,
    /// A migration of an account.
    Migration,
    /// Domains that take mail since control of them is proven.
    Activation,
    /// A certificate that is obtained, installed or removed.
    Certificate,
    /// A hosting account that is made, suspended or ended for a service.
    Hosting,
    /// A container of a tenant.
    Cloudpod,
}

impl Kind {
    /// As it stands in the row.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Migration => "migration",
            Self::Activation => "activation",
            Self::Certificate => "certificate",
            Self::Hosting => "hosting",
            Self::Cloudpod => "cloudpod",
        }
    }
}

/// The message that announces a job to those who carry out its kind.
pub(crate) fn ready(kind: &str, job: JobId) -> Message {
    match kind == Kind::Cloudpod.as_str() {
        true => Message::PodJobReady { job },
        false => Message::JobReady { job },
    }
}

/// A job that is to be made. `subject` names what may be worked on by one job at a time per server.
#[derive(Debug)]
pub struct NewJob {
    pub kind: Kind,
    pub phase: &'static str,
    pub server: ServerId,
    pub subject: String,
}

/// Makes a job and announces it.
pub async fn create_job(tx: &TenantTx, new: NewJob) -> Result<JobId> {
    insert(tx.conn(), tx.ctx(), new).await
}

/// The same in the system's own name, for a tenant.
pub(crate) async fn create_system_job(
    tx: &SystemTx,
    tenant: TenantId,
    new: NewJob,
) -> Result<JobId> {
    insert(tx.conn(), &TenantCtx::system(tenant), new).await
}

/// The same in somebody's name, by a function that has checked their right.
pub(crate) async fn create_job_as(tx: &SystemTx, ctx: &TenantCtx, new: NewJob) -> Result<JobId> {
    insert(tx.conn(), ctx, new).await
}

async fn insert(conn: &DatabaseTransaction, ctx: &TenantCtx, new: NewJob) -> Result<JobId> {
    let id = JobId::new();
    job::ActiveModel {
        id: Set(id),
        tenant_id: Set(ctx.tenant()),
        kind: Set(new.kind.as_str().to_owned()),
        phase: Set(new.phase.to_owned()),
        state: Set("queued".to_owned()),
        server_id: Set(new.server),
        subject: Set(new.subject),
        actor: Set(serde_json::to_value(ctx.store())?),
        request_id: Set(Some(ctx.request())),
        traceparent: Set(telemetry::traceparent()),
        run: Set(1),
        lease_owner: NotSet,
        lease_until: NotSet,
        fence: Set(0),
        attempts: Set(0),
        queued_at: Set(Utc::now()),
        deadline_at: NotSet,
        error_code: NotSet,
        error_message: NotSet,
        result: NotSet,
        created_at: Set(Utc::now()),
        started_at: NotSet,
        completed_at: NotSet,
        cancel_requested_at: NotSet,
    }
    .insert(conn)
    .await?;
    outbox::append(conn, ctx.tenant(), ready(new.kind.as_str(), id)).await?;
    Ok(id)
}

/// Whether a queued phase does new work or takes back what the last run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Steps are stored anew.
    New,
    /// The stored steps of the last run are undone.
    Last,
}

/// Queues a finished job again for another phase, as the person of `tx`.
pub async fn requeue(tx: &TenantTx, row: job::Model, phase: &str, which: Run) -> Result<()> {
    queue_again(tx.conn(), tx.ctx(), row, (phase, which)).await
}

/// The same in the system's own name.
pub(crate) async fn requeue_as_system(
    tx: &SystemTx,
    row: job::Model,
    phase: &str,
    which: Run,
) -> Result<()> {
    queue_again(tx.conn(), &TenantCtx::system(row.tenant_id), row, (phase, which)).await
}

pub(crate) async fn queue_again(
    conn: &DatabaseTransaction,
    ctx: &TenantCtx,
    row: job::Model,
    (phase, which): (&str, Run),
) -> Result<()> {
    let (id, message) = (row.id, ready(&row.kind, row.id));
    let run = if which == Run::New { row.run.saturating_add(1) } else { row.run };
    let mut row: job::ActiveModel = row.into();
    row.phase = Set(phase.to_owned());
    row.state = Set("queued".to_owned());
    row.run = Set(run);
    row.attempts = Set(0);
    row.actor = Set(serde_json::to_value(ctx.store())?);
    row.request_id = Set(Some(ctx.request()));
    row.traceparent = Set(telemetry::traceparent());
    row.queued_at = Set(Utc::now());
    row.deadline_at = Set(None);
    row.error_code = Set(None);
    row.error_message = Set(None);
    row.completed_at = Set(None);
    row.cancel_requested_at = Set(None);
    row.update(conn).await?;
    tracing::debug!(job = %id, "job.queued_again");
    outbox::append(conn, ctx.tenant(), message).await
}

/// The job, when it is this tenant's.
pub async fn find_job(tx: &TenantTx, id: JobId) -> Result<job::Model> {
    tx.own_by_id::<job::Entity>(id).one(tx.conn()).await?.ok_or(Error::NotFound("job"))
}

/// The job, locked until the transaction ends.
pub async fn lock_job(tx: &TenantTx, id: JobId) -> Result<job::Model> {
    let row = tx.own_by_id::<job::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("job"))
}

/// How many jobs of its kind were queued before this one; none when it does not wait.
pub async fn queue_position(tx: &SystemTx, row: &job::Model) -> Result<Option<u64>> {
    if row.state != "queued" {
        return Ok(None);
    }
    let before = job::Entity::find()
        .filter(job::Column::Kind.eq(row.kind.as_str()))
        .filter(job::Column::State.eq("queued"))
        .filter(job::Column::QueuedAt.lt(row.queued_at))
        .count(tx.conn())
        .await?;
    Ok(Some(before.saturating_add(1)))
}

/// A claimed job: who holds this may act for it until the lease ends.
#[derive(Debug, Clone)]
pub struct Claim {
    pub job: JobId,
    pub tenant: TenantId,
    pub server: ServerId,
    pub kind: String,
    pub phase: String,
    pub run: i32,
    pub fence: i64,
    pub attempts: i32,
    /// Whether the job was being undone when its worker was lost.
    pub unwinding: bool,
    pub error: Option<(String, String)>,
    pub actor: StoredActor,
    pub request: Option<RequestId>,
    pub traceparent: Option<String>,
}

impl Claim {
    /// The person who started the job.
    #[must_use]
    pub fn ctx(&self) -> TenantCtx {
        TenantCtx::resume(self.tenant, &self.actor, self.request.unwrap_or_else(RequestId::new))
    }

    /// The system, acting for the job.
    #[must_use]
    pub fn system_ctx(&self) -> TenantCtx {
        let stored = StoredActor { actor: crate::tenancy::Actor::System, ..self.actor.clone() };
        TenantCtx::resume(self.tenant, &stored, self.request.unwrap_or_else(RequestId::new))
    }
}

/// Who claims, and within which bounds.
#[derive(Debug, Clone, Copy)]
pub struct Claimant {
    pub worker: WorkerId,
    pub lease_secs: u64,
    /// How many analyses may run at once in the whole installation, and beside them how many other
    /// phases of migrations.
    pub migrations_max: i64,
}

/// Whether a slot is free for a migration that waits. Analyses have slots of their own, so that they
/// never wait for what takes hours; and a tenant leaves one slot free while others wait. Certificates
/// wait for others' servers: some at a time, so that work on our own goes on beside them. Of what is
/// done with containers, which may hold up whoever stops them, a tenant has half of a worker's slots
/// while others wait; a node makes one backup at a time anyway, and what copies whole disks leaves three
/// of a worker's eight slots to what is done at once.
const HAS_SLOT: &str = "(kind <> 'migration' OR state <> 'queued' OR
    ($4 > (SELECT count(*) FROM job o WHERE o.kind = 'migration'
            AND o.state IN ('running', 'unwinding')
            AND (o.phase = 'analyze') = (job.phase = 'analyze'))
     AND ($4 = 1
        OR $4 - 1 > (SELECT count(*) FROM job o WHERE o.kind = 'migration'
            AND o.state IN ('running', 'unwinding') AND o.tenant_id = job.tenant_id
            AND (o.phase = 'analyze') = (job.phase = 'analyze'))
        OR NOT EXISTS (SELECT FROM job o WHERE o.kind = 'migration' AND o.state = 'queued'
            AND o.tenant_id <> job.tenant_id
            AND (o.phase = 'analyze') = (job.phase = 'analyze')))))
    AND (kind <> 'certificate' OR state <> 'queued' OR 4 > (SELECT count(*) FROM job o
            WHERE o.kind = 'certificate' AND o.state IN ('running', 'unwinding')))
    AND (kind <> 'cloudpod' OR state <> 'queued'
        OR 4 > (SELECT count(*) FROM job o WHERE o.kind = 'cloudpod'
            AND o.state IN ('running', 'unwinding') AND o.tenant_id = job.tenant_id)
        OR NOT EXISTS (SELECT FROM job o WHERE o.kind = 'cloudpod' AND o.state = 'queued'
            AND o.tenant_id <> job.tenant_id))
    AND (kind <> 'cloudpod' OR phase <> 'backup' OR state <> 'queued'
        OR NOT EXISTS (SELECT FROM job o WHERE o.kind = 'cloudpod' AND o.phase = 'backup'
            AND o.server_id = job.server_id AND o.state IN ('running', 'unwinding')))
    AND (kind <> 'cloudpod' OR phase NOT IN ('backup', 'restore', 'move') OR state <> 'queued'
        OR 5 > (SELECT count(*) FROM job o WHERE o.kind = 'cloudpod'
            AND o.phase IN ('backup', 'restore', 'move') AND o.lease_owner = $2
            AND o.state IN ('running', 'unwinding')))";

/// Claims the job when it waits or its worker is gone, a slot is free, and nobody works on the same
/// subject of the same server. Otherwise nothing is changed; it is announced again later.
pub async fn claim(tx: &SystemTx, id: JobId, who: Claimant) -> Result<Option<Claim>> {
    tx.conn()
        .execute_raw(statement("SELECT pg_advisory_xact_lock($1)", [CLAIM_LOCK.into()]))
        .await?;
    let secs = f64::from(u32::try_from(who.lease_secs).unwrap_or(u32::MAX));
    let row = tx
        .conn()
        .query_one_raw(statement(
            &format!(
                "UPDATE job SET
                state = CASE state WHEN 'queued' THEN 'running' ELSE state END,
                lease_owner = $2, lease_until = now() + make_interval(secs => $3),
                fence = fence + 1, attempts = attempts + 1,
                started_at = COALESCE(started_at, now())
             WHERE id = $1
               AND (state = 'queued' OR (state IN ('running', 'unwinding') AND lease_until < now()))
               AND NOT EXISTS (SELECT FROM job o WHERE o.id <> job.id AND o.server_id = job.server_id
                    AND o.subject = job.subject AND o.state IN ('running', 'unwinding'))
               AND {HAS_SLOT}
             RETURNING tenant_id, server_id, kind, phase, run, fence, attempts, state, error_code,
                error_message, actor, request_id, traceparent"
            ),
            [id.0.into(), who.worker.0.into(), secs.into(), who.migrations_max.into()],
        ))
        .await?;
    let Some(row) = row else { return Ok(None) };
    let state: String = row.try_get("", "state")?;
    let code: Option<String> = row.try_get("", "error_code")?;
    let message: Option<String> = row.try_get("", "error_message")?;
    Ok(Some(Claim {
        job: id,
        tenant: row.try_get("", "tenant_id")?,
        server: row.try_get("", "server_id")?,
        kind: row.try_get("", "kind")?,
        phase: row.try_get("", "phase")?,
        run: row.try_get("", "run")?,
        fence: row.try_get("", "fence")?,
        attempts: row.try_get("", "attempts")?,
        unwinding: state == "unwinding",
        error: code.zip(message),
        actor: serde_json::from_value(row.try_get("", "actor")?)?,
        request: row.try_get("", "request_id")?,
        traceparent: row.try_get("", "traceparent")?,
    }))
}

/// Extends the lease. An error `stale_fence` means that somebody else has the job: stop.
pub async fn heartbeat(tx: &SystemTx, claim: &Claim, lease_secs: u64) -> Result<()> {
    let secs = f64::from(u32::try_from(lease_secs).unwrap_or(u32::MAX));
    let done = tx
        .conn()
        .execute_raw(statement(
            "UPDATE job SET lease_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND fence = $2 AND state IN ('running', 'unwinding')",
            [claim.job.0.into(), claim.fence.into(), secs.into()],
        ))
        .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(stale()) }
}

/// Whether somebody has asked for the job to be stopped, and it is not being taken back already.
pub async fn is_cancelled(tx: &SystemTx, claim: &Claim) -> Result<bool> {
    let asked = job::Entity::find_by_id(claim.job)
        .filter(job::Column::Fence.eq(claim.fence))
        .filter(job::Column::State.eq("running"))
        .filter(job::Column::CancelRequestedAt.is_not_null())
        .count(tx.conn())
        .await?;
    Ok(asked > 0)
}

/// What became of a request to stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// Nobody had begun: it is over.
    AtOnce,
    /// Its worker has been asked.
    Asked,
}

/// Stops a job, whose row is locked. None: it has ended, or is being taken back already.
pub async fn cancel(tx: &TenantTx, row: job::Model) -> Result<Option<Stopping>> {
    stop(tx.conn(), row).await
}

pub(crate) async fn stop(conn: &DatabaseTransaction, row: job::Model) -> Result<Option<Stopping>> {
    let stopping = match row.state.as_str() {
        "queued" => Stopping::AtOnce,
        "running" => Stopping::Asked,
        _ => return Ok(None),
    };
    let asked = row.cancel_requested_at.unwrap_or_else(Utc::now);
    let mut row: job::ActiveModel = row.into();
    row.cancel_requested_at = Set(Some(asked));
    if stopping == Stopping::AtOnce {
        let error = cancelled();
        row.state = Set("failed".to_owned());
        row.error_code = Set(Some(error.code().as_str()));
        row.error_message = Set(Some(error.to_string()));
        row.completed_at = Set(Some(Utc::now()));
    }
    row.update(conn).await?;
    Ok(Some(stopping))
}

/// Why a cancelled job ended.
#[must_use]
pub fn cancelled() -> Error {
    Error::refused(Code::Cancelled, "This job was cancelled; what it had done was taken back.")
}

/// Gives the claim up and announces the job, so that another worker takes it over at once.
pub async fn release(tx: &SystemTx, claim: &Claim) -> Result<()> {
    let released = tx
        .conn()
        .execute_raw(statement(
            "UPDATE job SET lease_until = now() - make_interval(secs => 1)
             WHERE id = $1 AND fence = $2 AND state IN ('running', 'unwinding')",
            [claim.job.0.into(), claim.fence.into()],
        ))
        .await?;
    if released.rows_affected() == 0 {
        return Ok(());
    }
    tx.publish(claim.tenant, ready(&claim.kind, claim.job)).await
}

fn stale() -> Error {
    Error::refused(Code::StaleFence, "Another worker has taken this job over.")
}

/// Locks the job's row for this transaction and checks that the claim still holds. Each write for a
/// claimed job goes through here.
pub async fn hold(tx: &SystemTx, claim: &Claim) -> Result<job::Model> {
    job::Entity::find_by_id(claim.job)
        .filter(job::Column::Fence.eq(claim.fence))
        .filter(job::Column::State.is_in(["running", "unwinding"]))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .ok_or_else(stale)
}

/// Sets how long this run may take, once, counted from now; answers the seconds that are left.
pub async fn set_deadline(tx: &SystemTx, claim: &Claim, limit_secs: u64) -> Result<i64> {
    let row = hold(tx, claim).await?;
    let deadline = match row.deadline_at {
        Some(at) => at,
        None => {
            let limit = i64::try_from(limit_secs).unwrap_or(i64::MAX / 2_000_000_000);
            let at = Utc::now() + chrono::Duration::seconds(limit);
            let mut row: job::ActiveModel = row.into();
            row.deadline_at = Set(Some(at));
            row.update(tx.conn()).await?;
            at
        }
    };
    Ok((deadline - Utc::now()).num_seconds())
}

/// Begins to take back what the run did, because of this error.
pub async fn begin_unwinding(
    tx: &SystemTx,
    claim: &Claim,
    code: &str,
    message: &str,
) -> Result<()> {
    let mut row: job::ActiveModel = hold(tx, claim).await?.into();
    row.state = Set("unwinding".to_owned());
    row.attempts = Set(1);
    row.error_code = Set(Some(code.to_owned()));
    row.error_message = Set(Some(message.to_owned()));
    row.update(tx.conn()).await?;
    Ok(())
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Ending {
    Done { result: Value },
    Failed { code: String, message: String },
}

/// Ends the run and announces the jobs that may have waited for it.
pub async fn finish(tx: &SystemTx, claim: &Claim, ending: &Ending) -> Result<()> {
    let mut row: job::ActiveModel = hold(tx, claim).await?.into();
    match ending {
        Ending::Done { result } => {
            row.state = Set("done".to_owned());
            row.result = Set(Some(result.clone()));
            row.error_code = Set(None);
            row.error_message = Set(None);
        }
        Ending::Failed { code, message } => {
            row.state = Set("failed".to_owned());
            row.error_code = Set(Some(code.clone()));
            row.error_message = Set(Some(message.clone()));
        }
    }
    row.lease_owner = Set(None);
    row.lease_until = Set(None);
    row.completed_at = Set(Some(Utc::now()));
    row.update(tx.conn()).await?;
    let next = format!("{QUEUE} ORDER BY place");
    let rows = tx.conn().query_all_raw(statement(&next, [4i64.into()])).await?;
    announce(tx, rows).await?;
    Ok(())
}

/// Those that wait, up to `$1` of each kind: of each tenant its first, then its second, each time in the
/// order of the queue. Kinds have slots of their own, so that none stands before another.
const QUEUE: &str = "SELECT id, tenant_id, kind, queued_at, place FROM (
    SELECT *, row_number() OVER (PARTITION BY kind ORDER BY turn, queued_at) AS place FROM (
        SELECT id, tenant_id, kind, queued_at, row_number() OVER (
            PARTITION BY kind, tenant_id, phase IN ('analyze', 'backup') ORDER BY queued_at) AS turn
        FROM job WHERE state = 'queued') waiting) queue
    WHERE place <= $1";

async fn announce(tx: &SystemTx, rows: Vec<sea_orm::QueryResult>) -> Result<u64> {
    let mut count = 0;
    for row in rows {
        let kind: String = row.try_get("", "kind")?;
        let message = ready(&kind, row.try_get("", "id")?);
        tx.publish(row.try_get("", "tenant_id")?, message).await?;
        count += 1;
    }
    Ok(count)
}

/// Announces again what waits and, before that, what a lost worker left behind, unless an
/// announcement still waits for the broker. Called every few seconds.
pub async fn sweep(tx: &SystemTx) -> Result<u64> {
    let sql = format!(
        "SELECT id, tenant_id, kind FROM (
            (SELECT id, tenant_id, kind, 0 AS place FROM job
                WHERE state IN ('running', 'unwinding') AND lease_until < now()
                ORDER BY lease_until LIMIT $1)
            UNION ALL SELECT id, tenant_id, kind, place FROM ({QUEUE}) waiting
                WHERE queued_at < now() - interval '3 seconds') due
         WHERE NOT EXISTS (SELECT FROM outbox o
            WHERE o.sent_at IS NULL AND o.payload ->> 'job' = due.id::text)
         ORDER BY place"
    );
    let rows = tx.conn().query_all_raw(statement(&sql, [20i64.into()])).await?;
    announce(tx, rows).await
}

/// The stored steps of a run, in their order.
pub async fn list_steps(tx: &SystemTx, job: JobId, run: i32) -> Result<Vec<job_step::Model>> {
    Ok(job_step::Entity::find()
        .filter(job_step::Column::JobId.eq(job))
        .filter(job_step::Column::Run.eq(run))
        .order_by_asc(job_step::Column::Seq)
        .all(tx.conn())
        .await?)
}

/// The steps of the newest run, for the tenant.
pub async fn list_own_steps(tx: &TenantTx, row: &job::Model) -> Result<Vec<job_step::Model>> {
    Ok(tx
        .own::<job_step::Entity>()
        .filter(job_step::Column::JobId.eq(row.id))
        .filter(job_step::Column::Run.eq(row.run))
        .order_by_asc(job_step::Column::Seq)
        .all(tx.conn())
        .await?)
}

/// Records that a step is about to begin; one that began before stays as it is.
pub async fn start_step(
    tx: &SystemTx,
    claim: &Claim,
    seq: i32,
    name: &str,
    input: Value,
) -> Result<()> {
    hold(tx, claim).await?;
    let row = job_step::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(claim.tenant),
        job_id: Set(claim.job),
        run: Set(claim.run),
        seq: Set(seq),
        name: Set(name.to_owned()),
        state: Set("started".to_owned()),
        input: Set(input),
        output: NotSet,
        error: NotSet,
        started_at: Set(Utc::now()),
        finished_at: NotSet,
    };
    let once = sea_orm::sea_query::OnConflict::columns([
        job_step::Column::JobId,
        job_step::Column::Run,
        job_step::Column::Name,
    ])
    .do_nothing()
    .to_owned();
    job_step::Entity::insert(row).on_conflict(once).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// What a step came to.
#[derive(Debug, Clone)]
pub enum StepState {
    Done(Value),
    Failed(String),
    Undone,
    UndoFailed(String),
}

/// Records what a step, or its undo, came to. One that came to its end shows that the job gets on,
/// however often its workers were lost.
pub async fn record_step(
    tx: &SystemTx,
    claim: &Claim,
    name: &str,
    state: &StepState,
) -> Result<()> {
    let job = hold(tx, claim).await?;
    if job.attempts > 1 && matches!(state, StepState::Done(_) | StepState::Undone) {
        let mut job: job::ActiveModel = job.into();
        job.attempts = Set(1);
        job.update(tx.conn()).await?;
    }
    let row = job_step::Entity::find()
        .filter(job_step::Column::JobId.eq(claim.job))
        .filter(job_step::Column::Run.eq(claim.run))
        .filter(job_step::Column::Name.eq(name))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("step"))?;
    let mut row: job_step::ActiveModel = row.into();
    let (state, error) = match state {
        StepState::Done(output) => {
            row.output = Set(Some(output.clone()));
            ("done", None)
        }
        StepState::Failed(error) => ("failed", Some(error.clone())),
        StepState::Undone => ("undone", None),
        StepState::UndoFailed(error) => ("undo_failed", Some(error.clone())),
    };
    row.state = Set(state.to_owned());
    if error.is_some() {
        row.error = Set(error);
    }
    row.finished_at = Set(Some(Utc::now()));
    row.update(tx.conn()).await?;
    Ok(())
}

/// Appends a line to a job's log.
pub async fn append_log(
    tx: &SystemTx,
    claim: &Claim,
    level: Level,
    step: Option<&str>,
    message: &str,
) -> Result<()> {
    let level = match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let row = job_log::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(claim.tenant),
        job_id: Set(claim.job),
        seq: NotSet,
        level: Set(level.to_owned()),
        step: Set(step.map(str::to_owned)),
        message: Set(message.chars().take(4000).collect()),
        created_at: Set(Utc::now()),
    };
    job_log::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// The lines after `after`, oldest first, at most `limit`.
pub async fn list_logs(
    tx: &TenantTx,
    job: JobId,
    after: i64,
    limit: u64,
) -> Result<Vec<job_log::Model>> {
    Ok(tx
        .own::<job_log::Entity>()
        .filter(job_log::Column::JobId.eq(job))
        .filter(job_log::Column::Seq.gt(after))
        .order_by_asc(job_log::Column::Seq)
        .limit(limit)
        .all(tx.conn())
        .await?)
}

/// An empty result.
#[must_use]
pub fn nothing() -> Value {
    json!({})
}
