//! The storages of a node and what lies on them, as the API shows it.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::backup;
use crate::error::{Result, bad_parameter};
use crate::node::{self, Node};
use crate::property;
use crate::storage::{self, Storage};

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

/// `GET /nodes/{node}/storage/{storage}/status`.
pub fn storage_status(node: &Node, parameters: &Parameters) -> Result<Value> {
    match storage::find(parameters.need("storage")?) {
        Ok(known) => Ok(storage_row(node, &known)),
        Err(_) => Err(bad_parameter("storage", "No such storage.")),
    }
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
pub fn content(parameters: &Parameters) -> Result<Value> {
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
