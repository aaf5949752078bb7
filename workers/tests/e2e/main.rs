//! The whole road: API, relay and worker as processes, and a real Debian 12 server.
#![cfg(test)]
