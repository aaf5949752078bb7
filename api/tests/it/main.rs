//! The API over a real socket against real Postgres and RabbitMQ.
#![cfg(test)]

mod app;
mod audit;
mod auth;
mod contract;
mod edge;
mod idempotency;
mod members;
mod limits;
mod migration;
mod servers;
mod tenancy;
