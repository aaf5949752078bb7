//! The API over a real socket against real Postgres and RabbitMQ.
#![cfg(test)]

mod app;
mod audit;
mod auth;
mod catalogue;
mod cloudpods;
mod consoles;
mod contract;
mod dead_letters;
mod described;
mod dns;
mod edge;
mod grabs;
mod idempotency;
mod import;
mod jobs;
mod limits;
mod members;
mod migration;
mod orders;
mod processes;
mod program;
mod rotation;
mod servers;
mod services;
mod storm;
mod stripe;
mod tenancy;
mod trail;
