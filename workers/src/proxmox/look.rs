//! Looking: what a node has.

use super::{ApiPath, Description, Node, commands, says};
use crate::error::Result;
use crate::ssh::{Program, RemoteCommand};
use entities::cloudpods::settle::Power;
use entities::cloudpods::traffic::Counters;
use entities::error::{Code, Error};
use entities::ids::{CloudpodId, JobId};
use entities::servers::Capacity;
use entities::values::{NodeName, StorageId, Vmid};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What tells that a container is ours, of which pod, and which job made it; it stands in the
/// container's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Of this installation: others may use the same nodes.
    pub tag: String,
    pub pod: CloudpodId,
    pub job: JobId,
}

impl Mark {
    /// As a description.
    #[must_use]
    pub fn description(&self) -> Description {
        Description(self.text())
    }

    /// The line that stands there.
    #[must_use]
    pub fn text(&self) -> String {
        format!("migrapanel:{}:{}:{}", self.tag, self.pod.0, self.job.0)
    }

    /// Of a description: the line that is one. People add theirs.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        text.lines().find_map(Self::of_line)
    }

    fn of_line(line: &str) -> Option<Self> {
        let line = line.trim().replace("%3A", ":");
        let mut parts = line.split(':');
        let is_ours = parts.next()? == "migrapanel";
        let (tag, pod, job) = (parts.next()?, parts.next()?, parts.next()?);
        let pod = CloudpodId(Uuid::try_parse(pod).ok()?);
        let job = JobId(Uuid::try_parse(job).ok()?);
        is_ours.then(|| Self { tag: tag.to_owned(), pod, job })
    }
}

/// A container as its node describes it.
#[derive(Debug, Clone)]
pub struct Container {
    /// None: it is not ours, nor of another installation.
    pub mark: Option<Mark>,
    /// What the node does with it at the moment.
    pub lock: Option<String>,
    pub hostname: String,
    pub cpu_cores: Option<u32>,
    pub memory_mib: Option<u32>,
    pub disk_mib: Option<u32>,
    pub network: String,
    pub starts_with_node: bool,
}

impl Container {
    /// Whether it is nothing but a number: something begins to make a container of it, or has begun and
    /// left.
    #[must_use]
    pub fn is_torso(&self) -> bool {
        self.mark.is_none()
            && self.lock.as_deref().is_none_or(|lock| lock == "create")
            && self.network.is_empty()
            && self.disk_mib.is_none()
    }
}

/// How a container is at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Current {
    pub power: Power,
    pub uptime_secs: u64,
    pub counters: Counters,
}

/// A snapshot of a container.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub name: String,
    /// Of the job that made it; none: somebody else did.
    pub mark: Option<Mark>,
    /// Its making, or its removal, has not come to its end: nobody goes back to it.
    pub is_partial: bool,
}

/// Something that a storage holds.
#[derive(Debug, Clone)]
pub struct Stored {
    pub volume: String,
    pub bytes: u64,
    /// The number of the guest that it is of.
    pub vmid: Option<u64>,
    /// What a backup says of itself; of ours, whose it is, and which job made it.
    pub mark: Option<Mark>,
    /// Whether it says anything.
    pub has_notes: bool,
}

/// A guest of a cluster.
#[derive(Debug, Clone)]
pub struct Guest {
    pub vmid: Vmid,
    pub node: String,
    pub name: Option<String>,
    pub is_container: bool,
}

/// What examining a node came to.
#[derive(Debug, Clone)]
pub struct Examined {
    pub version: String,
    pub capacity: Capacity,
    /// What an operator should know.
    pub notes: Vec<String>,
}

impl Examined {
    /// As it is kept.
    #[must_use]
    pub fn health(&self) -> Value {
        json!({ "version": self.version, "notes": self.notes })
    }
}

/// A number that Proxmox writes as one, or as text.
fn number(value: Option<&Value>) -> Option<u64> {
    let value = value?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).or_else(|| {
        let float = value.as_f64().filter(|float| float.is_finite() && *float >= 0.0)?;
        format!("{float:.0}").parse().ok()
    })
}

fn small(value: Option<&Value>) -> Option<u32> {
    number(value).and_then(|n| u32::try_from(n).ok())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// `size=20G` of a volume's text, in mebibytes.
fn volume_mib(volume: &str) -> Option<u32> {
    let size = volume.split(',').find_map(|part| part.strip_prefix("size="))?;
    let (digits, unit) = size.split_at_checked(size.len().checked_sub(1)?)?;
    let number: f64 = digits.parse().ok()?;
    let mib = match unit {
        "T" => number * 1024.0 * 1024.0,
        "G" => number * 1024.0,
        "M" => number,
        "K" => number / 1024.0,
        _ => return None,
    };
    format!("{mib:.0}").parse().ok()
}

impl Node {
    /// A container of this node; none when there is none of that number here.
    pub async fn look(&self, vmid: Vmid) -> Result<Option<Container>> {
        let path = ApiPath::container(&self.name, vmid).part("config");
        let config = match self.get(&path).await {
            Ok(config) => config,
            Err(error) if says(&error, "does not exist") => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(Container {
            mark: Mark::read(text(&config, "description")),
            lock: config.get("lock").and_then(Value::as_str).map(str::to_owned),
            hostname: text(&config, "hostname").to_owned(),
            cpu_cores: small(config.get("cores")),
            memory_mib: small(config.get("memory")),
            disk_mib: volume_mib(text(&config, "rootfs")),
            network: text(&config, "net0").to_owned(),
            starts_with_node: number(config.get("onboot")) == Some(1),
        }))
    }

    /// Whether a container can use no addresses but its own. By itself Proxmox looks at the hardware
    /// address only.
    pub async fn is_guarded(&self, vmid: Vmid) -> Result<bool> {
        let path = ApiPath::container(&self.name, vmid).part("firewall").part("options");
        let options = self.get(&path).await?;
        let option = |name: &str| number(options.get(name));
        Ok(option("enable") == Some(1)
            && option("ipfilter") == Some(1)
            && option("macfilter") != Some(0))
    }

    /// How a container is at the moment.
    pub async fn current(&self, vmid: Vmid) -> Result<Current> {
        let path = ApiPath::container(&self.name, vmid).part("status").part("current");
        let status = match self.get(&path).await {
            Ok(status) => status,
            Err(error) if says(&error, "does not exist") => {
                let counters = Counters { bytes_in: 0, bytes_out: 0, uptime_secs: 0, read_at: 0 };
                return Ok(Current { power: Power::Absent, uptime_secs: 0, counters });
            }
            Err(error) => return Err(error),
        };
        let runs = text(&status, "status") == "running";
        let uptime_secs = number(status.get("uptime")).unwrap_or(0);
        let counter = |name: &str| number(status.get(name)).unwrap_or(0);
        Ok(Current {
            power: if runs { Power::Running } else { Power::Stopped },
            uptime_secs,
            counters: Counters {
                bytes_in: counter("netin"),
                bytes_out: counter("netout"),
                uptime_secs,
                read_at: chrono::Utc::now().timestamp(),
            },
        })
    }

    /// All guests of the node's cluster.
    pub async fn guests(&self) -> Result<Vec<Guest>> {
        let command = RemoteCommand::new(Program::Pvesh)
            .literal("get")
            .literal("/cluster/resources")
            .literal("--type")
            .literal("vm")
            .literal("--output-format")
            .literal("json");
        let answer: Value = serde_json::from_str(&self.run(&command, b"").await?)?;
        let rows = answer.as_array().cloned().unwrap_or_default();
        let guest = |row: &Value| {
            let vmid = i64::try_from(number(row.get("vmid"))?).ok()?;
            Some(Guest {
                vmid: Vmid::new(vmid).ok()?,
                node: text(row, "node").to_owned(),
                name: row.get("name").and_then(Value::as_str).map(str::to_owned),
                is_container: text(row, "type") == "lxc",
            })
        };
        Ok(rows.iter().filter_map(guest).collect())
    }

    /// The snapshots of a container.
    pub async fn snapshots(&self, vmid: Vmid) -> Result<Vec<Snapshot>> {
        let path = ApiPath::container(&self.name, vmid).part("snapshot");
        let rows = self.get(&path).await?;
        let snapshot = |row: &Value| Snapshot {
            name: text(row, "name").to_owned(),
            mark: Mark::read(text(row, "description")),
            is_partial: !text(row, "snapstate").is_empty(),
        };
        let all = rows.as_array().into_iter().flatten().map(snapshot);
        Ok(all.filter(|snapshot| snapshot.name != "current").collect())
    }

    /// What a storage of the node holds.
    pub async fn content(&self, storage: &StorageId) -> Result<Vec<Stored>> {
        let path = ApiPath::new()
            .part("nodes")
            .value(&self.name)
            .part("storage")
            .value(storage)
            .part("content");
        let rows = self.get(&path).await?;
        let stored = |row: &Value| Stored {
            volume: text(row, "volid").to_owned(),
            bytes: number(row.get("size")).unwrap_or(0),
            vmid: number(row.get("vmid")),
            mark: Mark::read(text(row, "notes")),
            has_notes: !text(row, "notes").is_empty(),
        };
        Ok(rows.as_array().into_iter().flatten().map(stored).collect())
    }

    /// Looks whether the node is what it was said to be, and what it has.
    pub async fn examine(&self) -> Result<Examined> {
        let version = self.get(&ApiPath::new().part("version")).await?;
        let of_node = || ApiPath::new().part("nodes").value(&self.name);
        let status = match self.get(&of_node().part("status")).await {
            Ok(status) => status,
            Err(error) if error.code() == Code::NodeRefused => {
                let text = format!("There is no node {} there: {error}", self.name);
                return Err(Error::refused(Code::EnrolmentFailed, text));
            }
            Err(error) => return Err(error),
        };
        self.expect_itself().await?;
        let mut notes = Vec::new();
        let storage = self.storage(&self.row.storage, "rootdir").await?;
        self.storage(&self.row.template_storage, "vztmpl").await?;
        self.storage(&self.row.backup_storage, "backup").await?;
        let networks = self.get(&of_node().part("network")).await?;
        let has_bridge = networks
            .as_array()
            .into_iter()
            .flatten()
            .any(|row| text(row, "iface") == self.row.bridge);
        if !has_bridge {
            let text = format!("The node {} has no bridge {}.", self.name, self.row.bridge);
            return Err(Error::refused(Code::EnrolmentFailed, text));
        }
        let firewall = ApiPath::new().part("cluster").part("firewall").part("options");
        if small(self.get(&firewall).await?.get("enable")) != Some(1) {
            notes.push("The firewall of the cluster is off: containers can use addresses that are not theirs. Switch it on in Proxmox, with a rule that lets SSH in.".to_owned());
        }
        if small(storage.get("shared")) == Some(1) {
            notes.push(format!("The storage {} is shared with other nodes, and each counts all of it: set disk_factor to the share of it that is given away on this node.", self.row.storage));
        }
        let cpus = status.pointer("/cpuinfo/cpus");
        let memory = number(status.pointer("/memory/total")).unwrap_or(0);
        let mib = |bytes: u64| i64::try_from(bytes >> 20).unwrap_or(i64::MAX);
        Ok(Examined {
            version: text(&version, "version").to_owned(),
            capacity: Capacity {
                cpu_cores: number(cpus).and_then(|n| i32::try_from(n).ok()).unwrap_or(1).max(1),
                memory_mib: mib(memory).max(1),
                disk_mib: mib(number(storage.get("total")).unwrap_or(0)).max(1),
            },
            notes,
        })
    }

    /// A cluster answers for all its nodes; commands are carried out by the one that they are given to.
    async fn expect_itself(&self) -> Result<()> {
        let members = self.get(&ApiPath::new().part("cluster").part("status")).await?;
        let rows = members.as_array().into_iter().flatten();
        let own = rows
            .filter(|row| small(row.get("local")) == Some(1))
            .find(|row| text(row, "type") == "node");
        match own.map(|row| text(row, "name")) {
            Some(own) if own != self.name.as_str() => {
                let text = format!(
                    "The host is the node {own} of its cluster, and not {}: add it with the name that it has, or with the other's address.",
                    self.name
                );
                Err(Error::refused(Code::EnrolmentFailed, text))
            }
            _ => Ok(()),
        }
    }

    async fn storage(&self, name: &str, content: &str) -> Result<Value> {
        let storage = StorageId::parse(name)?;
        let path = ApiPath::new()
            .part("nodes")
            .value(&self.name)
            .part("storage")
            .value(&storage)
            .part("status");
        let wrong = |why: String| {
            Error::refused(
                Code::EnrolmentFailed,
                format!("The storage {name} of {}: {why}", self.name),
            )
        };
        let status = match self.get(&path).await {
            Ok(status) => status,
            Err(error) if error.code() == Code::NodeRefused => {
                return Err(wrong(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if !text(&status, "content").split(',').any(|kind| kind == content) {
            return Err(wrong(format!("it does not take {content}.")));
        }
        if number(status.get("active")) == Some(0) {
            return Err(wrong("it is not active.".to_owned()));
        }
        if text(&status, "type") == "pbs" {
            let why = "it is a Proxmox Backup Server, which MigraPanel does not use: name a storage of files.";
            return Err(wrong(why.to_owned()));
        }
        Ok(status)
    }

    /// The names of the nodes of its cluster, whether they run or not.
    pub async fn members(&self) -> Result<BTreeSet<String>> {
        let nodes = self.get(&ApiPath::new().part("nodes")).await?;
        let names = nodes.as_array().into_iter().flatten().map(|row| text(row, "node").to_owned());
        Ok(names.collect())
    }

    /// The name of the node that has a guest of this number; none: nobody has.
    pub async fn whereabouts(&self, vmid: Vmid) -> Result<Option<NodeName>> {
        let guests = self.guests().await?;
        let found = guests.into_iter().find(|guest| guest.vmid == vmid);
        found.map(|guest| NodeName::parse(&guest.node).map_err(Error::from)).transpose()
    }

    /// Lets go of a lock that a task which died has left.
    pub async fn unlock(&self, vmid: Vmid) -> Result<()> {
        self.run(&commands::unlock(vmid), b"").await.map(|_said| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let mark = Mark { tag: "0123abcd".to_owned(), pod: CloudpodId::new(), job: JobId::new() };
        let text = mark.description().0;
        assert_eq!(Mark::read(&format!("{text}\n")), Some(mark.clone()));
        assert_eq!(Mark::read(&text.replace(':', "%3A")), Some(mark));
        for other in ["", "web server of Bob", "migrapanel:x:y:z", "migrapanel:"] {
            assert_eq!(Mark::read(other), None, "{other}");
        }
    }

    #[test]
    fn sizes_of_volumes_are_mebibytes() {
        assert_eq!(volume_mib("local-lvm:vm-101-disk-0,size=20G"), Some(20480));
        assert_eq!(volume_mib("local-lvm:vm-101-disk-0,size=1536M,acl=1"), Some(1536));
        assert_eq!(volume_mib("local-lvm:vm-101-disk-0"), None);
        assert_eq!(volume_mib("x,size="), None);
    }
}
