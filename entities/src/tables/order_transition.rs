//! A step of an order from one status to another; nothing here is ever changed.

use crate::ids::{OrderId, RowId, TenantId};
use crate::orders::Status;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "order_transition")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    /// None when the order was made.
    pub before: Option<Status>,
    pub after: Status,
    pub cause: String,
    /// A [`crate::tenancy::Actor`].
    pub actor: Json,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
