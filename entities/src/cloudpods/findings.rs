//! What differs between the nodes and these rows: shown to operators, until it is so no more.

use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::ids::{CloudpodId, RowId, ServerId};
use crate::tables::finding::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use values::Vmid;

/// In which way a node and the rows differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There, not here.
    Orphan,
    /// Here, not there.
    Ghost,
    /// Otherwise than here.
    Drift,
}

impl Kind {
    /// As it stands in the row.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "orphan",
            Self::Ghost => "ghost",
            Self::Drift => "drift",
        }
    }
}

/// A difference that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    pub vmid: Vmid,
    /// What differs: `container`, `cpu_cores`, `memory_mib`, `disk_mib`, `address`, `power`, `node`.
    pub what: &'static str,
    pub cloudpod: Option<CloudpodId>,
    pub detail: String,
    pub repair: String,
}

/// Keeps what was seen on a server, all of it: what is not seen any more has ended.
pub async fn record(tx: &SystemTx, server: ServerId, found: &[Found]) -> Result<()> {
    // Another worker may have looked at it, too.
    let lock = "SELECT id FROM server WHERE id = $1 FOR NO KEY UPDATE";
    tx.conn().query_one_raw(statement(lock, [server.0.into()])).await?;
    let now = Utc::now();
    for one in found {
        let open = finding::Entity::find()
            .filter(Column::ServerId.eq(server))
            .filter(Column::Vmid.eq(i64::from(one.vmid)))
            .filter(Column::Kind.eq(one.kind.as_str()))
            .filter(Column::What.eq(one.what))
            .filter(Column::EndedAt.is_null())
            .one(tx.conn())
            .await?;
        if let Some(row) = open {
            let mut row: finding::ActiveModel = row.into();
            row.last_at = Set(now);
            row.detail = Set(one.detail.clone());
            row.repair = Set(one.repair.clone());
            row.update(tx.conn()).await?;
            continue;
        }
        tracing::warn!(server = %server, vmid = %one.vmid, kind = one.kind.as_str(), what = one.what, detail = one.detail, "pods.finding");
        let row = finding::ActiveModel {
            id: Set(RowId::new()),
            kind: Set(one.kind.as_str().to_owned()),
            server_id: Set(server),
            vmid: Set(one.vmid.into()),
            what: Set(one.what.to_owned()),
            cloudpod_id: Set(one.cloudpod),
            detail: Set(one.detail.clone()),
            repair: Set(one.repair.clone()),
            first_at: Set(now),
            last_at: Set(now),
            ended_at: Set(None),
        };
        row.insert(tx.conn()).await?;
    }
    let sql = "UPDATE finding SET ended_at = $2
        WHERE server_id = $1 AND ended_at IS NULL AND last_at < $2";
    tx.conn().execute_raw(statement(sql, [server.0.into(), now.into()])).await?;
    Ok(())
}

/// A page of what differs now, or with `ended` what did, newest first, and how many there are.
pub async fn list_findings(
    db: &Db,
    ctx: &TenantCtx,
    ended: bool,
    (offset, limit): (u64, u64),
) -> Result<(Vec<finding::Model>, u64)> {
    ctx.require(Permission::ServersRead)?;
    let tx = db.system().await?;
    let shown = if ended { Column::EndedAt.is_not_null() } else { Column::EndedAt.is_null() };
    let query = finding::Entity::find().filter(shown);
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::FirstAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}
