//! `pct`: its subcommands, most of them calls of the API.

use std::fs;

use serde_json::{Map, Value, json};

use crate::api;
use crate::arguments::{self, Line, Parameters};
use crate::config::{self, encode_text};
use crate::container;
use crate::error::{Failure, Result, bad_parameter, failure, words_of};
use crate::guests;
use crate::inside;
use crate::lifecycle;
use crate::node::{self, Node};
use crate::output::line;
use crate::pvesh::with_usage;
use crate::schema::{Properties, Schema};

/// Subcommands that are calls: name, call, words that stand alone.
pub const CALLS: &[(&str, &str, &[&str])] = &[
    ("create", "POST /nodes/{node}/lxc", &["vmid", "ostemplate"]),
    ("restore", "POST /nodes/{node}/lxc", &["vmid", "ostemplate"]),
    ("destroy", "DELETE /nodes/{node}/lxc/{vmid}", &["vmid"]),
    ("set", "PUT /nodes/{node}/lxc/{vmid}/config", &["vmid"]),
    ("config", "GET /nodes/{node}/lxc/{vmid}/config", &["vmid"]),
    ("pending", "GET /nodes/{node}/lxc/{vmid}/pending", &["vmid"]),
    ("resize", "PUT /nodes/{node}/lxc/{vmid}/resize", &["vmid", "disk", "size"]),
    ("start", "POST /nodes/{node}/lxc/{vmid}/status/start", &["vmid"]),
    ("stop", "POST /nodes/{node}/lxc/{vmid}/status/stop", &["vmid"]),
    ("shutdown", "POST /nodes/{node}/lxc/{vmid}/status/shutdown", &["vmid"]),
    ("reboot", "POST /nodes/{node}/lxc/{vmid}/status/reboot", &["vmid"]),
    ("suspend", "POST /nodes/{node}/lxc/{vmid}/status/suspend", &["vmid"]),
    ("resume", "POST /nodes/{node}/lxc/{vmid}/status/resume", &["vmid"]),
    ("snapshot", "POST /nodes/{node}/lxc/{vmid}/snapshot", &["vmid", "snapname"]),
    (
        "rollback",
        "POST /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback",
        &["vmid", "snapname"],
    ),
    ("delsnapshot", "DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}", &["vmid", "snapname"]),
    ("listsnapshot", "GET /nodes/{node}/lxc/{vmid}/snapshot", &["vmid"]),
    ("clone", "POST /nodes/{node}/lxc/{vmid}/clone", &["vmid", "newid"]),
    ("migrate", "POST /nodes/{node}/lxc/{vmid}/migrate", &["vmid", "target"]),
    (
        "move-volume",
        "POST /nodes/{node}/lxc/{vmid}/move_volume",
        &["vmid", "volume", "storage", "target-vmid", "target-volume"],
    ),
    (
        "move_volume",
        "POST /nodes/{node}/lxc/{vmid}/move_volume",
        &["vmid", "volume", "storage", "target-vmid", "target-volume"],
    ),
    ("template", "POST /nodes/{node}/lxc/{vmid}/template", &["vmid"]),
];

/// Subcommands of the program's own: name, words that stand alone, options, whether more words follow.
type Own = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)], bool);
pub const OWN: &[Own] = &[
    ("list", &[], &[], false),
    ("status", &["vmid"], &[("verbose", "boolean")], false),
    ("unlock", &["vmid"], &[], false),
    ("exec", &["vmid"], &[("keep-env", "boolean")], true),
    ("enter", &["vmid"], &[("keep-env", "boolean")], false),
    ("console", &["vmid"], &[("escape", "string")], false),
    (
        "push",
        &["vmid", "file", "destination"],
        &[("user", "string"), ("group", "string"), ("perms", "string")],
        false,
    ),
    (
        "pull",
        &["vmid", "path", "destination"],
        &[("user", "string"), ("group", "string"), ("perms", "string")],
        false,
    ),
    ("df", &["vmid"], &[], false),
    ("fsck", &["vmid"], &[("device", "string"), ("force", "boolean")], false),
    ("fstrim", &["vmid"], &[("ignore-mountpoints", "boolean")], false),
    ("mount", &["vmid"], &[], false),
    ("unmount", &["vmid"], &[], false),
    ("cpusets", &[], &[], false),
    ("rescan", &[], &[("vmid", "integer"), ("dryrun", "boolean")], false),
];

/// Runs it with these words.
pub fn run(node: &Node, schema: &Schema, words: &[String]) -> Result<i32> {
    let Some((name, rest)) = words.split_first() else {
        return Err(failure(format!("ERROR: no command specified\n{}", usage())));
    };
    if name == "help" {
        line(&usage());
        return Ok(0);
    }
    if let Some((_, key, fixed)) = CALLS.iter().find(|(known, ..)| known == name) {
        return call(node, schema, (name, key, fixed), rest);
    }
    let Some(own) = OWN.iter().find(|(known, ..)| known == name) else {
        return Err(failure(format!("ERROR: unknown command 'pct {name}'\n{}", usage())));
    };
    let line = read_own(own, rest)?;
    own_command(node, name, &line)
}

fn usage() -> String {
    let mut text = "USAGE: pct <COMMAND> [ARGS] [OPTIONS]\n".to_owned();
    for (name, _, fixed) in CALLS {
        text.push_str(&format!("       pct {name}{} [OPTIONS]\n", places(fixed)));
    }
    for (name, fixed, ..) in OWN {
        text.push_str(&format!("       pct {name}{}\n", places(fixed)));
    }
    text.trim_end().to_owned()
}

fn places(fixed: &[&str]) -> String {
    fixed.iter().map(|name| format!(" <{name}>")).collect()
}

fn call(
    node: &Node,
    schema: &Schema,
    (name, key, fixed): (&str, &str, &[&str]),
    words: &[String],
) -> Result<i32> {
    let mut properties = schema.properties(key).cloned().unwrap_or_default();
    properties.remove("node");
    if name == "restore" {
        properties.remove("restore");
    }
    let line = format!("pct {name}{} [OPTIONS]", places(fixed));
    let mut parameters = arguments::read(words, &properties, fixed, false)
        .map_err(|why| with_usage(why, &line))?
        .parameters;
    parameters.set("node", node.name.clone());
    if name == "restore" {
        parameters.set("restore", "1");
    }
    read_keys(&mut parameters)?;
    let answer = api::call(node, schema, key, parameters.clone())
        .map_err(|why| if why.status == 400 { appended(why, &line) } else { why })?;
    match name {
        "config" => print_config(&answer),
        "pending" => print_pending(&answer),
        "listsnapshot" => print_snapshots(&answer),
        _ => {}
    }
    Ok(0)
}

fn appended(why: Failure, usage: &str) -> Failure {
    failure(format!("{why}\n{usage}"))
}

/// On the command line the keys are a file's name.
fn read_keys(parameters: &mut Parameters) -> Result<()> {
    if let Some(file) = parameters.get("ssh-public-keys") {
        let text = fs::read_to_string(file).map_err(|why| {
            bad_parameter("ssh-public-keys", format!("can't open '{file}' - {}", words_of(&why)))
        })?;
        parameters.set("ssh-public-keys", text);
    }
    Ok(())
}

fn print_config(answer: &Value) {
    for (key, value) in answer.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("digest", _) => {}
            ("lxc", Value::Array(pairs)) => {
                for pair in pairs {
                    let word = |index| pair.get(index).and_then(Value::as_str).unwrap_or_default();
                    line(&format!("{}: {}", word(0), word(1)));
                }
            }
            ("description", Value::String(text)) => {
                line(&format!("description: {}", encode_text(text)))
            }
            _ => line(&format!("{key}: {}", plain(value))),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn print_pending(answer: &Value) {
    for item in answer.as_array().into_iter().flatten() {
        let word = |key: &str| item.get(key).map(plain);
        let key = word("key").unwrap_or_default();
        if let Some(next) = word("pending") {
            if let Some(now) = word("value") {
                line(&format!("cur {key}: {now}"));
            }
            line(&format!("new {key}: {next}"));
        } else if let Some(now) = word("value") {
            let mark = if item.get("delete").is_some() { "del" } else { "cur" };
            line(&format!("{mark} {key}: {now}"));
        }
    }
}

fn print_snapshots(answer: &Value) {
    for (depth, item) in answer.as_array().into_iter().flatten().enumerate() {
        let word = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let time = item
            .get("snaptime")
            .and_then(Value::as_i64)
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0))
            .map(|time| time.format("%Y-%m-%d %H:%M:%S").to_string())
            .unwrap_or_default();
        let text = format!(
            "{}`-> {:<30} {time:<20} {}",
            "  ".repeat(depth),
            word("name"),
            word("description").trim_end()
        );
        line(text.trim_end());
    }
}

fn read_own(own: &Own, words: &[String]) -> Result<Line> {
    let (name, fixed, options, extra) = own;
    let mut properties: Properties = Map::new();
    for place in *fixed {
        properties.insert((*place).to_owned(), json!({"type": "string"}));
    }
    for (option, kind) in *options {
        properties.insert((*option).to_owned(), json!({"type": kind, "optional": 1}));
    }
    if fixed.contains(&"vmid") {
        let vmid = json!({"type": "integer", "format": "pve-vmid", "minimum": 100, "maximum": 999_999_999});
        properties.insert("vmid".to_owned(), vmid);
    }
    let more = if *extra { " [<extra-args>]" } else { "" };
    let line = format!("pct {name}{}{more} [OPTIONS]", places(fixed));
    let mut read =
        arguments::read(words, &properties, fixed, *extra).map_err(|why| with_usage(why, &line))?;
    arguments::check(&mut read.parameters, &properties).map_err(|why| appended(why, &line))?;
    Ok(read)
}

fn own_command(node: &Node, name: &str, given: &Line) -> Result<i32> {
    let parameters = &given.parameters;
    match name {
        "list" => return list(node),
        "cpusets" => return inside::cpusets(node),
        "rescan" => return inside::rescan(node, parameters),
        _ => {}
    }
    let vmid = lifecycle::vmid(parameters)?;
    let known = config::load(&node.name, vmid)?;
    match name {
        "status" => status(node, vmid, parameters),
        "unlock" => lifecycle::unlock(node, vmid).map(|()| 0),
        "exec" => inside::exec(vmid, &given.rest),
        "enter" => inside::enter(vmid),
        "console" => inside::console(vmid),
        "push" => inside::push(vmid, &known, parameters),
        "pull" => inside::pull(vmid, &known, parameters),
        "df" => inside::df(vmid, &known),
        "fsck" => inside::fsck(vmid, &known, parameters),
        "fstrim" => inside::fstrim(vmid),
        "mount" => inside::mount(node, vmid),
        _ => inside::unmount(node, vmid),
    }
}

fn list(node: &Node) -> Result<i32> {
    let mut rows = Vec::new();
    for guest in node::guests() {
        if guest.is_container
            && guest.node == node.name
            && let Ok(known) = config::load(&node.name, guest.vmid)
        {
            let status = if container::is_running(guest.vmid) { "running" } else { "stopped" };
            let name = known.get("hostname").map_or(format!("CT{}", guest.vmid), str::to_owned);
            rows.push(format!(
                "{:<10} {status:<10} {:<12} {name:<20}",
                guest.vmid,
                known.get("lock").unwrap_or_default()
            ));
        }
    }
    if !rows.is_empty() {
        line(&format!("{:<10} {:<10} {:<12} {:<20}", "VMID", "Status", "Lock", "Name"));
    }
    rows.iter().for_each(|row| line(row));
    Ok(0)
}

fn status(node: &Node, vmid: u64, parameters: &Parameters) -> Result<i32> {
    let known = config::load(&node.name, vmid)?;
    if !parameters.is_set("verbose") {
        line(&format!(
            "status: {}",
            if container::is_running(vmid) { "running" } else { "stopped" }
        ));
        return Ok(0);
    }
    let row = guests::container_row(node, vmid, &known);
    for (key, value) in row.as_object().into_iter().flatten() {
        line(&format!("{key}: {}", plain(value)));
    }
    Ok(0)
}
