//! What the agent says while it works: lines of JSON on standard output.

use crate::error::{Error, Result};
use cpanel::protocol::{Event, LINE_BYTES_MAX, Level};
use serde::Serialize;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Where events go. Shared between threads; each line is written whole.
pub struct Events {
    out: Mutex<Out>,
}

struct Out {
    writer: Box<dyn Write + Send>,
    told: Option<Instant>,
}

impl Events {
    /// Events to this writer.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self { out: Mutex::new(Out { writer: Box::new(writer), told: None }) }
    }

    /// Writes one line of JSON. Fails when the worker no longer listens.
    pub fn line(&self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(Error::new(
                "answer_too_large",
                "The answer is larger than a message may be.",
            ));
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.writer
            .write_all(&line)
            .and_then(|()| out.writer.flush())
            .map_err(|e| Error::stopped().because(e))
    }

    /// Tells how far the work is, unless that was told just now.
    pub fn progress(&self, done: u64, total: u64, message: &str) -> Result<()> {
        {
            let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if done < total && out.told.is_some_and(|t| now.duration_since(t) < PROGRESS_EVERY) {
                return Ok(());
            }
            out.told = Some(now);
        }
        self.line(&Event::Progress { done, total, message: message.to_owned() })
    }

    /// A line for the job's log.
    pub fn log(&self, level: Level, message: impl Into<String>) -> Result<()> {
        self.line(&Event::Log { level, message: message.into() })
    }
}
