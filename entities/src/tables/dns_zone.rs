//! A zone.

use crate::ids::{JobId, TenantId, WorkerId, ZoneId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dns_zone")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ZoneId,
    pub tenant_id: TenantId,
    pub name: String,
    /// The job that made it, if one did.
    pub job_id: Option<JobId>,
    /// Whether the DNS servers answer for it.
    pub active: bool,
    /// `pending`, `in_sync`, `error` or `deleting`.
    pub state: String,
    /// Why the servers do not have it yet.
    pub error: Option<String>,
    pub created_at: DateTimeUtc,
    /// One more with each change.
    pub version: i64,
    /// Of its SOA; a number of 32 bits.
    pub serial: i64,
    /// The version that the primary server has; none: it never had one.
    pub applied_version: Option<i64>,
    pub applied_at: Option<DateTimeUtc>,
    /// Seconds, for sets that name none.
    pub default_ttl: i32,
    /// [`crate::dns::SoaTimes`].
    pub soa: Json,
    pub updated_at: DateTimeUtc,
    pub lease_owner: Option<WorkerId>,
    pub lease_until: Option<DateTimeUtc>,
    pub fence: i64,
    pub attempts: i32,
    /// When it is tried again; none: at once.
    pub next_at: Option<DateTimeUtc>,
    pub checked_at: Option<DateTimeUtc>,
    /// What the secondary servers have: name to [`crate::dns::Copy`].
    pub copies: Json,
    pub copies_next_at: Option<DateTimeUtc>,
    /// When its write limits are whole again.
    pub budget: Json,
    /// `off`, `starting`, `on` or `ending`.
    pub dnssec: String,
    /// Why signing does not begin or end.
    pub dnssec_error: Option<String>,
    pub dnssec_next_at: Option<DateTimeUtc>,
    /// Until then somebody may remember a DS that was seen in the zone above.
    pub dnssec_hold_until: Option<DateTimeUtc>,
    /// What belongs into the parent zone: a list of texts.
    pub ds: Json,
    pub verification_token: Option<String>,
    pub verified_at: Option<DateTimeUtc>,
    pub verification_error: Option<String>,
    pub verification_checked_at: Option<DateTimeUtc>,
    pub verification_next_at: Option<DateTimeUtc>,
    pub verification_attempts: i32,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
