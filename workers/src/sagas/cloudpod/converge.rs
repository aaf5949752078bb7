//! Starting, stopping and installing anew: may run any number of times.

use super::{Job, authorized_keys, provision, terminate, with_keys};
use crate::error::Result;
use crate::proxmox::{KeysFile, Node, commands, says};
use crate::saga::Cx;
use cpanel::protocol::Level;
use entities::cloudpods::settle::Power;
use entities::cloudpods::{Act, Status, record};
use entities::error::Error;
use entities::values::{AbsPath, SshKey};
use serde_json::{Value, json};

pub(super) async fn start(cx: &Cx, job: &Job) -> Result<Value> {
    let node = job.at_rest(cx).await?;
    provision::start(&node, job.vmid).await?;
    Ok(json!({}))
}

pub(super) async fn stop(cx: &Cx, job: &Job) -> Result<Value> {
    let force = matches!(job.parameters()?, Act::Stop { force: true });
    let node = job.at_rest(cx).await?;
    ensure_stopped(&node, job, force).await?;
    Ok(json!({}))
}

async fn ensure_stopped(node: &Node, job: &Job, force: bool) -> Result<()> {
    if node.current(job.vmid).await?.power != Power::Running {
        return Ok(());
    }
    let command = if force { commands::stop(job.vmid) } else { commands::shutdown(job.vmid) };
    match node.run(&command, b"").await {
        Err(error) if says(&error, "not running") => Ok(()),
        other => other.map(|_said| ()),
    }
}

/// A job that is taken up again after its reboot was lost reboots again: it was asked to.
pub(super) async fn reboot(cx: &Cx, job: &Job) -> Result<Value> {
    let node = job.at_rest(cx).await?;
    match node.current(job.vmid).await?.power {
        Power::Running => {
            node.run(&commands::reboot(job.vmid), b"").await?;
        }
        _ => provision::start(&node, job.vmid).await?,
    }
    Ok(json!({}))
}

/// Stopped, and not started with its node either.
pub(super) async fn suspend(cx: &Cx, job: &Job) -> Result<Value> {
    let node = job.at_rest(cx).await?;
    node.run(&commands::onboot(job.vmid, false), b"").await?;
    ensure_stopped(&node, job, false).await?;
    Ok(json!({}))
}

/// As it was before it was suspended.
pub(super) async fn unsuspend(cx: &Cx, job: &Job) -> Result<Value> {
    let node = job.at_rest(cx).await?;
    node.run(&commands::onboot(job.vmid, true), b"").await?;
    if job.row.was_running {
        provision::start(&node, job.vmid).await?;
    }
    Ok(json!({}))
}

/// Root's keys, through a file: no key stands in an argument. It must run for that, and is stopped
/// again when it did not.
pub(super) async fn root_keys(cx: &Cx, job: &Job) -> Result<Value> {
    let Act::RootKeys { ssh_keys } = job.parameters()? else {
        return Err(Error::internal("a job for keys without keys"));
    };
    let node = job.at_rest(cx).await?;
    // Not what the node says: an attempt that was lost may have started it.
    let was_running = job.row.status == Status::Active;
    provision::start(&node, job.vmid).await?;
    push_keys(&node, job, &ssh_keys).await?;
    if !was_running {
        ensure_stopped(&node, job, false).await?;
    }
    Ok(json!({ "keys": ssh_keys.len() }))
}

async fn push_keys(node: &Node, job: &Job, keys: &[SshKey]) -> Result<()> {
    let to = AbsPath::parse("/root/.ssh/authorized_keys")?;
    let exec = commands::exec(job.vmid, &["/bin/mkdir", "-p", "-m", "0700", "/root/.ssh"]);
    node.run_soon(&exec).await?;
    let file = KeysFile(job.vmid);
    tracing::debug!(bytes = authorized_keys(keys).len(), "pod.keys");
    with_keys(node, job.vmid, keys, async || {
        node.run_soon(&commands::push(job.vmid, &file, &to)).await.map(|_said| ())
    })
    .await
}

/// The container goes and is made anew, with its number, addresses and names. One that is there already
/// and was made by this very job is the new one.
pub(super) async fn reinstall(cx: &Cx, job: &Job) -> Result<Value> {
    let Act::Reinstall { template, ssh_keys } = job.parameters()? else {
        return Err(Error::internal("a job to reinstall without what with"));
    };
    let mut anew = Job::load(cx).await?;
    if let Some(template) = template {
        anew.size.template = template;
    }
    if let Some(keys) = ssh_keys {
        anew.row.ssh_keys = json!(keys);
    }
    let node = Node::of(cx).await?;
    let standing = super::identify(&node, job.vmid).await?;
    let by_us =
        standing.as_ref().and_then(|c| c.mark.as_ref()).is_some_and(|m| m.job == cx.claim.job);
    if !by_us {
        // Before anything is lost.
        provision::fetch(cx, &anew, &node).await?;
        cx.log(Level::Info, "reinstall", "The old container is removed.").await?;
        terminate::ensure_absent(cx, job, &node).await?;
    }
    provision::ensure(cx, &anew, &node).await?;
    let tx = cx.world.db.system().await?;
    record::record_replaced(&tx, &cx.claim).await?;
    tx.commit().await?;
    provision::guard(&node, job.vmid).await?;
    provision::start(&node, job.vmid).await?;
    provision::await_ready(cx, &anew).await?;
    Ok(json!({ "template": anew.size.template }))
}
