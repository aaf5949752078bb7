//! Two processes of the API on one database and one Redis: what one of them is told holds at the
//! other. The second is the real program.

use crate::app::{App, Client, Got, PASSWORD, edge, spawn, spawn_with};
use crate::program::{Process, SECOND, until};
use entities::config::{self, Edge};
use reqwest::Method;
use serde_json::{Value, json};

/// Waits until the process refuses this person's token.
async fn until_refused(client: &Client, code: &str) {
    until(&format!("GET /api/me is refused with {code}"), async || {
        let got = client.get("/api/me").await;
        let refused = got.status == 401;
        if refused {
            assert_eq!(got.body["code"], code, "{}", got.body);
        } else {
            got.data(200);
        }
        refused
    })
    .await;
}

async fn log_in(client: &Client, email: &str, password: &str) -> Got {
    client.post("/api/auth/login", json!({"email": email, "password": password})).await
}

/// Two processes that believe a proxy on this machine, with a budget of 6 for strangers.
async fn pair() -> (App, Process) {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let edge = Edge { trusted_proxies, anonymous_requests: 6, ..edge() };
    let app = spawn_with(edge, config::secret("TEST_REDIS_URL").unwrap()).await;
    let second = Process::start(&app).await;
    (app, second)
}

#[tokio::test]
async fn what_ends_at_one_process_ends_at_the_other() {
    let app = spawn().await;
    let second = Process::start(&app).await;
    let member = app.member("two", "OWNER").await;
    let email = "two-owner@customer.test";
    let there = second.client(&member);
    // A login of one process holds at the other.
    there.get("/api/me").await.data(200);
    member.post("/api/auth/logout", json!({})).await.data(200);
    until_refused(&there, "unauthenticated").await;

    let (one, two) =
        (Client::login(&app.url, email).await, Client::login(&second.url, email).await);
    let new = "another fine one 2";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    one.post("/api/auth/change-password", change).await.data(200);
    until_refused(&second.client(&one), "unauthenticated").await;
    until_refused(&two, "unauthenticated").await;
    log_in(&second.client(&app.anonymous()), email, PASSWORD)
        .await
        .refused(401, "invalid_credentials");
    log_in(&second.client(&app.anonymous()), email, new).await.data(200);

    let removed = app.member_of(&member.tenant, "removed", "ADMIN").await;
    let there = second.client(&removed);
    let id = there.get("/api/me").await.data(200)["user"]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/users/{id}");
    app.owner.acting_in(&member.tenant).send(Method::DELETE, &path, None).await.data(200);
    until_refused(&there, "unauthenticated").await;

    let frozen = app.member("frozen", "OWNER").await;
    let login = log_in(&app.anonymous(), "frozen-owner@customer.test", PASSWORD).await.data(200);
    let there = second.client(&frozen);
    there.get("/api/me").await.data(200);
    let path = format!("/api/tenants/{}/suspend", frozen.tenant);
    app.owner.post(&path, json!({"reason": "unpaid"})).await.data(200);
    until_refused(&there, "token_expired").await;
    let body = json!({ "refresh_token": login["refresh_token"] });
    let fresh = second.client(&app.anonymous()).post("/api/auth/refresh", body).await.data(200);
    let fresh = there.with_token(fresh["access_token"].as_str().unwrap());
    fresh.get("/api/me").await.data(200);
    let invitation = json!({"email": "x@customer.test", "role": "VIEWER"});
    fresh.post("/api/invitations", invitation).await.refused(403, "tenant_suspended");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_process_that_hears_nothing_asks() {
    let app = spawn().await;
    let email = "owner@platform.test";
    let here = Client::login(&app.url, email).await;
    let stays = Client::login(&app.url, email).await;
    let second = Process::start(&app).await;
    let (there, stays) = (second.client(&here), second.client(&stays));
    // Both have connections enough for what follows: nobody gets a new one after that, so that the
    // lost listener stays lost.
    let asks = (0..16).map(|nth| [&here, &there][nth % 2].get("/api/me"));
    for got in futures::future::join_all(asks).await {
        got.data(200);
    }
    app.db.cut_off(SECOND, "LISTEN \"session\"").await.unwrap();
    second.until_sessions(&app, "asking").await;
    there.get("/api/me").await.data(200);
    here.post("/api/auth/logout", json!({})).await.data(200);
    // At once: what it is not told it looks up.
    there.get("/api/me").await.refused(401, "unauthenticated");
    stays.get("/api/me").await.data(200);
    app.db.let_in().await.unwrap();
    second.until_sessions(&app, "listening").await;
    there.get("/api/me").await.refused(401, "unauthenticated");
    stays.get("/api/me").await.data(200);
    stays.at(&app.url).post("/api/auth/logout", json!({})).await.data(200);
    until_refused(&stays, "unauthenticated").await;
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn budgets_and_wrong_passwords_are_counted_by_both_together() {
    let (app, second) = pair().await;
    let from = |address: &str| {
        let here = app.anonymous().with_header("x-forwarded-for", address);
        [here.clone(), second.client(&here)]
    };
    let strangers = from("198.51.100.1");
    for nth in 0..6 {
        strangers[nth % 2].get("/api/me").await.refused(401, "unauthenticated");
    }
    for client in &strangers {
        client.get("/api/me").await.refused(429, "too_many_requests");
    }

    app.member("locked", "OWNER").await;
    let email = "locked-owner@customer.test";
    for nth in 0..5 {
        let [here, there] = from(&format!("198.51.100.{}", 10 + nth));
        let both =
            tokio::join!(log_in(&here, email, "wrong wrong"), log_in(&there, email, "wrong wrong"));
        both.0.refused(401, "invalid_credentials");
        both.1.refused(401, "invalid_credentials");
    }
    for client in &from("198.51.100.30") {
        log_in(client, email, PASSWORD).await.refused(429, "account_locked");
    }

    // Thirty in a row, whomever they are for, and one more each ten seconds: were each process to
    // count by itself, it would be sixty.
    let [here, there] = from("198.51.100.40");
    let mut tries = 0;
    let mut is_open = true;
    while is_open {
        let email = format!("nobody-{tries}@customer.test");
        let both = tokio::join!(
            log_in(&here, &email, "wrong wrong"),
            log_in(&there, &email, "wrong wrong")
        );
        for got in [both.0, both.1] {
            if got.status == 429 {
                got.refused(429, "too_many_requests");
                is_open = false;
            } else {
                got.refused(401, "invalid_credentials");
                tries += 1;
            }
        }
        assert!(tries < 55, "nobody counts");
    }
    assert!(tries >= 30, "{tries}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn one_request_and_one_refresh_token_at_both_at_once() {
    let app = spawn().await;
    let second = Process::start(&app).await;
    let there = second.client(&app.owner);
    for nth in 0..5 {
        let (key, name) = (format!("key-{nth}"), format!("tenant-{nth}"));
        let body = json!({"name": name, "kind": "customer"}).to_string();
        let ask = |client: &Client| {
            let (client, body, key) = (client.clone(), body.clone(), key.clone());
            async move { client.ask(Method::POST, "/api/tenants", Some(body), Some(&key)).await }
        };
        let (a, b) = tokio::join!(ask(&app.owner), ask(&there));
        let mut made = Vec::new();
        for got in [a, b] {
            match got.status.as_u16() {
                409 => drop(got.refused(409, "idempotency_running")),
                _ => made.push(got.data(201)["id"].clone()),
            }
        }
        let again = [ask(&app.owner).await, ask(&there).await];
        for got in again {
            assert_eq!(got.replayed.as_deref(), Some("true"));
            made.push(got.data(201)["id"].clone());
        }
        assert!(made.len() >= 3 && made.iter().all(|id| *id == made[0]), "{made:?}");
    }
    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "TENANT_CREATED").count(), 5);

    let login = log_in(&app.anonymous(), "owner@platform.test", PASSWORD).await.data(200);
    let mut token = login["refresh_token"].clone();
    for _ in 0..5 {
        let body = json!({ "refresh_token": token });
        let (here, there) = (app.anonymous(), second.client(&app.anonymous()));
        let (a, b) = tokio::join!(
            here.post("/api/auth/refresh", body.clone()),
            there.post("/api/auth/refresh", body)
        );
        let (a, b) = (a.data(200), b.data(200));
        assert_eq!(a["refresh_token"], b["refresh_token"]);
        assert_ne!(a["refresh_token"], token);
        assert_works(&there, &a).await;
        assert_works(&here, &b).await;
        token = a["refresh_token"].clone();
    }
    app.db.remove().await.unwrap();
}

async fn assert_works(client: &Client, tokens: &Value) {
    client.with_token(tokens["access_token"].as_str().unwrap()).get("/api/me").await.data(200);
}
