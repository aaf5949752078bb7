//! Containers, and what is known of virtual machines, as the API shows them.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::arguments::Parameters;
use crate::config::{self, Config};
use crate::container;
use crate::error::Result;
use crate::groups;
use crate::lifecycle::vmid;
use crate::lxc;
use crate::node::{self, Node};
use crate::program::run;
use crate::property::{self, get};
use crate::storage;
use crate::views::uptime;

fn read_number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

/// The share of its processors that a container used since it was last asked about.
fn cpu_share(vmid: u64, cpus: f64) -> f64 {
    let used = groups::cpu_time(vmid).as_secs_f64();
    let file = container::folder(vmid).join("cpu.sample");
    let before = fs::read_to_string(&file).unwrap_or_default();
    let time = now();
    drop(fs::write(&file, format!("{used} {time}")));
    let Some((old, then)) = before.split_once(' ') else { return 0.0 };
    let (Ok(old), Ok(then)) = (old.parse::<f64>(), then.parse::<f64>()) else { return 0.0 };
    if time > then && cpus > 0.0 { (used - old).max(0.0) / (time - then) / cpus } else { 0.0 }
}

/// A container as lists show it.
pub fn container_row(node: &Node, vmid: u64, known: &Config) -> Value {
    let running = container::is_running(vmid);
    let cores = known.number("cores", node.cores);
    let size = known
        .get("rootfs")
        .and_then(|text| storage::parse_size(get(&property::parse(text, "volume"), "size")?))
        .unwrap_or_default();
    let fallback = format!("CT{vmid}");
    let mut row = json!({
        "vmid": vmid, "type": "lxc", "status": if running { "running" } else { "stopped" },
        "name": known.get("hostname").unwrap_or(&fallback), "cpus": cores,
        "maxmem": known.number("memory", 512) << 20, "maxswap": known.number("swap", 0) << 20, "maxdisk": size,
        "cpu": 0, "mem": 0, "swap": 0, "disk": 0, "uptime": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
    });
    if let Some(map) = row.as_object_mut() {
        for key in ["lock", "tags"] {
            map.extend(known.get(key).map(|value| (key.to_owned(), json!(value))));
        }
        if known.is_set("template") {
            map.insert("template".to_owned(), json!(1));
        }
        if let Some(pid) = container::init_of(vmid).filter(|_| running) {
            measure(map, vmid, pid, known, cores);
        }
    }
    row
}

fn measure(map: &mut Map<String, Value>, vmid: u64, pid: u32, known: &Config, cores: u64) {
    let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
    let cpus = f64::from(u32::try_from(cores).unwrap_or(1));
    put("pid", json!(pid));
    put("uptime", json!(uptime(pid)));
    put("cpu", json!(cpu_share(vmid, cpus)));
    put("mem", json!(groups::memory_in_use(vmid)));
    let disk = container::folder(vmid).join("disk");
    if let Ok(facts) = rustix::fs::statvfs(&disk) {
        put("disk", json!((facts.f_blocks - facts.f_bfree) * facts.f_frsize));
    }
    let (mut to, mut from) = (0, 0);
    for (index, _) in lxc::networks(known) {
        // What the node's end receives, the container has sent.
        let counts = Path::new("/sys/class/net").join(lxc::veth(vmid, index)).join("statistics");
        from += read_number(&counts.join("rx_bytes"));
        to += read_number(&counts.join("tx_bytes"));
    }
    put("netin", json!(to));
    put("netout", json!(from));
}

/// The containers of this node.
pub fn containers(node: &Node) -> Value {
    node::guests()
        .into_iter()
        .filter(|guest| guest.is_container && guest.node == node.name)
        .filter_map(|guest| {
            let known = config::load(&node.name, guest.vmid).ok()?;
            Some(container_row(node, guest.vmid, &known))
        })
        .collect()
}

/// The virtual machines of this node: somebody else's, of which only the files are here.
pub fn machines(node: &Node) -> Value {
    node::guests()
        .into_iter()
        .filter(|guest| !guest.is_container && guest.node == node.name)
        .map(|guest| machine_row(&node.name, guest.vmid))
        .collect()
}

fn machine_row(node: &str, vmid: u64) -> Value {
    let path = format!("/etc/pve/nodes/{node}/qemu-server/{vmid}.conf");
    let known = Config::parse(&fs::read_to_string(path).unwrap_or_default());
    let fallback = format!("VM{vmid}");
    json!({"vmid": vmid, "name": known.get("name").unwrap_or(&fallback), "status": "stopped",
        "cpus": known.number("cores", 1) * known.number("sockets", 1), "maxmem": known.number("memory", 512) << 20,
        "maxdisk": 0, "cpu": 0, "mem": 0, "disk": 0, "uptime": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0})
}

/// `GET …/status/current`.
pub fn current(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let known = config::load(&node.name, vmid)?;
    let mut row = container_row(node, vmid, &known);
    if let Some(map) = row.as_object_mut() {
        map.insert("ha".to_owned(), json!({"managed": 0}));
    }
    Ok(row)
}

/// `GET …/interfaces`.
pub fn interfaces(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    config::load(&node.name, vmid)?;
    let Some(pid) = container::init_of(vmid).filter(|_| container::is_running(vmid)) else {
        return Ok(Value::Null);
    };
    let text = run("nsenter", &["-t", &pid.to_string(), "-n", "--", "ip", "-j", "addr"])?;
    let cards: Vec<Value> = serde_json::from_str(&text)?;
    Ok(cards.iter().map(interface).collect())
}

fn interface(card: &Value) -> Value {
    let text = |key: &str| card.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut row = json!({"name": text("ifname"), "hwaddr": text("address"), "hardware-address": text("address")});
    let mut addresses = Vec::new();
    for address in card.get("addr_info").and_then(Value::as_array).into_iter().flatten() {
        let word = |key: &str| address.get(key).and_then(Value::as_str).unwrap_or_default();
        let length = address.get("prefixlen").and_then(Value::as_u64).unwrap_or_default();
        addresses.push(json!({"ip-address": word("local"), "ip-address-type": word("family"), "prefix": length}));
        if let Some(map) = row.as_object_mut() {
            map.entry(word("family").to_owned())
                .or_insert_with(|| json!(format!("{}/{length}", word("local"))));
        }
    }
    if let Some(map) = row.as_object_mut() {
        map.insert("ip-addresses".to_owned(), Value::Array(addresses));
    }
    row
}
