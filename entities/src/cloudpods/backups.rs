//! Backups by the clock, and what is kept of them.

use super::{Act, Desired, Status, actions, is_working};
use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::due::{self, Due};
use crate::error::{Code, Error};
use crate::ids::{BackupId, CloudpodId, ServerId};
use crate::tables::{cloudpod, cloudpod_backup, cloudpod_snapshot, server};
use crate::tenancy::{Permission, TenantCtx};
use chrono::{TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
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

/// Pods that no job works on: the one of each node whose backup has been due for longest, when the node
/// answers, is not in maintenance and makes none of the clock; and those that have more backups on nodes that
/// answer than are kept.
const DUE: &str = "WITH free AS (SELECT p.* FROM cloudpod p
        WHERE p.status IN ('active', 'stopped') AND p.desired = 'active' AND p.next_at <= now()
          AND NOT EXISTS (SELECT FROM job j WHERE j.id = p.job_id
                AND j.state IN ('queued', 'running', 'unwinding')))
    (SELECT id FROM (
        SELECT DISTINCT ON (p.server_id) p.id, p.backup_next_at FROM free p
        JOIN server s ON s.id = p.server_id AND NOT s.maintenance AND s.last_error IS NULL
        WHERE p.backup_next_at <= now()
          AND NOT EXISTS (SELECT FROM cloudpod_backup b WHERE b.server_id = p.server_id
                AND b.scheduled AND b.state = 'making')
        ORDER BY p.server_id, p.backup_next_at) first
     ORDER BY backup_next_at LIMIT $1)
    UNION
    (SELECT p.id FROM free p WHERE EXISTS (
        SELECT FROM (SELECT b.server_id, row_number() OVER (ORDER BY b.created_at DESC) AS nth
            FROM cloudpod_backup b
            WHERE b.cloudpod_id = p.id AND b.scheduled AND b.state = 'ready') b
        LEFT JOIN server s ON s.id = b.server_id
        WHERE b.nth > p.backups_kept AND s.last_error IS NULL)
     ORDER BY p.id LIMIT $1)";

/// Begins the backups that are due, and removes those that are too many, oldest first, up to `limit`
/// pods. Called every few seconds.
pub async fn back_up_due(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "cloudpod", sql: DUE }, limit, async |tx, id| {
        let row = super::lock(tx, CloudpodId(id)).await?;
        let is_open = matches!(row.status, Status::Active | Status::Stopped)
            && row.desired == Desired::Active;
        if !is_open || is_working(tx, row.job_id).await? {
            return Ok(false);
        }
        let ctx = TenantCtx::system(row.tenant_id);
        let is_due = row.backup_next_at.is_some_and(|at| at <= Utc::now())
            && has_turn(tx, row.server_id).await?;
        // The new one first: an old one that cannot be removed keeps nobody from having it.
        let Some(hours) = row.backup_every_hours.filter(|_| is_due) else {
            let surplus = scheduled(tx, &row).await?.surplus;
            let Some(oldest) = surplus else { return Ok(false) };
            return remove(tx, &ctx, row, oldest).await;
        };
        let before = row.clone();
        let begun = match actions::begin(tx, &ctx, row, Act::Backup { scheduled: true }).await {
            // It has as many as it may have, and its own make room before somebody else's.
            Err(error) if error.code() == Code::QuotaExceeded => {
                if let Some(oldest) = scheduled(tx, &before).await?.oldest {
                    return remove(tx, &ctx, before, oldest).await;
                }
                let mut row: cloudpod::ActiveModel = before.into();
                row.error = Set(Some(format!("The backup that was due was not made. {error}")));
                row
            }
            begun => begun?.into(),
        };
        let mut begun = begun;
        begun.backup_next_at = Set(Some(Utc::now() + TimeDelta::hours(i64::from(hours))));
        begun.update(tx.conn()).await?;
        Ok(true)
    })
    .await
}

/// Whether a node may begin a backup of the clock: it answers, is not in maintenance, and makes none.
async fn has_turn(tx: &SystemTx, server: Option<ServerId>) -> Result<bool> {
    let sql = "SELECT FROM server s WHERE s.id = $1 AND NOT s.maintenance AND s.last_error IS NULL
        AND NOT EXISTS (SELECT FROM cloudpod_backup b WHERE b.server_id = s.id
            AND b.scheduled AND b.state = 'making')";
    let found = statement(sql, [server.map(|server| server.0).into()]);
    Ok(tx.conn().query_one_raw(found).await?.is_some())
}

async fn remove(
    tx: &SystemTx,
    ctx: &TenantCtx,
    row: cloudpod::Model,
    backup: BackupId,
) -> Result<bool> {
    actions::begin(tx, ctx, row, Act::DeleteBackup { backup }).await?;
    Ok(true)
}

/// Of the backups that the clock made, on nodes that answer.
struct Scheduled {
    /// Of several: the only one stays until there is another.
    oldest: Option<BackupId>,
    /// The oldest of those that are too many.
    surplus: Option<BackupId>,
}

async fn scheduled(tx: &SystemTx, row: &cloudpod::Model) -> Result<Scheduled> {
    let ready = cloudpod_backup::Entity::find()
        .filter(cloudpod_backup::Column::CloudpodId.eq(row.id))
        .filter(cloudpod_backup::Column::Scheduled.eq(true))
        .filter(cloudpod_backup::Column::State.eq("ready"))
        .order_by_asc(cloudpod_backup::Column::CreatedAt)
        .all(tx.conn())
        .await?;
    let keep = row.backups_kept.map(usize::try_from).transpose().map_err(Error::internal)?;
    let surplus = ready.len().saturating_sub(keep.unwrap_or(usize::MAX));
    let silent: Vec<ServerId> = server::Entity::find()
        .filter(server::Column::LastError.is_not_null())
        .select_only()
        .column(server::Column::Id)
        .into_tuple()
        .all(tx.conn())
        .await?;
    let answers =
        |one: &cloudpod_backup::Model| one.server_id.is_none_or(|id| !silent.contains(&id));
    let first = |among: usize| ready.iter().take(among).find(|b| answers(b)).map(|b| b.id);
    Ok(Scheduled { oldest: first(ready.len().saturating_sub(1)), surplus: first(surplus) })
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
