//! A container's way to another node of its cluster.

use super::{Job, LOOK_EVERY};
use crate::error::Result;
use crate::proxmox::{Container, Node, commands};
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
    let answered = saga.step(AnswersHere).await?;
    let node = saga.step(Migrate).await?;
    saga.step(AnswersThere { answered }).await?;
    Ok(json!({ "node": node }))
}

/// Whether it greets before it goes: its owner may have closed the port, and then nobody greets on the
/// other node either.
#[derive(Debug, Serialize)]
struct AnswersHere;

impl Step for AnswersHere {
    type Output = bool;

    fn name(&self) -> &'static str {
        "look"
    }

    async fn run(&self, cx: &Cx) -> Result<bool> {
        let job = Job::load(cx).await?;
        match job.row.status {
            Status::Active => super::provision::answers(&job).await,
            _ => Ok(false),
        }
    }

    async fn undo(&self, _: &Cx, _: Option<bool>) -> Result<()> {
        Ok(())
    }
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
        let from = Node::of(cx).await?;
        let to = match target(cx, &job).await {
            Err(error) if is_home(&job, &from).await? => {
                let text = format!("It stays where it is: {error}");
                return Err(Error::refused(Code::NodeRefused, text));
            }
            there => there?,
        };
        carry(cx, &job, &from, &to).await?;
        Ok(to.row.name)
    }

    /// It runs where it came from, too, when it did: a move that died half-way has stopped it.
    async fn undo(&self, cx: &Cx, _: Option<String>) -> Result<()> {
        let job = Job::load(cx).await?;
        let to = Node::of(cx).await?;
        if !is_home(&job, &to).await? {
            carry(cx, &job, &target(cx, &job).await?, &to).await?;
        }
        match job.row.status {
            Status::Active => super::provision::start(&to, job.vmid).await,
            _ => Ok(()),
        }
    }
}

/// Whether the container is where it came from, with nothing on its way: then the other node, which may
/// be the one that has died, is not asked.
async fn is_home(job: &Job, home: &Node) -> Result<bool> {
    let is_here = home.look(job.vmid).await?.is_some_and(|c| job.owns(&c) && c.lock.is_none());
    Ok(is_here && !home.is_busy(job.vmid).await?)
}

/// Brings the container from one node to the other, unless it is there. While a task moves it, both are
/// waited for; a lock that stays is a dead task's, and is let go of where it is.
async fn carry(cx: &Cx, job: &Job, from: &Node, to: &Node) -> Result<()> {
    let seen = Instant::now();
    loop {
        let (at, container) = whereabouts(job, from, to).await?;
        let is_there = at.row.server_id == to.row.server_id;
        match (container.lock, is_there) {
            (None, true) => return Ok(()),
            (None, false) => {
                let text = format!("From {} to {}.", from.row.name, to.row.name);
                cx.log(Level::Info, "migrate", &text).await?;
                from.work(job.vmid, &commands::migrate(job.vmid, &to.name)).await?;
            }
            // The task is where it came from, wherever the container is by now.
            (Some(_), _)
                if from.is_stuck(job.vmid, seen).await? && to.is_stuck(job.vmid, seen).await? =>
            {
                at.unlock(job.vmid).await?;
            }
            (Some(_), _) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// On which of the two nodes the container is. It goes from one to the other between two looks.
async fn whereabouts<'a>(job: &Job, from: &'a Node, to: &'a Node) -> Result<(&'a Node, Container)> {
    for node in [to, from, to] {
        match node.look(job.vmid).await? {
            Some(container) if job.owns(&container) => return Ok((node, container)),
            Some(container) => return Err(super::foreign(node, job.vmid, &container)),
            None => {}
        }
    }
    let text = format!("The container {} is on neither node.", job.vmid);
    Err(Error::refused(Code::NodeRefused, text))
}

#[derive(Debug, Serialize)]
struct AnswersThere {
    answered: bool,
}

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
        if self.answered {
            super::provision::await_ready(cx, &job).await?;
        }
        Ok(())
    }

    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}
