//! An event on its way to an endpoint.

use crate::ids::{RowId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub endpoint_id: RowId,
    /// The entry of the audit trail that it tells of.
    pub event_id: RowId,
    pub event: String,
    /// What is signed and sent, byte for byte the same each time.
    pub body: String,
    pub attempts: i32,
    pub next_at: DateTimeUtc,
    /// Until when others leave it to whoever has taken it.
    pub taken_until: Option<DateTimeUtc>,
    pub delivered_at: Option<DateTimeUtc>,
    /// When it was given up.
    pub failed_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
