//! Addresses that containers are given.

use crate::ids::PoolId;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "ip_pool")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PoolId,
    #[sea_orm(unique)]
    pub name: String,
    /// 4 or 6.
    pub family: i32,
    pub network: String,
    pub gateway: String,
    /// The first and the last that are given.
    pub first: String,
    pub last: String,
    /// Only on nodes of this cluster.
    pub cluster: Option<String>,
    /// Only on servers of this location.
    pub location: Option<String>,
    /// How long an address rests before somebody else has it.
    pub quarantine_secs: i32,
    /// Nothing more is taken out of it.
    pub closed: bool,
    /// How many were ever taken, counted from the first.
    pub next_offset: i64,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
