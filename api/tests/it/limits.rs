//! What may be asked, by whom, and what becomes of it while Redis is away.

use crate::app::{App, Client, Got, PASSWORD, edge, spawn, spawn_with};
use entities::config::{self, Edge};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

fn redis() -> SecretString {
    config::secret("TEST_REDIS_URL").unwrap()
}

fn header(got: &Got, name: &str) -> String {
    got.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// An application behind a proxy on this machine, with a budget of 5 for strangers.
async fn spawn_behind_proxy(redis: SecretString) -> App {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    spawn_with(Edge { trusted_proxies, anonymous_requests: 5, ..edge() }, redis).await
}

async fn from(app: &App, address: &str, path: &str) -> Got {
    app.anonymous().with_header("x-forwarded-for", address).get(path).await
}

#[tokio::test]
async fn strangers_are_limited_by_address_wherever_they_knock() {
    let app = spawn_behind_proxy(redis()).await;
    let first = from(&app, "198.51.100.1", "/api/me").await;
    assert_eq!(header(&first, "ratelimit-policy"), "\"anonymous\";q=5;w=900");
    assert_eq!(header(&first, "ratelimit"), "\"anonymous\";r=4;t=180");
    assert_eq!(header(&first, "x-ratelimit-limit"), "5");
    assert_eq!(header(&first, "x-ratelimit-remaining"), "4");
    assert_eq!(header(&first, "x-ratelimit-reset"), "180");
    first.refused(401, "unauthenticated");
    from(&app, "198.51.100.1", "/api/unknown").await.refused(404, "route_not_found");
    from(&app, "198.51.100.1", "/api/servers").await.refused(401, "unauthenticated");
    let forged = app.owner.token.clone().unwrap().replace('.', ".x");
    let forged = app.owner.with_token(&forged).with_header("x-forwarded-for", "198.51.100.1");
    forged.get("/api/me").await.refused(401, "unauthenticated");
    let key = app.owner.with_token("mpk_0_0").with_header("x-forwarded-for", "198.51.100.1");
    key.get("/api/me").await.refused(401, "unauthenticated");
    for client in [&forged, &key] {
        let refused = client.get("/api/me").await;
        let wait = refused.retry_after.unwrap();
        assert!((170..=180).contains(&wait), "{wait}");
        assert_eq!(header(&refused, "x-ratelimit-remaining"), "0");
        refused.refused(429, "too_many_requests");
    }
    // What is exempt, what has a budget of its own, other addresses and people go on.
    assert!(header(&from(&app, "198.51.100.1", "/healthz").await, "ratelimit").is_empty());
    from(&app, "198.51.100.2", "/api/me").await.refused(401, "unauthenticated");
    let login = json!({"email": "owner@platform.test", "password": PASSWORD});
    let there = app.anonymous().with_header("x-forwarded-for", "198.51.100.1");
    let login = there.post("/api/auth/login", login).await;
    assert!(header(&login, "ratelimit").starts_with("\"login\";r=149"));
    login.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_ipv6_subscriber_has_one_budget() {
    let app = spawn_behind_proxy(redis()).await;
    for i in 1..=5 {
        from(&app, &format!("2001:db8:0:7::{i}"), "/api/me").await.refused(401, "unauthenticated");
    }
    from(&app, "2001:db8:0:7:ffff::1", "/api/me").await.refused(429, "too_many_requests");
    from(&app, "2001:db8:0:8::1", "/api/me").await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn people_and_keys_have_budgets_and_share_their_tenants() {
    let app = spawn().await;
    let body = json!({"name": "limited", "kind": "reseller"});
    let tenant = app.owner.post("/api/tenants", body).await.data(201)["id"].clone();
    let tenant = tenant.as_str().unwrap();
    let limits = json!({"limits": {"requests": 6}}).to_string();
    let path = format!("/api/tenants/{tenant}");
    app.owner.send(Method::PATCH, &path, Some(limits)).await.data(200);
    let person = app.member_of(tenant, "limited", "OWNER").await;
    let first = person.get("/api/me").await;
    let policies = "\"user\";q=3000;w=900, \"tenant\";q=6;w=900";
    assert_eq!(header(&first, "ratelimit-policy"), policies);
    assert_eq!(header(&first, "ratelimit"), "\"user\";r=2999;t=1, \"tenant\";r=5;t=150");
    assert_eq!(header(&first, "x-ratelimit-remaining"), "5");
    let key = json!({"name": "shop", "role": "ADMIN"});
    let key = person.post("/api/api-keys", key).await.data(201)["key"].clone();
    let key = person.with_token(key.as_str().unwrap());
    // The first use of a key in a process is a stranger's, until it is known to be valid.
    let unknown = key.get("/api/tenants").await;
    assert!(header(&unknown, "ratelimit").starts_with("\"anonymous\";"));
    unknown.data(200);
    let known = key.get("/api/tenants").await;
    let said = header(&known, "ratelimit");
    let (said, secs) = said.rsplit_once("t=").unwrap();
    assert_eq!(said, "\"key\";r=2999;t=1, \"tenant\";r=3;");
    assert!((400..=450).contains(&secs.parse().unwrap()), "{secs}");
    for left in (0..=2).rev() {
        let got = person.get("/api/me").await;
        assert_eq!(header(&got, "x-ratelimit-remaining"), left.to_string());
    }
    key.get("/api/tenants").await.refused(429, "too_many_requests");
    person.get("/api/me").await.refused(429, "too_many_requests");
    app.owner.get("/api/me").await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_mailbox_is_not_flooded_whoever_asks() {
    let app = spawn_behind_proxy(redis()).await;
    let ask = |from: &str, email: &str| {
        let client = app.anonymous().with_header("x-forwarded-for", from);
        let body = json!({ "email": email });
        async move { client.post("/api/auth/forgot-password", body).await }
    };
    for i in 1..=3 {
        ask(&format!("198.51.100.{i}"), "victim@x.test").await.data(202);
    }
    ask("198.51.100.4", "Victim@X.test").await.refused(429, "too_many_requests");
    for i in 1..=9 {
        ask("198.51.100.1", &format!("other-{i}@x.test")).await.data(202);
    }
    ask("198.51.100.1", "more@x.test").await.refused(429, "too_many_requests");
    app.db.remove().await.unwrap();
}

/// A way to Redis that a test can cut, or make silent.
struct Way {
    state: Arc<AtomicU8>,
    url: SecretString,
}

const OPEN: u8 = 0;
const CUT: u8 = 1;
const SILENT: u8 = 2;

impl Way {
    async fn to(redis: &SecretString) -> Self {
        let url = redis.expose_secret().to_owned();
        let (head, rest) = url.rsplit_once('@').unwrap_or_else(|| url.split_at("redis://".len()));
        let (to, path) = rest.split_once('/').unwrap_or((rest, ""));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = if url.contains('@') { "@" } else { "" };
        let own = format!("{head}{at}{}/{path}", listener.local_addr().unwrap());
        let state = Arc::new(AtomicU8::new(OPEN));
        let (seen, to) = (Arc::clone(&state), to.to_owned());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (seen, to) = (Arc::clone(&seen), to.clone());
                tokio::spawn(async move {
                    if seen.load(Ordering::SeqCst) == CUT {
                        return;
                    }
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let until = async {
                        while seen.load(Ordering::SeqCst) == OPEN {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                    };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = until => {}
                    }
                    while seen.load(Ordering::SeqCst) == SILENT {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                });
            }
        });
        Self { state, url: SecretString::from(own) }
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }
}

/// Asks until the limits are told to be of this kind.
async fn wait_for_limits(app: &App, client: &Client, kind: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        client.get("/api/me").await.data(200);
        let ready = app.anonymous().get("/readyz").await;
        if ready.body["limits"] == kind {
            let status = if kind == "local" { "degraded" } else { "ok" };
            assert_eq!(ready.body["status"], status, "{}", ready.body);
            return;
        }
        assert!(Instant::now() < deadline, "{}", ready.body);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn with_redis_away_each_process_counts_by_itself_and_goes_back_by_itself() {
    let way = Way::to(&redis()).await;
    let app = spawn_behind_proxy(way.url.clone()).await;
    for state in [CUT, SILENT] {
        wait_for_limits(&app, &app.owner, "shared").await;
        way.set(state);
        wait_for_limits(&app, &app.owner, "local").await;
        // Not each request waits for Redis: about one a second does.
        let begun = Instant::now();
        for _ in 0..40 {
            app.owner.get("/api/me").await.data(200);
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        let address = format!("198.51.100.{state}");
        for _ in 0..5 {
            from(&app, &address, "/api/me").await.refused(401, "unauthenticated");
        }
        from(&app, &address, "/api/me").await.refused(429, "too_many_requests");
        way.set(OPEN);
        wait_for_limits(&app, &app.owner, "shared").await;
        from(&app, &address, "/api/me").await.refused(401, "unauthenticated");
    }
    app.db.remove().await.unwrap();
}
