//! Which logins have ended. The database tells every process at the commit that ends one, so that no
//! request has to ask; while nothing is heard of it, each request does.

use entities::Result;
use entities::db::Db;
use entities::error::{Code, Error};
use entities::ids::SessionId;
use entities::listen::Listener;
use entities::sessions::{self, End, Heard};
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;
use uuid::Uuid;

/// How long until a lost listener is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the connection is asked for a sign of life: a dead one could be silent for long.
const PULSE: Duration = Duration::from_secs(10);
/// How often ends that concern no token any more are dropped.
const PRUNE: Duration = Duration::from_secs(600);

/// How long a change of logins waits until this process has heard of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The ends that were heard of; none while nobody listens.
#[derive(Debug, Clone)]
pub struct Ends {
    known: Arc<RwLock<Option<HashMap<SessionId, End>>>>,
    /// Marks that were heard: everything before them was, too.
    marks: broadcast::Sender<Uuid>,
}

impl Ends {
    /// Listens for as long as the process lives.
    #[must_use]
    pub fn start(db: Db, database_url: SecretString) -> Self {
        let (marks, _) = broadcast::channel(256);
        let ends = Self { known: Arc::default(), marks };
        let own = ends.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = own.listen(&db, &database_url).await {
                    tracing::warn!(cause = %error.chain(), "sessions.listener_lost");
                }
                own.set(None);
                tokio::time::sleep(PAUSE).await;
            }
        });
        ends
    }

    async fn listen(&self, db: &Db, url: &SecretString) -> Result<()> {
        // Before the first look, so that nothing falls between the two.
        let mut listener = Listener::connect(url.expose_secret(), "session").await?;
        loop {
            self.set(Some(sessions::list_recent_ends(db).await?.into_iter().collect()));
            let loaded = Instant::now();
            while loaded.elapsed() < PRUNE {
                match tokio::time::timeout(PULSE, listener.next_unbroken()).await {
                    Ok(payload) => match sessions::heard(&payload?) {
                        Some(Heard::End(id, end)) => self.note(id, end),
                        Some(Heard::Mark(mark)) if self.marks.send(mark).is_err() => {
                            tracing::trace!("sessions.mark_of_another_process");
                        }
                        _ => {}
                    },
                    Err(_silence) => listener.pulse().await?,
                }
            }
        }
    }

    fn set(&self, ends: Option<HashMap<SessionId, End>>) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    fn note(&self, id: SessionId, end: End) {
        if let Some(ends) = self.known.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            ends.insert(id, end);
        }
    }

    /// Waits until this process has heard of the ends that are in the database now, so that the very
    /// next request meets them. Called after each change that ends logins or makes tokens void.
    pub async fn settle(&self, db: &Db) -> Result<()> {
        if !self.are_heard() {
            return Ok(());
        }
        let mut marks = self.marks.subscribe();
        let mark = Uuid::now_v7();
        sessions::send_mark(db, mark).await?;
        let heard = async { while marks.recv().await.is_ok_and(|seen| seen != mark) {} };
        if tokio::time::timeout(PATIENCE, heard).await.is_err() {
            // Whatever holds the listener up: from now on each request asks.
            self.set(None);
        }
        Ok(())
    }

    /// Refuses a token of a session that has ended. `made_at` is in milliseconds since 1970.
    pub async fn check(&self, db: &Db, session: SessionId, made_at: i64) -> Result<()> {
        let known = {
            let ends = self.known.read().unwrap_or_else(PoisonError::into_inner);
            ends.as_ref().map(|ends| ends.get(&session).copied())
        };
        let end = match known {
            Some(end) => end,
            None => sessions::find_end(db, session).await?,
        };
        match end {
            Some(End::Whole) => {
                Err(Error::refused(Code::Unauthenticated, "This login has ended. Log in again."))
            }
            Some(end) if !end.spares(made_at) => Err(Error::refused(
                Code::TokenExpired,
                "Your rights have changed since this token was made. Refresh it.",
            )),
            _ => Ok(()),
        }
    }

    /// Whether ends are heard of; if not, each request asks the database.
    #[must_use]
    pub fn are_heard(&self) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
