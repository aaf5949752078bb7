//! Attacks by a tenant over the API, the rows of the table that it is in the way of: see
//! `workers/agent/tests/e2e/attacks/`. Each row's check is named in the order of [`numbers`].

mod numbers;

use crate::archives::{self, PLAIN};
use crate::client::Client;
use crate::program::{program, run_with};
use crate::server::BACKUPS;
use crate::stack::{APPLIED, Stack};
use serde_json::{Value, json};

const OWNER: &str = "mallory@e2e.test";
const PASSWORD: &str = "Correct-Horse-1!";
/// In the `shadow` of every archive of the tests.
const HASH: &str = "saltsystem";

/// A customer of the installation, who may use the server.
struct Tenant {
    id: String,
    client: Client,
}

#[tokio::test]
async fn a_tenant_gains_nothing() {
    let stack = Stack::start("attacks", &[]).await;
    let zones = archives::hold_zones(PLAIN);
    let victim = stack.analyze(&stack.server.put(&archives::file(PLAIN)), "plain").await;
    stack.apply(&victim).await;
    let mallory = tenant(&stack).await;
    let mut checked = Vec::new();
    checked.extend(paths_of_others(&stack, &mallory).await);
    let job = analyzed(&stack, &mallory, "plain").await;
    checked.extend(names_of_others(&stack, &mallory, &job).await);
    let job = analyzed(&stack, &mallory, "mallory").await;
    checked.extend(approvals(&stack, &mallory, &job).await);
    checked.extend(what_is_shown(&stack, &mallory, &job).await);
    checked.extend(the_trail(&stack, &mallory, &job).await);
    checked.sort_unstable();
    assert_eq!(checked, numbers::NUMBERS);
    mallory.roll_back(&stack, &job).await;
    stack.roll_back(&victim, false).await;
    drop(zones);
    stack.end().await;
}

async fn tenant(stack: &Stack) -> Tenant {
    let body = json!({"name": "Mallory\u{2028}<script>alert(1)</script>", "kind": "customer"});
    let made = stack.client.post("/api/tenants", body).await;
    // A name with odd signs is refused, or kept as text.
    let body = json!({"name": "<script>alert(1)</script>", "kind": "customer"});
    let made =
        if made.status == 201 { made } else { stack.client.post("/api/tenants", body).await };
    let id = made.data(201)["id"].as_str().unwrap().to_owned();
    let body = json!({"email": OWNER, "password": PASSWORD, "role": "OWNER"});
    stack.client.post(&format!("/api/tenants/{id}/members"), body).await.data(201);
    let path = format!("/api/servers/{}/grants", stack.server_id);
    stack.client.post(&path, json!({"tenant_id": id})).await.data(200);
    let mut client = stack.client.clone();
    client.log_in(OWNER, PASSWORD).await;
    Tenant { id, client }
}

/// The archive that the tenant crafted, in its own directory on the server.
fn crafted(stack: &Stack, mallory: &Tenant) -> String {
    let work = tempfile::tempdir().unwrap();
    let root = work.path().join("cpmove-mallory");
    let names = [
        "plain.example",
        "shop.plain.example",
        "github.io",
        "migrapanel.test",
        "MALLORY-2.example.",
    ];
    let parked: String = names.iter().map(|n| format!("  - {n}\n")).collect();
    for (path, text) in [
        ("cp/mallory", "DNS=mallory.example\nUSER=mallory\n".to_owned()),
        ("shadow", "$6$saltsystem$L56wVagxEYe1SlgTA3szug3FB56EFq3Hw9RkXmdMb4SDK20J/B82m.72g4i2eeHXijbOhGFRN15rGWGa3zDJC0".to_owned()),
        ("userdata/main", format!("--- \nmain_domain: mallory.example\nparked_domains:\n{parked}")),
        ("userdata/mallory.example", "--- \ndocumentroot: /home/mallory/public_html\nhomedir: /home/mallory\n".to_owned()),
        ("homedir/public_html/<img src=x onerror=alert(1)>.html", "x".to_owned()),
        ("homedir/.ssh/authorized_keys", "ssh-ed25519 AAAA evil".to_owned()),
        ("va/mallory.example", "*: mallory\n\"<script>\u{1b}[2J\": a@b.example\n".to_owned()),
        ("dnszones/mallory.example.db", "@ A 192.0.2.66\n<script> A 192.0.2.1\n".to_owned()),
        ("dnszones/x\n{\"level\":\"ERROR\"}\u{1b}[2J.db", "x".to_owned()),
    ] {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let dir = format!("{BACKUPS}/{}", mallory.id);
    stack.server.sh(&format!("mkdir -p {dir}"));
    stack
        .server
        .put_bytes(&archives::pack(work.path()), &format!("{}/cpmove-mallory.tar.gz", mallory.id))
}

async fn analyzed(stack: &Stack, mallory: &Tenant, user: &str) -> String {
    let path = crafted(stack, mallory);
    let body = stack.source(&path, user);
    let job = mallory.client.post("/api/migration/analyze", body).await.data(202);
    let job = job["job_id"].as_str().unwrap().to_owned();
    mallory.wait(&job, &["analyzed"]).await;
    job
}

impl Tenant {
    async fn wait(&self, job: &str, states: &[&str]) -> Value {
        let path = format!("/api/migration/job/{job}/status");
        let what = format!("the tenant's job to be {states:?}");
        crate::program::wait_for(&what, std::time::Duration::from_secs(120), async || {
            let status = self.client.get(&path).await.data(200);
            let state = status["status"].as_str().unwrap();
            assert!(!["failed", "undo_failed"].contains(&state), "{status:#}");
            states.contains(&state).then_some(status)
        })
        .await
    }

    async fn roll_back(&self, stack: &Stack, job: &str) {
        let body = json!({"job_id": job, "force": false});
        self.client.post("/api/migration/rollback", body).await.data(202);
        self.wait(job, &["rolled_back"]).await;
        assert_eq!(stack.server.sh("getent passwd mallory || true"), "");
    }
}

/// What lies outside the tenant's own directory does not exist for it; nor do others' jobs.
async fn paths_of_others(stack: &Stack, mallory: &Tenant) -> Vec<u16> {
    for path in [
        format!("{BACKUPS}/{PLAIN}"),
        format!("{BACKUPS}/{}/../{PLAIN}", mallory.id),
        format!("{BACKUPS}/{}x/{PLAIN}", mallory.id),
        format!("{BACKUPS}/{}", mallory.id),
        "/etc/shadow".to_owned(),
    ] {
        for step in ["validate", "analyze"] {
            let got = mallory
                .client
                .post(&format!("/api/migration/{step}"), stack.source(&path, "mallory"))
                .await;
            assert!([404, 422].contains(&got.status), "{path}: {} {:#}", got.status, got.body);
            assert_ne!(got.body["success"], true);
        }
    }
    vec![119]
}

/// Names of another's account, of the server and of nobody stand in the way, and only skipping helps.
async fn names_of_others(_: &Stack, mallory: &Tenant, job: &str) -> Vec<u16> {
    let preview = mallory.client.post("/api/migration/preview", json!({"job_id": job})).await;
    let text = preview.body.to_string();
    for id in [
        "user:plain",
        "domain:plain.example",
        "domain:shop.plain.example",
        "domain:github.io",
        "domain:migrapanel.test",
    ] {
        assert!(text.contains(id), "{id}: {text}");
    }
    let body = json!({"job_id": job, "approval_token": "x".repeat(43)});
    let got = mallory.client.post("/api/migration/apply", body).await;
    assert!(got.status >= 400, "{:#}", got.body);
    vec![41, 42, 43]
}

/// An approval is for one job, one choice, one time.
async fn approvals(stack: &Stack, mallory: &Tenant, job: &str) -> Vec<u16> {
    let skip = |name: &str| (format!("domain:{name}"), json!("skip"));
    let resolutions: serde_json::Map<String, Value> =
        ["plain.example", "shop.plain.example", "github.io", "migrapanel.test"]
            .map(skip)
            .into_iter()
            .collect();
    let body = json!({"job_id": job, "resolutions": resolutions});
    let preview = mallory.client.post("/api/migration/preview", body).await.data(200);
    let token = preview["approval_token"].as_str().unwrap();
    let components = json!({"job_id": job, "approval_token": token, "components": ["dns"]});
    let got = mallory.client.post("/api/migration/selective-restore", components).await;
    assert!((400..500).contains(&got.status), "{:#}", got.body);
    // The platform's owner has no job of that tenant in this tenant: neither name nor token helps.
    let stranger = stack
        .client
        .post("/api/migration/apply", json!({"job_id": job, "approval_token": token}))
        .await;
    stranger.refused(404, "not_found");
    let apply = || json!({"job_id": job, "approval_token": token});
    mallory.client.post("/api/migration/apply", apply()).await.data(202);
    let got = mallory.client.post("/api/migration/apply", apply()).await;
    assert!((400..500).contains(&got.status), "{:#}", got.body);
    let status = mallory.wait(job, APPLIED).await;
    // Its keys and a zone were left out, so that this is no plain success.
    assert_eq!(status["status"], "completed_with_losses", "{status:#}");
    let dormant =
        stack.server.sh("ls /etc/migrapanel/mail-domains; exim4 -bt a@mallory.example || true");
    assert!(!dormant.contains("mallory.example\n") && !dormant.contains("dovecot"), "{dormant}");
    vec![44, 155, 158]
}

/// Texts of the archive are data wherever they are shown.
async fn what_is_shown(stack: &Stack, mallory: &Tenant, job: &str) -> Vec<u16> {
    let mut shown = String::new();
    for path in [
        format!("/api/migration/job/{job}/logs"),
        format!("/api/migration/job/{job}/status"),
        format!("/api/migration/plan?job_id={job}"),
        "/api/audit".to_owned(),
        "/api/tenants".to_owned(),
    ] {
        let (head, body) = mallory.client.raw(&path).await;
        assert!(head.contains("content-type: application/json"), "{path}: {head}");
        assert!(head.contains("x-content-type-options: nosniff"), "{path}: {head}");
        shown.push_str(&body);
    }
    shown.push_str(&stack.logs());
    assert!(shown.contains("mallory.example") && shown.len() > 5_000, "{shown}");
    let controls = ["\u{1b}", "\\u001b", "\\u{1b}", "\\x1b"];
    assert!(!controls.iter().any(|c| shown.contains(c)), "a control character is shown");
    assert!(!shown.contains(HASH) && !shown.contains("PRIVATE KEY") && !shown.contains(PASSWORD));
    vec![151, 152, 154]
}

/// Who did it is written down, and stays.
async fn the_trail(stack: &Stack, mallory: &Tenant, job: &str) -> Vec<u16> {
    let entries = mallory.client.get("/api/audit").await.data(200);
    let entries = entries.as_array().unwrap();
    let of_job: Vec<&Value> = entries.iter().filter(|e| e.to_string().contains(job)).collect();
    assert!(of_job.len() >= 3, "{entries:#?}");
    for entry in of_job.iter().filter(|e| e["actor_kind"] == "user") {
        for field in ["actor_id", "request_id", "created_at"] {
            assert!(entry[field].is_string(), "{field}: {entry:#}");
        }
        // What a worker did in somebody's name leads to the request, and that to an address.
        let asked = |e: &&&Value| e["request_id"] == entry["request_id"] && e["ip"].is_string();
        assert!(of_job.iter().find(asked).is_some(), "{entry:#}");
    }
    let status = mallory.client.get(&format!("/api/migration/job/{job}/status")).await.data(200);
    assert!(status["plan_digest"].is_string(), "{status:#}");
    let id = entries[0]["id"].as_str().unwrap();
    for method in ["DELETE", "PATCH", "PUT", "POST"] {
        for path in ["/api/audit".to_owned(), format!("/api/audit/{id}")] {
            let status = stack.client.method(method, &path).await;
            assert!([404, 405].contains(&status), "{method} {path}: {status}");
        }
    }
    for role in ["migrapanel_tenant", "migrapanel_system"] {
        for statement in
            ["DELETE FROM audit_log", "UPDATE audit_log SET data = '{}'", "TRUNCATE audit_log"]
        {
            let mut psql = program("psql");
            psql.arg(stack.database()).args(["-v", "ON_ERROR_STOP=1", "-c"]);
            psql.arg(format!("SET ROLE {role}")).arg("-c").arg(statement);
            let output = run_with(&mut psql, b"");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("permission denied"), "{role} {statement}: {said}");
        }
    }
    vec![156, 157]
}
