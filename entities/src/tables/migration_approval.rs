//! What a preview's token permits, stored hashed.

use crate::ids::{JobId, KeyId, RowId, TenantId, UserId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "migration_approval")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub job_id: JobId,
    /// Of a person; a key has `key_id`.
    pub user_id: Option<UserId>,
    pub key_id: Option<KeyId>,
    pub token_sha256: String,
    pub plan_digest: String,
    pub options: Json,
    pub expanded_bytes: i64,
    pub expires_at: DateTimeUtc,
    pub used_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
