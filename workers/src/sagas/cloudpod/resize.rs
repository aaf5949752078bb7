//! Cores and memory both ways, a disk only up.

use super::Job;
use crate::error::Result;
use crate::proxmox::{Disk, Mebibytes, Node, commands};
use crate::saga::{Cx, Saga, Step};
use cpanel::protocol::Level;
use entities::cloudpods::{Size, record};
use serde::Serialize;
use serde_json::{Value, json};

/// The function of the saga. The disk comes last, since it cannot be taken back.
pub(super) async fn resize(saga: &mut Saga) -> Result<Value> {
    saga.step(SetSize).await?;
    saga.step(GrowDisk).await?;
    Ok(json!({}))
}

#[derive(Debug, Serialize)]
struct SetSize;

impl Step for SetSize {
    type Output = ();

    fn name(&self) -> &'static str {
        "cores_and_memory"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let job = Job::load(cx).await?;
        let size: Size = job.parameters()?;
        set(cx, &job, &size).await
    }

    async fn undo(&self, cx: &Cx, _: Option<()>) -> Result<()> {
        let job = Job::load(cx).await?;
        let before = job.size.clone();
        set(cx, &job, &before).await
    }
}

async fn set(cx: &Cx, job: &Job, size: &Size) -> Result<()> {
    let node = job.at_rest(cx).await?;
    let memory = Mebibytes(size.memory_mib);
    node.run(&commands::set_size(job.vmid, size.cpu_cores, memory), b"").await.map(|_said| ())
}

#[derive(Debug, Serialize)]
struct GrowDisk;

impl Step for GrowDisk {
    type Output = ();

    fn name(&self) -> &'static str {
        "disk"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let job = Job::load(cx).await?;
        let size: Size = job.parameters()?;
        let node = job.at_rest(cx).await?;
        grow(cx, &job, &node, size.disk_mib).await
    }

    /// A disk never shrinks: one that has grown before the failure stays so, and takes its room.
    async fn undo(&self, cx: &Cx, _: Option<()>) -> Result<()> {
        let job = Job::load(cx).await?;
        let node = job.at_rest(cx).await?;
        let container = node.look(job.vmid).await?;
        let has = container.and_then(|container| container.disk_mib).unwrap_or(0);
        if has <= job.size.disk_mib {
            return Ok(());
        }
        cx.log(
            Level::Warn,
            self.name(),
            &format!("The disk has {has} MiB by now, and keeps them."),
        )
        .await?;
        let tx = cx.world.db.system().await?;
        record::record_disk(&tx, &cx.claim, has).await?;
        tx.commit().await
    }
}

/// Lets the disk have so much. It may have grown before an answer was lost.
pub(super) async fn grow(cx: &Cx, job: &Job, node: &Node, mebibytes: u32) -> Result<()> {
    let container = node.look(job.vmid).await?;
    let has = container.and_then(|container| container.disk_mib).unwrap_or(0);
    if has >= mebibytes {
        return Ok(());
    }
    cx.log(Level::Info, "disk", &format!("From {has} to {mebibytes} MiB.")).await?;
    node.run(&commands::resize(job.vmid, Disk(mebibytes)), b"").await.map(|_said| ())
}
