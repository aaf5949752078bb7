//! `pvesm`: the storages of a node and what lies on them.

use serde_json::{Map, Value, json};

use crate::arguments::{self, Parameters};
use crate::backup;
use crate::contents;
use crate::error::{Result, failure};
use crate::node::Node;
use crate::output::{complain, line};
use crate::pvesh::with_usage;
use crate::storage;

const USAGE: &str = "USAGE: pvesm <COMMAND> [ARGS] [OPTIONS]";

/// Runs it with these words.
pub fn run(node: &Node, words: &[String]) -> Result<i32> {
    let Some((name, rest)) = words.split_first() else {
        return Err(failure(format!("ERROR: no command specified\n{USAGE}")));
    };
    let (fixed, options): (&[&str], &[(&str, &str)]) = match name.as_str() {
        "status" => (
            &[],
            &[
                ("storage", "string"),
                ("content", "string"),
                ("enabled", "boolean"),
                ("target", "string"),
                ("format", "boolean"),
            ],
        ),
        "list" => (&["storage"], &[("content", "string"), ("vmid", "integer")]),
        "alloc" => (&["storage", "vmid", "filename", "size"], &[("format", "string")]),
        "free" => (&["volume"], &[("storage", "string"), ("delay", "integer")]),
        "path" => (&["volume"], &[]),
        _ => return Err(failure(format!("ERROR: unknown command 'pvesm {name}'\n{USAGE}"))),
    };
    let mut properties = Map::new();
    for place in fixed {
        properties.insert((*place).to_owned(), json!({"type": "string"}));
    }
    for (option, kind) in options {
        properties.insert((*option).to_owned(), json!({"type": kind, "optional": 1}));
    }
    let usage = format!(
        "pvesm {name}{} [OPTIONS]",
        fixed.iter().map(|place| format!(" <{place}>")).collect::<String>()
    );
    let mut parameters = arguments::read(rest, &properties, fixed, false)
        .map_err(|why| with_usage(why, &usage))?
        .parameters;
    arguments::check(&mut parameters, &properties)?;
    match name.as_str() {
        "status" => status(node, &parameters),
        "list" => list(&parameters)?,
        "alloc" => allocate(&parameters)?,
        "free" => free(&parameters)?,
        _ => line(&storage::path(parameters.need("volume")?)?.display().to_string()),
    }
    Ok(0)
}

fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn word<'a>(row: &'a Value, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Sizes are in KiB here.
fn status(node: &Node, parameters: &Parameters) {
    line(&format!(
        "{:<15} {:>10} {:>10} {:>15} {:>15} {:>15} {:>8}",
        "Name", "Type", "Status", "Total", "Used", "Available", "%"
    ));
    for row in contents::storages(node, parameters).as_array().into_iter().flatten() {
        let [total, used, avail] = ["total", "used", "avail"].map(|key| number(row, key) >> 10);
        let share = used * 10_000 / total.max(1);
        line(&format!(
            "{:<15} {:>10} {:>10} {total:>15} {used:>15} {avail:>15} {:>7}%",
            word(row, "storage"),
            word(row, "type"),
            "active",
            format!("{}.{:02}", share / 100, share % 100)
        ));
    }
}

fn list(parameters: &Parameters) -> Result<()> {
    let rows = contents::content(parameters)?;
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    let width = rows.iter().map(|row| word(row, "volid").len()).max().unwrap_or(0).max(5);
    line(&format!("{:<width$} {:<7} {:<9} {:>12} {}", "Volid", "Format", "Type", "Size", "VMID"));
    for row in rows {
        let vmid = row.get("vmid").map(Value::to_string).unwrap_or_default();
        let text = format!(
            "{:<width$} {:<7} {:<9} {:>12} {vmid}",
            word(row, "volid"),
            word(row, "format"),
            word(row, "content"),
            number(row, "size")
        );
        line(text.trim_end());
    }
    Ok(())
}

fn allocate(parameters: &Parameters) -> Result<()> {
    let size = parameters.need("size")?;
    let bytes = match size.parse::<u64>() {
        Ok(kib) => kib << 10,
        Err(_) => {
            storage::parse_size(size).ok_or_else(|| failure(format!("invalid size: {size}")))?
        }
    };
    let place = storage::for_containers(parameters.need("storage")?)?;
    let vmid = crate::lifecycle::vmid(parameters)?;
    let volume = storage::allocate_named(place.name, vmid, parameters.need("filename")?, bytes)?;
    line(&format!("successfully created '{volume}'"));
    Ok(())
}

/// What is not there is told of and no failure in a directory; a missing disk is one.
fn free(parameters: &Parameters) -> Result<()> {
    let volume = parameters.need("volume")?;
    let path = storage::path(volume)?;
    if backup::with_suffix(&path, ".protected").exists() {
        return Err(failure(format!("can't remove protected volume '{volume}'")));
    }
    match (path.exists(), volume.split_once(':')) {
        (true, _) if volume.contains(":backup/") => backup::remove(&path)?,
        (true, _) => storage::free(volume)?,
        (false, Some(("local-lvm", name))) => {
            let why = format!("Failed to find logical volume \"pve/{name}\"");
            return Err(failure(format!("lvremove 'pve/{name}' error:   {why}")));
        }
        (false, _) => complain(&format!("disk image '{}' does not exist", path.display())),
    }
    line(&format!("Removed volume '{volume}'"));
    Ok(())
}
