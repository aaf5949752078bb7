//! What LXC is told of a container, made from Proxmox' configuration at each start.

use std::fmt::Write;

use crate::config::Config;
use crate::container::{folder, rootfs, volumes};
use crate::error::{Failure, Result, failure};
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
    for (key, value) in limits(node, config) {
        line(key, &value)?;
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

/// What control groups of the first version hold a container to.
pub fn limits(node: &Node, config: &Config) -> Vec<(&'static str, String)> {
    let mut limits = vec![(
        "lxc.cgroup.memory.limit_in_bytes",
        (config.number("memory", 512) * 1024 * 1024).to_string(),
    )];
    if let Some(quota) = cpu_quota(node, config) {
        limits.push(("lxc.cgroup.cpu.cfs_period_us", "100000".to_owned()));
        limits.push(("lxc.cgroup.cpu.cfs_quota_us", quota.to_string()));
    }
    limits.push(("lxc.cgroup.cpu.shares", config.number("cpuunits", 1024).max(2).to_string()));
    limits
}

/// Microseconds of all processors in each tenth of a second. A node may say that it has more cores than
/// this machine, so a number of cores is a share of time here and not a set of processors.
pub fn cpu_quota(node: &Node, config: &Config) -> Option<u64> {
    let limit: f64 = config.get("cpulimit").and_then(|text| text.parse().ok()).unwrap_or(0.0);
    if limit > 0.0 {
        let thousandths: u64 = format!("{:.0}", limit * 1000.0).parse().ok()?;
        return Some(thousandths * 100);
    }
    let cores = config.number("cores", 0);
    (cores > 0 && cores < node.cores).then_some(cores * 100_000)
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
