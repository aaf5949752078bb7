//! A container's way to another node of its cluster.

use super::{Job, LOOK_EVERY};
use crate::error::Result;
use crate::proxmox::{Node, commands};
use crate::saga::{Cx, Saga, Step};
use cpanel::protocol::Level;
use entities::cloudpods::Status;
use entities::cloudpods::actions::Target;
use entities::error::{Code, Error};
use entities::servers;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Instant;

/// The function of the saga.
pub(super) async fn relocate(saga: &mut Saga) -> Result<Value> {
    let node = saga.step(Migrate).await?;
    saga.step(AnswersThere).await?;
    Ok(json!({ "node": node }))
}

#[derive(Debug, Serialize)]
struct Migrate;

async fn target(cx: &Cx, job: &Job) -> Result<Node> {
    let Target { server } = job.parameters()?;
    let tx = cx.world.db.system().await?;
    let server = servers::load_server(&tx, server).await?;
    drop(tx);
    Node::connect(&cx.world, &server).await
}

impl Step for Migrate {
    type Output = String;

    fn name(&self) -> &'static str {
        "migrate"
    }

    async fn run(&self, cx: &Cx) -> Result<String> {
        let job = Job::load(cx).await?;
        let to = target(cx, &job).await?;
        carry(cx, &job, &Node::of(cx).await?, &to).await?;
        Ok(to.row.name)
    }

    async fn undo(&self, cx: &Cx, _: Option<String>) -> Result<()> {
        let job = Job::load(cx).await?;
        let from = target(cx, &job).await?;
        carry(cx, &job, &from, &Node::of(cx).await?).await
    }
}

/// Brings the container from one node to the other, unless it is there. While a task moves it, both are
/// waited for.
async fn carry(cx: &Cx, job: &Job, from: &Node, to: &Node) -> Result<()> {
    let until = Instant::now() + from.limit;
    loop {
        if let Some(container) = to.look(job.vmid).await? {
            if !job.owns(&container) {
                return Err(super::foreign(to, job.vmid, &container));
            }
            if container.lock.is_none() {
                return Ok(());
            }
        } else if let Some(container) = from.look(job.vmid).await? {
            if !job.owns(&container) {
                return Err(super::foreign(from, job.vmid, &container));
            }
            if container.lock.is_none() {
                let text = format!("From {} to {}.", from.row.name, to.row.name);
                cx.log(Level::Info, "migrate", &text).await?;
                from.run(&commands::migrate(job.vmid, &to.name), b"").await?;
                continue;
            }
        } else {
            let text = format!("The container {} is on neither node.", job.vmid);
            return Err(Error::refused(Code::NodeRefused, text));
        }
        if Instant::now() >= until {
            from.unlock(job.vmid).await?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[derive(Debug, Serialize)]
struct AnswersThere;

impl Step for AnswersThere {
    type Output = ();

    fn name(&self) -> &'static str {
        "ready"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let job = Job::load(cx).await?;
        if job.row.status != Status::Active {
            return Ok(());
        }
        let to = target(cx, &job).await?;
        super::provision::start(&to, job.vmid).await?;
        super::provision::await_ready(cx, &job).await.map(|_answered| ())
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}
