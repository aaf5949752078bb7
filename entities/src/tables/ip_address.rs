//! An address that was taken out of a pool: held by a place, or resting.

use crate::ids::{PlacementId, PoolId, RowId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ip_address")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub pool_id: PoolId,
    #[sea_orm(unique)]
    pub address: String,
    pub tenant_id: Option<TenantId>,
    /// None: nobody has it.
    pub placement_id: Option<PlacementId>,
    /// When it may be given again.
    pub free_at: Option<DateTimeUtc>,
    pub taken_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
