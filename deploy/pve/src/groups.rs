//! Control groups, of the first version or the second, whichever this machine has: what a container is
//! held to and what it uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Config;
use crate::node::Node;

const ROOT: &str = "/sys/fs/cgroup";

/// Which files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

impl Version {
    /// What this machine has.
    pub fn of_this_machine() -> Version {
        match Path::new(ROOT).join("cgroup.controllers").exists() {
            true => Version::Two,
            false => Version::One,
        }
    }

    /// What LXC puts before a file's name in its configuration.
    pub fn prefix(self) -> &'static str {
        match self {
            Version::One => "lxc.cgroup.",
            Version::Two => "lxc.cgroup2.",
        }
    }

    fn folder(self, vmid: u64, controller: &str) -> PathBuf {
        let root = match self {
            Version::One => Path::new(ROOT).join(controller),
            Version::Two => PathBuf::from(ROOT),
        };
        root.join(format!("lxc.payload.{vmid}"))
    }
}

/// What a container is held to, by the names of the files.
pub fn limits(version: Version, node: &Node, config: &Config) -> Vec<(&'static str, String)> {
    let memory = (config.number("memory", 512) << 20).to_string();
    let quota = cpu_quota(node, config);
    match version {
        Version::One => vec![
            ("memory.limit_in_bytes", memory),
            ("cpu.cfs_period_us", "100000".to_owned()),
            ("cpu.cfs_quota_us", quota.map_or("-1".to_owned(), |quota| quota.to_string())),
            ("cpu.shares", config.number("cpuunits", 1024).max(2).to_string()),
        ],
        Version::Two => vec![
            ("memory.max", memory),
            (
                "cpu.max",
                format!("{} 100000", quota.map_or("max".to_owned(), |quota| quota.to_string())),
            ),
            ("cpu.weight", config.number("cpuunits", 100).clamp(1, 10_000).to_string()),
        ],
    }
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

fn number(path: PathBuf) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

/// A line's number in a file of names and numbers.
fn line_of(path: PathBuf, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(known, _)| *known == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}

/// The memory that a container uses, without what the kernel could give back at once.
pub fn memory_in_use(vmid: u64) -> u64 {
    let version = Version::of_this_machine();
    let folder = version.folder(vmid, "memory");
    let (file, cached) = match version {
        Version::One => ("memory.usage_in_bytes", "total_inactive_file"),
        Version::Two => ("memory.current", "inactive_file"),
    };
    number(folder.join(file)).saturating_sub(line_of(folder.join("memory.stat"), cached))
}

/// The time of processors that a container has used.
pub fn cpu_time(vmid: u64) -> Duration {
    let version = Version::of_this_machine();
    let folder = version.folder(vmid, "cpuacct");
    match version {
        Version::One => Duration::from_nanos(number(folder.join("cpuacct.usage"))),
        Version::Two => Duration::from_micros(line_of(folder.join("cpu.stat"), "usage_usec")),
    }
}
