//! Nodes that are to become empty: their pods move to others of the cluster, one after another.

use super::placement::{self, Wanted};
use super::{Act, Desired, Status, actions, converge, is_working};
use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::due::{self, Due};
use crate::error::Code;
use crate::ids::{CloudpodId, JobId, ServerId, TenantId};
use crate::tables::{cloudpod, server};
use crate::tenancy::TenantCtx;
use chrono::{TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ConnectionTrait, EntityTrait};

/// How long until room is looked for again.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(1);

/// The next pod of each node that drains and answers, and that none leaves at the moment.
const DUE: &str = "SELECT DISTINCT ON (s.id) p.id
    FROM server s JOIN cloudpod p ON p.server_id = s.id
    WHERE s.kind = 'proxmox' AND s.draining AND s.state = 'enrolled' AND s.last_error IS NULL
      AND p.status IN ('active', 'stopped', 'suspended') AND p.desired <> 'deleted'
      AND p.next_at <= now()
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = p.job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
      AND NOT EXISTS (SELECT FROM job j WHERE j.server_id = s.id AND j.kind = 'cloudpod'
            AND j.phase = 'move' AND j.state IN ('queued', 'running', 'unwinding'))
    ORDER BY s.id, p.next_at LIMIT $1";

/// Lets the next pod of each node that drains move to another of its cluster, up to `limit`; how many
/// there were. Where none has room, or a move has failed, others come first. Called every few seconds.
pub async fn move_due(db: &Db, limit: u64) -> Result<u64> {
    due::each(db, Due { table: "cloudpod", sql: DUE }, limit, async |tx, id| {
        let row = super::lock(tx, CloudpodId(id)).await?;
        if !is_to_leave(tx, &row).await? {
            return Ok(false);
        }
        let ctx = TenantCtx::system(row.tenant_id);
        let before = row.clone();
        match actions::carry_out(tx, &ctx, row, Act::Move { server: None }).await {
            Err(error) if error.code() == Code::NoCapacity => {
                let mut row: cloudpod::ActiveModel = before.into();
                row.next_at = Set(Utc::now() + LOOK_AGAIN);
                row.update(tx.conn()).await?;
                Ok(false)
            }
            other => other.map(|_row| true),
        }
    })
    .await
}

async fn is_to_leave(tx: &SystemTx, row: &cloudpod::Model) -> Result<bool> {
    if !row.status.is_made()
        || row.desired == Desired::Deleted
        || is_working(tx, row.job_id).await?
    {
        return Ok(false);
    }
    let Some(id) = row.server_id else { return Ok(false) };
    let server = server::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(server.is_some_and(|server| server.draining))
}

/// How far a pod has come that is to leave its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is on its way.
    Moving,
    /// Its turn comes.
    Waits,
    /// No other node of its cluster has room for it that its plan allows.
    NoRoom,
    /// The last move failed; there is another attempt.
    Failed,
    /// It is being made or deleted, or something else is done with it.
    Busy,
}

/// A pod that is still on a node that drains.
#[derive(Debug, Clone)]
pub struct Remaining {
    pub id: CloudpodId,
    pub tenant: TenantId,
    pub hostname: String,
    pub status: Status,
    pub progress: Progress,
    /// Why its last move failed.
    pub error: Option<String>,
    /// What works on it, or its last move.
    pub job: Option<JobId>,
}

const REMAINING: &str =
    "SELECT p.id, coalesce(j.state IN ('queued', 'running', 'unwinding'), false)
            AS is_working, j.phase, m.id AS move_job, m.error_message
        FROM cloudpod p LEFT JOIN job j ON j.id = p.job_id
        LEFT JOIN LATERAL (SELECT id, error_message FROM job
            WHERE tenant_id = p.tenant_id AND subject = 'cloudpod:' || p.id AND phase = 'move'
              AND server_id = p.server_id AND state = 'failed'
            ORDER BY created_at DESC LIMIT 1) m ON true
    WHERE p.server_id = $1 AND p.vmid IS NOT NULL AND p.status <> 'deleted'
    ORDER BY p.next_at, p.id LIMIT $2";

/// The pods that are still on a node, those first that are to leave first, up to `limit`.
pub async fn list_remaining(tx: &SystemTx, id: ServerId, limit: u64) -> Result<Vec<Remaining>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut remaining = Vec::new();
    for found in tx.conn().query_all_raw(statement(REMAINING, [id.0.into(), limit.into()])).await? {
        let row = super::load_pod(tx, found.try_get("", "id")?).await?;
        let is_working: bool = found.try_get("", "is_working")?;
        let phase: Option<String> = found.try_get("", "phase")?;
        let last_move: Option<JobId> = found.try_get("", "move_job")?;
        let progress = if is_working && phase.as_deref() == Some("move") {
            Progress::Moving
        } else if is_working || !row.status.is_made() || row.desired == Desired::Deleted {
            Progress::Busy
        } else if !has_target(tx, &row).await? {
            Progress::NoRoom
        } else if last_move.is_some() {
            Progress::Failed
        } else {
            Progress::Waits
        };
        let has_failed = progress == Progress::Failed;
        remaining.push(Remaining {
            id: row.id,
            tenant: row.tenant_id,
            progress,
            error: if has_failed { found.try_get("", "error_message")? } else { None },
            job: if is_working { row.job_id } else { last_move },
            hostname: row.hostname,
            status: row.status,
        });
    }
    Ok(remaining)
}

async fn has_target(tx: &SystemTx, row: &cloudpod::Model) -> Result<bool> {
    let (size, siting) = (placement::held_size(tx, row).await?, converge::siting(tx, row).await?);
    let wanted = Wanted {
        tenant: row.tenant_id,
        size: &size,
        siting: &siting,
        server: None,
        avoid: None,
        moves: Some(row),
        order: placement::order_of(tx, row).await?,
    };
    placement::has_room(tx, &wanted).await
}
