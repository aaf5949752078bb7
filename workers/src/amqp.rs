//! RabbitMQ: connecting, the queues, publishing that is confirmed.

use crate::error::{Result, amqp};
use entities::asks::ASK_QUEUES;
use entities::error::Error;
use entities::outbox::QUEUES;
use lapin::options::{
    BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// How long the broker may take to confirm; one that is short of memory or disk may never.
const CONFIRM: Duration = Duration::from_secs(15);

/// Connects under a name that the broker's management shows.
pub async fn connect(url: &SecretString, name: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connect(url.expose_secret(), properties);
    tokio::time::timeout(Duration::from_secs(10), connecting)
        .await
        .map_err(|elapsed| Error::Unavailable(Box::new(elapsed)))?
        .map_err(amqp)
}

/// A channel whose publishing is confirmed, with our queues declared on it: jobs,
/// billing and DNS in replicated queues that survive the broker, questions in such that live as long as
/// their askers wait.
pub async fn publisher(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await.map_err(amqp)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(amqp)?;
    declare(&channel).await?;
    Ok(channel)
}

/// A channel that takes at most `prefetch` messages at once, with our queues declared on it.
pub async fn consumer(connection: &Connection, prefetch: u16) -> Result<Channel> {
    let channel = connection.create_channel().await.map_err(amqp)?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(amqp)?;
    declare(&channel).await?;
    Ok(channel)
}

async fn declare(channel: &Channel) -> Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for queue in QUEUES {
        channel.queue_declare(queue.into(), durable, quorum.clone()).await.map_err(amqp)?;
    }
    for queue in ASK_QUEUES {
        channel.queue_declare(queue.into(), durable, FieldTable::default()).await.map_err(amqp)?;
    }
    Ok(())
}

/// Publishes a persistent message and waits until the broker has it safe in a queue. The broker
/// confirms an unroutable message, too, and hands it back: that is a failure here.
pub async fn publish_confirmed(
    channel: &Channel,
    queue: &str,
    payload: &[u8],
    properties: BasicProperties,
) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publishing = async {
        channel
            .basic_publish(
                "".into(),
                queue.into(),
                options,
                payload,
                properties.with_delivery_mode(2),
            )
            .await?
            .await
    };
    let confirmation = tokio::time::timeout(CONFIRM, publishing)
        .await
        .map_err(|elapsed| Error::Unavailable(Box::new(elapsed)))?
        .map_err(amqp)?;
    let acknowledged = confirmation.is_ack();
    if acknowledged && confirmation.take_message().is_none() {
        Ok(())
    } else {
        Err(Error::Unavailable(format!("the broker did not take a message for {queue}").into()))
    }
}
