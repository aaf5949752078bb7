//! What every handler may use.

use crate::ask::Asker;
use crate::auth::TokenKeys;
use crate::ends::Ends;
use crate::gcra::Counts;
use crate::limits::Memory;
use crate::password::Passwords;
use crate::progress::Progress;
use billing::Billing;
use entities::config::{Edge, Zones};
use entities::db::Db;
use entities::error::Error;
use entities::secrets::SecretKeys;
use entities::values::DomainName;
use entities::webhooks::Reach;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

/// Built once, shared by all.
#[derive(Debug)]
pub struct State {
    pub db: Db,
    pub redis: Redis,
    pub tokens: TokenKeys,
    pub secrets: SecretKeys,
    pub ends: Ends,
    pub passwords: Passwords,
    /// Whether anybody may register.
    pub registration: bool,
    pub asker: Asker,
    pub edge: Edge,
    /// Of the limits.
    pub counts: Counts,
    pub limits: Memory,
    pub progress: Progress,
    pub billing: Billing,
    /// Any of which may have signed what Stripe tells.
    pub stripe_webhook_secrets: Vec<SecretString>,
    /// Which addresses tenants may have called.
    pub webhooks: Reach,
    /// Below which the names of accounts without a domain of their own lie.
    pub accounts_domain: DomainName,
    /// Which names may be zones, and how often they may be changed.
    pub zones: Zones,
    /// Cancelled when the process is asked to end.
    pub ending: CancellationToken,
}

impl State {
    /// A connection to Redis, which all share; fails at once while Redis is away.
    pub async fn redis(&self) -> redis::RedisResult<ConnectionManager> {
        self.redis.get().await
    }

    /// Asks Redis, unless it failed a moment ago: a Redis that is away or slow delays one request a
    /// second, not all. Whoever asks has another way, and need not log: that Redis is away, or back,
    /// is logged here once.
    pub async fn with_redis<T>(
        &self,
        ask: impl AsyncFnOnce(&mut ConnectionManager) -> redis::RedisResult<T>,
    ) -> redis::RedisResult<T> {
        if !self.redis.may_be_asked() {
            let text = "left alone for a moment after a failure";
            return Err(std::io::Error::new(std::io::ErrorKind::NotConnected, text).into());
        }
        let answer = match self.redis.get().await {
            Ok(mut connection) => ask(&mut connection).await,
            Err(error) => Err(error),
        };
        self.redis.note(answer.as_ref().err());
        answer
    }

    /// A key in Redis, apart from those of other installations.
    #[must_use]
    pub fn redis_key(&self, name: &str) -> String {
        format!("migrapanel:{}:{name}", self.redis.namespace)
    }
}

/// The connection to Redis, made when it is first needed and made again when it was lost.
#[derive(Clone)]
pub struct Redis {
    client: redis::Client,
    manager: Arc<OnceCell<ConnectionManager>>,
    /// Of the database: installations that share a Redis do not meet there.
    namespace: String,
    /// After a failure: until when it is left alone.
    away: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redis")
    }
}

/// How long an answer is waited for: what is asked has another way.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long Redis is left alone after a failure.
const PAUSE: Duration = Duration::from_secs(1);

impl Redis {
    /// Reads `redis://…`. `database_url` tells which installation this is.
    pub fn open(url: &SecretString, database_url: &SecretString) -> entities::Result<Self> {
        let hash = Sha256::digest(database_url.expose_secret().as_bytes());
        let namespace = hex::encode(hash.get(..8).unwrap_or_default());
        let client = redis::Client::open(url.expose_secret())
            .map_err(|_its_text_has_the_password| Error::internal("REDIS_URL cannot be read"))?;
        Ok(Self { client, manager: Arc::default(), namespace, away: Arc::default() })
    }

    /// Whether it answered when it was last asked.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Once the pause is over one may try; the others wait for what comes of it.
    fn may_be_asked(&self) -> bool {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *away {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                *away = now.checked_add(PAUSE);
                true
            }
        }
    }

    fn note(&self, error: Option<&redis::RedisError>) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let was_away = away.is_some();
        *away = error.and_then(|_| Instant::now().checked_add(PAUSE));
        match error {
            Some(error) if !was_away => tracing::warn!(%error, "redis.away"),
            None if was_away => tracing::info!("redis.back"),
            _ => {}
        }
    }

    async fn get(&self) -> redis::RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(0);
        let made = self.manager.get_or_try_init(|| async {
            ConnectionManager::new_with_config(self.client.clone(), config).await
        });
        Ok(made.await?.clone())
    }
}
