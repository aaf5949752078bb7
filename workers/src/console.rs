//! Consoles of containers: `pct console` on a terminal of the node, bridged to whoever asked for it.
//!
//! Each has an SSH connection of its own: one whose reader is slow holds that up, and nothing else.
//! Whatever ends first, the terminal, the one who types or this process, the connection is closed, and
//! sshd hangs up. What `pct console` itself is told by keys (Ctrl-a q) ends it, and no more. What goes
//! through is logged nowhere.

use crate::asks::{for_others, value};
use crate::error::Result;
use crate::proxmox::{Node, commands};
use crate::ssh::Session;
use crate::world::World;
use bytes::Bytes;
use console::{End, Heard, Link, Sender, Size, Why};
use entities::asks::{Ask, Attached, Question};
use entities::cloudpods::settle::Power;
use entities::cloudpods::{self, Status};
use entities::error::{Code, Error};
use entities::ids::{CloudpodId, RowId};
use entities::servers;
use entities::tables::server;
use entities::tenancy::Permission;
use entities::values::Vmid;
use lapin::Connection;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tracing::Instrument;

/// The most consoles of one process.
const CONSOLES: usize = 100;
/// How long a terminal may take nothing of what is typed.
const STUCK: Duration = Duration::from_secs(60);
/// How long all consoles together may take to end with the process.
const GRACE: Duration = Duration::from_secs(5);

/// The consoles that this process serves.
#[derive(Debug, Clone)]
pub struct Consoles {
    world: World,
    connection: Arc<Connection>,
    slots: Arc<Semaphore>,
    open: Arc<Mutex<JoinSet<()>>>,
}

impl Consoles {
    /// None yet; all will go over this connection to the broker.
    #[must_use]
    pub fn new(world: World, connection: Arc<Connection>) -> Self {
        let slots = Arc::new(Semaphore::new(CONSOLES));
        Self { world, connection, slots, open: Arc::default() }
    }

    /// What is served.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Begins the console that is asked for.
    pub async fn answer(&self, ask: &Ask) -> Result<Value> {
        let Question::Console { console, pod, queue } = &ask.question else {
            return Err(for_others(&ask.question));
        };
        let slots = Arc::clone(&self.slots);
        let permit = slots.try_acquire_owned().map_err(|_all_are_taken| {
            let text = "Too many consoles are open. Try again in a minute.";
            Error::refused(Code::QuotaExceeded, text)
        })?;
        let (server, vmid) = self.find(ask, *pod).await?;
        let session = self.world.fleet.connect_for_terminal(&server).await?;
        let size = Size::default();
        let sides = (u32::from(size.cols()), u32::from(size.rows()));
        let channel = session.start_on_terminal(&commands::console(vmid), sides).await?;
        let link = Link::open(&self.connection).await?;
        let attached = Attached { queue: link.queue().to_owned() };
        let (sender, heard) = link.join(queue);
        let bridge = Bridge { id: *console, session, sender };
        let (ending, span) = (self.world.ending.clone(), tracing::Span::current());
        let serving = async move {
            let stopping = async { ending.cancelled().await };
            bridge.serve(channel, heard, stopping).await;
            drop(permit);
        };
        let mut open = self.open.lock().await;
        while open.try_join_next().is_some() {}
        open.spawn(serving.instrument(span));
        tracing::info!(console = %console, pod = %pod, server = %server.name, "console.opened");
        value(&attached)
    }

    /// The server of a pod and its container's number, when the asker may work in it, and the
    /// container is ours and runs.
    async fn find(&self, ask: &Ask, pod: CloudpodId) -> Result<(server::Model, Vmid)> {
        let db = &self.world.db;
        let tx = db.read(&ask.ctx(), Permission::CloudpodsWrite).await?;
        let row = cloudpods::find_pod(&tx, pod).await?;
        drop(tx);
        let state = |text: &str| Error::refused(Code::CloudpodState, text);
        let stopped = || state("This CloudPod does not run. Start it.");
        let on = row.server_id.filter(|_| row.status == Status::Active).ok_or_else(stopped)?;
        let vmid = cloudpods::vmid(&row)?;
        let tx = db.system().await?;
        let server = servers::load_server(&tx, on).await?;
        drop(tx);
        let node = Node::connect(&self.world, &server).await?;
        let gone = || state("There is no container of this CloudPod on its node.");
        let container = node.look(vmid).await?.ok_or_else(gone)?;
        let tag = self.world.dns.tag().await?;
        if !container.mark.is_some_and(|mark| mark.pod == pod && mark.tag == tag) {
            tracing::warn!(%pod, %vmid, server = %server.name, "console.foreign_container");
            return Err(gone());
        }
        match node.current(vmid).await?.power {
            Power::Running => Ok((server, vmid)),
            _ => Err(stopped()),
        }
    }

    /// Waits until all have told their users that the process ends, but not for long.
    pub async fn end(&self) {
        let mut open = self.open.lock().await;
        let telling = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, telling).await.is_err() {
            tracing::warn!("console.left_open");
        }
        open.abort_all();
    }
}

/// A terminal and the one who works in it.
struct Bridge {
    id: RowId,
    session: Session,
    sender: Sender,
}

impl Bridge {
    async fn serve(
        self,
        channel: Channel<Msg>,
        heard: UnboundedReceiver<Heard>,
        stopping: impl Future<Output = ()>,
    ) {
        let (mut read, write) = channel.split();
        let end = tokio::select! {
            shown = show(&mut read, &self.sender) => shown.unwrap_or_else(lost),
            typed = take(heard, &write, &self.sender) => typed.unwrap_or_else(lost),
            () = stopping => {
                End::new(Why::Away, "The worker at the node stops. Open the console again.")
            }
        };
        tracing::info!(console = %self.id, why = ?end.why, "console.closed");
        // Before the farewell, which may have to wait: nobody is left in the terminal.
        drop((read, write));
        tokio::join!(self.session.disconnect(), self.sender.end(end));
    }
}

fn lost(error: Error) -> End {
    tracing::info!(cause = %error.chain(), "console.lost");
    End::new(Why::Away, "The connection to the node was lost. Open the console again.")
}

/// Sends what the terminal shows. The terminal waits while there is no room at the other end.
async fn show(read: &mut ChannelReadHalf, sender: &Sender) -> Result<End> {
    let mut status = None;
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => {
                sender.send_bytes(Bytes::from_owner(data)).await?;
            }
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            ChannelMsg::Failure => {
                return Ok(End::new(Why::Away, "The node gives no terminal. Try again."));
            }
            _ => {}
        }
    }
    Ok(match status {
        Some(_) => End::new(Why::Ended, "The console has ended."),
        None => End::new(Why::Away, "The connection to the node was lost. Open the console again."),
    })
}

/// Takes what is typed to the terminal.
async fn take(
    mut heard: UnboundedReceiver<Heard>,
    write: &ChannelWriteHalf<Msg>,
    sender: &Sender,
) -> Result<End> {
    while let Some(said) = heard.recv().await {
        let cost = said.cost();
        let taking = async {
            match said {
                Heard::Bytes(bytes) => write.data_bytes(bytes).await.map(|()| None),
                Heard::Resize(size) => {
                    let (cols, rows) = (u32::from(size.cols()), u32::from(size.rows()));
                    write.window_change(cols, rows, 0, 0).await.map(|()| None)
                }
                Heard::End(end) => Ok(Some(end)),
            }
        };
        let taken = tokio::time::timeout(STUCK, taking).await;
        let text = "The terminal takes nothing any more. Open the console again.";
        let Ok(taken) = taken else { return Ok(End::new(Why::Away, text)) };
        if let Some(end) = taken.map_err(|error| Error::Unavailable(Box::new(error)))? {
            return Ok(end);
        }
        sender.done(cost).await?;
    }
    Ok(End::new(Why::Away, "Nobody is at the other end any more."))
}
