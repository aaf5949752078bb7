//! Snapshots and backups.

use super::{Job, provision, terminate};
use crate::error::Result;
use crate::proxmox::{ApiPath, Container, Create, Node, Snapshot, Stored, commands, says};
use crate::saga::{Cx, Saga, Step};
use cpanel::protocol::Level;
use entities::cloudpods::Act;
use entities::cloudpods::record::{self, Saved};
use entities::cloudpods::settle::Power;
use entities::error::{Code, Error};
use entities::ids::BackupId;
use entities::servers;
use entities::values::{BridgeName, SnapshotName, StorageId, VolumeId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Makes a snapshot.
pub(super) async fn snapshot(saga: &mut Saga) -> Result<Value> {
    saga.step(TakeSnapshot).await?;
    Ok(json!({}))
}

#[derive(Debug, Serialize)]
struct TakeSnapshot;

fn name_of(job: &Job) -> Result<SnapshotName> {
    match job.parameters()? {
        Act::Snapshot { name, .. } | Act::Rollback { name } | Act::DeleteSnapshot { name } => {
            Ok(name)
        }
        _ => Err(Error::internal("a job for a snapshot without its name")),
    }
}

impl Step for TakeSnapshot {
    type Output = ();

    fn name(&self) -> &'static str {
        "snapshot"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let job = Job::load(cx).await?;
        let name = name_of(&job)?;
        let node = job.at_rest(cx).await?;
        match find_snapshot(&node, &job, &name).await? {
            Some(there) if there.is_partial => ensure_no_snapshot(&node, &job, &name).await?,
            Some(there) if there.mark.as_ref() == Some(&job.mark) => return Ok(()),
            // An earlier job made it and could not take it back: nobody knows of it.
            Some(there) if there.mark.as_ref().is_some_and(|mark| job.is_of_pod(mark)) => {
                ensure_no_snapshot(&node, &job, &name).await?;
            }
            Some(_) => {
                let text = format!(
                    "There is a snapshot {name} on the node already, which was not made here: choose another name."
                );
                return Err(Error::refused(Code::NodeRefused, text));
            }
            None => {}
        }
        let command = commands::snapshot(job.vmid, &name, &job.mark);
        node.work(job.vmid, &command).await.map(|_said| ())
    }

    async fn undo(&self, cx: &Cx, _: Option<()>) -> Result<()> {
        let job = Job::load(cx).await?;
        let name = name_of(&job)?;
        let node = job.at_rest(cx).await?;
        match find_snapshot(&node, &job, &name).await? {
            Some(there) if there.is_partial || there.mark.as_ref() == Some(&job.mark) => {
                ensure_no_snapshot(&node, &job, &name).await
            }
            _ => Ok(()),
        }
    }
}

async fn find_snapshot(node: &Node, job: &Job, name: &SnapshotName) -> Result<Option<Snapshot>> {
    let all = node.snapshots(job.vmid).await?;
    Ok(all.into_iter().find(|there| there.name == name.as_str()))
}

async fn ensure_no_snapshot(node: &Node, job: &Job, name: &SnapshotName) -> Result<()> {
    let command = match find_snapshot(node, job, name).await? {
        None => return Ok(()),
        Some(there) if there.is_partial => commands::delete_partial_snapshot(job.vmid, name),
        Some(_) => commands::delete_snapshot(job.vmid, name),
    };
    match node.run(&command, b"").await {
        Err(error) if says(&error, "does not exist") => Ok(()),
        other => other.map(|_said| ()),
    }
}

/// Goes back to a snapshot; one that ran runs again. Going back twice comes to the same.
pub(super) async fn roll_back(cx: &Cx, job: &Job) -> Result<Value> {
    let name = name_of(job)?;
    let node = job.at_rest(cx).await?;
    let ran = node.current(job.vmid).await?.power == Power::Running
        || job.row.status == entities::cloudpods::Status::Active;
    if !is_done(&node, job).await? {
        node.work(job.vmid, &commands::rollback(job.vmid, &name)).await?;
        if let Some(container) = node.look(job.vmid).await? {
            job.rest(cx, &node, container).await?;
        }
    }
    renew(cx, job, &node).await?;
    if ran {
        provision::start(&node, job.vmid).await?;
    }
    Ok(json!({}))
}

/// Whether this job has brought the old data back before, and a worker has died since: what was written
/// afterwards is not given up for that. The mark is the first that is written anew.
async fn is_done(node: &Node, job: &Job) -> Result<bool> {
    let standing = node.look(job.vmid).await?;
    let is_done = |c: Container| c.mark.as_ref() == Some(&job.mark) && c.lock.is_none();
    Ok(standing.is_some_and(is_done))
}

/// The configuration of now comes back, too, where an old one came with the data: size, address, mark,
/// and the disk grows to what it was by now.
async fn renew(cx: &Cx, job: &Job, node: &Node) -> Result<()> {
    let bridge = BridgeName::parse(&node.row.bridge)?;
    let new: Create<'_> = job.create(cx, &bridge, node).await?;
    node.run(&commands::settle(&new), b"").await?;
    super::resize::grow(cx, job, node, job.size.disk_mib).await?;
    provision::guard(node, job.vmid).await
}

/// Removes a snapshot.
pub(super) async fn delete_snapshot(cx: &Cx, job: &Job) -> Result<Value> {
    let name = name_of(job)?;
    let node = job.at_rest(cx).await?;
    ensure_no_snapshot(&node, job, &name).await?;
    Ok(json!({}))
}

/// Which backup a job is about.
#[derive(Debug, Deserialize)]
struct Which {
    backup: BackupId,
}

/// Makes a backup.
pub(super) async fn back_up(saga: &mut Saga) -> Result<Value> {
    let before = saga.step(ListBackups).await?;
    let saved = saga.step(MakeBackup { before }).await?;
    Ok(serde_json::to_value(saved)?)
}

/// What the storage has of this pod before: what is new afterwards is the backup.
#[derive(Debug, Serialize)]
struct ListBackups;

impl Step for ListBackups {
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        "look"
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<String>> {
        let job = Job::load(cx).await?;
        let node = job.at_rest(cx).await?;
        Ok(archives(&node, &job).await?.into_iter().map(|stored| stored.volume).collect())
    }

    async fn undo(&self, _: &Cx, _: Option<Vec<String>>) -> Result<()> {
        Ok(())
    }
}

/// The backups of containers with the pod's number in its node's storage.
pub(super) async fn archives(node: &Node, job: &Job) -> Result<Vec<Stored>> {
    let storage = StorageId::parse(&node.row.backup_storage)?;
    let number = u64::try_from(i64::from(job.vmid)).map_err(Error::internal)?;
    let mut stored = node.content(&storage).await?;
    stored.retain(|stored| stored.vmid == Some(number) && stored.volume.contains("vzdump-lxc-"));
    Ok(stored)
}

/// vzdump calls its archive by the second in which it began: the pod's next backup begins in another,
/// and neither is refused nor takes the place of this one.
const NAMED_BY: Duration = Duration::from_secs(1);

#[derive(Debug, Serialize)]
struct MakeBackup {
    before: Vec<String>,
}

impl Step for MakeBackup {
    type Output = Saved;

    fn name(&self) -> &'static str {
        "backup"
    }

    async fn run(&self, cx: &Cx) -> Result<Saved> {
        let job = Job::load(cx).await?;
        // A backup that a lost command began is waited for, with its lock.
        let node = job.at_rest(cx).await?;
        if self.fresh(&node, &job).await?.is_none() {
            let storage = StorageId::parse(&node.row.backup_storage)?;
            let path = ApiPath::new().part("nodes").value(&node.name).part("vzdump");
            node.work(job.vmid, &commands::back_up(&path, job.vmid, &storage, &job.mark)).await?;
            tokio::time::sleep(NAMED_BY).await;
        }
        let found = self.fresh(&node, &job).await?;
        let Stored { volume, bytes, .. } = found.ok_or_else(|| {
            let text = "The node says that it made a backup, and its storage has none.";
            Error::refused(Code::NodeRefused, text)
        })?;
        let Which { backup } = job.parameters()?;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Saved { backup, volume, bytes })
    }

    async fn undo(&self, cx: &Cx, _: Option<Saved>) -> Result<()> {
        let job = Job::load(cx).await?;
        let node = job.at_rest(cx).await?;
        for stored in archives(&node, &job).await? {
            if stored.mark.as_ref() == Some(&job.mark) {
                terminate::free(&node, &VolumeId::parse(&stored.volume)?).await?;
            }
        }
        Ok(())
    }
}

impl MakeBackup {
    /// The backup that this job made. A storage that keeps no notes tells by the time only.
    async fn fresh(&self, node: &Node, job: &Job) -> Result<Option<Stored>> {
        let there = archives(node, job).await?;
        let is_new = |stored: &Stored| {
            !self.before.contains(&stored.volume)
                && (!stored.has_notes || stored.mark.as_ref() == Some(&job.mark))
        };
        Ok(there.into_iter().find(is_new))
    }
}

/// Replaces the container by what a backup holds; one that ran runs again.
pub(super) async fn restore(cx: &Cx, job: &Job) -> Result<Value> {
    let Which { backup } = job.parameters()?;
    let tx = cx.world.db.system().await?;
    let row = record::load_backup(&tx, backup).await?;
    drop(tx);
    let missing = || Error::internal("a backup that is ready without a volume");
    let volume = VolumeId::parse(&row.volume.ok_or_else(missing)?)?;
    let node = Node::of(cx).await?;
    let is_own = row.server_id.is_none_or(|server| server == cx.server.id);
    if !is_own && !has(&node, job, &volume).await? {
        let text = "The backup lies in the storage of the node that the CloudPod was on before: it cannot be restored from here.";
        return Err(Error::refused(Code::NodeRefused, text));
    }
    if !is_done(&node, job).await? {
        replace(cx, job, &node, &volume).await?;
    }
    let tx = cx.world.db.system().await?;
    record::record_replaced(&tx, &cx.claim).await?;
    tx.commit().await?;
    renew(cx, job, &node).await?;
    if job.row.status != entities::cloudpods::Status::Active {
        return Ok(json!({}));
    }
    provision::start(&node, job.vmid).await?;
    Ok(json!({ "answers": provision::expect_ready(cx, job).await? }))
}

/// Whether a node sees a backup of the pod that another has made: in a storage that they share.
async fn has(node: &Node, job: &Job, volume: &VolumeId) -> Result<bool> {
    let there = archives(node, job).await?;
    Ok(there.iter().any(|stored| stored.volume == volume.as_str() && job.has_saved(stored)))
}

/// Puts what a backup holds where the container is.
async fn replace(cx: &Cx, job: &Job, node: &Node, volume: &VolumeId) -> Result<()> {
    // A restore that a lost command began has no mark before its end.
    if let Some(container) = super::identify(node, job.vmid).await? {
        if !job.owns(&container) && !job.has_left(cx, &container).await? {
            return Err(super::foreign(node, job.vmid, &container));
        }
        job.rest(cx, node, container).await?;
        if node.current(job.vmid).await?.power == Power::Running {
            node.run(&commands::stop(job.vmid), b"").await?;
        }
    }
    cx.log(Level::Info, "restore", &format!("From {volume}.")).await?;
    let storage = StorageId::parse(&node.row.storage)?;
    if let Err(error) = node.work(job.vmid, &commands::restore(job.vmid, volume, &storage)).await {
        leave_running(job, node).await;
        return Err(error);
    }
    Ok(())
}

/// A container that ran and that a refused restore has left as it was runs again.
async fn leave_running(job: &Job, node: &Node) {
    let standing = node.look(job.vmid).await;
    let is_whole = standing.is_ok_and(|found| {
        found.is_some_and(|c| job.owns(&c) && c.lock.is_none() && c.disk_mib.is_some())
    });
    if is_whole
        && job.row.status == entities::cloudpods::Status::Active
        && let Err(error) = provision::start(node, job.vmid).await
    {
        tracing::warn!(cause = %error.chain(), "pod.not_started_again");
    }
}

/// The pod's own node, when it sees the backup that another has made.
async fn sharing(cx: &Cx, job: &Job, volume: &VolumeId) -> Result<Option<Node>> {
    let node = Node::of(cx).await?;
    Ok(has(&node, job, volume).await?.then_some(node))
}

/// Removes a backup from the storage that has it, by the pod's own node when that sees it.
pub(super) async fn delete_backup(cx: &Cx, job: &Job) -> Result<Value> {
    let Which { backup } = job.parameters()?;
    let tx = cx.world.db.system().await?;
    let row = record::load_backup(&tx, backup).await?;
    drop(tx);
    let Some(volume) = row.volume else { return Ok(json!({})) };
    let volume = VolumeId::parse(&volume)?;
    let node = match row.server_id.filter(|server| *server != cx.server.id) {
        None => Node::of(cx).await?,
        Some(other) => match sharing(cx, job, &volume).await {
            Ok(Some(node)) => node,
            // The pod's own node sees it not, or is away: that is no reason to keep it.
            Ok(None) | Err(_) => {
                let tx = cx.world.db.system().await?;
                let server = servers::load_server(&tx, other).await?;
                drop(tx);
                Node::connect(&cx.world, &server).await?
            }
        },
    };
    terminate::free(&node, &volume).await?;
    Ok(json!({}))
}
