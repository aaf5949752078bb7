//! One stack a test: a database, a virtual host of RabbitMQ, the three processes, and a server.

use crate::bed::{given, sandbox};
use crate::client::Client;
use crate::processes::{OWNER, PASSWORD, bootstrap, process, serve, show_logs};
use crate::program::{Process, program, run, run_with, said, wait_for};
use crate::roads::Road;
use crate::server::{BACKUPS, Server};
use entities::asks::QUEUE;
use entities::db::Db;
use entities::testing::TestDb;
use lapin::options::QueueDeleteOptions;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use workers::amqp;

#[derive(Debug)]
pub struct Stack {
    name: String,
    pub client: Client,
    pub server: Server,
    pub server_id: String,
    db: Option<TestDb>,
    settings: Vec<(&'static str, &'static str)>,
    pub relay: Option<Process>,
    pub migrator: Option<Process>,
    api: Option<Process>,
    port: u16,
    /// What the processes know of Postgres, RabbitMQ and Redis.
    urls: [String; 3],
    dir: Option<TempDir>,
}

impl Stack {
    /// Everything runs, and the server is enrolled.
    pub async fn start(name: &str, settings: &[(&'static str, &'static str)]) -> Self {
        Self::prepare(name, settings).await.started().await
    }

    /// The same, and the server has a disk that is easily filled.
    pub async fn start_with_small_disk(name: &str) -> Self {
        let boot = |name: &str| Server::start_with_disk(name, 768);
        Self::prepare_on(name, &[], boot).await.started().await
    }

    /// The same with roads to Postgres, RabbitMQ and Redis that can be cut.
    pub async fn start_on_roads(name: &str) -> (Self, [Road; 3]) {
        let mut stack = Self::prepare(name, &[]).await;
        let (urls, roads): (Vec<_>, Vec<_>) = stack.urls.iter().map(|url| Road::to(url)).unzip();
        stack.urls = urls.try_into().unwrap();
        (stack.started().await, roads.try_into().unwrap())
    }

    async fn prepare(name: &str, settings: &[(&'static str, &'static str)]) -> Self {
        Self::prepare_on(name, settings, Server::start).await
    }

    async fn prepare_on(
        name: &str,
        settings: &[(&'static str, &'static str)],
        boot: impl FnOnce(&str) -> Server + Send + 'static,
    ) -> Self {
        let name = format!("e2e-{name}");
        let booting = std::thread::spawn({
            let name = name.clone();
            move || boot(&name)
        });
        let db = TestDb::create().await.unwrap();
        let amqp = run(program(sandbox("services")).args(["vhost", &name])).trim().to_owned();
        let server = booting.join().unwrap();
        // Chosen late: nobody else is to take it before it is used.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postgres = db.url.expose_secret().to_owned();
        Self {
            client: Client::new(&format!("http://127.0.0.1:{port}")),
            server,
            name,
            server_id: String::new(),
            db: Some(db),
            settings: settings.to_vec(),
            relay: None,
            migrator: None,
            api: None,
            port,
            urls: [postgres, amqp, given("TEST_REDIS_URL")],
            dir: Some(tempfile::Builder::new().prefix("migrapanel-e2e-").tempdir().unwrap()),
        }
    }

    async fn started(mut self) -> Self {
        bootstrap(self.process("api"));
        self.start_api().await;
        self.client.log_in(OWNER, PASSWORD).await;
        self.start_relay();
        self.start_migrator();
        self.enroll().await;
        self
    }

    fn process(&self, name: &str) -> Command {
        let mut command = process(name, &self.urls[0], &self.urls[1]);
        command
            .env("REDIS_URL", &self.urls[2])
            .env("MIGRAPANEL__ACME_DIRECTORY", given("TEST_ACME_DIRECTORY"))
            .env("MIGRAPANEL__ACME_ROOT", given("TEST_ACME_ROOT"))
            .envs(self.settings.iter().copied());
        command
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.dir.as_ref().unwrap().path().join(format!("{name}.log"))
    }

    async fn start_api(&mut self) {
        let log = self.log("api");
        self.api = Some(serve(self.process("api"), self.port, &self.client, &log).await);
    }

    /// `kill -9` of the API, and another one.
    pub async fn replace_api(&mut self) {
        self.api.take().unwrap().kill();
        self.start_api().await;
    }

    /// `kill -9` of the relay, and another one.
    pub fn replace_relay(&mut self) {
        self.relay.take().unwrap().kill();
        self.start_relay();
    }

    pub fn start_relay(&mut self) {
        self.relay = Some(Process::start(&mut self.process("relay"), &self.log("relay")));
    }

    pub fn start_migrator(&mut self) {
        self.migrator = Some(self.another_migrator());
    }

    /// Another worker in place of the first, with something else in its environment.
    pub fn replace_migrator_with(&mut self, name: &'static str, value: &'static str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value));
        self.replace_migrator();
    }

    /// The queue of questions goes, and no other.
    pub async fn lose_questions(&self) {
        let url = SecretString::from(self.urls[1].clone());
        let connection = amqp::connect(&url, "test").await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.unwrap();
    }

    /// A worker beside the first.
    pub fn another_migrator(&self) -> Process {
        Process::start(&mut self.process("migrator"), &self.log("migrator"))
    }

    /// What the workers have said so far.
    pub fn migrator_log(&self) -> String {
        std::fs::read_to_string(self.log("migrator")).unwrap()
    }

    /// Asks the test's database, past all its rules; the rows, a line each.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        let mut psql = program("psql");
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-d"]);
        psql.arg(self.db.as_ref().unwrap().url.expose_secret()).args(["-f", "-"]);
        let output = run_with(&mut psql, statement.as_bytes());
        said(&psql, &output)
    }

    /// The test's database, for what no request asks for.
    pub fn db(&self) -> &Db {
        &self.db.as_ref().unwrap().db
    }

    /// Makes the time of all leases pass, and announces the jobs as the relay does soon after.
    pub fn end_leases(&self) {
        self.sql(
            "UPDATE job SET lease_until = now() - interval '1 second' WHERE state IN ('running', 'unwinding');
             UPDATE dns_zone SET lease_until = now() - interval '1 second' WHERE lease_until IS NOT NULL;
             INSERT INTO outbox (id, tenant_id, kind, payload)
             SELECT gen_random_uuid(), tenant_id, 'job_ready', jsonb_build_object('kind', 'job_ready', 'job', id)
             FROM job WHERE state IN ('running', 'unwinding')",
        );
    }

    /// All rows but those of jobs, approvals, logs, the audit trail and the serials of zones that are gone,
    /// which are history.
    pub fn slate(&self) -> BTreeSet<String> {
        let tables = self.sql(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'
             AND tablename <> ALL (ARRAY['seaql_migrations', 'gate', 'job', 'job_step', 'job_log',
                'audit_log', 'audit_seal', 'audit_unsealed', 'outbox', 'session', 'dns_zone_before',
                'dns_serial'])
             AND tablename !~ '^migration' ORDER BY 1",
        );
        assert!(tables.lines().count() > 10, "{tables}");
        let rows: Vec<String> = tables
            .lines()
            .map(|table| format!("SELECT '{table} ' || (to_jsonb(t) - 'health' - 'health_at' - 'last_error')::text FROM {table} t;"))
            .collect();
        self.sql(&rows.join("\n")).lines().map(str::to_owned).collect()
    }

    /// Ends the test unless all jobs have ended and every message was brought to somebody.
    pub async fn assert_idle(&self) {
        let open = "SELECT id, state FROM job WHERE state IN ('queued', 'running', 'unwinding')";
        assert_eq!(self.sql(open), "", "jobs have not ended");
        wait_for("an empty outbox", Duration::from_secs(20), async || {
            let unsent = "SELECT count(*) FROM outbox WHERE sent_at IS NULL";
            (self.sql(unsent).trim() == "0").then_some(())
        })
        .await;
    }

    /// `kill -9` of the worker, and another one.
    pub fn replace_migrator(&mut self) {
        self.migrator.take().unwrap().kill();
        self.start_migrator();
    }

    async fn enroll(&mut self) {
        let client = self.client.clone();
        let key = wait_for("the worker's key", Duration::from_secs(30), async || {
            let got = client.get("/api/servers/worker-key").await;
            (got.status == 200).then(|| got.body["data"]["authorized_key"].clone())
        })
        .await;
        let key = key.as_str().unwrap();
        self.server.sh(&format!("echo '{key}' >>/root/.ssh/authorized_keys"));
        let body = json!({
            "name": self.name,
            "host": self.server.host,
            "host_key_fingerprint": self.server.fingerprint,
            "hostname": format!("{}.migrapanel.test", self.name),
            "backup_dirs": [BACKUPS],
        });
        let server = client.post("/api/servers", body).await.data(201);
        self.server_id = server["id"].as_str().unwrap().to_owned();
        let path = format!("/api/servers/{}/enroll", self.server_id);
        let job = client.post(&path, json!({})).await.data(202);
        let path = format!("/api/jobs/{}", job["job_id"].as_str().unwrap());
        wait_for("the enrolment", Duration::from_secs(180), async || {
            let job = client.get(&path).await.data(200);
            assert_ne!(job["state"], "failed", "{job:#}");
            (job["state"] == "done").then_some(())
        })
        .await;
    }

    /// Ends a test that passed: what it left in the services goes, too.
    pub async fn end(mut self) {
        self.stop();
        self.db.take().unwrap().remove().await.unwrap();
    }

    fn stop(&mut self) {
        drop((self.migrator.take(), self.relay.take(), self.api.take()));
        run_with(program(sandbox("services")).args(["vhost-delete", &self.name]), b"");
    }

    /// What the three processes have logged.
    pub fn logs(&self) -> String {
        let logs = ["api", "relay", "migrator"].map(|name| std::fs::read_to_string(self.log(name)));
        logs.map(|text| text.unwrap_or_default()).concat()
    }

    /// Where the database is, for psql.
    pub fn database(&self) -> String {
        self.db.as_ref().unwrap().url.expose_secret().to_owned()
    }

    /// The body that names an archive on the server.
    pub fn source(&self, path: &str, user: &str) -> Value {
        json!({"server_id": self.server_id, "backup_path": path, "target_user": user})
    }

    pub async fn status(&self, job: &str) -> Value {
        self.client.get(&format!("/api/migration/job/{job}/status")).await.data(200)
    }

    /// Waits until the job is in one of these states; one that ends in another ends the test.
    pub async fn wait(&self, job: &str, states: &[&str]) -> Value {
        wait_for(&format!("the job to be {states:?}"), Duration::from_secs(240), async || {
            let status = self.status(job).await;
            let state = status["status"].as_str().unwrap();
            let goes_on = ["queued", "analyzing", "applying", "rolling_back"].contains(&state);
            assert!(goes_on || states.contains(&state), "{status:#}");
            states.contains(&state).then_some(status)
        })
        .await
    }

    /// Analyzes an archive on the server; the job.
    pub async fn analyze(&self, path: &str, user: &str) -> String {
        let job = self.start_analysis(path, user).await;
        self.wait(&job, &["analyzed"]).await;
        job
    }

    /// The same without waiting.
    pub async fn start_analysis(&self, path: &str, user: &str) -> String {
        let body = self.source(path, user);
        let started = self.client.post("/api/migration/analyze", body).await.data(202);
        started["job_id"].as_str().unwrap().to_owned()
    }

    /// Previews everything; the approval.
    pub async fn preview(&self, job: &str) -> String {
        let body = json!({"job_id": job});
        let preview = self.client.post("/api/migration/preview", body).await.data(200);
        preview["approval_token"].as_str().unwrap().to_owned()
    }

    /// Starts an approved apply.
    pub async fn start_apply(&self, job: &str, token: &str) {
        let body = json!({"job_id": job, "approval_token": token});
        self.client.post("/api/migration/apply", body).await.data(202);
    }

    /// Previews and applies.
    pub async fn apply(&self, job: &str) -> Value {
        let token = self.preview(job).await;
        self.start_apply(job, &token).await;
        self.wait(job, APPLIED).await
    }

    /// Rolls back, and waits for it.
    pub async fn roll_back(&self, job: &str, force: bool) -> Value {
        let body = json!({"job_id": job, "force": force});
        self.client.post("/api/migration/rollback", body).await.data(202);
        self.wait(job, &["rolled_back"]).await
    }
}

/// How an apply ends well. FTP logins are never transferred, so that most archives lose something.
pub const APPLIED: &[&str] = &["completed", "completed_with_losses"];

impl Drop for Stack {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.stop();
        if let Some(dir) = self.dir.take() {
            show_logs(&dir.keep(), &["api", "relay", "migrator"]);
        }
    }
}
