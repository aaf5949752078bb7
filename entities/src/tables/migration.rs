//! A migration of a cPanel account; its id is its job's.

use crate::ids::{JobId, TenantId};
use crate::migrations::State;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "migration")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: JobId,
    pub tenant_id: TenantId,
    pub source_path: String,
    pub target_user: String,
    pub state: State,
    pub current_step: Option<String>,
    pub progress: i32,
    pub progress_note: Option<String>,
    pub activate_domains: bool,
    pub plan: Option<Json>,
    pub options: Option<Json>,
    pub plan_digest: Option<String>,
    pub operations: Option<Json>,
    pub expanded_bytes: Option<i64>,
    pub applied_at: Option<DateTimeUtc>,
    pub confirming: Option<Json>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
