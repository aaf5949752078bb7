//! News of jobs: one listener for the whole process tells the open event streams which job has
//! changed. A hint only: streams look into the rows, and look by themselves, too.

use entities::listen::Listener;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tokio::sync::broadcast;
use uuid::Uuid;

/// Tells which jobs have changed.
#[derive(Debug, Clone)]
pub struct Progress(broadcast::Sender<Uuid>);

impl Progress {
    /// Listens for as long as the process lives.
    #[must_use]
    pub fn start(database_url: SecretString) -> Self {
        let (sender, _) = broadcast::channel(1024);
        let news = sender.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = listen(&database_url, &news).await {
                    tracing::warn!(cause = %error.chain(), "progress.listener_lost");
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
        Self(sender)
    }

    /// News from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Uuid> {
        self.0.subscribe()
    }
}

async fn listen(url: &SecretString, news: &broadcast::Sender<Uuid>) -> entities::Result<()> {
    let mut listener = Listener::connect(url.expose_secret(), "job").await?;
    loop {
        if let Ok(job) = Uuid::parse_str(&listener.next().await?)
            && news.send(job).is_err()
        {
            tracing::trace!("progress.nobody_listens");
        }
    }
}
