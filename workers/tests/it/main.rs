//! Workers against real Postgres and RabbitMQ.
#![cfg(test)]

mod amqp;
mod billing;
mod cancel;
mod claims;
mod dead_letters;
mod dns;
mod notifier;
mod relay;
#[path = "../e2e/roads.rs"]
mod roads;
mod saga;
mod tenancy;
mod webhooks;
