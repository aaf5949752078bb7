//! A login that lives on by refresh tokens: one row a device. Only the newest token's hash is kept.

use crate::ids::{SessionId, TenantId, UserId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionId,
    pub user_id: UserId,
    pub tenant_id: TenantId,
    pub generation: i32,
    pub token_sha256: String,
    pub key_id: String,
    pub rotated_at: DateTimeUtc,
    pub expires_at: DateTimeUtc,
    /// Access tokens from before are void; the refresh token is not.
    pub stale_at: Option<DateTimeUtc>,
    pub revoked_at: Option<DateTimeUtc>,
    pub impersonator_id: Option<UserId>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
