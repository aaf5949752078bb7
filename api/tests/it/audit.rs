//! The trail over the API: pages, filters, the export, and the command that checks the chains.

use crate::app::{App, spawn};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entities::audit::seal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

async fn seal_all(app: &App) {
    while !seal::seal_entries(&app.db.db, 100).await.unwrap().is_empty() {}
}

fn ids(entries: &Value) -> Vec<String> {
    entries.as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn entries_are_listed_page_by_page_and_filtered() {
    let app = spawn().await;
    let owner = &app.owner;
    for name in ["a", "b", "c", "d", "e"] {
        owner.post("/api/tenants", json!({"name": name, "kind": "customer"})).await.data(201);
    }
    let made = owner.get("/api/audit?kind=TENANT_CREATED&limit=200").await.data(200);
    assert_eq!(made.as_array().unwrap().len(), 5);
    let entry = &made[0];
    assert_eq!(entry["actor_label"], "owner@platform.test");
    assert_eq!(entry["user_agent"], "tests");
    assert_eq!(entry["ip"], "127.0.0.1");
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let got = owner.get(&format!("/api/audit?kind=TENANT_CREATED&limit=2{cursor}")).await;
        let next = got.body["meta"]["next"].clone();
        seen.extend(ids(&got.data(200)));
        // What comes in meanwhile moves nothing.
        owner.post("/api/tenants", json!({"name": "later", "kind": "customer"})).await.data(201);
        let Some(next) = next.as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ids(&made));
    let count = async |query: &str| {
        let entries = owner.get(&format!("/api/audit?{query}")).await.data(200);
        entries.as_array().unwrap().len()
    };
    let request = entry["request_id"].as_str().unwrap();
    assert_eq!(count(&format!("request_id={request}")).await, 1);
    let actor = entry["actor_id"].as_str().unwrap();
    assert_eq!(count(&format!("actor={actor}&kind=LOGIN")).await, 1);
    assert_eq!(count("actor=owner@platform.test&kind=LOGIN").await, 1);
    assert_eq!(count("actor=nobody@platform.test").await, 0);
    let at = entry["created_at"].as_str().unwrap();
    assert_eq!(count(&format!("kind=TENANT_CREATED&to={at}")).await, 4);
    assert_eq!(count(&format!("kind=TENANT_CREATED&from={at}&to={at}")).await, 0);
    for wrong in ["limit=0", "limit=201", "cursor=x", "from=yesterday", "per_page=1"] {
        let refused = owner.get(&format!("/api/audit?{wrong}")).await;
        let refused = refused.refused(400, "invalid_request");
        let name = wrong.split('=').next().unwrap();
        assert_eq!(refused["fields"][0]["path"], format!("/{name}"), "{refused}");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_the_database_cannot_hold_is_refused_by_name() {
    let app = spawn().await;
    let far_out = |micros: i64| {
        let place = [micros.to_be_bytes().as_slice(), &[0; 16]].concat();
        format!("cursor={}", URL_SAFE_NO_PAD.encode(place))
    };
    let (early, late) = (far_out(-8_000_000_000_000_000_000), far_out(8_000_000_000_000_000_000));
    for (path, wrong) in [
        ("", "actor=%00"),
        ("", "kind=%00"),
        ("", "kind=LOGIN%0a"),
        ("", &early),
        ("", &late),
        ("", "request_id=1"),
        ("", "limit=many"),
        ("", "from=-4800-01-01T00:00:00Z"),
        ("", "from=1969-12-31T23:59:59Z"),
        ("", "to=%2B262000-01-01T00:00:00Z"),
        ("/export", "from=-4800-01-01T00:00:00Z"),
        ("/export", "to=%2B262000-01-01T00:00:00Z"),
        ("/export", "to=tomorrow"),
    ] {
        let refused = app.owner.get(&format!("/api/audit{path}?{wrong}")).await;
        let refused = refused.refused(400, "invalid_request");
        let name = wrong.split('=').next().unwrap();
        assert_eq!(refused["fields"][0]["path"], format!("/{name}"), "{refused}");
    }
    let nobody = app.anonymous();
    nobody.get("/api/audit?actor=%00").await.refused(401, "unauthenticated");
    for at in ["+262000-01-01T00:00:00Z", "+10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z"] {
        let key = json!({"name": "far", "role": "VIEWER", "expires_at": at});
        let refused = app.owner.post("/api/api-keys", key).await.refused(400, "invalid_request");
        assert_eq!(refused["fields"][0]["path"], "/expires_at", "{refused}");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_export_can_be_checked_by_anybody() {
    let app = spawn().await;
    let customer = app.member("epsilon", "ADMIN").await;
    let lacking = "/api/servers/01900000-0000-7000-8000-000000000000";
    for _ in 0..600 {
        customer.get(lacking).await.refused(404, "server_not_found");
    }
    seal_all(&app).await;
    customer.get(lacking).await.refused(404, "server_not_found");
    let got = customer.get("/api/audit/export").await;
    assert_eq!(got.status, 200);
    let text = got.body.as_str().unwrap().to_owned();
    let (mut before, mut unsealed) = ("0".repeat(64), Vec::new());
    let mut lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.is_sorted_by_key(|line| line["created_at"].as_str().unwrap().to_owned()));
    assert!(lines.len() > 600, "{}", lines.len());
    assert!(lines.iter().all(|line| line["tenant_id"] == customer.tenant.as_str()));
    lines.sort_by_key(|line| line["seq"].as_i64().unwrap_or(i64::MAX));
    for (nth, mut line) in lines.into_iter().enumerate() {
        let fields = line.as_object_mut().unwrap();
        let (seq, hash) = (fields.remove("seq"), fields.remove("hash"));
        let Some(hash) = hash else {
            unsealed.push(line["kind"].as_str().unwrap().to_owned());
            continue;
        };
        assert_eq!(seq.unwrap(), nth + 1);
        let made = hex(&Sha256::digest(format!("{before}{line}").as_bytes()));
        assert_eq!(hash, made.as_str(), "{line}");
        before = made;
    }
    // The export's own entry may be a moment younger than its end.
    assert_eq!(unsealed[0], "REQUEST_REFUSED");
    assert!(unsealed[1..].iter().all(|kind| kind == "AUDIT_EXPORTED"), "{unsealed:?}");
    let later = customer.get("/api/audit/export?from=2100-01-01T00:00:00Z").await;
    assert_eq!((later.status.as_u16(), later.body), (200, json!("")));
    let exports = customer.get("/api/audit?kind=AUDIT_EXPORTED").await.data(200);
    assert_eq!(exports.as_array().unwrap().len(), 2);
    app.db.remove().await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_command_checks_every_chain_and_names_what_is_wrong() {
    let app = spawn().await;
    let customer = app.member("zeta", "ADMIN").await;
    seal_all(&app).await;
    let run = async |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        api::audit::run(&app.db.db, &words).await
    };
    let all = run(&["verify"]).await.unwrap();
    assert!(all.whole && all.text.lines().count() == 2, "{}", all.text);
    let one = run(&["verify", &customer.tenant]).await.unwrap();
    assert!(one.whole && one.text.contains("zeta: whole, ") && one.text.contains(" 0 not yet, "));
    let head = one.text.trim().rsplit(' ').next().unwrap();
    let (seq, hash) = head.split_once(':').unwrap();
    let head = async |head: String| run(&["verify", &customer.tenant, "--head", &head]).await;
    assert!(head(format!("{seq}:{hash}")).await.unwrap().whole);
    let cut = head(format!("1{seq}:{hash}")).await.unwrap();
    assert!(!cut.whole && cut.text.contains("was cut off"), "{}", cut.text);
    let other = head(format!("1:{}", "0".repeat(64))).await.unwrap();
    assert!(!other.whole && other.text.contains("was written anew"), "{}", other.text);
    app.db
        .execute(
            "ALTER TABLE audit_log DISABLE TRIGGER ALL; UPDATE audit_log SET ip = 'x' WHERE kind = 'LOGIN'",
        )
        .await
        .unwrap();
    let broken = run(&["verify"]).await.unwrap();
    assert!(!broken.whole, "{}", broken.text);
    assert_eq!(broken.text.matches("was changed, or stands in another's place").count(), 2);
    let nobody = "01900000-0000-7000-8000-000000000000";
    for wrong in [&["verify", "x"][..], &["verify", nobody], &["prove"], &[], &["verify", "--head"]]
    {
        assert!(run(wrong).await.is_err(), "{wrong:?}");
    }
    assert!(head("1".to_owned()).await.is_err());
    app.db.remove().await.unwrap();
}
