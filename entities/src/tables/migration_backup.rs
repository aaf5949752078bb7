//! The archive of a migration, as it was when it was read.

use crate::ids::{JobId, RowId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "migration_backup")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub job_id: JobId,
    pub path: String,
    pub format: String,
    pub sha256: String,
    pub size_bytes: i64,
    pub seen_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
