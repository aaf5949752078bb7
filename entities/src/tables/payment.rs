//! Money that came.

use crate::ids::{OrderId, PaymentId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "payment")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PaymentId,
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    /// What it paid, by its id at Stripe.
    pub invoice: Option<String>,
    /// Of the PaymentIntent.
    #[sea_orm(unique)]
    pub stripe_id: String,
    pub status: String,
    pub currency: String,
    /// In minor units, like what of it was given back.
    pub amount: i64,
    pub refunded: i64,
    /// When all of it had gone back.
    pub refunded_at: Option<DateTimeUtc>,
    /// Counts the looks that were begun at it.
    pub looks: i64,
    /// The newest of them whose outcome stands here.
    pub seen: i64,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
