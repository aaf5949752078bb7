//! A zone.

use crate::ids::{JobId, TenantId, ZoneId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dns_zone")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ZoneId,
    pub tenant_id: TenantId,
    pub name: String,
    pub job_id: JobId,
    pub active: bool,
    pub state: String,
    pub error: Option<String>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
