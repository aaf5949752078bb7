//! RabbitMQ: connecting, the queues, publishing that is confirmed.

use crate::error::Result;
use entities::asks::ASK_QUEUES;
use entities::error::{Error, in_time};
use entities::outbox::QUEUES;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;

/// How long the broker may take to answer. One that is short of memory or disk may never confirm, and
/// lapin never answers what it is asked in the moment in which it loses the connection.
const ANSWER: Duration = Duration::from_secs(15);

/// Connects under a name that the broker's management shows.
pub async fn connect(url: &SecretString, name: &str) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    in_time(ANSWER, Connection::connect(url.expose_secret(), properties)).await
}

/// Tells the broker that this is the end. The connection is gone in any case.
pub async fn close(connection: &Connection) {
    if let Err(error) = in_time(ANSWER, connection.close(200, "".into())).await {
        tracing::debug!(cause = %error.chain(), "amqp.connection_was_gone");
    }
}

/// A channel whose publishing is confirmed, with our queues declared on it: jobs,
/// billing and DNS in replicated queues that survive the broker, questions in such that live as long as
/// their askers wait.
pub async fn publisher(connection: &Connection) -> Result<Channel> {
    let channel = in_time(ANSWER, connection.create_channel()).await?;
    in_time(ANSWER, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    declare(&channel).await?;
    Ok(channel)
}

/// A channel that takes at most `prefetch` messages at once, with our queues declared on it.
pub async fn consumer(connection: &Connection, prefetch: u16) -> Result<Channel> {
    let channel = in_time(ANSWER, connection.create_channel()).await?;
    in_time(ANSWER, channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    declare(&channel).await?;
    Ok(channel)
}

/// The messages of a queue, which are to be acknowledged.
pub async fn consume(channel: &Channel, queue: &str) -> Result<Consumer> {
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    in_time(ANSWER, channel.basic_consume(queue.into(), "".into(), options, none)).await
}

/// Takes a message off its queue. In the moment in which the connection is lost the library answers
/// nothing here, either.
pub async fn acknowledge(delivery: &Delivery) -> Result<()> {
    in_time(ANSWER, delivery.acker.ack(BasicAckOptions::default())).await.map(drop)
}

/// Leaves a message to whoever takes it next.
pub async fn give_back(delivery: &Delivery) -> Result<()> {
    let again = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
    in_time(ANSWER, delivery.acker.nack(again)).await.map(drop)
}

async fn declare(channel: &Channel) -> Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for queue in QUEUES {
        in_time(ANSWER, channel.queue_declare(queue.into(), durable, quorum.clone())).await?;
    }
    for queue in ASK_QUEUES {
        let none = FieldTable::default();
        in_time(ANSWER, channel.queue_declare(queue.into(), durable, none)).await?;
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
    let confirmation = in_time(ANSWER, publishing).await?;
    let acknowledged = confirmation.is_ack();
    if acknowledged && confirmation.take_message().is_none() {
        Ok(())
    } else {
        Err(Error::Unavailable(format!("the broker did not take a message for {queue}").into()))
    }
}
