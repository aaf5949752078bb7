//! A machine that we drive.

use crate::ids::ServerId;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "server")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ServerId,
    pub name: String,
    pub host: String,
    pub ssh_port: i32,
    pub host_key_fingerprint: String,
    pub hostname: String,
    pub ipv4: String,
    pub ipv6: Option<String>,
    pub backup_dirs: Json,
    pub state: String,
    pub maintenance: bool,
    pub agent_version: Option<String>,
    pub report: Option<Json>,
    pub health: Option<Json>,
    pub health_at: Option<DateTimeUtc>,
    pub last_error: Option<String>,
    pub created_at: DateTimeUtc,
    pub enrolled_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
