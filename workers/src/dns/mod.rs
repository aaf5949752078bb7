//! The DNS worker: makes the servers equal to the rows, one zone at a time each ([`converge`]), brings
//! it to the secondary servers ([`secondaries`]), signs ([`signing`]), looks whether domains are their
//! owners' ([`verification`]), and shows how the servers are ([`health`]).
//!
//! Everything that is to be done stands in a row: messages only say that it is time to look, so that
//! losing one delays and loses nothing, and a burst of changes is one write.

pub mod converge;
pub mod health;
pub mod query;
pub mod secondaries;
pub mod signing;
pub mod verification;

use crate::amqp;
use crate::dead_letters;
use crate::error::{Result, amqp as amqp_error};
use crate::powerdns::PowerDns;
use entities::asks::DNS_QUEUE;
use entities::config;
use entities::db::Db;
use entities::dns::sync::{self, Due};
use entities::error::Error;
use entities::ids::{WorkerId, ZoneId};
use entities::sealing::SealingKeys;
use entities::tenants;
use futures::StreamExt;
use lapin::message::Delivery;
use secrecy::{ExposeSecret, SecretString};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;

/// How long without news until it is looked for what is due.
const POLL: Duration = Duration::from_secs(1);
/// How many zones are brought to the servers at once: beyond, a SQL backend only refuses more.
const AT_ONCE: usize = 4;
/// How many zones are taken at once.
const BATCH: i64 = 16;
/// How often it is looked whether a secondary server is to be looked at.
const COPIES: Duration = Duration::from_millis(200);
/// How often the servers are looked at.
const HEALTH: Duration = Duration::from_secs(10);
/// How often zones that nobody sold are looked for on the servers.
const ORPHANS: Duration = Duration::from_secs(600);
/// To Postgres, of one process.
const CONNECTIONS: u32 = 10;

/// The first server, which has the zones from us.
#[derive(Debug, Clone)]
pub struct Primary {
    pub api: PowerDns,
    pub address: SocketAddr,
}

/// A server that transfers the zones from the first one.
#[derive(Debug, Clone)]
pub struct Secondary {
    pub name: String,
    pub address: SocketAddr,
    /// None: somebody else configures it.
    pub api: Option<PowerDns>,
}

/// The servers, and with what a worker drives them.
#[derive(Debug, Clone)]
pub struct Servers {
    pub db: Db,
    pub worker: WorkerId,
    pub primary: Primary,
    pub secondaries: Vec<Secondary>,
    pub transfer_from: SocketAddr,
    pub resolver: SocketAddr,
    pub sealing: SealingKeys,
    /// What marks zones of this installation on servers that others use, too.
    tag: Arc<OnceCell<String>>,
}

impl Servers {
    /// Of a configuration; no server is asked yet.
    pub fn new(
        db: Db,
        worker: WorkerId,
        config: &config::Dns,
        sealing: SealingKeys,
    ) -> Result<Self> {
        let none = || Error::internal("the first DNS server needs an API");
        let (url, key) = config.primary.api.as_ref().ok_or_else(none)?;
        let mut secondaries = Vec::new();
        for server in &config.secondaries {
            let api = server.api.as_ref().map(|(url, key)| PowerDns::new(url, key)).transpose()?;
            secondaries.push(Secondary { name: server.name.clone(), address: server.address, api });
        }
        Ok(Self {
            db,
            worker,
            primary: Primary { api: PowerDns::new(url, key)?, address: config.primary.address },
            secondaries,
            transfer_from: config.transfer_from,
            resolver: config.resolver,
            sealing,
            tag: Arc::new(OnceCell::new()),
        })
    }

    /// What tells this installation from others on the same servers: eight digits.
    pub async fn tag(&self) -> Result<&str> {
        let find = async || {
            let tx = self.db.system().await?;
            let platform = tenants::platform(&tx).await?.ok_or(Error::NotFound("tenant"))?;
            let text = platform.0.simple().to_string();
            let tail = text.get(text.len().saturating_sub(8)..).unwrap_or_default();
            Ok::<_, Error>(tail.to_owned())
        };
        self.tag.get_or_try_init(find).await.map(String::as_str)
    }

    /// What a zone's `account` is on the servers: its id, and who we are; 40 characters fit.
    pub async fn mark(&self, zone: ZoneId) -> Result<String> {
        Ok(format!("{}{}", zone.0.simple(), self.tag().await?))
    }

    /// The zone that a mark stands for; none when it is not ours.
    pub async fn marked(&self, account: &str) -> Result<Option<ZoneId>> {
        let Some(id) = account.strip_suffix(self.tag().await?) else { return Ok(None) };
        Ok(uuid::Uuid::try_parse(id).ok().filter(|_| id.len() == 32).map(ZoneId))
    }
}

/// One process of the worker.
pub struct Worker {
    pub servers: Servers,
    check_secs: f64,
    amqp_url: SecretString,
}

impl Worker {
    /// Connects to the database; the servers are asked as there is something to do.
    pub async fn open(config: config::DnsWorker) -> Result<Self> {
        let db = Db::connect(config.base.database_url.expose_secret(), CONNECTIONS).await?;
        Ok(Self {
            servers: Servers::new(db, WorkerId::new(), &config.dns, config.sealing_keys)?,
            check_secs: f64::from(config.dns.check_secs),
            amqp_url: config.base.amqp_url,
        })
    }

    /// Runs until the process is stopped.
    pub async fn run(&self) -> Result<()> {
        // They end with this.
        let _loops = beside(&self.servers);
        loop {
            if let Err(error) = self.serve().await {
                tracing::warn!(cause = %error.chain(), "dns.interrupted");
            }
            // With the broker away, the rows are looked at all the same.
            if let Err(error) = self.work_once().await {
                tracing::warn!(cause = %error.chain(), "dns.not_done");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn serve(&self) -> Result<()> {
        let connection = amqp::connect(&self.amqp_url, "migrapanel-dns").await?;
        let channel = amqp::consumer(&connection, 64).await?;
        let mut messages = amqp::consume(&channel, DNS_QUEUE).await?;
        tracing::info!(worker = %self.servers.worker, "dns.serving");
        loop {
            while self.work_once().await? > 0 {}
            tokio::select! {
                message = messages.next() => match message {
                    Some(Ok(delivery)) => self.acknowledge(delivery).await?,
                    Some(Err(error)) => return Err(amqp_error(error)),
                    None => return Err(Error::Unavailable("the broker closed the channel".into())),
                },
                () = tokio::time::sleep(POLL) => {}
            }
            // A burst is worked off at once: what the messages tell stands in the rows.
            while let Some(Some(more)) = futures::FutureExt::now_or_never(messages.next()) {
                self.acknowledge(more.map_err(amqp_error)?).await?;
            }
        }
    }

    /// What a message tells stands in the rows as well, which are looked at next; what is none for us is
    /// kept.
    async fn acknowledge(&self, delivery: Delivery) -> Result<()> {
        dead_letters::read(&self.servers.db, DNS_QUEUE, &delivery.data).await?;
        amqp::acknowledge(&delivery).await
    }

    /// Does what is due; how much. What fails is recorded where it failed and due again.
    pub async fn work_once(&self) -> Result<usize> {
        let due = Due { limit: BATCH, check_secs: self.check_secs };
        let tx = self.servers.db.system().await?;
        let zones = sync::take_due(&tx, self.servers.worker, due).await?;
        tx.commit().await?;
        let count = zones.len();
        futures::stream::iter(zones)
            .for_each_concurrent(AT_ONCE, |zone| async move {
                if let Err(error) = converge::converge(&self.servers, &zone).await {
                    tracing::warn!(zone = %zone.id, cause = %error.chain(), "dns.not_converged");
                }
            })
            .await;
        Ok(count)
    }
}

/// What waits for others' servers has loops of its own, so that it delays no change of a zone.
fn beside(servers: &Servers) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    let all = servers.clone();
    loops.spawn(async move {
        loop {
            tell("verification", verification::look(&all).await);
            tokio::time::sleep(POLL).await;
        }
    });
    let all = servers.clone();
    loops.spawn(async move {
        loop {
            let looked = secondaries::look(&all).await;
            if !matches!(looked, Ok(1..)) {
                tokio::time::sleep(COPIES).await;
            }
            tell("copies", looked);
        }
    });
    let all = servers.clone();
    loops.spawn(async move {
        loop {
            tell("health", health::look(&all).await.map(|()| 0));
            tokio::time::sleep(HEALTH).await;
        }
    });
    let all = servers.clone();
    loops.spawn(async move {
        loop {
            tokio::time::sleep(ORPHANS).await;
            tell("orphans", health::remove_orphans(&all).await);
        }
    });
    loops
}

fn tell(what: &str, outcome: Result<usize>) {
    if let Err(error) = outcome {
        tracing::warn!(what, cause = %error.chain(), "dns.not_looked_at");
    }
}
