//! What LXC calls before a container starts and after it has stopped, and what a node does when it
//! starts itself.

use crate::config;
use crate::container;
use crate::error::{Result, failure};
use crate::lifecycle;
use crate::node::{self, Node};
use crate::task;

/// Runs the hook of this name for the container that LXC names.
pub fn run(node: &Node, name: &str) -> Result<()> {
    let vmid: u64 = lxc_name()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| failure("no container is named"))?;
    match name {
        // A container that restarts itself was unmounted in between.
        "lxc-pve-prestart-hook" => container::mount(vmid, &config::load(&node.name, vmid)?),
        _ => container::unmount(vmid),
    }
}

#[expect(clippy::disallowed_methods, reason = "LXC tells its hooks by the environment")]
fn lxc_name() -> Option<String> {
    std::env::var("LXC_NAME").ok()
}

/// Starts the containers that are to run whenever the node does. One that cannot start keeps no other
/// from it.
pub fn start_all(node: &Node) -> Result<()> {
    for guest in node::guests() {
        if !guest.is_container || guest.node != node.name || container::is_running(guest.vmid) {
            continue;
        }
        let known = config::load(&node.name, guest.vmid)?;
        if known.is_set("onboot")
            && let Err(why) = lifecycle::start_now(node, guest.vmid)
        {
            task::say(&format!("startup of CT {} failed: {why}", guest.vmid));
        }
    }
    Ok(())
}
