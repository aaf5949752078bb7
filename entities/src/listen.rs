//! Notifications from Postgres: a hint that there is something to look at, never the truth.

use crate::Result;
use crate::error::{Error, in_time};
use sea_orm::sqlx::postgres::PgListener;
use std::time::Duration;

/// How long Postgres may take to answer a listener.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection that waits for notifications on one channel. It reconnects by itself; what was sent
/// meanwhile is lost, so that a listener polls, too.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Listens on `channel`: `outbox`, `mail`, `webhook`, `job`, whose payload is the job's id, or `session`,
    /// see [`crate::sessions::heard`].
    pub async fn connect(url: &str, channel: &str) -> Result<Self> {
        let mut listener = in_time(ANSWER, PgListener::connect(url)).await?;
        in_time(ANSWER, listener.listen(channel)).await?;
        Ok(Self(listener))
    }

    /// The same, but fails when the connection was lost meanwhile, and with it perhaps a
    /// notification.
    pub async fn next_unbroken(&mut self) -> Result<String> {
        let next = self.0.try_recv().await.map_err(|e| Error::Unavailable(Box::new(e)))?;
        let lost = || Error::Unavailable("the connection of a listener was lost".into());
        Ok(next.ok_or_else(lost)?.payload().to_owned())
    }

    /// Fails when the connection is dead.
    pub async fn pulse(&mut self) -> Result<()> {
        let asked = sea_orm::sqlx::query("SELECT 1").execute(&mut self.0);
        in_time(ANSWER, asked).await.map(drop)
    }

    /// The next notification's payload. Cancelling loses nothing that has not arrived.
    pub async fn next(&mut self) -> Result<String> {
        let notification = self.0.recv().await.map_err(|e| Error::Unavailable(Box::new(e)))?;
        Ok(notification.payload().to_owned())
    }
}
