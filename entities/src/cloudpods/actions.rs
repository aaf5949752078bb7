//! What people do with a pod: each is a job, one at a time.

use super::placement::{self, Wanted};
use super::{Desired, Size, Status, converge, is_working, lock_own, refusal, templates};
use crate::Result;
use crate::audit::Audit;
use crate::catalogue::specification::{
    CPU_CORES_MAX, DISK_MIB_MAX, MEMORY_MIB, POD_DISK_MIB_MIN, Siting,
};
use crate::db::{Db, SystemTx};
use crate::error::{Code, Error};
use crate::ids::{BackupId, CloudpodId, RowId, ServerId};
use crate::tables::{cloudpod, cloudpod_backup, cloudpod_snapshot};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use values::{SnapshotName, SshKey, TemplateCode, Title};

/// The most snapshots of a pod.
pub const SNAPSHOTS_MAX: u64 = 10;
/// The most backups of a pod.
pub const BACKUPS_MAX: u64 = 100;

/// What is to be done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    Start,
    /// Asked to shut down, and after a minute stopped; at once with `force`.
    Stop {
        force: bool,
    },
    Reboot,
    /// A disk only grows.
    Resize {
        cpu_cores: Option<u32>,
        memory_mib: Option<u32>,
        disk_mib: Option<u32>,
    },
    /// All that is in it is lost.
    Reinstall {
        template: Option<TemplateCode>,
        ssh_keys: Option<Vec<SshKey>>,
    },
    /// These are root's keys, and no others.
    RootKeys {
        ssh_keys: Vec<SshKey>,
    },
    Snapshot {
        name: SnapshotName,
        description: Option<Title>,
    },
    /// All that was changed since is lost.
    Rollback {
        name: SnapshotName,
    },
    DeleteSnapshot {
        name: SnapshotName,
    },
    Backup {
        scheduled: bool,
    },
    /// All that is in it is replaced by what was saved.
    Restore {
        backup: BackupId,
    },
    DeleteBackup {
        backup: BackupId,
    },
    /// To this server, or to the least loaded of its cluster.
    Move {
        server: Option<ServerId>,
    },
}

/// What the job of a move needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    pub server: ServerId,
}

impl Act {
    fn permission(&self) -> Permission {
        match self {
            Self::Start | Self::Stop { .. } | Self::Reboot => Permission::CloudpodsPower,
            Self::Move { .. } => Permission::ServersWrite,
            _ => Permission::CloudpodsWrite,
        }
    }

    fn phase(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop { .. } => "stop",
            Self::Reboot => "reboot",
            Self::Resize { .. } => "resize",
            Self::Reinstall { .. } => "reinstall",
            Self::RootKeys { .. } => "root_keys",
            Self::Snapshot { .. } => "snapshot",
            Self::Rollback { .. } => "rollback",
            Self::DeleteSnapshot { .. } => "delete_snapshot",
            Self::Backup { .. } => "backup",
            Self::Restore { .. } => "restore",
            Self::DeleteBackup { .. } => "delete_backup",
            Self::Move { .. } => "move",
        }
    }
}

/// Begins to do something with a pod of the tenant that `ctx` acts in. Refused with `cloudpod_busy`
/// while a job works on it, and with `cloudpod_state` when it is not in a state for that.
pub async fn act(db: &Db, ctx: &TenantCtx, id: CloudpodId, what: Act) -> Result<cloudpod::Model> {
    ctx.require_write(what.permission())?;
    let tx = db.system_as(ctx).await?;
    let row = lock_own(&tx, ctx, id).await?;
    let row = begin(&tx, ctx, row, what).await?;
    tx.commit().await?;
    Ok(row)
}

/// The same for a pod whose row is locked, after the right was checked.
pub(super) async fn begin(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
    what: Act,
) -> Result<cloudpod::Model> {
    if row.desired == Desired::Suspended || row.status == Status::Suspended {
        return Err(refusal(
            &row,
            "nothing is done with it before it is opened again. Ask your provider",
        ));
    }
    if !matches!(row.status, Status::Active | Status::Stopped) || row.desired == Desired::Deleted {
        return Err(refusal(&row, "this needs one that runs or is stopped"));
    }
    if is_working(tx, row.job_id).await? {
        let action = row.action.clone().unwrap_or_default();
        let text =
            format!("Something is done with this CloudPod already: {action}. Wait for its end.");
        return Err(Error::refused(Code::CloudpodBusy, text));
    }
    if matches!(what, Act::Reboot) && row.status != Status::Active {
        return Err(refusal(&row, "only one that runs is rebooted. Start it"));
    }
    carry_out(tx, ctx, row, what).await
}

/// The same for one that is known to be in a state for it.
pub(super) async fn carry_out(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
    what: Act,
) -> Result<cloudpod::Model> {
    let parameters = prepare(tx, ctx, &row, &what).await?;
    let entry = Audit::CloudpodActionRequested {
        cloudpod: row.id,
        action: what.phase().to_owned(),
        parameters: parameters.clone(),
    };
    tx.audit(&ctx.within(row.tenant_id), entry).await?;
    converge::queue(tx, ctx, row, what.phase(), Some(parameters)).await
}

/// Checks what is asked, takes what it needs, and says with what the job works.
async fn prepare(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: &cloudpod::Model,
    what: &Act,
) -> Result<Value> {
    match what {
        Act::Resize { cpu_cores, memory_mib, disk_mib } => {
            if !ctx.is_platform_staff() {
                let text = match row.service_id {
                    Some(_) => "Its size is that of its plan: change the plan of its subscription.",
                    None => "Its size is that of its plan: ask your provider for another.",
                };
                return Err(Error::refused(Code::CloudpodSold, text));
            }
            let mut size = Size::of(row)?;
            resize_to(&mut size, (*cpu_cores, *memory_mib, *disk_mib))?;
            reserve(tx, row, &size).await?;
            Ok(serde_json::to_value(size)?)
        }
        Act::Reinstall { template, ssh_keys } => {
            if let Some(template) = template {
                templates::open_template(tx, template).await?;
            }
            check_keys(ssh_keys.as_deref().unwrap_or_default())?;
            Ok(serde_json::to_value(what)?)
        }
        Act::RootKeys { ssh_keys } => {
            check_keys(ssh_keys)?;
            Ok(serde_json::to_value(what)?)
        }
        Act::Snapshot { name, description } => {
            make_snapshot(tx, row, name, description.as_ref()).await?;
            Ok(serde_json::to_value(what)?)
        }
        Act::Rollback { name } => {
            ready_snapshot(tx, row, name).await?;
            Ok(serde_json::to_value(what)?)
        }
        Act::DeleteSnapshot { name } => {
            let snapshot = ready_snapshot(tx, row, name).await?;
            let mut snapshot: cloudpod_snapshot::ActiveModel = snapshot.into();
            snapshot.state = Set("deleting".to_owned());
            snapshot.update(tx.conn()).await?;
            Ok(serde_json::to_value(what)?)
        }
        Act::Backup { scheduled } => {
            let backup = make_backup(tx, row, *scheduled).await?;
            Ok(serde_json::json!({ "backup": backup }))
        }
        Act::Restore { backup } => {
            ready_backup(tx, row, *backup).await?;
            Ok(serde_json::json!({ "backup": backup }))
        }
        Act::DeleteBackup { backup } => {
            let found = ready_backup(tx, row, *backup).await?;
            let mut found: cloudpod_backup::ActiveModel = found.into();
            found.state = Set("deleting".to_owned());
            found.update(tx.conn()).await?;
            Ok(serde_json::json!({ "backup": backup }))
        }
        Act::Move { server } => Ok(serde_json::to_value(take_target(tx, row, *server).await?)?),
        Act::Start | Act::Stop { .. } | Act::Reboot => Ok(serde_json::to_value(what)?),
    }
}

fn check_keys(keys: &[SshKey]) -> Result<()> {
    match keys.len() <= super::create::KEYS_MAX {
        true => Ok(()),
        false => {
            Err(Error::field("ssh_keys", format!("must be at most {}", super::create::KEYS_MAX)))
        }
    }
}

fn resize_to(
    size: &mut Size,
    (cpu_cores, memory_mib, disk_mib): (Option<u32>, Option<u32>, Option<u32>),
) -> Result<()> {
    let within =
        |name: &str, value: u32, (least, most): (u32, u32)| match (least..=most).contains(&value) {
            true => Ok(value),
            false => Err(Error::field(name, format!("must be {least} to {most}"))),
        };
    if let Some(cores) = cpu_cores {
        size.cpu_cores = within("cpu_cores", cores, (1, CPU_CORES_MAX))?;
    }
    if let Some(mib) = memory_mib {
        size.memory_mib = within("memory_mib", mib, MEMORY_MIB)?;
    }
    if let Some(mib) = disk_mib {
        if mib < size.disk_mib {
            let rule = format!(
                "cannot become less than the {} that it has: a disk only grows. Make a smaller CloudPod and move what is in it",
                size.disk_mib
            );
            return Err(Error::field("disk_mib", rule));
        }
        size.disk_mib = within("disk_mib", mib, (POD_DISK_MIB_MIN, DISK_MIB_MAX))?;
    }
    Ok(())
}

/// Takes room for a pod that grows, and keeps that of one that shrinks until it has shrunk.
pub(super) async fn reserve(tx: &SystemTx, row: &cloudpod::Model, size: &Size) -> Result<()> {
    let place = placement::of_pod(tx, row.id).await?;
    let place = place.ok_or_else(|| Error::internal("a pod without a place"))?;
    let now = Size::of(row)?;
    let more = Size {
        cpu_cores: size.cpu_cores.max(now.cpu_cores),
        memory_mib: size.memory_mib.max(now.memory_mib),
        disk_mib: size.disk_mib.max(now.disk_mib),
        ..now
    };
    placement::resize(tx, place, &more, &row.hostname).await
}

async fn make_snapshot(
    tx: &SystemTx,
    row: &cloudpod::Model,
    name: &SnapshotName,
    description: Option<&Title>,
) -> Result<()> {
    let of_pod =
        cloudpod_snapshot::Entity::find().filter(cloudpod_snapshot::Column::CloudpodId.eq(row.id));
    if of_pod.clone().count(tx.conn()).await? >= SNAPSHOTS_MAX {
        let text = format!("A CloudPod has at most {SNAPSHOTS_MAX} snapshots: delete one first.");
        return Err(Error::refused(Code::QuotaExceeded, text));
    }
    let same = of_pod.filter(cloudpod_snapshot::Column::Name.eq(name.as_str()));
    if same.count(tx.conn()).await? > 0 {
        let text = format!("There is a snapshot {name} already: choose another name.");
        return Err(Error::refused(Code::Conflict, text));
    }
    let row = cloudpod_snapshot::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(row.tenant_id),
        cloudpod_id: Set(row.id),
        name: Set(name.to_string()),
        description: Set(description.map(ToString::to_string).unwrap_or_default()),
        state: Set("making".to_owned()),
        created_at: Set(Utc::now()),
    };
    row.insert(tx.conn()).await?;
    Ok(())
}

async fn ready_snapshot(
    tx: &SystemTx,
    row: &cloudpod::Model,
    name: &SnapshotName,
) -> Result<cloudpod_snapshot::Model> {
    let found = cloudpod_snapshot::Entity::find()
        .filter(cloudpod_snapshot::Column::CloudpodId.eq(row.id))
        .filter(cloudpod_snapshot::Column::Name.eq(name.as_str()))
        .one(tx.conn())
        .await?;
    found.ok_or(Error::NotFound("snapshot"))
}

async fn make_backup(tx: &SystemTx, row: &cloudpod::Model, scheduled: bool) -> Result<BackupId> {
    let count = cloudpod_backup::Entity::find()
        .filter(cloudpod_backup::Column::CloudpodId.eq(row.id))
        .count(tx.conn())
        .await?;
    if count >= BACKUPS_MAX {
        let text = format!("A CloudPod has at most {BACKUPS_MAX} backups: delete one first.");
        return Err(Error::refused(Code::QuotaExceeded, text));
    }
    let id = BackupId::new();
    let row = cloudpod_backup::ActiveModel {
        id: Set(id),
        tenant_id: Set(row.tenant_id),
        cloudpod_id: Set(row.id),
        state: Set("making".to_owned()),
        scheduled: Set(scheduled),
        server_id: Set(row.server_id),
        volume: Set(None),
        bytes: Set(None),
        created_at: Set(Utc::now()),
    };
    row.insert(tx.conn()).await?;
    Ok(id)
}

async fn ready_backup(
    tx: &SystemTx,
    row: &cloudpod::Model,
    id: BackupId,
) -> Result<cloudpod_backup::Model> {
    let found = cloudpod_backup::Entity::find_by_id(id)
        .filter(cloudpod_backup::Column::CloudpodId.eq(row.id))
        .filter(cloudpod_backup::Column::State.eq("ready"))
        .one(tx.conn())
        .await?;
    found.ok_or(Error::NotFound("backup"))
}

/// Takes room on another node of the pod's cluster.
async fn take_target(
    tx: &SystemTx,
    row: &cloudpod::Model,
    server: Option<ServerId>,
) -> Result<Target> {
    if server.is_some() && server == row.server_id {
        return Err(Error::field("server_id", "is where it is already"));
    }
    placement::lock(tx).await?;
    // What it is about to grow to is held where it is, and moves with it.
    let size = placement::held_size(tx, row).await?;
    // Whoever names a server has looked at it.
    let siting = match server {
        Some(_) => Siting::default(),
        None => converge::siting(tx, row).await?,
    };
    let wanted = Wanted {
        tenant: row.tenant_id,
        size: &size,
        siting: &siting,
        server,
        avoid: None,
        moves: Some(row),
        order: placement::order_of(tx, row).await?,
    };
    let place = placement::take(tx, &wanted, placement::Holder::Pod(row.id)).await?;
    let place = place.ok_or_else(|| placement::no_room(&row.hostname))?;
    Ok(Target { server: place.server_id })
}
