//! A console lives by the rights of whoever has opened it.

use super::stage::Stage;
use crate::processes::PASSWORD;
use serde_json::json;
use std::time::Duration;

/// The rights are looked at every thirty seconds.
const LOOK: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_console_ends_with_the_login_or_the_key_that_has_opened_it() {
    let stage = Stage::open("crights", 2).await;
    stage.served().await;
    let mut login = stage.client.clone();
    login.log_in("owner@platform.test", PASSWORD).await;
    let key = json!({"name": "x", "role": "ADMIN", "scopes": ["cloudpods:write"]});
    let key = stage.client.post("/api/api-keys", key).await.data(201);
    let program = stage.client.with_token(key["key"].as_str().unwrap());
    let mut of_login = stage.shell_of(&login, 0).await;
    let mut of_key = stage.shell_of(&program, 1).await;
    login.post("/api/auth/logout", json!({})).await.data(200);
    let path = format!("/api/api-keys/{}", key["id"].as_str().unwrap());
    assert_eq!(stage.client.method("DELETE", &path).await, 200);
    let (a, b) = tokio::join!(of_login.ended(LOOK), of_key.ended(LOOK));
    assert_eq!((a.0, b.0), (1008, 1008), "{a:?} {b:?}");
    stage.nobody_in_a_terminal(Duration::from_secs(30)).await;
    stage.end().await;
}

#[tokio::test]
async fn a_console_outlives_its_access_token_and_not_its_role() {
    let stage = Stage::open("croles", 1).await;
    stage.served().await;
    let member = json!({"email": "m@platform.test", "password": PASSWORD, "role": "ADMIN"});
    let tenant = stage.pods[0].tenant_id;
    let path = format!("/api/tenants/{tenant}/members");
    let member = stage.client.post(&path, member).await.data(201);
    let mut admin = stage.client.clone();
    admin.log_in("m@platform.test", PASSWORD).await;
    let mut terminal = stage.shell_of(&admin, 0).await;
    let path = format!("/api/users/{}", member["id"].as_str().unwrap());
    // The token is void from here on; the role suffices still.
    stage.client.patch(&path, json!({"role": "OWNER"})).await.data(200);
    admin.get("/api/me").await.refused(401, "token_expired");
    tokio::time::timeout(LOOK, terminal.next()).await.expect_err("it goes on");
    assert_eq!(terminal.run("echo alive").await, "alive");
    stage.client.patch(&path, json!({"role": "MEMBER"})).await.data(200);
    let (code, reason) = terminal.ended(LOOK).await;
    assert_eq!(code, 1008, "{reason}");
    stage.end().await;
}
