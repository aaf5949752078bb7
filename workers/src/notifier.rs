//! The notifier: sends what waits in the post over SMTP. A letter that the server has taken may be
//! sent again when the process dies right then; it has the same Message-ID, by which mailboxes know it.

use crate::error::Result;
use crate::letters;
use entities::config::Notifier;
use entities::db::Db;
use entities::error::Error;
use entities::listen::Listener;
use entities::mail::{self, Waiting};
use lettre::message::{Mailbox, header};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::ExposeSecret;
use std::time::Duration;

/// How many letters are taken at once.
const BATCH: i64 = 20;
/// How long without a notification until the post is looked into.
const POLL: Duration = Duration::from_secs(5);
/// How long a server may take for one letter; shorter than the lease on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends letters.
pub struct Post {
    db: Db,
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    config: Notifier,
}

impl Post {
    /// Reads where letters go and whom they come from. Connects at the first letter.
    pub async fn open(config: Notifier) -> Result<Self> {
        let db = Db::connect(config.database_url.expose_secret(), 4).await?;
        let smtp = AsyncSmtpTransport::<Tokio1Executor>::from_url(config.smtp_url.expose_secret())
            .map_err(|_its_text_has_the_password| {
                Error::internal(
                    "MIGRAPANEL__SMTP_URL cannot be read: smtp[s]://[USER:PASSWORD@]HOST[:PORT]",
                )
            })?
            .timeout(Some(PATIENCE))
            .build();
        let from = config
            .mail_from
            .parse()
            .map_err(|e| Error::internal(format!("MIGRAPANEL__MAIL_FROM: {e}")))?;
        Ok(Self { db, smtp, from, config })
    }

    /// Runs until the process is stopped.
    pub async fn run(&self) -> Result<()> {
        loop {
            if let Err(error) = self.serve().await {
                tracing::warn!(cause = %error.chain(), "notifier.interrupted");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn serve(&self) -> Result<()> {
        let url = self.config.database_url.expose_secret();
        // Listening begins before the first look, so that nothing falls between the two.
        let mut listener = Listener::connect(url, "mail").await?;
        tracing::info!("notifier.serving");
        loop {
            while self.send_once().await? > 0 {}
            mail::prune(&self.db).await?;
            if let Ok(news) = tokio::time::timeout(POLL, listener.next()).await {
                news?;
            }
        }
    }

    /// Sends what waits, once; how many letters were tried.
    pub async fn send_once(&self) -> Result<usize> {
        let waiting = mail::take(&self.db, BATCH).await?;
        for letter in &waiting {
            match self.send(letter).await {
                Ok(()) => {
                    mail::mark_sent(&self.db, letter.id).await?;
                    tracing::info!(mail = %letter.id, "mail.sent");
                }
                Err((why, for_good)) => {
                    tracing::warn!(mail = %letter.id, cause = %why, for_good, "mail.not_sent");
                    mail::mark_failed(&self.db, letter, &why, for_good).await?;
                }
            }
        }
        Ok(waiting.len())
    }

    /// What was wrong, and whether it will stay so.
    async fn send(&self, waiting: &Waiting) -> std::result::Result<(), (String, bool)> {
        let message = self.message(waiting).map_err(|why| (why, true))?;
        // The transport limits its connecting only.
        match tokio::time::timeout(PATIENCE, self.smtp.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err((error.to_string(), error.is_permanent())),
            Err(elapsed) => Err((elapsed.to_string(), false)),
        }
    }

    fn message(&self, waiting: &Waiting) -> std::result::Result<Message, String> {
        let keys = &self.config.token_keys;
        let text = letters::write(&waiting.letter, keys, &self.config.dashboard_url)
            .map_err(|e| e.chain())?;
        let to: Mailbox = waiting.to.parse().map_err(|e| format!("the address: {e}"))?;
        let domain = self.from.email.domain();
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(text.subject)
            .message_id(Some(format!("<{}@{domain}>", waiting.id)))
            .header(header::ContentType::TEXT_PLAIN)
            // Nobody's automatic answer is wanted (RFC 3834).
            .header(AutoSubmitted)
            .body(text.body)
            .map_err(|e| e.to_string())
    }
}

#[derive(Clone)]
struct AutoSubmitted;

impl header::Header for AutoSubmitted {
    fn name() -> header::HeaderName {
        header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> header::HeaderValue {
        header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
