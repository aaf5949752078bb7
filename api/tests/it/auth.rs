use crate::app::{PASSWORD, spawn};
use serde_json::json;

#[tokio::test]
async fn a_login_gives_tokens_that_work_and_a_wrong_one_tells_nothing() {
    let app = spawn().await;
    let nobody = app.anonymous();
    let wrong = json!({"email": "owner@platform.test", "password": "wrong password"});
    let wrong = nobody.post("/api/auth/login", wrong).await.refused(401, "invalid_credentials");
    let unknown = json!({"email": "nobody@platform.test", "password": PASSWORD});
    let unknown = nobody.post("/api/auth/login", unknown).await.refused(401, "invalid_credentials");
    assert_eq!(wrong["error"], unknown["error"]);
    let me = app.owner.get("/api/me").await.data(200);
    assert_eq!(me["tenant"]["kind"], "platform");
    nobody.get("/api/me").await.refused(401, "unauthenticated");
    nobody.with_token("a.b.c").get("/api/me").await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_works_once_and_a_used_one_ends_the_family() {
    let app = spawn().await;
    let nobody = app.anonymous();
    let login = json!({"email": "owner@platform.test", "password": PASSWORD});
    let first = nobody.post("/api/auth/login", login).await.data(200)["refresh_token"].clone();
    let refresh = |token: &serde_json::Value| {
        let body = json!({ "refresh_token": token });
        let nobody = nobody.clone();
        async move { nobody.post("/api/auth/refresh", body).await }
    };
    let second = refresh(&first).await.data(200)["refresh_token"].clone();
    assert_ne!(first, second);
    refresh(&first).await.refused(401, "refresh_invalid");
    refresh(&second).await.refused(401, "refresh_invalid");
    refresh(&json!("0123456789abcdef0123456789abcdef")).await.refused(401, "refresh_invalid");
    let kinds = app.db.audit_kinds().await.unwrap();
    assert!(kinds.contains(&"REFRESH_TOKEN_REUSED".to_owned()), "{kinds:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn bodies_that_cannot_be_read_name_what_is_wrong() {
    let app = spawn().await;
    let send = |body: &str| {
        let (nobody, body) = (app.anonymous(), body.to_owned());
        async move { nobody.send(reqwest::Method::POST, "/api/auth/login", Some(body)).await }
    };
    send("{").await.refused(400, "invalid_request");
    send(r#"{"email": "a@b.test", "password": "x", "extra": 1}"#)
        .await
        .refused(400, "invalid_request");
    let named = send(r#"{"email": "", "password": "x"}"#).await.refused(400, "invalid_request");
    assert_eq!(named["fields"][0]["path"], "/email");
    let large = format!(r#"{{"email": "{}"}}"#, "x".repeat(300 << 10));
    send(&large).await.refused(413, "payload_too_large");
    send(r#"{"email": "a\u0000@b.test", "password": "x"}"#)
        .await
        .refused(401, "invalid_credentials");
    let named = serde_json::json!({"name": "a\u{0}b", "kind": "customer"});
    app.owner.post("/api/tenants", named).await.refused(400, "invalid_request");
    app.anonymous().get("/api/nothing").await.refused(404, "route_not_found");
    app.owner.get("/api/servers/nothing").await.refused(404, "not_found");
    app.db.remove().await.unwrap();
}
