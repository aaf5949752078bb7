//! Jobs for certificates that are to be obtained, renewed or removed.

use super::State;
use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::due::{self, Due};
use crate::error::Error;
use crate::ids::CertificateId;
use crate::jobs::{self, Kind, NewJob};
use crate::tables::{certificate, hosting_account, job};
use crate::tenancy::TenantCtx;
use chrono::Utc;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait, QuerySelect};
use uuid::Uuid;

/// Whether a job of the certificate waits or runs.
pub(super) async fn is_at_work(tx: &SystemTx, row: &certificate::Model) -> Result<bool> {
    let Some(id) = row.job_id else { return Ok(false) };
    let job = job::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(job.is_some_and(|job| ["queued", "running", "unwinding"].contains(&job.state.as_str())))
}

/// Queues the next job of a certificate, whose row is locked and that no job works on.
pub(super) async fn go_on(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: certificate::Model,
) -> Result<certificate::Model> {
    let account = row.account_id.ok_or_else(|| Error::internal("a certificate without account"))?;
    let account = hosting_account::Entity::find_by_id(account).one(tx.conn()).await?;
    let account = account.ok_or(Error::NotFound("account"))?;
    let (phase, state) = match (row.doomed, row.chain.is_some()) {
        (true, _) => ("remove", State::Deleting),
        (false, false) => ("issue", State::Issuing),
        // One whose time is over serves nobody, whatever is under way.
        (false, true) if row.state == State::Expired => ("renew", State::Expired),
        (false, true) => ("renew", State::Renewing),
    };
    let subject = format!("certificate:{}", row.id);
    let new = NewJob { kind: Kind::Certificate, phase, server: account.server_id, subject };
    let job = jobs::create_job_as(tx, &ctx.within(row.tenant_id), new).await?;
    let mut row: certificate::ActiveModel = row.into();
    row.state = Set(state);
    row.job_id = Set(Some(job));
    row.updated_at = Set(Utc::now());
    Ok(row.update(tx.conn()).await?)
}

/// Certificates whose time has come, that no job works on and whose server can be worked on.
const DUE: &str = "SELECT c.id FROM certificate c
    JOIN hosting_account a ON a.id = c.account_id
    JOIN server s ON s.id = a.server_id AND s.state = 'enrolled' AND NOT s.maintenance
    WHERE c.next_at <= now()
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = c.job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
    ORDER BY c.next_at LIMIT $1";

/// Those that are told to be good and are not any more.
const OVER: &str = "UPDATE certificate SET state = 'expired', updated_at = now()
    WHERE state IN ('active', 'renewing') AND not_after <= now()";

/// Queues a job for each certificate that is due, up to `limit`; how many there were. Called every few
/// seconds.
pub async fn queue_due(db: &Db, limit: u64) -> Result<u64> {
    let tx = db.system().await?;
    tx.conn().execute_raw(statement(OVER, [])).await?;
    tx.commit().await?;
    due::each(db, Due { table: "certificate", sql: DUE }, limit, queue_one).await
}

async fn queue_one(tx: &SystemTx, id: Uuid) -> Result<bool> {
    let row = certificate::Entity::find_by_id(CertificateId(id)).lock_exclusive();
    // Another relay may have been faster.
    let Some(row) = row.one(tx.conn()).await?.filter(|row| row.next_at <= Utc::now()) else {
        return Ok(false);
    };
    if is_at_work(tx, &row).await? {
        return Ok(false);
    }
    go_on(tx, &TenantCtx::system(row.tenant_id), row).await?;
    Ok(true)
}
