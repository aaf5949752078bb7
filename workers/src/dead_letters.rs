//! Messages that a worker cannot act on: the one way in which they leave their queue. The row comes
//! first, the acknowledgement after it; a worker that dies in between finds the message again, and its
//! row.

use crate::error::Result;
use entities::db::Db;
use entities::dead_letters::{self, Letter, Reason};
use entities::error::{Code, Error};
use entities::outbox::Message;
use serde::de::DeserializeOwned;

/// The message that these bytes are. None: it is none of this queue, is kept as a dead letter, and is
/// to be acknowledged.
pub async fn read(db: &Db, queue: &str, bytes: &[u8]) -> Result<Option<Message>> {
    let Some(message) = read_any::<Message>(db, queue, bytes).await? else { return Ok(None) };
    if message.queue() == Some(queue) {
        return Ok(Some(message));
    }
    let error = match message.queue() {
        Some(other) => format!("This is for the queue {other}."),
        None => "This is for the relay.".to_owned(),
    };
    keep(db, queue, bytes, (Reason::Foreign, &error)).await?;
    Ok(None)
}

/// The same for what is no [`Message`].
pub async fn read_any<T: DeserializeOwned>(
    db: &Db,
    queue: &str,
    bytes: &[u8],
) -> Result<Option<T>> {
    match serde_json::from_slice(bytes) {
        Ok(message) => Ok(Some(message)),
        Err(error) => {
            keep(db, queue, bytes, (Reason::Unreadable, &error.to_string())).await?;
            Ok(None)
        }
    }
}

/// Keeps what nobody can act on, as it came.
pub async fn keep(
    db: &Db,
    queue: &str,
    payload: &[u8],
    (reason, error): (Reason, &str),
) -> Result<()> {
    dead_letters::keep(db, Letter { queue, payload, reason, error }).await
}

/// Counts that acting on a message has failed. Nothing: it is dead by that, and is to be acknowledged.
/// The error: it is to be tried again. A service of ours that is away is nobody's failure.
pub async fn after_failure(db: &Db, queue: &str, bytes: &[u8], error: Error) -> Result<()> {
    if matches!(error.code(), Code::Unavailable | Code::StaleFence) {
        return Err(error);
    }
    if dead_letters::count_failure(db, queue, bytes, &error.chain()).await? {
        return Ok(());
    }
    Err(error)
}
