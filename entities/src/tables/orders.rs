//! An order. `order` is a word of SQL.

use crate::ids::{OrderId, TenantId};
use crate::orders::Status;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "orders")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: OrderId,
    /// The buyer.
    pub tenant_id: TenantId,
    /// What people call it: `MP-100042`, unique in the installation.
    #[sea_orm(unique)]
    pub number: String,
    pub status: Status,
    pub status_at: DateTimeUtc,
    pub currency: String,
    /// All prices, without set-up fees and without tax, in minor units like the following.
    pub subtotal: i64,
    pub setup_fees: i64,
    /// The two together.
    pub total: i64,
    /// The total without what is paid after a trial only.
    pub due_now: i64,
    /// A [`crate::orders::TaxData`].
    pub tax: Option<Json>,
    pub notes: String,
    /// What the buyer, or whoever orders for them, calls it.
    pub external_reference: Option<String>,
    /// A [`crate::tenancy::Actor`].
    pub ordered_by: Json,
    pub created_at: DateTimeUtc,
    /// What could not be worked on waits until then.
    pub next_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
