//! A job's live progress as server-sent events (WHATWG HTML section 9.2).

use crate::auth::{Caller, Credentials};
use crate::error::ApiError;
use crate::routes::jobs::{LINES, News, is_full, read_news};
use crate::routes::migration::status::{LogLine, read_status};
use crate::state::State;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, get, web};
use entities::error::Error;
use entities::ids::JobId;
use entities::tenancy::Permission;
use entities::{jobs, migrations};
use serde::Serialize;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// How often a stream looks by itself; also what keeps proxies from closing it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The longest that one stream lives: the client comes back with `Last-Event-ID`.
const STREAM_SECS_MAX: u64 = 15 * 60;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(stream_events).service(stream_job_events);
}

/// One event of the stream.
#[derive(Debug, Serialize, ToSchema)]
struct Event {
    /// `log`, `status` or `end`.
    event: String,
    /// Of a `log`: its `seq`, for `Last-Event-ID`.
    id: Option<String>,
    /// JSON: what the status endpoint answers, or a line of the log.
    data: String,
}

/// Live progress: `status` events carry what the status endpoint answers, `log` events a line of the
/// log with its `seq` as id, and `end` tells that nothing more comes by itself. With `Last-Event-ID`
/// the log goes on after that line. The stream ends with the token, and with the rights that it began
/// with.
#[utoipa::path(
    tag = "migration",
    params(("id" = Uuid, Path, description = "the job")),
    responses((status = 200, content_type = "text/event-stream", body = Event))
)]
#[get("/api/migration/job/{id}/events")]
async fn stream_events(
    caller: Caller,
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    stream(Of::Migration, caller, &request, state, JobId(*id)).await
}

/// The same of any job that one may see: `status` events carry the job with its steps, without what
/// changes with each moment, and `end` comes when it is `done` or `failed`.
#[utoipa::path(
    tag = "jobs",
    params(("id" = Uuid, Path, description = "the job")),
    responses((status = 200, content_type = "text/event-stream", body = Event))
)]
#[get("/api/jobs/{id}/events")]
async fn stream_job_events(
    caller: Caller,
    request: HttpRequest,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    stream(Of::Job, caller, &request, state, JobId(*id)).await
}

/// What a stream shows of a job.
#[derive(Debug, Clone, Copy)]
enum Of {
    Migration,
    Job,
}

impl Of {
    /// Reads what is new after a line of the log.
    async fn read(
        self,
        state: &State,
        caller: &Caller,
        id: JobId,
        after: i64,
    ) -> Result<News, Error> {
        if let Self::Job = self {
            return read_news(state, caller, id, after).await;
        }
        let tx = state.db.read(&caller.0, Permission::MigrationsRead).await?;
        let (_, row) = migrations::find_migration(&tx, id).await?;
        let lines = jobs::list_logs(&tx, id, after, LINES).await?;
        drop(tx);
        let status = read_status(state, caller, id).await?;
        Ok(News {
            last: lines.last().map(|line| line.seq),
            more: is_full(lines.len()),
            lines: lines.into_iter().map(LogLine::from).collect(),
            status: serde_json::to_string(&status)?,
            ended: row.state.is_settled(),
        })
    }
}

async fn stream(
    of: Of,
    caller: Caller,
    request: &HttpRequest,
    state: web::Data<State>,
    id: JobId,
) -> Result<HttpResponse, ApiError> {
    let after = request
        .headers()
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    // Whoever may not see it is told so instead of getting a stream.
    of.read(&state, &caller, id, after).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(64);
    let news = state.progress.subscribe();
    let credentials = Credentials::of(request)?;
    let stream = Stream { of, state, credentials, id, after, shown: String::new(), sender };
    actix_web::rt::spawn(stream.run(news));
    let body = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|bytes| (Ok::<_, actix_web::Error>(bytes), receiver))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(body))
}

struct Stream {
    of: Of,
    state: web::Data<State>,
    credentials: Credentials,
    id: JobId,
    after: i64,
    /// The last status that was sent.
    shown: String,
    sender: mpsc::Sender<Bytes>,
}

/// The client has gone, or nothing more comes.
struct Ended;

impl Stream {
    async fn run(mut self, mut news: broadcast::Receiver<Uuid>) {
        let life = Duration::from_secs(STREAM_SECS_MAX);
        let told = tokio::time::timeout(life, async {
            while self.tell().await.is_ok() {
                self.wait(&mut news).await;
            }
        });
        if told.await.is_err() {
            tracing::debug!(job = %self.id, "events.stream_closed_by_age");
        }
    }

    /// Waits for news of this job, but not for long.
    async fn wait(&self, news: &mut broadcast::Receiver<Uuid>) {
        let mine = async {
            loop {
                match news.recv().await {
                    Ok(job) if job != self.id.0 => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => return,
                    Err(broadcast::error::RecvError::Closed) => {
                        tokio::time::sleep(LOOK_EVERY).await;
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(LOOK_EVERY, mine).await.is_err() {
            tracing::trace!(job = %self.id, "events.looking_without_news");
        }
    }

    async fn tell(&mut self) -> Result<(), Ended> {
        match self.look().await {
            Ok(settled) if settled => {
                self.send("event: end\ndata: {}\n\n".to_owned()).await?;
                Err(Ended)
            }
            Ok(_) => self.send(": alive\n\n".to_owned()).await,
            Err(Looked::Gone) => Err(Ended),
            Err(Looked::Failed(error)) => {
                tracing::info!(cause = %error.chain(), job = %self.id, "events.look_failed");
                Err(Ended)
            }
        }
    }

    /// Sends what is new; whether nothing more comes by itself.
    async fn look(&mut self) -> Result<bool, Looked> {
        let caller = self.credentials.check(&self.state).await?;
        let news = self.of.read(&self.state, &caller, self.id, self.after).await?;
        for line in &news.lines {
            let data = serde_json::to_string(line).map_err(Error::from)?;
            self.send(format!("event: log\nid: {}\ndata: {data}\n\n", line.seq)).await?;
        }
        self.after = news.last.unwrap_or(self.after);
        if news.status != self.shown {
            self.send(format!("event: status\ndata: {}\n\n", news.status)).await?;
            self.shown = news.status;
        }
        Ok(news.ended && !news.more)
    }

    async fn send(&self, text: String) -> Result<(), Ended> {
        self.sender.send(Bytes::from(text)).await.map_err(|_gone| Ended)
    }
}

enum Looked {
    Gone,
    Failed(Error),
}

impl From<Error> for Looked {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Ended> for Looked {
    fn from(_: Ended) -> Self {
        Self::Gone
    }
}
