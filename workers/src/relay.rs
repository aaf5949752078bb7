//! The relay: brings the outbox to RabbitMQ, announces again what waits or was left behind, and
//! seals the audit trail.
//! With the broker away it waits; nothing is lost, since a message is marked as sent only after the
//! broker has confirmed it.

use crate::error::Result;
use crate::{amqp, seal};
use entities::config::Base;
use entities::db::{Db, SystemTx};
use entities::ids::RowId;
use entities::listen::Listener;
use entities::outbox::{self, Unsent};
use entities::{
    activation, certificates, cloudpods, dead_letters, idempotency, jobs, orders, services,
    telemetry,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use secrecy::ExposeSecret;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// How many messages are sent in one transaction.
const BATCH: i64 = 200;
/// How long without a notification until the outbox is looked into.
const POLL: Duration = Duration::from_secs(1);
/// How often waiting and abandoned jobs are announced again, and unpaid orders expire.
const SWEEP: Duration = Duration::from_secs(3);
/// How many orders expire at once.
const EXPIRED: u64 = 100;
/// How many services, and how many certificates, are brought on at once.
const CONVERGED: u64 = 20;
/// How many accounts are let take mail at once.
const WOKEN: u32 = 20;
/// How often messages that were sent long ago are removed.
const PRUNE: Duration = Duration::from_secs(3600);

/// Runs until the process is stopped.
pub async fn run(config: &Base) -> Result<()> {
    let db = Db::connect(config.database_url.expose_secret(), 4).await?;
    tokio::spawn(keep_sweeping(db.clone()));
    tokio::spawn(seal::keep_sealing(db.clone()));
    loop {
        match serve(config, &db).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(cause = %error.chain(), "relay.interrupted"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn serve(config: &Base, db: &Db) -> Result<()> {
    let connection = amqp::connect(&config.amqp_url, "migrapanel-relay").await?;
    let channel = amqp::publisher(&connection).await?;
    // Listening begins before the first look, so that nothing falls between the two.
    let mut listener = Listener::connect(config.database_url.expose_secret(), "outbox").await?;
    tracing::info!("relay.serving");
    loop {
        while relay_once(db, &channel).await? > 0 {}
        if let Ok(news) = tokio::time::timeout(POLL, listener.next()).await {
            news?;
        }
    }
}

/// Sends what waits, once; how many were sent. Fails when messages wait and none could be sent.
pub async fn relay_once(db: &Db, channel: &Channel) -> Result<usize> {
    let mut failed = None;
    let sent = outbox::send_batch(db, BATCH, |unsent| async {
        let mut sent = Vec::new();
        for message in unsent {
            match send(channel, &message).await {
                Ok(()) => sent.push(message.id),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        sent
    })
    .await?;
    match failed {
        Some(error) => Err(error),
        None => Ok(sent),
    }
}

async fn send(channel: &Channel, unsent: &Unsent) -> Result<()> {
    let span = tracing::info_span!("outbox.send", message.id = %unsent.id);
    telemetry::join(&span, unsent.traceparent.as_deref());
    async {
        let RowId(id) = unsent.id;
        let mut headers = FieldTable::default();
        if let Some(traceparent) = telemetry::traceparent().or_else(|| unsent.traceparent.clone()) {
            headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
        }
        let properties = BasicProperties::default()
            .with_message_id(id.to_string().into())
            .with_content_type("application/json".into())
            .with_headers(headers);
        amqp::publish_confirmed(channel, &unsent.queue, &unsent.payload, properties).await
    }
    .instrument(span)
    .await
}

async fn keep_sweeping(db: Db) {
    let mut pruned = Instant::now();
    loop {
        tokio::time::sleep(SWEEP).await;
        let count = sweep(&db).await;
        if count > 0 {
            tracing::debug!(count, "relay.swept");
        }
        if pruned.elapsed() > PRUNE {
            done("prune", prune(&db)).await;
            pruned = Instant::now();
        }
    }
}

/// All that is due by now, one after another; what fails holds up nothing else.
async fn sweep(db: &Db) -> u64 {
    let mut count = 0;
    count += done("jobs", within(db, jobs::sweep)).await;
    count += done("orders", orders::expire_overdue(db, EXPIRED)).await;
    count += done("services", services::converge_due(db, CONVERGED)).await;
    let wake = async |tx: &SystemTx| activation::queue_due(tx, WOKEN).await;
    count += done("activation", within(db, wake)).await;
    count += done("certificates", certificates::queue_due(db, CONVERGED)).await;
    // Before what is tried again and again, which puts off the others of the same pod.
    count += done("backups", cloudpods::backups::back_up_due(db, CONVERGED)).await;
    count += done("draining", cloudpods::draining::move_due(db, CONVERGED)).await;
    count += done("pods", cloudpods::converge_due(db, CONVERGED)).await;
    count += done("growth", cloudpods::sold::give_back_grown(db, CONVERGED)).await;
    let release = async |tx: &SystemTx| cloudpods::placement::release_idle(tx, EXPIRED).await;
    count += done("places", within(db, release)).await;
    count
}

async fn within(db: &Db, work: impl AsyncFnOnce(&SystemTx) -> Result<u64>) -> Result<u64> {
    let tx = db.system().await?;
    let count = work(&tx).await?;
    tx.commit().await?;
    Ok(count)
}

async fn prune(db: &Db) -> Result<u64> {
    outbox::prune(db).await?;
    idempotency::prune(db).await?;
    dead_letters::prune(db).await?;
    cloudpods::consoles::prune(db).await?;
    Ok(0)
}

/// How many it came to; a failure is told, and is looked at again with the next sweep.
async fn done(what: &str, work: impl Future<Output = Result<u64>>) -> u64 {
    match work.await {
        Ok(count) => count,
        Err(error) => {
            tracing::warn!(what, cause = %error.chain(), "relay.sweep_failed");
            0
        }
    }
}
