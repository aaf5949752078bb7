//! A machine that we drive.

use crate::ids::ServerId;
use crate::servers::Kind;
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
    /// Nothing new is started on it, and nothing is made on it.
    pub maintenance: bool,
    pub agent_version: Option<String>,
    pub report: Option<Json>,
    pub health: Option<Json>,
    pub health_at: Option<DateTimeUtc>,
    pub last_error: Option<String>,
    pub created_at: DateTimeUtc,
    pub enrolled_at: Option<DateTimeUtc>,
    pub kind: Kind,
    pub location: Option<String>,
    /// A map of names to values, which plans may ask for.
    pub labels: Json,
    /// What is on it is to go elsewhere, and nothing is made on it.
    pub draining: bool,
    /// What it has, as it was told or seen.
    pub cpu_cores: Option<i32>,
    pub memory_mib: Option<i64>,
    pub disk_mib: Option<i64>,
    /// How many times as much is given away as it has.
    pub cpu_factor: f64,
    pub memory_factor: f64,
    pub disk_factor: f64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
