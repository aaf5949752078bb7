//! The end of a container, with all that belongs to it.

use super::{Job, LOOK_EVERY};
use crate::error::Result;
use crate::proxmox::{Container, Node, commands, says};
use crate::saga::Cx;
use cpanel::protocol::Level;
use entities::cloudpods::pools::Held;
use entities::cloudpods::settle::Power;
use entities::cloudpods::{names, record};
use entities::error::{Code, Error};
use entities::ids::BackupId;
use entities::servers;
use entities::values::{NodeName, VolumeId};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long a node is waited for that the pod was on before.
const ELSEWHERE: Duration = Duration::from_secs(15);

/// Names first, so that nobody is led to what goes; then the container with its disks and snapshots,
/// then its backups. Its place, addresses and rows go with the end of the job.
pub(super) async fn terminate(cx: &Cx, job: &Job) -> Result<Value> {
    let tx = cx.world.db.system().await?;
    let notes = names::withdraw(&tx, &cx.claim).await?;
    tx.commit().await?;
    for note in &notes {
        cx.log(Level::Info, "names", note).await?;
    }
    let node = Node::of(cx).await?;
    ensure_absent(cx, job, &node).await?;
    if let Some(elsewhere) = node.whereabouts(job.vmid).await? {
        remove_elsewhere(cx, job, &elsewhere).await?;
    }
    cx.log(Level::Info, "terminate", "The container is gone.").await?;
    let backups = remove_backups(cx, job).await?;
    Ok(json!({ "backups_removed": backups }))
}

/// Ensures that there is nothing of this pod on the node but its backups. A container that is not ours
/// stays. A task that is at work is waited for, since what it makes would stay otherwise.
pub(super) async fn ensure_absent(cx: &Cx, job: &Job, node: &Node) -> Result<()> {
    remove_container(cx, job, node).await?;
    super::forget_keys(node, job.vmid).await
}

/// Removes a container that somebody has moved to another node of the cluster. One that has only its
/// number stays.
async fn remove_elsewhere(cx: &Cx, job: &Job, name: &NodeName) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let cluster = job.row.cluster.clone().unwrap_or_default();
    let server = servers::find_by_node(&tx, &cluster, name).await?;
    drop(tx);
    let Some(server) = server else {
        let text = format!(
            "The container {} was moved to {name}, which is not enrolled here: move it back, or remove it there by hand.",
            job.vmid
        );
        return Err(Error::refused(Code::NodeRefused, text));
    };
    let node = Node::connect(&cx.world, &server).await?;
    cx.log(Level::Warn, "terminate", &format!("Its number is in use on {name}.")).await?;
    ensure_absent(cx, job, &node).await
}

async fn remove_container(cx: &Cx, job: &Job, node: &Node) -> Result<()> {
    let seen = Instant::now();
    loop {
        let found = super::identify(node, job.vmid).await?;
        let Some(container) = found else { return Ok(()) };
        if !job.owns(&container) && !job.has_left(cx, &container).await? {
            return refuse_unmarked(job, node, &container);
        }
        if container.lock.is_some() {
            if !node.is_stuck(job.vmid, seen).await? {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
            node.unlock(job.vmid).await?;
        }
        if node.current(job.vmid).await?.power == Power::Running {
            match node.run(&commands::stop(job.vmid), b"").await {
                Err(error) if says(&error, "not running") => {}
                other => {
                    other?;
                }
            }
        }
        match node.work(job.vmid, &commands::destroy(job.vmid)).await {
            Ok(_) => {}
            Err(error) if says(&error, "does not exist") => return Ok(()),
            Err(error) => return Err(error),
        }
        if seen.elapsed() >= node.limit {
            let text = format!("The container {} does not go.", job.vmid);
            return Err(Error::refused(Code::NodeRefused, text));
        }
        cx.log(Level::Info, "terminate", "Looking whether it is gone.").await?;
    }
}

/// A container of somebody else stays, and this pod has none. One that is in all but its mark this pod's
/// is neither removed nor called gone: somebody has to say whose it is.
fn refuse_unmarked(job: &Job, node: &Node, container: &Container) -> Result<()> {
    let has = |held: &Held| container.network.contains(&format!("={},", held.address));
    let is_alike = job.row.made_at.is_some()
        && (container.hostname == job.hostname.as_str() || job.addresses.iter().any(has));
    if !is_alike {
        return Ok(());
    }
    let text = format!(
        "The container {} on {} is called {} and has lost the mark of this CloudPod: put {} into its description again, or remove it by hand.",
        job.vmid,
        node.row.name,
        container.hostname,
        job.mark.text()
    );
    Err(Error::refused(Code::NodeRefused, text))
}

/// Removes the pod's backups from the storages of the nodes that made them.
async fn remove_backups(cx: &Cx, job: &Job) -> Result<usize> {
    let tx = cx.world.db.system().await?;
    let rows = record::backups_of(&tx, job.row.id).await?;
    drop(tx);
    let mut removed = 0;
    let mut silent = BTreeSet::new();
    for row in rows {
        let (Some(server), Some(volume)) = (row.server_id, row.volume) else { continue };
        if silent.contains(&server) {
            record_left(cx, row.id).await?;
            continue;
        }
        let tx = cx.world.db.system().await?;
        let server = servers::load_server(&tx, server).await?;
        drop(tx);
        let freed = async {
            let mut node = Node::connect(&cx.world, &server).await?;
            if server.id != cx.server.id {
                node.limit = node.limit.min(ELSEWHERE);
            }
            free(&node, &VolumeId::parse(&volume)?).await
        };
        match freed.await {
            Ok(()) => removed += 1,
            // Nothing else waits for a node that this pod was on before.
            Err(error) if server.id != cx.server.id => {
                let text = format!(
                    "{volume} on {} is removed as soon as that answers: {error}",
                    server.name
                );
                cx.log(Level::Warn, "terminate", &text).await?;
                record_left(cx, row.id).await?;
                silent.insert(server.id);
            }
            Err(error) => return Err(error),
        }
    }
    // A backup whose end nobody saw has no row.
    let node = Node::of(cx).await?;
    for stored in super::saved::archives(&node, job).await? {
        if job.has_saved(&stored) {
            free(&node, &VolumeId::parse(&stored.volume)?).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// A backup of a pod that goes, on a node that does not answer: whoever looks at that next removes it.
async fn record_left(cx: &Cx, backup: BackupId) -> Result<()> {
    let tx = cx.world.db.system().await?;
    record::record_left(&tx, backup).await?;
    tx.commit().await
}

/// Removes a volume; one that is gone is no error.
pub(crate) async fn free(node: &Node, volume: &VolumeId) -> Result<()> {
    match node.run(&commands::free(volume), b"").await {
        Err(error) if says(&error, "does not exist") || says(&error, "no such") => Ok(()),
        other => other.map(|_said| ()),
    }
}
