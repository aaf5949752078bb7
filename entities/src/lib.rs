//! The data and its rules. The only crate that speaks SQL.
//!
//! Reading order: [`ids`] and [`values`] → [`error`] → [`tenancy`] → [`db`] → [`audit`] and
//! [`outbox`] → the features: [`sessions`], [`accounts`], [`tenants`], [`members`], [`keys`], [`servers`], [`jobs`], [`migrations`], [`hosting`],
//! [`dns`], [`webhooks`], [`catalogue`], [`orders`], [`services`],
//! [`certificates`]; what operators look at: [`oversight`], [`dead_letters`]. A rule is a plain function whose first parameter is a transaction: a [`db::TenantTx`]
//! proves that somebody was authenticated, that the permission was checked and that row-level
//! security is pinned to the tenant; a [`db::SystemTx`] sees all tenants.

pub mod accounts;
pub mod activation;
pub mod asks;
pub mod audit;
pub mod billing;
pub mod catalogue;
pub mod certificates;
pub mod cloudpods;
pub mod config;
pub mod db;
pub mod dead_letters;
pub mod dns;
mod due;
pub mod error;
pub mod hosting;
pub mod idempotency;
pub mod ids;
pub mod impersonation;
pub mod import;
pub mod jobs;
pub mod keys;
pub mod links;
pub mod listen;
pub mod mail;
pub mod members;
pub mod mfa;
pub mod migrations;
pub mod orders;
pub mod outbox;
pub mod oversight;
pub mod redaction;
pub mod sealing;
pub mod secrets;
pub mod servers;
pub mod services;
pub mod sessions;
pub mod tables;
pub mod telemetry;
pub mod tenancy;
pub mod tenants;
#[cfg(feature = "testing")]
pub mod testing;
pub mod webhooks;

pub use values;

/// What the rules answer.
pub type Result<T, E = error::Error> = std::result::Result<T, E>;
