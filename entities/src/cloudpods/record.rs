//! What a worker that holds a pod's job writes down.

use super::actions::Target;
use super::settle::Power;
use super::{Size, Status, lock, placement};
use crate::Result;
use crate::audit::Audit;
use crate::db::SystemTx;
use crate::error::Error;
use crate::ids::{BackupId, CloudpodId, JobId, RowId, ServerId};
use crate::jobs::{self, Claim};
use crate::tables::{
    cloudpod, cloudpod_backup, cloudpod_snapshot, guest, job, placement as places,
};
use crate::tenancy::TenantCtx;
use chrono::Utc;
use sea_orm::sea_query::{Expr, OnConflict, Query};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use values::Vmid;

/// A backup as its storage has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    pub backup: BackupId,
    pub volume: String,
    pub bytes: i64,
}

/// Writes down what an action changed beside the pod's own row.
pub(super) async fn acted(
    tx: &SystemTx,
    row: &cloudpod::Model,
    (phase, result): (&str, &Value),
) -> Result<()> {
    let parameters = row.parameters.clone().unwrap_or(Value::Null);
    let name = parameters.get("name").and_then(Value::as_str);
    match phase {
        "resize" => {
            let size: Size = serde_json::from_value(parameters)?;
            resize_place(tx, row, &size).await
        }
        "snapshot" => set_snapshot(tx, row.id, name).await,
        "delete_snapshot" => forget_snapshot(tx, row.id, name).await,
        "root_keys" => {
            let mut active: cloudpod::ActiveModel = row.clone().into();
            active.ssh_keys = Set(parameters.get("ssh_keys").cloned().unwrap_or(Value::Null));
            active.update(tx.conn()).await?;
            Ok(())
        }
        "backup" => {
            let saved: Saved = serde_json::from_value(result.clone())?;
            let found = cloudpod_backup::Entity::find_by_id(saved.backup).one(tx.conn()).await?;
            let mut found: cloudpod_backup::ActiveModel =
                found.ok_or(Error::NotFound("backup"))?.into();
            found.state = Set("ready".to_owned());
            found.volume = Set(Some(saved.volume));
            found.bytes = Set(Some(saved.bytes));
            found.update(tx.conn()).await?;
            Ok(())
        }
        "delete_backup" => forget_backup(tx, &parameters).await,
        "move" => moved(tx, row, serde_json::from_value(parameters)?).await,
        _ => Ok(()),
    }
}

/// Takes back what an action that failed had taken.
pub(super) async fn not_acted(tx: &SystemTx, row: &cloudpod::Model, phase: &str) -> Result<()> {
    let parameters = row.parameters.clone().unwrap_or(Value::Null);
    let name = parameters.get("name").and_then(Value::as_str);
    match phase {
        "resize" => resize_place(tx, row, &Size::of(row)?).await,
        "snapshot" => forget_snapshot(tx, row.id, name).await,
        "delete_snapshot" => set_snapshot(tx, row.id, name).await,
        "backup" => forget_backup(tx, &parameters).await,
        "delete_backup" => {
            let id = backup_of(&parameters)?;
            if let Some(found) = cloudpod_backup::Entity::find_by_id(id).one(tx.conn()).await? {
                let mut found: cloudpod_backup::ActiveModel = found.into();
                found.state = Set("ready".to_owned());
                found.update(tx.conn()).await?;
            }
            Ok(())
        }
        "move" => release_target(tx, row).await,
        _ => Ok(()),
    }
}

/// Lets a pod's place be as large as this.
pub(super) async fn resize_place(tx: &SystemTx, row: &cloudpod::Model, size: &Size) -> Result<()> {
    let place = placement::of_pod(tx, row.id).await?;
    let place = place.ok_or_else(|| Error::internal("a pod without a place"))?;
    let mut place: places::ActiveModel = place.into();
    place.cpu_cores = Set(i32::try_from(size.cpu_cores).map_err(Error::internal)?);
    place.memory_mib = Set(i64::from(size.memory_mib));
    place.disk_mib = Set(i64::from(size.disk_mib));
    place.grown_until = Set(None);
    place.update(tx.conn()).await?;
    Ok(())
}

async fn set_snapshot(tx: &SystemTx, pod: CloudpodId, name: Option<&str>) -> Result<()> {
    let found = cloudpod_snapshot::Entity::find()
        .filter(cloudpod_snapshot::Column::CloudpodId.eq(pod))
        .filter(cloudpod_snapshot::Column::Name.eq(name.unwrap_or_default()))
        .one(tx.conn())
        .await?;
    if let Some(found) = found {
        let mut found: cloudpod_snapshot::ActiveModel = found.into();
        found.state = Set("ready".to_owned());
        found.update(tx.conn()).await?;
    }
    Ok(())
}

async fn forget_snapshot(tx: &SystemTx, pod: CloudpodId, name: Option<&str>) -> Result<()> {
    cloudpod_snapshot::Entity::delete_many()
        .filter(cloudpod_snapshot::Column::CloudpodId.eq(pod))
        .filter(cloudpod_snapshot::Column::Name.eq(name.unwrap_or_default()))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Whether the backup that a pod's job makes is one of its schedule.
pub(super) async fn is_by_the_clock(tx: &SystemTx, row: &cloudpod::Model) -> Result<bool> {
    let Some(parameters) = &row.parameters else { return Ok(false) };
    let backup = cloudpod_backup::Entity::find_by_id(backup_of(parameters)?).one(tx.conn()).await?;
    Ok(backup.is_some_and(|backup| backup.scheduled))
}

async fn forget_backup(tx: &SystemTx, parameters: &Value) -> Result<()> {
    cloudpod_backup::Entity::delete_by_id(backup_of(parameters)?).exec(tx.conn()).await?;
    Ok(())
}

fn backup_of(parameters: &Value) -> Result<BackupId> {
    let id = parameters.get("backup").cloned().unwrap_or(Value::Null);
    Ok(serde_json::from_value(id)?)
}

/// The places of a pod: its own first, then the one that it moves to.
async fn places(tx: &SystemTx, pod: CloudpodId) -> Result<Vec<places::Model>> {
    Ok(places::Entity::find()
        .filter(places::Column::CloudpodId.eq(pod))
        .filter(places::Column::ReleasedAt.is_null())
        .order_by_asc(places::Column::CreatedAt)
        .all(tx.conn())
        .await?)
}

async fn moved(tx: &SystemTx, row: &cloudpod::Model, target: Target) -> Result<()> {
    let mut found = places(tx, row.id).await?.into_iter();
    let own = found.next().ok_or_else(|| Error::internal("a pod without a place"))?;
    for other in found {
        places::Entity::delete_by_id(other.id).exec(tx.conn()).await?;
    }
    let mut own: places::ActiveModel = own.into();
    own.server_id = Set(target.server);
    own.update(tx.conn()).await?;
    let mut active: cloudpod::ActiveModel = row.clone().into();
    active.server_id = Set(Some(target.server));
    active.update(tx.conn()).await?;
    Ok(())
}

async fn release_target(tx: &SystemTx, row: &cloudpod::Model) -> Result<()> {
    for other in places(tx, row.id).await?.into_iter().skip(1) {
        places::Entity::delete_by_id(other.id).exec(tx.conn()).await?;
    }
    Ok(())
}

/// Writes down that the container of a claimed pod was replaced, by a backup or a new installation: its
/// snapshots went with the old one, whatever becomes of the job.
pub async fn record_replaced(tx: &SystemTx, claim: &Claim) -> Result<()> {
    let row = lock(tx, super::load_claimed(tx, claim).await?.id).await?;
    jobs::hold(tx, claim).await?;
    cloudpod_snapshot::Entity::delete_many()
        .filter(cloudpod_snapshot::Column::CloudpodId.eq(row.id))
        .exec(tx.conn())
        .await?;
    let parameters = row.parameters.clone().unwrap_or(Value::Null);
    let mut size = Size::of(&row)?;
    let mut active: cloudpod::ActiveModel = row.into();
    if let Some(keys) = parameters.get("ssh_keys").filter(|keys| keys.is_array()) {
        active.ssh_keys = Set(keys.clone());
    }
    if let Some(template) = parameters.get("template").filter(|t| t.is_string()) {
        size.template = serde_json::from_value(template.clone())?;
        active.specification = Set(serde_json::to_value(size)?);
    }
    active.updated_at = Set(Utc::now());
    active.update(tx.conn()).await?;
    Ok(())
}

/// Writes down that a pod that was `looked_at` is on another node of its cluster, where somebody has
/// moved it; whether it was still as it was then.
pub async fn record_moved(
    tx: &SystemTx,
    looked_at: &cloudpod::Model,
    (server, name): (ServerId, &str),
) -> Result<bool> {
    let Some(row) = hold(tx, looked_at).await? else { return Ok(false) };
    moved(tx, &row, Target { server }).await?;
    let row = super::load_pod(tx, row.id).await?;
    let (id, tenant) = (row.id, row.tenant_id);
    let error = row.error.clone().filter(|error| error != MISSING);
    let mut active: cloudpod::ActiveModel = row.into();
    active.error = Set(error);
    active.next_at = Set(Utc::now());
    active.updated_at = Set(Utc::now());
    active.update(tx.conn()).await?;
    let result = json!({ "node": name, "by": "hand" });
    let entry = Audit::CloudpodActed { cloudpod: id, action: "move".to_owned(), result };
    tx.audit(&TenantCtx::system(tenant), entry).await?;
    Ok(true)
}

/// Keeps that a VMID belongs to a guest that is not ours, so that it is never given.
pub async fn record_guest(
    tx: &SystemTx,
    (cluster, vmid): (&str, Vmid),
    server: ServerId,
    name: Option<&str>,
) -> Result<()> {
    let row = guest::ActiveModel {
        id: Set(RowId::new()),
        cluster: Set(cluster.to_owned()),
        vmid: Set(vmid.into()),
        server_id: Set(Some(server)),
        name: Set(name.map(str::to_owned)),
        seen_at: Set(Utc::now()),
    };
    let again = OnConflict::columns([guest::Column::Cluster, guest::Column::Vmid])
        .update_columns([guest::Column::ServerId, guest::Column::Name, guest::Column::SeenAt])
        .to_owned();
    guest::Entity::insert(row).on_conflict(again).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// What a node says of a pod's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub power: Power,
    pub cpu_cores: Option<u32>,
    pub memory_mib: Option<u32>,
    pub disk_mib: Option<u32>,
    /// Seconds since it was started.
    pub uptime_secs: u64,
}

/// Keeps what a node says of a pod that was `looked_at`: its status follows that. What was seen before
/// something else was done with it counts for nothing. Whether it was new.
pub async fn record_seen(tx: &SystemTx, looked_at: &cloudpod::Model, seen: &Seen) -> Result<bool> {
    let Some(row) = hold(tx, looked_at).await? else { return Ok(false) };
    let status = match (row.status, seen.power) {
        (Status::Active, Power::Stopped) => Status::Stopped,
        (Status::Stopped, Power::Running) => Status::Active,
        (status, _) => status,
    };
    let is_new = status != row.status;
    let (id, tenant, before) = (row.id, row.tenant_id, row.status);
    let error = row.error.clone().filter(|error| error != MISSING);
    let mut active: cloudpod::ActiveModel = row.into();
    active.error = Set(error);
    active.seen_at = Set(Some(Utc::now()));
    active.seen = Set(Some(serde_json::to_value(seen)?));
    active.status = Set(status);
    active.update(tx.conn()).await?;
    if is_new {
        let entry = Audit::CloudpodPowerSeen {
            cloudpod: id,
            before: before.as_str().to_owned(),
            after: status.as_str().to_owned(),
        };
        tx.audit(&TenantCtx::system(tenant), entry).await?;
    }
    Ok(is_new)
}

/// What a customer is told whose container is not there.
const MISSING: &str = "Its container is not on its node: your provider knows.";

/// Writes down that a pod that was `looked_at` has no container any more; whether it was still as it
/// was then.
pub async fn record_missing(tx: &SystemTx, looked_at: &cloudpod::Model) -> Result<bool> {
    let Some(row) = hold(tx, looked_at).await? else { return Ok(false) };
    let status = if row.status == Status::Active { Status::Stopped } else { row.status };
    let mut active: cloudpod::ActiveModel = row.into();
    active.error = Set(Some(MISSING.to_owned()));
    super::become_status(tx, active, status, None).await?;
    Ok(true)
}

/// Locks a pod that is still as it was when it was looked at, for repairing its container: until the
/// transaction ends nobody begins anything with it. None: it is otherwise by now.
pub async fn hold(tx: &SystemTx, seen: &cloudpod::Model) -> Result<Option<cloudpod::Model>> {
    let row = lock(tx, seen.id).await?;
    let is_same = (row.status, row.desired, &row.specification, row.server_id, row.vmid)
        == (seen.status, seen.desired, &seen.specification, seen.server_id, seen.vmid)
        && row.job_id == seen.job_id;
    if !is_same || super::is_working(tx, row.job_id).await? {
        return Ok(None);
    }
    Ok(Some(row))
}

/// Whether a number of a cluster was given to this very pod, now or before: only then a container of that
/// number with the pod's mark is its own. Copies of containers carry the mark, too.
pub async fn had_vmid(
    tx: &SystemTx,
    (cluster, vmid): (&str, Vmid),
    pod: CloudpodId,
) -> Result<bool> {
    let count = places::Entity::find()
        .filter(places::Column::Cluster.eq(cluster))
        .filter(places::Column::Vmid.eq(i64::from(vmid)))
        .filter(places::Column::CloudpodId.eq(pod))
        .count(tx.conn())
        .await?;
    Ok(count > 0)
}

/// Whether what a job has made was ever somebody's: only a container of an attempt at making a pod that
/// came to nothing has never had anything in it.
pub async fn was_handed_over(tx: &SystemTx, id: JobId) -> Result<bool> {
    let Some(job) = job::Entity::find_by_id(id).one(tx.conn()).await? else { return Ok(true) };
    let came_to_nothing =
        job.phase == "take_back" || (job.phase == "provision" && job.state == "failed");
    Ok(!came_to_nothing)
}

/// Whether a container was ever to be made anew for a pod on a server: by a restore, or a new
/// installation.
pub async fn was_renewed(tx: &SystemTx, pod: CloudpodId, server: ServerId) -> Result<bool> {
    let jobs = job::Entity::find()
        .filter(job::Column::ServerId.eq(server))
        .filter(job::Column::Subject.eq(format!("cloudpod:{pod}")))
        .filter(job::Column::Phase.is_in(["restore", "reinstall"]))
        .count(tx.conn())
        .await?;
    Ok(jobs > 0)
}

/// Writes down that the disk of a claimed pod has grown for good, though its job came to nothing.
pub async fn record_disk(tx: &SystemTx, claim: &Claim, mebibytes: u32) -> Result<()> {
    let row = lock(tx, super::load_claimed(tx, claim).await?.id).await?;
    jobs::hold(tx, claim).await?;
    let mut size = Size::of(&row)?;
    size.disk_mib = size.disk_mib.max(mebibytes);
    let mut row: cloudpod::ActiveModel = row.into();
    row.specification = Set(serde_json::to_value(size)?);
    row.update(tx.conn()).await?;
    Ok(())
}

/// Keeps that a claimed job was about to be carried out with an input that no command takes.
pub async fn record_rejection(tx: &SystemTx, claim: &Claim, what: &str) -> Result<()> {
    let cloudpod = super::load_claimed(tx, claim).await?.id;
    jobs::hold(tx, claim).await?;
    let entry = Audit::CloudpodProvisioningInputRejected {
        cloudpod: Some(cloudpod),
        job: Some(claim.job.to_string()),
        input: what.to_owned(),
    };
    tx.audit(&claim.ctx(), entry).await
}

/// Whether a job works on a pod, or waits to.
pub async fn is_at_work(tx: &SystemTx, row: &cloudpod::Model) -> Result<bool> {
    super::is_working(tx, row.job_id).await
}

/// The pods on a server that there is a container of, or may be one.
pub async fn pods_on(tx: &SystemTx, server: ServerId) -> Result<Vec<cloudpod::Model>> {
    Ok(cloudpod::Entity::find()
        .filter(cloudpod::Column::ServerId.eq(server))
        .filter(cloudpod::Column::Status.ne(Status::Deleted))
        .filter(cloudpod::Column::Vmid.is_not_null())
        .all(tx.conn())
        .await?)
}

/// How many pods of a cluster had a VMID, whatever has become of them.
pub async fn is_vmid_ours(tx: &SystemTx, cluster: &str, vmid: Vmid) -> Result<bool> {
    let ours = places::Entity::find()
        .filter(places::Column::Cluster.eq(cluster))
        .filter(places::Column::Vmid.eq(i64::from(vmid)))
        .count(tx.conn())
        .await?;
    Ok(ours > 0)
}

/// The backups of a pod that its servers have, or are making.
pub async fn backups_of(tx: &SystemTx, pod: CloudpodId) -> Result<Vec<cloudpod_backup::Model>> {
    Ok(cloudpod_backup::Entity::find()
        .filter(cloudpod_backup::Column::CloudpodId.eq(pod))
        .order_by_asc(cloudpod_backup::Column::CreatedAt)
        .all(tx.conn())
        .await?)
}

/// Writes down that a backup of a pod that goes could not be removed yet.
pub async fn record_left(tx: &SystemTx, id: BackupId) -> Result<()> {
    cloudpod_backup::Entity::update_many()
        .col_expr(cloudpod_backup::Column::State, Expr::value("deleting"))
        .filter(cloudpod_backup::Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// What a node's storage still has of pods that are gone.
pub async fn left_on(tx: &SystemTx, server: ServerId) -> Result<Vec<cloudpod_backup::Model>> {
    let gone = Query::select()
        .column(cloudpod::Column::Id)
        .from(cloudpod::Entity)
        .and_where(cloudpod::Column::Status.eq(Status::Deleted))
        .to_owned();
    Ok(cloudpod_backup::Entity::find()
        .filter(cloudpod_backup::Column::ServerId.eq(server))
        .filter(cloudpod_backup::Column::State.eq("deleting"))
        .filter(cloudpod_backup::Column::CloudpodId.in_subquery(gone))
        .all(tx.conn())
        .await?)
}

/// Writes down that it has it no more.
pub async fn forget_left(tx: &SystemTx, id: BackupId) -> Result<()> {
    cloudpod_backup::Entity::delete_by_id(id).exec(tx.conn()).await?;
    Ok(())
}

/// Forgets a pod's backups but those that are still to be removed.
pub(super) async fn forget_backups(tx: &SystemTx, pod: CloudpodId) -> Result<()> {
    cloudpod_backup::Entity::delete_many()
        .filter(cloudpod_backup::Column::CloudpodId.eq(pod))
        .filter(cloudpod_backup::Column::State.ne("deleting"))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// A backup.
pub async fn load_backup(tx: &SystemTx, id: BackupId) -> Result<cloudpod_backup::Model> {
    let row = cloudpod_backup::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("backup"))
}
