//! An attempt to pay for an order: one Checkout Session at Stripe.

use crate::billing::checkouts::State;
use crate::ids::{CheckoutId, OrderId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "checkout")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CheckoutId,
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    pub attempt: i32,
    pub state: State,
    #[sea_orm(unique)]
    pub stripe_id: Option<String>,
    pub url: Option<String>,
    pub promotion_code: Option<String>,
    /// What Stripe is asked for, the same each time.
    pub request: Json,
    /// Of Stripe: `unpaid`, `paid`, `requires_action`.
    pub payment_state: Option<String>,
    /// Whether it is to be closed at Stripe.
    pub closing: bool,
    pub error: Option<String>,
    pub expires_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    /// What could not be worked on waits until then.
    pub next_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
