//! The billing worker: handles what Stripe told, carries the catalogue there, lets what was paid be
//! made, and gives back what must go back. Everything that is to be done stands in a row: messages and
//! notifications only say that it is time to look, so that losing one delays and loses nothing.

use crate::amqp;
use crate::dead_letters;
use crate::error::{Result, amqp as amqp_error};
use billing::{Billing, change, checkout, inbox, reconcile, repay, sync};
use entities::asks::BILLING_QUEUE;
use entities::billing::{events, leases, standing};
use entities::catalogue::sync::Due;
use entities::config;
use entities::db::Db;
use entities::error::Error;
use entities::ids::{OrderId, WorkerId};
use entities::listen::Listener;
use entities::outbox::Message;
use entities::services;
use futures::StreamExt;
use lapin::message::Delivery;
use secrecy::ExposeSecret;
use std::time::{Duration, Instant};

/// How long without news until it is looked for what is due.
const POLL: Duration = Duration::from_secs(1);
/// How often time acts on who has not paid.
const TIME: Duration = Duration::from_secs(20);
/// How often what Stripe did not take of the catalogue is tried again.
const FAILED: Duration = Duration::from_secs(60);
/// How often Stripe's list of events is compared with ours.
const EVENTS: Duration = Duration::from_secs(300);
/// How often everything that is open is looked at.
const OPEN: Duration = Duration::from_secs(1800);
/// How often in a row it is worked before messages and slow things have their turn.
const ROUNDS_MAX: usize = 20;
/// For how long one worker does what one does for all; when it dies, another takes over after that.
const ALONE_SECS: u32 = 240;
/// How much is done of one thing before the next has its turn.
const BATCH: u64 = 20;

/// One process of it.
pub struct Worker {
    pub billing: Billing,
    id: WorkerId,
    url: secrecy::SecretString,
    amqp_url: secrecy::SecretString,
}

/// When the slow things were done last.
struct Rounds {
    time: Option<Instant>,
    failed: Option<Instant>,
    events: Option<Instant>,
    open: Option<Instant>,
}

/// Whether it is time, and then it is not for a while.
fn is_time(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|at| at.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

impl Worker {
    /// Connects to the database; Stripe is asked as there is something to ask.
    pub async fn open(config: config::Billing) -> Result<Self> {
        let db = Db::connect(config.base.database_url.expose_secret(), 16).await?;
        Ok(Self {
            billing: Billing::open(db, config.stripe)?,
            id: WorkerId::new(),
            url: config.base.database_url,
            amqp_url: config.base.amqp_url,
        })
    }

    /// Runs until the process is stopped.
    pub async fn run(&self) -> Result<()> {
        let mut rounds = Rounds { time: None, failed: None, events: None, open: None };
        loop {
            if let Err(error) = self.serve(&mut rounds).await {
                tracing::warn!(cause = %error.chain(), "billing.interrupted");
            }
            // With the broker away, the rows are looked at all the same.
            if let Err(error) = self.work_once().await {
                tracing::warn!(cause = %error.chain(), "billing.not_done");
            }
            self.slow(&mut rounds).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn serve(&self, rounds: &mut Rounds) -> Result<()> {
        let connection = amqp::connect(&self.amqp_url, "migrapanel-billing").await?;
        let channel = amqp::consumer(&connection, 16).await?;
        let mut messages = amqp::consume(&channel, BILLING_QUEUE).await?;
        // Listening begins before the first look, so that nothing falls between the two.
        let mut listener = Listener::connect(self.url.expose_secret(), "billing").await?;
        tracing::info!("billing.serving");
        loop {
            for _ in 0..ROUNDS_MAX {
                if self.work_once().await? == 0 {
                    break;
                }
            }
            self.slow(rounds).await;
            tokio::select! {
                message = messages.next() => match message {
                    Some(Ok(delivery)) => self.hear(delivery).await?,
                    Some(Err(error)) => return Err(amqp_error(error)),
                    None => return Err(Error::Unavailable("the broker closed the channel".into())),
                },
                news = listener.next() => {
                    news?;
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// A message is acknowledged when what it tells was acted on, or when it is a dead letter.
    async fn hear(&self, delivery: Delivery) -> Result<()> {
        let db = &self.billing.db;
        if let Some(message) = dead_letters::read(db, BILLING_QUEUE, &delivery.data).await?
            && let Err(error) = self.act(&message).await
        {
            dead_letters::after_failure(db, BILLING_QUEUE, &delivery.data, error).await?;
        }
        amqp::acknowledge(&delivery).await
    }

    /// Acts on a message. Products and prices are found by their rows.
    pub async fn act(&self, message: &Message) -> Result<()> {
        match message {
            Message::ServiceChanged { service } => {
                let tx = self.billing.db.system().await?;
                let order = services::load_service(&tx, *service).await?.order_id;
                drop(tx);
                self.converge(order).await
            }
            Message::OrderChanged { order } => self.converge(*order).await,
            Message::ProductChanged { .. }
            | Message::PriceChanged { .. }
            | Message::JobReady { .. }
            | Message::PodJobReady { .. }
            | Message::ZoneChanged { .. }
            | Message::LetterReplayed { .. } => Ok(()),
        }
    }

    async fn converge(&self, order: OrderId) -> Result<()> {
        let now = self.billing.now().await?;
        let tx = self.billing.db.system().await?;
        standing::converge(&tx, order, &self.billing.config.rules, now).await?;
        tx.commit().await
    }

    /// Does what is due; how much. What fails is logged and due again, and keeps nothing else.
    pub async fn work_once(&self) -> Result<usize> {
        let mut done = 0usize;
        let mut note = |what: &str, outcome: Result<usize>| match outcome {
            Ok(count) => done = done.saturating_add(count),
            Err(error) => tracing::warn!(what, cause = %error.chain(), "billing.not_done"),
        };
        note("events", inbox::handle_due(&self.billing).await);
        note("catalogue", self.carry(Due::Changed).await);
        note("orders", self.make().await);
        note("checkouts", checkout::close_unwanted(&self.billing, BATCH).await);
        note("repayments", repay::due(&self.billing).await);
        note("subscriptions", change::end_unpaid(&self.billing).await);
        Ok(done)
    }

    /// One worker at a time carries the catalogue, so that an older version never comes last.
    async fn carry(&self, which: Due) -> Result<usize> {
        if !leases::take(&self.billing.db, "catalogue", self.id, 300).await? {
            return Ok(0);
        }
        let carried = sync::due(&self.billing, which, BATCH).await;
        leases::give_back(&self.billing.db, "catalogue", self.id).await?;
        // What failed is not due at once; a whole batch may have more behind it.
        carried
    }

    /// Lets what was paid be made.
    async fn make(&self) -> Result<usize> {
        let made = services::make_due(&self.billing.db, BATCH).await?;
        usize::try_from(made).map_err(Error::internal)
    }

    async fn slow(&self, rounds: &mut Rounds) {
        if is_time(&mut rounds.time, TIME) {
            self.round("time", reconcile::time(&self.billing).await);
        }
        if is_time(&mut rounds.failed, FAILED) {
            self.round("catalogue", self.carry(Due::Failed).await.map(|_| ()));
        }
        if is_time(&mut rounds.events, EVENTS) {
            self.round("events", self.alone("events").await);
        }
        if is_time(&mut rounds.open, OPEN) {
            self.round("open", self.alone("open").await);
        }
    }

    fn round(&self, what: &str, outcome: Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(what, cause = %error.chain(), "billing.round_failed");
        }
    }

    /// What one of all workers does for all.
    async fn alone(&self, what: &str) -> Result<()> {
        if !leases::take(&self.billing.db, what, self.id, ALONE_SECS).await? {
            return Ok(());
        }
        if what == "events" {
            reconcile::events(&self.billing).await?;
            let (waiting, oldest_secs, dead) = events::backlog(&self.billing.db).await?;
            tracing::info!(waiting, oldest_secs, dead, "stripe.events");
            return events::prune(&self.billing.db).await;
        }
        reconcile::open(&self.billing).await
    }
}
