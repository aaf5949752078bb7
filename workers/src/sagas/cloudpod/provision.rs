//! Making a container: template, container, guard, start, names, and whether it answers.

use super::{Job, LOOK_EVERY, terminate, with_keys};
use crate::error::Result;
use crate::proxmox::{ApiPath, KeysFile, Node, commands, says};
use crate::saga::{Cx, Saga, Step};
use cpanel::protocol::Level;
use entities::cloudpods::settle::Power;
use entities::cloudpods::{names, record, templates};
use entities::error::{Code, Error};
use entities::values::{BridgeName, StorageId, Vmid};
use serde::Serialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The function of the saga.
pub(super) async fn provision(saga: &mut Saga) -> Result<Value> {
    saga.step(FetchTemplate).await?;
    let vmid = saga.step(CreateContainer).await?;
    saga.step(Guard).await?;
    saga.step(Start).await?;
    let notes = saga.step(PublishNames).await?;
    let answered = saga.step(AwaitReady).await?;
    Ok(json!({ "vmid": vmid, "dns": notes, "answered": answered }))
}

/// The archive that the container is installed from lies on the node.
#[derive(Debug, Serialize)]
struct FetchTemplate;

impl Step for FetchTemplate {
    type Output = String;

    fn name(&self) -> &'static str {
        "template"
    }

    async fn run(&self, cx: &Cx) -> Result<String> {
        let job = Job::load(cx).await?;
        fetch(cx, &job, &Node::of(cx).await?).await
    }

    /// It serves others, too.
    async fn undo(&self, _: &Cx, _: Option<String>) -> Result<()> {
        Ok(())
    }
}

/// Ensures that the archive that a pod is installed from lies on its node: its volume.
pub(super) async fn fetch(cx: &Cx, job: &Job, node: &Node) -> Result<String> {
    let tx = cx.world.db.system().await?;
    let archive = templates::archive_of(&tx, &job.size.template).await?;
    drop(tx);
    let storage = StorageId::parse(&node.row.template_storage)?;
    let volume = format!("{storage}:vztmpl/{archive}");
    let content = node.content(&storage).await?;
    if !content.iter().any(|stored| stored.volume == volume) {
        cx.log(Level::Info, "template", &format!("Fetching {archive} to {storage}.")).await?;
        node.run(&commands::download(&storage, &archive), b"").await?;
    }
    Ok(volume)
}

/// The container, with this pod's mark in its description.
#[derive(Debug, Serialize)]
struct CreateContainer;

impl Step for CreateContainer {
    type Output = Vmid;

    fn name(&self) -> &'static str {
        "create"
    }

    async fn run(&self, cx: &Cx) -> Result<Vmid> {
        let job = Job::load(cx).await?;
        let node = Node::of(cx).await?;
        ensure(cx, &job, &node).await?;
        Ok(job.vmid)
    }

    async fn undo(&self, cx: &Cx, _: Option<Vmid>) -> Result<()> {
        let job = Job::load(cx).await?;
        let node = Node::of(cx).await?;
        terminate::ensure_absent(cx, &job, &node).await
    }
}

/// Makes the container unless there is one of this pod: a create whose answer was lost may have made
/// it, or be about to. A guest that is not ours keeps its number, and is told apart from now on.
pub(super) async fn ensure(cx: &Cx, job: &Job, node: &Node) -> Result<()> {
    if let Some(container) = super::identify(node, job.vmid).await? {
        if !job.owns(&container) {
            let tx = cx.world.db.system().await?;
            let place = (node.row.cluster.as_str(), job.vmid);
            record::record_guest(&tx, place, cx.server.id, Some(&container.hostname)).await?;
            tx.commit().await?;
            return Err(super::foreign(node, job.vmid, &container));
        }
        cx.log(Level::Info, "create", "The container is there: it is taken as it is.").await?;
        // The worker that has given the command may have died before it took its file away.
        super::forget_keys(node, job.vmid).await?;
        return settled(cx, job, node).await;
    }
    if let Some(elsewhere) = node.whereabouts(job.vmid).await? {
        let tx = cx.world.db.system().await?;
        let place = (node.row.cluster.as_str(), job.vmid);
        record::record_guest(&tx, place, cx.server.id, None).await?;
        tx.commit().await?;
        let text = format!("The number {} belongs to a guest on {elsewhere}.", job.vmid);
        return Err(Error::refused(Code::VmidTaken, text));
    }
    let bridge = BridgeName::parse(&node.row.bridge)?;
    let mut new = job.create(cx, &bridge, node).await?;
    let keys = job.keys()?;
    let made = with_keys(node, job.vmid, &keys, async || {
        new.keys = (!keys.is_empty()).then_some(KeysFile(job.vmid));
        node.work(job.vmid, &commands::create(&new)).await
    });
    match made.await {
        Ok(_) => settled(cx, job, node).await,
        // Somebody was quicker: the next look tells who.
        Err(error) if says(&error, "already exists") => {
            let text = "Something of this number has appeared: it is looked at.";
            Err(Error::refused(Code::NodeUnknown, text))
        }
        Err(error) => Err(error),
    }
}

/// Waits until a container is whole. One whose making has died half-way is removed, to be made anew.
async fn settled(cx: &Cx, job: &Job, node: &Node) -> Result<()> {
    let seen = Instant::now();
    loop {
        let Some(container) = node.look(job.vmid).await? else {
            let text = "The container went while it was being made: it is made anew.";
            return Err(Error::refused(Code::NodeUnknown, text));
        };
        match container.lock.as_deref() {
            None if container.disk_mib.is_some() => return Ok(()),
            Some(_) if !node.is_stuck(job.vmid, seen).await? => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            _ => {
                cx.log(Level::Warn, "create", "It was left half-made: it is removed.").await?;
                terminate::ensure_absent(cx, job, node).await?;
                let text = "A container that was left half-made was removed: it is made anew.";
                return Err(Error::refused(Code::NodeUnknown, text));
            }
        }
    }
}

/// Nobody in the container can use an address that is not its own.
#[derive(Debug, Serialize)]
struct Guard;

impl Step for Guard {
    type Output = ();

    fn name(&self) -> &'static str {
        "guard"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let job = Job::load(cx).await?;
        guard(&Node::of(cx).await?, job.vmid).await
    }

    /// It goes with the container.
    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

pub(super) async fn guard(node: &Node, vmid: Vmid) -> Result<()> {
    let path = ApiPath::container(&node.name, vmid).part("firewall").part("options");
    node.run(&commands::guard(&path), b"").await.map(|_said| ())
}

/// It runs.
#[derive(Debug, Serialize)]
struct Start;

impl Step for Start {
    type Output = ();

    fn name(&self) -> &'static str {
        "start"
    }

    async fn run(&self, cx: &Cx) -> Result<()> {
        let job = Job::load(cx).await?;
        start(&Node::of(cx).await?, job.vmid).await
    }

    /// It is stopped with the container's end.
    async fn undo(&self, _: &Cx, _: Option<()>) -> Result<()> {
        Ok(())
    }
}

pub(super) async fn start(node: &Node, vmid: Vmid) -> Result<()> {
    if node.current(vmid).await?.power == Power::Running {
        return Ok(());
    }
    match node.run(&commands::start(vmid), b"").await {
        Err(error) if says(&error, "already running") => Ok(()),
        other => other.map(|_said| ()),
    }
}

/// Its names in the DNS, where there are zones for them.
#[derive(Debug, Serialize)]
struct PublishNames;

impl Step for PublishNames {
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        "names"
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<String>> {
        let tx = cx.world.db.system().await?;
        let notes = names::publish(&tx, &cx.claim).await?;
        tx.commit().await?;
        for note in &notes {
            cx.log(Level::Info, self.name(), note).await?;
        }
        Ok(notes)
    }

    async fn undo(&self, cx: &Cx, _: Option<Vec<String>>) -> Result<()> {
        let tx = cx.world.db.system().await?;
        names::withdraw(&tx, &cx.claim).await?;
        tx.commit().await
    }
}

/// It answers over the network.
#[derive(Debug, Serialize)]
struct AwaitReady;

impl Step for AwaitReady {
    type Output = String;

    fn name(&self) -> &'static str {
        "ready"
    }

    async fn run(&self, cx: &Cx) -> Result<String> {
        let job = Job::load(cx).await?;
        await_ready(cx, &job).await
    }

    async fn undo(&self, _: &Cx, _: Option<String>) -> Result<()> {
        Ok(())
    }
}

/// Waits until the container's SSH server greets, at its IPv4 address when it has one: workers need not
/// have IPv6. The address that answered.
pub(super) async fn await_ready(cx: &Cx, job: &Job) -> Result<String> {
    let address = address_of(job)?;
    let until = Instant::now() + Duration::from_secs(cx.world.config.ready_secs);
    loop {
        if greets(address).await {
            cx.log(Level::Info, "ready", &format!("It answers at {address}.")).await?;
            return Ok(address.to_string());
        }
        if Instant::now() >= until {
            let text = format!(
                "The container runs and does not answer at {address} within {} s. Check the node's bridge and its route to the workers, and that the template starts an SSH server.",
                cx.world.config.ready_secs
            );
            return Err(Error::refused(Code::NotReady, text));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn address_of(job: &Job) -> Result<IpAddr> {
    let address = job.addresses.first().map(|held| held.address.addr());
    address.ok_or_else(|| Error::internal("a pod without an address"))
}

/// Whether it greets, now or within some seconds.
pub(super) async fn answers(job: &Job) -> Result<bool> {
    let address = address_of(job)?;
    for _ in 0..3 {
        if greets(address).await {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

/// Waits for it like [`await_ready`], and tells when nobody greets: what is in the container is its
/// owner's, who may have closed the port.
pub(super) async fn expect_ready(cx: &Cx, job: &Job) -> Result<bool> {
    match await_ready(cx, job).await {
        Ok(_address) => Ok(true),
        Err(error) if error.code() == Code::NotReady => {
            cx.log(Level::Warn, "ready", &error.to_string()).await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn greets(address: IpAddr) -> bool {
    let greeted = async {
        let mut stream = TcpStream::connect(SocketAddr::new(address, 22)).await?;
        let mut begin = [0u8; 4];
        stream.read_exact(&mut begin).await?;
        Ok::<_, std::io::Error>(begin == *b"SSH-")
    };
    matches!(tokio::time::timeout(Duration::from_secs(3), greeted).await, Ok(Ok(true)))
}
