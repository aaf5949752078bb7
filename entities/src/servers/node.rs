//! What makes a server a Proxmox node.

use super::load_server;
use crate::Result;
use crate::db::{SystemTx, TenantTx};
use crate::error::Error;
use crate::ids::ServerId;
use crate::tables::{node, server};
use chrono::Utc;
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use values::{BridgeName, NodeName, StorageId};

/// What makes a server a Proxmox node.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Nodes of one cluster share VMIDs, and containers move between them. One that is alone has a
    /// cluster of its own.
    pub cluster: String,
    pub name: NodeName,
    pub storage: StorageId,
    pub template_storage: StorageId,
    pub backup_storage: StorageId,
    pub bridge: BridgeName,
}

/// What of a node is set right before it is enrolled.
#[derive(Debug, Clone, Default)]
pub struct NodeChange {
    pub cluster: Option<String>,
    pub name: Option<NodeName>,
    pub storage: Option<StorageId>,
    pub template_storage: Option<StorageId>,
    pub backup_storage: Option<StorageId>,
    pub bridge: Option<BridgeName>,
}

pub(super) async fn insert(tx: &TenantTx, id: ServerId, new: NewNode) -> Result<()> {
    let row = node::ActiveModel {
        server_id: Set(id),
        cluster: Set(new.cluster),
        name: Set(new.name.to_string()),
        storage: Set(new.storage.to_string()),
        template_storage: Set(new.template_storage.to_string()),
        backup_storage: Set(new.backup_storage.to_string()),
        bridge: Set(new.bridge.to_string()),
    };
    node::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// Sets right what was said of a node that is not enrolled yet.
pub(super) async fn correct(
    tx: &TenantTx,
    server: &server::Model,
    change: NodeChange,
) -> Result<()> {
    let row = node::Entity::find_by_id(server.id).one(tx.conn()).await?;
    let row = row.ok_or_else(|| Error::field("node", "is for Proxmox nodes only"))?;
    if server.state == "enrolled" {
        let text = "is not changed any more once the server is enrolled: drain it, and add it anew";
        return Err(Error::field("node", text));
    }
    let before = row.clone();
    let mut active: node::ActiveModel = row.into();
    active.cluster = Set(change.cluster.unwrap_or(before.cluster));
    active.name = Set(change.name.map_or(before.name, |name| name.to_string()));
    for (said, was, column) in [
        (change.storage, before.storage, &mut active.storage),
        (change.template_storage, before.template_storage, &mut active.template_storage),
        (change.backup_storage, before.backup_storage, &mut active.backup_storage),
    ] {
        *column = Set(said.map_or(was, |storage| storage.to_string()));
    }
    active.bridge = Set(change.bridge.map_or(before.bridge, |bridge| bridge.to_string()));
    active.update(tx.conn()).await?;
    Ok(())
}

/// What is written of a node when it is changed.
pub(super) async fn seen(tx: &TenantTx, id: ServerId) -> Result<Option<Value>> {
    let node = node::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(node.map(|node| {
        json!({
            "cluster": node.cluster,
            "name": node.name,
            "storage": node.storage,
            "template_storage": node.template_storage,
            "backup_storage": node.backup_storage,
            "bridge": node.bridge,
        })
    }))
}

/// What makes this server a node; none: it is none.
pub async fn find_node(tx: &SystemTx, id: ServerId) -> Result<Option<node::Model>> {
    Ok(node::Entity::find_by_id(id).one(tx.conn()).await?)
}

/// The enrolled server that is this node of a cluster.
pub async fn find_by_node(
    tx: &SystemTx,
    cluster: &str,
    name: &NodeName,
) -> Result<Option<server::Model>> {
    let found = node::Entity::find()
        .filter(node::Column::Cluster.eq(cluster))
        .filter(node::Column::Name.eq(name.as_str()))
        .all(tx.conn())
        .await?;
    let ids = found.into_iter().map(|node| node.server_id);
    Ok(server::Entity::find()
        .filter(server::Column::Id.is_in(ids))
        .filter(server::Column::State.eq("enrolled"))
        .one(tx.conn())
        .await?)
}

/// What a Proxmox node has, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_cores: i32,
    pub memory_mib: i64,
    pub disk_mib: i64,
}

/// Records that a node was looked at: it is used from now on.
pub async fn record_node(
    tx: &SystemTx,
    id: ServerId,
    capacity: Capacity,
    health: &Value,
) -> Result<()> {
    let row = load_server(tx, id).await?;
    let is_new = row.state != "enrolled";
    let mut active: server::ActiveModel = row.into();
    if is_new {
        active.state = Set("enrolled".to_owned());
        active.enrolled_at = Set(Some(Utc::now()));
    }
    active.cpu_cores = Set(Some(capacity.cpu_cores));
    active.memory_mib = Set(Some(capacity.memory_mib));
    active.disk_mib = Set(Some(capacity.disk_mib));
    active.health = Set(Some(health.clone()));
    active.health_at = Set(Some(Utc::now()));
    active.last_error = Set(None);
    active.update(tx.conn()).await?;
    Ok(())
}
