//! The migration worker: takes jobs and questions from RabbitMQ.

use crate::error::{Result, amqp as amqp_error};
use crate::world::World;
use crate::{amqp, asks, dead_letters, health, runner};
use entities::asks::{JOB_QUEUE, QUEUE};
use entities::error::Error;
use entities::outbox::Message;
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::{Connection, Consumer};
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
    keep_serving(&world, async |jobs| {
        let connection = amqp::connect(&world.config.base.amqp_url, "migrapanel-migrator").await?;
        let channel = amqp::consumer(&connection, 16).await?;
        let questions = amqp::consume(&channel, QUEUE).await?;
        let asked = world.clone();
        let answering = answer_all(questions, move |delivery| {
            let (world, channel) = (asked.clone(), channel.clone());
            async move { asks::handle(&world, &channel, delivery).await }
        });
        let ended = serve_both(answering, serve(&world, &connection, JOB_QUEUE, jobs)).await;
        amqp::close(&connection).await;
        ended
    })
    .await
}

/// The jobs that this process runs.
pub(crate) struct Running {
    slots: Arc<Semaphore>,
    jobs: JoinSet<()>,
}

/// Serves again and again until the process is asked to end; then running jobs are let go.
pub(crate) async fn keep_serving(
    world: &World,
    mut serve: impl AsyncFnMut(&mut Running) -> Result<()>,
) -> Result<()> {
    let mut running = Running { slots: Arc::new(Semaphore::new(JOBS)), jobs: JoinSet::new() };
    while !world.ending.is_cancelled() {
        if let Err(error) = serve(&mut running).await {
            tracing::warn!(cause = %error.chain(), "jobs.interrupted");
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = world.ending.cancelled() => {}
            }
        }
    }
    let letting_go = async { while running.jobs.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, letting_go).await.is_err() {
        tracing::warn!("jobs.left_running");
    }
    Ok(())
}

/// Until the first of the two ends: the broker may end the one without the other.
pub(crate) async fn serve_both(
    answering: impl Future<Output = ()>,
    serving: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::select! {
        ended = serving => ended,
        () = answering => Err(Error::Unavailable("the broker gives no more questions".into())),
    }
}

/// Takes the jobs of a queue until the broker is lost or the process is asked to end. Jobs go on running
/// without the broker: it only announces them.
pub(crate) async fn serve(
    world: &World,
    connection: &Connection,
    queue: &'static str,
    running: &mut Running,
) -> Result<()> {
    let channel = amqp::consumer(connection, 2).await?;
    let mut jobs = amqp::consume(&channel, queue).await?;
    tracing::info!(worker = %world.worker, queue, "jobs.serving");
    loop {
        tokio::select! {
            () = world.ending.cancelled() => return Ok(()),
            delivery = jobs.next() => match delivery {
                Some(Ok(delivery)) => take(world, queue, running, delivery).await?,
                Some(Err(error)) => return Err(amqp_error(error)),
                None => return Err(Error::Unavailable("the broker closed the channel".into())),
            },
        }
        while let Some(ended) = running.jobs.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "job.panicked");
            }
        }
    }
}

/// A permit first, then the message is acknowledged, since what counts is the claim in Postgres: a
/// job that is lost between the two is announced again by the relay. One that no worker can run is
/// announced again and again: it is a dead letter, too, for somebody to look.
async fn take(
    world: &World,
    queue: &'static str,
    running: &mut Running,
    delivery: Delivery,
) -> Result<()> {
    let slots = Arc::clone(&running.slots);
    let permit = slots.acquire_owned().await.map_err(Error::internal)?;
    let message = dead_letters::read(&world.db, queue, &delivery.data).await?;
    amqp::acknowledge(&delivery).await?;
    let Some(Message::JobReady { job } | Message::PodJobReady { job }) = message else {
        return Ok(());
    };
    let world = world.clone();
    running.jobs.spawn(async move {
        match runner::run_job(&world, job).await {
            Ok(true) => tracing::info!(job = %job, "job.ended"),
            Ok(false) => tracing::debug!(job = %job, "job.not_now"),
            Err(error) => {
                tracing::error!(job = %job, cause = %error.chain(), "job.broken");
                let kept = dead_letters::after_failure(&world.db, queue, &delivery.data, error);
                if let Err(error) = kept.await {
                    tracing::debug!(job = %job, cause = %error.chain(), "job.tried_again");
                }
            }
        }
        drop(permit);
    });
    Ok(())
}

/// Answers questions for as long as they come, so many at once.
pub(crate) async fn answer_all<F>(mut questions: Consumer, answer: impl Fn(Delivery) -> F)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(ASKS));
    while let Some(Ok(delivery)) = questions.next().await {
        let Ok(permit) = Arc::clone(&slots).acquire_owned().await else { return };
        let answering = answer(delivery);
        tokio::spawn(async move {
            if let Err(error) = answering.await {
                tracing::warn!(cause = %error.chain(), "ask.not_answered");
            }
            drop(permit);
        });
    }
}
