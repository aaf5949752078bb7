//! Proxmox' API: which function answers which call.

use std::fs;

use chrono::Local;
use serde_json::{Value, json};

use crate::arguments::{self, Parameters};
use crate::backup;
use crate::contents;
use crate::create;
use crate::error::{Failure, Result, bad_parameter, failure};
use crate::firewall_calls;
use crate::guests;
use crate::lifecycle;
use crate::moves;
use crate::node::Node;
use crate::program::run;
use crate::resources;
use crate::schema::Schema;
use crate::settings;
use crate::snapshot;
use crate::storage;
use crate::tasks;
use crate::templates;
use crate::views;

/// Makes a call: checks its parameters against the schema, sends it to the node that it is about, and
/// gives its answer.
pub fn call(node: &Node, schema: &Schema, key: &str, mut parameters: Parameters) -> Result<Value> {
    let properties = schema.properties(key).ok_or_else(|| unknown(key))?;
    arguments::check(&mut parameters, properties)?;
    if let Some(name) = parameters.get("node") {
        if name == "localhost" {
            parameters.set("node", node.name.clone());
        } else if name != node.name {
            return Err(elsewhere(node, name));
        }
    }
    if key.starts_with("GET ") {
        get(node, schema, key, &parameters)
    } else {
        change(node, key, &parameters)
    }
}

fn unknown(key: &str) -> Failure {
    Failure { status: 501, ..failure(format!("Method '{key}' not implemented")) }
}

/// `pvesh` passes such a call on before it comes here.
fn elsewhere(node: &Node, name: &str) -> Failure {
    match node.member(name) {
        Ok(_) => failure(format!("unable to proxy request to '{name}'")),
        Err(_) => failure(format!(
            "hostname lookup '{name}' failed - failed to get address info for: {name}: Name or service not known"
        )),
    }
}

fn get(node: &Node, schema: &Schema, key: &str, parameters: &Parameters) -> Result<Value> {
    let path = key.split_once(' ').map_or("", |(_, path)| path);
    if let Some(rest) = path.strip_prefix("/nodes/{node}/lxc") {
        return get_container(node, schema, rest, parameters);
    }
    match path {
        "/version" | "/nodes/{node}/version" => Ok(views::version()),
        "/nodes" => Ok(resources::nodes(node)),
        "/nodes/{node}" | "/cluster" => Ok(index(schema, path)),
        "/nodes/{node}/status" => Ok(views::node_status(node)),
        "/nodes/{node}/time" => Ok(time()),
        "/nodes/{node}/qemu" => Ok(guests::machines(node)),
        "/nodes/{node}/network" => views::network(parameters),
        "/nodes/{node}/apt/versions" => Ok(views::versions()),
        "/nodes/{node}/aplinfo" => Ok(templates::offered()),
        "/nodes/{node}/tasks" => Ok(tasks::tasks(parameters)),
        "/nodes/{node}/tasks/{upid}/status" => tasks::task_status(parameters),
        "/nodes/{node}/tasks/{upid}/log" => tasks::task_log(parameters),
        "/nodes/{node}/storage" => Ok(contents::storages(node, parameters)),
        "/nodes/{node}/storage/{storage}/status" => contents::storage_status(node, parameters),
        "/nodes/{node}/storage/{storage}/content" => contents::content(parameters),
        "/nodes/{node}/storage/{storage}/content/{volume}" => volume(parameters),
        "/cluster/status" => Ok(views::cluster_status(node)),
        "/cluster/resources" => resources::list(node, parameters),
        "/cluster/nextid" => views::next_id(parameters),
        "/cluster/tasks" => Ok(tasks::tasks(&all_tasks())),
        "/cluster/firewall/options" => Ok(firewall_calls::options(None)),
        "/storage" => Ok(storage::STORAGES.iter().map(|known| json!({"storage": known.name, "type": known.kind, "content": known.content, "digest": ""})).collect()),
        _ => Err(unknown(key)),
    }
}

fn all_tasks() -> Parameters {
    let mut parameters = Parameters::default();
    parameters.set("source", "all");
    parameters
}

fn index(schema: &Schema, path: &str) -> Value {
    schema.below(path).into_iter().map(|name| json!({"name": name, "subdir": name})).collect()
}

fn time() -> Value {
    let now = Local::now();
    json!({"time": now.timestamp(), "localtime": now.naive_local().and_utc().timestamp(), "timezone": "UTC"})
}

fn get_container(
    node: &Node,
    schema: &Schema,
    rest: &str,
    parameters: &Parameters,
) -> Result<Value> {
    match rest {
        "" => Ok(guests::containers(node)),
        "/{vmid}" | "/{vmid}/status" | "/{vmid}/firewall" | "/{vmid}/snapshot/{snapname}" => {
            Ok(index(schema, &format!("/nodes/{{node}}/lxc{rest}")))
        }
        "/{vmid}/config" => settings::get_config(node, parameters),
        "/{vmid}/pending" => settings::get_pending(node, parameters),
        "/{vmid}/status/current" => guests::current(node, parameters),
        "/{vmid}/interfaces" => guests::interfaces(node, parameters),
        "/{vmid}/snapshot" => snapshot::list(node, parameters),
        "/{vmid}/snapshot/{snapname}/config" => snapshot::config_of(node, parameters),
        "/{vmid}/feature" => Ok(json!({"hasFeature": 1})),
        "/{vmid}/migrate" => moves::preconditions(node, parameters),
        _ => firewall_calls::get(rest, parameters),
    }
}

fn change(node: &Node, key: &str, parameters: &Parameters) -> Result<Value> {
    match key {
        "POST /nodes/{node}/vzdump" => backup::vzdump(node, parameters),
        "POST /nodes/{node}/aplinfo" => templates::download(node, parameters),
        "POST /nodes/{node}/storage/{storage}/content" => allocate(parameters),
        "DELETE /nodes/{node}/storage/{storage}/content/{volume}" => free(parameters),
        "DELETE /nodes/{node}/tasks/{upid}" => stop_task(parameters),
        "PUT /cluster/firewall/options" => firewall_calls::set_options(node, None, parameters),
        _ => match key.split_once("/nodes/{node}/lxc") {
            Some((method, rest)) => change_container(node, (method.trim(), rest), parameters),
            None => Err(unknown(key)),
        },
    }
}

fn change_container(node: &Node, call: (&str, &str), parameters: &Parameters) -> Result<Value> {
    match call {
        ("POST", "") => create::create(node, parameters),
        ("DELETE", "/{vmid}") => lifecycle::destroy(node, parameters),
        ("PUT", "/{vmid}/config") => settings::set(node, parameters),
        ("PUT", "/{vmid}/resize") => settings::resize(node, parameters),
        ("POST", "/{vmid}/status/start") => lifecycle::start(node, parameters),
        ("POST", "/{vmid}/status/stop") => lifecycle::stop(node, parameters),
        ("POST", "/{vmid}/status/shutdown") => lifecycle::shutdown(node, parameters),
        ("POST", "/{vmid}/status/reboot") => lifecycle::reboot(node, parameters),
        ("POST", "/{vmid}/status/suspend") => lifecycle::suspend(node, parameters),
        ("POST", "/{vmid}/status/resume") => lifecycle::resume(node, parameters),
        ("POST", "/{vmid}/snapshot") => snapshot::create(node, parameters),
        ("DELETE", "/{vmid}/snapshot/{snapname}") => snapshot::delete(node, parameters),
        ("PUT", "/{vmid}/snapshot/{snapname}/config") => snapshot::describe(node, parameters),
        ("POST", "/{vmid}/snapshot/{snapname}/rollback") => snapshot::rollback(node, parameters),
        ("POST", "/{vmid}/clone") => moves::clone(node, parameters),
        ("POST", "/{vmid}/migrate") => moves::migrate(node, parameters),
        ("POST", "/{vmid}/move_volume") => moves::move_volume(node, parameters),
        ("POST", "/{vmid}/template") => moves::make_template(node, parameters),
        (method, rest) => firewall_calls::change(node, (method, rest), parameters),
    }
}

/// A volume by its name, with or without its storage before it.
fn volume_id(parameters: &Parameters) -> Result<String> {
    let volume = parameters.need("volume")?;
    if volume.contains(':') {
        return Ok(volume.to_owned());
    }
    match parameters.get("storage") {
        Some(storage) => Ok(format!("{storage}:{volume}")),
        None => Err(bad_parameter("storage", "no storage ID specified")),
    }
}

fn volume(parameters: &Parameters) -> Result<Value> {
    let volume = volume_id(parameters)?;
    let path = storage::path(&volume)?;
    let facts = fs::metadata(&path)
        .map_err(|why| failure(format!("volume '{volume}' does not exist: {why}")))?;
    Ok(
        json!({"path": path.display().to_string(), "size": facts.len(), "used": facts.len(), "format": "raw"}),
    )
}

fn allocate(parameters: &Parameters) -> Result<Value> {
    let vmid = lifecycle::vmid(parameters)?;
    let size = parameters.need("size")?;
    // A bare number is in KiB here.
    let bytes = match size.parse::<u64>() {
        Ok(kib) => kib << 10,
        Err(_) => storage::parse_size(size).ok_or_else(|| bad_parameter("size", "invalid size"))?,
    };
    let place = storage::for_containers(parameters.need("storage")?)?;
    Ok(Value::String(storage::allocate_named(
        place.name,
        vmid,
        parameters.need("filename")?,
        bytes,
    )?))
}

fn free(parameters: &Parameters) -> Result<Value> {
    let volume = volume_id(parameters)?;
    let path = storage::path(&volume)?;
    if backup::with_suffix(&path, ".protected").exists() {
        return Err(failure(format!("can't remove protected volume '{volume}'")));
    }
    if !path.exists() {
        return Err(failure(format!("volume '{volume}' does not exist")));
    }
    if volume.contains(":backup/") {
        backup::remove(&path)?
    } else {
        storage::free(&volume)?
    }
    Ok(Value::Null)
}

fn stop_task(parameters: &Parameters) -> Result<Value> {
    let upid = parameters.need("upid")?;
    let task =
        crate::task::Task::parse(upid).ok_or_else(|| failure("unable to parse worker upid"))?;
    if task.ended().is_none() {
        run("kill", &["-TERM", "--", &format!("-{}", task.pid)])?;
    }
    Ok(Value::Null)
}
