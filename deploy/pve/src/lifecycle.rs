//! What a container goes through: start, stop, shutdown, reboot, suspend, resume, destroy, unlock.

use std::time::Duration;

use serde_json::Value;

use crate::arguments::Parameters;
use crate::config::{self, Config};
use crate::container;
use crate::error::{Result, failure};
use crate::firewall;
use crate::guest;
use crate::lock;
use crate::node::Node;
use crate::property::get;
use crate::snapshot;
use crate::storage;
use crate::task;

/// The number that a call is about.
pub fn vmid(parameters: &Parameters) -> Result<u64> {
    let text = parameters.need("vmid")?;
    text.parse().map_err(|why| failure(format!("invalid VMID '{text}': {why}")))
}

/// Changes a configuration under its lock, unless an operation holds it.
pub fn change<T>(node: &Node, vmid: u64, work: impl FnOnce(&mut Config) -> Result<T>) -> Result<T> {
    let _own = lock::of_container(vmid)?;
    let mut known = config::load(&node.name, vmid)?;
    known.check_lock()?;
    let outcome = work(&mut known)?;
    config::store(&node.name, vmid, &known)?;
    Ok(outcome)
}

/// Sets a lock for the time of some work and takes it away after it, whatever came of it. The file lock
/// is held only while the configuration is written.
pub fn locked<T>(
    node: &Node,
    vmid: u64,
    lock: &str,
    work: impl FnOnce(&Config) -> Result<T>,
) -> Result<T> {
    let held = change(node, vmid, |known| {
        known.set("lock", lock);
        Ok(known.clone())
    })?;
    let outcome = work(&held);
    let _own = lock::of_container(vmid)?;
    if let Ok(mut known) = config::load(&node.name, vmid) {
        known.values.remove("lock");
        config::store(&node.name, vmid, &known)?;
    }
    outcome
}

/// Starts a container as part of a task.
pub fn start_now(node: &Node, vmid: u64) -> Result<()> {
    let _own = lock::of_container(vmid)?;
    let mut known = config::load(&node.name, vmid)?;
    known.check_lock()?;
    if known.is_set("template") {
        return Err(failure("you can't start a CT if it's a template"));
    }
    if container::is_running(vmid) {
        return Ok(());
    }
    if !known.pending.is_empty() {
        crate::settings::apply_pending(&mut known);
        config::store(&node.name, vmid, &known)?;
    }
    container::with_root(vmid, &known, |root| guest::configure(root, vmid, &known))?;
    container::start(node, vmid, &known)
}

/// `pct start`.
pub fn start(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    if container::is_running(vmid) {
        return Err(failure(format!("CT {vmid} already running")));
    }
    as_task(node, "vzstart", vmid, || start_now(node, vmid))
}

fn as_task(node: &Node, kind: &str, vmid: u64, work: impl FnOnce() -> Result<()>) -> Result<Value> {
    Ok(Value::String(task::run(node, kind, &vmid.to_string(), work)?))
}

fn need_running(vmid: u64, kind: &str) -> Result<()> {
    if container::is_running(vmid) {
        Ok(())
    } else {
        Err(failure(format!("{kind} {vmid} not running")))
    }
}

/// `pct stop`.
pub fn stop(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    need_running(vmid, "CT")?;
    as_task(node, "vzstop", vmid, || {
        let _own = lock::of_container(vmid)?;
        config::load(&node.name, vmid)?.check_lock()?;
        container::kill(vmid)?;
        firewall::apply(node)
    })
}

/// `pct shutdown`: asks, waits, and stops it by force if that was asked for.
pub fn shutdown(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    need_running(vmid, "CT")?;
    let patience = Duration::from_secs(parameters.number("timeout").unwrap_or(60));
    let by_force = parameters.is_set("forceStop");
    as_task(node, "vzshutdown", vmid, || {
        let _own = lock::of_container(vmid)?;
        config::load(&node.name, vmid)?.check_lock()?;
        end_softly(vmid, patience, by_force)
    })
}

/// Asks a container to end; in Proxmox' words if it does not.
pub fn end_softly(vmid: u64, patience: Duration, by_force: bool) -> Result<()> {
    if container::ask_to_end(vmid, patience)? {
        Ok(())
    } else if by_force {
        container::kill(vmid)
    } else {
        Err(failure("container did not stop"))
    }
}

/// `pct reboot`.
pub fn reboot(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    need_running(vmid, "VM")?;
    let patience = Duration::from_secs(parameters.number("timeout").unwrap_or(60));
    as_task(node, "vzreboot", vmid, || {
        {
            let _own = lock::of_container(vmid)?;
            config::load(&node.name, vmid)?.check_lock()?;
            end_softly(vmid, patience, false)?;
        }
        start_now(node, vmid)
    })
}

/// `pct suspend`: the sandbox freezes the processes, where Proxmox tries a checkpoint.
pub fn suspend(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    need_running(vmid, "CT")?;
    as_task(node, "vzsuspend", vmid, || {
        config::load(&node.name, vmid)?.check_lock()?;
        container::freeze(vmid, true)
    })
}

/// `pct resume`.
pub fn resume(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    config::load(&node.name, vmid)?;
    if container::is_running(vmid) && !container::is_frozen(vmid) {
        return Err(failure(format!("CT {vmid} already running")));
    }
    as_task(node, "vzresume", vmid, || {
        need_running(vmid, "CT")?;
        container::freeze(vmid, false)
    })
}

/// `pct destroy`.
pub fn destroy(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let by_force = parameters.is_set("force");
    let unreferenced = parameters.is_set("destroy-unreferenced-disks");
    let check = |known: &Config| {
        if known.is_set("protection") {
            return Err(failure(format!("can't remove CT {vmid} - protection mode enabled")));
        }
        known.check_lock()?;
        if !by_force && container::is_running(vmid) {
            return Err(failure(format!("unable to destroy CT {vmid} - container is running")));
        }
        Ok(())
    };
    check(&config::load(&node.name, vmid)?)?;
    as_task(node, "vzdestroy", vmid, || {
        let _own = lock::of_container(vmid)?;
        let known = config::load(&node.name, vmid)?;
        check(&known)?;
        let mut gone = known.clone();
        gone.set("lock", "destroyed");
        config::store(&node.name, vmid, &gone)?;
        container::kill(vmid)?;
        remove_volumes(vmid, &known, unreferenced)?;
        forget(node, vmid)
    })
}

fn remove_volumes(vmid: u64, known: &Config, unreferenced: bool) -> Result<()> {
    for (_, parts) in container::volumes(known) {
        storage::free(get(&parts, "volume").unwrap_or_default())?;
    }
    for (key, value) in &known.values {
        if key.starts_with("unused") {
            storage::free(value)?;
        }
    }
    for name in known.snapshots.keys() {
        snapshot::free(known, name)?;
    }
    if unreferenced {
        for volume in storage::volumes_of(vmid) {
            storage::free(&volume)?;
        }
    }
    Ok(())
}

/// Removes what is written of a container outside its disks; the configuration goes last.
fn forget(node: &Node, vmid: u64) -> Result<()> {
    firewall::remove(vmid)?;
    firewall::apply(node)?;
    let home = container::folder(vmid);
    if home.is_dir() {
        std::fs::remove_dir_all(home)?;
    }
    config::remove(&node.name, vmid)
}

/// `pct unlock`.
pub fn unlock(node: &Node, vmid: u64) -> Result<()> {
    let _own = lock::of_container(vmid)?;
    let mut known = config::load(&node.name, vmid)?;
    known.values.remove("lock");
    config::store(&node.name, vmid, &known)
}
