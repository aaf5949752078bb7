//! Something that a worker carries out: who may is the lease's owner, and only with the newest fence.

use crate::ids::{JobId, RequestId, ServerId, TenantId, WorkerId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "job")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: JobId,
    pub tenant_id: TenantId,
    pub kind: String,
    pub phase: String,
    pub state: String,
    pub server_id: ServerId,
    pub subject: String,
    pub actor: Json,
    pub request_id: Option<RequestId>,
    pub traceparent: Option<String>,
    pub run: i32,
    pub lease_owner: Option<WorkerId>,
    pub lease_until: Option<DateTimeUtc>,
    pub fence: i64,
    pub attempts: i32,
    pub queued_at: DateTimeUtc,
    pub deadline_at: Option<DateTimeUtc>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub result: Option<Json>,
    pub created_at: DateTimeUtc,
    pub started_at: Option<DateTimeUtc>,
    pub completed_at: Option<DateTimeUtc>,
    pub cancel_requested_at: Option<DateTimeUtc>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
