//! A console of a container, from its ticket to its end; the ticket is stored as SHA-256, which
//! suffices for 256 random bits.

use crate::ids::{CloudpodId, KeyId, RowId, SessionId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cloudpod_console")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub cloudpod_id: CloudpodId,
    /// The login, or the key, whose rights it lives by.
    pub session_id: Option<SessionId>,
    pub key_id: Option<KeyId>,
    pub ticket_sha256: String,
    /// Until when it may be opened.
    pub expires_at: DateTimeUtc,
    /// Where it was opened from.
    pub ip: Option<String>,
    pub opened_at: Option<DateTimeUtc>,
    /// When the rights were looked at last.
    pub seen_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
