//! `pct set`, `pct config`, `pct pending` and `pct resize`.

use serde_json::{Map, Value, json};

use crate::arguments::Parameters;
use crate::config::{self, Config};
use crate::container;
use crate::create;
use crate::error::{Result, bad_parameter, failure};
use crate::firewall;
use crate::groups::{self, Version};
use crate::lifecycle::{change, vmid};
use crate::lxc;
use crate::node::Node;
use crate::program::run;
use crate::property::{self, get};
use crate::storage;
use crate::task;

/// What takes effect only at the next start of a container that runs.
const AT_NEXT_START: &[&str] = &[
    "arch",
    "cmode",
    "console",
    "debug",
    "features",
    "nameserver",
    "ostype",
    "searchdomain",
    "timezone",
    "tty",
    "unprivileged",
];
const CALL_ONLY: &[&str] = &["node", "vmid", "delete", "digest", "revert"];

/// `pct set`.
pub fn set(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let given: Vec<(&str, &str)> =
        parameters.iter().filter(|(name, _)| !CALL_ONLY.contains(name)).collect();
    let delete = property::list(parameters.get("delete").unwrap_or_default());
    let revert = property::list(parameters.get("revert").unwrap_or_default());
    if given.is_empty() && delete.is_empty() && revert.is_empty() {
        return Err(failure("no options specified"));
    }
    for name in &delete {
        if given.iter().any(|(known, _)| known == name) {
            let why = format!("you can't use '-{name}' and -delete {name} at the same time");
            return Err(bad_parameter("delete", why));
        }
        if matches!(*name, "rootfs" | "arch" | "ostype") {
            return Err(failure(format!("unable to delete required option '{name}'")));
        }
    }
    let running = container::is_running(vmid);
    change(node, vmid, |known| {
        if parameters.get("digest").is_some_and(|digest| digest != known.digest()) {
            return Err(failure(
                "detected modified configuration - file changed by other user? Try again.",
            ));
        }
        for name in revert {
            known.pending.remove(name);
        }
        for name in &delete {
            remove_option(vmid, known, name, running)?;
        }
        for (name, value) in given {
            set_option(node, vmid, known, (name, value))?;
        }
        Ok(())
    })?;
    if running {
        follow(node, vmid)?;
    }
    Ok(Value::Null)
}

fn remove_option(vmid: u64, known: &mut Config, name: &str, running: bool) -> Result<()> {
    if running && AT_NEXT_START.contains(&name) {
        let waiting = known.pending.entry("delete".to_owned()).or_default();
        let mut names: Vec<&str> = property::list(waiting);
        names.push(name);
        *waiting = names.join(",");
        return Ok(());
    }
    let Some(old) = known.values.remove(name) else { return Ok(()) };
    if name.starts_with("unused") {
        storage::free(&old)?;
    } else if name.starts_with("mp") {
        if running {
            known.values.insert(name.to_owned(), old);
            return Err(failure(format!(
                "unable to hotplug {name}: can't unmount a mount point of a running container"
            )));
        }
        let volume = property::parse(&old, "volume");
        let index = (0..256).find(|index| !known.values.contains_key(&format!("unused{index}")));
        if let (Some(index), Some(volume)) = (index, get(&volume, "volume")) {
            known.set(&format!("unused{index}"), volume);
        }
    }
    if let Some(index) = name.strip_prefix("net").filter(|_| running) {
        drop(run("ip", &["link", "delete", &lxc::veth(vmid, index.parse().unwrap_or_default())]));
    }
    Ok(())
}

fn set_option(
    node: &Node,
    vmid: u64,
    known: &mut Config,
    (name, value): (&str, &str),
) -> Result<()> {
    let running = container::is_running(vmid);
    if name == "unprivileged" || name == "rootfs" {
        return Err(failure(format!("unable to modify read-only option: '{name}'")));
    }
    if running && AT_NEXT_START.contains(&name) {
        known.pending.insert(name.to_owned(), value.to_owned());
        return Ok(());
    }
    if name.starts_with("mp") && name.strip_prefix("mp").is_some_and(|d| d.parse::<u64>().is_ok()) {
        return add_volume(vmid, known, name, value);
    }
    let is_card = name.strip_prefix("net").is_some_and(|digits| digits.parse::<u64>().is_ok());
    let old = known.get(name).map(|text| property::parse(text, "name"));
    known.set(name, value);
    if is_card {
        keep_hardware_address(known, name, old.as_ref());
        create::complete_cards(known);
        if running {
            readdress(vmid, known, name, old.as_ref())?;
        }
    }
    if running {
        limit(node, vmid, known, name)?;
    }
    Ok(())
}

fn keep_hardware_address(known: &mut Config, name: &str, old: Option<&property::Parts>) {
    let Some(address) = old.and_then(|parts| get(parts, "hwaddr")) else { return };
    let mut parts = property::parse(known.get(name).unwrap_or_default(), "name");
    if get(&parts, "hwaddr").is_none() {
        property::set(&mut parts, "hwaddr", address);
        known.set(name, property::print_network(&parts));
    }
}

fn add_volume(vmid: u64, known: &mut Config, name: &str, value: &str) -> Result<()> {
    if container::is_running(vmid) {
        return Err(failure(format!(
            "unable to hotplug {name}: mount points are taken up at the next start only"
        )));
    }
    let mut parts = property::parse(value, "volume");
    let wanted = get(&parts, "volume").unwrap_or_default().to_owned();
    let (place, size) = wanted
        .split_once(':')
        .ok_or_else(|| failure(format!("unable to parse volume ID '{wanted}'")))?;
    if let Some(bytes) = storage::wanted_size(size) {
        storage::for_containers(place)?;
        let volume = storage::allocate(place, vmid, bytes)?;
        storage::format(&volume)?;
        property::set(&mut parts, "volume", &volume);
        property::set(&mut parts, "size", &storage::print_size(bytes));
    }
    known.set(name, property::print(&parts, "volume"));
    Ok(())
}

/// Gives a running container the limits of its new configuration. Memory is never taken away from what
/// uses it: the kernel refuses, and so does this.
fn limit(node: &Node, vmid: u64, known: &Config, name: &str) -> Result<()> {
    if !matches!(name, "memory" | "cores" | "cpulimit" | "cpuunits") {
        return Ok(());
    }
    for (key, value) in groups::limits(Version::of_this_machine(), node, known) {
        run("lxc-cgroup", &["-n", &vmid.to_string(), key, &value])?;
    }
    Ok(())
}

/// Gives a card of a running container its new addresses.
fn readdress(vmid: u64, known: &Config, name: &str, old: Option<&property::Parts>) -> Result<()> {
    let parts = property::parse(known.get(name).unwrap_or_default(), "name");
    let card = get(&parts, "name").unwrap_or("eth0");
    let Some(pid) = container::init_of(vmid).filter(|_| old.is_some()) else { return Ok(()) };
    let pid = pid.to_string();
    let inside = |words: &[&str]| {
        let mut arguments = vec!["-t", &pid, "-n", "--", "ip"];
        arguments.extend(words);
        run("nsenter", &arguments)
    };
    for (family, address, gateway) in [("-4", "ip", "gw"), ("-6", "ip6", "gw6")] {
        let before = old.and_then(|parts| get(parts, address));
        let after = get(&parts, address);
        if before == after {
            continue;
        }
        if let Some(value) = before.filter(|value| value.contains('/')) {
            drop(inside(&[family, "addr", "del", value, "dev", card]));
        }
        if let Some(value) = after.filter(|value| value.contains('/')) {
            inside(&[family, "addr", "replace", value, "dev", card])?;
        }
        if let Some(via) = get(&parts, gateway) {
            inside(&[family, "route", "replace", "default", "via", via, "dev", card])?;
        }
    }
    Ok(())
}

fn follow(node: &Node, vmid: u64) -> Result<()> {
    firewall::apply_container(node, vmid, &config::load(&node.name, vmid)?)
}

/// Takes what waited into the configuration.
pub fn apply_pending(known: &mut Config) {
    let pending = std::mem::take(&mut known.pending);
    for (name, value) in pending {
        if name == "delete" {
            for gone in property::list(&value) {
                known.values.remove(gone);
            }
        } else {
            known.values.insert(name, value);
        }
    }
}

/// A configuration as the API shows it: numbers as numbers.
pub fn as_value(known: &Config) -> Value {
    let mut map = Map::new();
    for (name, value) in &known.values {
        map.insert(name.clone(), typed(name, value));
    }
    if !known.raw.is_empty() {
        map.insert(
            "lxc".to_owned(),
            known.raw.iter().map(|(name, value)| json!([name, value])).collect(),
        );
    }
    map.insert("digest".to_owned(), json!(known.digest()));
    Value::Object(map)
}

fn typed(name: &str, value: &str) -> Value {
    const NUMBERS: &[&str] = &[
        "console",
        "cores",
        "cpuunits",
        "debug",
        "memory",
        "onboot",
        "protection",
        "swap",
        "template",
        "tty",
        "unprivileged",
        "snaptime",
    ];
    match value.parse::<i64>() {
        Ok(number) if NUMBERS.contains(&name) => json!(number),
        _ => json!(value),
    }
}

/// `GET …/config`: the pending values shown over the current ones, unless those are asked for.
pub fn get_config(node: &Node, parameters: &Parameters) -> Result<Value> {
    let mut known = config::load(&node.name, vmid(parameters)?)?;
    let digest = known.digest();
    if let Some(name) = parameters.get("snapshot") {
        if parameters.is_set("current") {
            return Err(bad_parameter(
                "snapshot",
                "cannot use 'snapshot' parameter with 'current'",
            ));
        }
        known.values = crate::snapshot::values(&known, name)?;
    } else if !parameters.is_set("current") {
        apply_pending(&mut known);
    }
    let mut shown = as_value(&known);
    if let Some(map) = shown.as_object_mut() {
        map.insert("digest".to_owned(), json!(digest));
    }
    Ok(shown)
}

/// `GET …/pending`.
pub fn get_pending(node: &Node, parameters: &Parameters) -> Result<Value> {
    let known = config::load(&node.name, vmid(parameters)?)?;
    let deleted = property::list(known.pending.get("delete").map_or("", String::as_str));
    let mut list: Vec<Value> = Vec::new();
    for (name, value) in &known.values {
        let mut item = json!({"key": name, "value": typed(name, value)});
        if let Some(map) = item.as_object_mut() {
            if let Some(next) = known.pending.get(name) {
                map.insert("pending".to_owned(), typed(name, next));
            }
            if deleted.contains(&name.as_str()) {
                map.insert("delete".to_owned(), json!(1));
            }
        }
        list.push(item);
    }
    for (name, value) in &known.pending {
        if name != "delete" && !known.values.contains_key(name) {
            list.push(json!({"key": name, "pending": typed(name, value)}));
        }
    }
    Ok(Value::Array(list))
}

/// `pct resize`: up, or not at all.
pub fn resize(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let disk = parameters.need("disk")?.to_owned();
    let wanted = parameters.need("size")?.to_owned();
    config::load(&node.name, vmid)?.check_lock()?;
    check_size(node, vmid, &disk, &wanted)?;
    let upid = task::run(node, "resize", &vmid.to_string(), || {
        change(node, vmid, |known| {
            let bytes = new_size(known, &disk, &wanted)?;
            let mut parts = property::parse(known.get(&disk).unwrap_or_default(), "volume");
            let file = container::volume_file(&parts)?;
            std::fs::File::options().write(true).open(&file)?.set_len(bytes)?;
            container::grow(vmid, &disk, &file)?;
            property::set(&mut parts, "size", &storage::print_size(bytes));
            known.set(&disk, property::print(&parts, "volume"));
            Ok(())
        })
    })?;
    Ok(Value::String(upid))
}

fn check_size(node: &Node, vmid: u64, disk: &str, wanted: &str) -> Result<()> {
    new_size(&config::load(&node.name, vmid)?, disk, wanted).map(|_| ())
}

fn new_size(known: &Config, disk: &str, wanted: &str) -> Result<u64> {
    let Some(text) = known.get(disk) else {
        // What Proxmox says of a volume that has no words at all.
        return Err(failure("format error\nvolume: property is missing and it is not optional"));
    };
    let parts = property::parse(text, "volume");
    let now = get(&parts, "size").and_then(storage::parse_size).ok_or_else(|| {
        let volume = get(&parts, "volume").unwrap_or_default();
        failure(format!("Could not determine current size of volume '{volume}'"))
    })?;
    let more = wanted.strip_prefix('+');
    let bytes = storage::parse_size(more.unwrap_or(wanted))
        .ok_or_else(|| failure("invalid size string"))?;
    let bytes = if more.is_some() { now.saturating_add(bytes) } else { bytes };
    match bytes.cmp(&now) {
        std::cmp::Ordering::Less => Err(failure("unable to shrink disk size")),
        std::cmp::Ordering::Equal => Err(failure("disk is already at specified size")),
        std::cmp::Ordering::Greater => Ok(bytes),
    }
}
