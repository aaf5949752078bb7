//! The servers that we drive: one SSH connection each, made when it is needed and kept.

use crate::agent;
use crate::error::Result;
use crate::ssh::{Endpoint, Session};
use crate::world::World;
use entities::error::Error;
use entities::ids::ServerId;
use entities::tables::server;
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The kept connections.
#[derive(Clone)]
pub struct Fleet {
    key: SecretString,
    sessions: Arc<Mutex<HashMap<ServerId, Arc<Slot>>>>,
}

type Slot = Mutex<Option<(Endpoint, Arc<Session>)>>;

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fleet")
    }
}

/// Where a server is, and whom to expect there.
pub fn endpoint(row: &server::Model) -> Result<Endpoint> {
    Ok(Endpoint {
        name: row.name.clone(),
        host: row.host.clone(),
        port: u16::try_from(row.ssh_port).map_err(Error::internal)?,
        fingerprint: row.host_key_fingerprint.clone(),
    })
}

impl Fleet {
    /// No connections yet.
    #[must_use]
    pub fn new(key: SecretString) -> Self {
        Self { key, sessions: Arc::default() }
    }

    /// A fresh connection, for enrolment.
    pub async fn connect(&self, row: &server::Model) -> Result<Session> {
        Session::connect(&endpoint(row)?, &self.key).await
    }

    /// A connection for one terminal.
    pub async fn connect_for_terminal(&self, row: &server::Model) -> Result<Session> {
        Session::connect_for_terminal(&endpoint(row)?, &self.key).await
    }

    /// The connection to an enrolled server, with our agent at its other end.
    pub async fn session(&self, world: &World, row: &server::Model) -> Result<Arc<Session>> {
        self.kept(row, async |session| {
            agent::ensure_current(session, &world.agent).await.map(|_hello| ())
        })
        .await
    }

    /// The connection to a server without an agent.
    pub async fn plain_session(&self, row: &server::Model) -> Result<Arc<Session>> {
        self.kept(row, async |_| Ok(())).await
    }

    async fn kept(
        &self,
        row: &server::Model,
        prepare: impl AsyncFnOnce(&Session) -> Result<()>,
    ) -> Result<Arc<Session>> {
        let slot = Arc::clone(self.sessions.lock().await.entry(row.id).or_default());
        let mut slot = slot.lock().await;
        let wanted = endpoint(row)?;
        if let Some((at, session)) = slot.as_ref()
            && !session.is_closed()
            && (&at.host, at.port, &at.fingerprint)
                == (&wanted.host, wanted.port, &wanted.fingerprint)
        {
            return Ok(Arc::clone(session));
        }
        let session = Session::connect(&wanted, &self.key).await?;
        prepare(&session).await?;
        let session = Arc::new(session);
        *slot = Some((wanted, Arc::clone(&session)));
        Ok(session)
    }
}
