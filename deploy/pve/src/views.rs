//! The node itself and its cluster, as the API shows them, in its own units: bytes and seconds.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::error::{Result, bad_parameter};
use crate::guests::containers;
use crate::node::{self, Node};
use crate::program::run;
use crate::storage;
use crate::task;

/// What this stand-in behaves as.
pub const VERSION: &str = "8.2.7";
const RELEASE: &str = "8.2";
const REPOSITORY: &str = "3e0176e6bb2ade3b";

/// `GET /version`.
pub fn version() -> Value {
    json!({"version": VERSION, "release": RELEASE, "repoid": REPOSITORY})
}

/// How long a process has run.
pub fn uptime(pid: u32) -> u64 {
    let started = task::process_start(pid).unwrap_or_default() / 100;
    let up = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds =
        up.split(['.', ' ']).next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    seconds.saturating_sub(started)
}

/// How much memory and time of the processors the containers of this node use.
fn load_of(node: &Node) -> (u64, f64) {
    let rows = containers(node);
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let memory = rows.iter().filter_map(|row| row.get("mem")?.as_u64()).sum();
    let cpu: f64 = rows
        .iter()
        .filter_map(|row| Some(row.get("cpu")?.as_f64()? * row.get("cpus")?.as_f64()?))
        .sum();
    let cores = f64::from(u32::try_from(node.cores).unwrap_or(1));
    (memory, (cpu / cores).clamp(0.0, 1.0) + 0.0)
}

/// What the node's own system takes of its memory.
const OWN_MEMORY: u64 = 512 << 20;

/// `GET /nodes/{node}/status`.
pub fn node_status(node: &Node) -> Value {
    let (memory, cpu) = load_of(node);
    let used = (memory + OWN_MEMORY).min(node.memory);
    let root = storage::STORAGES.first().map_or((0, 0), |local| (local.total(node), local.used()));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    json!({
        "uptime": uptime(1), "cpu": cpu, "wait": 0, "idle": 0, "loadavg": load,
        "memory": {"total": node.memory, "used": used, "free": node.memory - used, "available": node.memory - used},
        "swap": {"total": 0, "used": 0, "free": 0},
        "rootfs": {"total": root.0, "used": root.1, "free": root.0.saturating_sub(root.1), "avail": root.0.saturating_sub(root.1)},
        "cpuinfo": {"cpus": node.cores, "cores": node.cores, "sockets": 1, "model": "Common KVM processor", "mhz": "2400.000",
            "hvm": "1", "user_hz": 100, "flags": ""},
        "ksm": {"shared": 0}, "kversion": "Linux 6.8.12-2-pve #1 SMP PREEMPT_DYNAMIC PMX 6.8.12-2",
        "current-kernel": {"sysname": "Linux", "release": "6.8.12-2-pve", "machine": "x86_64", "version": "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-2"},
        "boot-info": {"mode": "legacy-bios"}, "pveversion": format!("pve-manager/{VERSION}/{REPOSITORY}"),
    })
}

/// The row of a node in `/nodes`, with what only it knows itself when it is this one.
pub fn node_row(node: &Node, member: &node::Member) -> Value {
    let mut row = json!({"node": member.name, "id": format!("node/{}", member.name), "type": "node", "level": "",
        "status": if member.online { "online" } else { "offline" }, "ssl_fingerprint": ""});
    if let Some(map) = row.as_object_mut().filter(|_| member.name == node.name) {
        let (memory, cpu) = load_of(node);
        let disk =
            storage::STORAGES.first().map_or((0, 0), |local| (local.total(node), local.used()));
        for (key, value) in [
            ("maxcpu", json!(node.cores)),
            ("cpu", json!(cpu)),
            ("maxmem", json!(node.memory)),
            ("mem", json!((memory + OWN_MEMORY).min(node.memory))),
            ("maxdisk", json!(disk.0)),
            ("disk", json!(disk.1)),
            ("uptime", json!(uptime(1))),
        ] {
            map.insert(key.to_owned(), value);
        }
    }
    row
}

/// `GET /cluster/status`.
pub fn cluster_status(node: &Node) -> Value {
    let members = node.members();
    let mut rows = Vec::new();
    if let Some(name) = &node.cluster {
        rows.push(
            json!({"type": "cluster", "id": "cluster", "name": name, "version": members.len(),
            "nodes": members.len(), "quorate": 1}),
        );
    }
    for member in members {
        rows.push(json!({"type": "node", "id": format!("node/{}", member.name), "name": member.name, "ip": member.address,
            "online": u8::from(member.online), "local": u8::from(member.name == node.name), "nodeid": member.id, "level": ""}));
    }
    Value::Array(rows)
}

/// `GET /cluster/nextid`.
pub fn next_id(parameters: &Parameters) -> Result<Value> {
    let taken: Vec<u64> = node::guests().iter().map(|guest| guest.vmid).collect();
    if let Some(wanted) = parameters.number("vmid") {
        if taken.contains(&wanted) {
            return Err(bad_parameter("vmid", format!("VM {wanted} already exists")));
        }
        return Ok(json!(wanted.to_string()));
    }
    let free = (100u64..).find(|vmid| !taken.contains(vmid)).unwrap_or(100);
    Ok(json!(free.to_string()))
}

/// `GET /nodes/{node}/network`.
pub fn network(parameters: &Parameters) -> Result<Value> {
    let text = run("ip", &["-j", "addr"])?;
    let cards: Vec<Value> = serde_json::from_str(&text)?;
    let wanted = parameters.get("type");
    Ok(cards
        .iter()
        .filter_map(|card| {
            let name = card.get("ifname")?.as_str()?;
            let kind = match name {
                "lo" => return None,
                _ if name.starts_with("veth") => return None,
                _ if Path::new("/sys/class/net").join(name).join("bridge").is_dir() => "bridge",
                _ => "eth",
            };
            let listed = wanted.is_none_or(|w| {
                w == kind
                    || w == "any_bridge" && kind == "bridge"
                    || w == "any_local_bridge" && kind == "bridge"
            });
            listed.then(|| network_row(card, name, kind))
        })
        .collect())
}

fn network_row(card: &Value, name: &str, kind: &str) -> Value {
    let mut row = json!({"iface": name, "type": kind, "active": 1, "exists": 1, "autostart": 1, "method": "manual",
        "method6": "manual", "families": ["inet"], "priority": 3});
    let Some(map) = row.as_object_mut() else { return row };
    if kind == "bridge" {
        map.insert("bridge_ports".to_owned(), json!("eth0"));
        map.insert("bridge_stp".to_owned(), json!("off"));
        map.insert("bridge_fd".to_owned(), json!("0"));
    }
    for address in card.get("addr_info").and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| address.get(key).and_then(Value::as_str).unwrap_or_default();
        let length = address.get("prefixlen").and_then(Value::as_u64).unwrap_or_default();
        let (plain, cidr, method) = match word("family") {
            "inet" => ("address", "cidr", "method"),
            _ if word("scope") == "global" => ("address6", "cidr6", "method6"),
            _ => continue,
        };
        map.insert(plain.to_owned(), json!(word("local")));
        map.insert(cidr.to_owned(), json!(format!("{}/{length}", word("local"))));
        map.insert(method.to_owned(), json!("static"));
    }
    row
}

/// `GET /nodes/{node}/apt/versions`.
pub fn versions() -> Value {
    [("proxmox-ve", "8.2.0"), ("pve-manager", VERSION), ("pve-container", "5.2.0"), ("lxc-pve", "6.0.0-1"), ("libpve-storage-perl", "8.2.5"), ("pve-firewall", "5.0.7")]
        .iter()
        .map(|(name, version)| {
            json!({"Package": name, "Version": version, "OldVersion": version, "CurrentState": "Installed",
                "Arch": "amd64", "Origin": "Proxmox", "Section": "admin", "Priority": "optional", "Title": name, "Description": name})
        })
        .collect()
}
