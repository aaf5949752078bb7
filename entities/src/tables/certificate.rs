//! A certificate: which names it is for, what was issued, and the order that is under way.

use crate::certificates::{Challenge, State};
use crate::ids::{AccountId, CertificateId, JobId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "certificate")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CertificateId,
    pub tenant_id: TenantId,
    /// Whose sites and mail show it; none once the account is gone.
    pub account_id: Option<AccountId>,
    /// A list of [`crate::certificates::CertificateName`].
    pub names: Json,
    pub challenge: Challenge,
    pub state: State,
    /// Why the last attempt failed.
    pub error_code: Option<String>,
    pub error: Option<String>,
    /// Of the certificate that is installed.
    pub sealed_key: Option<String>,
    pub chain: Option<String>,
    pub serial: Option<String>,
    pub not_before: Option<DateTimeUtc>,
    pub not_after: Option<DateTimeUtc>,
    /// When it is to be renewed.
    pub renew_at: Option<DateTimeUtc>,
    /// Of the order that is under way.
    pub next_sealed_key: Option<String>,
    pub next_chain: Option<String>,
    pub order_url: Option<String>,
    /// What was put up for the authority to see: a list of [`crate::certificates::Answer`].
    pub answers: Option<Json>,
    /// How often in a row it has failed.
    pub attempts: i32,
    /// When the next attempt or the renewal is due.
    pub next_at: DateTimeUtc,
    /// It is to go.
    pub doomed: bool,
    /// The last job that worked on it.
    pub job_id: Option<JobId>,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
