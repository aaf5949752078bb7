//! What can be asked of nodes, containers, storages, tasks and the cluster, in the API's own units:
//! bytes and seconds.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::arguments::Parameters;
use crate::backup;
use crate::config::{self, Config};
use crate::container;
use crate::error::{Result, bad_parameter, failure};
use crate::groups;
use crate::lifecycle::vmid;
use crate::lxc;
use crate::node::{self, Node};
use crate::program::run;
use crate::property::{self, get};
use crate::storage::{self, Storage};
use crate::task::{self, Task};

/// What this stand-in behaves as.
pub const VERSION: &str = "8.2.7";
const RELEASE: &str = "8.2";
const REPOSITORY: &str = "3e0176e6bb2ade3b";

/// `GET /version`.
pub fn version() -> Value {
    json!({"version": VERSION, "release": RELEASE, "repoid": REPOSITORY})
}

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

/// How long a process has run.
fn uptime(pid: u32) -> u64 {
    let started = task::process_start(pid).unwrap_or_default() / 100;
    let up = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds =
        up.split(['.', ' ']).next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    seconds.saturating_sub(started)
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

/// A storage as `/nodes/{node}/storage` shows it.
pub fn storage_row(node: &Node, storage: &Storage) -> Value {
    let (total, used) = (storage.total(node), storage.used());
    let avail = total.saturating_sub(used);
    let fraction = format!("{:.6}", share(used, total)).parse::<f64>().unwrap_or_default();
    json!({"storage": storage.name, "type": storage.kind, "content": storage.content, "active": 1, "enabled": 1,
        "shared": 0, "total": total, "used": used, "avail": avail, "used_fraction": fraction})
}

fn share(part: u64, whole: u64) -> f64 {
    let scaled =
        u32::try_from(u128::from(part) * 1_000_000 / u128::from(whole.max(1))).unwrap_or(1_000_000);
    f64::from(scaled) / 1e6
}

/// `GET /nodes/{node}/storage`.
pub fn storages(node: &Node, parameters: &Parameters) -> Value {
    storage::STORAGES
        .iter()
        .filter(|known| parameters.get("storage").is_none_or(|name| name == known.name))
        .filter(|known| {
            parameters
                .get("content")
                .is_none_or(|wanted| property::list(wanted).iter().any(|c| known.takes(c)))
        })
        .map(|known| storage_row(node, known))
        .collect()
}

/// `GET /nodes/{node}/storage/{storage}/content`.
pub fn content(_node: &Node, parameters: &Parameters) -> Result<Value> {
    let place = storage::find(parameters.need("storage")?)?;
    let mut rows = if place.name == "local" { files() } else { volumes() };
    rows.retain(|row| {
        let fits = |key: &str, name: &str| {
            parameters.get(name).is_none_or(|wanted| {
                row.get(key)
                    .is_some_and(|v| v.as_str().map_or(v.to_string(), str::to_owned) == wanted)
            })
        };
        fits("content", "content") && fits("vmid", "vmid")
    });
    Ok(Value::Array(rows))
}

fn files() -> Vec<Value> {
    let mut rows = Vec::new();
    for (folder, kind) in
        [("template/cache", "vztmpl"), ("template/iso", "iso"), ("dump", "backup")]
    {
        let folder = Path::new(storage::LOCAL).join(folder);
        for name in node::names_in(&folder) {
            let wanted = match kind {
                "backup" => backup::is_backup(&name),
                "vztmpl" => name.contains(".tar."),
                _ => name.ends_with(".iso"),
            };
            let path = folder.join(&name);
            let Some(facts) = fs::metadata(&path).ok().filter(|_| wanted) else { continue };
            let format = if name.ends_with(".tar.zst") && kind == "backup" {
                "tar.zst"
            } else {
                name.rsplit('.')
                    .next()
                    .map_or("", |last| if last == "iso" { "iso" } else { "tzst" })
            };
            let mut row = json!({"volid": format!("local:{kind}/{name}"), "content": kind, "format": format,
                "size": facts.len(), "ctime": seconds(&facts)});
            if let Some(map) = row.as_object_mut().filter(|_| kind == "backup") {
                map.insert("subtype".to_owned(), json!("lxc"));
                map.extend(backup::guest_of(&name).map(|vmid| ("vmid".to_owned(), json!(vmid))));
                if let Ok(notes) = fs::read_to_string(backup::with_suffix(&path, ".notes")) {
                    map.insert("notes".to_owned(), json!(notes));
                }
                if backup::with_suffix(&path, ".protected").exists() {
                    map.insert("protected".to_owned(), json!(1));
                }
            }
            rows.push(row);
        }
    }
    rows
}

fn seconds(facts: &fs::Metadata) -> u64 {
    facts
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
        .map_or(0, |passed| passed.as_secs())
}

fn volumes() -> Vec<Value> {
    node::names_in(Path::new(storage::VOLUMES))
        .iter()
        .filter_map(|name| {
            let vmid: u64 = name
                .strip_prefix("vm-")
                .or_else(|| name.strip_prefix("base-"))?
                .split('-')
                .next()?
                .parse()
                .ok()?;
            let facts = fs::metadata(Path::new(storage::VOLUMES).join(name)).ok()?;
            Some(
                json!({"volid": format!("local-lvm:{name}"), "content": "rootdir", "format": "raw",
                "size": facts.len(), "vmid": vmid, "ctime": seconds(&facts)}),
            )
        })
        .collect()
}

/// A task as lists show it.
fn task_row(task: &Task) -> Value {
    let mut row = json!({"upid": task.upid, "node": task.node, "pid": task.pid, "pstart": task.pstart,
        "starttime": task.starttime, "type": task.kind, "id": task.id, "user": task.user});
    if let (Some(map), Some((end, status))) = (row.as_object_mut(), task.ended()) {
        map.insert("endtime".to_owned(), json!(end));
        map.insert("status".to_owned(), json!(status));
    }
    row
}

/// `GET /nodes/{node}/tasks`.
pub fn tasks(parameters: &Parameters) -> Value {
    let limit = usize::try_from(parameters.number("limit").unwrap_or(50)).unwrap_or(50);
    let start = usize::try_from(parameters.number("start").unwrap_or(0)).unwrap_or(0);
    let source = parameters.get("source").unwrap_or("archive");
    task::all()
        .iter()
        .map(|task| (task, task.ended()))
        .filter(|(_, ended)| source == "all" || ended.is_some() == (source == "archive"))
        .filter(|(task, _)| parameters.get("vmid").is_none_or(|vmid| task.id == vmid))
        .filter(|(task, _)| parameters.get("typefilter").is_none_or(|kind| task.kind == kind))
        .filter(|(_, ended)| {
            !parameters.is_set("errors") || ended.as_ref().is_some_and(|(_, words)| words != "OK")
        })
        .skip(start)
        .take(limit)
        .map(|(task, _)| task_row(task))
        .collect()
}

fn find_task(parameters: &Parameters) -> Result<Task> {
    let upid = parameters.need("upid")?;
    let task = Task::parse(upid)
        .ok_or_else(|| bad_parameter("upid", format!("unable to parse worker upid '{upid}'")))?;
    if task.log().is_file() { Ok(task) } else { Err(failure("no such task")) }
}

/// `GET /nodes/{node}/tasks/{upid}/status`.
pub fn task_status(parameters: &Parameters) -> Result<Value> {
    let task = find_task(parameters)?;
    let mut row = task_row(&task);
    if let Some(map) = row.as_object_mut() {
        map.remove("endtime");
        if let Some(words) = map.insert("status".to_owned(), json!("running")) {
            map.insert("exitstatus".to_owned(), words);
            map.insert("status".to_owned(), json!("stopped"));
        }
    }
    Ok(row)
}

/// `GET /nodes/{node}/tasks/{upid}/log`.
pub fn task_log(parameters: &Parameters) -> Result<Value> {
    let text = fs::read_to_string(find_task(parameters)?.log())?;
    let limit = usize::try_from(parameters.number("limit").unwrap_or(50)).unwrap_or(50);
    let start = usize::try_from(parameters.number("start").unwrap_or(0)).unwrap_or(0);
    Ok(text
        .lines()
        .enumerate()
        .skip(start)
        .take(limit)
        .map(|(n, line)| json!({"n": n + 1, "t": line}))
        .collect())
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
