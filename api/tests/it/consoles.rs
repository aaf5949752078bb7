//! Tickets of consoles and what refuses them; consoles that serve are tried with a real node.

use crate::app::{App, Client, spawn};
use crate::cloudpods::{allow, make, node, plan};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A pod that counts as running.
async fn running(app: &App, client: &Client, hostname: &str) -> String {
    let id = make(client, hostname).await["id"].as_str().unwrap().to_owned();
    let runs = format!("UPDATE cloudpod SET status = 'active', job_id = NULL WHERE id = '{id}'");
    app.db.execute(&runs).await.unwrap();
    format!("/api/cloudpods/{id}/console")
}

/// The code of the close, or the status and code of the refusal.
async fn open(app: &App, path: &str, ticket: &str) -> Result<u16, (u16, String)> {
    let url = format!("{}{path}", app.url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    let protocols = format!("ticket.{ticket}, migrapanel.console.v1");
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    match connect_async(request).await {
        Ok((mut socket, _)) => match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => Ok(frame.code.into()),
            other => panic!("{other:?}"),
        },
        Err(Error::Http(answer)) => {
            let body = answer.body().as_deref().unwrap_or_default();
            let body: Value = serde_json::from_slice(body).unwrap();
            Err((answer.status().as_u16(), body["code"].as_str().unwrap().to_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

async fn ticket(client: &Client, path: &str) -> String {
    let given = client.post(path, json!({})).await.data(201);
    given["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn only_who_may_gets_a_ticket_and_only_for_a_pod_that_runs() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let owner = app.member("owner", "OWNER").await;
    allow(&app, &owner).await;
    let waiting = make(&owner, "waiting").await;
    let path = format!("/api/cloudpods/{}/console", waiting["id"].as_str().unwrap());
    owner.post(&path, json!({})).await.refused(409, "cloudpod_state");
    let path = running(&app, &owner, "runs").await;
    let member = app.member_of(&owner.tenant, "owner", "MEMBER").await;
    member.post(&path, json!({})).await.refused(403, "forbidden");
    let stranger = app.member("stranger", "OWNER").await;
    allow(&app, &stranger).await;
    stranger.post(&path, json!({})).await.refused(404, "not_found");
    let given = owner.post(&path, json!({})).await.data(201);
    assert!(given["url"].as_str().unwrap().ends_with(&path), "{given}");
    assert!(given["url"].as_str().unwrap().starts_with("ws://"), "{given}");
    let admin = app.owner.acting_in(&owner.tenant);
    ticket(&admin, &path).await;

    // Not as it stands there, and not for long.
    let text = given["ticket"].as_str().unwrap();
    let rows = app.db.dump("cloudpod_console").await.unwrap();
    assert!(!rows.contains(text), "{rows}");
    let many = "INSERT INTO cloudpod_console
            (id, tenant_id, cloudpod_id, session_id, ticket_sha256, expires_at, opened_at, seen_at)
         SELECT gen_random_uuid(), tenant_id, cloudpod_id, session_id, n::text, now(), now(), now()
         FROM (SELECT * FROM cloudpod_console LIMIT 1) c, generate_series(1, 2) n";
    app.db.execute(many).await.unwrap();
    owner.post(&path, json!({})).await.refused(409, "quota_exceeded");
    let second = running(&app, &owner, "second").await;
    ticket(&owner, &second).await;
    app.db.execute(&many.replace("(1, 2)", "(3, 10)")).await.unwrap();
    owner.post(&second, json!({})).await.refused(409, "quota_exceeded");
    let suspend = format!("/api/tenants/{}/suspend", owner.tenant);
    app.owner.post(&suspend, json!({"reason": "unpaid"})).await.data(200);
    let owner = Client::login(&app.url, "owner-owner@customer.test").await;
    owner.post(&second, json!({})).await.refused(403, "tenant_suspended");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_no_ticket_of_this_moment_opens_nothing() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let owner = app.member("owner", "OWNER").await;
    allow(&app, &owner).await;
    let path = running(&app, &owner, "runs").await;
    let invalid = Err((401, "ticket_invalid".to_owned()));
    app.anonymous().get(&path).await.refused(401, "ticket_invalid");
    owner.get(&path).await.refused(401, "ticket_invalid");
    let text = ticket(&owner, &path).await;
    let protocols = format!("migrapanel.console.v1, ticket.{text}");
    let plain = app.anonymous().with_header("sec-websocket-protocol", &protocols);
    plain.get(&path).await.refused(400, "invalid_request");
    let elsewhere = plain.with_header("origin", "https://evil.example");
    elsewhere.get(&path).await.refused(403, "forbidden");
    assert_eq!(open(&app, &path, "").await, invalid);
    // No worker is there. The ticket is used all the same.
    assert_eq!(open(&app, &path, &text).await, Ok(1013));
    assert_eq!(open(&app, &path, &text).await, invalid);
    let rows = app.db.dump("cloudpod_console").await.unwrap();
    assert!(rows.is_empty(), "{rows}");

    // The rights are those of the opening, not those of the ticket's giving.
    let text = ticket(&owner, &path).await;
    app.db.execute("UPDATE cloudpod SET status = 'stopped'").await.unwrap();
    assert_eq!(open(&app, &path, &text).await, Err((409, "cloudpod_state".to_owned())));
    app.db.execute("UPDATE cloudpod SET status = 'active'").await.unwrap();
    let text = ticket(&owner, &path).await;
    owner.post("/api/auth/logout", json!({})).await.data(200);
    assert_eq!(open(&app, &path, &text).await, Err((401, "unauthenticated".to_owned())));
    app.db.remove().await.unwrap();
}
