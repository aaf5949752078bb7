//! Room on a server: held for an order until it is paid, then for a container.

use crate::ids::{CloudpodId, OrderItemId, PlacementId, ServerId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "placement")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PlacementId,
    pub tenant_id: TenantId,
    pub server_id: ServerId,
    pub cluster: String,
    /// Given with the container, and never to another one.
    pub vmid: Option<i64>,
    pub cpu_cores: i32,
    pub memory_mib: i64,
    pub disk_mib: i64,
    pub order_item_id: Option<OrderItemId>,
    pub unit: Option<i32>,
    pub cloudpod_id: Option<CloudpodId>,
    /// None: it does not expire.
    pub expires_at: Option<DateTimeUtc>,
    /// It is larger than its container, which is to grow into it; what was not paid for until then is given
    /// back.
    pub grown_until: Option<DateTimeUtc>,
    pub released_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
