//! Workers against real Postgres and RabbitMQ.
#![cfg(test)]

mod billing;
mod cancel;
mod claims;
mod dead_letters;
mod dns;
mod notifier;
mod relay;
mod saga;
mod tenancy;
mod webhooks;
