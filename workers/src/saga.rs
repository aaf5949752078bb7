//! Sagas: an ordinary async function of `saga.step(…).await?`. Each step's output is stored, so that
//! after a crash the function runs again and finished steps answer from the store; a final failure
//! pops the undo stack.
//!
//! Rules: nothing but steps inside the function (no clock, no randomness); `run` may be called again
//! after a death at any point and must come to the same; `undo` means *ensure absent*, may run
//! twice, and also runs for a step that began and never reported.

use crate::agent::{self, News};
use crate::error::Result;
use crate::ledger;
use crate::ssh::Session;
use crate::world::World;
use cpanel::protocol::{Call, JobRef, Level};
use entities::error::{Code, Error};
use entities::jobs::{self, Claim, StepState};
use entities::tables::{job_step, server};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often progress is written down.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// How long a step is tried again when its server or a service of ours is away and nothing stands
/// yet: somebody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same when something stands already, and for taking it back: the time of a reboot.
const PATIENCE_ONCE_BEGUN: Duration = Duration::from_secs(600);
/// How long a certificate's steps are tried again: nobody waits for it, others may, and there is
/// another attempt later.
const PATIENCE_OF_CERTIFICATES: Duration = Duration::from_secs(60);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// One do/undo pair with a typed, stored output. Its fields are its input.
pub trait Step: Serialize + Send + Sync + 'static {
    /// What it came to: small and free of secrets.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Unique in its saga; the key of its stored output, so that renaming it is a schema change.
    fn name(&self) -> &'static str;

    /// Does it. May be called again after a death half-way.
    fn run(&self, cx: &Cx) -> impl Future<Output = Result<Self::Output>> + Send;

    /// Ensures that what it did is gone. `output` is missing when it never reported.
    fn undo(
        &self,
        cx: &Cx,
        output: Option<Self::Output>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// What a step works with: the world, the claim that it acts under, and its server.
#[derive(Debug, Clone)]
pub struct Cx {
    pub world: World,
    pub claim: Arc<Claim>,
    pub server: Arc<server::Model>,
    pub undoing: Undoing,
}

/// What an undo does with what was added since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undoing {
    /// Apply failed: nothing was added by anybody else.
    Discard,
    /// A rollback: it is kept in a dump on the server first.
    Park,
}

/// What becomes of the agent's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nobody is told.
    Silent,
    /// It moves the migration on from a percentage, by at most `width`.
    Of { from: u64, width: u64 },
}

/// What a run of the function is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Steps that are not stored yet are carried out.
    Forward,
    /// Nothing is carried out: the stored steps only rebuild the undo stack.
    Back,
}

type Undo = Box<dyn Fn(Cx) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A run of a saga's function.
pub struct Saga {
    pub cx: Cx,
    direction: Direction,
    stored: HashMap<String, job_step::Model>,
    seq: i32,
    undos: Vec<(&'static str, Undo)>,
}

/// Ends the function's replay where the stored steps end.
fn replayed() -> Error {
    Error::refused(Code::Stopped, "The stored steps end here.")
}

impl Saga {
    /// Begins or resumes a run with the steps that are stored for it.
    pub async fn resume(cx: Cx, direction: Direction) -> Result<Self> {
        let tx = cx.world.db.system().await?;
        let steps = jobs::list_steps(&tx, cx.claim.job, cx.claim.run).await?;
        let stored = steps.into_iter().map(|step| (step.name.clone(), step)).collect();
        Ok(Self { cx, direction, stored, seq: 0, undos: Vec::new() })
    }

    /// Carries out a step, or answers from the store.
    pub async fn step<S: Step>(&mut self, step: S) -> Result<S::Output> {
        let name = step.name();
        self.seq = self.seq.saturating_add(1);
        let stored = self.stored.remove(name);
        if self.direction == Direction::Back {
            return self.replay(step, stored);
        }
        if let Some(row) = &stored
            && row.state == "done"
        {
            let output = row.output.clone().unwrap_or(Value::Null);
            self.push_undo(step, Some(output.clone()));
            return Ok(serde_json::from_value(output)?);
        }
        let input = serde_json::to_value(&step)?;
        let tx = self.cx.world.db.system().await?;
        jobs::start_step(&tx, &self.cx.claim, self.seq, name, input).await?;
        tx.commit().await?;
        let outcome = self.attempt(&step).await;
        let state = match &outcome {
            Ok(output) => StepState::Done(serde_json::to_value(output)?),
            Err(error) => StepState::Failed(error.to_string()),
        };
        let tx = self.cx.world.db.system().await?;
        jobs::record_step(&tx, &self.cx.claim, name, &state).await?;
        tx.commit().await?;
        let output = match state {
            StepState::Done(output) => Some(output),
            _ => None,
        };
        self.push_undo(step, output);
        outcome
    }

    async fn attempt<S: Step>(&self, step: &S) -> Result<S::Output> {
        let patience = match (ledger::is_of_certificate(&self.cx), self.undos.is_empty()) {
            (true, _) => PATIENCE_OF_CERTIFICATES,
            (false, true) => PATIENCE,
            (false, false) => PATIENCE_ONCE_BEGUN,
        };
        let mut attempts = Attempts::within(patience);
        loop {
            // In a box: what steps hold would add up on the stack of whoever polls.
            match Box::pin(step.run(&self.cx)).await {
                Ok(output) => return Ok(output),
                Err(error) => attempts.after(&self.cx, step.name(), error).await?,
            }
        }
    }

    fn replay<S: Step>(&mut self, step: S, stored: Option<job_step::Model>) -> Result<S::Output> {
        let Some(row) = stored else { return Err(replayed()) };
        match row.state.as_str() {
            "done" => {
                let output = row.output.unwrap_or(Value::Null);
                self.push_undo(step, Some(output.clone()));
                Ok(serde_json::from_value(output)?)
            }
            "undone" => Err(replayed()),
            // It began, or its undo failed: whatever it left is to go.
            _ => {
                self.push_undo(step, row.output);
                Err(replayed())
            }
        }
    }

    fn push_undo<S: Step>(&mut self, step: S, output: Option<Value>) {
        let name = step.name();
        let step = Arc::new(step);
        let undo: Undo = Box::new(move |cx| {
            let (step, output) = (Arc::clone(&step), output.clone());
            Box::pin(async move {
                let output = output.map(serde_json::from_value).transpose()?;
                step.undo(&cx, output).await
            })
        });
        self.undos.push((name, undo));
    }

    /// Takes back what was done, newest first. An undo is tried again while the server or a service
    /// of ours is away; the first that fails for another reason ends it: the job is then for an
    /// operator.
    pub async fn unwind(self) -> Result<()> {
        let Self { cx, undos, .. } = self;
        for (name, undo) in undos.into_iter().rev() {
            cx.log(Level::Info, name, "Taking this step back.").await?;
            let outcome = persist(&cx, name, &undo).await;
            let state = match &outcome {
                Ok(()) => StepState::Undone,
                Err(error) => StepState::UndoFailed(error.to_string()),
            };
            let tx = cx.world.db.system().await?;
            jobs::record_step(&tx, &cx.claim, name, &state).await?;
            tx.commit().await?;
            outcome?;
        }
        Ok(())
    }
}

async fn persist(cx: &Cx, name: &str, undo: &Undo) -> Result<()> {
    let mut attempts = Attempts::within(PATIENCE_ONCE_BEGUN);
    while let Err(error) = undo(cx.clone()).await {
        attempts.after(cx, name, error).await?;
    }
    Ok(())
}

/// Whether the same call may work in a moment.
fn is_passing(error: &Error) -> bool {
    if let Error::Later { secs, .. } = error
        && *secs > PATIENCE_OF_CERTIFICATES.as_secs()
    {
        return false;
    }
    matches!(
        error.code(),
        Code::ServerUnreachable
            | Code::Unavailable
            | Code::DnsFailed
            | Code::CaUnavailable
            | Code::NodeUnknown
    )
}

/// Attempts at one thing, with growing pauses between them. The first failure begins the time that they
/// have: what was at work for an hour, and has lost its connection then, is not given up for that.
pub struct Attempts {
    patience: Duration,
    failed_at: Option<Instant>,
    pause: Duration,
}

impl Attempts {
    /// Attempts for so long.
    #[must_use]
    pub fn within(patience: Duration) -> Self {
        Self { patience, failed_at: None, pause: Duration::from_secs(1) }
    }

    /// Waits until the next attempt; gives the error back when another is of no use, or too late.
    pub async fn after(&mut self, cx: &Cx, step: &str, error: Error) -> Result<()> {
        let failed_at = *self.failed_at.get_or_insert_with(Instant::now);
        if !is_passing(&error) || failed_at.elapsed() + self.pause > self.patience {
            return Err(error);
        }
        let message = format!("{error} Trying again in {} s.", self.pause.as_secs());
        cx.log(Level::Warn, step, &message).await?;
        tokio::time::sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2).min(PAUSE_MAX);
        Ok(())
    }
}

impl Cx {
    /// Asks the agent on the job's server under this claim; its log lines go to the job's log.
    pub async fn ask_agent<T: DeserializeOwned>(
        &self,
        step: &str,
        call: Call,
        progress: Progress,
    ) -> Result<T> {
        let session = self.world.fleet.session(&self.world, &self.server).await?;
        self.ask_over(&session, step, call, progress).await
    }

    /// The same over a given connection.
    pub async fn ask_over<T: DeserializeOwned>(
        &self,
        session: &Session,
        step: &str,
        call: Call,
        progress: Progress,
    ) -> Result<T> {
        let job = JobRef { id: self.claim.job.0, fence: self.claim.fence };
        let (sender, news) = mpsc::unbounded_channel();
        let asking = async {
            let answer = agent::call(session, Some(job), call, Some(&sender)).await;
            drop(sender);
            answer
        };
        let (answer, told) = tokio::join!(asking, self.tell(step, news, progress));
        told?;
        answer
    }

    async fn tell(
        &self,
        step: &str,
        mut news: mpsc::UnboundedReceiver<News>,
        progress: Progress,
    ) -> Result<()> {
        let mut told: Option<Instant> = None;
        while let Some(what) = news.recv().await {
            match what {
                News::Log { level, message } => self.log(level, step, &message).await?,
                News::Progress { done, total, message } => {
                    let Progress::Of { from, width } = progress else { continue };
                    if told.is_some_and(|at| at.elapsed() < PROGRESS_EVERY) {
                        continue;
                    }
                    let part = done.min(total).saturating_mul(width).checked_div(total);
                    let percent = i32::try_from(from.saturating_add(part.unwrap_or(0)));
                    ledger::progress(self, percent.unwrap_or(100), &message).await?;
                    told = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Writes a line into the job's log.
    pub async fn log(&self, level: Level, step: &str, message: &str) -> Result<()> {
        match level {
            Level::Info => tracing::info!(step, message, "job.log"),
            Level::Warn => tracing::warn!(step, message, "job.log"),
            Level::Error => tracing::error!(step, message, "job.log"),
        }
        let tx = self.world.db.system().await?;
        jobs::append_log(&tx, &self.claim, level, Some(step), message).await?;
        tx.commit().await
    }
}
