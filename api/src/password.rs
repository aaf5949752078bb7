//! Passwords: bcrypt with cost 12, off the request threads and never more at once than there are
//! cores, so that logins cannot stall other requests.

use entities::Result;
use entities::error::Error;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio::sync::Semaphore;

const COST: u32 = 12;
/// A hash of nothing that anybody knows, so that an unknown address takes as long as a known one.
const NOBODY: &str = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZBEcYd9p8DRm9d9Yc1C9gGxS5e7y1C";

/// Hashes and compares.
#[derive(Debug, Clone)]
pub struct Passwords(Arc<Semaphore>);

impl Passwords {
    /// As many at once as there are cores.
    #[must_use]
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Hashes a new password of 8 to 72 bytes; bcrypt would cut a longer one in silence.
    pub async fn hash(&self, password: &SecretString) -> Result<String> {
        let length = password.expose_secret().len();
        if !(8..=72).contains(&length) {
            return Err(Error::field("password", "must have 8 to 72 bytes"));
        }
        let password = password.clone();
        self.run(move || {
            bcrypt::non_truncating_hash(password.expose_secret(), COST).map_err(Error::internal)
        })
        .await?
    }

    /// Whether the password has this hash; without a hash it takes as long and is false.
    pub async fn verify(&self, password: &SecretString, hash: Option<String>) -> Result<bool> {
        let password = password.clone();
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            let same = bcrypt::non_truncating_verify(password.expose_secret(), &hash);
            known && same.unwrap_or(false)
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let _permit = self.0.acquire().await.map_err(Error::internal)?;
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(Error::internal)
    }
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}
