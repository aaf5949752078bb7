//! Backups by the clock, and what is kept of them.

use super::{Act, Status, actions, is_working, lock};
use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::error::Error;
use crate::ids::CloudpodId;
use crate::tables::{cloudpod, cloudpod_backup, cloudpod_snapshot};
use crate::tenancy::{Permission, TenantCtx};
use chrono::{TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder,
};

/// How often a pod is backed up, and how many of those backups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// 1 to 8760.
    pub every_hours: u32,
    /// 1 to 100.
    pub keep: u32,
}

/// Sets when a pod is backed up; none: only when somebody asks.
pub async fn set_schedule(
    db: &Db,
    ctx: &TenantCtx,
    id: CloudpodId,
    schedule: Option<Schedule>,
) -> Result<cloudpod::Model> {
    ctx.require_write(Permission::CloudpodsWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = super::lock_own(&tx, ctx, id).await?;
    if matches!(row.status, Status::Deleting | Status::Deleted) {
        return Err(super::refusal(&row, "it is not backed up any more"));
    }
    let mut active: cloudpod::ActiveModel = row.into();
    let whole = |number: u32| i32::try_from(number).map_err(Error::internal);
    active.backup_every_hours = Set(schedule.map(|s| whole(s.every_hours)).transpose()?);
    active.backups_kept = Set(schedule.map(|s| whole(s.keep)).transpose()?);
    active.backup_next_at =
        Set(schedule.map(|s| Utc::now() + TimeDelta::hours(i64::from(s.every_hours))));
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    let entry = Audit::CloudpodBackupsScheduled {
        cloudpod: id,
        every_hours: row.backup_every_hours,
        keep: row.backups_kept,
    };
    tx.audit(ctx, entry).await?;
    tx.commit().await?;
    Ok(row)
}

/// Pods whose backup is due, or that have more of them than are kept, and that no job works on.
const DUE: &str = "SELECT p.id FROM cloudpod p
    WHERE p.status IN ('active', 'stopped') AND p.desired = 'active'
      AND (p.backup_next_at <= now() OR p.backups_kept < (SELECT count(*) FROM cloudpod_backup b
            WHERE b.cloudpod_id = p.id AND b.scheduled AND b.state = 'ready'))
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = p.job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
    ORDER BY p.backup_next_at LIMIT $1";

/// Begins the backups that are due, and removes those that are too many, oldest first, up to `limit`
/// pods. Called every few seconds.
pub async fn back_up_due(tx: &SystemTx, limit: u64) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = tx.conn().query_all_raw(statement(DUE, [limit.into()])).await?;
    let mut count = 0;
    for row in rows {
        let row = lock(tx, row.try_get("", "id")?).await?;
        if is_working(tx, row.job_id).await? || !row.status.is_made() {
            continue;
        }
        let ctx = TenantCtx::system(row.tenant_id);
        let act = match too_many(tx, &row).await? {
            Some(oldest) => Act::DeleteBackup { backup: oldest.id },
            None => Act::Backup { scheduled: true },
        };
        let is_backup = matches!(act, Act::Backup { .. });
        let hours = row.backup_every_hours;
        let begun = actions::begin(tx, &ctx, row, act).await?;
        if is_backup && let Some(hours) = hours {
            let mut active: cloudpod::ActiveModel = begun.into();
            active.backup_next_at = Set(Some(Utc::now() + TimeDelta::hours(i64::from(hours))));
            active.update(tx.conn()).await?;
        }
        count += 1;
    }
    Ok(count)
}

async fn too_many(tx: &SystemTx, row: &cloudpod::Model) -> Result<Option<cloudpod_backup::Model>> {
    let Some(keep) = row.backups_kept else { return Ok(None) };
    let ready = cloudpod_backup::Entity::find()
        .filter(cloudpod_backup::Column::CloudpodId.eq(row.id))
        .filter(cloudpod_backup::Column::Scheduled.eq(true))
        .filter(cloudpod_backup::Column::State.eq("ready"))
        .order_by_asc(cloudpod_backup::Column::CreatedAt)
        .all(tx.conn())
        .await?;
    let keep = usize::try_from(keep).map_err(Error::internal)?;
    Ok(if ready.len() > keep { ready.into_iter().next() } else { None })
}

/// The backups of a pod of the tenant, newest first.
pub async fn list_backups(tx: &TenantTx, id: CloudpodId) -> Result<Vec<cloudpod_backup::Model>> {
    super::find_pod(tx, id).await?;
    Ok(tx
        .own::<cloudpod_backup::Entity>()
        .filter(cloudpod_backup::Column::CloudpodId.eq(id))
        .order_by_desc(cloudpod_backup::Column::CreatedAt)
        .all(tx.conn())
        .await?)
}

/// The snapshots of a pod of the tenant, newest first.
pub async fn list_snapshots(
    tx: &TenantTx,
    id: CloudpodId,
) -> Result<Vec<cloudpod_snapshot::Model>> {
    super::find_pod(tx, id).await?;
    Ok(tx
        .own::<cloudpod_snapshot::Entity>()
        .filter(cloudpod_snapshot::Column::CloudpodId.eq(id))
        .order_by_desc(cloudpod_snapshot::Column::CreatedAt)
        .all(tx.conn())
        .await?)
}
