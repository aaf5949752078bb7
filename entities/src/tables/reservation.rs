//! Room that is held for one line of an order: until it expires, is released, or is taken for good.

use crate::catalogue::Kind;
use crate::ids::{OrderId, OrderItemId, RowId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reservation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    #[sea_orm(unique)]
    pub order_item_id: OrderItemId,
    pub kind: Kind,
    pub quantity: i32,
    /// None: it was paid for, and does not expire.
    pub expires_at: Option<DateTimeUtc>,
    pub released_at: Option<DateTimeUtc>,
    /// When what it was held for was made, which counts itself from then on.
    pub consumed_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
