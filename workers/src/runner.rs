//! Running a claimed job: heartbeat, time limit, and what happens when it fails.

use crate::error::Result;
use crate::saga::{Cx, Direction, Progress, Saga, Undoing};
use crate::sagas::{analyze, apply, enroll};
use crate::world::World;
use cpanel::plan::{Operation, Options};
use cpanel::protocol::{Call, Level, StepReport};
use entities::audit::Audit;
use entities::error::{Code, Error};
use entities::ids::JobId;
use entities::jobs::{self, Claimant, Ending};
use entities::migrations::{self, State};
use entities::{servers, telemetry};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How many bytes of an archive's content give an apply one second more.
const BYTES_PER_SECOND: i64 = 10 << 20;
/// How often a job may be taken up again before it is given up.
const CLAIMS_MAX: i32 = 20;

/// Claims the job when it can be claimed now, and runs it to its end, or until the process is asked
/// to end. Whether it was claimed.
pub async fn run_job(world: &World, id: JobId) -> Result<bool> {
    let tx = world.db.system().await?;
    let who = Claimant {
        worker: world.worker,
        lease_secs: world.config.lease_secs,
        migrations_max: world.config.migrations_max,
    };
    let Some(claim) = jobs::claim(&tx, id, who).await? else { return Ok(false) };
    let server = servers::load_server(&tx, claim.server).await?;
    tx.commit().await?;
    let span = tracing::info_span!(
        "job.run",
        job.id = %id,
        job.kind = %claim.kind,
        job.phase = %claim.phase,
        tenant.id = %claim.tenant,
        request.id = claim.request.map(|r| r.to_string()),
        fence = claim.fence,
    );
    telemetry::join(&span, claim.traceparent.as_deref());
    let undoing = if claim.phase == "rollback" { Undoing::Park } else { Undoing::Discard };
    let cx = Cx { world: world.clone(), claim: Arc::new(claim), server: Arc::new(server), undoing };
    supervise(cx).instrument(span).await?;
    Ok(true)
}

/// Runs under a heartbeat. When the claim is lost or the process ends, the work is dropped where it
/// stands: its channel closes, the agent stops at its next safe point, and whoever claims the job
/// next goes on from the stored steps.
async fn supervise(cx: Cx) -> Result<()> {
    let lost = CancellationToken::new();
    let heart = tokio::spawn(beat(cx.clone(), lost.clone()).in_current_span());
    let outcome = tokio::select! {
        outcome = run_phase(&cx) => outcome,
        () = lost.cancelled() => {
            tracing::warn!("job.lost");
            Ok(())
        }
        () = cx.world.ending.cancelled() => {
            let tx = cx.world.db.system().await?;
            jobs::release(&tx, &cx.claim).await?;
            tx.commit().await
        }
    };
    heart.abort();
    match outcome {
        Err(error) if error.code() == Code::StaleFence => {
            tracing::warn!("job.taken_over");
            Ok(())
        }
        other => other,
    }
}

async fn beat(cx: Cx, lost: CancellationToken) {
    let every = Duration::from_secs((cx.world.config.lease_secs / 3).max(1));
    let mut missed = 0;
    loop {
        tokio::time::sleep(every).await;
        let beaten = async {
            let tx = cx.world.db.system().await?;
            jobs::heartbeat(&tx, &cx.claim, cx.world.config.lease_secs).await?;
            tx.commit().await
        };
        match beaten.await {
            Ok(()) => missed = 0,
            Err(error) => {
                missed += 1;
                tracing::warn!(cause = %error.chain(), missed, "job.heartbeat_failed");
                if error.code() == Code::StaleFence || missed >= 3 {
                    lost.cancel();
                    return;
                }
            }
        }
    }
}

async fn run_phase(cx: &Cx) -> Result<()> {
    if cx.claim.phase == "confirm" {
        return confirm(cx).await;
    }
    if cx.claim.attempts > CLAIMS_MAX && !cx.claim.unwinding {
        let error = Error::refused(
            Code::StepFailed,
            "This job was taken up too often without coming to an end. See its log.",
        );
        return match cx.claim.kind.as_str() {
            "enroll" => end_enrolment(cx, Err(error)).await,
            _ => fail(cx, error).await,
        };
    }
    match (cx.claim.kind.as_str(), cx.claim.phase.as_str()) {
        ("enroll", _) => {
            let outcome = enroll::enroll(cx).await;
            end_enrolment(cx, outcome).await
        }
        ("migration", "rollback") => roll_back(cx).await,
        ("migration", _) if cx.claim.unwinding => unwind_failed(cx).await,
        ("migration", _) => forward(cx).await,
        (kind, phase) => Err(Error::internal(format!("nobody knows how to run {kind}/{phase}"))),
    }
}

async fn end_enrolment(cx: &Cx, outcome: Result<Value>) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let ending = match outcome {
        Ok(result) => Ending::Done { result },
        Err(error) if error.code() == Code::StaleFence => return Err(error),
        Err(error) => {
            tracing::warn!(cause = %error.chain(), "enroll.failed");
            servers::record_failure(&tx, cx.claim.server, &error.to_string()).await?;
            Ending::Failed { code: error.code().as_str(), message: error.to_string() }
        }
    };
    if let Ending::Failed { message, .. } = &ending {
        jobs::append_log(&tx, &cx.claim, Level::Error, None, message).await?;
    }
    jobs::finish(&tx, &cx.claim, &ending).await?;
    tx.commit().await
}

/// The saga's function of this job's phase.
async fn saga_function(cx: &Cx, saga: &mut Saga) -> Result<Value> {
    if cx.claim.phase == "analyze" {
        return analyze::analyze(saga).await;
    }
    let tx = cx.world.db.system().await?;
    let row = migrations::load_migration(&tx, cx.claim.job).await?;
    drop(tx);
    let options: Options = serde_json::from_value(row.options.unwrap_or_else(|| json!({})))?;
    apply::apply(saga, row.plan_digest.unwrap_or_default(), options).await
}

async fn forward(cx: &Cx) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let row = migrations::load_migration(&tx, cx.claim.job).await?;
    let more = row.expanded_bytes.unwrap_or(0).checked_div(BYTES_PER_SECOND).unwrap_or(0);
    let limit = cx.world.config.apply_limit_secs.saturating_add(u64::try_from(more).unwrap_or(0));
    let left = jobs::set_deadline(&tx, &cx.claim, limit).await?;
    tx.commit().await?;
    let mut saga = Saga::resume(cx.clone(), Direction::Forward).await?;
    let limit_left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
    let outcome = tokio::time::timeout(limit_left, saga_function(cx, &mut saga)).await;
    match outcome {
        Ok(Ok(result)) => complete(cx, result).await,
        Ok(Err(error)) if error.code() == Code::StaleFence => Err(error),
        Ok(Err(error)) => fail(cx, error).await,
        Err(_elapsed) => {
            let message = format!(
                "This took longer than its {limit} seconds, was stopped and is taken back. The limit is MIGRAPANEL__APPLY_LIMIT_SECS and one second for each 10 MiB of content."
            );
            fail(cx, Error::refused(Code::TimeLimit, message)).await
        }
    }
}

async fn complete(cx: &Cx, result: Value) -> Result<()> {
    if cx.claim.phase == "analyze" {
        let tx = cx.world.db.system().await?;
        migrations::settle(&tx, &cx.claim, State::Analyzed, None).await?;
        jobs::finish(&tx, &cx.claim, &Ending::Done { result }).await?;
        return tx.commit().await;
    }
    let cleaned: Result<Value> = cx.ask_agent("cleanup", Call::Cleanup, Progress::Silent).await;
    if let Err(error) = cleaned {
        // The account stands and was checked: what is left in staging is not worth an undo.
        cx.log(Level::Warn, "cleanup", &format!("The staging was left behind: {error}")).await?;
    }
    let tx = cx.world.db.system().await?;
    let losses = migrations::count_losses(&tx, cx.claim.job).await?;
    let entry = Audit::MigrationCompleted { job: cx.claim.job.to_string(), losses };
    migrations::settle(&tx, &cx.claim, apply::ending_state(losses), Some(entry)).await?;
    jobs::finish(&tx, &cx.claim, &Ending::Done { result }).await?;
    tx.commit().await
}

/// Records why the run failed and takes back what it did.
async fn fail(cx: &Cx, error: Error) -> Result<()> {
    let (code, message) = (error.code().as_str(), error.to_string());
    tracing::warn!(code, cause = %error.chain(), "job.failed");
    let tx = cx.world.db.system().await?;
    jobs::append_log(&tx, &cx.claim, Level::Error, None, &message).await?;
    jobs::begin_unwinding(&tx, &cx.claim, &code, &message).await?;
    tx.commit().await?;
    unwind_failed(cx).await
}

async fn unwind_failed(cx: &Cx) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let row = jobs::hold(&tx, &cx.claim).await?;
    drop(tx);
    let code = row.error_code.unwrap_or_else(|| Code::StepFailed.as_str());
    let message = row.error_message.unwrap_or_default();
    let undone = match take_back(cx).await {
        Err(error) if cx.claim.phase == "analyze" && error.code() != Code::StaleFence => {
            // An analysis changes nothing but its private staging, which is no state of a server.
            cx.log(Level::Warn, "cleanup", &format!("The staging was left behind: {error}")).await
        }
        other => other,
    };
    let tx = cx.world.db.system().await?;
    let (state, ending) = match undone {
        Ok(()) => {
            let entry =
                Audit::MigrationFailed { job: cx.claim.job.to_string(), code: code.clone() };
            ((State::Failed, entry), Ending::Failed { code, message })
        }
        Err(error) if error.code() == Code::StaleFence => return Err(error),
        Err(error) => undo_failed(cx, &error, &message),
    };
    migrations::settle(&tx, &cx.claim, state.0, Some(state.1)).await?;
    jobs::finish(&tx, &cx.claim, &ending).await?;
    tx.commit().await
}

fn undo_failed(cx: &Cx, error: &Error, message: &str) -> ((State, Audit), Ending) {
    tracing::error!(cause = %error.chain(), "job.undo_failed");
    let code = error.code().as_str();
    let entry = Audit::MigrationFailed { job: cx.claim.job.to_string(), code: code.clone() };
    let message = format!(
        "{message} Taking it back failed, too: {error} Mend the cause and call rollback for this job."
    );
    ((State::UndoFailed, entry), Ending::Failed { code, message: message.trim().to_owned() })
}

/// Replays the stored steps to rebuild the undo stack, and pops it.
async fn take_back(cx: &Cx) -> Result<()> {
    let mut saga = Saga::resume(cx.clone(), Direction::Back).await?;
    let applied = match cx.claim.phase.as_str() {
        "analyze" => analyze::analyze(&mut saga).await,
        _ => saga_function(cx, &mut saga).await,
    };
    match applied {
        Ok(_) => {}
        Err(error) if error.code() == Code::Stopped => {}
        Err(error) => return Err(error),
    }
    saga.unwind().await
}

/// Switches on what somebody has confirmed. A failure changes nothing but the job's own state: the
/// migration stays applied.
async fn confirm(cx: &Cx) -> Result<()> {
    let ending = match confirm_items(cx).await {
        Ok(result) => Ending::Done { result },
        Err(error) if error.code() == Code::StaleFence => return Err(error),
        Err(error) => {
            tracing::warn!(cause = %error.chain(), "confirm.failed");
            cx.log(Level::Error, "confirm", &error.to_string()).await?;
            Ending::Failed { code: error.code().as_str(), message: error.to_string() }
        }
    };
    let tx = cx.world.db.system().await?;
    jobs::finish(&tx, &cx.claim, &ending).await?;
    tx.commit().await
}

async fn confirm_items(cx: &Cx) -> Result<Value> {
    let tx = cx.world.db.system().await?;
    let row = migrations::load_migration(&tx, cx.claim.job).await?;
    drop(tx);
    let items = serde_json::from_value(row.confirming.unwrap_or_else(|| json!([])))?;
    let operations: Vec<Operation> =
        serde_json::from_value(row.operations.unwrap_or_else(|| json!([])))?;
    let call = Call::Confirm { items };
    let report: StepReport = cx.ask_agent("confirm", call, Progress::Silent).await?;
    let tx = cx.world.db.system().await?;
    migrations::record_items(&tx, &cx.claim, &operations, &report.items).await?;
    tx.commit().await?;
    for item in &report.items {
        cx.log(Level::Info, "confirm", &format!("{}: {}", item.id, item.detail)).await?;
    }
    Ok(json!({ "confirmed": report.items.len() }))
}

async fn roll_back(cx: &Cx) -> Result<()> {
    let undone = take_back(cx).await;
    let tx = cx.world.db.system().await?;
    let (state, entry, ending) = match undone {
        Ok(()) => (
            State::RolledBack,
            Audit::MigrationRolledBack { job: cx.claim.job.to_string() },
            Ending::Done { result: jobs::nothing() },
        ),
        Err(error) if error.code() == Code::StaleFence => return Err(error),
        Err(error) => {
            let ((state, entry), ending) = undo_failed(cx, &error, "");
            (state, entry, ending)
        }
    };
    migrations::settle(&tx, &cx.claim, state, Some(entry)).await?;
    jobs::finish(&tx, &cx.claim, &ending).await?;
    tx.commit().await
}
