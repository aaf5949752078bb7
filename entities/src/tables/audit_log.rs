//! An entry of the audit trail: appended, never changed.

use crate::ids::{RequestId, RowId, TenantId, UserId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RowId,
    pub tenant_id: TenantId,
    pub kind: String,
    pub actor_kind: String,
    pub actor_id: Option<Uuid>,
    pub request_id: Option<RequestId>,
    pub ip: Option<String>,
    pub data: Json,
    pub created_at: DateTimeUtc,
    /// The actor's address or name, readable when the actor is gone. The database sets it.
    pub actor_label: Option<String>,
    /// The platform's person who acted as the actor.
    pub impersonator_id: Option<UserId>,
    pub impersonator_label: Option<String>,
    pub user_agent: Option<String>,
    pub before: Option<Json>,
    pub after: Option<Json>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
