//! Bringing a job on: one that waits, or whose worker is gone, is announced again at once; one that has
//! failed is run again, unless what it is for has a way of its own to be tried again.

use super::{lock, refusal};
use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, statement};
use crate::ids::JobId;
use crate::jobs::{self, Run};
use crate::tables::{certificate, cloudpod, job, service};
use crate::tenancy::{Permission, TenantCtx};
use crate::{activation, migrations, servers, services};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use values::Title;

/// Brings a job of any tenant on, for the platform's people; in which state it is then.
pub async fn requeue(db: &Db, ctx: &TenantCtx, id: JobId, reason: &Title) -> Result<String> {
    ctx.require_write(Permission::JobsWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock(&tx, id).await?;
    match row.state.as_str() {
        "queued" => tx.publish(row.tenant_id, jobs::ready(&row.kind, id)).await?,
        "running" | "unwinding" => announce_abandoned(&tx, &row).await?,
        "failed" => run_again(&tx, ctx, &row).await?,
        state => {
            let text =
                format!("This job is {state}: it has come to its end, and is not run again.");
            return Err(refusal(text));
        }
    }
    let now = if row.state == "failed" { "queued".to_owned() } else { row.state.clone() };
    let entry = Audit::JobRequeued {
        job: id,
        job_kind: row.kind,
        phase: row.phase,
        state: row.state,
        reason: reason.to_string(),
    };
    tx.audit(&ctx.within(row.tenant_id), entry).await?;
    tx.commit().await?;
    Ok(now)
}

/// The lease is judged by the database's clock, as by whoever claims.
async fn announce_abandoned(tx: &SystemTx, row: &job::Model) -> Result<()> {
    let sql = "SELECT lease_until >= now() AS held FROM job WHERE id = $1";
    let held = tx.conn().query_one_raw(statement(sql, [row.id.0.into()])).await?;
    if held.map_or(Ok(Some(false)), |row| row.try_get("", "held"))? == Some(true) {
        return Err(refusal(
            "A worker holds this job, and goes on with it: wait, or cancel it. It is announced again by \
             itself when the worker's lease ends.",
        ));
    }
    tx.publish(row.tenant_id, jobs::ready(&row.kind, row.id)).await
}

/// Runs a failed job again, in the name of whoever it was made for. What has its own way to be tried
/// again goes that way: there it is known whether it is still wanted.
async fn run_again(tx: &SystemTx, ctx: &TenantCtx, row: &job::Model) -> Result<()> {
    match (row.kind.as_str(), row.phase.as_str()) {
        ("enroll", _) => servers::enrolment_requeued(tx, row.server_id).await?,
        ("activation", _) => {
            if !activation::is_wanted(tx, row.id).await? {
                let text =
                    "No domain waits for this job any more: another one has taken its place.";
                return Err(refusal(text));
            }
        }
        ("migration", "analyze") => {
            let migration = migrations::load_migration(tx, row.id).await?;
            servers::load_usable_server(tx, row.server_id).await?;
            services::refuse_closed(tx.conn(), row.server_id, &migration.target_user).await?;
            migrations::requeued(tx, row.id).await?;
        }
        _ => return Err(own_way(tx, row).await?),
    }
    let stored = serde_json::from_value(row.actor.clone())?;
    let actor = TenantCtx::resume(row.tenant_id, &stored, ctx.request());
    jobs::queue_again(tx.conn(), &actor, row.clone(), (&row.phase, Run::New)).await
}

/// Names the way in which what a job was for is tried again.
async fn own_way(tx: &SystemTx, row: &job::Model) -> Result<crate::error::Error> {
    let text = match row.kind.as_str() {
        "migration" => {
            let state = migrations::load_migration(tx, row.id).await?.state;
            match (row.phase.as_str(), state) {
                (_, migrations::State::UndoFailed) | ("rollback", _) => {
                    "Taking this migration back goes on with POST /api/migration/rollback.".to_owned()
                }
                ("confirm", _) => format!(
                    "What awaits confirmation is confirmed again with POST /api/migration/job/{}/confirm.",
                    row.id
                ),
                _ => "What this job did was taken back. Preview it again with POST /api/migration/preview, \
                      and apply what that shows."
                    .to_owned(),
            }
        }
        "hosting" => {
            let service = service::Entity::find().filter(service::Column::JobId.eq(row.id));
            match service.one(tx.conn()).await? {
                Some(service) => format!(
                    "The service that this job was for is tried again by itself, and with \
                     POST /api/services/{}/retry when it has failed for good.",
                    service.id
                ),
                None => "The service that this job was for has another job by now.".to_owned(),
            }
        }
        "certificate" => {
            let row = certificate::Entity::find().filter(certificate::Column::JobId.eq(row.id));
            match row.one(tx.conn()).await? {
                Some(row) => format!(
                    "The certificate that this job was for is tried again by itself, and at once with \
                     POST /api/certificates/{}/renew.",
                    row.id
                ),
                None => {
                    "The certificate that this job was for has another job, or is gone.".to_owned()
                }
            }
        }
        "cloudpod" => {
            let pod = cloudpod::Entity::find().filter(cloudpod::Column::JobId.eq(row.id));
            match pod.one(tx.conn()).await? {
                Some(pod) => format!(
                    "What the CloudPod {0} shall be is tried again by itself, with POST \
                     /api/cloudpods/{0}/retry when it has failed for good; what somebody asked for is \
                     asked for again.",
                    pod.id
                ),
                None => "The CloudPod that this job was for has another job by now.".to_owned(),
            }
        }
        kind => format!("A job of the kind {kind} is not run again here."),
    };
    Ok(refusal(text))
}
