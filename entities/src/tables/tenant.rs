//! A tenant: the platform, a reseller or a customer.

use crate::ids::TenantId;
use crate::tenancy::TenantKind;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TenantId,
    pub parent_id: Option<TenantId>,
    pub kind: TenantKind,
    pub name: String,
    pub suspended_at: Option<DateTimeUtc>,
    pub suspended_reason: Option<String>,
    /// The tenant in whose name it was suspended.
    pub suspended_by: Option<TenantId>,
    /// Whether it, or one above it, is suspended.
    pub frozen: bool,
    /// Whether members must have a second factor.
    pub require_mfa: bool,
    pub limits: Json,
    /// The tenant in whose name they were set.
    pub limits_by: Option<TenantId>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
