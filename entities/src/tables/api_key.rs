//! A key of a program; its secret is stored as SHA-256, which suffices for 256 random bits.

use crate::ids::{KeyId, TenantId, UserId};
use crate::tenancy::Role;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: KeyId,
    pub tenant_id: TenantId,
    pub name: String,
    pub role: Role,
    /// Names of scopes; empty: everything that the role may.
    pub scopes: Json,
    /// Networks that it may be used from; empty: anywhere.
    pub addresses: Json,
    /// The record sets that it is bound to; none: whatever its scopes say.
    pub dns: Option<Json>,
    pub secret_sha256: String,
    pub expires_at: Option<DateTimeUtc>,
    pub last_used_at: Option<DateTimeUtc>,
    pub revoked_at: Option<DateTimeUtc>,
    pub created_by: Option<UserId>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
