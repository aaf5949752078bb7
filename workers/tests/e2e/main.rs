//! The whole road: API, relay and worker as processes, and a real Debian 12 server.
#![cfg(test)]

mod archives;
mod bed;
mod client;
mod expect;
mod moves;
mod program;
mod server;
mod snapshot;
mod stack;
