//! A request that is repeated with its key has its effect once.

use crate::app::{App, Client, Got, server_body, spawn};
use reqwest::Method;
use serde_json::{Value, json};

async fn post(client: &Client, key: &str, path: &str, body: &Value) -> Got {
    client.ask(Method::POST, path, Some(body.to_string()), Some(key)).await
}

async fn count(app: &App, kind: &str) -> usize {
    app.db.audit_kinds().await.unwrap().iter().filter(|k| *k == kind).count()
}

#[tokio::test]
async fn a_repeated_request_gets_its_first_answer_and_has_no_second_effect() {
    let app = spawn().await;
    let body = server_body("once");
    let first = post(&app.owner, "k-1", "/api/servers", &body).await;
    assert_eq!(first.replayed.as_deref(), Some("false"));
    let again = post(&app.owner, "k-1", "/api/servers", &body).await;
    assert_eq!(again.replayed.as_deref(), Some("true"));
    assert_eq!(again.body, first.body);
    assert_eq!(first.data(201)["id"], again.data(201)["id"]);
    assert_eq!(count(&app, "SERVER_CREATED").await, 1);
    // Without the key it is another request, which finds the name taken.
    app.owner
        .send(Method::POST, "/api/servers", Some(body.to_string()))
        .await
        .refused(409, "conflict");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_caller_in_one_tenant() {
    let app = spawn().await;
    let a = app.member("alpha", "OWNER").await;
    let b = app.member("beta", "OWNER").await;
    let colleague = app.member_of(&a.tenant, "gamma", "OWNER").await;
    let tenant = |name: &str| json!({"name": name, "kind": "customer"});
    let invitation = json!({"email": "new@x.test", "role": "VIEWER"});
    let first = post(&a, "k", "/api/invitations", &invitation).await.data(201);
    let other = json!({"email": "other@x.test", "role": "VIEWER"});
    post(&a, "k", "/api/invitations", &other).await.refused(422, "idempotency_mismatch");
    let path = format!("/api/tenants/{}/members", a.tenant);
    post(&a, "k", &path, &invitation).await.refused(422, "idempotency_mismatch");
    for client in [&b, &colleague] {
        let made = post(client, "k", "/api/invitations", &invitation).await;
        assert_eq!(made.replayed.as_deref(), Some("false"));
        assert_ne!(made.data(201)["id"], first["id"]);
    }
    // One person in two tenants.
    for (nth, client) in [&app.owner, &app.owner.acting_in(&b.tenant)].into_iter().enumerate() {
        let made =
            post(client, "k-2", "/api/api-keys", &json!({"name": "x", "role": "VIEWER"})).await;
        assert_eq!((nth, made.replayed.as_deref()), (nth, Some("false")), "{}", made.body);
    }
    for wrong in ["", " ", "two words", "ä", &"x".repeat(256)] {
        post(&app.owner, wrong, "/api/tenants", &tenant("x")).await.refused(400, "invalid_request");
    }
    post(&app.owner, &"x".repeat(255), "/api/tenants", &tenant("x")).await.data(201);
    post(&app.anonymous(), "k", "/api/tenants", &tenant("x")).await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn fifty_at_once_with_one_key_have_one_effect() {
    let app = spawn().await;
    let job = json!({"server_id": app.server("busy").await, "target_user": "alice",
        "backup_path": "/var/backups/migrations/a.tar"});
    for (path, body, kind) in [
        ("/api/tenants", json!({"name": "one", "kind": "customer"}), "TENANT_CREATED"),
        ("/api/servers", server_body("one"), "SERVER_CREATED"),
        ("/api/migration/analyze", job, "MIGRATION_ANALYSIS_STARTED"),
    ] {
        let before = count(&app, kind).await;
        let all = (0..50).map(|_| post(&app.owner, path, path, &body));
        let mut answers = Vec::new();
        for got in futures::future::join_all(all).await {
            if got.status == 409 {
                assert_eq!(got.body["retryable"], true);
                got.refused(409, "idempotency_running");
            } else {
                assert!(got.status.is_success(), "{}", got.body);
                answers.push((got.replayed.clone().unwrap(), got.body));
            }
        }
        assert_eq!(answers.iter().filter(|(replayed, _)| replayed == "false").count(), 1);
        assert!(answers.iter().all(|(_, body)| *body == answers[0].1));
        assert_eq!(count(&app, kind).await - before, 1, "{path}");
        assert_eq!(post(&app.owner, path, path, &body).await.body, answers[0].1);
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn refusals_are_not_kept_and_lost_rights_end_the_answers() {
    let app = spawn().await;
    let owner = app.member("delta", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "delta", "ADMIN").await;
    let job = |server: &str| {
        json!({"server_id": server, "target_user": "alice",
        "backup_path": "/var/backups/migrations/a.tar"})
    };
    let unknown = "01900000-0000-7000-8000-000000000000";
    for _ in 0..2 {
        let got = post(&app.owner, "k", "/api/migration/analyze", &job(unknown)).await;
        assert_eq!(got.replayed, None);
        got.refused(404, "server_not_found");
    }
    let server = app.server("later").await;
    post(&app.owner, "k", "/api/migration/analyze", &job(&server)).await.data(202);
    let body = json!({"email": "once@x.test", "role": "VIEWER"});
    post(&admin, "k", "/api/invitations", &body).await.data(201);
    app.db.execute("UPDATE membership SET role = 'VIEWER' WHERE role = 'ADMIN'").await.unwrap();
    let demoted = Client::login(&app.url, "delta-admin@customer.test").await;
    post(&demoted, "k", "/api/invitations", &body).await.refused(403, "forbidden");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_secret_that_is_shown_once_does_not_stand_in_the_database() {
    let app = spawn().await;
    let body = json!({"name": "once", "role": "VIEWER"});
    let key = "7e1d6f0c-its-own-key";
    let made = post(&app.owner, key, "/api/api-keys", &body).await;
    let again = post(&app.owner, key, "/api/api-keys", &body).await;
    assert_eq!(again.body, made.body);
    let secret = made.data(201)["key"].as_str().unwrap().to_owned();
    let tail = secret.split_at(secret.len() - 20).1;
    let stored = app.db.dump("idempotency").await.unwrap();
    assert!(stored.contains("sealed_body") && stored.matches("scope_sha256").count() == 1);
    for part in [secret.as_str(), tail, key, "once", "success"] {
        assert!(!stored.contains(part), "{part} stands in {stored}");
    }
    let whole = app.db.dump_all().await.unwrap();
    assert!(whole.len() > 1000 && !whole.contains(tail));
    app.db.remove().await.unwrap();
}

#[test]
fn each_operation_that_creates_tells_of_the_key() {
    let document: Value = serde_json::from_str(&api::contract::text().unwrap()).unwrap();
    let mut creating = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let post = &item["post"];
        let is_open = post["security"] == json!([{}]);
        if is_open || (post["responses"]["201"].is_null() && post["responses"]["202"].is_null()) {
            continue;
        }
        creating += 1;
        let parameters = post["parameters"].as_array().cloned().unwrap_or_default();
        assert!(parameters.iter().any(|p| p["name"] == "Idempotency-Key"), "POST {path}");
    }
    assert!(creating >= 9, "{creating}");
}
