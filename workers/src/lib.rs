//! Messages and timers in, SSH out.
//!
//! [`relay`] brings the outbox to RabbitMQ and lets [`seal`] chain the audit trail. [`notifier`] sends
//! the [`letters`]. [`billing`] handles what Stripe tells. [`dns`] makes the DNS servers equal to the zones.
//! [`migrator`] claims jobs and runs their [`sagas`] with stored steps and undo ([`saga`], [`runner`]),
//! and answers the API's questions ([`asks`]). What none of them can act on is kept ([`dead_letters`]).
//! Containers are driven by [`provisioner`] on Proxmox nodes ([`proxmox`]), which [`reconcile`] compares
//! with what was sold. Servers are reached through [`fleet`]: one SSH connection each ([`ssh`]), on it
//! the agent ([`agent`]).

pub mod acme;
pub mod agent;
pub mod amqp;
pub mod asks;
pub mod billing;
pub mod caa;
pub mod console;
pub mod dead_letters;
pub mod dns;
pub mod ending;
pub mod error;
pub mod facts;
pub mod fleet;
pub mod health;
pub mod ledger;
pub mod letters;
pub mod migrator;
pub mod notifier;
pub mod powerdns;
pub mod provisioner;
pub mod proxmox;
pub mod reconcile;
pub mod relay;
pub mod runner;
pub mod saga;
pub mod sagas;
pub mod seal;
pub mod ssh;
pub mod tls;
pub mod webhooks;
pub mod world;

use std::io::Write;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT.
pub async fn asked_to_end() {
    let (Ok(mut term), Ok(mut int)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Says on standard error why a process cannot go on.
pub fn complain(process: &str, error: &entities::error::Error) {
    let text = format!("{process}: {}\n", error.chain());
    if std::io::stderr().write_all(text.as_bytes()).is_err() {
        tracing::error!(cause = %error.chain(), "process.failed");
    }
}
