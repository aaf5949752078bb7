//! What Stripe told us, as it came.

use crate::billing::events::State;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stripe_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// `customer.subscription.updated`.
    pub kind: String,
    /// By Stripe's clock.
    pub created_at: DateTimeUtc,
    pub received_at: DateTimeUtc,
    pub source: String,
    pub livemode: bool,
    pub api_version: Option<String>,
    /// What it is about: `subscription` and its id.
    pub object_kind: Option<String>,
    pub object_id: Option<String>,
    /// Byte for byte.
    pub body: Vec<u8>,
    pub state: State,
    /// Why it was not handled, or what came of it.
    pub note: Option<String>,
    pub attempts: i32,
    pub next_at: DateTimeUtc,
    pub taken_until: Option<DateTimeUtc>,
    /// Counts those who took it.
    pub fence: i64,
    pub handled_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
