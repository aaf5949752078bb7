//! What LXC is told of a container, made from Proxmox' configuration at each start.

use std::fmt::Write;

use crate::config::Config;
use crate::container::{folder, rootfs, volumes};
use crate::error::{Failure, Result, failure};
use crate::groups::{self, Version};
use crate::node::Node;
use crate::property::{self, get};

const BEGIN: &str = "lxc.apparmor.profile = unconfined
lxc.mount.auto = proc:mixed sys:ro cgroup:mixed
lxc.autodev = 1
lxc.pty.max = 1024
lxc.signal.halt = SIGRTMIN+4
lxc.signal.reboot = SIGRTMIN+5
lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio
lxc.hook.pre-start = /usr/share/lxc/hooks/lxc-pve-prestart-hook
lxc.hook.post-stop = /usr/share/lxc/hooks/lxc-pve-poststop-hook
";

/// The text of LXC's own configuration file.
pub fn configuration(node: &Node, vmid: u64, config: &Config) -> Result<String> {
    let mut text = BEGIN.to_owned();
    let mut line =
        |key: &str, value: &str| writeln!(text, "{key} = {value}").map_err(Failure::from);
    line("lxc.arch", "amd64")?;
    line("lxc.uts.name", config.get("hostname").unwrap_or(&format!("CT{vmid}")))?;
    line("lxc.rootfs.path", &format!("dir:{}", rootfs(vmid).display()))?;
    line("lxc.tty.max", config.get("tty").unwrap_or("2"))?;
    let version = Version::of_this_machine();
    for (key, value) in groups::limits(version, node, config) {
        line(&format!("{}{key}", version.prefix()), &value)?;
    }
    for (key, parts) in volumes(config) {
        if let Some(place) = get(&parts, "mp").filter(|_| key != "rootfs") {
            let from = folder(vmid).join(&key);
            let options = if get(&parts, "ro") == Some("1") { "bind,ro" } else { "bind" };
            let inner = place.trim_start_matches('/');
            line(
                "lxc.mount.entry",
                &format!("{} {inner} none {options},create=dir 0 0", from.display()),
            )?;
        }
    }
    for (index, parts) in networks(config) {
        for (key, value) in network(vmid, index, &parts) {
            line(&format!("lxc.net.{index}.{key}"), &value)?;
        }
    }
    for (key, value) in &config.raw {
        line(key, value)?;
    }
    Ok(text)
}

impl From<std::fmt::Error> for Failure {
    fn from(error: std::fmt::Error) -> Failure {
        failure(error.to_string())
    }
}

/// The network cards of a configuration, by index.
pub fn networks(config: &Config) -> Vec<(u64, property::Parts)> {
    let mut found: Vec<(u64, property::Parts)> = config
        .values
        .iter()
        .filter_map(|(key, value)| {
            let index = key.strip_prefix("net")?.parse().ok()?;
            Some((index, property::parse(value, "name")))
        })
        .collect();
    found.sort_by_key(|(index, _)| *index);
    found
}

/// The name of a card's end on the node.
pub fn veth(vmid: u64, index: u64) -> String {
    format!("veth{vmid}i{index}")
}

fn network(vmid: u64, index: u64, parts: &property::Parts) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("type", "veth".to_owned()),
        ("veth.pair", veth(vmid, index)),
        ("name", get(parts, "name").unwrap_or("eth0").to_owned()),
    ];
    let mut copy = |from: &str, to: &'static str| {
        if let Some(value) = get(parts, from) {
            lines.push((to, value.to_owned()));
        }
    };
    copy("bridge", "link");
    copy("hwaddr", "hwaddr");
    copy("mtu", "mtu");
    copy("tag", "veth.vlan.id");
    for (key, to) in [("ip", "ipv4.address"), ("ip6", "ipv6.address")] {
        if let Some(value) = get(parts, key).filter(|value| value.contains('/')) {
            lines.push((to, value.to_owned()));
        }
    }
    for (key, to) in [("gw", "ipv4.gateway"), ("gw6", "ipv6.gateway")] {
        if let Some(value) = get(parts, key) {
            lines.push((to, value.to_owned()));
        }
    }
    if get(parts, "link_down") != Some("1") {
        lines.push(("flags", "up".to_owned()));
    }
    lines
}
