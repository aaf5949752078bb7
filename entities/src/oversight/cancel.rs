//! Stopping a job. What waits is over at once, and what it was for stands as after a failure; of what
//! runs, only that is stopped which its worker can take back.

use super::{lock, refusal};
use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx};
use crate::error::{Code, Error};
use crate::ids::JobId;
use crate::jobs::{self, Stopping};
use crate::tables::job;
use crate::tenancy::{Permission, TenantCtx};
use crate::{activation, certificates, cloudpods, migrations, servers, services};
use values::Title;

/// Stops a job of any tenant, for the platform's people.
pub async fn cancel(db: &Db, ctx: &TenantCtx, id: JobId, reason: &Title) -> Result<Stopping> {
    ctx.require_write(Permission::JobsWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock(&tx, id).await?;
    check(&row)?;
    let there = ctx.within(row.tenant_id);
    let stopping = jobs::stop(tx.conn(), row.clone()).await?;
    let stopping =
        stopping.ok_or_else(|| refusal("This job has ended: nothing is to be stopped."))?;
    if stopping == Stopping::AtOnce {
        tell_owner(&tx, &row).await?;
    }
    if row.kind == "migration" && ["analyze", "apply"].contains(&row.phase.as_str()) {
        tx.audit(&there, Audit::MigrationCancelled { job: id.to_string() }).await?;
    }
    let entry = Audit::JobCancelled {
        job: id,
        job_kind: row.kind,
        phase: row.phase,
        at_once: stopping == Stopping::AtOnce,
        reason: reason.to_string(),
    };
    tx.audit(&there, entry).await?;
    tx.commit().await?;
    Ok(stopping)
}

/// Whether a running job is a saga that goes forward: only these are taken back when they are stopped.
/// A job that makes things equal has no undo, and one that takes back is not stopped half-way.
fn is_taken_back(row: &job::Model) -> bool {
    match (row.kind.as_str(), row.phase.as_str()) {
        ("migration", phase) => ["analyze", "apply"].contains(&phase),
        ("hosting", phase) => phase == "provision",
        ("certificate", phase) => phase != "remove",
        ("cloudpod", phase) => cloudpods::SAGAS.contains(&phase) && phase != "take_back",
        _ => false,
    }
}

fn check(row: &job::Model) -> Result<()> {
    match row.state.as_str() {
        "queued" => Ok(()),
        "running" if is_taken_back(row) => Ok(()),
        "running" => Err(refusal(format!(
            "This job is running, and {} has no half way that could be taken back: wait for its end.",
            row.phase.replace('_', " ")
        ))),
        "unwinding" => Err(refusal("This job is being taken back already: follow it to its end.")),
        state => Err(refusal(format!("This job is {state}: there is nothing to stop any more."))),
    }
}

/// What a job was for learns that it was cancelled before it began.
async fn tell_owner(tx: &SystemTx, row: &job::Model) -> Result<()> {
    let message = "The job was cancelled before it began.";
    match row.kind.as_str() {
        "enroll" => servers::enrolment_cancelled(tx, row.server_id).await,
        "migration" => migrations::cancelled(tx, row).await,
        "activation" => activation::cancelled(tx, row.id).await,
        "hosting" => services::settle::cancelled(tx, row, message).await,
        "cloudpod" => cloudpods::settle::cancelled(tx, row, message).await,
        "certificate" => {
            let error = (Code::Cancelled.as_str(), message.to_owned());
            certificates::settle::cancelled(tx, row.id, error).await
        }
        kind => Err(Error::internal(format!("nobody knows what a job of the kind {kind} is for"))),
    }
}
