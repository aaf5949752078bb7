//! Notifications from Postgres: a hint that there is something to look at, never the truth.

use crate::Result;
use crate::error::Error;
use sea_orm::sqlx::postgres::PgListener;

/// A connection that waits for notifications on one channel. It reconnects by itself; what was sent
/// meanwhile is lost, so that a listener polls, too.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    /// Listens on `channel`: `outbox`, or `job`, whose payload is the job's id.
    pub async fn connect(url: &str, channel: &str) -> Result<Self> {
        let mut listener =
            PgListener::connect(url).await.map_err(|e| Error::Unavailable(Box::new(e)))?;
        listener.listen(channel).await.map_err(|e| Error::Unavailable(Box::new(e)))?;
        Ok(Self(listener))
    }

    /// The next notification's payload. Cancelling loses nothing that has not arrived.
    pub async fn next(&mut self) -> Result<String> {
        let notification = self.0.recv().await.map_err(|e| Error::Unavailable(Box::new(e)))?;
        Ok(notification.payload().to_owned())
    }
}
