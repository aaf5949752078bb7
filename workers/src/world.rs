//! What a worker's code may use.

use crate::agent::AgentBinary;
use crate::dns::Servers;
use crate::error::Result;
use crate::fleet::Fleet;
use entities::config::Migrator;
use entities::db::Db;
use entities::error::Error;
use entities::ids::WorkerId;
use entities::servers;
use russh::keys::ssh_key;
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// To Postgres, of one process: transactions are short.
const CONNECTIONS: u32 = 10;

/// Built once, shared by all.
#[derive(Debug, Clone)]
pub struct World {
    pub config: Arc<Migrator>,
    pub worker: WorkerId,
    pub db: Db,
    pub fleet: Fleet,
    pub dns: Servers,
    pub agent: AgentBinary,
    /// Cancelled when the process is asked to end.
    pub ending: CancellationToken,
}

impl World {
    /// Connects to Postgres, opens the worker's key (making it the first time), loads the agent.
    pub async fn build(config: Migrator) -> Result<Self> {
        let db = Db::connect(config.base.database_url.expose_secret(), CONNECTIONS).await?;
        let (public, private) = new_identity()?;
        servers::keep_identity(&db, &config.sealing_keys, &public, &private).await?;
        let (_, key) = servers::open_identity(&db, &config.sealing_keys).await?;
        let worker = WorkerId::new();
        let sealing = config.sealing_keys.clone();
        Ok(Self {
            worker,
            dns: Servers::new(db.clone(), worker, &config.dns, sealing)?,
            db,
            fleet: Fleet::new(key),
            agent: AgentBinary::load(&config.agent).await?,
            ending: CancellationToken::new(),
            config: Arc::new(config),
        })
    }

    /// The worker's public key, as it stands in `authorized_keys`.
    pub async fn public_key(&self) -> Result<String> {
        Ok(servers::open_identity(&self.db, &self.config.sealing_keys).await?.0)
    }
}

/// A fresh Ed25519 key pair in OpenSSH's forms.
fn new_identity() -> Result<(String, SecretString)> {
    let mut seed = [0u8; 32];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut seed);
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
    let key =
        ssh_key::PrivateKey::new(pair.into(), "migrapanel-worker").map_err(Error::internal)?;
    let public = key.public_key().to_openssh().map_err(Error::internal)?;
    let private = key.to_openssh(ssh_key::LineEnding::LF).map_err(Error::internal)?;
    Ok((public, SecretString::from(private.to_string())))
}
