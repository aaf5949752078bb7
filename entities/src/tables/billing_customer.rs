//! A tenant as Stripe knows it.

use crate::ids::{RowId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "billing_customer")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    #[sea_orm(unique)]
    pub stripe_id: String,
    pub email: Option<String>,
    /// The payment method that is charged: a [`crate::billing::customers::Card`].
    pub card: Option<Json>,
    /// Whether Stripe waits for money.
    pub delinquent: bool,
    pub updated_at: DateTimeUtc,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
