//! Running a claimed job: heartbeat, time limit, and what happens when it fails.

use crate::ending::{self, End};
use crate::error::Result;
use crate::ledger;
use crate::saga::{Attempts, Cx, Direction, Progress, Saga, Undoing};
use crate::sagas::{activation, analyze, apply, certificate, cloudpod, enroll, hosting};
use crate::world::World;
use cpanel::plan::{Operation, Options};
use cpanel::protocol::{Call, Level, StepReport};
use entities::certificates;
use entities::error::{Code, Error};
use entities::ids::JobId;
use entities::jobs::{self, Claimant, Ending};
use entities::migrations;
use entities::{servers, telemetry};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How long what is done with a container may take in all: copies of large disks take hours.
const POD_LIMIT_SECS: u64 = 7 * 3600;
/// How many bytes of an archive's content give an apply one second more.
const BYTES_PER_SECOND: i64 = 10 << 20;
/// How often a job may be taken up at the same place before it is given up.
const CLAIMS_MAX: i32 = 20;
/// How often a running job looks whether somebody has cancelled it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long what is done beside the steps waits for the server.
const ASIDE_PATIENCE: Duration = Duration::from_secs(60);

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
    Box::pin(supervise(cx)).instrument(span).await?;
    Ok(true)
}

/// Runs under a heartbeat. When the claim is lost or the process ends, the work is dropped where it
/// stands: its channel closes, the agent stops at its next safe point, and whoever claims the job
/// next goes on from the stored steps.
async fn supervise(cx: Cx) -> Result<()> {
    let lost = CancellationToken::new();
    // It ends with this, however this ends: nobody takes a job over while its lease is renewed.
    let mut heart = JoinSet::new();
    heart.spawn(beat(cx.clone(), lost.clone()).in_current_span());
    let outcome = tokio::select! {
        outcome = Box::pin(run_until_cancelled(&cx)) => outcome,
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
    drop(heart);
    match outcome {
        Err(error) if error.code() == Code::StaleFence => {
            tracing::warn!("job.taken_over");
            Ok(())
        }
        other => other,
    }
}

/// A job that somebody cancels is dropped where it stands and taken back as after a failure.
async fn run_until_cancelled(cx: &Cx) -> Result<()> {
    tokio::select! {
        outcome = run_phase(cx) => outcome,
        () = cancellation(cx) => {
            tracing::info!("job.cancelled");
            let tx = cx.world.db.system().await?;
            let row = jobs::hold(&tx, &cx.claim).await?;
            drop(tx);
            // A failure may have been quicker.
            match row.state.as_str() {
                "unwinding" => unwind_failed(cx).await,
                _ => fail(cx, jobs::cancelled()).await,
            }
        }
    }
}

/// Returns once somebody has cancelled the job.
async fn cancellation(cx: &Cx) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = async {
            let tx = cx.world.db.system().await?;
            jobs::is_cancelled(&tx, &cx.claim).await
        };
        match looked.await {
            Ok(true) => return,
            Ok(false) => {}
            // The heartbeat tells when that lasts.
            Err(error) => tracing::debug!(cause = %error.chain(), "job.cancellation_unseen"),
        }
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
    if cx.claim.attempts > CLAIMS_MAX {
        return give_up(cx).await;
    }
    match (cx.claim.kind.as_str(), cx.claim.phase.as_str()) {
        ("enroll", _) => {
            let outcome = Box::pin(enroll::enroll(cx)).await;
            end_enrolment(cx, outcome).await
        }
        ("migration", "rollback") | ("hosting" | "cloudpod", "take_back") => {
            Box::pin(roll_back(cx)).await
        }
        ("migration", "confirm") => {
            let outcome = Box::pin(confirm_items(cx)).await;
            end_confirmation(cx, outcome).await
        }
        ("hosting", phase) if phase != "provision" => {
            let outcome = Box::pin(hosting::converge(cx)).await;
            end_convergence(cx, outcome).await
        }
        ("activation", _) => Box::pin(activation::run(cx)).await,
        ("certificate", "remove") => {
            let outcome = Box::pin(certificate::remove(cx)).await;
            end_convergence(cx, outcome).await
        }
        ("cloudpod", phase) if !cloudpod::is_saga(phase) => {
            let outcome = Box::pin(converge_pod(cx)).await;
            end_convergence(cx, outcome).await
        }
        ("migration" | "hosting" | "certificate" | "cloudpod", _) if cx.claim.unwinding => {
            Box::pin(unwind_failed(cx)).await
        }
        ("migration" | "hosting" | "certificate" | "cloudpod", _) => Box::pin(forward(cx)).await,
        (kind, phase) => Err(Error::internal(format!("nobody knows how to run {kind}/{phase}"))),
    }
}

/// Ends a job whose workers were lost again and again at the same place.
async fn give_up(cx: &Cx) -> Result<()> {
    let error = Error::refused(
        Code::StepFailed,
        "This job was taken up too often without getting any further. See its log.",
    );
    let phase = cx.claim.phase.as_str();
    let taking_back = cx.claim.unwinding || ["rollback", "take_back"].contains(&phase);
    match (cx.claim.kind.as_str(), phase) {
        ("enroll", _) => end_enrolment(cx, Err(error)).await,
        ("migration", "confirm") => end_confirmation(cx, Err(error)).await,
        ("activation", _) => activation::end(cx, Err(error)).await,
        ("hosting", "suspend" | "unsuspend" | "terminate") | ("certificate", "remove") => {
            end_convergence(cx, Err(error)).await
        }
        ("cloudpod", phase) if !cloudpod::is_saga(phase) => end_convergence(cx, Err(error)).await,
        _ if taking_back => {
            let message = cx.claim.error.as_ref().map_or("", |(_, message)| message);
            end_undo_failed(cx, &error, message).await
        }
        _ => fail(cx, error).await,
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
    if ledger::is_of_service(cx) {
        return hosting::provision(saga).await;
    }
    if ledger::is_of_certificate(cx) {
        return certificate::obtain(saga).await;
    }
    if ledger::is_of_pod(cx) {
        return cloudpod::run(saga).await;
    }
    let tx = cx.world.db.system().await?;
    let row = migrations::load_migration(&tx, cx.claim.job).await?;
    drop(tx);
    let options: Options = serde_json::from_value(row.options.unwrap_or_else(|| json!({})))?;
    apply::apply(saga, row.plan_digest.unwrap_or_default(), options).await
}

async fn forward(cx: &Cx) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let bytes = match cx.claim.kind == "migration" {
        false => None,
        true => migrations::load_migration(&tx, cx.claim.job).await?.expanded_bytes,
    };
    let more = bytes.unwrap_or(0).checked_div(BYTES_PER_SECOND).unwrap_or(0);
    let limit = cx.world.config.apply_limit_secs.saturating_add(u64::try_from(more).unwrap_or(0));
    let (limit, rule) = match ledger::is_of_pod(cx) {
        // A task on a node is waited for as long as it goes on; nothing of that is this limit's.
        true => {
            (limit.max(POD_LIMIT_SECS), "Look at the tasks of the node before you try it again.")
        }
        false => (
            limit,
            "The limit is MIGRAPANEL__APPLY_LIMIT_SECS and one second for each 10 MiB of content.",
        ),
    };
    let left = jobs::set_deadline(&tx, &cx.claim, limit).await?;
    tx.commit().await?;
    let mut saga = Saga::resume(cx.clone(), Direction::Forward).await?;
    let limit_left = Duration::from_secs(u64::try_from(left).unwrap_or(0));
    let outcome = tokio::time::timeout(limit_left, saga_function(cx, &mut saga)).await;
    match outcome {
        Ok(Ok(result)) => complete(cx, result).await,
        Ok(Err(error)) if is_no_verdict(&error) => Err(error),
        Ok(Err(error)) => fail(cx, error).await,
        Err(_elapsed) => {
            let message = format!(
                "This took longer than its {limit} seconds, was stopped and is taken back. {rule}"
            );
            fail(cx, Error::refused(Code::TimeLimit, message)).await
        }
    }
}

/// Whether an error says nothing about the job: another worker has it, or a service of ours is away.
/// The job is let go as it stands; whoever claims it next goes on.
pub(crate) fn is_no_verdict(error: &Error) -> bool {
    matches!(error.code(), Code::StaleFence | Code::Unavailable)
}

async fn complete(cx: &Cx, result: Value) -> Result<()> {
    if cx.claim.phase == "analyze" || ledger::is_of_certificate(cx) || ledger::is_of_pod(cx) {
        return ending::end(cx, End::Done(result)).await;
    }
    let cleaned: Result<Value> = ask_patiently(cx, "cleanup", Call::Cleanup).await;
    if let Err(error) = cleaned {
        // The account stands and was checked: what is left in staging is not worth an undo.
        cx.log(Level::Warn, "cleanup", &format!("The staging was left behind: {error}")).await?;
    }
    ending::end(cx, End::Done(result)).await
}

/// Asks the agent again while the server is away for a moment.
pub(crate) async fn ask_patiently<T: DeserializeOwned>(
    cx: &Cx,
    step: &str,
    call: Call,
) -> Result<T> {
    let mut attempts = Attempts::within(ASIDE_PATIENCE);
    loop {
        match cx.ask_agent(step, call.clone(), Progress::Silent).await {
            Ok(answer) => return Ok(answer),
            Err(error) => attempts.after(cx, step, error).await?,
        }
    }
}

/// Tries again while the node is away for a moment, or when it is not known what became of a command.
async fn converge_pod(cx: &Cx) -> Result<Value> {
    let mut attempts = Attempts::within(ASIDE_PATIENCE);
    loop {
        match cloudpod::converge(cx).await {
            Ok(result) => return Ok(result),
            Err(error) => attempts.after(cx, &cx.claim.phase, error).await?,
        }
    }
}

/// Records why the run failed and takes back what it did.
async fn fail(cx: &Cx, error: Error) -> Result<()> {
    let (code, message) = (error.code().as_str(), error.to_string());
    tracing::warn!(code, cause = %error.chain(), "job.failed");
    let tx = cx.world.db.system().await?;
    jobs::append_log(&tx, &cx.claim, Level::Error, None, &message).await?;
    jobs::begin_unwinding(&tx, &cx.claim, &code, &message).await?;
    if let Error::Later { secs, .. } = &error
        && ledger::is_of_certificate(cx)
    {
        certificates::hold_off(&tx, &cx.claim, *secs).await?;
    }
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
        Err(error) if cx.claim.phase == "analyze" && !is_no_verdict(&error) => {
            // An analysis changes nothing but its private staging, which is no state of a server.
            cx.log(Level::Warn, "cleanup", &format!("The staging was left behind: {error}")).await
        }
        other => other,
    };
    match undone {
        Ok(()) => {}
        Err(error) if is_no_verdict(&error) => return Err(error),
        Err(error) => return end_undo_failed(cx, &error, &message).await,
    }
    ending::end(cx, End::Failed { code, message }).await
}

/// What stands is for an operator.
async fn end_undo_failed(cx: &Cx, error: &Error, message: &str) -> Result<()> {
    tracing::error!(cause = %error.chain(), "job.undo_failed");
    let code = error.code().as_str();
    let next = match cx.claim.kind == "migration" {
        false => "It is tried again.",
        true => "Mend the cause and call rollback for this job.",
    };
    let message = format!("{message} Taking it back failed, too: {error} {next}");
    ending::end(cx, End::UndoFailed { code, message: message.trim().to_owned() }).await
}

/// What was to become equal has, or has not: nothing is taken back, and the next attempt is the sweep's.
async fn end_convergence(cx: &Cx, outcome: Result<Value>) -> Result<()> {
    match outcome {
        Ok(result) => ending::end(cx, End::Done(result)).await,
        Err(error) if is_no_verdict(&error) => Err(error),
        Err(error) => {
            let (code, message) = (error.code().as_str(), error.to_string());
            tracing::warn!(code, cause = %error.chain(), "job.failed");
            cx.log(Level::Error, &cx.claim.phase, &message).await?;
            ending::end(cx, End::Failed { code, message }).await
        }
    }
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

/// A confirmation that failed changes nothing but the job's own state: the migration stays applied.
async fn end_confirmation(cx: &Cx, outcome: Result<Value>) -> Result<()> {
    let ending = match outcome {
        Ok(result) => Ending::Done { result },
        Err(error) if is_no_verdict(&error) => return Err(error),
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

/// Switches on what somebody has confirmed.
async fn confirm_items(cx: &Cx) -> Result<Value> {
    let tx = cx.world.db.system().await?;
    let row = migrations::load_migration(&tx, cx.claim.job).await?;
    drop(tx);
    let items = serde_json::from_value(row.confirming.unwrap_or_else(|| json!([])))?;
    let operations: Vec<Operation> =
        serde_json::from_value(row.operations.unwrap_or_else(|| json!([])))?;
    let report: StepReport = ask_patiently(cx, "confirm", Call::Confirm { items }).await?;
    let tx = cx.world.db.system().await?;
    migrations::record_items(&tx, &cx.claim, &operations, &report.items).await?;
    tx.commit().await?;
    for item in &report.items {
        cx.log(Level::Info, "confirm", &format!("{}: {}", item.id, item.detail)).await?;
    }
    Ok(json!({ "confirmed": report.items.len() }))
}

async fn roll_back(cx: &Cx) -> Result<()> {
    match take_back(cx).await {
        Ok(()) => {}
        Err(error) if is_no_verdict(&error) => return Err(error),
        Err(error) => return end_undo_failed(cx, &error, "").await,
    }
    ending::end(cx, End::TakenBack).await
}
