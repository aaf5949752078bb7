//! Events at real endpoints over HTTP, verified as receivers do with the specification's own library.

use entities::audit::seal;
use entities::config::Notifier;
use entities::error::Code;
use entities::ids::RowId;
use entities::secrets::SecretKeys;
use entities::tables::{webhook_delivery, webhook_endpoint};
use entities::tenancy::{Permission, TenantCtx, TenantKind};
use entities::testing::TestDb;
use entities::webhooks::deliveries::{self, State};
use entities::webhooks::{self, Change, New, Reach};
use entities::{audit::Audit, tenants};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use standardwebhooks::Webhook;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use workers::webhooks::Courier;

const KEYS: &str = "k:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn keys() -> SecretKeys {
    SecretKeys::parse(&SecretString::from(KEYS)).unwrap()
}

async fn courier(db: &TestDb, reach: Reach) -> Courier {
    let config = Notifier {
        database_url: db.url.clone(),
        token_keys: keys(),
        smtp_url: SecretString::from("smtp://127.0.0.1:1"),
        mail_from: "MigraPanel <panel@migrapanel.test>".to_owned(),
        dashboard_url: "https://panel.migrapanel.test".to_owned(),
        webhooks: reach,
    };
    Courier::open(&config).await.unwrap()
}

/// A request that arrived: its headers and body.
#[derive(Clone)]
struct Call {
    headers: http::HeaderMap,
    body: String,
}

impl Call {
    fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }

    fn verifies(&self, secret: &SecretString) -> bool {
        let receiver = Webhook::new(secret.expose_secret()).unwrap();
        receiver.verify(self.body.as_bytes(), &self.headers).is_ok()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A receiver that answers as it is told, the last answer for ever.
struct Receiver {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Receiver {
    async fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        let seen = Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(receive(stream, answers.clone(), Arc::clone(&seen)));
            }
        });
        Self { url, calls }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

async fn receive(mut stream: TcpStream, answers: Vec<String>, seen: Arc<Mutex<Vec<Call>>>) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut headers = http::HeaderMap::new();
            for line in head.lines().skip(1) {
                let (name, value) = line.split_once(": ").unwrap();
                let name: http::HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
            if body.len() == length {
                let nth = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(Call { headers, body: body.to_owned() });
                    seen.len() - 1
                };
                let answer = answers.get(nth).or(answers.last()).unwrap();
                let answer = format!(
                    "HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            return;
        }
    }
}

async fn endpoint(
    db: &TestDb,
    ctx: &TenantCtx,
    url: &str,
    events: &[&str],
) -> (RowId, SecretString) {
    let new = New {
        url: url.to_owned(),
        description: String::new(),
        events: events.iter().map(ToString::to_string).collect(),
    };
    let tx = db.db.write(ctx, Permission::WebhooksWrite).await.unwrap();
    let made = webhooks::create_endpoint(&tx, keys().sealing(), Reach::Anywhere, new).await;
    let (row, secret) = made.unwrap();
    tx.commit().await.unwrap();
    (row.id, secret)
}

/// Something happens to the tenant.
async fn happen(db: &TestDb, ctx: &TenantCtx, entry: Audit) {
    let tx = db.db.write(ctx, Permission::TenantWrite).await.unwrap();
    tx.audit(entry).await.unwrap();
    tx.commit().await.unwrap();
}

async fn seal_all(db: &TestDb) {
    while !seal::seal_entries(&db.db, 2).await.unwrap().is_empty() {}
}

async fn all(db: &TestDb, ctx: &TenantCtx, id: RowId) -> Vec<webhook_delivery::Model> {
    let tx = db.db.read(ctx, Permission::WebhooksRead).await.unwrap();
    deliveries::list_deliveries(&tx, id, None, (0, 100)).await.unwrap().0
}

async fn stands(db: &TestDb, ctx: &TenantCtx, id: RowId) -> webhook_endpoint::Model {
    let tx = db.db.read(ctx, Permission::WebhooksRead).await.unwrap();
    webhooks::find_endpoint(&tx, id).await.unwrap()
}

async fn due_now(db: &TestDb) {
    db.execute("UPDATE webhook_delivery SET next_at = now()").await.unwrap();
}

fn completed(job: &str) -> Audit {
    Audit::MigrationCompleted { job: job.to_owned(), losses: 0 }
}

#[tokio::test]
async fn a_reseller_is_told_of_its_customers_and_nobody_of_anybody_elses() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    let [first, second] = [
        made(&db, &platform, TenantKind::Reseller, "first").await,
        made(&db, &platform, TenantKind::Reseller, "second").await,
    ];
    let customer = made(&db, &first, TenantKind::Customer, "shop").await;
    let receivers =
        [Receiver::answering(&["200 OK"]).await, Receiver::answering(&["204 No Content"]).await];
    let (mine, secret) = endpoint(&db, &first, &receivers[0].url, &["migration.completed"]).await;
    let (theirs, _) = endpoint(&db, &second, &receivers[1].url, &[]).await;
    seal_all(&db).await;
    happen(&db, &customer, completed("one")).await;
    happen(&db, &customer, Audit::MigrationFailed { job: "two".into(), code: "x".into() }).await;
    happen(&db, &second, completed("three")).await;
    seal_all(&db).await;
    let courier = courier(&db, Reach::Anywhere).await;
    while courier.tell_once().await.unwrap() > 0 {}
    let calls = receivers[0].calls();
    assert_eq!(calls.len(), 1, "what is filtered out is not told");
    let call = &calls[0];
    assert!(call.verifies(&secret));
    let told = call.json();
    assert_eq!(told["type"], "migration.completed");
    assert_eq!(told["data"]["job"], "one");
    assert_eq!(told["data"]["tenant_id"], customer.tenant().to_string());
    chrono::DateTime::parse_from_rfc3339(told["timestamp"].as_str().unwrap()).unwrap();
    assert!(call.id().starts_with("evt_") && !call.id().contains('.'));
    let others = receivers[1].calls();
    assert_eq!(others.len(), 1, "its own, and nothing of the other reseller");
    assert_eq!(others[0].json()["data"]["job"], "three");
    assert!(!others[0].verifies(&secret), "each endpoint has a secret of its own");
    // No tenant sees another's endpoint or what it was told, whichever way it asks.
    let delivery = all(&db, &first, mine).await.remove(0);
    for other in [&second, &customer] {
        let tx = db.db.write(other, Permission::WebhooksWrite).await.unwrap();
        let not_found = Code::NotFound;
        let code = |error: entities::error::Error| error.code();
        assert_eq!(webhooks::find_endpoint(&tx, mine).await.map_err(code), Err(not_found));
        let change = webhooks::update_endpoint(&tx, Reach::Public, mine, Change::default());
        assert_eq!(change.await.map_err(code), Err(not_found));
        let rotated = webhooks::rotate_secret(&tx, keys().sealing(), mine).await;
        assert_eq!(rotated.map(drop).map_err(code), Err(not_found));
        let deleted = webhooks::delete_endpoint(&tx, mine).await;
        assert_eq!(deleted.map_err(code), Err(not_found));
        let tested = deliveries::test_endpoint(&tx, mine).await;
        assert_eq!(tested.map_err(code), Err(not_found));
        let replayed = deliveries::replay(&tx, delivery.id).await;
        assert_eq!(replayed.map_err(code), Err(not_found));
        let seen = deliveries::find_delivery(&tx, delivery.id).await;
        assert_eq!(seen.map(drop).map_err(code), Err(not_found));
        let listed = deliveries::list_deliveries(&tx, mine, None, (0, 9)).await;
        assert_eq!(listed.map(drop).map_err(code), Err(not_found));
    }
    assert_eq!(all(&db, &second, theirs).await.len(), 1);
    db.remove().await.unwrap();
}

async fn made(db: &TestDb, above: &TenantCtx, kind: TenantKind, name: &str) -> TenantCtx {
    let row = tenants::create_tenant(&db.db, above, kind, name).await.unwrap();
    entities::sessions::act_in(&db.db, above, row.id).await.unwrap()
}

#[tokio::test]
async fn what_is_not_taken_is_told_again_with_the_same_id_and_then_given_up() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let answers = ["500 Oops", "302 Found\r\nlocation: http://127.0.0.1:1/", "200 OK"];
    let receiver = Receiver::answering(&answers).await;
    let (id, secret) = endpoint(&db, &ctx, &receiver.url, &["migration.completed"]).await;
    happen(&db, &ctx, completed("one")).await;
    seal_all(&db).await;
    let courier = courier(&db, Reach::Anywhere).await;
    assert_eq!(courier.tell_once().await.unwrap(), 1);
    assert_eq!(courier.tell_once().await.unwrap(), 0, "there is a pause");
    assert!(stands(&db, &ctx, id).await.failing_since.is_some());
    for _ in 0..2 {
        due_now(&db).await;
        assert_eq!(courier.tell_once().await.unwrap(), 1);
    }
    due_now(&db).await;
    assert_eq!(courier.tell_once().await.unwrap(), 0, "it was taken");
    assert_eq!(stands(&db, &ctx, id).await.failing_since, None);
    let calls = receiver.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| call.verifies(&secret)));
    assert!(calls.iter().all(|call| (call.id(), &call.body) == (calls[0].id(), &calls[0].body)));
    let delivery = all(&db, &ctx, id).await.remove(0);
    let tx = db.db.read(&ctx, Permission::WebhooksRead).await.unwrap();
    let (row, tries) = deliveries::find_delivery(&tx, delivery.id).await.unwrap();
    assert_eq!(State::of(&row), State::Delivered);
    let statuses: Vec<Option<i32>> = tries.iter().map(|t| t.status).collect();
    assert_eq!(statuses, [Some(500), Some(302), Some(200)]);
    assert!(tries[1].error.as_ref().unwrap().contains("redirects are not followed"));
    assert_eq!(tries[2].answer, "ok");
    drop(tx);
    // Sent again by hand, it has the same id and begins its schedule anew.
    let tx = db.db.write(&ctx, Permission::WebhooksWrite).await.unwrap();
    deliveries::replay(&tx, delivery.id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(courier.tell_once().await.unwrap(), 1);
    assert_eq!(receiver.calls()[3].id(), calls[0].id());
    // One that nobody takes is given up after the last pause.
    let away = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (id, _) = endpoint(&db, &ctx, &format!("http://{away}/"), &["migration.failed"]).await;
    happen(&db, &ctx, Audit::MigrationFailed { job: "two".into(), code: "x".into() }).await;
    seal_all(&db).await;
    for _ in 0..10 {
        due_now(&db).await;
        assert_eq!(courier.tell_once().await.unwrap(), 1);
    }
    due_now(&db).await;
    assert_eq!(courier.tell_once().await.unwrap(), 0);
    let row = all(&db, &ctx, id).await.remove(0);
    assert_eq!((State::of(&row), row.attempts), (State::Failed, 10));
    db.remove().await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_gone_or_fails_for_days_is_left_alone() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let gone = Receiver::answering(&["410 Gone", "200 OK"]).await;
    let failing = Receiver::answering(&["503 Busy\r\nretry-after: 7200"]).await;
    let (gone_id, _) = endpoint(&db, &ctx, &gone.url, &["migration.completed"]).await;
    let (failing_id, _) = endpoint(&db, &ctx, &failing.url, &["migration.completed"]).await;
    happen(&db, &ctx, completed("one")).await;
    seal_all(&db).await;
    let courier = courier(&db, Reach::Anywhere).await;
    assert_eq!(courier.tell_once().await.unwrap(), 2);
    let row = stands(&db, &ctx, gone_id).await;
    assert_eq!(row.disabled_reason.as_deref(), Some("gone"));
    let row = all(&db, &ctx, failing_id).await.remove(0);
    let wait = row.next_at - chrono::Utc::now();
    assert!(wait > chrono::Duration::minutes(110), "as it asked: {wait}");
    due_now(&db).await;
    let long = "UPDATE webhook_endpoint SET failing_since = now() - interval '6 days'";
    db.execute(&format!("{long} WHERE failing_since IS NOT NULL")).await.unwrap();
    assert_eq!(courier.tell_once().await.unwrap(), 1, "the one that is gone is left alone");
    let row = stands(&db, &ctx, failing_id).await;
    assert_eq!(row.disabled_reason.as_deref(), Some("failing"));
    let kinds = db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|k| *k == "WEBHOOK_ENDPOINT_DISABLED").count(), 2);
    // What happens now is not told, what waited is, when it is enabled again.
    happen(&db, &ctx, completed("two")).await;
    seal_all(&db).await;
    let tx = db.db.write(&ctx, Permission::WebhooksWrite).await.unwrap();
    let code = deliveries::test_endpoint(&tx, gone_id).await.unwrap_err().code();
    assert_eq!(code, Code::Conflict);
    drop(tx);
    let tx = db.db.write(&ctx, Permission::WebhooksWrite).await.unwrap();
    let enable = Change { enabled: Some(true), ..Change::default() };
    webhooks::update_endpoint(&tx, Reach::Anywhere, gone_id, enable).await.unwrap();
    tx.commit().await.unwrap();
    due_now(&db).await;
    assert_eq!(courier.tell_once().await.unwrap(), 1);
    assert_eq!(gone.calls().last().unwrap().json()["data"]["job"], "one");
    db.remove().await.unwrap();
}

#[tokio::test]
async fn both_secrets_sign_while_one_replaces_the_other() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let receiver = Receiver::answering(&["200 OK"]).await;
    let (id, old) = endpoint(&db, &ctx, &receiver.url, &[]).await;
    let tx = db.db.write(&ctx, Permission::WebhooksWrite).await.unwrap();
    let (_, new) = webhooks::rotate_secret(&tx, keys().sealing(), id).await.unwrap();
    tx.commit().await.unwrap();
    let courier = courier(&db, Reach::Anywhere).await;
    let try_it = async || {
        let tx = db.db.write(&ctx, Permission::WebhooksWrite).await.unwrap();
        deliveries::test_endpoint(&tx, id).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(courier.tell_once().await.unwrap(), 1);
        receiver.calls().pop().unwrap()
    };
    let call = try_it().await;
    assert_eq!(call.json()["type"], "webhook.test");
    assert!(call.verifies(&old) && call.verifies(&new));
    let mut forged = call.clone();
    forged.body.push(' ');
    assert!(!forged.verifies(&new), "the body is signed");
    db.execute("UPDATE webhook_endpoint SET old_until = now()").await.unwrap();
    let call = try_it().await;
    assert!(!call.verifies(&old) && call.verifies(&new));
    // The secrets go with the keys that seal them.
    let two = format!("n:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=,{KEYS}");
    let two = SecretKeys::parse(&SecretString::from(two)).unwrap();
    let done = webhooks::reseal(&db.db, two.sealing()).await.unwrap();
    assert_eq!((done.count, done.unreadable), (1, 0));
    assert_eq!(webhooks::reseal(&db.db, two.sealing()).await.unwrap().count, 0);
    assert!(stands(&db, &ctx, id).await.sealed_secret.starts_with("n."));
    db.remove().await.unwrap();
}

#[tokio::test]
async fn nothing_inside_is_called_whatever_a_name_leads_to() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let receiver = Receiver::answering(&["200 OK"]).await;
    let port = receiver.url.rsplit(':').next().unwrap().to_owned();
    let tx = db.db.write(&ctx, Permission::WebhooksWrite).await.unwrap();
    for url in [
        "http://example.com/hook",
        "https://127.0.0.1/hook",
        "https://[::1]/hook",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://user:pass@example.com/",
        "https://example.com/#x",
        "ftp://example.com/",
        "https://",
        "nonsense",
    ] {
        let new = New { url: url.into(), description: String::new(), events: BTreeSet::new() };
        let made = webhooks::create_endpoint(&tx, keys().sealing(), Reach::Public, new).await;
        assert_eq!(made.map(drop).unwrap_err().code(), Code::InvalidRequest, "{url}");
    }
    drop(tx);
    // As if the name had led elsewhere when it was entered.
    let mut ids = Vec::new();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}");
        ids.push(endpoint(&db, &ctx, &url, &["migration.completed"]).await.0);
    }
    happen(&db, &ctx, completed("one")).await;
    seal_all(&db).await;
    assert_eq!(courier(&db, Reach::Public).await.tell_once().await.unwrap(), 3);
    assert_eq!(receiver.calls().len(), 0);
    for id in ids {
        let row = all(&db, &ctx, id).await.remove(0);
        let tx = db.db.read(&ctx, Permission::WebhooksRead).await.unwrap();
        let (_, tries) = deliveries::find_delivery(&tx, row.id).await.unwrap();
        let error = tries[0].error.clone().unwrap();
        assert!(error.contains("not a public one"), "{error}");
    }
    db.remove().await.unwrap();
}

#[tokio::test]
async fn many_couriers_tell_each_event_once_and_the_dead_ones_deliveries_are_taken_over() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let receiver = Receiver::answering(&["200 OK"]).await;
    endpoint(&db, &ctx, &receiver.url, &["migration.completed"]).await;
    for n in 0..12 {
        happen(&db, &ctx, completed(&n.to_string())).await;
    }
    seal_all(&db).await;
    // One takes some and dies with them.
    let dead = deliveries::take(&db.db, keys().sealing(), 2).await.unwrap();
    assert_eq!(dead.len(), 2);
    let one = courier(&db, Reach::Anywhere).await;
    for _ in 0..4 {
        let all = futures::future::join_all((0..4).map(|_| one.tell_once())).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
    }
    assert_eq!(receiver.calls().len(), 10);
    db.execute("UPDATE webhook_delivery SET next_at = now(), taken_until = now()").await.unwrap();
    while one.tell_once().await.unwrap() > 0 {}
    let calls = receiver.calls();
    let ids: BTreeSet<&str> = calls.iter().map(Call::id).collect();
    assert_eq!((calls.len(), ids.len()), (12, 12));
    db.remove().await.unwrap();
}

#[tokio::test]
async fn however_much_is_told_at_once_is_told_and_sealed() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    let busy = made(&db, &platform, TenantKind::Customer, "busy").await;
    endpoint(&db, &busy, "http://127.0.0.1:1/hook", &["migration.completed"]).await;
    let more = "INSERT INTO webhook_endpoint (id, tenant_id, url, description, events, sealed_secret, created_at)
        SELECT gen_random_uuid(), tenant_id, url, '', events, sealed_secret, created_at
        FROM webhook_endpoint, generate_series(1, 19)";
    db.execute(more).await.unwrap();
    let tx = db.db.write(&busy, Permission::TenantWrite).await.unwrap();
    for nth in 0..400 {
        tx.audit(completed(&nth.to_string())).await.unwrap();
    }
    tx.commit().await.unwrap();
    // More values than one statement of Postgres takes.
    while !seal::seal_entries(&db.db, 1000).await.unwrap().is_empty() {}
    assert_eq!(db.dump("webhook_delivery").await.unwrap().lines().count(), 8000);
    assert_eq!(db.dump("audit_unsealed").await.unwrap(), "");
    db.remove().await.unwrap();
}
