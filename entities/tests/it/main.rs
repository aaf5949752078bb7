//! The rules and what Postgres itself enforces, against a real server.
#![cfg(test)]

mod audit;
mod certificates;
mod idempotency;
mod locks;
mod orders;
mod quotas;
mod services;
