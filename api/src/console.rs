//! A console's WebSocket, bridged to the worker at the node.
//!
//! What is typed is read from the socket only when the worker has room for it, and what is shown is
//! said to be taken in hand only when the socket has taken it: whoever is slow slows the other side
//! down, and nothing grows. A console lives by the rights of whoever has opened it, which are looked
//! at again and again; its access token is not needed any more. What goes through is logged nowhere.

use crate::state::State;
use actix_web::web::{Bytes, Data};
use actix_ws::{
    AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, MessageStream,
    ProtocolError, Session,
};
use console::{End, Heard, Sender, Size, Why};
use entities::Result;
use entities::asks::{Ask, Attached, Question};
use entities::cloudpods::consoles::{self, Opened};
use entities::error::{Code, Error};
use entities::ids::{CloudpodId, RequestId};
use serde::Deserialize;
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// The longest message of a client, in bytes.
const MESSAGE_MAX: usize = 64 << 10;
/// How often a client is asked for a sign of life, and when one that gives none is given up.
const PING: Duration = Duration::from_secs(20);
const DEAD: Duration = Duration::from_secs(60);
/// How long a console may show nothing and be told nothing, and how long it lives at most.
const IDLE: Duration = Duration::from_secs(30 * 60);
const LIFE: Duration = Duration::from_secs(8 * 60 * 60);
/// How often the rights are looked at, and how long they may be unknown.
const LOOK: Duration = Duration::from_secs(30);
const UNKNOWN: Duration = Duration::from_secs(90);
/// How long the worker may take nothing of what is typed.
const STUCK: Duration = Duration::from_secs(60);
/// How long the database may take to forget a console.
const FORGET: Duration = Duration::from_secs(2);
/// How long a client may take to hear of the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// A console that was opened, and is to be served.
#[derive(Debug)]
pub struct Console {
    pub state: Data<State>,
    pub opened: Opened,
    pub pod: CloudpodId,
    pub request: RequestId,
}

/// What a client says beside what is typed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Control {
    Resize(Size),
}

impl Console {
    /// Serves it to its end.
    pub async fn serve(self, socket: Session, stream: MessageStream) {
        let id = self.opened.id;
        let stream = stream.max_frame_size(MESSAGE_MAX).aggregate_continuations();
        let mut stream = stream.max_continuation_size(MESSAGE_MAX);
        let attached = tokio::select! {
            attached = self.attach() => attached,
            () = self.state.ending.cancelled() => Err(stopping()),
        };
        let (end, sender) = match attached {
            Ok((sender, heard)) => {
                (self.bridge(&socket, &mut stream, (&sender, heard)).await, Some(sender))
            }
            Err(end) => (end, None),
        };
        tracing::info!(console = %id, why = ?end.why, "console.closed");
        self.forget().await;
        // Both at once: neither is to wait for one that does not answer.
        let told = async {
            if let Some(sender) = sender {
                sender.end(end.clone()).await;
            }
        };
        tokio::join!(told, say_farewell(socket, stream, end.clone()));
    }

    /// It counts no more; if nobody can write that down now, soon by itself.
    async fn forget(&self) {
        let forgetting = consoles::close_console(&self.state.db, self.opened.id);
        match timeout(FORGET, forgetting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(cause = %error.chain(), "console.row_left"),
            Err(_elapsed) => tracing::warn!("console.row_left"),
        }
    }

    /// Has a worker begin the terminal.
    async fn attach(&self) -> Result<(Sender, UnboundedReceiver<Heard>), End> {
        let attach = async {
            let link = self.state.asker.link().await?;
            let queue = link.queue().to_owned();
            let question = Question::Console { console: self.opened.id, pod: self.pod, queue };
            let attached: Attached =
                self.state.asker.ask(&Ask::new(&self.opened.ctx, question)).await?;
            Ok::<_, Error>(link.join(&attached.queue))
        };
        let joined = attach.await;
        joined.map_err(|error| {
            tracing::warn!(console = %self.opened.id, cause = %error.chain(), "console.not_opened");
            not_opened(&error)
        })
    }

    async fn bridge(
        &self,
        socket: &Session,
        stream: &mut AggregatedMessageStream,
        (sender, heard): (&Sender, UnboundedReceiver<Heard>),
    ) -> End {
        let signs = Signs::new(Instant::now());
        tokio::select! {
            end = show(heard, socket.clone(), sender, &signs) => end,
            end = take(stream, socket.clone(), sender, &signs) => end,
            end = self.watch(socket, &signs) => end,
            () = self.state.ending.cancelled() => stopping(),
        }
    }

    /// Looks after the client's life and rights.
    async fn watch(&self, socket: &Session, signs: &Signs) -> End {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut pinged, mut looked) = (Instant::now(), Instant::now());
        let mut known = looked;
        loop {
            let now = seconds.tick().await;
            if let Some(end) = signs.due(now) {
                return end;
            }
            if now.duration_since(pinged) >= PING {
                pinged = now;
                // One that reads nothing has no room for it, and is dead soon.
                let asked = timeout(Duration::from_secs(1), socket.clone().ping(b"")).await;
                tracing::trace!(sent = asked.is_ok(), "console.pinged");
            }
            if now.duration_since(looked) >= LOOK {
                looked = now;
                match self.look().await {
                    Ok(()) => known = Instant::now(),
                    Err(Some(end)) => return end,
                    Err(None) if known.elapsed() < UNKNOWN => {}
                    Err(None) => {
                        return End::new(Why::Away, "Your rights cannot be looked at. Try again.");
                    }
                }
            }
        }
    }

    /// Whether the rights are there still; no end: nobody can say.
    async fn look(&self) -> Result<(), Option<End>> {
        let looked = consoles::look_again(&self.state.db, self.opened.id, self.request).await;
        looked.map_err(|error| {
            tracing::info!(console = %self.opened.id, cause = %error.chain(), "console.rights");
            match error.code() {
                Code::Unavailable | Code::Internal => None,
                _ => Some(End::new(Why::RightsGone, &error.to_string())),
            }
        })
    }
}

/// What is known of a client's life.
#[derive(Debug)]
struct Signs {
    began: Instant,
    /// When anything was heard of the client.
    heard: Cell<Instant>,
    /// When anything was typed or shown.
    moved: Cell<Instant>,
    /// The worker is waited for, so that the client is not listened to.
    waits: Cell<bool>,
}

impl Signs {
    fn new(now: Instant) -> Self {
        Self { began: now, heard: Cell::new(now), moved: Cell::new(now), waits: Cell::new(false) }
    }

    fn hear(&self) {
        self.heard.set(Instant::now());
    }

    fn move_on(&self) {
        self.moved.set(Instant::now());
    }

    /// Waits for the worker.
    async fn waiting(&self, sending: impl Future<Output = Result<()>>) -> Result<(), End> {
        self.waits.set(true);
        let sent = timeout(STUCK, sending).await;
        self.waits.set(false);
        self.hear();
        let stuck = |_elapsed| {
            End::new(Why::Away, "The terminal takes nothing any more. Open the console again.")
        };
        sent.map_err(stuck)?.map_err(|error| lost(&error))
    }

    /// The end that is due at this time.
    fn due(&self, now: Instant) -> Option<End> {
        let text = if now.duration_since(self.began) >= LIFE {
            "A console lives eight hours. Open another."
        } else if now.duration_since(self.moved.get()) >= IDLE {
            "Nothing was typed or shown for half an hour. Open the console again."
        } else if !self.waits.get() && now.duration_since(self.heard.get()) >= DEAD {
            "You gave no sign of life for a minute. Open the console again."
        } else {
            return None;
        };
        Some(End::new(Why::Ended, text))
    }
}

/// Shows what comes from the terminal.
async fn show(
    mut heard: UnboundedReceiver<Heard>,
    mut socket: Session,
    sender: &Sender,
    signs: &Signs,
) -> End {
    while let Some(said) = heard.recv().await {
        let cost = said.cost();
        match said {
            Heard::Bytes(bytes) => {
                signs.move_on();
                if socket.binary(bytes).await.is_err() {
                    return gone();
                }
            }
            Heard::End(end) => return end,
            Heard::Resize(_) => {}
        }
        if let Err(error) = sender.done(cost).await {
            return lost(&error);
        }
    }
    End::new(Why::Away, LOST)
}

/// Takes what the client says.
async fn take(
    stream: &mut AggregatedMessageStream,
    mut socket: Session,
    sender: &Sender,
    signs: &Signs,
) -> End {
    while let Some(message) = stream.recv().await {
        signs.hear();
        let taken = match message {
            Ok(AggregatedMessage::Binary(bytes)) => {
                signs.move_on();
                signs.waiting(sender.send_bytes(bytes)).await
            }
            Ok(AggregatedMessage::Text(text)) => match serde_json::from_str(&text) {
                Ok(Control::Resize(size)) => signs.waiting(sender.resize(size)).await,
                Err(_) => Err(End::new(Why::Unreadable, UNREADABLE)),
            },
            Ok(AggregatedMessage::Ping(bytes)) => pong(&mut socket, &bytes).await,
            Ok(AggregatedMessage::Pong(_)) => Ok(()),
            Ok(AggregatedMessage::Close(_)) => Err(gone()),
            Err(ProtocolError::Overflow) => {
                Err(End::new(Why::TooLong, "A message has at most 65536 bytes."))
            }
            Err(_) => Err(End::new(Why::Unreadable, "This is no WebSocket's frame.")),
        };
        if let Err(end) = taken {
            return end;
        }
    }
    gone()
}

async fn pong(socket: &mut Session, bytes: &Bytes) -> Result<(), End> {
    socket.pong(bytes).await.map_err(|_closed| gone())
}

const LOST: &str = "The connection to the node was lost. Open the console again.";
const UNREADABLE: &str = r#"A text is {"resize": {"cols": 80, "rows": 24}}, each side 1 to 500; what is typed is binary."#;

fn gone() -> End {
    End::new(Why::Ended, "You have closed it.")
}

fn lost(error: &Error) -> End {
    tracing::info!(cause = %error.chain(), "console.lost");
    End::new(Why::Away, LOST)
}

fn stopping() -> End {
    End::new(Why::Stopping, "The service stops here. Open the console again.")
}

/// What goes wrong on a node is for its operators, in the log.
fn not_opened(error: &Error) -> End {
    match error.code() {
        Code::NoWorker | Code::WorkerTimeout | Code::Unavailable => {
            End::new(Why::Full, "No worker takes it now. Try again in a minute.")
        }
        Code::QuotaExceeded => End::new(Why::Full, &error.to_string()),
        Code::Forbidden | Code::NotFound | Code::TenantSuspended | Code::CloudpodState => {
            End::new(Why::RightsGone, &error.to_string())
        }
        _ => End::new(Why::Away, "The node does not answer. Try again in a minute."),
    }
}

fn close_code(why: Why) -> CloseCode {
    match why {
        Why::Ended => CloseCode::Normal,
        Why::RightsGone => CloseCode::Policy,
        Why::Away => CloseCode::Error,
        Why::Full => CloseCode::Again,
        Why::Stopping => CloseCode::Away,
        Why::Unreadable => CloseCode::Invalid,
        Why::TooLong => CloseCode::Size,
    }
}

/// Tells a client why it ends, and listens until the client has heard of it: what it has sent meanwhile
/// would otherwise break the connection off before.
pub async fn say_farewell(socket: Session, mut stream: AggregatedMessageStream, end: End) {
    let reason = CloseReason { code: close_code(end.why), description: Some(end.text) };
    let telling = async {
        if socket.close(Some(reason)).await.is_ok() {
            while let Some(Ok(_)) = stream.recv().await {}
        }
    };
    if timeout(FAREWELL, telling).await.is_err() {
        tracing::debug!("console.client_hears_nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_ends_when_it_is_idle_old_or_alone() {
        let now = Instant::now();
        let signs = Signs::new(now);
        let after = |time: Duration| signs.due(now + time).map(|end| end.text);
        assert_eq!(after(DEAD - Duration::from_secs(1)), None);
        assert!(after(DEAD).unwrap().contains("no sign of life"));
        // While the worker is waited for the client is not listened to.
        signs.waits.set(true);
        assert_eq!(after(IDLE - Duration::from_secs(1)), None);
        assert!(after(IDLE).unwrap().contains("half an hour"));
        signs.moved.set(now + LIFE);
        assert!(after(LIFE).unwrap().contains("eight hours"));
        assert_eq!(after(LIFE - Duration::from_secs(1)), None);
    }

    #[test]
    fn what_is_no_resize_is_refused() {
        for (text, is_known) in [
            (r#"{"resize":{"cols":80,"rows":24}}"#, true),
            (r#"{"resize":{"cols":0,"rows":24}}"#, false),
            (r#"{"resize":{"cols":80,"rows":501}}"#, false),
            (r#"{"resize":{"cols":80,"rows":24},"x":1}"#, false),
            (r#"{"exec":"reboot"}"#, false),
            ("[]", false),
        ] {
            assert_eq!(serde_json::from_str::<Control>(text).is_ok(), is_known, "{text}");
        }
    }
}
