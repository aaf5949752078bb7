//! What becomes of a service when a job of it ends, and of its order when the last one has.

use super::{State, become_state, converge, lock, of_order};
use crate::Result;
use crate::audit::Audit;
use crate::db::SystemTx;
use crate::error::Error;
use crate::hosting;
use crate::ids::{OrderId, ServiceId};
use crate::jobs::{self, Claim};
use crate::orders::{self, Status};
use crate::tables::job;
use crate::tables::service::{self, Column};
use crate::tenancy::TenantCtx;
use chrono::Utc;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

/// How often a service is tried to be made before it has failed for good.
const ATTEMPTS_MAX: i32 = 3;

/// What a job of a service came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It did what its phase is for.
    Done,
    /// What was there was removed; the last backup of it lies here.
    Removed { backup: String },
    /// It did not, and nothing is left of it.
    Failed { message: String },
    /// It did not, and taking it back has failed, too.
    Unclean { message: String },
}

/// Ends a claimed job of a service in the transaction of [`jobs::finish`], which comes after it:
/// sets the state, settles the order, and goes on when the service is to be something else by now.
pub async fn settle(tx: &SystemTx, claim: &Claim, outcome: Outcome) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let id = super::load_claimed(tx, claim).await?.id;
    let row = lock(tx, id).await?;
    let order = row.order_id;
    let row = match (claim.phase.as_str(), outcome) {
        ("provision", Outcome::Done) => made(tx, row).await?,
        ("suspend", Outcome::Done) => {
            let entry = Audit::ServiceSuspended { service: id, reason: row.reason.clone() };
            done(tx, row.into(), State::Suspended, entry).await?
        }
        ("unsuspend", Outcome::Done) => {
            let entry = Audit::ServiceUnsuspended { service: id };
            done(tx, row.into(), State::Active, entry).await?
        }
        ("terminate", Outcome::Removed { backup }) => removed(tx, claim, row, backup).await?,
        ("take_back", Outcome::Done) => {
            let message = row.error.clone().unwrap_or_default();
            failed_attempt(tx, row, &message).await?
        }
        ("provision", Outcome::Failed { message }) => failed_attempt(tx, row, &message).await?,
        (phase, Outcome::Failed { message } | Outcome::Unclean { message }) => {
            return try_later(tx, row, phase, message).await;
        }
        (phase, outcome) => {
            let text = format!("a job {phase} cannot come to {outcome:?}");
            return Err(Error::internal(text));
        }
    };
    if row.next_at <= Utc::now() {
        converge::go_on(tx, row).await?;
    }
    settle_order(tx, order).await
}

/// The pod of a service was made. Its order's row and its own are locked, as for all that follow.
pub(crate) async fn pod_made(tx: &SystemTx, id: ServiceId) -> Result<()> {
    let row = lock(tx, id).await?;
    let order = row.order_id;
    made(tx, row).await?;
    settle_order(tx, order).await
}

/// The pod of a service waits for another attempt.
pub(crate) async fn pod_waits(tx: &SystemTx, id: ServiceId, message: &str) -> Result<()> {
    let mut row: service::ActiveModel = lock(tx, id).await?.into();
    row.error = Set(Some(message.to_owned()));
    row.updated_at = Set(Utc::now());
    row.update(tx.conn()).await?;
    Ok(())
}

/// Ends a queued job of a service that was cancelled before it began: as one that failed and left
/// nothing. What the service shall be stays, and so there is another attempt.
pub(crate) async fn cancelled(tx: &SystemTx, job: &job::Model, message: &str) -> Result<()> {
    let row = service::Entity::find().filter(Column::JobId.eq(job.id)).one(tx.conn()).await?;
    let Some(row) = row else { return Ok(()) };
    let row = lock(tx, row.id).await?;
    if job.phase != "provision" {
        return try_later(tx, row, &job.phase, message.to_owned()).await;
    }
    let order = row.order_id;
    let row = failed_attempt(tx, row, message).await?;
    if row.next_at <= Utc::now() {
        converge::go_on(tx, row).await?;
    }
    settle_order(tx, order).await
}

/// The next attempt is the sweep's.
async fn try_later(tx: &SystemTx, row: service::Model, phase: &str, message: String) -> Result<()> {
    let attempts = row.attempts.saturating_add(1);
    let mut row: service::ActiveModel = row.into();
    // Attempts at making it are counted when they were taken back.
    if !["provision", "take_back"].contains(&phase) {
        row.attempts = Set(attempts);
    }
    row.next_at = Set(converge::next_attempt(attempts));
    row.error = Set(Some(message));
    row.updated_at = Set(Utc::now());
    row.update(tx.conn()).await?;
    Ok(())
}

/// The pod of a service could not be made.
pub(crate) async fn pod_failed(tx: &SystemTx, id: ServiceId, message: &str) -> Result<()> {
    let row = lock(tx, id).await?;
    let order = row.order_id;
    fail(tx, row, message).await?;
    settle_order(tx, order).await
}

/// The pod of a service is suspended.
pub(crate) async fn pod_suspended(tx: &SystemTx, id: ServiceId) -> Result<()> {
    let row = lock(tx, id).await?;
    let entry = Audit::ServiceSuspended { service: id, reason: row.reason.clone() };
    done(tx, row.into(), State::Suspended, entry).await?;
    Ok(())
}

/// The pod of a service is open again.
pub(crate) async fn pod_unsuspended(tx: &SystemTx, id: ServiceId) -> Result<()> {
    let row = lock(tx, id).await?;
    done(tx, row.into(), State::Active, Audit::ServiceUnsuspended { service: id }).await?;
    Ok(())
}

/// The pod of a service is gone.
pub(crate) async fn pod_deleted(tx: &SystemTx, id: ServiceId) -> Result<()> {
    let row = lock(tx, id).await?;
    // One that failed stays so: by that its money goes back.
    if matches!(row.state, State::Terminated | State::Failed) {
        return Ok(());
    }
    let (order, entry) =
        (row.order_id, Audit::ServiceTerminated { service: id, reason: row.reason.clone() });
    done(tx, row.into(), State::Terminated, entry).await?;
    settle_order(tx, order).await
}

async fn done(
    tx: &SystemTx,
    mut row: service::ActiveModel,
    state: State,
    entry: Audit,
) -> Result<service::Model> {
    row.attempts = Set(0);
    row.error = Set(None);
    row.next_at = Set(Utc::now());
    become_state(tx, row, state, Some(entry)).await
}

async fn made(tx: &SystemTx, row: service::Model) -> Result<service::Model> {
    let (service, order, domain) = (row.id, row.order_id, row.domain.clone());
    let mut active: service::ActiveModel = row.into();
    active.made_at = Set(Some(Utc::now()));
    let entry = Audit::ServiceProvisioned { service, order, domain };
    done(tx, active, State::Active, entry).await
}

async fn removed(
    tx: &SystemTx,
    claim: &Claim,
    row: service::Model,
    backup: String,
) -> Result<service::Model> {
    if let Some(account) = row.account_id {
        hosting::remove_account(tx, claim, account).await?;
    }
    let entry = Audit::ServiceTerminated { service: row.id, reason: row.reason.clone() };
    let mut active: service::ActiveModel = row.into();
    active.account_id = Set(None);
    active.backup_path = Set(Some(backup));
    done(tx, active, State::Terminated, entry).await
}

/// An attempt at making it was taken back: there is another, or it has failed for good.
async fn failed_attempt(
    tx: &SystemTx,
    row: service::Model,
    message: &str,
) -> Result<service::Model> {
    let attempts = row.attempts.saturating_add(1);
    let given_up = row.desired == super::Desired::Terminated;
    if attempts >= ATTEMPTS_MAX && !given_up {
        return fail(tx, row, message).await;
    }
    let mut active: service::ActiveModel = row.into();
    active.attempts = Set(attempts);
    active.error = Set(Some(message.to_owned()));
    let next = if given_up { Utc::now() } else { converge::next_attempt(attempts) };
    active.next_at = Set(next);
    become_state(tx, active, State::Pending, None).await
}

/// Gives a service up that could not be made.
pub(super) async fn fail(
    tx: &SystemTx,
    row: service::Model,
    message: &str,
) -> Result<service::Model> {
    let (service, order, error) = (row.id, row.order_id, message.to_owned());
    let mut active: service::ActiveModel = row.into();
    active.error = Set(Some(error.clone()));
    let entry = Audit::ServiceFailed { service, order, error };
    become_state(tx, active, State::Failed, Some(entry)).await
}

/// Brings an order, whose row is locked, on when all its services were made or could not be.
pub(super) async fn settle_order(tx: &SystemTx, id: OrderId) -> Result<()> {
    let order = orders::status::lock(tx, id).await?;
    if order.status != Status::Provisioning {
        return Ok(());
    }
    let rows = of_order(tx, id).await?;
    if rows.iter().any(|row| matches!(row.state, State::Pending | State::Provisioning)) {
        return Ok(());
    }
    let made = rows.iter().filter(|row| row.made_at.is_some()).count();
    let (to, cause) = match made {
        0 => (Status::Failed, "Nothing of it could be made."),
        _ if made < rows.len() => (Status::PartiallyActive, "Some of it could not be made."),
        _ => (Status::Active, "All of it was made."),
    };
    orders::advance(tx, &TenantCtx::system(order.tenant_id), id, to, cause).await?;
    Ok(())
}
