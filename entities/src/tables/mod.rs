//! The tables: columns and nothing else, one file each. The rules are in the features' files.

pub mod app_user;
pub mod audit_log;
pub mod audit_seal;
pub mod audit_unsealed;
pub mod dns_record_set;
pub mod dns_zone;
pub mod dns_zone_before;
pub mod domain;
pub mod hosting_account;
pub mod idempotency;
pub mod job;
pub mod job_log;
pub mod job_step;
pub mod membership;
pub mod migration;
pub mod migration_approval;
pub mod migration_backup;
pub mod migration_conflict;
pub mod migration_resource;
pub mod outbox;
pub mod refresh_token;
pub mod server;
pub mod server_grant;
pub mod ssh_identity;
pub mod tenant;
pub mod tenant_ancestry;
