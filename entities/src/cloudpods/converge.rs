//! Jobs that make pods what they shall be.

use super::placement::{self, Wanted};
use super::{
    Desired, Size, Status, actions, become_status, is_working, lock, lock_own, refusal, settle,
};
use crate::Result;
use crate::audit::Audit;
use crate::billing::subscriptions;
use crate::catalogue::Specification;
use crate::catalogue::specification::Siting;
use crate::db::{Db, SystemTx};
use crate::due::{self, Due};
use crate::error::{Code, Error};
use crate::ids::CloudpodId;
use crate::jobs::{self, NewJob, Run};
use crate::services;
use crate::tables::{cloudpod, job, placement as places, product, service};
use crate::tenancy::{Permission, TenantCtx};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::Value;
use values::Title;

/// How long a pod waits for a server with room before it is given up.
const PATIENCE: TimeDelta = TimeDelta::hours(24);
/// How long until servers are looked through again.
const LOOK_AGAIN: TimeDelta = TimeDelta::seconds(20);
/// The first pause after a failure; each is twice as long as the one before, up to the longest.
const PAUSE: TimeDelta = TimeDelta::seconds(10);
const PAUSE_DOUBLED: u32 = 8;

/// When the next attempt is due after so many that failed.
pub(super) fn next_attempt(failed: i32) -> DateTime<Utc> {
    let doubled = failed.saturating_sub(1).unsigned_abs().min(PAUSE_DOUBLED);
    Utc::now() + PAUSE * 2_i32.saturating_pow(doubled)
}

/// Takes the next step of a pod, whose row is locked and that no job works on, towards what it shall
/// be.
pub(super) async fn go_on(tx: &SystemTx, row: cloudpod::Model) -> Result<cloudpod::Model> {
    let ctx = TenantCtx::system(row.tenant_id);
    go_on_as(tx, &ctx, row).await
}

/// The same in somebody's name.
pub(super) async fn go_on_as(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
) -> Result<cloudpod::Model> {
    let ctx = &ctx.within(row.tenant_id);
    match (row.status, row.desired) {
        (Status::Pending | Status::Failed, Desired::Deleted) => {
            // There is nothing to remove: what an attempt had made was taken back.
            settle::deleted(tx, row, false).await
        }
        (Status::Pending, _) => make(tx, ctx, row).await,
        (Status::Provisioning, _) => take_back(tx, row).await,
        (Status::Active | Status::Stopped, Desired::Suspended) => {
            queue(tx, ctx, row, "suspend", None).await
        }
        (Status::Suspended, Desired::Active) => queue(tx, ctx, row, "unsuspend", None).await,
        (
            Status::Active | Status::Stopped | Status::Suspended | Status::Deleting,
            Desired::Deleted,
        ) => {
            let row = queue(tx, ctx, row, "terminate", None).await?;
            become_status(tx, row.into(), Status::Deleting, None).await
        }
        // Of a suspension that did not come to its end something may have been done.
        (Status::Active | Status::Stopped, Desired::Active)
            if ["suspend", "unsuspend"].map(Some).contains(&row.action.as_deref()) =>
        {
            queue(tx, ctx, row, "unsuspend", None).await
        }
        (Status::Active | Status::Stopped, Desired::Active) if row.wanted.is_some() => {
            resize(tx, ctx, row).await
        }
        _ => Ok(row),
    }
}

/// Gives a pod the size that its plan has by now, when its server has room for that. It may have been
/// installed anew since, or its disk have grown.
async fn resize(tx: &SystemTx, ctx: &TenantCtx, row: cloudpod::Model) -> Result<cloudpod::Model> {
    let mut size: Size = serde_json::from_value(row.wanted.clone().unwrap_or_default())?;
    let now = Size::of(&row)?;
    size.disk_mib = size.disk_mib.max(now.disk_mib);
    size.template = now.template;
    let wanted = serde_json::to_value(&size)?;
    let mut row: cloudpod::ActiveModel = row.into();
    row.wanted = Set(Some(wanted.clone()));
    let row = row.update(tx.conn()).await?;
    match actions::reserve(tx, &row, &size).await {
        Ok(()) => queue(tx, ctx, row, "resize", Some(wanted)).await,
        Err(error) if error.code() == Code::NoCapacity => {
            let attempts = row.attempts.saturating_add(1);
            let mut row: cloudpod::ActiveModel = row.into();
            row.error = Set(Some(error.to_string()));
            row.attempts = Set(attempts);
            row.next_at = Set(next_attempt(attempts));
            Ok(row.update(tx.conn()).await?)
        }
        Err(error) => Err(error),
    }
}

/// The plan that a pod was made from, for where it may be.
pub(super) async fn siting(tx: &SystemTx, row: &cloudpod::Model) -> Result<Siting> {
    let sold = match row.service_id {
        Some(id) => service::Entity::find_by_id(id).one(tx.conn()).await?.map(|s| s.specification),
        None => None,
    };
    let plan = match (sold, row.product_id) {
        (Some(sold), _) => Some(sold),
        (None, Some(id)) => {
            product::Entity::find_by_id(id).one(tx.conn()).await?.map(|p| p.specification)
        }
        (None, None) => None,
    };
    let plan: Option<Specification> = plan.map(serde_json::from_value).transpose()?;
    Ok(plan.as_ref().map(Siting::of).unwrap_or_default())
}

/// The place of a pod that is to be made, or a new one; not where it was tried last, when there is
/// another. What was held on a server where nothing may begin by now is kept until there is another.
async fn place_for(tx: &SystemTx, row: &cloudpod::Model) -> Result<Option<places::Model>> {
    let held = placement::of_pod(tx, row.id).await?;
    if let Some(place) = &held
        && placement::is_open(tx, place.server_id).await?
    {
        return Ok(held);
    }
    placement::lock(tx).await?;
    let (size, siting) = (Size::of(row)?, siting(tx, row).await?);
    let wanted = Wanted {
        tenant: row.tenant_id,
        size: &size,
        siting: &siting,
        server: row.pinned_server_id,
        avoid: row.server_id,
        moves: None,
        order: placement::order_of(tx, row).await?,
    };
    let found = placement::take(tx, &wanted, placement::Holder::Pod(row.id)).await?;
    if let (Some(_), Some(held)) = (&found, held) {
        placement::release(tx, held.id, false).await?;
    }
    Ok(found)
}

async fn make(tx: &SystemTx, ctx: &TenantCtx, row: cloudpod::Model) -> Result<cloudpod::Model> {
    let Some(place) = place_for(tx, &row).await? else {
        let is_held = placement::of_pod(tx, row.id).await?.is_some();
        if !is_held && Utc::now() - row.waiting_since > PATIENCE {
            return settle::fail(tx, row, "No server had room for it in a day.").await;
        }
        let mut row: cloudpod::ActiveModel = row.into();
        row.error = Set(Some("No server has room for it yet.".to_owned()));
        row.next_at = Set(Utc::now() + LOOK_AGAIN);
        return Ok(row.update(tx.conn()).await?);
    };
    let place = match place.vmid {
        Some(_) => place,
        None => placement::attach(tx, place, row.id).await?,
    };
    let held = super::pools::held_by(tx, place.id).await?;
    let of = |six: bool| {
        held.iter()
            .find(|h| h.address.addr().is_ipv6() == six)
            .map(|h| h.address.addr().to_string())
    };
    let mut active: cloudpod::ActiveModel = row.into();
    active.server_id = Set(Some(place.server_id));
    active.cluster = Set(Some(place.cluster.clone()));
    active.vmid = Set(place.vmid);
    active.ipv4 = Set(of(false));
    active.ipv6 = Set(of(true));
    let row = active.update(tx.conn()).await?;
    let row = queue(tx, ctx, row, "provision", None).await?;
    become_status(tx, row.into(), Status::Provisioning, None).await
}

/// Gives a pod a job.
pub(super) async fn queue(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
    phase: &'static str,
    parameters: Option<Value>,
) -> Result<cloudpod::Model> {
    let server = row.server_id;
    let server =
        server.ok_or_else(|| Error::internal("a pod that is worked on without a server"))?;
    let subject = format!("cloudpod:{}", row.id);
    let new = NewJob { kind: jobs::Kind::Cloudpod, phase, server, subject };
    let job = jobs::create_job_as(tx, &ctx.within(row.tenant_id), new).await?;
    let mut row: cloudpod::ActiveModel = row.into();
    row.job_id = Set(Some(job));
    row.action = Set(Some(phase.to_owned()));
    row.parameters = Set(parameters);
    row.updated_at = Set(Utc::now());
    Ok(row.update(tx.conn()).await?)
}

/// An attempt whose undo has failed is taken back again before there is another.
async fn take_back(tx: &SystemTx, row: cloudpod::Model) -> Result<cloudpod::Model> {
    let job = match row.job_id {
        Some(id) => job::Entity::find_by_id(id).one(tx.conn()).await?,
        None => None,
    };
    let job = job.ok_or_else(|| Error::internal("a pod is being made without a job"))?;
    jobs::requeue_as_system(tx, job, "take_back", Run::Last).await?;
    Ok(row)
}

/// Pods that are not what they shall be, that no job works on, and whose time has come.
const DUE: &str = "SELECT p.id FROM cloudpod p
    WHERE p.next_at <= now() AND p.status <> 'deleted'
      AND (p.status IN ('pending', 'provisioning', 'deleting')
        OR p.desired = 'deleted'
        OR (p.status IN ('active', 'stopped') AND (p.desired = 'suspended' OR p.wanted IS NOT NULL
            OR p.action IN ('suspend', 'unsuspend')))
        OR (p.status = 'suspended' AND p.desired = 'active'))
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = p.job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
    ORDER BY p.next_at LIMIT $1";

/// Gives each pod a job that is not what it shall be, has none and is due, up to `limit`; how many
/// there were. Called every few seconds.
pub async fn converge_due(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "cloudpod", sql: DUE }, limit, async |tx, id| {
        let row = lock(tx, CloudpodId(id)).await?;
        if is_working(tx, row.job_id).await? || row.next_at > Utc::now() {
            return Ok(false);
        }
        go_on(tx, row).await?;
        Ok(true)
    })
    .await
}

/// Lets a pod become something, in the name of `ctx`; `reason` tells the customer why. Whether
/// anything is new: what was to be deleted stays so.
pub(crate) async fn want(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
    (desired, reason): (Desired, Option<&str>),
) -> Result<bool> {
    if row.desired == desired || row.desired == Desired::Deleted {
        return Ok(false);
    }
    let (status, error) = (row.status, row.error.clone());
    let mut active: cloudpod::ActiveModel = row.into();
    if desired == Desired::Suspended && matches!(status, Status::Active | Status::Stopped) {
        active.was_running = Set(status == Status::Active);
    }
    // What went wrong with something else is not told of this.
    active.error = Set(error.filter(|_| !status.is_made()));
    active.desired = Set(desired);
    active.reason = Set(reason.map(str::to_owned));
    active.attempts = Set(0);
    active.next_at = Set(Utc::now());
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    let entry = Audit::CloudpodStateRequested {
        cloudpod: row.id,
        desired: desired.as_str().to_owned(),
        reason: reason.map(str::to_owned),
    };
    tx.audit(&ctx.within(row.tenant_id), entry).await?;
    if !is_working(tx, row.job_id).await? {
        go_on_as(tx, ctx, row).await?;
    }
    Ok(true)
}

/// Suspends, unsuspends or deletes a pod of the tenant that `ctx` acts in. Suspending and its opposite
/// are the platform's. What is paid for again and again is ended with its subscription first.
pub async fn request(
    db: &Db,
    ctx: &TenantCtx,
    (id, desired): (CloudpodId, Desired),
    reason: Option<&Title>,
) -> Result<cloudpod::Model> {
    ctx.require_write(match desired {
        Desired::Deleted => Permission::CloudpodsDelete,
        Desired::Active | Desired::Suspended => Permission::ServicesWrite,
    })?;
    let tx = db.system_as(ctx).await?;
    let row = lock_own(&tx, ctx, id).await?;
    let is_gone = row.status == Status::Deleted;
    let cannot = desired != Desired::Deleted
        && (row.status == Status::Failed || row.desired == Desired::Deleted);
    if cannot || (is_gone && desired != Desired::Deleted) {
        return Err(refusal(&row, "only one that runs, or is about to, is suspended or opened"));
    }
    if !is_gone {
        let reason = reason.map(Title::as_str);
        match row.service_id {
            // Its service has failed with it and stays so: by that its money goes back.
            Some(_) if row.status == Status::Failed => {
                want(&tx, ctx, row, (desired, reason)).await?;
            }
            Some(service) => {
                refuse_paid(&tx, &row, desired).await?;
                let wanted = match desired {
                    Desired::Active => services::Desired::Active,
                    Desired::Suspended => services::Desired::Suspended,
                    Desired::Deleted => services::Desired::Terminated,
                };
                services::want_as(&tx, Some(ctx), service, (wanted, reason)).await?;
            }
            None => {
                want(&tx, ctx, row, (desired, reason)).await?;
            }
        }
    }
    let row = super::load_pod(&tx, id).await?;
    tx.commit().await?;
    Ok(row)
}

/// Nobody pays on for what they have deleted.
async fn refuse_paid(tx: &SystemTx, row: &cloudpod::Model, desired: Desired) -> Result<()> {
    let Some(service) = row.service_id else { return Ok(()) };
    if desired != Desired::Deleted {
        return Ok(());
    }
    let order = services::load_service(tx, service).await?.order_id;
    let paid = subscriptions::of_order(tx, order).await?.filter(|s| !s.status.is_over());
    let Some(subscription) = paid else { return Ok(()) };
    let text = format!(
        "This CloudPod is paid for by the subscription {}: cancel that, and the CloudPod ends with it.",
        subscription.id
    );
    Err(Error::refused(Code::CloudpodSold, text))
}

/// Lets a suspended pod be stopped again that somebody has started on its node; whether a job was made.
pub async fn stop_again(tx: &SystemTx, id: CloudpodId) -> Result<bool> {
    let row = lock(tx, id).await?;
    let is_closed = row.status == Status::Suspended && row.desired == Desired::Suspended;
    let is_early = row.next_at > Utc::now();
    if !is_closed || is_early || is_working(tx, row.job_id).await? {
        return Ok(false);
    }
    let ctx = TenantCtx::system(row.tenant_id);
    queue(tx, &ctx, row, "suspend", None).await?;
    Ok(true)
}

/// Lets a pod that could not be made be tried anew. One that was sold is tried by the platform's
/// people, with its service.
pub async fn retry(db: &Db, ctx: &TenantCtx, id: CloudpodId) -> Result<cloudpod::Model> {
    ctx.require_write(Permission::CloudpodsWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock_own(&tx, ctx, id).await?;
    if row.status != Status::Failed || row.desired == Desired::Deleted {
        return Err(refusal(&row, "only one that failed is tried again"));
    }
    if let Some(service) = row.service_id {
        let text = format!("It was sold: the service {service} is tried again, by your provider.");
        return Err(Error::refused(Code::CloudpodState, text));
    }
    let entry = Audit::CloudpodRetried { cloudpod: id };
    tx.audit(ctx, entry).await?;
    again(&tx, ctx, row).await?;
    let row = super::load_pod(&tx, id).await?;
    tx.commit().await?;
    Ok(row)
}

/// Makes a pod wait for its first attempt again.
pub(super) async fn again(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
) -> Result<cloudpod::Model> {
    let mut active: cloudpod::ActiveModel = row.into();
    active.attempts = Set(0);
    active.error = Set(None);
    active.waiting_since = Set(Utc::now());
    active.next_at = Set(Utc::now());
    let row = become_status(tx, active, Status::Pending, None).await?;
    go_on_as(tx, ctx, row).await
}
