//! What is paid again and again for an order.

use crate::billing::subscriptions::Status;
use crate::ids::{OrderId, SubscriptionId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "subscription")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SubscriptionId,
    pub tenant_id: TenantId,
    #[sea_orm(unique)]
    pub order_id: OrderId,
    #[sea_orm(unique)]
    pub stripe_id: String,
    pub status: Status,
    pub currency: String,
    /// A list of [`crate::billing::subscriptions::Item`].
    pub items: Json,
    pub period_start: Option<DateTimeUtc>,
    pub period_end: Option<DateTimeUtc>,
    pub trial_end: Option<DateTimeUtc>,
    pub cancel_at: Option<DateTimeUtc>,
    pub cancel_at_period_end: bool,
    pub started_at: Option<DateTimeUtc>,
    pub ended_at: Option<DateTimeUtc>,
    /// Since when money is missing.
    pub past_due_at: Option<DateTimeUtc>,
    /// How many reminders were written since then.
    pub letters: i32,
    /// The newest one's id at Stripe.
    pub invoice: Option<String>,
    /// Where the customer must do something before it can be paid.
    pub action_url: Option<String>,
    /// Counts the looks that were begun at it.
    pub looks: i64,
    /// The newest of them whose outcome stands here.
    pub seen: i64,
    pub updated_at: DateTimeUtc,
    pub created_at: DateTimeUtc,
    /// What could not be worked on waits until then.
    pub next_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
