//! A stand-in for a node of Proxmox VE 8: `pct`, `pvesh`, `pveam` and `pvesm` as one program, which
//! behaves by the name that it is called by, with real LXC containers behind it. The sandbox's script
//! `deploy/sandbox/pve` makes the node that it runs on.

pub mod api;
pub mod arguments;
pub mod backup;
pub mod config;
pub mod container;
pub mod contents;
pub mod create;
pub mod error;
pub mod faults;
pub mod firewall;
pub mod firewall_calls;
pub mod formats;
pub mod groups;
pub mod guest;
pub mod guests;
pub mod hooks;
pub mod inside;
pub mod lifecycle;
pub mod lock;
pub mod lxc;
pub mod moves;
pub mod node;
pub mod output;
pub mod pct;
pub mod program;
pub mod property;
pub mod pveam;
pub mod pvesh;
pub mod pvesm;
pub mod remote;
pub mod resources;
pub mod schema;
pub mod settings;
pub mod snapshot;
pub mod storage;
pub mod task;
pub mod tasks;
pub mod templates;
pub mod views;

use error::{Result, failure};
use node::Node;
use schema::Schema;

/// Runs the program of this name with these words and gives its exit code.
pub fn run(name: &str, words: &[String]) -> Result<i32> {
    let node = Node::load()?;
    if name.starts_with("lxc-pve-") {
        return hooks::run(&node, name).map(|()| 0);
    }
    if name == "pve-guests" {
        return hooks::start_all(&node).map(|()| 0);
    }
    let schema = Schema::load()?;
    let all: Vec<String> = std::iter::once(name.to_owned()).chain(words.iter().cloned()).collect();
    faults::meet(&all)?;
    match name {
        "pct" => pct::run(&node, &schema, words),
        "pvesh" => pvesh::run(&node, &schema, words),
        "pveam" => pveam::run(&node, words),
        "pvesm" => pvesm::run(&node, words),
        _ => Err(failure(format!("{name}: this program is called as pct, pvesh, pveam or pvesm"))),
    }
}
