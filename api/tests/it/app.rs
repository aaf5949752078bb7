//! A running application with its own database, and clients for each role.

use crate::described;
use actix_web::{HttpServer, web};
use api::ask::Asker;
use api::auth::TokenKeys;
use api::ends::Ends;
use api::gcra::Counts;
use api::limits::Memory;
use api::password::Passwords;
use api::progress::Progress;
use api::state::{Redis, State};
use billing::Billing;
use entities::accounts;
use entities::billing::standing::Rules as Dunning;
use entities::config::{self, Edge};
use entities::dns::budget::{Limit, Limits};
use entities::dns::names::Rules;
use entities::secrets::SecretKeys;
use entities::testing::TestDb;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What Stripe signs with.
pub const STRIPE_SECRET: &str = "whsec_it";
pub const PASSWORD: &str = "correct horse 1";
pub const KEYS: &str = "test:0123456789abcdef0123456789abcdef";
pub const TOKEN_KEYS: &str = "test:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The application.
pub struct App {
    pub db: TestDb,
    pub url: String,
    pub owner: Client,
    pub state: web::Data<State>,
}

/// Somebody who is logged in, or nobody.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    pub token: Option<String>,
    pub tenant: String,
    pub acting: Option<String>,
    headers: Vec<(&'static str, String)>,
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    pub status: StatusCode,
    pub body: Value,
    pub request_id: String,
    /// Of the header.
    pub retry_after: Option<u64>,
    /// Of `Idempotent-Replayed`.
    pub replayed: Option<String>,
    pub headers: HeaderMap,
}

impl Got {
    #[track_caller]
    pub fn data(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["success"], true, "{}", self.body);
        self.body["data"].clone()
    }

    /// Each refusal has the right status, its code, a sentence, and the request's id.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["success"], false);
        assert_eq!(self.body["code"], code, "{}", self.body);
        assert_eq!(self.body["request_id"], self.request_id);
        let sentence = self.body["error"].as_str().unwrap();
        assert!(sentence.len() > 20 && sentence.ends_with(['.', ')']), "{sentence}");
        self.body
    }
}

/// An edge that believes nobody, and that no test exhausts.
pub fn edge() -> Edge {
    Edge {
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        require_https: false,
        anonymous_requests: 100_000,
        request_timeout_secs: 30,
    }
}

/// Stripe at this address; nobody answers at port 9.
pub fn stripe_at(base: &str) -> config::Stripe {
    config::Stripe {
        api_base: base.to_owned(),
        secret_key: SecretString::from("sk_test_it"),
        tax: false,
        public_url: "http://api.test".to_owned(),
        dashboard_url: "http://panel.test".to_owned(),
        rules: Dunning { letters: vec![0, 3, 7], grace_days: 10, retention_days: 30 },
    }
}

/// Serves the application on a free port, with a platform owner logged in.
pub async fn spawn() -> App {
    let redis =
        config::secret("TEST_REDIS_URL").expect("TEST_REDIS_URL is missing: run deploy/test");
    spawn_with(edge(), redis).await
}

/// The same with Stripe at an address where somebody answers.
pub async fn spawn_at(stripe: config::Stripe) -> App {
    let redis =
        config::secret("TEST_REDIS_URL").expect("TEST_REDIS_URL is missing: run deploy/test");
    spawn_all(edge(), redis, stripe).await
}

/// The same with another edge, or another way to Redis.
pub async fn spawn_with(edge: Edge, redis: SecretString) -> App {
    spawn_all(edge, redis, stripe_at("http://127.0.0.1:9")).await
}

fn zones() -> config::Zones {
    let name = |text: &str| entities::values::DomainName::parse(text).unwrap();
    let limit = |text: &str| Limit::parse(text).unwrap();
    config::Zones {
        names: Rules {
            special: ["example".to_owned(), "test".to_owned()].into(),
            nameservers: vec![name("ns1.ours.test"), name("ns2.ours.test")],
            accounts_domain: name("hosted.test"),
        },
        limits: Limits {
            zone: vec![limit("10/5"), limit("60/60"), limit("1000/86400")],
            tenant: vec![limit("600/60"), limit("20000/86400")],
        },
    }
}

async fn spawn_all(edge: Edge, redis: SecretString, stripe: config::Stripe) -> App {
    let db = TestDb::create().await.unwrap();
    let amqp = config::secret("TEST_AMQP_URL").expect("TEST_AMQP_URL is missing: run deploy/test");
    let state = web::Data::new(State {
        db: db.db.clone(),
        redis: Redis::open(&redis, &db.url).unwrap(),
        tokens: TokenKeys::parse(&SecretString::from(KEYS)).unwrap(),
        secrets: SecretKeys::parse(&SecretString::from(TOKEN_KEYS)).unwrap(),
        ends: Ends::start(db.db.clone(), db.url.clone()),
        registration: true,
        passwords: Passwords::new(),
        asker: Asker::new(amqp, Duration::from_secs(5)),
        progress: Progress::start(db.url.clone()),
        edge,
        counts: Counts::default(),
        limits: Memory::default(),
        billing: Billing::open(db.db.clone(), stripe).unwrap(),
        stripe_webhook_secrets: vec![SecretString::from(STRIPE_SECRET)],
        webhooks: entities::webhooks::Reach::Public,
        accounts_domain: entities::values::DomainName::parse("hosted.test").unwrap(),
        zones: zones(),
        ending: CancellationToken::new(),
    });
    let hash = state.passwords.hash(&SecretString::from(PASSWORD)).await.unwrap();
    accounts::bootstrap_platform(&db.db, "Platform", "owner@platform.test", hash).await.unwrap();
    let served = state.clone();
    let server = HttpServer::new(move || api::app::build(served.clone()).0)
        .workers(1)
        .bind("127.0.0.1:0")
        .unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    let owner = Client::login(&url, "owner@platform.test").await;
    App { db, url, owner, state }
}

impl App {
    pub fn anonymous(&self) -> Client {
        Client { token: None, ..self.owner.clone() }
    }

    /// As if all logins had come from elsewhere.
    pub async fn forget_addresses(&self) {
        let mut redis = self.state.redis().await.unwrap();
        let key = self.state.redis_key("login:address:127.0.0.1");
        redis::cmd("DEL").arg(key).query_async::<()>(&mut redis).await.unwrap();
    }

    /// A customer of the platform with a member of this role.
    pub async fn member(&self, name: &str, role: &str) -> Client {
        let body = json!({"name": name, "kind": "customer"});
        let tenant = self.owner.post("/api/tenants", body).await.data(201)["id"].clone();
        self.member_of(tenant.as_str().unwrap(), name, role).await
    }

    /// The owner of a tenant of this kind below the platform.
    pub async fn member_kind(&self, name: &str, kind: &str) -> Client {
        let body = json!({"name": name, "kind": kind});
        let tenant = self.owner.post("/api/tenants", body).await.data(201)["id"].clone();
        self.member_of(tenant.as_str().unwrap(), name, "OWNER").await
    }

    /// One more member of a tenant.
    pub async fn member_of(&self, tenant: &str, name: &str, role: &str) -> Client {
        let email = format!("{name}-{}@customer.test", role.to_lowercase());
        let body = json!({"email": email, "password": PASSWORD, "role": role});
        self.owner.post(&format!("/api/tenants/{tenant}/members"), body).await.data(201);
        Client::login(&self.url, &email).await
    }

    /// A server that counts as enrolled.
    pub async fn server(&self, name: &str) -> String {
        let server = self.owner.post("/api/servers", server_body(name)).await.data(201);
        let id = server["id"].as_str().unwrap().to_owned();
        self.db.pretend_enrolled(entities::ids::ServerId(id.parse().unwrap())).await.unwrap();
        id
    }
}

pub fn server_body(name: &str) -> Value {
    json!({
        "name": name,
        "host": "192.0.2.77",
        "host_key_fingerprint": "SHA256:abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
    })
}

impl Client {
    pub async fn login(url: &str, email: &str) -> Self {
        let http = reqwest::Client::builder().user_agent("tests").build().unwrap();
        let mut client = Self {
            http,
            url: url.to_owned(),
            token: None,
            tenant: String::new(),
            acting: None,
            headers: Vec::new(),
        };
        let body = json!({"email": email, "password": PASSWORD});
        let tokens = client.post("/api/auth/login", body).await.data(200);
        client.token = tokens["access_token"].as_str().map(str::to_owned);
        client.tenant = tokens["tenant"]["id"].as_str().unwrap().to_owned();
        client
    }

    /// The same person in a tenant below.
    pub fn acting_in(&self, tenant: &str) -> Self {
        Self { acting: Some(tenant.to_owned()), ..self.clone() }
    }

    /// The same person at another process.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Sends this header, too.
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name, value.to_owned()));
        client
    }

    pub async fn get(&self, path: &str) -> Got {
        self.send(Method::GET, path, None).await
    }

    /// The answer, when somebody listens there.
    pub async fn try_get(&self, path: &str) -> Option<Got> {
        let asked = self.http.get(format!("{}{path}", self.url));
        asked.try_clone()?.send().await.ok()?;
        Some(Self::read(asked).await)
    }

    /// With an `Idempotency-Key`, so that whatever creates is seen to heed it.
    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> impl Future<Output = Got> {
        let key = entities::ids::RowId::new().to_string();
        let (client, path) = (self.clone(), path.to_owned());
        async move {
            let got = client.ask(Method::POST, &path, Some(body.to_string()), Some(&key)).await;
            if client.token.is_some() && [201, 202].contains(&got.status.as_u16()) {
                assert_eq!(got.replayed.as_deref(), Some("false"), "POST {path} keeps no answer");
            }
            got
        }
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Got {
        self.ask(method, path, body, None).await
    }

    /// A POST whose headers are only those that were given.
    pub async fn send_as_is(&self, path: &str, body: &str) -> Got {
        let mut request = self.http.post(format!("{}{path}", self.url));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let got = Self::read(request.body(body.to_owned())).await;
        described::check(&Method::POST, path, got.status, &got.body);
        got
    }

    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        key: Option<&str>,
    ) -> Got {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(tenant) = &self.acting {
            request = request.header("X-Tenant-Id", tenant);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let got = Self::read(request).await;
        described::check(&method, path, got.status, &got.body);
        got
    }

    async fn read(request: reqwest::RequestBuilder) -> Got {
        let response = request.send().await.unwrap();
        let header = response.headers().get("x-request-id");
        let request_id = header.and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let status = response.status();
        let replayed = response.headers().get("idempotent-replayed");
        let replayed = replayed.map(|v| v.to_str().unwrap().to_owned());
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        // What is not JSON, such as JSON Lines, is kept as it came.
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Got { status, request_id, retry_after, replayed, headers, body }
    }
}
