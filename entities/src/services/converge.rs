//! Jobs that make services what they shall be.

use super::{Desired, State, become_state, lock, placement};
use crate::Result;
use crate::audit::Audit;
use crate::billing::repayments;
use crate::catalogue::Kind;
use crate::cloudpods::sold;
use crate::db::{Db, SystemTx, statement};
use crate::due::{self, Due};
use crate::error::Error;
use crate::hosting;
use crate::ids::{ServerId, ServiceId};
use crate::jobs::{self, NewJob, Run};
use crate::orders::{self, Status, reservations};
use crate::services::settle;
use crate::tables::{job, repayment, service};
use crate::tenancy::{Permission, TenantCtx};
use crate::tenants;
use chrono::{TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait};
use values::Title;

/// How long a service waits for a server with room before it is given up.
const PATIENCE: TimeDelta = TimeDelta::hours(24);
/// How long until servers are looked through again.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(1);
/// The first pause after a failure; each is twice as long as the one before, up to the longest.
const PAUSE: TimeDelta = TimeDelta::seconds(30);
const PAUSE_DOUBLED: u32 = 7;

/// When the next attempt is due after so many that failed.
pub(super) fn next_attempt(failed: i32) -> chrono::DateTime<Utc> {
    let doubled = failed.saturating_sub(1).unsigned_abs().min(PAUSE_DOUBLED);
    Utc::now() + PAUSE * 2_i32.saturating_pow(doubled)
}

/// Whether a job of the service waits or runs.
pub(super) async fn is_at_work(tx: &SystemTx, row: &service::Model) -> Result<bool> {
    let Some(id) = row.job_id else { return Ok(false) };
    let job = job::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(job.is_some_and(|job| ["queued", "running", "unwinding"].contains(&job.state.as_str())))
}

/// Takes the next step of a service, whose row is locked and that no job works on, towards what it
/// shall be.
pub(super) async fn go_on(tx: &SystemTx, row: service::Model) -> Result<service::Model> {
    match (row.state, row.desired) {
        (State::Pending | State::Failed, Desired::Terminated) => {
            // There is nothing to remove: what an attempt had made was taken back.
            let entry = Audit::ServiceTerminated { service: row.id, reason: row.reason.clone() };
            become_state(tx, row.into(), State::Terminated, Some(entry)).await
        }
        (State::Pending, _) => make(tx, row).await,
        // A pod goes its own way, and tells.
        _ if row.kind == Kind::CloudpodPlan => Ok(row),
        (State::Provisioning, _) => take_back(tx, row).await,
        (State::Active, Desired::Suspended) => queue(tx, row, "suspend").await,
        (State::Suspended, Desired::Active) => queue(tx, row, "unsuspend").await,
        (State::Active | State::Suspended, Desired::Terminated) => {
            queue(tx, row, "terminate").await
        }
        (State::Active, Desired::Active)
        | (State::Suspended, Desired::Suspended)
        | (State::Failed, Desired::Active | Desired::Suspended)
        | (State::Terminated, _) => Ok(row),
    }
}

async fn make(tx: &SystemTx, row: service::Model) -> Result<service::Model> {
    if row.kind == Kind::CloudpodPlan {
        if let Some(why) = sold::obstacle(tx, &row).await? {
            return settle::fail(tx, row, &why).await;
        }
        let row = become_state(tx, row.into(), State::Provisioning, None).await?;
        let pod = Box::pin(sold::make(tx, &row)).await?;
        let mut row: service::ActiveModel = super::load_service(tx, row.id).await?.into();
        row.job_id = Set(pod.job_id);
        return Ok(row.update(tx.conn()).await?);
    }
    let Some(server) = placement::choose(tx, row.tenant_id, row.server_id).await? else {
        if Utc::now() - row.waiting_since > PATIENCE {
            return settle::fail(tx, row, "No server had room for it in a day.").await;
        }
        let mut row: service::ActiveModel = row.into();
        row.error = Set(Some("No server has room for it yet.".to_owned()));
        row.next_at = Set(Utc::now() + LOOK_AGAIN);
        return Ok(row.update(tx.conn()).await?);
    };
    let username = match &row.username {
        Some(name) => name.clone(),
        None => placement::draw_username(tx, &row).await?.to_string(),
    };
    let mut active: service::ActiveModel = row.clone().into();
    active.server_id = Set(Some(server));
    active.username = Set(Some(username.clone()));
    active.job_id = Set(Some(create_job(tx, &row, server, (&username, "provision")).await?));
    become_state(tx, active, State::Provisioning, None).await
}

async fn queue(tx: &SystemTx, row: service::Model, phase: &'static str) -> Result<service::Model> {
    let missing = || Error::internal("a service that was made without a server or a user");
    let server = row.server_id.ok_or_else(missing)?;
    let username = row.username.clone().ok_or_else(missing)?;
    let job = create_job(tx, &row, server, (&username, phase)).await?;
    let mut row: service::ActiveModel = row.into();
    row.job_id = Set(Some(job));
    Ok(row.update(tx.conn()).await?)
}

async fn create_job(
    tx: &SystemTx,
    row: &service::Model,
    server: ServerId,
    (username, phase): (&str, &'static str),
) -> Result<crate::ids::JobId> {
    let subject = format!("account:{username}");
    let new = NewJob { kind: jobs::Kind::Hosting, phase, server, subject };
    jobs::create_system_job(tx, row.tenant_id, new).await
}

/// An attempt whose undo has failed is taken back again before there is another.
async fn take_back(tx: &SystemTx, row: service::Model) -> Result<service::Model> {
    let job = match row.job_id {
        Some(id) => job::Entity::find_by_id(id).one(tx.conn()).await?,
        None => None,
    };
    let job = job.ok_or_else(|| Error::internal("a service is being made without a job"))?;
    jobs::requeue_as_system(tx, job, "take_back", Run::Last).await?;
    Ok(row)
}

/// Services that are not what they shall be, that no job works on, and whose time has come; those
/// whose order somebody works on are left for the next time.
const DUE: &str = "SELECT s.id FROM service s JOIN orders o ON o.id = s.order_id
    WHERE s.state <> s.desired AND NOT (s.state = 'failed' AND s.desired <> 'terminated')
      AND s.state <> 'terminated' AND s.next_at <= now()
      AND (s.kind = 'hosting_plan' OR s.state IN ('pending', 'failed'))
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = s.job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
    ORDER BY s.next_at LIMIT $1";

/// A service's order, unless somebody works on it.
const ORDER: &str = "SELECT o.id FROM orders o JOIN service s ON s.order_id = o.id WHERE s.id = $1
    FOR UPDATE OF o SKIP LOCKED";

/// Gives each service a job that is not what it shall be, has none and is due, up to `limit`; how
/// many there were. Called every few seconds.
pub async fn converge_due(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "service", sql: DUE }, limit, async |tx, id| {
        if tx.conn().query_one_raw(statement(ORDER, [id.into()])).await?.is_none() {
            return Ok(false);
        }
        let row = lock(tx, ServiceId(id)).await?;
        if is_at_work(tx, &row).await? || row.next_at > Utc::now() {
            return Ok(false);
        }
        let order = row.order_id;
        go_on(tx, row).await?;
        settle::settle_order(tx, order).await?;
        Ok(true)
    })
    .await
}

/// Lets a service that could not be made be tried anew, for the platform's people. There must be room
/// for it again.
pub async fn retry(
    db: &Db,
    ctx: &TenantCtx,
    id: ServiceId,
    reason: &Title,
) -> Result<service::Model> {
    ctx.require_write(Permission::ServicesWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock(&tx, id).await?;
    if row.state != State::Failed || row.desired == Desired::Terminated {
        return Err(super::refusal(&row, "only one that failed is tried again"));
    }
    let own = format!("service/{}/failed", row.id);
    let is_back = |r: &repayment::Model| {
        r.reference == own
            || (r.reference.starts_with("payment/") && r.reference.ends_with("/failed"))
    };
    if repayments::of_order(&tx, row.order_id).await?.iter().any(is_back) {
        return Err(super::refusal(&row, "its money went back, so it is to be ordered anew"));
    }
    if sold::is_gone(&tx, row.id).await? {
        return Err(super::refusal(&row, "its CloudPod was deleted, so it is to be ordered anew"));
    }
    let tenant = row.tenant_id;
    // A pod that failed counts still.
    let limited = row.kind == Kind::HostingPlan;
    tenants::reserve(
        tx.conn(),
        tenant,
        if limited { |l| l.accounts } else { |_| None },
        reservations::ACCOUNTS,
        async |conn| {
            let taken = hosting::count_taken(conn, tenant, None).await?;
            Ok(taken.saturating_add(reservations::count_held(conn, tenant).await?))
        },
    )
    .await?;
    let cause = format!("A service is tried anew: {reason}");
    orders::advance(&tx, ctx, row.order_id, Status::Provisioning, &cause).await?;
    let (order, desired) = (row.order_id, row.desired);
    let mut active: service::ActiveModel = row.into();
    active.attempts = Set(0);
    active.error = Set(None);
    active.waiting_since = Set(Utc::now());
    let row = become_state(&tx, active, State::Pending, None).await?;
    let entry = Audit::ServiceRequested { service: id, desired, reason: Some(reason.to_string()) };
    tx.audit(&ctx.within(tenant), entry).await?;
    go_on(&tx, row).await?;
    settle::settle_order(&tx, order).await?;
    let row = super::load_service(&tx, id).await?;
    tx.commit().await?;
    Ok(row)
}
