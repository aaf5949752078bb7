//! `GET /cluster/resources`: everything of all nodes in one list.

use serde_json::{Value, json};

use crate::arguments::Parameters;
use crate::error::Result;
use crate::guests;
use crate::node::{self, Member, Node};
use crate::remote;
use crate::storage;
use crate::views;

/// The list, of one type if that was asked for. A node that is down has its guests in it with what the
/// cluster knows: that they are there.
pub fn list(node: &Node, parameters: &Parameters) -> Result<Value> {
    let wanted = parameters.get("type");
    let mut rows = Vec::new();
    for member in node.members() {
        let rest = if member.name == node.name { own(node, &member) } else { theirs(&member) };
        rows.extend(rest.into_iter().filter(|row| is_wanted(row, wanted)));
    }
    Ok(Value::Array(rows))
}

fn is_wanted(row: &Value, wanted: Option<&str>) -> bool {
    let kind = row.get("type").and_then(Value::as_str).unwrap_or_default();
    match wanted {
        None => true,
        Some("vm") => matches!(kind, "lxc" | "qemu"),
        Some(other) => kind == other,
    }
}

fn rows(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    }
}

fn own(node: &Node, member: &Member) -> Vec<Value> {
    let mut all = vec![views::node_row(node, member)];
    all.extend(rows(guests::containers(node)).into_iter().map(|row| guest(row, "lxc", &node.name)));
    all.extend(rows(guests::machines(node)).into_iter().map(|row| guest(row, "qemu", &node.name)));
    for known in storage::STORAGES {
        all.push(json!({"id": format!("storage/{}/{}", node.name, known.name), "type": "storage", "storage": known.name,
            "node": node.name, "status": "available", "content": known.content, "plugintype": known.kind, "shared": 0,
            "disk": known.used(), "maxdisk": known.total(node)}));
    }
    all
}

fn guest(mut row: Value, kind: &str, node: &str) -> Value {
    if let Some(map) = row.as_object_mut() {
        for key in ["cpus", "maxswap", "swap", "pid"] {
            if let Some(value) = map.remove(key).filter(|_| key == "cpus") {
                map.insert("maxcpu".to_owned(), value);
            }
        }
        let vmid = map.get("vmid").and_then(Value::as_u64).unwrap_or_default();
        map.insert("id".to_owned(), json!(format!("{kind}/{vmid}")));
        map.insert("type".to_owned(), json!(kind));
        map.insert("node".to_owned(), json!(node));
        map.entry("template").or_insert(json!(0));
    }
    row
}

fn theirs(member: &Member) -> Vec<Value> {
    let offline = |known: node::Guest| {
        let kind = if known.is_container { "lxc" } else { "qemu" };
        json!({"id": format!("{kind}/{}", known.vmid), "type": kind, "vmid": known.vmid, "node": known.node, "status": "unknown"})
    };
    if member.online
        && let Ok(answer) = remote::ask(member, "/cluster/resources/local")
    {
        return rows(answer);
    }
    let mut all = vec![
        json!({"id": format!("node/{}", member.name), "type": "node", "node": member.name, "status": "offline", "level": ""}),
    ];
    all.extend(node::guests().into_iter().filter(|known| known.node == member.name).map(offline));
    all
}

/// The rows of this node alone, which the others ask for.
pub fn local(node: &Node) -> Value {
    let members = node.members();
    members
        .iter()
        .filter(|member| member.name == node.name)
        .flat_map(|member| own(node, member))
        .collect()
}

/// `GET /nodes`: each with what it says of itself.
pub fn nodes(node: &Node) -> Value {
    let members = node.members();
    let row = |member: &Member| {
        let rest = if member.name == node.name {
            vec![views::node_row(node, member)]
        } else {
            theirs(member)
        };
        rest.into_iter().find(|row| is_wanted(row, Some("node")))
    };
    members.iter().filter_map(row).collect()
}
