//! What opens a console, and what does not.

use super::stage::Stage;
use super::terminal::{Refused, Terminal};
use crate::gates::Database;
use crate::processes::PASSWORD;
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn refusal(got: Result<Terminal, Refused>) -> (u16, String) {
    match got {
        Ok(_) => panic!("it opened"),
        Err(Refused(status, code)) => (status, code),
    }
}

#[tokio::test]
async fn a_ticket_opens_one_console_of_its_pod_once_and_soon() {
    let stage = Stage::open("ctickets", 2).await;
    stage.served().await;
    let invalid = (401, "ticket_invalid".to_owned());
    let ticket = stage.ticket(0).await;
    assert_eq!(refusal(stage.try_open(1, &ticket).await), invalid, "of another pod");
    assert_eq!(refusal(stage.try_open(0, "").await), invalid);
    assert_eq!(refusal(stage.try_open(0, &format!("{ticket}x")).await), invalid);
    let foreign = stage.try_open_from(0, &ticket, Some("https://evil.example")).await;
    assert_eq!(refusal(foreign), (403, "forbidden".to_owned()));
    let mut terminal = stage.try_open(0, &ticket).await.unwrap();
    terminal.says("login:").await;
    assert_eq!(refusal(stage.try_open(0, &ticket).await), invalid, "a second time");

    let late = stage.ticket(1).await;
    stage.bed().sql("UPDATE cloudpod_console SET expires_at = now() WHERE opened_at IS NULL");
    assert_eq!(refusal(stage.try_open(1, &late).await), invalid, "too late");
    terminal.close().await;
    stage.nobody_in_a_terminal(SOON).await;

    // Whoever belongs elsewhere gets no ticket, and a ticket of theirs is for nothing here.
    let client = &stage.client;
    let tenant = client.post("/api/tenants", json!({"name": "x", "kind": "customer"})).await;
    let tenant = tenant.data(201)["id"].as_str().unwrap().to_owned();
    let member = json!({"email": "o@x.test", "password": PASSWORD, "role": "OWNER"});
    client.post(&format!("/api/tenants/{tenant}/members"), member).await.data(201);
    let mut other = client.clone();
    other.log_in("o@x.test", PASSWORD).await;
    other.post(&stage.path(0), json!({})).await.refused(404, "not_found");
    let moved = format!(
        "SET session_replication_role = replica;
         UPDATE cloudpod SET tenant_id = '{tenant}' WHERE id = '{}'",
        stage.pods[1].id
    );
    let mine = stage.ticket(1).await;
    stage.bed().sql(&moved);
    assert_eq!(refusal(stage.try_open(1, &mine).await), (404, "not_found".to_owned()));
    stage.end().await;
}

#[tokio::test]
async fn a_console_too_many_is_refused_with_a_code_that_browsers_see() {
    let stage = Stage::open("cmany", 1).await;
    stage.served().await;
    let ticket = stage.ticket(0).await;
    // As if others had been opened at another process meanwhile.
    let others = "INSERT INTO cloudpod_console
            (id, tenant_id, cloudpod_id, session_id, ticket_sha256, expires_at, opened_at, seen_at)
         SELECT gen_random_uuid(), tenant_id, cloudpod_id, session_id, n::text, now(), now(), now()
         FROM cloudpod_console, generate_series(1, 2) n WHERE opened_at IS NULL";
    stage.bed().sql(others);
    let mut terminal = stage.try_open(0, &ticket).await.unwrap();
    let (code, reason) = terminal.ended(SOON).await;
    assert_eq!(code, 1013, "{reason}");
    let refused = stage.client.post(&stage.path(0), json!({})).await;
    refused.refused(409, "quota_exceeded");
    // Those of a process that has died count no more.
    stage.bed().sql("UPDATE cloudpod_console SET seen_at = now() - interval '2 minutes'");
    let ticket = stage.ticket(0).await;
    let mut terminal = stage.try_open(0, &ticket).await.unwrap();
    terminal.says("login:").await;
    stage.end().await;
}
