//! The migration worker: takes jobs and questions from RabbitMQ.

use crate::error::{Result, amqp as amqp_error};
use crate::world::World;
use crate::{amqp, asks, dead_letters, health, runner};
use entities::asks::{JOB_QUEUE, QUEUE};
use entities::error::Error;
use entities::outbox::Message;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many questions are answered at once.
const ASKS: usize = 8;
/// How many jobs one process runs at once; the installation's limit on migrations lies in Postgres.
const JOBS: usize = 8;
/// How long running jobs may take to let go when the process is asked to end.
const GRACE: Duration = Duration::from_secs(10);

/// Runs until the process is asked to end; then jobs are let go for others to take over.
pub async fn run(world: World) -> Result<()> {
    tokio::spawn(health::keep_probing(world.clone()));
    let jobs = Arc::new(Semaphore::new(JOBS));
    let mut running = JoinSet::new();
    while !world.ending.is_cancelled() {
        if let Err(error) = serve(&world, &jobs, &mut running).await {
            tracing::warn!(cause = %error.chain(), "migrator.interrupted");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = world.ending.cancelled() => {}
            }
        }
    }
    let letting_go = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, letting_go).await.is_err() {
        tracing::warn!("migrator.jobs_left_running");
    }
    Ok(())
}

/// Takes messages until the broker is lost or the process is asked to end. Jobs go on running
/// without the broker: it only announces them.
async fn serve(world: &World, slots: &Arc<Semaphore>, running: &mut JoinSet<()>) -> Result<()> {
    let connection = amqp::connect(&world.config.base.amqp_url, "migrapanel-migrator").await?;
    let job_channel = amqp::consumer(&connection, 2).await?;
    let ask_channel = amqp::consumer(&connection, 16).await?;
    let mut jobs = consume(&job_channel, JOB_QUEUE).await?;
    let questions = consume(&ask_channel, QUEUE).await?;
    let answering = tokio::spawn(answer_all(world.clone(), ask_channel, questions));
    tracing::info!(worker = %world.worker, "migrator.serving");
    let ended = loop {
        tokio::select! {
            () = world.ending.cancelled() => break Ok(()),
            delivery = jobs.next() => match delivery {
                Some(Ok(delivery)) => {
                    if let Err(error) = take(world, slots, running, delivery).await {
                        break Err(error);
                    }
                }
                Some(Err(error)) => break Err(amqp_error(error)),
                None => break Err(Error::Unavailable("the broker closed the channel".into())),
            },
        }
        while running.try_join_next().is_some() {}
    };
    answering.abort();
    close(connection).await;
    ended
}

async fn consume(channel: &Channel, queue: &str) -> Result<Consumer> {
    let tag = "".into();
    channel
        .basic_consume(queue.into(), tag, BasicConsumeOptions::default(), FieldTable::default())
        .await
        .map_err(amqp_error)
}

async fn close(connection: Connection) {
    if let Err(error) = connection.close(200, "".into()).await {
        tracing::debug!(error = %error, "migrator.connection_was_gone");
    }
}

/// A permit first, then the message is acknowledged, since what counts is the claim in Postgres: a
/// job that is lost between the two is announced again by the relay. One that no worker can run is
/// announced again and again: it is a dead letter, too, for somebody to look.
async fn take(
    world: &World,
    slots: &Arc<Semaphore>,
    running: &mut JoinSet<()>,
    delivery: Delivery,
) -> Result<()> {
    let permit = Arc::clone(slots).acquire_owned().await.map_err(Error::internal)?;
    let message = dead_letters::read(&world.db, JOB_QUEUE, &delivery.data).await?;
    delivery.acker.ack(BasicAckOptions::default()).await.map_err(amqp_error)?;
    let Some(Message::JobReady { job }) = message else { return Ok(()) };
    let world = world.clone();
    running.spawn(async move {
        match runner::run_job(&world, job).await {
            Ok(true) => tracing::info!(job = %job, "job.ended"),
            Ok(false) => tracing::debug!(job = %job, "job.not_now"),
            Err(error) => {
                tracing::error!(job = %job, cause = %error.chain(), "job.broken");
                let kept = dead_letters::after_failure(&world.db, JOB_QUEUE, &delivery.data, error);
                if let Err(error) = kept.await {
                    tracing::debug!(job = %job, cause = %error.chain(), "job.tried_again");
                }
            }
        }
        drop(permit);
    });
    Ok(())
}

async fn answer_all(world: World, channel: Channel, mut questions: Consumer) {
    let slots = Arc::new(Semaphore::new(ASKS));
    while let Some(Ok(delivery)) = questions.next().await {
        let Ok(permit) = Arc::clone(&slots).acquire_owned().await else { return };
        let (world, channel) = (world.clone(), channel.clone());
        tokio::spawn(async move {
            if let Err(error) = asks::handle(&world, &channel, delivery).await {
                tracing::warn!(cause = %error.chain(), "ask.not_answered");
            }
            drop(permit);
        });
    }
}
