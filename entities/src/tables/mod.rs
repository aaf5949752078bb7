//! The tables: columns and nothing else, one file each. The rules are in the features' files.

pub mod acme_account;
pub mod api_key;
pub mod app_user;
pub mod audit_log;
pub mod audit_seal;
pub mod audit_unsealed;
pub mod billing_customer;
pub mod billing_lease;
pub mod category;
pub mod certificate;
pub mod certificate_name;
pub mod certificate_order;
pub mod checkout;
pub mod cloudpod;
pub mod cloudpod_backup;
pub mod cloudpod_console;
pub mod cloudpod_snapshot;
pub mod cloudpod_traffic;
pub mod dead_letter;
pub mod dispute;
pub mod dns_agreement;
pub mod dns_budget;
pub mod dns_key;
pub mod dns_record_set;
pub mod dns_server;
pub mod dns_template;
pub mod dns_zone;
pub mod dns_zone_before;
pub mod domain;
pub mod finding;
pub mod guest;
pub mod hosting_account;
pub mod idempotency;
pub mod invitation;
pub mod invoice;
pub mod ip_address;
pub mod ip_pool;
pub mod job;
pub mod job_log;
pub mod job_step;
pub mod link;
pub mod mail;
pub mod membership;
pub mod migration;
pub mod migration_approval;
pub mod migration_backup;
pub mod migration_conflict;
pub mod migration_resource;
pub mod node;
pub mod order_item;
pub mod order_transition;
pub mod orders;
pub mod outbox;
pub mod payment;
pub mod placement;
pub mod pod_template;
pub mod price;
pub mod product;
pub mod recovery_code;
pub mod repayment;
pub mod reservation;
pub mod server;
pub mod server_grant;
pub mod service;
pub mod session;
pub mod ssh_identity;
pub mod stripe_event;
pub mod subscription;
pub mod tenant;
pub mod tenant_ancestry;
pub mod webhook_attempt;
pub mod webhook_delivery;
pub mod webhook_endpoint;

use sea_orm::EntityTrait;

/// A table whose rows belong to a tenant.
pub(crate) trait Owned: EntityTrait {
    /// Whose a row is.
    const OWNER: Self::Column;
}

macro_rules! owned {
    ($($table:ident),*) => {
        $(impl Owned for $table::Entity {
            const OWNER: Self::Column = $table::Column::TenantId;
        })*
    };
}

/// A table of which a tenant sees, beside its own rows, those of the tenants above it.
pub(crate) trait Published: Owned {}

impl Published for category::Entity {}
impl Published for product::Entity {}
impl Published for price::Entity {}
impl Published for dns_template::Entity {}

owned!(
    billing_customer,
    category,
    certificate,
    checkout,
    cloudpod,
    cloudpod_backup,
    cloudpod_console,
    cloudpod_snapshot,
    cloudpod_traffic,
    dispute,
    dns_agreement,
    dns_budget,
    dns_record_set,
    dns_template,
    dns_zone,
    domain,
    hosting_account,
    invoice,
    job,
    job_log,
    job_step,
    migration,
    migration_approval,
    migration_conflict,
    migration_resource,
    order_item,
    order_transition,
    orders,
    payment,
    placement,
    price,
    product,
    repayment,
    service,
    subscription,
    webhook_attempt,
    webhook_delivery,
    webhook_endpoint
);
