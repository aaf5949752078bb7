//! A difference between what a server has and what was sold.

use crate::ids::{CloudpodId, RowId, ServerId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "finding")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    /// `orphan`: there, not here. `ghost`: here, not there. `drift`: otherwise than here.
    pub kind: String,
    pub server_id: ServerId,
    pub vmid: i64,
    /// What differs.
    pub what: String,
    pub cloudpod_id: Option<CloudpodId>,
    pub detail: String,
    /// What was done about it, or is to be.
    pub repair: String,
    pub first_at: DateTimeUtc,
    pub last_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
