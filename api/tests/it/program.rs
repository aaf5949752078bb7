//! The real program, as an operator or a supervisor starts it.

use crate::app::{App, Client, KEYS, TOKEN_KEYS};
use entities::config;
use reqwest::StatusCode;
use secrecy::ExposeSecret;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// `migrapanel-api COMMAND` on the application's database.
pub fn program(app: &App, command: &str) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the one door of these tests")]
    let mut program = Command::new(env!("CARGO_BIN_EXE_migrapanel-api"));
    program.arg(command).env("DATABASE_URL", app.db.url.expose_secret()).kill_on_drop(true);
    program
}

/// Asks again until it holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("it never came to this: {what}"));
}

/// What the second process calls itself in Postgres.
pub const SECOND: &str = "second process";

/// Another process of the API on the same database and Redis.
pub struct Process {
    pub url: String,
    _child: Child,
}

impl Process {
    /// Starts it and waits until it hears of ended logins.
    pub async fn start(app: &App) -> Self {
        Self::start_with(app, KEYS, TOKEN_KEYS).await
    }

    /// The same with other keys.
    pub async fn start_with(app: &App, jwt_keys: &str, token_keys: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let secret = |name| config::secret(name).unwrap().expose_secret().to_owned();
        let edge = &app.state.edge;
        let proxies: Vec<String> = edge.trusted_proxies.iter().map(ToString::to_string).collect();
        let child = program(app, "serve")
            .env("REDIS_URL", secret("TEST_REDIS_URL"))
            .env("AMQP_URL", secret("TEST_AMQP_URL"))
            .env("PGAPPNAME", SECOND)
            .env("MIGRAPANEL__LISTEN", free.to_string())
            .env("MIGRAPANEL__JWT_KEYS", jwt_keys)
            .env("MIGRAPANEL__TOKEN_KEYS", token_keys)
            .env("MIGRAPANEL__TRUSTED_PROXIES", proxies.join(","))
            .env("MIGRAPANEL__ANONYMOUS_REQUESTS", edge.anonymous_requests.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { url: format!("http://{free}"), _child: child };
        process.until_sessions(app, "listening").await;
        process
    }

    /// Waits until its readiness says this of sessions.
    pub async fn until_sessions(&self, app: &App, word: &str) {
        let client = app.anonymous().at(&self.url);
        until(&format!("sessions are {word}"), async || {
            let ready = client.try_get("/readyz").await;
            ready.is_some_and(|got| got.status == StatusCode::OK && got.body["sessions"] == word)
        })
        .await;
    }

    /// The same person, who asks this process.
    pub fn client(&self, client: &Client) -> Client {
        client.at(&self.url)
    }
}
