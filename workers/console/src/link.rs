//! One end of the road.

use crate::words::{Control, End, Heard, Size, Why};
use crate::{ALIVE, HEAD, PIECE, SILENCE, WINDOW};
use bytes::Bytes;
use entities::Result;
use entities::error::{Error, in_time};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Of messages that are the terminal's bytes as they are; all others are JSON.
const BYTES: &str = "bytes";
/// How long the broker may take to answer; one that is short of memory never has a message in a queue.
const CONFIRM: Duration = Duration::from_secs(15);
/// How much of what was taken in hand is gathered before the other is told.
const GATHERED: usize = WINDOW / 4;

/// One's own queue, before it is known where the other's is.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    consumer: Consumer,
    queue: String,
}

impl Link {
    /// Makes a queue that nobody else reads and that goes with its reader. It takes less than twice
    /// what may be on the way, so that a sender who keeps to no window is refused by the broker.
    pub async fn open(connection: &Connection) -> Result<Self> {
        let channel = in_time(CONFIRM, connection.create_channel()).await?;
        in_time(CONFIRM, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let own = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let mut bounds = FieldTable::default();
        let most = i64::try_from(WINDOW.saturating_mul(2)).map_err(Error::internal)?;
        bounds.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(most));
        bounds.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        let declared = in_time(CONFIRM, channel.queue_declare("".into(), own, bounds)).await?;
        let queue = declared.name().to_string();
        let unacknowledged =
            BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let name = ShortString::from(queue.clone());
        let consuming =
            channel.basic_consume(name, "".into(), unacknowledged, FieldTable::default());
        let consumer = in_time(CONFIRM, consuming).await?;
        Ok(Self { channel, consumer, queue })
    }

    /// Where the other is to send to.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Begins to talk with whoever reads `peer`. What comes from there comes from the receiver, which
    /// ends with [`Heard::End`] when the other has died, too. It holds a window's worth at most.
    #[must_use]
    pub fn join(self, peer: &str) -> (Sender, mpsc::UnboundedReceiver<Heard>) {
        let line = Arc::new(Line {
            channel: self.channel,
            peer: ShortString::from(peer.to_owned()),
            room: Semaphore::new(WINDOW),
            open: AtomicUsize::new(0),
            gathered: AtomicUsize::new(0),
        });
        let (heard, receiver) = mpsc::unbounded_channel();
        let listening = tokio::spawn(listen(Arc::clone(&line), self.consumer, heard));
        (Sender { line, listening }, receiver)
    }
}

#[derive(Debug)]
struct Line {
    channel: Channel,
    peer: ShortString,
    /// What the other has room for.
    room: Semaphore,
    /// What has come and was not said to be done.
    open: AtomicUsize,
    /// What was done and not yet told.
    gathered: AtomicUsize,
}

/// Sends to the other side. When it is dropped nothing more is heard, and the queue goes.
#[derive(Debug)]
pub struct Sender {
    line: Arc<Line>,
    listening: JoinHandle<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Sender {
    /// Sends bytes, waiting until the other has room for them. If it is dropped half-way some of them
    /// were sent.
    pub async fn send_bytes(&self, mut bytes: Bytes) -> Result<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            self.line.take_room(piece.len().saturating_add(HEAD)).await?;
            let kind = BasicProperties::default().with_type(BYTES.into());
            self.line.publish(&piece, kind).await?;
        }
        Ok(())
    }

    /// Tells how large the terminal is to be, waiting as bytes do.
    pub async fn resize(&self, size: Size) -> Result<()> {
        self.line.take_room(HEAD).await?;
        self.line.say(&Control::Resize(size)).await
    }

    /// So much of what was heard is taken in hand: the other may send as much again.
    pub async fn done(&self, cost: usize) -> Result<()> {
        let line = &self.line;
        line.open.fetch_sub(cost, Ordering::Relaxed);
        let gathered = line.gathered.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
        if gathered < GATHERED {
            return Ok(());
        }
        line.gathered.fetch_sub(gathered, Ordering::Relaxed);
        line.say(&Control::Done(gathered)).await
    }

    /// Tells the other that this is the end, and lets the queue go. An other that has died learns
    /// nothing, and needs not.
    pub async fn end(self, end: End) {
        self.listening.abort();
        let farewell = async {
            if let Err(error) = self.line.say(&Control::End(end)).await {
                tracing::debug!(cause = %error.chain(), "console.nobody_there");
            }
            if let Err(error) = self.line.channel.close(200, "".into()).await {
                tracing::debug!(%error, "console.channel_was_gone");
            }
        };
        if tokio::time::timeout(CONFIRM, farewell).await.is_err() {
            tracing::debug!("console.broker_does_not_answer");
        }
    }
}

impl Line {
    async fn take_room(&self, cost: usize) -> Result<()> {
        let cost = u32::try_from(cost).map_err(Error::internal)?;
        self.room.acquire_many(cost).await.map_err(Error::internal)?.forget();
        Ok(())
    }

    async fn say(&self, control: &Control) -> Result<()> {
        self.publish(&serde_json::to_vec(control)?, BasicProperties::default()).await
    }

    /// Done when the broker has it in the other's queue. The broker hands back what is for a queue
    /// that is gone.
    async fn publish(&self, payload: &[u8], properties: BasicProperties) -> Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing = async {
            let peer = self.peer.clone();
            self.channel.basic_publish("".into(), peer, options, payload, properties).await?.await
        };
        let confirmation = in_time(CONFIRM, publishing).await?;
        match confirmation.is_ack() && confirmation.take_message().is_none() {
            true => Ok(()),
            false => Err(Error::Unavailable("nobody is at the console's other end".into())),
        }
    }

    /// What a message says to the one who listens; none: it was for the road itself.
    fn read(&self, delivery: &Delivery) -> Result<Option<Heard>> {
        let is_bytes = delivery.properties.kind().as_ref().is_some_and(|k| k.as_str() == BYTES);
        let heard = if is_bytes {
            Heard::Bytes(Bytes::copy_from_slice(&delivery.data))
        } else {
            match serde_json::from_slice(&delivery.data)? {
                Control::Alive => return Ok(None),
                Control::Done(cost) => {
                    let most = WINDOW.saturating_sub(self.room.available_permits());
                    self.room.add_permits(cost.min(most));
                    return Ok(None);
                }
                Control::Resize(size) => Heard::Resize(size),
                Control::End(end) => Heard::End(end),
            }
        };
        let cost = heard.cost();
        let open = self.open.fetch_add(cost, Ordering::Relaxed).saturating_add(cost);
        if open > WINDOW {
            return Err(Error::internal(
                "the console's other end sends more than there is room for",
            ));
        }
        Ok(Some(heard))
    }
}

async fn listen(line: Arc<Line>, consumer: Consumer, heard: mpsc::UnboundedSender<Heard>) {
    let end = match hear_all(&line, consumer, &heard).await {
        Ok(end) => end,
        Err(error) => {
            tracing::info!(cause = %error.chain(), "console.road_lost");
            End::new(Why::Away, "The connection to the node was lost. Open the console again.")
        }
    };
    if heard.send(Heard::End(end)).is_err() {
        tracing::trace!("console.nobody_listens");
    }
}

/// Passes on what comes until the other has ended, and gives signs of life.
async fn hear_all(
    line: &Line,
    mut consumer: Consumer,
    heard: &mpsc::UnboundedSender<Heard>,
) -> Result<End> {
    let mut pulse = tokio::time::interval(ALIVE);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            delivery = consumer.next() => {
                let delivery = delivery
                    .ok_or_else(|| Error::Unavailable("the broker ended the channel".into()))?
                    .map_err(lost)?;
                last = Instant::now();
                match line.read(&delivery)? {
                    Some(Heard::End(end)) => return Ok(end),
                    Some(said) => drop(heard.send(said)),
                    None => {}
                }
            }
            _ = pulse.tick() => {
                if last.elapsed() > SILENCE {
                    return Err(Error::Unavailable("the console's other end is silent".into()));
                }
                line.say(&Control::Alive).await?;
            }
        }
    }
}

fn lost(error: lapin::Error) -> Error {
    Error::Unavailable(Box::new(error))
}
