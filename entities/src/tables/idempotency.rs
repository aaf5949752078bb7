//! The answer to a request with an `Idempotency-Key`. Its body is sealed under that key, of which
//! only a hash stands here.

use crate::ids::{RowId, TenantId};
use crate::tenancy::Role;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    /// Over the caller and the key.
    #[sea_orm(unique)]
    pub scope_sha256: String,
    /// Over the method, the path and the body.
    pub request_sha256: String,
    /// The role that the caller had.
    pub role: Role,
    pub status: i32,
    pub sealed_body: String,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
