//! Consoles: a WebSocket client, the API and the provisioner as processes, and a container on a local
//! node.

mod deaths;
mod flood;
mod rights;
mod stage;
mod terminal;
mod tickets;
mod typed;
