//! The tables: columns and nothing else, one file each. The rules are in the features' files.

pub mod tenant;
pub mod tenant_ancestry;
pub mod app_user;
pub mod membership;
pub mod refresh_token;
pub mod audit_log;
pub mod ssh_identity;
pub mod server;
pub mod server_grant;
pub mod job;
pub mod job_step;
pub mod job_log;
pub mod outbox;
pub mod hosting_account;
pub mod domain;
pub mod dns_zone;
pub mod dns_zone_before;
pub mod dns_record_set;
pub mod migration;
pub mod migration_approval;
pub mod migration_backup;
pub mod migration_resource;
pub mod migration_conflict;
