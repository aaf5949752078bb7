//! HTTP in, HTTP out. No SQL, no SSH, and no AMQP beyond the one client that asks workers.

pub mod access;
pub mod app;
pub mod ask;
pub mod audit;
pub mod auth;
pub mod client;
pub mod console;
pub mod contract;
pub mod edge;
pub mod ends;
pub mod error;
pub mod extract;
pub mod gcra;
pub mod idempotency;
pub mod import;
pub mod limits;
pub mod lockout;
pub mod password;
pub mod progress;
pub mod query;
pub mod routes;
pub mod schema;
pub mod state;
pub mod trace;
