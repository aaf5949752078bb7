//! The database's shape and its history. Each change is one timestamped file; none is ever edited
//! after it has landed, and none imports the entities, which would change history.
//!
//! All tables belong to the role that migrates. Services act as `migrapanel_tenant`, which sees one
//! tenant's rows through forced row-level security, or as `migrapanel_system`, which sees all and
//! which few functions use.

#![expect(clippy::too_many_lines, reason = "a change of the schema is read from top to bottom")]

pub use sea_orm_migration::prelude::MigratorTrait;
use sea_orm_migration::prelude::{MigrationTrait, async_trait};

mod helpers;
mod m20261122_100000_tenancy;
mod m20261122_101000_servers;
mod m20261122_102000_jobs;
mod m20261122_103000_hosting;
mod m20261122_104000_migrations;
mod m20261122_105000_confirmations;
mod m20261122_110000_identity;
mod m20261122_111000_audit;
mod m20261122_112000_idempotency;
mod m20261122_113000_cancellation;
mod m20261122_140000_approvals;
mod m20261122_141000_suspensions;
mod m20261122_142000_anchors;
mod m20261122_143000_webhooks;
mod m20261122_150000_catalogue;
mod m20261122_151000_orders;
mod m20261122_160000_billing;
mod m20261122_170000_services;
mod m20261123_000000_dns;
mod m20261123_010000_certificates;
mod m20261123_110000_dead_letters;
mod m20261123_120000_cloudpods;
mod m20261124_100000_consoles;
mod m20261124_110000_postponed;
mod m20261124_120000_grown;
mod m20261125_100000_corrected;

/// Brings a database to this version of the schema.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261122_100000_tenancy::Migration),
            Box::new(m20261122_101000_servers::Migration),
            Box::new(m20261122_102000_jobs::Migration),
            Box::new(m20261122_103000_hosting::Migration),
            Box::new(m20261122_104000_migrations::Migration),
            Box::new(m20261122_105000_confirmations::Migration),
            Box::new(m20261122_110000_identity::Migration),
            Box::new(m20261122_111000_audit::Migration),
            Box::new(m20261122_112000_idempotency::Migration),
            Box::new(m20261122_113000_cancellation::Migration),
            Box::new(m20261122_140000_approvals::Migration),
            Box::new(m20261122_141000_suspensions::Migration),
            Box::new(m20261122_142000_anchors::Migration),
            Box::new(m20261122_143000_webhooks::Migration),
            Box::new(m20261122_150000_catalogue::Migration),
            Box::new(m20261122_151000_orders::Migration),
            Box::new(m20261122_160000_billing::Migration),
            Box::new(m20261122_170000_services::Migration),
            Box::new(m20261123_000000_dns::Migration),
            Box::new(m20261123_010000_certificates::Migration),
            Box::new(m20261123_110000_dead_letters::Migration),
            Box::new(m20261123_120000_cloudpods::Migration),
            Box::new(m20261124_100000_consoles::Migration),
            Box::new(m20261124_110000_postponed::Migration),
            Box::new(m20261124_120000_grown::Migration),
            Box::new(m20261125_100000_corrected::Migration),
        ]
    }
}
