//! The archive format lives here: reading cPanel account archives and planning their restore.
//!
//! Pure: bytes in, typed [`account::Account`] out; account, facts and options in, operations out
//! ([`plan`]). No network, no root rights, no async. [`protocol`] is what the worker asks the agent
//! on a hosting server, and what it answers.

pub mod account;
mod aliases;
pub mod analyze;
pub mod archive;
mod assemble;
mod certificates;
mod cron_time;
mod crontab;
mod databases;
mod directory;
mod dkim;
mod domain_names;
mod domains;
mod dump;
pub mod error;
mod filter_text;
mod filters;
mod findings;
mod ftp;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grant_statements;
mod grants;
pub mod home;
mod keys;
mod mail;
pub mod member;
mod members;
mod nested;
pub mod peek;
mod pem;
pub mod plan;
mod plan_databases;
mod plan_dns;
mod plan_mail;
mod plan_sites;
mod plan_tls;
pub mod planner;
pub mod protocol;
mod record;
pub mod rehome;
pub mod secret;
mod sparse;
pub mod sql;
mod sql_statement;
pub mod stream;
pub mod summary;
mod yaml;
pub mod zone;

pub use error::Error;
