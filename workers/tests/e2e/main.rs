//! The whole road: API, relay and worker as processes, and a real Debian 12 server.
#![cfg(test)]

mod archives;
mod attacks;
mod bed;
mod client;
mod deaths;
mod expect;
mod moves;
mod program;
mod refusals;
mod server;
mod snapshot;
mod stack;
mod undone;
