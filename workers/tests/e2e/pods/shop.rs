//! Containers that are sold: nodes, and all that stands between a buyer's request and them as processes
//! of their own, with a stand-in for Stripe.

use super::bed::Bed;
use crate::bed::{binary, sandbox};
use crate::client::{Client, Got};
use crate::gates::Database;
use crate::processes::{
    OWNER, PASSWORD, STRIPE_KEY, WEBHOOK_SECRET, bootstrap, process, serve, show_logs,
};
use crate::program::{Process, program, run, run_with, wait_for};
use entities::config::Migrator;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// All that runs beside the API.
pub const WORKERS: [&str; 3] = ["relay", "billing", "provisioner"];

pub struct Shop {
    pub bed: Bed,
    pub owner: Client,
    /// A customer's, whose orders these are.
    pub buyer: Client,
    pub tenant: String,
    /// Of the plan `pod-s`, and of `pod-m`, which is twice as large.
    /// Of a small plan, a large one, and one that is small but for its disk.
    pub prices: [String; 3],
    processes: BTreeMap<&'static str, Process>,
    stripe: String,
    amqp: String,
    name: String,
    port: u16,
    logs: Logs,
}

impl Shop {
    pub async fn open(name: &str) -> Self {
        let bed = Bed::open_with(name, 1, |config: &mut Migrator| config.lease_secs = 30).await;
        let amqp = run(program(sandbox("services")).args(["vhost", &format!("e2e-{name}")]));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let owner = Client::new(&format!("http://127.0.0.1:{port}"));
        let mut shop = Self {
            bed,
            buyer: owner.clone(),
            owner,
            tenant: String::new(),
            prices: Default::default(),
            processes: BTreeMap::new(),
            stripe: String::new(),
            amqp: amqp.trim().to_owned(),
            name: format!("e2e-{name}"),
            port,
            logs: Logs(tempfile::Builder::new().prefix("migrapanel-e2e-").tempdir().unwrap()),
        };
        shop.start_stripe().await;
        bootstrap(shop.process("api"));
        shop.start_api().await;
        shop.owner.log_in(OWNER, PASSWORD).await;
        for name in WORKERS {
            shop.start(name);
        }
        shop.furnish().await;
        shop
    }

    async fn start_stripe(&mut self) {
        let hook = format!("http://127.0.0.1:{}/api/webhooks/stripe={WEBHOOK_SECRET}", self.port);
        let mut stripe = program(binary("stripe-sandbox"));
        stripe.args(["--listen", "127.0.0.1:0", "--key", STRIPE_KEY, "--webhook", &hook]);
        let log = self.logs.of("stripe");
        self.processes.insert("stripe", Process::start(&mut stripe, &log));
        self.stripe = wait_for("the stand-in's address", Duration::from_secs(60), async || {
            let text = std::fs::read_to_string(&log).unwrap();
            text.lines().find(|line| line.starts_with("http")).map(str::to_owned)
        })
        .await;
    }

    async fn start_api(&mut self) {
        let log = self.logs.of("api");
        let api = serve(self.process("api"), self.port, &self.owner, &log).await;
        self.processes.insert("api", api);
    }

    pub fn start(&mut self, name: &'static str) {
        let process = Process::start(&mut self.process(name), &self.logs.of(name));
        self.processes.insert(name, process);
    }

    /// `kill -9`, and another one.
    pub fn replace(&mut self, name: &'static str) {
        self.processes.remove(name).unwrap().kill();
        self.start(name);
    }

    fn process(&self, name: &str) -> Command {
        let mut command = process(name, self.bed.db.url.expose_secret(), &self.amqp);
        let url = format!("http://127.0.0.1:{}", self.port);
        command
            .env("MIGRAPANEL__LEASE_SECS", "4")
            .env("MIGRAPANEL__NODE_LIMIT_SECS", "20")
            .env("MIGRAPANEL__READY_SECS", "60")
            .env("MIGRAPANEL__SPECIAL_NAMES", "example,test")
            .env("MIGRAPANEL__PUBLIC_URL", &url)
            .env("MIGRAPANEL__DASHBOARD_URL", format!("{url}/dashboard"))
            .env("STRIPE_API_BASE", format!("{}/", self.stripe.trim_end_matches('/')));
        command
    }

    /// A customer that may use the node, and plans with prices.
    async fn furnish(&mut self) {
        let body = json!({"name": "Buyer", "kind": "customer"});
        self.tenant = id(&self.owner.post("/api/tenants", body).await.data(201));
        self.buyer = self.owner.within(&self.tenant);
        let grants = format!("/api/servers/{}/grants", self.bed.servers[0]);
        self.owner.post(&grants, json!({"tenant_id": self.tenant})).await.data(200);
        let products = self.owner.get("/api/products?kind=cloudpod_plan").await.data(200);
        let small = id(&products[0]);
        let plan = json!({"kind": "cloudpod_plan", "cpu_cores": 2, "memory_mib": 1024, "disk_mib": 3072, "template": "debian-12"});
        let large = json!({"name": "pod-m", "code": "pod-m", "specification": plan});
        let large = id(&self.owner.post("/api/products", large).await.data(201));
        let plan = json!({"kind": "cloudpod_plan", "cpu_cores": 1, "memory_mib": 512, "disk_mib": 3072, "template": "debian-12"});
        let wide = json!({"name": "pod-w", "code": "pod-w", "specification": plan});
        let wide = id(&self.owner.post("/api/products", wide).await.data(201));
        self.prices = [
            self.offer(&small, 499).await,
            self.offer(&large, 999).await,
            self.offer(&wide, 599).await,
        ];
    }

    async fn offer(&self, product: &str, cents: u32) -> String {
        let money = json!({"amount": cents, "currency": "eur"});
        let body = json!({"product_id": product, "money": money, "interval": "month"});
        id(&self.owner.post("/api/prices", body).await.data(201))
    }

    pub fn sql(&self, statement: &str) -> String {
        self.bed.sql(statement)
    }

    /// An order of a small pod, and what its checkout answers.
    pub async fn order(&self, hostname: &str) -> (String, Got) {
        let items = json!([{"price_id": self.prices[0], "quantity": 1, "domains": [hostname]}]);
        let order = id(&self.buyer.post("/api/orders", json!({"items": items})).await.data(201));
        let checkout = self.buyer.post(&format!("/api/orders/{order}/checkout"), json!({})).await;
        (order, checkout)
    }

    /// Pays on the page that a checkout has answered.
    pub async fn pay(&self, checkout: &Value) {
        let session = checkout["url"].as_str().unwrap().rsplit('/').next().unwrap();
        let body = json!({"action": "pay", "payment_method": "pm_card_visa", "email": "buyer@e2e.example"});
        self.control(&format!("checkout/{session}"), body).await;
    }

    /// Steers the stand-in for Stripe.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        let url = format!("{}/_control/{path}", self.stripe.trim_end_matches('/'));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let answer = http.build().unwrap().post(url).json(&body).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success() || status.is_redirection(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// What Stripe has of something: a whole list.
    pub async fn stripe_has(&self, list: &str) -> Vec<Value> {
        let url = format!("{}/v1/{list}", self.stripe.trim_end_matches('/'));
        let got = reqwest::Client::new().get(url).bearer_auth(STRIPE_KEY).send().await.unwrap();
        let body: Value = got.json().await.unwrap();
        assert_ne!(body["has_more"], true, "{list} is longer than a page");
        body["data"].as_array().unwrap_or_else(|| panic!("{body:#}")).clone()
    }

    /// Waits until a query has this one answer.
    pub async fn until(&self, statement: &str, answer: &str, secs: u64) {
        let mut last = String::new();
        let began = std::time::Instant::now();
        while last != answer {
            let rows = "SELECT hostname, status, desired, action, error FROM cloudpod";
            let limit = Duration::from_secs(secs);
            assert!(
                began.elapsed() < limit,
                "{statement}: {last}, not {answer}\n{}",
                self.sql(rows)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
            last = self.sql(statement).trim().to_owned();
        }
    }

    pub async fn end(mut self) {
        self.processes.clear();
        run_with(program(sandbox("services")).args(["vhost-delete", &self.name]), b"");
        self.bed.end().await;
    }
}

/// What the processes say; the end of it is shown when the test fails.
struct Logs(TempDir);

impl Logs {
    fn of(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.log"))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        show_logs(self.0.path(), &["api", "relay", "billing", "provisioner"]);
    }
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().unwrap_or_else(|| panic!("{value:#}")).to_owned()
}
