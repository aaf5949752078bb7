//! What becomes of a pod when a job of it ends, and of its service.

use super::{
    Desired, Size, Status, become_status, converge, load_claimed, lock, placement, record,
};
use crate::Result;
use crate::audit::Audit;
use crate::db::SystemTx;
use crate::error::Code;
use crate::jobs::{self, Claim};
use crate::services;
use crate::tables::{cloudpod, cloudpod_snapshot, cloudpod_traffic, job};
use chrono::{TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How often a pod is tried to be made before it has failed for good.
const ATTEMPTS_MAX: i32 = 3;

/// How long the clock leaves a pod alone on which something has failed that was no wish of it.
const TRY_AGAIN: TimeDelta = TimeDelta::minutes(10);
/// How long until a backup that was due and failed is tried again.
const BACKUP_AGAIN: TimeDelta = TimeDelta::hours(1);
/// How often that pause is doubled before another move.
const MOVES_DOUBLED: u32 = 4;

/// What a job of a pod came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It did what its phase is for.
    Done(Value),
    /// It did not, and nothing is left of it.
    Failed { code: String, message: String },
    /// It did not, and taking it back has failed, too.
    Unclean { code: String, message: String },
}

/// What a node says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    Running,
    Stopped,
    /// There is none.
    Absent,
}

/// Ends a claimed job of a pod in the transaction of [`jobs::finish`], which comes after it: sets
/// the status and goes on when the pod is to be something else by now. `power` is what its node says
/// of it now; none: it did not answer.
pub async fn settle(
    tx: &SystemTx,
    claim: &Claim,
    outcome: Outcome,
    power: Option<Power>,
) -> Result<()> {
    let id = load_claimed(tx, claim).await?.id;
    // The order's row, the service's and the pod's come before the job's.
    let row = lock(tx, id).await?;
    jobs::hold(tx, claim).await?;
    let row = match (claim.phase.as_str(), outcome) {
        ("provision", Outcome::Done(_)) => made(tx, row).await?,
        ("terminate", Outcome::Done(_)) => deleted(tx, row, true).await?,
        ("take_back", Outcome::Done(_)) => {
            let message = row.error.clone().unwrap_or_default();
            failed_attempt(tx, row, ("", &message)).await?
        }
        ("provision", Outcome::Failed { code, message }) => {
            failed_attempt(tx, row, (&code, &message)).await?
        }
        ("provision" | "take_back", Outcome::Unclean { message, .. }) => {
            later(tx, row, &message).await?
        }
        ("suspend", Outcome::Done(_)) => suspended(tx, row).await?,
        ("unsuspend", Outcome::Done(_)) => unsuspended(tx, row, power).await?,
        ("suspend" | "unsuspend" | "terminate", Outcome::Failed { message, .. }) => {
            later(tx, row, &message).await?
        }
        (phase, Outcome::Done(result)) => acted(tx, row, (phase, &result), power).await?,
        (phase, Outcome::Failed { message, .. } | Outcome::Unclean { message, .. }) => {
            not_acted(tx, row, (phase, &message), power).await?
        }
    };
    if row.next_at <= Utc::now() && row.status != Status::Deleted {
        converge::go_on(tx, row).await?;
    }
    Ok(())
}

/// Nothing works on it any more.
fn at_rest(row: cloudpod::Model) -> cloudpod::ActiveModel {
    let mut row: cloudpod::ActiveModel = row.into();
    row.action = Set(None);
    row.parameters = Set(None);
    row.attempts = Set(0);
    row.error = Set(None);
    row.next_at = Set(Utc::now());
    row
}

async fn made(tx: &SystemTx, row: cloudpod::Model) -> Result<cloudpod::Model> {
    let (cloudpod, hostname, service) = (row.id, row.hostname.clone(), row.service_id);
    let every = row.backup_every_hours;
    let mut active = at_rest(row);
    active.made_at = Set(Some(Utc::now()));
    active.was_running = Set(true);
    active.backup_next_at = Set(every.map(|hours| Utc::now() + TimeDelta::hours(i64::from(hours))));
    let entry = Audit::CloudpodProvisioned { cloudpod, hostname };
    let row = become_status(tx, active, Status::Active, Some(entry)).await?;
    if let Some(service) = service {
        services::settle::pod_made(tx, service).await?;
    }
    Ok(row)
}

/// It is gone: its place and addresses go back, and what is known of its snapshots and backups.
pub(super) async fn deleted(
    tx: &SystemTx,
    row: cloudpod::Model,
    was_there: bool,
) -> Result<cloudpod::Model> {
    placement::release_pod(tx, row.id, was_there).await?;
    cloudpod_snapshot::Entity::delete_many()
        .filter(cloudpod_snapshot::Column::CloudpodId.eq(row.id))
        .exec(tx.conn())
        .await?;
    record::forget_backups(tx, row.id).await?;
    if !was_there {
        cloudpod_traffic::Entity::delete_many()
            .filter(cloudpod_traffic::Column::CloudpodId.eq(row.id))
            .exec(tx.conn())
            .await?;
    }
    let entry = Audit::CloudpodDeleted {
        cloudpod: row.id,
        hostname: row.hostname.clone(),
        reason: row.reason.clone(),
    };
    let service = row.service_id;
    let mut active = at_rest(row);
    active.deleted_at = Set(Some(Utc::now()));
    active.wanted = Set(None);
    active.ssh_keys = Set(json!([]));
    active.backup_next_at = Set(None);
    let row = become_status(tx, active, Status::Deleted, Some(entry)).await?;
    if let Some(service) = service {
        services::settle::pod_deleted(tx, service).await?;
    }
    Ok(row)
}

/// An attempt at making it was taken back: there is another, or it has failed for good. Where a VMID
/// was somebody else's, or a server was full, another place is tried without counting.
async fn failed_attempt(
    tx: &SystemTx,
    row: cloudpod::Model,
    (code, message): (&str, &str),
) -> Result<cloudpod::Model> {
    let is_no_fault = code == Code::VmidTaken.as_str();
    // Under a number that was somebody else's nothing of it was ever there.
    placement::release_pod(tx, row.id, !is_no_fault).await?;
    let attempts = if is_no_fault { row.attempts } else { row.attempts.saturating_add(1) };
    let given_up = row.desired == Desired::Deleted;
    if attempts >= ATTEMPTS_MAX && !given_up {
        return fail(tx, row, message).await;
    }
    let service = row.service_id;
    let mut active: cloudpod::ActiveModel = row.into();
    active.attempts = Set(attempts);
    active.action = Set(None);
    active.vmid = Set(None);
    active.ipv4 = Set(None);
    active.ipv6 = Set(None);
    active.error = Set(Some(message.to_owned()));
    let at_once = given_up || is_no_fault;
    active.next_at = Set(if at_once { Utc::now() } else { converge::next_attempt(attempts) });
    let row = become_status(tx, active, Status::Pending, None).await?;
    if let Some(service) = service {
        services::settle::pod_waits(tx, service, message).await?;
    }
    Ok(row)
}

/// Gives a pod up that could not be made.
pub(super) async fn fail(
    tx: &SystemTx,
    row: cloudpod::Model,
    message: &str,
) -> Result<cloudpod::Model> {
    placement::release_pod(tx, row.id, true).await?;
    let (cloudpod, service, error) = (row.id, row.service_id, message.to_owned());
    let mut active: cloudpod::ActiveModel = row.into();
    active.error = Set(Some(error.clone()));
    active.action = Set(None);
    active.vmid = Set(None);
    active.ipv4 = Set(None);
    active.ipv6 = Set(None);
    let entry = Audit::CloudpodFailed { cloudpod, error };
    let row = become_status(tx, active, Status::Failed, Some(entry)).await?;
    if let Some(service) = service {
        services::settle::pod_failed(tx, service, message).await?;
    }
    Ok(row)
}

/// It did not work; the next attempt is the sweep's.
async fn later(tx: &SystemTx, row: cloudpod::Model, message: &str) -> Result<cloudpod::Model> {
    let attempts = row.attempts.saturating_add(1);
    let service = row.service_id;
    let mut active: cloudpod::ActiveModel = row.into();
    active.attempts = Set(attempts);
    active.error = Set(Some(message.to_owned()));
    active.next_at = Set(converge::next_attempt(attempts));
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    if let Some(service) = service {
        services::settle::pod_waits(tx, service, message).await?;
    }
    Ok(row)
}

async fn suspended(tx: &SystemTx, row: cloudpod::Model) -> Result<cloudpod::Model> {
    let entry = Audit::CloudpodSuspended { cloudpod: row.id, reason: row.reason.clone() };
    let (service, is_new) = (row.service_id, row.status != Status::Suspended);
    let entry = is_new.then_some(entry);
    let row = become_status(tx, at_rest(row), Status::Suspended, entry).await?;
    if let Some(service) = service.filter(|_| is_new) {
        services::settle::pod_suspended(tx, service).await?;
    }
    Ok(row)
}

async fn unsuspended(
    tx: &SystemTx,
    row: cloudpod::Model,
    power: Option<Power>,
) -> Result<cloudpod::Model> {
    let entry = Audit::CloudpodUnsuspended { cloudpod: row.id };
    let service = row.service_id;
    let runs = match power {
        Some(power) => power == Power::Running,
        None => row.was_running,
    };
    let status = if runs { Status::Active } else { Status::Stopped };
    let row = become_status(tx, at_rest(row), status, Some(entry)).await?;
    if let Some(service) = service {
        services::settle::pod_unsuspended(tx, service).await?;
    }
    Ok(row)
}

/// What its node says it is; a suspended one stays so.
fn seen_status(row: &cloudpod::Model, power: Option<Power>) -> Status {
    match (row.status, power) {
        (Status::Active | Status::Stopped, Some(Power::Running)) => Status::Active,
        (Status::Active | Status::Stopped, Some(Power::Stopped)) => Status::Stopped,
        (status, _) => status,
    }
}

/// Something that somebody asked for was done.
async fn acted(
    tx: &SystemTx,
    row: cloudpod::Model,
    (phase, result): (&str, &Value),
    power: Option<Power>,
) -> Result<cloudpod::Model> {
    record::acted(tx, &row, (phase, result)).await?;
    let row = super::load_pod(tx, row.id).await?;
    let status = seen_status(&row, power);
    let entry =
        Audit::CloudpodActed { cloudpod: row.id, action: phase.to_owned(), result: result.clone() };
    let (was, wanted) = (row.parameters.clone(), row.wanted.clone());
    let mut active = at_rest(row);
    if phase == "resize" {
        let size: Size = serde_json::from_value(was.clone().unwrap_or(Value::Null))?;
        active.specification = Set(serde_json::to_value(&size)?);
        // The plan may have changed again meanwhile.
        if wanted == was {
            active.wanted = Set(None);
        }
    }
    become_status(tx, active, status, Some(entry)).await
}

/// Something that somebody asked for was not done: the pod is as its node says, and tells why.
async fn not_acted(
    tx: &SystemTx,
    row: cloudpod::Model,
    (phase, message): (&str, &str),
    power: Option<Power>,
) -> Result<cloudpod::Model> {
    let was_due = phase == "backup" && record::is_by_the_clock(tx, &row).await?;
    record::not_acted(tx, &row, phase).await?;
    let is_lost = power == Some(Power::Absent) && ["restore", "reinstall"].contains(&phase);
    if is_lost {
        // They went with what was there before.
        cloudpod_snapshot::Entity::delete_many()
            .filter(cloudpod_snapshot::Column::CloudpodId.eq(row.id))
            .exec(tx.conn())
            .await?;
    }
    let row = super::load_pod(tx, row.id).await?;
    let status = match seen_status(&row, power) {
        Status::Active if is_lost => Status::Stopped,
        status => status,
    };
    let entry = Audit::CloudpodActionFailed {
        cloudpod: row.id,
        action: phase.to_owned(),
        error: message.to_owned(),
    };
    let attempts = row.attempts.saturating_add(1);
    let is_wanted = phase == "resize" && row.wanted.is_some();
    let is_as_wished = matches!(
        (status, row.desired),
        (Status::Active | Status::Stopped, Desired::Active)
            | (Status::Suspended, Desired::Suspended)
    );
    let sooner = row.backup_next_at.map(|at| at.min(Utc::now() + BACKUP_AGAIN));
    let mut active = at_rest(row);
    active.error = Set(Some(message.to_owned()));
    if was_due {
        active.backup_next_at = Set(sooner);
    }
    if is_wanted {
        active.attempts = Set(attempts);
        active.next_at = Set(converge::next_attempt(attempts));
    } else if is_as_wished {
        // What the clock does with it is tried again later; a move, which costs it a restart each time,
        // later and later.
        let before = if phase == "move" { attempts } else { 1 };
        active.attempts = Set(if phase == "move" { attempts } else { 0 });
        let longer =
            2_i32.saturating_pow(before.saturating_sub(1).unsigned_abs().min(MOVES_DOUBLED));
        active.next_at = Set(Utc::now() + TRY_AGAIN * longer);
    }
    become_status(tx, active, status, Some(entry)).await
}

/// Ends a queued job of a pod that was cancelled before it began: as one that failed and left nothing.
/// What the pod shall be stays, and so there is another attempt at that.
pub(crate) async fn cancelled(tx: &SystemTx, job: &job::Model, message: &str) -> Result<()> {
    let row = cloudpod::Entity::find().filter(cloudpod::Column::JobId.eq(job.id));
    let Some(row) = row.one(tx.conn()).await? else { return Ok(()) };
    let row = lock(tx, row.id).await?;
    let code = Code::Cancelled.as_str();
    match job.phase.as_str() {
        "provision" => failed_attempt(tx, row, (&code, message)).await?,
        "take_back" | "suspend" | "unsuspend" | "terminate" => later(tx, row, message).await?,
        phase => not_acted(tx, row, (phase, message), None).await?,
    };
    Ok(())
}
