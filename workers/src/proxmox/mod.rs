//! Proxmox VE: a node's tools, called over SSH with arrays of arguments.
//!
//! Reading goes through `pvesh get … --output-format json`, changing through `pct`, `pveam` and `pvesm`, which
//! wait for the task that they begin. An answer that is lost leaves a command *unknown*, not failed:
//! whoever goes on looks first ([`Node::look`]). What is ours is told by the mark in a container's
//! description ([`Mark`]); nothing else is ever changed or removed.

mod arguments;
pub mod commands;
mod look;

pub use arguments::{ApiPath, Description, Disk, KeysFile, Mebibytes, Network, Volume};
pub use commands::Create;
pub use look::{Container, Examined, Guest, Mark, Snapshot, Stored};

use crate::error::Result;
use crate::saga::Cx;
use crate::ssh::{Program, Ran, RemoteCommand, Session};
use crate::world::World;
use entities::cloudpods::placement;
use entities::error::{Code, Error};
use entities::tables::{node, server};
use entities::values::{NodeName, Vmid};
use serde::Deserialize;
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a question may take.
const LOOK: Duration = Duration::from_secs(30);
/// How long something may take that is not waited for long.
const SOON: Duration = Duration::from_secs(15);
/// How long a task may take: that of a large disk that is saved, restored or moved.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// How long a lock stays without a task until nobody is believed to hold it: tasks take it soon after
/// they begin, and let it go soon before they end.
const DEAD_AFTER: Duration = Duration::from_secs(3);
/// How much of a node's words is passed on.
const WORDS_MAX: usize = 400;

/// A node that is connected to.
#[derive(Debug, Clone)]
pub struct Node {
    pub session: Arc<Session>,
    pub row: node::Model,
    pub name: NodeName,
    /// How long a command may take.
    pub limit: Duration,
}

/// A task as a node lists it: <https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks>.
#[derive(Debug, Deserialize)]
struct Task {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    id: String,
    endtime: Option<i64>,
}

impl Task {
    fn works_on(&self, vmid: Vmid) -> bool {
        let of_guest = match self.kind.as_str() {
            "vncproxy" | "vncshell" | "spiceproxy" | "termproxy" => false,
            "vzdump" if self.id.is_empty() => true,
            _ => self.id == vmid.to_string(),
        };
        of_guest && self.endtime.is_none()
    }
}

impl Node {
    /// The node of a job's server.
    pub async fn of(cx: &Cx) -> Result<Self> {
        Self::connect(&cx.world, &cx.server).await
    }

    /// The node that a server is.
    pub async fn connect(world: &World, server: &server::Model) -> Result<Self> {
        let tx = world.db.system().await?;
        let row = placement::node_of(&tx, server.id).await?;
        drop(tx);
        let session = world.fleet.plain_session(server).await?;
        let limit = Duration::from_secs(world.config.node_limit_secs);
        Ok(Self { session, name: NodeName::parse(&row.name)?, row, limit })
    }

    /// Runs a command to its end; what it printed. One that the node refuses is `node_refused` with its
    /// words.
    pub async fn run(&self, command: &RemoteCommand, input: &[u8]) -> Result<String> {
        let ran = self.session.run(command, input, self.limit).await?;
        self.judge(command, ran)
    }

    /// Runs a command that is not waited for long: within a guest, whose owner may have made anything of
    /// it, or while a row is locked.
    pub async fn run_soon(&self, command: &RemoteCommand) -> Result<String> {
        let ran = self.session.run(command, b"", SOON.min(self.limit)).await?;
        self.judge(command, ran)
    }

    /// Runs a command that does its work in a task on a guest, which may take hours: it is waited for as
    /// long as there is one.
    pub async fn work(&self, vmid: Vmid, command: &RemoteCommand) -> Result<String> {
        let mut running = pin!(self.session.run(command, b"", LONGEST));
        loop {
            tokio::select! {
                ran = &mut running => return self.judge(command, ran?),
                () = tokio::time::sleep(self.limit) => {
                    if !self.is_busy(vmid).await? {
                        let cause = format!("no answer within {} s", self.limit.as_secs());
                        return Err(self.session.unknown(command, &cause));
                    }
                }
            }
        }
    }

    /// Whether a task works on a guest at the moment. A backup of several guests names none of them; who
    /// looks at a guest's screen does not work on it.
    pub async fn is_busy(&self, vmid: Vmid) -> Result<bool> {
        let command = RemoteCommand::new(Program::Pvesh)
            .literal("get")
            .value(&ApiPath::new().part("nodes").value(&self.name).part("tasks"))
            .literal("--source")
            .literal("active")
            .literal("--limit")
            .literal("1000")
            .literal("--output-format")
            .literal("json");
        let ran = self.session.run(&command, b"", LOOK.min(self.limit)).await?;
        let tasks: Vec<Task> = serde_json::from_str(&self.judge(&command, ran)?)?;
        Ok(tasks.iter().any(|task| task.works_on(vmid)))
    }

    /// Whether what has locked a guest has died: a lock since `seen`, and no task. Errors: `node_unknown`
    /// when a task goes on for hours.
    pub async fn is_stuck(&self, vmid: Vmid, seen: Instant) -> Result<bool> {
        if seen.elapsed() < DEAD_AFTER {
            return Ok(false);
        }
        if seen.elapsed() > LONGEST {
            let text = format!(
                "A task on the guest {vmid} of {} does not end: see its log there.",
                self.row.name
            );
            return Err(Error::refused(Code::NodeUnknown, text));
        }
        Ok(!self.is_busy(vmid).await?)
    }

    fn judge(&self, command: &RemoteCommand, ran: Ran) -> Result<String> {
        if ran.status == 0 {
            return Ok(ran.out);
        }
        let words: Vec<String> = command.words().into_iter().take(2).collect();
        let said = if ran.err.trim().is_empty() { &ran.out } else { &ran.err };
        let said: String = said.trim().chars().filter(|c| !c.is_control() || *c == '\n').collect();
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        let said: String = last.into_iter().rev().collect::<Vec<_>>().join(" ");
        let said: String = said.chars().take(WORDS_MAX).collect();
        tracing::warn!(server = %self.row.name, status = ran.status, said, "node.refused");
        let text = format!("{} was refused on {}: {said}", words.join(" "), self.row.name);
        Err(Error::refused(Code::NodeRefused, text))
    }

    /// What the API answers for a path.
    pub async fn get(&self, path: &ApiPath) -> Result<Value> {
        let command = RemoteCommand::new(Program::Pvesh)
            .literal("get")
            .value(path)
            .literal("--output-format")
            .literal("json");
        let ran = self.session.run(&command, b"", LOOK.min(self.limit)).await?;
        Ok(serde_json::from_str(&self.judge(&command, ran)?)?)
    }
}

/// Whether a node's refusal says this. Proxmox has no codes: these are its words.
#[must_use]
pub fn says(error: &Error, words: &str) -> bool {
    error.code() == Code::NodeRefused && error.to_string().contains(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_guest_is_worked_on_by_its_tasks_and_by_backups_of_many() {
        let vmid = Vmid::try_from(10_000).unwrap();
        for (task, works) in [
            (json!({"type": "vzdump", "id": "10000"}), true),
            (json!({"type": "vzdump", "id": ""}), true),
            (json!({"type": "vzdump"}), true),
            (json!({"type": "vzdump", "id": "10001"}), false),
            (json!({"type": "vzdump", "id": "10000", "endtime": 1_700_000_000}), false),
            (json!({"type": "vzmigrate", "id": "10000"}), true),
            (json!({"type": "vncproxy", "id": "10000"}), false),
            (json!({"type": "startall", "id": ""}), false),
        ] {
            let read: Task = serde_json::from_value(task.clone()).unwrap();
            assert_eq!(read.works_on(vmid), works, "{task}");
        }
    }
}
