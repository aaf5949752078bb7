//! The notifier's other half: tells tenants' endpoints of events, by the Standard Webhooks
//! specification. An event that was taken may be told again when the process dies right then; it has
//! the same `webhook-id`, by which receivers know it.

use crate::error::Result;
use entities::config::Notifier;
use entities::db::Db;
use entities::error::Error;
use entities::listen::Listener;
use entities::sealing::SealingKeys;
use entities::webhooks::deliveries::{self, Due, Tried, webhook_id};
use entities::webhooks::{self, Reach};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, Url, header, redirect};
use secrecy::ExposeSecret;
use standardwebhooks::Webhook;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How many calls are under way at once.
const AT_ONCE: usize = 64;
/// How long without a notification until it is looked for what is due.
const POLL: Duration = Duration::from_secs(1);
/// How long an endpoint may take (the specification asks for 15 to 30 s); shorter than the lease.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of an answer is kept.
const ANSWER_MAX: usize = 1024;
/// How often what is old is removed.
const PRUNE: Duration = Duration::from_secs(3600);

/// Calls endpoints.
#[derive(Clone)]
pub struct Courier {
    db: Db,
    keys: SealingKeys,
    client: Client,
    reach: Reach,
    url: secrecy::SecretString,
}

impl Courier {
    /// Connects to the database; endpoints are connected to as events come.
    pub async fn open(config: &Notifier) -> Result<Self> {
        let client = Client::builder()
            .user_agent("MigraPanel-Webhooks/1")
            // What answers with another address is not followed there, and no proxy goes around the
            // check of addresses.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(PATIENCE)
            .dns_resolver(Arc::new(Resolver(config.webhooks)))
            .build()
            .map_err(Error::internal)?;
        Ok(Self {
            db: Db::connect(config.database_url.expose_secret(), 8).await?,
            keys: config.token_keys.sealing().clone(),
            client,
            reach: config.webhooks,
            url: config.database_url.clone(),
        })
    }

    /// Runs until the process is stopped.
    pub async fn run(&self) -> Result<()> {
        loop {
            if let Err(error) = self.serve().await {
                tracing::warn!(cause = %error.chain(), "webhooks.interrupted");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn serve(&self) -> Result<()> {
        // Listening begins before the first look, so that nothing falls between the two.
        let mut listener = Listener::connect(self.url.expose_secret(), "webhook").await?;
        tracing::info!("webhooks.serving");
        let mut calls = JoinSet::new();
        let mut pruned = Instant::now();
        loop {
            let free = AT_ONCE.saturating_sub(calls.len());
            for due in self.take(free).await? {
                let courier = self.clone();
                calls.spawn(async move { courier.tell(&due).await });
            }
            if pruned.elapsed() > PRUNE {
                webhooks::prune(&self.db).await?;
                pruned = Instant::now();
            }
            tokio::select! {
                Some(told) = calls.join_next() => told.map_err(Error::internal)??,
                news = tokio::time::timeout(POLL, listener.next()) => {
                    if let Ok(news) = news {
                        news?;
                    }
                }
            }
        }
    }

    async fn take(&self, limit: usize) -> Result<Vec<Due>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        deliveries::take(&self.db, &self.keys, limit).await
    }

    /// Tells what is due, once; how many calls were made.
    pub async fn tell_once(&self) -> Result<usize> {
        let due = self.take(AT_ONCE).await?;
        futures::future::try_join_all(due.iter().map(|due| self.tell(due))).await?;
        Ok(due.len())
    }

    async fn tell(&self, due: &Due) -> Result<()> {
        let begun = Instant::now();
        let mut tried = self.call(due).await;
        tried.duration = begun.elapsed();
        let (status, error) = (tried.status, tried.error.as_deref());
        tracing::info!(delivery = %due.id, status, error, "webhook.told");
        deliveries::record(&self.db, due, &tried).await
    }

    async fn call(&self, due: &Due) -> Tried {
        let mut tried = Tried {
            status: None,
            error: None,
            answer: String::new(),
            duration: Duration::ZERO,
            retry_after_secs: None,
        };
        let response = match self.send(due).await {
            Ok(response) => response,
            Err(why) => {
                tried.error = Some(why);
                return tried;
            }
        };
        let status = response.status();
        tried.status = Some(status.as_u16());
        tried.retry_after_secs = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        tried.error = match status {
            status if status.is_success() => None,
            status if status.is_redirection() => {
                Some(format!("{status}: redirects are not followed; name the address itself"))
            }
            status => Some(status.to_string()),
        };
        tried.answer = beginning(response).await;
        tried
    }

    /// What was answered, or a sentence that says why nothing was.
    async fn send(&self, due: &Due) -> std::result::Result<Response, String> {
        let url = Url::parse(&due.url).map_err(|e| format!("the URL cannot be read: {e}"))?;
        // An address in the URL is connected to without a look-up.
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>();
        if literal.is_ok_and(|ip| !self.reach.allows(ip)) {
            return Err(NOT_PUBLIC.to_owned());
        }
        let id = webhook_id(due.event_id);
        let now = chrono::Utc::now().timestamp();
        let mut signatures = Vec::new();
        for secret in &due.secrets {
            let signer = Webhook::new(secret.expose_secret()).map_err(|e| e.to_string())?;
            signatures.push(signer.sign(&id, now, due.body.as_bytes()).map_err(|e| e.to_string())?);
        }
        let call = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", signatures.join(" "))
            .body(due.body.clone());
        call.send().await.map_err(|error| why(&error))
    }
}

const NOT_PUBLIC: &str = "the address is not a public one";

/// The last cause, which says most, in a sentence without our own words about it.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} seconds", PATIENCE.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let what = if error.is_connect() { "cannot connect" } else { "no answer" };
    format!("{what}: {cause}")
}

/// How an answer begins, as text; what does not arrive in time is left out.
async fn beginning(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(ANSWER_MAX);
    // A NUL is no text for the database.
    String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}")
}

/// Looks names up and leaves out what may not be called, at the very moment of connecting: a name that
/// led to a public address when it was checked may lead elsewhere now.
struct Resolver(Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|a| reach.allows(a.ip())).collect();
            if allowed.is_empty() {
                return Err(NOT_PUBLIC.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}
