//! What is done with containers on Proxmox nodes.
//!
//! What is to be taken back when it fails is a saga: [`provision`], [`resize`], snapshots and backups
//! ([`saved`]), and [`moving`]. The rest ([`converge`]) makes the container what it shall be, may run any number of times,
//! and is tried again. Each looks first: whatever a command that was lost has done is taken as it is.

mod converge;
mod moving;
mod provision;
mod resize;
mod saved;
mod terminate;

pub(crate) use terminate::free;

use crate::error::Result;
use crate::proxmox::{
    Container, Create, KeysFile, Mark, Mebibytes, Network, Node, Stored, Volume, commands,
};
use crate::saga::{Cx, Saga};
use cpanel::protocol::Level;
use entities::cloudpods::create::PodName;
use entities::cloudpods::pools::{self, Held};
use entities::cloudpods::settle::Power;
use entities::cloudpods::{self, Size, placement, record, templates};
use entities::error::{Code, Error};
use entities::tables::cloudpod;
use entities::values::{BridgeName, SshKey, StorageId, Vmid, VolumeId};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How often something on a node is looked at that is on its way.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a look at the end of a job may take.
const POWER: Duration = Duration::from_secs(20);

/// Whether a phase is a saga, whose failure is taken back.
#[must_use]
pub fn is_saga(phase: &str) -> bool {
    cloudpods::SAGAS.contains(&phase)
}

/// The saga's function of a pod's job.
pub async fn run(saga: &mut Saga) -> Result<Value> {
    match saga.cx.claim.phase.as_str() {
        "provision" | "take_back" => Box::pin(provision::provision(saga)).await,
        "resize" => Box::pin(resize::resize(saga)).await,
        "snapshot" => Box::pin(saved::snapshot(saga)).await,
        "backup" => Box::pin(saved::back_up(saga)).await,
        "move" => Box::pin(moving::relocate(saga)).await,
        phase => Err(Error::internal(format!("{phase} is no saga of a pod"))),
    }
}

/// Makes a pod what the job's phase is for. May run any number of times.
pub async fn converge(cx: &Cx) -> Result<Value> {
    let job = Job::load(cx).await?;
    match cx.claim.phase.as_str() {
        "start" => Box::pin(converge::start(cx, &job)).await,
        "stop" => Box::pin(converge::stop(cx, &job)).await,
        "reboot" => Box::pin(converge::reboot(cx, &job)).await,
        "suspend" => Box::pin(converge::suspend(cx, &job)).await,
        "unsuspend" => Box::pin(converge::unsuspend(cx, &job)).await,
        "root_keys" => Box::pin(converge::root_keys(cx, &job)).await,
        "reinstall" => Box::pin(converge::reinstall(cx, &job)).await,
        "rollback" => Box::pin(saved::roll_back(cx, &job)).await,
        "delete_snapshot" => Box::pin(saved::delete_snapshot(cx, &job)).await,
        "restore" => Box::pin(saved::restore(cx, &job)).await,
        "delete_backup" => Box::pin(saved::delete_backup(cx, &job)).await,
        "terminate" => Box::pin(terminate::terminate(cx, &job)).await,
        phase => Err(Error::internal(format!("nobody knows how to {phase} a pod"))),
    }
}

/// What the node says of the job's pod at its end; none: it does not answer.
pub async fn power(cx: &Cx) -> Option<Power> {
    let looked = async {
        let job = Job::load(cx).await?;
        let node = Node::of(cx).await?;
        let Some(container) = identify(&node, job.vmid).await? else { return Ok(Power::Absent) };
        if job.has_left(cx, &container).await? {
            return Ok(Power::Absent);
        }
        if !job.owns(&container) {
            return Err(foreign(&node, job.vmid, &container));
        }
        Ok::<_, Error>(node.current(job.vmid).await?.power)
    };
    match tokio::time::timeout(POWER, looked).await {
        Ok(Ok(power)) => Some(power),
        Ok(Err(error)) => {
            tracing::debug!(cause = %error.chain(), "pod.power_unknown");
            None
        }
        Err(_elapsed) => None,
    }
}

/// A pod that a claimed job works on, with all that its commands are made of, checked.
#[derive(Debug)]
struct Job {
    row: cloudpod::Model,
    vmid: Vmid,
    hostname: PodName,
    size: Size,
    addresses: Vec<Held>,
    /// What tells its container.
    mark: Mark,
}

impl Job {
    /// Reads it; an input that no command takes is refused, and that is recorded.
    async fn load(cx: &Cx) -> Result<Self> {
        let tag = cx.world.dns.tag().await?.to_owned();
        let tx = cx.world.db.system().await?;
        let row = cloudpods::load_claimed(&tx, &cx.claim).await?;
        let addresses = match placement::of_pod(&tx, row.id).await? {
            Some(place) => pools::held_by(&tx, place.id).await?,
            None => Vec::new(),
        };
        drop(tx);
        let checked = || {
            Ok::<_, Error>((
                cloudpods::vmid(&row)?,
                PodName::parse(&row.hostname)?,
                Size::of(&row)?,
            ))
        };
        let (vmid, hostname, size) = match checked() {
            Ok(checked) => checked,
            Err(error) => {
                let tx = cx.world.db.system().await?;
                record::record_rejection(&tx, &cx.claim, &error.to_string()).await?;
                tx.commit().await?;
                return Err(error);
            }
        };
        let mark = Mark { tag, pod: row.id, job: cx.claim.job };
        Ok(Self { vmid, hostname, size, addresses, mark, row })
    }

    /// Whether a container is this pod's, by whichever job it was made.
    fn owns(&self, container: &Container) -> bool {
        container.mark.as_ref().is_some_and(|mark| self.is_of_pod(mark))
    }

    /// Whether a container is what a restore or a new installation of this pod has left that died
    /// half-way: it has no mark yet. Others' are made under other numbers.
    async fn has_left(&self, cx: &Cx, container: &Container) -> Result<bool> {
        if self.row.made_at.is_none() || !container.is_torso() {
            return Ok(false);
        }
        let tx = cx.world.db.system().await?;
        record::was_renewed(&tx, self.row.id, cx.server.id).await
    }

    /// Whether a backup was made for this pod. Others' may have its number: that of a guest that is
    /// gone, or that is in another cluster with the same storage.
    fn has_saved(&self, stored: &Stored) -> bool {
        stored.mark.as_ref().is_some_and(|mark| self.is_of_pod(mark))
    }

    fn is_of_pod(&self, mark: &Mark) -> bool {
        mark.pod == self.mark.pod && mark.tag == self.mark.tag
    }

    /// The pod's container on its node; none: there is none. One that is not ours is refused.
    async fn find(&self, cx: &Cx) -> Result<Option<(Node, Container)>> {
        let node = Node::of(cx).await?;
        match identify(&node, self.vmid).await? {
            Some(container) if self.owns(&container) => Ok(Some((node, container))),
            Some(container) if self.has_left(cx, &container).await? => {
                let text = "Its last restore or installation has ended half-way: restore a backup, or reinstall it.";
                Err(Error::refused(Code::NodeRefused, text))
            }
            Some(container) => Err(foreign(&node, self.vmid, &container)),
            None => Ok(None),
        }
    }

    /// The same, when there must be one, and nothing is done with it at the moment.
    async fn at_rest(&self, cx: &Cx) -> Result<Node> {
        let gone = || {
            let text = format!("There is no container {} on its node any more.", self.vmid);
            Error::refused(Code::NodeRefused, text)
        };
        let (node, container) = self.find(cx).await?.ok_or_else(gone)?;
        self.rest(cx, &node, container).await?;
        Ok(node)
    }

    /// Waits until a task that a lost command began has ended; a lock that stays is a dead task's, and
    /// is let go of.
    async fn rest(&self, cx: &Cx, node: &Node, container: Container) -> Result<Container> {
        let mut container = container;
        let seen = Instant::now();
        while let Some(lock) = container.lock.clone() {
            if node.is_stuck(self.vmid, seen).await? {
                let text = format!("The lock {lock} of a task that has died is let go of.");
                cx.log(Level::Warn, &cx.claim.phase, &text).await?;
                node.unlock(self.vmid).await?;
            } else {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let gone =
                || Error::refused(Code::NodeUnknown, "The container went while it was waited for.");
            container = node.look(self.vmid).await?.ok_or_else(gone)?;
        }
        Ok(container)
    }

    /// What a container of this pod is made of on this node.
    async fn create<'a>(
        &'a self,
        cx: &Cx,
        bridge: &'a BridgeName,
        node: &Node,
    ) -> Result<Create<'a>> {
        let tx = cx.world.db.system().await?;
        let archive = templates::archive_of(&tx, &self.size.template).await?;
        let template_storage = StorageId::parse(&node.row.template_storage)?;
        Ok(Create {
            vmid: self.vmid,
            archive: VolumeId::parse(&format!("{template_storage}:vztmpl/{archive}"))?,
            hostname: &self.hostname,
            cpu_cores: self.size.cpu_cores,
            memory: Mebibytes(self.size.memory_mib),
            disk: Volume {
                storage: StorageId::parse(&node.row.storage)?,
                mebibytes: self.size.disk_mib,
            },
            network: Network { bridge, addresses: &self.addresses, pod: self.row.id },
            description: self.mark.description(),
            keys: None,
        })
    }

    /// The keys that root is to have.
    fn keys(&self) -> Result<Vec<SshKey>> {
        Ok(serde_json::from_value(self.row.ssh_keys.clone())?)
    }

    /// What the job was asked for.
    fn parameters<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let parameters = self.row.parameters.clone().unwrap_or(Value::Null);
        Ok(serde_json::from_value(parameters)?)
    }
}

/// A container that there is, once it is known whose it is: while one is being made, its description is
/// not there yet.
async fn identify(node: &Node, vmid: Vmid) -> Result<Option<Container>> {
    let seen = Instant::now();
    loop {
        let found = node.look(vmid).await?;
        let is_unknown =
            found.as_ref().is_some_and(|c| c.mark.is_none() && c.lock.as_deref() == Some("create"));
        if !is_unknown || node.is_stuck(vmid, seen).await? {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn foreign(node: &Node, vmid: Vmid, container: &Container) -> Error {
    let text = format!(
        "The guest {vmid} on {} ({}) is not ours: it is left alone.",
        node.row.name, container.hostname
    );
    Error::refused(Code::VmidTaken, text)
}

/// Root's keys as a file of `authorized_keys`.
fn authorized_keys(keys: &[SshKey]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

/// Ensures that no keys of a pod lie on its node.
async fn forget_keys(node: &Node, vmid: Vmid) -> Result<()> {
    node.run(&commands::remove_keys(&KeysFile(vmid)), b"").await.map(|_said| ())
}

/// Puts a pod's keys on its node for as long as `work` takes.
async fn with_keys<T>(
    node: &Node,
    vmid: Vmid,
    keys: &[SshKey],
    work: impl AsyncFnOnce() -> Result<T>,
) -> Result<T> {
    let file = KeysFile(vmid);
    node.run(&commands::write_keys(&file), authorized_keys(keys).as_bytes()).await?;
    let worked = work().await;
    if let Err(error) = forget_keys(node, vmid).await {
        // Public keys, and the next time it is written anew.
        tracing::warn!(cause = %error.chain(), "pod.keys_left_behind");
    }
    worked
}
