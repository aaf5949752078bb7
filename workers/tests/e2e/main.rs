//! The whole road: API, relay and worker as processes, and a real Debian 12 server.
#![cfg(test)]

mod archives;
mod attacks;
mod batch;
mod bed;
mod cancel;
mod certificates;
mod chance;
mod client;
mod consoles;
mod deaths;
mod expect;
mod full_disk;
mod gates;
mod hosting;
mod moves;
mod outages;
mod pods;
mod processes;
mod program;
mod refusals;
mod roads;
mod server;
mod snapshot;
mod stack;
mod takeover;
mod undone;
