//! What makes a server a Proxmox node.

use crate::ids::ServerId;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub server_id: ServerId,
    /// Those of one cluster share VMIDs, and containers move between them.
    pub cluster: String,
    /// As the cluster calls it.
    pub name: String,
    /// Where root file systems lie.
    pub storage: String,
    pub template_storage: String,
    pub backup_storage: String,
    pub bridge: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
