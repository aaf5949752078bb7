//! A message that no worker could act on.

use crate::dead_letters::Reason;
use crate::ids::RowId;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letter")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    /// SHA-256 of the queue and the whole message.
    pub digest: String,
    pub queue: String,
    /// As it came, up to a length.
    pub payload: Vec<u8>,
    /// How long it was.
    pub bytes: i64,
    pub reason: Reason,
    /// What the worker said last.
    pub error: String,
    /// How often it came.
    pub count: i64,
    /// How often in a row its handling failed.
    pub tries: i32,
    pub first_at: DateTimeUtc,
    pub last_at: DateTimeUtc,
    /// Since when nobody tries any more; none while its handling is tried again.
    pub dead_at: Option<DateTimeUtc>,
    pub replayed_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
