//! One unit of something that was sold: what it shall be, and what it is.

use crate::catalogue::Kind;
use crate::ids::{AccountId, JobId, OrderId, OrderItemId, ServerId, ServiceId, TenantId};
use crate::services::{Desired, State};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "service")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ServiceId,
    /// The buyer.
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    pub order_item_id: OrderItemId,
    /// Which of the line's units it is, from 1 on.
    pub unit: i32,
    pub kind: Kind,
    /// A [`crate::catalogue::Specification`], with the order's add-ons added.
    pub specification: Json,
    /// None: one of ours is given when it is made.
    pub domain: Option<String>,
    /// Drawn when it is first made.
    #[sea_orm(unique)]
    pub username: Option<String>,
    /// Where it is, or was last tried.
    pub server_id: Option<ServerId>,
    pub account_id: Option<AccountId>,
    pub desired: Desired,
    pub state: State,
    /// Why it is suspended or terminated, for the customer.
    pub reason: Option<String>,
    /// Why somebody of the platform has suspended it: it stays so until they open it again.
    pub held: Option<String>,
    /// The last job that worked on it.
    pub job_id: Option<JobId>,
    /// What was made of it: a list of operations, none before the first attempt.
    pub operations: Option<Json>,
    /// How often in a row the way to what is desired has failed.
    pub attempts: i32,
    pub next_at: DateTimeUtc,
    /// Since when it waits to be made.
    pub waiting_since: DateTimeUtc,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Where the last backup of what was terminated lies, on its server.
    pub backup_path: Option<String>,
    /// When it was made.
    pub made_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
