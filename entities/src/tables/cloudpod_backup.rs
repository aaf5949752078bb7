//! A backup of a container.

use crate::ids::{BackupId, CloudpodId, ServerId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cloudpod_backup")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: BackupId,
    pub tenant_id: TenantId,
    pub cloudpod_id: CloudpodId,
    /// `making`, `ready` or `deleting`; one of a pod that is gone waits for its node to answer.
    pub state: String,
    pub scheduled: bool,
    /// The node whose storage has it.
    pub server_id: Option<ServerId>,
    /// As Proxmox names it.
    pub volume: Option<String>,
    pub bytes: Option<i64>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
