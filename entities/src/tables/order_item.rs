//! One line of an order, with the price, the name and the specification of the moment it was ordered.

use crate::catalogue::{Billing, Kind};
use crate::ids::{OrderId, OrderItemId, PriceId, ProductId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "order_item")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: OrderItemId,
    /// The buyer.
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    pub position: i32,
    pub seller_id: TenantId,
    pub product_id: ProductId,
    pub price_id: PriceId,
    pub name: String,
    pub kind: Kind,
    /// A [`crate::catalogue::Specification`].
    pub specification: Json,
    pub billing: Billing,
    /// Of one, in minor units of the order's currency, like the set-up fee.
    pub amount: i64,
    pub setup_fee: Option<i64>,
    pub trial_days: Option<i32>,
    pub quantity: i32,
    /// A list of domain names for the first units, none: they get names of ours.
    pub domains: Option<Json>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
