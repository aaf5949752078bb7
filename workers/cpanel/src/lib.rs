//! The archive format lives here: reading cPanel account archives and planning their restore.
//!
//! Pure: bytes in, typed [`account::Account`] out; account, facts and options in, operations out
//! ([`plan`]). No network, no root rights, no async. [`protocol`] is what the worker asks the agent
//! on a hosting server, and what it answers.

pub mod account;
pub mod archive;
pub mod error;
pub mod home;
pub mod member;
pub mod plan;
pub mod protocol;
pub mod secret;
pub mod stream;

pub use error::Error;
