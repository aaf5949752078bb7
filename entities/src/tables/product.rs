//! Something that is sold. What it is never changes.

use crate::catalogue::{Kind, SyncState};
use crate::ids::{CategoryId, ProductId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "product")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ProductId,
    /// The seller.
    pub tenant_id: TenantId,
    pub category_id: Option<CategoryId>,
    pub name: String,
    pub description: String,
    pub kind: Kind,
    /// A [`crate::catalogue::Specification`].
    pub specification: Json,
    pub position: i32,
    pub archived_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    #[sea_orm(unique)]
    pub stripe_id: Option<String>,
    pub sync_state: SyncState,
    pub sync_error: Option<String>,
    /// Counts the changes of this row.
    pub version: i64,
    /// The version that Stripe has.
    pub synced_version: i64,
    /// What programs call it.
    pub code: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
