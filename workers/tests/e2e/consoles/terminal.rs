//! Somebody at a console.

use futures::{SinkExt, StreamExt};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Terminal {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What was shown and not looked for yet.
    shown: String,
}

/// A handshake that came to nothing: the status, and the code of the refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub u16, pub String);

/// The code and the reason of a close.
pub type End = (u16, String);

impl Terminal {
    pub async fn open(url: &str, ticket: &str, origin: Option<&str>) -> Result<Self, Refused> {
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        let protocols = format!("migrapanel.console.v1, ticket.{ticket}");
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, answer)) => {
                assert_eq!(answer.headers()["sec-websocket-protocol"], "migrapanel.console.v1");
                Ok(Self { socket, shown: String::new() })
            }
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
                let code = body["code"].as_str().unwrap_or_default().to_owned();
                Err(Refused(answer.status().as_u16(), code))
            }
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn type_text(&mut self, text: &str) {
        self.send(Message::binary(text.as_bytes().to_vec())).await;
    }

    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    pub async fn resize(&mut self, cols: u32, rows: u32) {
        let text = format!(r#"{{"resize":{{"cols":{cols},"rows":{rows}}}}}"#);
        self.send(Message::text(text)).await;
    }

    /// Waits until this is shown; what stood before it.
    #[track_caller]
    pub fn shows(&mut self, text: &str) -> impl Future<Output = String> {
        let at = std::panic::Location::caller();
        async move {
            match timeout(PATIENCE, self.find(text)).await {
                Ok(Ok(before)) => before,
                Ok(Err(end)) => panic!("{at}: {end:?} before {text:?}: {:?}", self.shown),
                Err(_) => panic!("{at}: {text:?} is not shown: {:?}", self.shown),
            }
        }
    }

    async fn find(&mut self, text: &str) -> Result<String, End> {
        loop {
            if let Some((before, after)) = self.shown.split_once(text) {
                let (before, after) = (before.to_owned(), after.to_owned());
                self.shown = after;
                return Ok(before);
            }
            match self.next().await {
                // `lxc-console` adds returns of its own.
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
                    self.shown.push_str(&text);
                }
                Err(end) => return Err(end),
            }
        }
    }

    /// What is shown next.
    pub async fn next(&mut self) -> Result<Vec<u8>, End> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.expect("a close has a code");
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err((0, error.to_string())),
                None => return Err((0, "the connection ended without a close".to_owned())),
            }
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self, limit: Duration) -> End {
        let reading = async {
            loop {
                if let Err(end) = self.next().await {
                    return end;
                }
            }
        };
        timeout(limit, reading).await.expect("the console does not end")
    }

    /// Waits for what the container's terminal says to a fresh line.
    #[track_caller]
    pub fn says(&mut self, prompt: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let said = self.says_or_ends(prompt).await;
            assert_eq!(said, Ok(()), "{at}: {:?}", self.shown);
        }
    }

    /// The same. What is typed before `lxc-console` reads is lost, and nothing tells when it does.
    pub async fn says_or_ends(&mut self, prompt: &str) -> Result<(), End> {
        let asking = async {
            self.find("to enter Ctrl+a itself\n").await?;
            loop {
                self.type_text("\r").await;
                if let Ok(found) = timeout(Duration::from_secs(1), self.find(prompt)).await {
                    return found.map(drop);
                }
            }
        };
        timeout(PATIENCE, asking).await.expect("it neither says that nor ends")
    }

    pub async fn log_in(&mut self, password: &str) {
        self.says("login:").await;
        self.type_text("root\r").await;
        self.shows("assword:").await;
        self.type_text(&format!("{password}\r")).await;
        self.shows("#").await;
        self.type_text("PS1='READY ''> '; bind 'set enable-bracketed-paste off'\r").await;
        self.shows("READY > ").await;
    }

    /// Runs a command of the shell; what it printed.
    pub async fn run(&mut self, command: &str) -> String {
        self.type_text(&format!("{command}; echo DO''NE\r")).await;
        let printed = self.shows("DONE\n").await;
        let (_, printed) = printed.split_once('\n').unwrap_or_default();
        self.shows("READY > ").await;
        printed.trim().to_owned()
    }

    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        self.ended(PATIENCE).await;
    }
}
