//! Snapshots: copies of a container's disks and of its configuration.

use chrono::Utc;
use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::config::{self, Config, Values};
use crate::container;
use crate::error::{Result, failure};
use crate::lifecycle::{self, change, locked, vmid};
use crate::node::Node;
use crate::property::get;
use crate::storage;
use crate::task;

/// Sections keep these of their own; everything else is the container's.
const OWN: &[&str] = &["description", "parent", "snaptime", "snapstate", "lock"];

fn unknown(name: &str) -> crate::error::Failure {
    failure(format!("snapshot '{name}' does not exist"))
}

/// The configuration that a snapshot keeps.
pub fn values(known: &Config, name: &str) -> Result<Values> {
    known.snapshots.get(name).cloned().ok_or_else(|| unknown(name))
}

fn volumes_in(values: &Values) -> Vec<String> {
    let part = Config { values: values.clone(), ..Config::default() };
    container::volumes(&part)
        .into_iter()
        .filter_map(|(_, parts)| get(&parts, "volume").map(str::to_owned))
        .collect()
}

/// Removes a snapshot's copies.
pub fn free(known: &Config, name: &str) -> Result<()> {
    for volume in known.snapshots.get(name).map(volumes_in).unwrap_or_default() {
        let path = storage::snapshot_path(&volume, name)?;
        match std::fs::remove_file(path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why.into()),
            _ => {}
        }
    }
    Ok(())
}

/// `pct snapshot`.
pub fn create(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let name = parameters.need("snapname")?.to_owned();
    for reserved in ["current", "vzdump"] {
        if name == reserved {
            return Err(failure(format!("unable to use snapshot name '{name}' (reserved name)")));
        }
    }
    let description = parameters.get("description").map(str::to_owned);
    let upid = task::run(node, "vzsnapshot", &vmid.to_string(), || {
        begin(node, vmid, &name, description)?;
        let known = config::load(&node.name, vmid)?;
        let outcome = copy(vmid, &known, &name);
        let _own = crate::lock::of_container(vmid)?;
        let mut known = config::load(&node.name, vmid)?;
        known.values.remove("lock");
        if outcome.is_err() {
            free(&known, &name)?;
            known.snapshots.remove(&name);
        } else {
            if let Some(section) = known.snapshots.get_mut(&name) {
                section.remove("snapstate");
            }
            known.set("parent", &name);
        }
        config::store(&node.name, vmid, &known)?;
        outcome
    })?;
    Ok(Value::String(upid))
}

/// Writes the section before anything is copied, so that a snapshot that was cut off is seen.
fn begin(node: &Node, vmid: u64, name: &str, description: Option<String>) -> Result<()> {
    change(node, vmid, |known| {
        if known.is_set("template") {
            return Err(failure("you can't take a snapshot if it's a template"));
        }
        if known.snapshots.contains_key(name) {
            return Err(failure(format!("snapshot name '{name}' already used")));
        }
        let mut section = known.values.clone();
        section.remove("lock");
        section.remove("description");
        if let Some(text) = description {
            section.insert("description".to_owned(), text);
        }
        section.insert("snaptime".to_owned(), Utc::now().timestamp().to_string());
        section.insert("snapstate".to_owned(), "prepare".to_owned());
        known.snapshots.insert(name.to_owned(), section);
        known.set("lock", "snapshot");
        Ok(())
    })
}

fn copy(vmid: u64, known: &Config, name: &str) -> Result<()> {
    container::while_still(vmid, known, || {
        for (_, parts) in container::volumes(known) {
            let volume = get(&parts, "volume").unwrap_or_default();
            storage::copy(&storage::path(volume)?, &storage::snapshot_path(volume, name)?)?;
            let short = volume.split_once(':').map_or(volume, |(_, short)| short);
            task::say(&format!("  Logical volume \"snap_{short}_{name}\" created."));
        }
        Ok(())
    })
}

/// `pct rollback`: stops the container if it runs.
pub fn rollback(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let name = parameters.need("snapname")?.to_owned();
    let start = parameters.is_set("start");
    let upid = task::run(node, "vzrollback", &vmid.to_string(), || {
        check_rollback(&config::load(&node.name, vmid)?, &name)?;
        locked(node, vmid, "rollback", |known| {
            container::kill(vmid)?;
            for volume in volumes_in(&values(known, &name)?) {
                storage::copy(&storage::snapshot_path(&volume, &name)?, &storage::path(&volume)?)?;
            }
            let _own = crate::lock::of_container(vmid)?;
            let mut back = config::load(&node.name, vmid)?;
            restore_values(&mut back, &name)?;
            config::store(&node.name, vmid, &back)
        })?;
        if start { lifecycle::start_now(node, vmid) } else { Ok(()) }
    })?;
    Ok(Value::String(upid))
}

fn check_rollback(known: &Config, name: &str) -> Result<()> {
    known.check_lock()?;
    if known.is_set("template") {
        return Err(failure("you can't rollback if vm is a template"));
    }
    match values(known, name)?.get("snapstate") {
        Some(state) => {
            Err(failure(format!("unable to rollback to incomplete snapshot (snapstate = {state})")))
        }
        None => Ok(()),
    }
}

fn restore_values(known: &mut Config, name: &str) -> Result<()> {
    let kept = values(known, name)?;
    let description = known.values.get("description").cloned();
    known.values = kept.into_iter().filter(|(key, _)| !OWN.contains(&key.as_str())).collect();
    known.values.extend(description.map(|text| ("description".to_owned(), text)));
    known.set("parent", name);
    known.pending.clear();
    Ok(())
}

/// `pct delsnapshot`.
pub fn delete(node: &Node, parameters: &Parameters) -> Result<Value> {
    let vmid = vmid(parameters)?;
    let name = parameters.need("snapname")?.to_owned();
    let by_force = parameters.is_set("force");
    let known = config::load(&node.name, vmid)?;
    values(&known, &name)?;
    let upid = task::run(node, "vzdelsnapshot", &vmid.to_string(), || {
        locked(node, vmid, "snapshot-delete", |known| {
            values(known, &name)?;
            if let Err(why) = free(known, &name)
                && !by_force
            {
                return Err(why);
            }
            let _own = crate::lock::of_container(vmid)?;
            let mut left = config::load(&node.name, vmid)?;
            unlink(&mut left, &name);
            config::store(&node.name, vmid, &left)
        })
    })?;
    Ok(Value::String(upid))
}

/// Takes a snapshot out of the line of ancestors.
fn unlink(known: &mut Config, name: &str) {
    let parent = known.snapshots.remove(name).and_then(|section| section.get("parent").cloned());
    let sections = known.snapshots.values_mut().chain([&mut known.values]);
    for section in sections {
        if section.get("parent").is_some_and(|known| known == name) {
            match &parent {
                Some(older) => section.insert("parent".to_owned(), older.clone()),
                None => section.remove("parent"),
            };
        }
    }
}

/// `GET …/snapshot`: all of them and the state of now.
pub fn list(node: &Node, parameters: &Parameters) -> Result<Value> {
    let known = config::load(&node.name, vmid(parameters)?)?;
    let mut rows: Vec<(i64, Value)> = known
        .snapshots
        .iter()
        .map(|(name, section)| {
            let time: i64 =
                section.get("snaptime").and_then(|text| text.parse().ok()).unwrap_or_default();
            let description = section.get("description").map(String::as_str).unwrap_or_default();
            let mut row = json!({"name": name, "description": description, "snaptime": time});
            if let Some(map) = row.as_object_mut() {
                for key in ["parent", "snapstate"] {
                    map.extend(section.get(key).map(|value| (key.to_owned(), json!(value))));
                }
            }
            (time, row)
        })
        .collect();
    rows.sort_by_key(|(time, _)| *time);
    let mut now = json!({"name": "current", "description": "You are here!", "digest": known.digest(),
        "running": u8::from(container::is_running(lifecycle::vmid(parameters)?))});
    if let (Some(map), Some(parent)) = (now.as_object_mut(), known.get("parent")) {
        map.insert("parent".to_owned(), json!(parent));
    }
    Ok(rows.into_iter().map(|(_, row)| row).chain([now]).collect())
}

/// `PUT …/snapshot/{snapname}/config`: another description.
pub fn describe(node: &Node, parameters: &Parameters) -> Result<Value> {
    let name = parameters.need("snapname")?;
    change(node, vmid(parameters)?, |known| {
        let section = known.snapshots.get_mut(name).ok_or_else(|| unknown(name))?;
        if let Some(text) = parameters.get("description") {
            section.insert("description".to_owned(), text.to_owned());
        }
        Ok(())
    })?;
    Ok(Value::Null)
}

/// `GET …/snapshot/{snapname}/config`.
pub fn config_of(node: &Node, parameters: &Parameters) -> Result<Value> {
    let known = config::load(&node.name, vmid(parameters)?)?;
    let values = values(&known, parameters.need("snapname")?)?;
    Ok(crate::settings::as_value(&Config { values, ..Config::default() }))
}
