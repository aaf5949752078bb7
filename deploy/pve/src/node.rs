//! What this node is and where its things lie.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Result, failure};

/// Where the sandbox lays what a real node would have in hardware.
pub const SANDBOX: &str = "/run/pve-sandbox";

/// The node that this program runs on.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    /// The name of its cluster; a node alone has none.
    pub cluster: Option<String>,
    pub cores: u64,
    pub memory: u64,
    pub disk: u64,
}

/// A member of the cluster, this node included.
#[derive(Debug, Clone)]
pub struct Member {
    pub name: String,
    pub id: u64,
    pub address: String,
    pub online: bool,
}

const MIB: u64 = 1024 * 1024;

impl Node {
    /// Reads what the sandbox wrote when it started the node.
    pub fn load() -> Result<Node> {
        let path = Path::new(SANDBOX).join("node.json");
        let text = fs::read_to_string(&path)
            .map_err(|why| failure(format!("{}: {why}", path.display())))?;
        let facts: Value = serde_json::from_str(&text)?;
        let word = |key: &str| facts.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| facts.get(key).and_then(Value::as_u64).unwrap_or(1);
        Ok(Node {
            name: word("node").ok_or_else(|| failure("the node has no name"))?,
            cluster: word("cluster").filter(|name| !name.is_empty()),
            cores: number("cores"),
            memory: number("memory_mib") * MIB,
            disk: number("disk_mib") * MIB,
        })
    }

    /// Where the configurations of a node's containers lie.
    pub fn configs(name: &str) -> PathBuf {
        Path::new("/etc/pve/nodes").join(name).join("lxc")
    }

    /// All nodes of the cluster, by name.
    pub fn members(&self) -> Vec<Member> {
        let listed = fs::read_to_string("/etc/pve/.members")
            .ok()
            .and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let mut members: Vec<Member> = listed
            .as_ref()
            .and_then(|value| value.get("nodelist")?.as_object())
            .into_iter()
            .flatten()
            .map(|(name, facts)| Member {
                name: name.clone(),
                id: facts.get("id").and_then(Value::as_u64).unwrap_or_default(),
                address: facts.get("ip").and_then(Value::as_str).unwrap_or_default().to_owned(),
                online: facts.get("online").and_then(Value::as_u64) == Some(1),
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// The member of this name, in Proxmox' words when there is none.
    pub fn member(&self, name: &str) -> Result<Member> {
        self.members()
            .into_iter()
            .find(|member| member.name == name)
            .ok_or_else(|| failure(format!("no such cluster node '{name}'")))
    }
}

/// A guest of the cluster: a container or somebody's virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    pub vmid: u64,
    pub node: String,
    pub is_container: bool,
}

/// All guests of all nodes, by number.
pub fn guests() -> Vec<Guest> {
    let mut guests = Vec::new();
    for node in names_in(Path::new("/etc/pve/nodes")) {
        for (folder, is_container) in [("lxc", true), ("qemu-server", false)] {
            let path = Path::new("/etc/pve/nodes").join(&node).join(folder);
            guests.extend(names_in(&path).iter().filter_map(|file| {
                Some(Guest {
                    vmid: file.strip_suffix(".conf")?.parse().ok()?,
                    node: node.clone(),
                    is_container,
                })
            }));
        }
    }
    guests.sort_by_key(|guest| guest.vmid);
    guests
}

/// The names in a directory, sorted; none when it is not there.
pub fn names_in(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
