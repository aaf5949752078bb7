//! A domain of an account; it has one owner in the whole installation.

use crate::ids::{AccountId, JobId, RowId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "domain")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub name: String,
    pub account_id: AccountId,
    pub job_id: JobId,
    pub active: bool,
    /// The job that lets it take mail since it was verified.
    pub activation_job_id: Option<JobId>,
    pub activation_next_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
