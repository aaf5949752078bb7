//! A container of a tenant.

use crate::cloudpods::{Desired, Status};
use crate::ids::{CloudpodId, JobId, ProductId, ServerId, ServiceId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "cloudpod")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CloudpodId,
    pub tenant_id: TenantId,
    pub hostname: String,
    /// The code of the plan.
    pub plan: Option<String>,
    pub product_id: Option<ProductId>,
    /// What was sold, when it was.
    #[sea_orm(unique)]
    pub service_id: Option<ServiceId>,
    /// A [`crate::cloudpods::Size`]: what it has.
    pub specification: Json,
    /// What it shall have, when that is something else.
    pub wanted: Option<Json>,
    /// Keys of root, as lines of `authorized_keys`.
    pub ssh_keys: Json,
    /// Where it was asked for.
    pub pinned_server_id: Option<ServerId>,
    pub cluster: Option<String>,
    pub server_id: Option<ServerId>,
    pub vmid: Option<i64>,
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
    pub desired: Desired,
    pub status: Status,
    /// Why it is suspended or goes, for the customer.
    pub reason: Option<String>,
    /// What its job does.
    pub action: Option<String>,
    /// With what.
    pub parameters: Option<Json>,
    pub job_id: Option<JobId>,
    /// Why the last thing failed.
    pub error: Option<String>,
    pub attempts: i32,
    pub next_at: DateTimeUtc,
    pub waiting_since: DateTimeUtc,
    /// Whether it ran when it was suspended.
    pub was_running: bool,
    /// The record sets that were made for it.
    pub dns: Json,
    /// Why there are none.
    pub dns_note: Option<String>,
    pub seen_at: Option<DateTimeUtc>,
    /// What its node said of it then.
    pub seen: Option<Json>,
    pub backup_every_hours: Option<i32>,
    pub backups_kept: Option<i32>,
    pub backup_next_at: Option<DateTimeUtc>,
    /// The counters of its network as they were read last.
    pub counters: Option<Json>,
    pub made_at: Option<DateTimeUtc>,
    pub deleted_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
