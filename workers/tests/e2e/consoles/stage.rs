//! A node with containers, and the two processes between it and a client.

use super::terminal::{Refused, Terminal};
use crate::bed::sandbox;
use crate::client::Client;
use crate::gates::Database;
use crate::pods::bed::Bed;
use crate::processes::{OWNER, PASSWORD, bootstrap, process, serve, show_logs};
use crate::program::{Process, program, run, run_with, wait_for};
use entities::tables::cloudpod;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Root's, in each container.
pub const ROOT: &str = "typed-And-Never-Logged";

pub struct Stage {
    bed: Option<Bed>,
    pub client: Client,
    pub pods: Vec<cloudpod::Model>,
    api: Option<Process>,
    provisioner: Option<Process>,
    port: u16,
    vhost: String,
    amqp: String,
    log_filter: &'static str,
    dir: Option<TempDir>,
}

impl Stage {
    /// So many containers that run, and somebody who owns them.
    pub async fn open(name: &str, pods: usize) -> Self {
        Self::open_logging(name, pods, "info").await
    }

    pub async fn open_logging(name: &str, pods: usize, log_filter: &'static str) -> Self {
        let bed = Bed::open(name, 1).await;
        let mut made = Vec::new();
        for nth in 1..=pods {
            let pod = bed.make(&format!("c{nth}.example")).await;
            bed.inside(&pod, &format!("echo root:{ROOT} | chpasswd"));
            made.push(pod);
        }
        let vhost = format!("e2e-{name}");
        let amqp = run(program(sandbox("services")).args(["vhost", &vhost])).trim().to_owned();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut stage = Self {
            bed: Some(bed),
            client: Client::new(&format!("http://127.0.0.1:{port}")),
            pods: made,
            api: None,
            provisioner: None,
            port,
            vhost,
            amqp,
            log_filter,
            dir: Some(tempfile::Builder::new().prefix("migrapanel-console-").tempdir().unwrap()),
        };
        bootstrap(stage.process("api"));
        stage.start_provisioner();
        stage.start_api().await;
        stage.client.log_in(OWNER, PASSWORD).await;
        stage
    }

    pub fn bed(&self) -> &Bed {
        self.bed.as_ref().unwrap()
    }

    fn process(&self, name: &str) -> Command {
        let mut command = process(name, self.bed().db.url.expose_secret(), &self.amqp);
        command.env("RUST_LOG", self.log_filter).env("MIGRAPANEL__ASK_TIMEOUT_SECS", "20");
        command
    }

    fn log_file(&self, name: &str) -> PathBuf {
        self.dir.as_ref().unwrap().path().join(format!("{name}.log"))
    }

    /// What a process has logged.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    pub async fn start_api(&mut self) {
        let log = self.log_file("api");
        self.api = Some(serve(self.process("api"), self.port, &self.client, &log).await);
    }

    pub fn start_provisioner(&mut self) {
        let log = self.log_file("provisioner");
        self.provisioner = Some(Process::start(&mut self.process("provisioner"), &log));
    }

    pub fn take_api(&mut self) -> Process {
        self.api.take().unwrap()
    }

    pub fn take_provisioner(&mut self) -> Process {
        self.provisioner.take().unwrap()
    }

    /// How much memory the two processes have, in KiB.
    pub fn memory(&self) -> [u64; 2] {
        [&self.api, &self.provisioner].map(|process| {
            let file = format!("/proc/{}/status", process.as_ref().unwrap().id());
            let status = std::fs::read_to_string(file).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        })
    }

    /// How many clients the API is connected with.
    pub fn connections(&self) -> usize {
        let port = format!(":{:04X}", self.port);
        let established = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words[1].ends_with(&port) && words[3] == "01"
        };
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        table.lines().skip(1).filter(established).count()
    }

    pub fn path(&self, nth: usize) -> String {
        format!("/api/cloudpods/{}/console", self.pods[nth].id)
    }

    /// A ticket for a pod's console.
    pub async fn ticket(&self, nth: usize) -> String {
        self.ticket_of(&self.client, nth).await
    }

    pub async fn ticket_of(&self, client: &Client, nth: usize) -> String {
        let given = client.post(&self.path(nth), json!({})).await.data(201);
        let url = format!("ws://127.0.0.1:{}{}", self.port, self.path(nth));
        assert_eq!(given["url"], Value::from(url));
        given["ticket"].as_str().unwrap().to_owned()
    }

    pub async fn try_open(&self, nth: usize, ticket: &str) -> Result<Terminal, Refused> {
        self.try_open_from(nth, ticket, None).await
    }

    pub async fn try_open_from(
        &self,
        nth: usize,
        ticket: &str,
        origin: Option<&str>,
    ) -> Result<Terminal, Refused> {
        let url = format!("ws://127.0.0.1:{}{}", self.port, self.path(nth));
        Terminal::open(&url, ticket, origin).await
    }

    /// A pod's console with the prompt of a shell. Until the worker listens another is opened.
    pub async fn shell(&self, nth: usize) -> Terminal {
        let client = self.client.clone();
        self.shell_of(&client, nth).await
    }

    pub async fn shell_of(&self, client: &Client, nth: usize) -> Terminal {
        let ticket = self.ticket_of(client, nth).await;
        let mut terminal = self.try_open(nth, &ticket).await.unwrap();
        terminal.log_in(ROOT).await;
        terminal
    }

    /// Waits until a worker takes consoles.
    pub async fn served(&self) {
        wait_for("a worker", Duration::from_secs(30), async || {
            let count = "SELECT count(*) FROM cloudpod_console WHERE opened_at IS NOT NULL";
            assert_eq!(self.bed().sql(count).trim(), "0");
            let ticket = self.ticket(0).await;
            let mut terminal = self.try_open(0, &ticket).await.unwrap();
            let (code, _) = match terminal.says_or_ends("login:").await {
                Ok(()) => {
                    terminal.close().await;
                    return Some(());
                }
                Err(end) => end,
            };
            assert_eq!(code, 1013);
            None
        })
        .await;
        self.nobody_in_a_terminal(Duration::from_secs(30)).await;
    }

    /// The processes of consoles on the node.
    pub fn in_terminals(&self) -> String {
        self.bed().nodes[0].sh("pgrep -a lxc-console || true")
    }

    pub async fn nobody_in_a_terminal(&self, limit: Duration) {
        self.nothing_on_the_node(limit).await;
        wait_for("no console's row", limit, async || (self.rows() == 0).then_some(())).await;
    }

    /// Waits until no console's process is left on the node.
    pub async fn nothing_on_the_node(&self, limit: Duration) {
        wait_for("an empty terminal", limit, async || {
            self.in_terminals().trim().is_empty().then_some(())
        })
        .await;
    }

    /// The consoles that the database knows.
    pub fn rows(&self) -> u32 {
        self.bed()
            .sql_text("SELECT count(*) FROM cloudpod_console WHERE opened_at IS NOT NULL")
            .parse()
            .unwrap()
    }

    pub async fn end(mut self) {
        drop((self.api.take(), self.provisioner.take()));
        self.bed.take().unwrap().end().await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop((self.api.take(), self.provisioner.take()));
        run_with(program(sandbox("services")).args(["vhost-delete", &self.vhost]), b"");
        if let Some(dir) = self.dir.take().filter(|_| std::thread::panicking()) {
            show_logs(&dir.keep(), &["api", "provisioner"]);
        }
    }
}
