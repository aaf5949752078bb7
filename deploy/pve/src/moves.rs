//! Copies of containers and their ways to other places: clone, migrate, move of a volume, template.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use chrono::Local;
use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::config::{self, Config};
use crate::container;
use crate::create;
use crate::error::{Result, bad_parameter, failure};
use crate::guest::{self, Access};
use crate::lifecycle::{self, change, locked, vmid};
use crate::lock;
use crate::node::{Member, Node};
use crate::program::command;
use crate::property::{self, get};
use crate::remote;
use crate::snapshot;
use crate::storage;
use crate::task;

/// `pct clone`.
pub fn clone(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let new = parameters.number("newid").ok_or_else(|| bad_parameter("newid", "no number"))?;
    let source = config::load(&node.name, vmid)?;
    source.check_lock()?;
    create::refuse_known(new)?;
    if container::is_running(vmid) && parameters.get("snapname").is_none() {
        return Err(failure("Full clone of a running container is only possible from a snapshot"));
    }
    let kept = match parameters.get("snapname") {
        Some(name) => snapshot::values(&source, name)?,
        None => source.values.clone(),
    };
    let upid = task::run(node, "vzclone", &vmid.to_string(), || {
        occupy(node, new)?;
        let outcome = copy(node, new, kept, parameters);
        if outcome.is_err() {
            drop(container::unmount(new));
            for volume in storage::volumes_of(new) {
                storage::free(&volume)?;
            }
            config::remove(&node.name, new)?;
        }
        outcome.map_err(|why| failure(format!("clone failed: {why}")))
    })?;
    Ok(Value::String(upid))
}

fn occupy(node: &Node, new: u64) -> Result<()> {
    let _cluster = lock::of_cluster()?;
    create::refuse_known(new)?;
    let mut made = Config::default();
    made.set("lock", "create");
    config::store(&node.name, new, &made)
}

fn copy(node: &Node, new: u64, kept: config::Values, parameters: &Parameters) -> Result<()> {
    let mut made = Config { values: kept, ..Config::default() };
    for key in ["lock", "parent", "snaptime", "snapstate", "template"] {
        made.values.remove(key);
    }
    for (index, mut parts) in crate::lxc::networks(&made) {
        parts.retain(|(key, _)| key != "hwaddr");
        made.set(&format!("net{index}"), property::print_network(&parts));
    }
    create::complete_cards(&mut made);
    for key in ["hostname", "description"] {
        if let Some(value) = parameters.get(key) {
            made.set(key, value);
        }
    }
    made.set("lock", "create");
    for (key, mut parts) in container::volumes(&made) {
        let old = get(&parts, "volume").unwrap_or_default().to_owned();
        let from = match parameters.get("snapname") {
            Some(name) => storage::snapshot_path(&old, name)?,
            None => storage::path(&old)?,
        };
        let place = storage::for_containers(parameters.get("storage").unwrap_or("local-lvm"))?;
        let volume = storage::allocate(place.name, new, fs::metadata(&from)?.len())?;
        storage::copy(&from, &storage::path(&volume)?)?;
        property::set(&mut parts, "volume", &volume);
        made.set(&key, property::print(&parts, "volume"));
    }
    config::store(&node.name, new, &made)?;
    let nobody = Access { password: None, keys: None };
    container::with_root(new, &made, |root| guest::prepare(root, new, &made, &nobody))?;
    made.values.remove("lock");
    config::store(&node.name, new, &made)
}

/// `GET …/migrate`: where a container may go.
pub fn preconditions(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    config::load(&node.name, vmid)?;
    let others: Vec<String> = node
        .members()
        .into_iter()
        .filter(|member| member.online && member.name != node.name)
        .map(|member| member.name)
        .collect();
    Ok(
        json!({"running": u8::from(container::is_running(vmid)), "allowed-nodes": others, "not-allowed-nodes": {}}),
    )
}

/// `pct migrate`.
pub fn migrate(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let name = parameters.need("target")?;
    if name == node.name {
        return Err(bad_parameter("target", "target is local node."));
    }
    let target = node.member(name)?;
    let known = config::load(&node.name, vmid)?;
    known.check_lock()?;
    if parameters.is_set("online") {
        return Err(failure("lxc live migration is currently not implemented"));
    }
    let running = container::is_running(vmid);
    if running && !parameters.is_set("restart") {
        return Err(failure("can't migrate running container without --online or --restart"));
    }
    if !target.online {
        return Err(failure(format!(
            "ssh: connect to host {} port 22: No route to host\nmigration aborted",
            target.address
        )));
    }
    let patience = Duration::from_secs(parameters.number("timeout").unwrap_or(180));
    let upid = task::run(node, "vzmigrate", &vmid.to_string(), || {
        let began = std::time::Instant::now();
        let (name, address) = (&target.name, &target.address);
        note(&format!("starting migration of CT {vmid} to node '{name}' ({address})"));
        let outcome = refuse_snapshots(&known)
            .and_then(|()| carry_over(node, vmid, &target, running.then_some(patience)));
        let seconds = began.elapsed().as_secs();
        let duration =
            format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        // The reason stands in the log only.
        match outcome {
            Ok(()) => {
                note(&format!("migration finished successfully (duration {duration})"));
                Ok(())
            }
            Err(why) => {
                note(&format!("ERROR: migration aborted (duration {duration}): {why}"));
                Err(failure("migration aborted"))
            }
        }
    })?;
    Ok(Value::String(upid))
}

/// Snapshots on thin volumes cannot leave their node.
fn refuse_snapshots(known: &Config) -> Result<()> {
    if known.snapshots.is_empty() {
        return Ok(());
    }
    for (_, parts) in container::volumes(known) {
        let volume = get(&parts, "volume").unwrap_or_default();
        note(&format!("can't migrate local volume '{volume}': non-migratable snapshot exists"));
    }
    Err(failure("Can't migrate container - please check log"))
}

fn note(words: &str) {
    task::say(&format!("{} {words}", Local::now().format("%Y-%m-%d %H:%M:%S")));
}

/// The configuration changes its place last: until then the container is still here.
fn carry_over(node: &Node, vmid: u64, target: &Member, patience: Option<Duration>) -> Result<()> {
    let outcome = locked(node, vmid, "migrate", |known| {
        if let Some(patience) = patience {
            note("shutdown CT".to_owned().as_str());
            lifecycle::end_softly(vmid, patience, true)?;
        }
        container::unmount(vmid)?;
        for file in files_of(known)? {
            note(&format!("copying {file}"));
            send(target, &file)?;
        }
        let mut moved = config::load(&node.name, vmid)?;
        moved.values.remove("lock");
        fs::create_dir_all(Node::configs(&target.name))?;
        config::store(&node.name, vmid, &moved)?;
        fs::rename(config::path(&node.name, vmid), config::path(&target.name, vmid))?;
        for (_, parts) in container::volumes(known) {
            storage::free(get(&parts, "volume").unwrap_or_default())?;
        }
        Ok(())
    });
    let restart = patience.is_some();
    if outcome.is_err() && restart && config::path(&node.name, vmid).exists() {
        lifecycle::start_now(node, vmid)?;
    }
    outcome?;
    crate::firewall::apply(node)?;
    if restart {
        note("start container on target node");
        remote::run(target, &["pct", "start", &vmid.to_string()])?;
    }
    Ok(())
}

/// The files of all volumes.
fn files_of(known: &Config) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for (_, parts) in container::volumes(known) {
        let path = storage::path(get(&parts, "volume").unwrap_or_default())?;
        files.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(files)
}

/// Sends a volume's file with its holes.
fn send(target: &Member, file: &str) -> Result<()> {
    let mut from = command("tar")
        .args(["-C", storage::VOLUMES, "-Scf", "-", file])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let pipe = from.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let line = format!("mkdir -p {0} && tar -C {0} -xSf -", storage::VOLUMES);
    let arrived = remote::ssh(target).arg(line).stdin(pipe).status()?;
    let sent = from.wait()?;
    if sent.success() && arrived.success() {
        Ok(())
    } else {
        Err(failure(format!("command 'copy of {file}' failed")))
    }
}

/// `pct move-volume`: there is one storage for volumes, so it may move onto itself only in name.
pub fn move_volume(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let key = parameters.need("volume")?.to_owned();
    let known = config::load(&node.name, vmid)?;
    known.check_lock()?;
    if parameters.get("storage").is_some() == parameters.get("target-vmid").is_some() {
        return Err(failure("either set storage or target-vmid, but not both"));
    }
    let Some(text) = known.get(&key).map(str::to_owned) else {
        return Err(failure(format!("volume '{key}' for container '{vmid}' does not exist")));
    };
    if container::is_running(vmid) {
        return Err(failure("cannot move volumes of a running container"));
    }
    let Some(to) = parameters.get("storage") else {
        return Err(failure("Storage does not support moving of this disk to another container"));
    };
    let place = storage::for_containers(to)?;
    let keep = !parameters.is_set("delete");
    let upid = task::run(node, "move_volume", &vmid.to_string(), || {
        locked(node, vmid, "disk", |_| {
            let mut parts = property::parse(&text, "volume");
            let old = get(&parts, "volume").unwrap_or_default().to_owned();
            let from = storage::path(&old)?;
            let volume = storage::allocate(place.name, vmid, fs::metadata(&from)?.len())?;
            storage::copy(&from, &storage::path(&volume)?)?;
            property::set(&mut parts, "volume", &volume);
            let _own = lock::of_container(vmid)?;
            let mut moved = config::load(&node.name, vmid)?;
            moved.set(&key, property::print(&parts, "volume"));
            if keep {
                let index = (0..256)
                    .find(|index| moved.get(&format!("unused{index}")).is_none())
                    .unwrap_or(0);
                moved.set(&format!("unused{index}"), old);
            } else {
                storage::free(&old)?;
            }
            config::store(&node.name, vmid, &moved)
        })
    })?;
    Ok(Value::String(upid))
}

/// `pct template`.
pub fn make_template(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    change(node, vmid, |known| {
        if !known.snapshots.is_empty() {
            return Err(failure("unable to create template, because CT contains snapshots"));
        }
        if known.is_set("template") {
            return Err(failure("you can't convert a template to a template"));
        }
        if container::is_running(vmid) {
            return Err(failure("you can't convert a CT to template if the CT is running"));
        }
        known.set("template", "1");
        Ok(())
    })?;
    Ok(Value::Null)
}
