//! The rules and what Postgres itself enforces, against a real server.
#![cfg(test)]

mod audit;
mod certificates;
mod idempotency;
mod locks;
mod orders;
mod quotas;
mod services;

use entities::servers::Change;

/// A change of a server's maintenance and nothing else.
fn in_maintenance(maintenance: bool) -> Change {
    Change { maintenance: Some(maintenance), ..Change::default() }
}
