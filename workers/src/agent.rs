//! Talking to the agent on a hosting server: one request a channel, events back, then the result.

use crate::error::{Result, unreachable_server};
use crate::ssh::{Program, RemoteCommand, Session};
use cpanel::protocol::{Call, Event, Hello, JobRef, LINE_BYTES_MAX, Level, PROTOCOL, Request};
use entities::error::{Code, Error};
use entities::telemetry;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument;

/// How long the agent may be silent before its line is taken for dead. Steps report progress.
const SILENCE: Duration = Duration::from_secs(15 * 60);
/// How long its first line may take.
const GREETING: Duration = Duration::from_secs(20);

/// What is told while a call runs.
#[derive(Debug)]
pub enum News {
    Progress { done: u64, total: u64, message: String },
    Log { level: Level, message: String },
}

/// Where news goes; nobody may listen.
pub type NewsSender = mpsc::UnboundedSender<News>;

/// The agent's binary, as it is put on servers.
#[derive(Debug, Clone)]
pub struct AgentBinary {
    pub bytes: bytes::Bytes,
    /// In hex.
    pub sha256: String,
}

impl AgentBinary {
    /// Reads the binary.
    pub async fn load(path: &std::path::Path) -> Result<Self> {
        let bytes = tokio::fs::read(path).await.map_err(|error| {
            Error::internal(format!(
                "the agent's binary {} cannot be read ({error}): set MIGRAPANEL__AGENT",
                path.display()
            ))
        })?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Ok(Self { bytes: bytes.into(), sha256 })
    }
}

/// Asks the agent and waits for the end of its answer. Errors carry the agent's code.
pub async fn call<T: DeserializeOwned>(
    session: &Session,
    job: Option<JobRef>,
    call: Call,
    news: Option<&NewsSender>,
) -> Result<T> {
    let span = tracing::info_span!("ssh.agent", verb = call.verb(), server = session.name());
    async {
        let (mut lines, _hello) = greet(session).await?;
        let result = lines.ask(job, call, &[], news).await?;
        serde_json::from_value(result).map_err(Error::internal)
    }
    .instrument(span)
    .await
}

/// Makes sure that the agent on the server is ours, byte for byte, and replaces it otherwise.
pub async fn ensure_current(session: &Session, binary: &AgentBinary) -> Result<Hello> {
    let (mut lines, hello) = greet(session).await?;
    if hello.protocol == PROTOCOL && hello.sha256 == binary.sha256 {
        return Ok(hello);
    }
    tracing::info!(from = %hello.version, "agent.upgrading");
    let size = u64::try_from(binary.bytes.len()).unwrap_or(u64::MAX);
    let upgrade = Call::Upgrade { sha256: binary.sha256.clone(), size };
    lines.ask(None, upgrade, &binary.bytes, None).await?;
    let (_, hello) = greet(session).await?;
    if hello.sha256 == binary.sha256 {
        Ok(hello)
    } else {
        Err(Error::refused(
            Code::AgentFailed,
            "The agent on the server is still another one after its upgrade. See the server's log.",
        ))
    }
}

/// Opens a channel and reads the agent's first line.
pub async fn greet(session: &Session) -> Result<(Lines, Hello)> {
    let channel = session.start(&RemoteCommand::new(Program::Agent).literal("serve")).await?;
    let (heard, said) = channel.split();
    let mut lines = Lines { heard, said: Arc::new(said), buffer: Vec::new(), status: None };
    let line = tokio::time::timeout(GREETING, lines.next())
        .await
        .map_err(|elapsed| unreachable_server("agent", &elapsed))??;
    let line = match line {
        Some(line) => line,
        // What has a status ended by itself: there is no agent, or none that runs.
        None if lines.status.is_some() => {
            return Err(Error::refused(
                Code::AgentFailed,
                "The server's agent does not answer. Enrol the server again.",
            ));
        }
        None => return Err(unreachable_server(session.name(), &"its agent was cut off")),
    };
    let hello = serde_json::from_slice(&line).map_err(Error::internal)?;
    Ok((lines, hello))
}

/// A conversation with the agent. Dropping it hangs up, and the agent stops at its next safe point.
pub struct Lines {
    heard: ChannelReadHalf,
    said: Arc<ChannelWriteHalf<client::Msg>>,
    buffer: Vec<u8>,
    /// The agent's exit status, once it was told.
    status: Option<u32>,
}

impl Drop for Lines {
    fn drop(&mut self) {
        let said = Arc::clone(&self.said);
        // A channel that nobody closes stays open as long as the connection.
        tokio::spawn(async move {
            if let Err(error) = said.close().await {
                tracing::trace!(error = %error, "agent.was_gone");
            }
        });
    }
}

impl Lines {
    async fn ask(
        &mut self,
        job: Option<JobRef>,
        call: Call,
        raw: &[u8],
        news: Option<&NewsSender>,
    ) -> Result<Value> {
        let request = Request { job, traceparent: telemetry::traceparent(), call };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        let said = Arc::clone(&self.said);
        let saying = async move {
            said.data(line.as_slice()).await?;
            match raw.is_empty() {
                true => Ok(()),
                false => said.data(raw).await,
            }
        };
        let (mut saying, mut is_said) = (std::pin::pin!(saying), false);
        loop {
            // Who writes does not learn that nobody reads any more; who reads does.
            let line = tokio::select! {
                said = &mut saying, if !is_said => {
                    said.map_err(|error: russh::Error| unreachable_server("agent", &error))?;
                    is_said = true;
                    continue;
                }
                line = tokio::time::timeout(SILENCE, self.next()) => line,
            };
            let line = line
                .map_err(|elapsed| unreachable_server("agent", &elapsed))??
                .ok_or_else(|| unreachable_server("agent", &"its answer broke off"))?;
            match serde_json::from_slice(&line).map_err(Error::internal)? {
                Event::Progress { done, total, message } => {
                    tell(news, News::Progress { done, total, message });
                }
                Event::Log { level, message } => tell(news, News::Log { level, message }),
                Event::Done { result } => return Ok(result),
                Event::Failed { code, message, cause } => {
                    tracing::warn!(code, cause, "agent.failed");
                    return Err(Error::refused(Code::from_agent(&code), message));
                }
            }
        }
    }

    /// The next line; none when the agent has ended, or the connection.
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end.saturating_add(1));
                let line = std::mem::replace(&mut self.buffer, rest);
                return Ok(Some(line));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Error::internal("the agent wrote a line beyond all bounds"));
            }
            match self.heard.wait().await {
                Some(ChannelMsg::Data { data }) => self.buffer.extend_from_slice(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    tracing::warn!(said = %String::from_utf8_lossy(&data), "agent.stderr");
                }
                // Behind the end of the output comes the status.
                Some(ChannelMsg::ExitStatus { exit_status }) => self.status = Some(exit_status),
                Some(ChannelMsg::Close) | None => return Ok(None),
                Some(_) => {}
            }
        }
    }
}

fn tell(news: Option<&NewsSender>, what: News) {
    if let Some(news) = news
        && news.send(what).is_err()
    {
        tracing::trace!("agent.nobody_listens");
    }
}
