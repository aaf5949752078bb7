//! Asking a worker and waiting for its answer: the one place where the API speaks AMQP. Questions
//! go to a queue that workers consume, answers come back by RabbitMQ's direct reply-to. A console's
//! road ([`console`]) begins here, too.

use console::Link;
use entities::Result;
use entities::asks::{Answer, Ask, Question};
use entities::error::{Code, Error, in_time};
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};
use uuid::Uuid;

/// How long the broker may take for what it does by itself. The library never answers what it is asked
/// in the moment in which it loses the connection.
const BROKER: Duration = Duration::from_secs(5);
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>>;

/// Asks workers. Connects when it is first used and again after the broker was away.
#[derive(Debug)]
pub struct Asker {
    url: SecretString,
    patience: Duration,
    /// Where the connection lives: with the process. The runtime of the request that needs it first
    /// may end before others' do.
    home: Handle,
    live: Mutex<Option<Arc<Live>>>,
}

#[derive(Debug)]
struct Live {
    connection: Connection,
    channel: Channel,
    waiting: Waiting,
}

impl Asker {
    /// An asker that waits `patience` for an answer. Its connection lives in the runtime that this is
    /// called in.
    #[must_use]
    pub fn new(url: SecretString, patience: Duration) -> Self {
        Self { url, patience, home: Handle::current(), live: Mutex::new(None) }
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks and reads the answer. No worker listens: `no_worker`; none answers in time:
    /// `worker_timeout`; both say that the same request may work later.
    pub async fn ask<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T> {
        let payload = serde_json::to_vec(ask)?;
        let live = self.live().await?;
        self.check_worker(&live, &ask.question).await?;
        let id = Uuid::now_v7().to_string();
        let (sender, receiver) = oneshot::channel();
        live.waiting.lock().await.insert(id.clone(), sender);
        let answered = self.exchange(&live, &id, (&ask.question, &payload), receiver).await;
        live.waiting.lock().await.remove(&id);
        match serde_json::from_slice(&answered?)? {
            Answer::Ok { value } => Ok(serde_json::from_value(value)?),
            Answer::Refused { code: Code::Internal, .. } => Err(Error::internal(
                "the worker failed; its log has the cause under this request id",
            )),
            Answer::Refused { code, message, fields } => {
                Err(Error::Refused { code, message, fields })
            }
        }
    }

    /// One's own end of a console's road.
    pub async fn link(&self) -> Result<Link> {
        Link::open(&self.live().await?.connection).await
    }

    /// Whether the broker answers.
    pub async fn ping(&self) -> Result<()> {
        self.live().await.map(|_| ())
    }

    async fn exchange(
        &self,
        live: &Live,
        id: &str,
        (question, payload): (&Question, &[u8]),
        receiver: oneshot::Receiver<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let properties = BasicProperties::default()
            .with_reply_to(REPLY_TO.into())
            .with_correlation_id(id.into())
            .with_expiration(ShortString::from(self.patience.as_millis().to_string()));
        let (queue, options) = (question.queue().into(), BasicPublishOptions::default());
        let publishing = async {
            live.channel.basic_publish("".into(), queue, options, payload, properties).await?.await
        };
        in_time(self.patience, publishing).await?;
        match tokio::time::timeout(self.patience, receiver).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(closed)) => Err(Error::Unavailable(Box::new(closed))),
            Err(_elapsed) => Err(Error::refused(
                Code::WorkerTimeout,
                format!(
                    "No worker answered within {} seconds. Try again, and see the log of {}.",
                    self.patience.as_secs(),
                    question.answered_by()
                ),
            )),
        }
    }

    /// A question without a listener would only expire: say so at once.
    async fn check_worker(&self, live: &Live, question: &Question) -> Result<()> {
        let none = || {
            let who = question.answered_by();
            let text = format!("No worker for this is running. Start {who} and try again.");
            Error::refused(Code::NoWorker, text)
        };
        let queue = question.queue();
        let probe = in_time(BROKER, live.connection.create_channel()).await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declaring = probe.queue_declare(queue.into(), options, FieldTable::default());
        let consumers = match in_time(BROKER, declaring).await {
            Ok(queue) => queue.consumer_count(),
            Err(error) => {
                tracing::debug!(cause = %error.chain(), "ask.no_queue");
                return Err(none());
            }
        };
        if let Err(error) = in_time(BROKER, probe.close(200, "".into())).await {
            tracing::debug!(cause = %error.chain(), "ask.probe_not_closed");
        }
        if consumers == 0 { Err(none()) } else { Ok(()) }
    }

    async fn live(&self) -> Result<Arc<Live>> {
        let mut slot = self.live.lock().await;
        if let Some(live) = slot.as_ref()
            && live.connection.status().connected()
            && live.channel.status().connected()
        {
            return Ok(Arc::clone(live));
        }
        let connecting = self.home.spawn(connect(self.url.clone()));
        let live = in_time(BROKER, connecting).await??;
        let live = Arc::new(live);
        *slot = Some(Arc::clone(&live));
        Ok(live)
    }
}

async fn connect(url: SecretString) -> Result<Live> {
    let properties = ConnectionProperties::default().with_connection_name("migrapanel-api".into());
    let connection =
        Connection::connect(url.expose_secret(), properties).await.map_err(unavailable)?;
    let channel = connection.create_channel().await.map_err(unavailable)?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer = channel
        .basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default())
        .await
        .map_err(unavailable)?;
    let waiting = Waiting::default();
    let answers = Arc::clone(&waiting);
    tokio::spawn(async move {
        while let Some(Ok(delivery)) = consumer.next().await {
            let id = delivery.properties.correlation_id().as_ref().map(ToString::to_string);
            let sender = answers.lock().await.remove(&id.unwrap_or_default());
            if sender.is_some_and(|sender| sender.send(delivery.data).is_err()) {
                tracing::debug!("ask.nobody_waits");
            }
        }
        // Those who wait learn at once that no answer comes.
        answers.lock().await.clear();
    });
    Ok(Live { connection, channel, waiting })
}

fn unavailable(error: lapin::Error) -> Error {
    Error::Unavailable(Box::new(error))
}
