//! What every answer has, whatever is asked, and what no request may do; over raw sockets where a
//! client would be too polite.

use crate::app::{App, Got, edge, spawn, spawn_with};
use entities::config::{self, Edge};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn spawn_edge(edge: Edge) -> App {
    spawn_with(edge, config::secret("TEST_REDIS_URL").unwrap()).await
}

/// An edge with a proxy on this machine.
fn behind_proxy() -> Edge {
    Edge { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..edge() }
}

fn header<'a>(got: &'a Got, name: &str) -> Option<&'a str> {
    got.headers.get(name).map(|value| value.to_str().unwrap())
}

/// Sends these bytes and reads one answer: its head, in small letters, and its body.
async fn raw(app: &App, text: &str) -> (String, Value) {
    let mut socket = TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    let read = async {
        loop {
            let bytes = socket.read(&mut piece).await.unwrap();
            answer.push_str(std::str::from_utf8(&piece[..bytes]).unwrap());
            let Some((head, body)) = answer.split_once("\r\n\r\n") else { continue };
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if bytes == 0 || length.is_some_and(|l| body.len() >= l.parse::<usize>().unwrap()) {
                return (head, serde_json::from_str(body).unwrap_or(Value::Null));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap()
}

const EVERYWHERE: [(&str, &str); 11] = [
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("origin-agent-cluster", "?1"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-dns-prefetch-control", "off"),
    ("x-download-options", "noopen"),
    ("x-frame-options", "SAMEORIGIN"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-xss-protection", "0"),
];

#[tokio::test]
async fn every_answer_has_its_headers_and_an_id() {
    let app = spawn_edge(behind_proxy()).await;
    let nobody = app.anonymous();
    let id = "0190a0b0-0000-4000-8000-00000000abcd";
    for path in ["/healthz", "/readyz", "/openapi.json", "/api/me", "/nothing", "/api/jobs/x"] {
        let got = app.owner.with_header("x-request-id", id).get(path).await;
        for (name, value) in EVERYWHERE {
            assert_eq!(header(&got, name), Some(value), "{path}");
        }
        assert_eq!(header(&got, "strict-transport-security"), None);
        assert_eq!(got.request_id, id);
        assert!(got.body["request_id"].is_null() || got.body["request_id"] == id);
    }
    // An id that could be anything else in a log is not taken.
    let forged = nobody.with_header("x-request-id", "1 level=error").get("/healthz").await;
    assert_eq!(forged.request_id.len(), 36);
    let secure = nobody.with_header("x-forwarded-proto", "https").get("/nothing").await;
    let hsts = "max-age=31536000; includeSubDomains";
    assert_eq!(header(&secure, "strict-transport-security"), Some(hsts));
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn only_pages_of_configured_origins_may_call() {
    let origin = "https://panel.hosting.example";
    let app = spawn_edge(Edge { cors_origins: vec![origin.to_owned()], ..edge() }).await;
    let ask = |origin: &str, method: Method| {
        let client = app.owner.with_header("origin", origin);
        let preflight = method == Method::OPTIONS;
        let client = if preflight {
            client
                .with_header("access-control-request-method", "POST")
                .with_header("access-control-request-headers", "authorization,idempotency-key")
        } else {
            client
        };
        async move { client.send(method, "/api/me", None).await }
    };
    let preflight = ask(origin, Method::OPTIONS).await;
    assert_eq!(preflight.status, 200, "{}", preflight.body);
    assert_eq!(header(&preflight, "access-control-allow-origin"), Some(origin));
    assert_eq!(header(&preflight, "access-control-allow-credentials"), Some("true"));
    assert!(header(&preflight, "access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(header(&preflight, "x-content-type-options"), Some("nosniff"));
    let got = ask(origin, Method::GET).await;
    assert_eq!(header(&got, "access-control-allow-origin"), Some(origin));
    let exposed = header(&got, "access-control-expose-headers").unwrap();
    for name in ["ratelimit", "x-request-id", "idempotent-replayed", "retry-after"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert!(header(&got, "vary").unwrap().to_lowercase().contains("origin"));
    let stranger = app.anonymous().with_header("origin", origin).get("/api/me").await;
    assert_eq!(header(&stranger, "access-control-allow-origin"), Some(origin));
    stranger.refused(401, "unauthenticated");
    for other in ["https://evil.example", "https://panel.hosting.example.evil.example", "null"] {
        for method in [Method::OPTIONS, Method::GET] {
            let got = ask(other, method).await;
            assert_eq!(header(&got, "access-control-allow-origin"), None, "{other}");
        }
    }
    let closed = spawn().await;
    let got = closed.owner.with_header("origin", origin).get("/api/me").await;
    assert_eq!(header(&got, "access-control-allow-origin"), None);
    closed.db.remove().await.unwrap();
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_clients_address_is_the_proxys_word_only_if_the_proxy_is_ours() {
    for (edge, expected) in [(edge(), "127.0.0.1"), (behind_proxy(), "198.51.100.7")] {
        let app = spawn_edge(edge).await;
        let said = "203.0.113.99, 198.51.100.7, 127.0.0.9";
        let client = app.owner.with_header("x-forwarded-for", said);
        client.post("/api/tenants", json!({"name": "t", "kind": "customer"})).await.data(201);
        let entries = app.owner.get("/api/audit").await.data(200);
        let made = entries.as_array().unwrap().iter().find(|e| e["kind"] == "TENANT_CREATED");
        assert_eq!(made.unwrap()["ip"], expected, "{entries}");
        app.db.remove().await.unwrap();
    }
}

#[tokio::test]
async fn what_comes_in_the_clear_is_redirected_or_refused() {
    let app = spawn_edge(Edge { require_https: true, ..behind_proxy() }).await;
    let address = app.url.trim_start_matches("http://");
    let get = format!(
        "GET /api/me?x=1 HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n"
    );
    let (head, _) = raw(&app, &get).await;
    assert!(head.starts_with("http/1.1 308 "), "{head}");
    assert!(head.contains(&format!("location: https://{address}/api/me?x=1")), "{head}");
    let plain = app.owner.with_header("x-forwarded-proto", "http");
    let body = json!({"name": "t", "kind": "customer"}).to_string();
    let post = plain.send(Method::POST, "/api/tenants", Some(body)).await;
    post.refused(403, "https_required");
    assert_eq!(plain.get("/healthz").await.status, 200);
    app.owner.with_header("x-forwarded-proto", "https").get("/api/me").await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn no_route_takes_a_large_body() {
    let app = spawn().await;
    let large = "x".repeat(256 * 1024 + 1);
    // A route that reads its body, one that has none, and one that does not exist.
    for path in ["/api/auth/login", "/api/auth/logout", "/nothing"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        let declared = format!("{head}Content-Length: {}\r\n\r\n", large.len());
        let (answer, body) = raw(&app, &declared).await;
        assert!(answer.starts_with("http/1.1 413 ") && answer.contains("connection: close"));
        assert_eq!(body["code"], "payload_too_large");
        let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}");
        let (answer, body) = raw(&app, &chunked).await;
        assert!(answer.starts_with("http/1.1 413 "), "{answer}");
        assert_eq!(body["code"], "payload_too_large");
    }
    let fits = json!({ "email": "x".repeat(200 * 1024), "password": "y" });
    app.anonymous().post("/api/auth/login", fits).await.refused(400, "invalid_request");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn bodies_and_answers_that_take_too_long_are_ended() {
    let app = spawn_edge(Edge { request_timeout_secs: 8, ..edge() }).await;
    let slow = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    let (answer, body) = raw(&app, slow).await;
    assert!(answer.starts_with("http/1.1 408 ") && answer.contains("connection: close"));
    assert_eq!(body["code"], "body_too_slow");
    let (answer, _) = raw(&app, "GET /healthz HTTP/1.1\r\nHost:").await;
    assert!(answer.starts_with("http/1.1 408 "), "{answer}");
    // The database is there, and answers nothing.
    let lock = "BEGIN; LOCK TABLE app_user, tenant; SELECT pg_sleep(60); COMMIT";
    let too_slow = async {
        loop {
            let got = app.owner.get("/api/me").await;
            if got.status != 200 {
                return got;
            }
        }
    };
    let got = tokio::select! {
        held = app.db.execute(lock) => panic!("{held:?}"),
        got = too_slow => got,
    };
    assert_eq!(header(&got, "x-content-type-options"), Some("nosniff"));
    got.refused(503, "timeout");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_read_is_told_in_json() {
    let app = spawn().await;
    let send = |kind: &'static str, body: &'static str| {
        let client = app.anonymous();
        let kind = client.with_header("content-type", kind);
        async move { kind.send_as_is("/api/auth/login", body).await }
    };
    let good = r#"{"email": "nobody@x.test", "password": "correct horse 9"}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"] {
        send(kind, good).await.refused(415, "unsupported_media_type");
    }
    let utf8 = send("application/json; charset=utf-8", good).await;
    utf8.refused(401, "invalid_credentials");
    for bad in ["", "{", "[]", "null", "{\"email\": 1}", "\u{0}"] {
        send("application/json", bad).await.refused(400, "invalid_request");
    }
    let unknown = r#"{"email": "a@b.test", "password": "x", "admin": true}"#;
    let refused = send("application/json", unknown).await.refused(400, "invalid_request");
    assert!(refused["error"].as_str().unwrap().contains("admin"));
    app.owner.get("/api/tenants?page=x").await.refused(400, "invalid_request");
    app.owner.get("/api/jobs/no-id").await.refused(404, "not_found");
    app.owner.get("/api/nothing").await.refused(404, "route_not_found");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_an_operation_does_not_know_is_refused() {
    let app = spawn().await;
    for (path, name) in [
        ("/api/me?foo=1", "foo"),
        ("/api/servers/worker-key?id=1", "id"),
        ("/api/tenants?page=1&q=x", "q"),
        ("/api/auth/sessions?keep_current=true", "keep_current"),
        ("/healthz?a", "a"),
    ] {
        let refused = app.owner.get(path).await.refused(400, "invalid_request");
        assert_eq!(refused["fields"][0]["path"], format!("/{name}"), "{refused}");
    }
    app.anonymous().get("/api/me?foo=1").await.refused(401, "unauthenticated");
    let login = "/api/auth/login?next=/";
    app.anonymous().post(login, json!({})).await.refused(400, "invalid_request");
    assert_eq!(app.anonymous().get("/openapi.json?v=1").await.status, 200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_scheme_is_read_in_any_letters_and_the_tenant_said_once() {
    let app = spawn().await;
    let token = app.owner.token.clone().unwrap();
    let nobody = app.anonymous();
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let owner = nobody.with_header("authorization", &format!("{scheme} {token}"));
        owner.get("/api/me").await.data(200);
    }
    let basic = nobody.with_header("authorization", &format!("Basic {token}"));
    basic.get("/api/me").await.refused(401, "unauthenticated");
    let twice =
        app.owner.acting_in(&app.owner.tenant).with_header("x-tenant-id", &app.owner.tenant);
    let refused = twice.get("/api/users").await.refused(400, "invalid_request");
    assert!(refused["error"].as_str().unwrap().contains("X-Tenant-Id"), "{refused}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn each_path_tells_its_methods() {
    let app = spawn().await;
    let put = app.owner.send(Method::PUT, "/api/tenants", None).await;
    assert_eq!(header(&put, "allow"), Some("GET, POST, HEAD, OPTIONS"));
    put.refused(405, "method_not_allowed");
    let key = app.owner.send(Method::DELETE, "/api/servers/worker-key", None).await;
    assert!(header(&key, "allow").unwrap().contains("GET"));
    key.refused(405, "method_not_allowed");
    let options = app.anonymous().send(Method::OPTIONS, "/api/auth/login", None).await;
    assert_eq!((options.status.as_u16(), header(&options, "allow")), (204, Some("POST, OPTIONS")));
    app.anonymous().send(Method::OPTIONS, "/x", None).await.refused(404, "route_not_found");
    for (path, status) in [("/healthz", 200), ("/openapi.json", 200), ("/api/me", 200), ("/x", 404)]
    {
        let got = app.owner.send(Method::HEAD, path, None).await;
        assert_eq!((got.status.as_u16(), got.body), (status, json!("")), "{path}");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_list_is_no_object_a_literal_path_no_id_and_five_point_zero_a_number() {
    let app = spawn().await;
    let owner = app.member_kind("shapes", "reseller").await;
    // Serde reads a list as the fields of a struct in their order.
    owner.post("/api/tenants", json!(["x", "customer"])).await.refused(400, "invalid_request");
    let path = format!("/api/tenants/{}", owner.tenant);
    for limits in [json!([null, 5]), json!({"members": 1.5}), json!({"members": -1})] {
        let body = json!({ "limits": limits }).to_string();
        app.owner.send(Method::PATCH, &path, Some(body)).await.refused(400, "invalid_request");
    }
    let whole = json!({"limits": {"members": 5.0, "tenants": null}}).to_string();
    let changed = app.owner.send(Method::PATCH, &path, Some(whole)).await.data(200);
    assert_eq!(changed["limits"], json!({"members": 5}));
    for (method, path) in
        [(Method::DELETE, "/api/invitations/accept"), (Method::PATCH, "/api/servers/worker-key")]
    {
        let got = owner.send(method, path, None).await;
        assert!(got.headers["allow"].to_str().unwrap().ends_with("OPTIONS"));
        got.refused(405, "method_not_allowed");
    }
    let long = format!("{}@{}.example", "x".repeat(60), vec!["y".repeat(62); 3].join("."));
    assert!(long.len() > 254);
    let body = json!({"email": long, "role": "VIEWER"});
    owner.post("/api/invitations", body).await.refused(400, "invalid_request");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_contract_has_a_page_that_needs_nothing_from_elsewhere() {
    let app = spawn().await;
    let anyone = app.anonymous();
    let page = anyone.get("/docs/").await;
    assert_eq!(page.status, 200);
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';"), "{policy}");
    let html = page.body.as_str().unwrap();
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    let parts: Vec<&str> = html.split('"').filter_map(|part| part.strip_prefix("./")).collect();
    assert!(parts.len() > 3, "{html}");
    for part in parts {
        assert_eq!(anyone.get(&format!("/docs/{part}")).await.status, 200, "{part}");
    }
    assert_eq!(anyone.get("/openapi.json").await.body["openapi"], "3.1.0");
    app.db.remove().await.unwrap();
}
