//! A DNS server, as it was seen last.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dns_server")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// `primary` or `secondary`.
    pub role: String,
    /// Where it answers.
    pub address: String,
    /// Whether it is driven; otherwise it is only looked at.
    pub has_api: bool,
    pub healthy: bool,
    pub error: Option<String>,
    pub version: Option<String>,
    /// Zones of ours that it has.
    pub zones: Option<i64>,
    /// Zones that were not made here.
    pub foreign_zones: Option<i64>,
    /// Zones of which it has an older version, or none.
    pub zones_behind: Option<i64>,
    pub latency_ms: Option<i32>,
    pub checked_at: DateTimeUtc,
    /// When it was healthy last.
    pub seen_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
