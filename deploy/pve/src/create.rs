//! `pct create` and `pct restore`: from a template or a backup to a container.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::arguments::Parameters;
use crate::backup;
use crate::config::{self, Config};
use crate::container;
use crate::error::{Failure, Result, bad_parameter, failure};
use crate::guest::{self, Access};
use crate::lifecycle;
use crate::lock;
use crate::node::{self, Node};
use crate::property::{self, get};
use crate::storage;
use crate::task;

/// Parameters that are about the call and not about the container.
const CALL_ONLY: &[&str] = &[
    "node",
    "vmid",
    "ostemplate",
    "password",
    "ssh-public-keys",
    "start",
    "storage",
    "force",
    "restore",
    "unique",
    "ignore-unpack-errors",
    "bwlimit",
    "pool",
    "lock",
    "template",
];

/// Makes a container.
pub fn create(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = lifecycle::vmid(parameters)?;
    let restore = parameters.is_set("restore");
    let words = format!("unable to {} CT {vmid} -", if restore { "restore" } else { "create" });
    check(node, parameters)?;
    let (kind, id) = (if restore { "vzrestore" } else { "vzcreate" }, vmid.to_string());
    // Asked before the task begins, as Proxmox does, and again when the number is taken.
    if !(restore && parameters.is_set("force") && config::path(&node.name, vmid).exists()) {
        refuse_known(vmid)?;
    }
    let upid = task::run(node, kind, &id, || {
        let old = occupy(node, vmid, parameters).map_err(|why| why.after(&words))?;
        make(node, vmid, parameters, &old).map_err(|why| {
            undo(node, vmid, old);
            why.after(&words)
        })?;
        if parameters.is_set("start") {
            lifecycle::start_now(node, vmid)?;
        }
        Ok(())
    })?;
    Ok(Value::String(upid))
}

/// Refuses a number that a guest of the cluster has.
pub fn refuse_known(vmid: u64) -> Result<()> {
    match node::guests().into_iter().find(|guest| guest.vmid == vmid) {
        Some(guest) => {
            let kind = if guest.is_container { "CT" } else { "VM" };
            Err(failure(format!("{kind} {vmid} already exists on node '{}'", guest.node)))
        }
        None => Ok(()),
    }
}

/// What a restore writes over: a configuration and its volumes.
#[derive(Default)]
struct Old {
    config: Option<Config>,
    volumes: Vec<String>,
}

/// Nothing is left of what could not be made. What was to be written over stays if it is still whole.
fn undo(node: &Node, vmid: u64, old: Old) {
    drop(container::unmount(vmid));
    let left = storage::volumes_of(vmid);
    for volume in left.iter().filter(|volume| !old.volumes.contains(volume)) {
        drop(storage::free(volume));
    }
    match old.config.filter(|_| old.volumes.iter().all(|volume| left.contains(volume))) {
        Some(config) => drop(config::store(&node.name, vmid, &config)),
        None => drop(config::remove(&node.name, vmid)),
    }
}

/// Takes the number in the whole cluster: from here on there is a locked configuration.
fn occupy(node: &Node, vmid: u64, parameters: &Parameters) -> Result<Old> {
    let _cluster = lock::of_cluster()?;
    let _own = lock::of_container(vmid)?;
    let mut old = Old::default();
    let over = parameters.is_set("force") && parameters.is_set("restore");
    if over && config::path(&node.name, vmid).exists() {
        let known = config::load(&node.name, vmid)?;
        known.check_lock()?;
        if container::is_running(vmid) {
            return Err(failure("can't overwrite running container"));
        }
        container::unmount(vmid)?;
        old = Old { config: Some(known), volumes: storage::volumes_of(vmid) };
    } else {
        refuse_known(vmid)?;
    }
    let mut locked = Config::default();
    locked.set("lock", "create");
    config::store(&node.name, vmid, &locked)?;
    Ok(old)
}

fn check(node: &Node, parameters: &Parameters) -> Result<()> {
    let archive = parameters.need("ostemplate")?;
    let default = parameters.get("storage").unwrap_or("local");
    let root = parameters.get("rootfs").map(|text| property::parse(text, "volume"));
    if parameters.is_set("restore") && parameters.get("storage").is_none() && root.is_none() {
        return archive_file(archive).map(|_| ());
    }
    let named = root.as_ref().and_then(|parts| get(parts, "volume")?.split_once(':'));
    storage::for_containers(named.map_or(default, |(storage, _)| storage))
        .map_err(|why| named_so(why, "rootfs", named.is_some()))?;
    for (name, value) in parameters.iter() {
        if name.strip_prefix("net").is_some_and(|index| index.parse::<u64>().is_ok()) {
            check_card(name, value)?;
        }
        if name.starts_with("mp") && parameters.get("rootfs").is_none() {
            return Err(failure("mount points configured, but 'rootfs' not set - aborting"));
        }
    }
    if node.member(&node.name).is_err() {
        return Err(failure(format!("no such cluster node '{}'", node.name)));
    }
    archive_file(archive).map(|_| ())
}

fn named_so(mut why: Failure, name: &str, renamed: bool) -> Failure {
    if renamed {
        why.fields.iter_mut().for_each(|(field, _)| name.clone_into(field));
    }
    why
}

fn check_card(name: &str, value: &str) -> Result<()> {
    let parts = property::parse(value, "name");
    match get(&parts, "bridge") {
        Some(bridge) if !Path::new("/sys/class/net").join(bridge).join("bridge").is_dir() => {
            Err(failure(format!("bridge '{bridge}' does not exist")))
        }
        Some(_) => Ok(()),
        None if get(&parts, "name").is_some() => Ok(()),
        None => Err(bad_parameter(name, "invalid format")),
    }
}

/// The file of a template or backup, named by its volume or by its path.
fn archive_file(archive: &str) -> Result<PathBuf> {
    let path =
        if archive.starts_with('/') { PathBuf::from(archive) } else { storage::path(archive)? };
    if path.is_file() {
        Ok(path)
    } else {
        Err(failure(format!("volume '{archive}' does not exist")))
    }
}

fn make(node: &Node, vmid: u64, parameters: &Parameters, old: &Old) -> Result<()> {
    let archive = archive_file(parameters.need("ostemplate")?)?;
    let restore = parameters.is_set("restore");
    let mut made = if restore { backup::configuration(&archive)? } else { Config::default() };
    if restore {
        forget_what_is_elsewhere(&mut made, parameters);
    }
    for (name, value) in parameters.iter().filter(|(name, _)| !CALL_ONLY.contains(name)) {
        made.set(name, value);
    }
    finish(&mut made, vmid);
    made.set("lock", "create");
    make_volumes(vmid, &mut made, parameters)?;
    for volume in &old.volumes {
        storage::free(volume)?;
    }
    fill(vmid, &made, &archive, restore)?;
    config::store(&node.name, vmid, &made)?;
    let keys = keys(parameters)?;
    let access = Access { password: parameters.get("password"), keys: keys.as_deref() };
    container::with_root(vmid, &made, |root| match restore {
        true => guest::configure(root, vmid, &made),
        false => guest::prepare(root, vmid, &made, &access),
    })?;
    let _own = lock::of_container(vmid)?;
    made.values.remove("lock");
    if parameters.is_set("template") {
        made.set("template", "1");
    }
    config::store(&node.name, vmid, &made)
}

/// The keys' text; `pct` has put it in the place of the file's name.
fn keys(parameters: &Parameters) -> Result<Option<String>> {
    let Some(keys) = parameters.get("ssh-public-keys") else { return Ok(None) };
    let fits = keys.lines().filter(|line| !line.trim().is_empty()).all(|line| {
        line.starts_with('#')
            || line.split_whitespace().any(|word| {
                word.starts_with("ssh-") || word.starts_with("ecdsa-") || word.starts_with("sk-")
            })
    });
    if fits {
        Ok(Some(keys.to_owned()))
    } else {
        Err(bad_parameter("ssh-public-keys", "SSH public key validation error"))
    }
}

/// A restored container gets volumes of its own, and with `unique` cards of its own.
fn forget_what_is_elsewhere(made: &mut Config, parameters: &Parameters) {
    made.snapshots.clear();
    made.pending.clear();
    for key in ["lock", "parent", "snaptime", "template"] {
        made.values.remove(key);
    }
    for (key, mut parts) in container::volumes(made) {
        let size = get(&parts, "size").unwrap_or("4G").to_owned();
        let old = get(&parts, "volume")
            .and_then(|volume| volume.split_once(':'))
            .map_or("local", |(place, _)| place);
        let place = parameters.get("storage").unwrap_or(old).to_owned();
        property::set(&mut parts, "volume", &format!("{place}:{size}"));
        made.set(&key, property::print(&parts, "volume"));
    }
    if parameters.is_set("unique") {
        for (index, mut parts) in crate::lxc::networks(made) {
            parts.retain(|(key, _)| key != "hwaddr");
            made.set(&format!("net{index}"), property::print_network(&parts));
        }
    }
}

/// What Proxmox writes even if nobody asks for it.
fn finish(made: &mut Config, vmid: u64) {
    for (key, value) in
        [("arch", "amd64"), ("ostype", "debian"), ("memory", "512"), ("swap", "512")]
    {
        made.values.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    made.values.entry("hostname".to_owned()).or_insert_with(|| format!("CT{vmid}"));
    complete_cards(made);
}

/// Gives each card the type and a hardware address, as Proxmox does.
pub fn complete_cards(made: &mut Config) {
    for (index, mut parts) in crate::lxc::networks(made) {
        if get(&parts, "hwaddr").is_none() {
            property::set(&mut parts, "hwaddr", &hardware_address());
        }
        property::set(&mut parts, "type", "veth");
        made.set(&format!("net{index}"), property::print_network(&parts));
    }
}

/// An address out of those that belong to Proxmox.
fn hardware_address() -> String {
    let mut bytes = [0u8; 3];
    if let Ok(mut file) = fs::File::open("/dev/urandom") {
        drop(std::io::Read::read_exact(&mut file, &mut bytes));
    }
    let [a, b, c] = bytes;
    format!("BC:24:11:{a:02X}:{b:02X}:{c:02X}")
}

fn make_volumes(vmid: u64, made: &mut Config, parameters: &Parameters) -> Result<()> {
    let default = parameters.get("storage").unwrap_or("local");
    if made.get("rootfs").is_none() {
        made.set("rootfs", format!("{default}:4"));
    }
    for (key, mut parts) in container::volumes(made) {
        let wanted = get(&parts, "volume").unwrap_or_default().to_owned();
        let Some((place, size)) = wanted.split_once(':') else {
            return Err(failure(format!("unable to parse volume ID '{wanted}'")));
        };
        let volume = match storage::wanted_size(size) {
            Some(bytes) => {
                storage::for_containers(place)?;
                let volume = storage::allocate(place, vmid, bytes)?;
                task::say(&format!(
                    "  Logical volume \"{}\" created.",
                    volume.split_once(':').map_or("", |(_, name)| name)
                ));
                storage::format(&volume)?;
                property::set(&mut parts, "size", &storage::print_size(bytes));
                volume
            }
            None => wanted.clone(),
        };
        property::set(&mut parts, "volume", &volume);
        made.set(&key, property::print(&parts, "volume"));
    }
    Ok(())
}

/// Puts the archive's files on the disk. A template is not unpacked again: the disk names it, and it
/// shows through from below.
fn fill(vmid: u64, made: &Config, archive: &Path, restore: bool) -> Result<()> {
    task::say(&format!("extracting archive '{}'", archive.display()));
    let name =
        archive.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !restore && storage::extracted(&name).is_dir() {
        return container::name_lower(vmid, made, &name);
    }
    container::with_root(vmid, made, |root| backup::unpack(archive, root))
}
