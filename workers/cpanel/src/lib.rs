//! The archive format lives here: reading cPanel account archives and planning their restore.
//!
//! Pure: bytes in, typed [`account::Account`] out; account, facts and options in, operations out
//! ([`plan`]). No network, no root rights, no async. [`protocol`] is what the worker asks the agent
//! on a hosting server, and what it answers.

pub mod account;
pub mod archive;
mod databases;
pub mod domains;
mod dump;
pub mod error;
pub mod findings;
pub mod grants;
pub mod home;
pub mod member;
pub mod members;
pub mod plan;
pub mod protocol;
pub mod record;
pub mod secret;
pub mod sql;
mod sql_statement;
pub mod stream;
pub mod yaml;
pub mod zone;
mod zone_text;

pub use error::Error;
