//! Dead letters: who sees them, what of them is shown, and what replaying and discarding one does.

use crate::app::{App, spawn};
use entities::dead_letters::{self, Letter, Reason};
use reqwest::Method;
use serde_json::{Value, json};

async fn keep(app: &App, queue: &str, payload: &[u8], reason: Reason) {
    let letter = Letter { queue, payload, reason, error: "password=hunter2 at line 1" };
    dead_letters::keep(&app.db.db, letter).await.unwrap();
}

async fn list(app: &App, query: &str) -> Vec<Value> {
    let got = app.owner.get(&format!("/api/dead-letters?{query}")).await.data(200);
    got.as_array().unwrap().clone()
}

fn id(letter: &Value) -> String {
    letter["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn they_are_kept_once_and_shown_to_the_platforms_staff_without_secrets() {
    let app = spawn().await;
    let other = app.member("other", "OWNER").await;
    for _ in 0..3 {
        keep(&app, "migrapanel.jobs", br#"{"kind": "x", "token": "hunter2"}"#, Reason::Unreadable)
            .await;
    }
    keep(&app, "migrapanel.dns", b"\xff\0not JSON, token=hunter2", Reason::Unreadable).await;
    keep(&app, "migrapanel.dns", br#"{"kind": "x", "token": "hunter2"}"#, Reason::Foreign).await;
    let all = list(&app, "").await;
    assert_eq!(all.len(), 3);
    assert!(!json!(all).to_string().contains("hunter2"), "{all:?}");
    let [once] = list(&app, "queue=migrapanel.jobs").await.try_into().unwrap();
    assert_eq!(once["payload"], r#"{"kind":"x","token":"[redacted]"}"#);
    assert_eq!((&once["count"], &once["bytes"]), (&json!(3), &json!(33)));
    assert_eq!(list(&app, "reason=foreign").await.len(), 1);
    assert_eq!(list(&app, "replayed=true").await.len(), 0);
    assert_eq!(list(&app, "replayed=false&per_page=2").await.len(), 2);
    app.owner.get("/api/dead-letters?reason=x").await.refused(400, "invalid_request");
    other.get("/api/dead-letters").await.refused(403, "forbidden");
    let path = format!("/api/dead-letters/{}", id(&once));
    other.send(Method::DELETE, &path, None).await.refused(403, "forbidden");
    other.post(&format!("{path}/replay"), json!({})).await.refused(403, "forbidden");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_replay_goes_through_the_outbox_and_what_fails_again_comes_back() {
    let app = spawn().await;
    let payload = b"\xfe as it came";
    keep(&app, "migrapanel.billing", payload, Reason::Unreadable).await;
    let letter = id(&list(&app, "").await[0]);
    let path = format!("/api/dead-letters/{letter}/replay");
    let seen = app.owner.post(&path, json!({})).await.data(200);
    assert_ne!(seen["replayed_at"], Value::Null);
    let mut sent = Vec::new();
    let send = entities::outbox::send_batch(&app.db.db, 100, |unsent| {
        sent.extend(unsent.iter().map(|m| (m.queue.clone(), m.payload.clone())));
        async move { unsent.into_iter().map(|m| m.id).collect() }
    });
    send.await.unwrap();
    let replayed = ("migrapanel.billing".to_owned(), payload.to_vec());
    assert!(sent.contains(&replayed), "{sent:?}");
    assert_eq!(list(&app, "replayed=true").await.len(), 1);
    assert_eq!(list(&app, "replayed=false").await.len(), 0);
    keep(&app, "migrapanel.billing", payload, Reason::Unreadable).await;
    let [again] = list(&app, "replayed=false").await.try_into().unwrap();
    assert_eq!((id(&again), &again["count"]), (letter.clone(), &json!(2)));

    // A letter that is discarded before the relay has sent it is not sent.
    app.owner.post(&path, json!({})).await.data(200);
    let one = format!("/api/dead-letters/{letter}");
    app.owner.send(Method::DELETE, &one, None).await.data(200);
    app.owner.send(Method::DELETE, &one, None).await.refused(404, "not_found");
    app.owner.post(&path, json!({})).await.refused(404, "not_found");
    let mut sent = 0;
    let send = entities::outbox::send_batch(&app.db.db, 100, |unsent| {
        sent += unsent.len();
        async move { unsent.into_iter().map(|m| m.id).collect() }
    });
    assert_eq!(send.await.unwrap(), 1);
    assert_eq!((sent, app.db.unsent().await.unwrap()), (0, 0));
    let kinds = app.db.audit_kinds().await.unwrap();
    for (kind, count) in [("DEAD_LETTER_REPLAYED", 2), ("DEAD_LETTER_DISCARDED", 1)] {
        assert_eq!(kinds.iter().filter(|k| *k == kind).count(), count, "{kind}");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_sent_again_is_refused() {
    let app = spawn().await;
    let long = vec![b'x'; 70_000];
    for (queue, payload) in [
        ("migrapanel.asks", &b"{}"[..]),
        ("migrapanel.jobs", &long),
        ("migrapanel.of-old-times", b"{}"),
    ] {
        keep(&app, queue, payload, Reason::Unreadable).await;
        let [letter] = list(&app, &format!("queue={queue}")).await.try_into().unwrap();
        assert_eq!(letter["bytes"], payload.len());
        let path = format!("/api/dead-letters/{}/replay", id(&letter));
        app.owner.post(&path, json!({})).await.refused(409, "conflict");
    }
    assert_eq!(app.db.unsent().await.unwrap(), 0);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn only_failures_in_a_row_make_a_dead_letter() {
    let app = spawn().await;
    let fail = async || {
        dead_letters::count_failure(&app.db.db, "migrapanel.billing", b"{}", "no").await.unwrap()
    };
    for _ in 1..dead_letters::TRIES_MAX {
        assert!(!fail().await);
    }
    app.db.execute("UPDATE dead_letter SET last_at = now() - interval '11 minutes'").await.unwrap();
    for _ in 1..dead_letters::TRIES_MAX {
        assert!(!fail().await, "the last failure was long ago");
        assert!(list(&app, "").await.is_empty());
    }
    assert!(fail().await);
    let [letter] = list(&app, "reason=failing").await.try_into().unwrap();
    // Replayed, it is tried as often again.
    let path = format!("/api/dead-letters/{}/replay", id(&letter));
    app.owner.post(&path, json!({})).await.data(200);
    for _ in 1..dead_letters::TRIES_MAX {
        assert!(!fail().await);
    }
    assert!(fail().await);
    assert_eq!(list(&app, "replayed=false").await.len(), 1);
    // What never became a dead letter is forgotten after a day; what did stays.
    let old = "INSERT INTO dead_letter (id, digest, queue, payload, bytes, reason, error)
        VALUES ('00000000-0000-7000-8000-000000000001', 'x', 'q', '', 0, 'failing', '');
        UPDATE dead_letter SET last_at = now() - interval '2 days'";
    app.db.execute(old).await.unwrap();
    dead_letters::prune(&app.db.db).await.unwrap();
    assert_eq!(app.db.dump("dead_letter").await.unwrap().lines().count(), 1);
    assert_eq!(list(&app, "").await.len(), 1);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn of_two_who_keep_the_same_at_once_one_makes_the_row() {
    let app = spawn().await;
    let keeping = (0..8).map(|_| keep(&app, "migrapanel.jobs", b"poison", Reason::Unreadable));
    futures::future::join_all(keeping).await;
    let [letter] = list(&app, "").await.try_into().unwrap();
    assert_eq!(letter["count"], 8);
    app.db.remove().await.unwrap();
}
