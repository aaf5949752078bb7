use crate::app::{App, Client, spawn};
use cpanel::plan::{Options, Plan, Totals};
use cpanel::protocol::{Analysis, Preview};
use entities::ids::{JobId, WorkerId};
use entities::jobs::{self, Claimant, Ending};
use entities::migrations::{self, State};
use entities::tenancy::{Permission, TenantCtx};
use serde_json::{Value, json};
use std::time::Duration;

fn source(server: &str, path: &str, user: &str) -> Value {
    json!({"server_id": server, "backup_path": path, "target_user": user})
}

#[tokio::test]
async fn sources_that_cannot_be_are_refused_each_by_its_code_and_recorded() {
    let app = spawn().await;
    let server = app.server("src").await;
    let analyze = async |body: Value| app.owner.post("/api/migration/analyze", body).await;
    let good = "/var/backups/migrations/cpmove-a.tar.gz";
    analyze(source(&uuid(), good, "alice")).await.refused(404, "server_not_found");
    for path in ["/etc/shadow", "/var/backups/migrations", "/var/backups/migrations/../x", "x.tar"]
    {
        analyze(source(&server, path, "alice")).await.refused(422, "path_outside_backup_dirs");
    }
    analyze(source(&server, good, "root")).await.refused(422, "reserved_user_name");
    for user in ["Alice", "a-b", "1a", "../x", "abcdefghijklmnopq"] {
        analyze(source(&server, good, user)).await.refused(400, "invalid_request");
    }
    let unknown = json!({"server_id": server, "backup_path": good, "target_user": "a", "x": 1});
    analyze(unknown).await.refused(400, "invalid_request");
    let refusals = app.db.audit_kinds().await.unwrap();
    assert_eq!(refusals.iter().filter(|k| *k == "REQUEST_REFUSED").count(), 12, "{refusals:?}");
    app.db.remove().await.unwrap();
}

fn uuid() -> String {
    JobId::new().to_string()
}

#[tokio::test]
async fn without_a_worker_what_needs_one_is_refused_at_once_and_jobs_wait() {
    let app = spawn().await;
    let server = app.server("lonely").await;
    let body = source(&server, "/var/backups/migrations/a.tar", "alice");
    let refused = app.owner.post("/api/migration/validate", body.clone()).await;
    assert_eq!(refused.refused(503, "no_worker")["retryable"], true);
    let job = app.owner.post("/api/migration/analyze", body).await.data(202)["job_id"].clone();
    let path = format!("/api/migration/job/{}/status", job.as_str().unwrap());
    let status = app.owner.get(&path).await.data(200);
    assert_eq!((&status["status"], &status["queue_position"]), (&json!("queued"), &json!(1)));
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_with_the_login_that_began_it() {
    let app = spawn().await;
    let server = app.server("streamed").await;
    let owner = app.member("streamer", "OWNER").await;
    let grant = json!({ "tenant_id": owner.tenant });
    app.owner.post(&format!("/api/servers/{server}/grants"), grant).await.data(200);
    let path = format!("/var/backups/migrations/{}/a.tar", owner.tenant);
    let job = owner.post("/api/migration/analyze", source(&server, &path, "alice")).await;
    let job = job.data(202)["job_id"].as_str().unwrap().to_owned();
    let url = format!("{}/api/migration/job/{job}/events", app.url);
    let request = reqwest::Client::new().get(url).bearer_auth(owner.token.as_deref().unwrap());
    let mut stream = request.send().await.unwrap();
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: status"), "{first:?}");
    // The job waits for a worker, and so the stream would go on.
    owner.post("/api/auth/logout", json!({})).await.data(200);
    let rest = tokio::time::timeout(Duration::from_secs(30), stream.text()).await;
    let rest = rest.expect("the stream goes on without its login").unwrap();
    assert!(!rest.contains("event: end"), "{rest}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_tenants_archives_lie_in_its_own_directory_and_its_jobs_are_its_own() {
    let app = spawn().await;
    let server = app.server("shared").await;
    let a = app.member("ten", "ADMIN").await;
    let b = app.member("other", "OWNER").await;
    for client in [&a, &b] {
        let grant = json!({ "tenant_id": client.tenant });
        app.owner.post(&format!("/api/servers/{server}/grants"), grant).await.data(200);
    }
    let own = format!("/var/backups/migrations/{}/x.tar", a.tenant);
    let job = a.post("/api/migration/analyze", source(&server, &own, "ten")).await.data(202);
    let job = job["job_id"].as_str().unwrap().to_owned();
    let analyze = async |client: &Client, path: &str| {
        client.post("/api/migration/analyze", source(&server, path, "ten")).await
    };
    analyze(&b, &own).await.refused(404, "archive_not_found");
    analyze(&a, "/var/backups/migrations/x.tar").await.refused(404, "archive_not_found");
    a.get(&format!("/api/migration/job/{job}/status")).await.data(200);
    a.get(&format!("/api/migration/job/{job}/logs")).await.data(200);
    for path in ["status", "logs", "events"] {
        b.get(&format!("/api/migration/job/{job}/{path}")).await.refused(404, "not_found");
    }
    b.get(&format!("/api/migration/plan?job_id={job}")).await.refused(404, "not_found");
    for path in ["preview", "validate-complete", "rollback"] {
        let body = json!({ "job_id": job });
        b.post(&format!("/api/migration/{path}"), body).await.refused(404, "not_found");
    }
    let apply = json!({"job_id": job, "approval_token": "x"});
    b.post("/api/migration/apply", apply).await.refused(404, "not_found");
    app.db.remove().await.unwrap();
}

/// A migration that counts as analysed, with what a preview would have shown.
async fn analyzed(app: &App, client: &Client, server: &str, user: &str) -> (JobId, TenantCtx) {
    let body = source(server, "/var/backups/migrations/a.tar", user);
    let job = client.post("/api/migration/analyze", body).await.data(202)["job_id"].clone();
    let id = JobId(job.as_str().unwrap().parse().unwrap());
    let who = Claimant { worker: WorkerId::new(), lease_secs: 30, migrations_max: 100 };
    let tx = app.db.db.system().await.unwrap();
    let claim = jobs::claim(&tx, id, who).await.unwrap().expect("the job waits");
    migrations::record_analysis(&tx, &claim, &analysis()).await.unwrap();
    migrations::settle(&tx, &claim, State::Analyzed, None).await.unwrap();
    jobs::finish(&tx, &claim, &Ending::Done { result: json!({}) }).await.unwrap();
    tx.commit().await.unwrap();
    (id, claim.ctx())
}

fn analysis() -> Analysis {
    serde_json::from_value(json!({
        "archive": {"path": "/var/backups/migrations/a.tar", "format": "uncompressed", "sha256": "00",
            "size_bytes": 1, "expanded_bytes": 1, "members": 1},
        "summary": {"source_user": "a", "main_domain": "a.example", "components": {}, "domains": [],
            "mailboxes": [], "forwarders": [], "filters": [], "databases": [], "database_users": [], "zones": [],
            "certificates": [], "dkim": [], "cron": [], "ftp": [], "warnings": [], "not_transferable": []},
    }))
    .unwrap()
}

fn preview() -> Preview {
    let plan = Plan {
        operations: vec![],
        totals: Totals::default(),
        warnings: vec![],
        not_transferred: vec![],
        notes: vec![],
        suspended: false,
        conflicts: vec![],
    };
    Preview { plan, digest: "d1".into(), expanded_bytes: 1 }
}

async fn approve(app: &App, ctx: &TenantCtx, id: JobId, options: &Options) -> String {
    let tx = app.db.db.write(ctx, Permission::MigrationsWrite).await.unwrap();
    let approval = migrations::approve(&tx, id, options, &preview()).await.unwrap();
    tx.commit().await.unwrap();
    approval.token
}

#[tokio::test]
async fn an_approval_permits_one_apply_of_one_job_by_one_person_for_a_while() {
    let app = spawn().await;
    let server = app.server("apply").await;
    let (first, ctx) = analyzed(&app, &app.owner, &server, "first").await;
    let (second, _) = analyzed(&app, &app.owner, &server, "second").await;
    let apply = async |client: &Client, job: JobId, token: &str| {
        let body = json!({"job_id": job.0, "approval_token": token});
        client.post("/api/migration/apply", body).await
    };
    apply(&app.owner, first, "nonsense").await.refused(403, "approval_invalid");
    let token = approve(&app, &ctx, first, &Options::default()).await;
    apply(&app.owner, second, &token).await.refused(403, "approval_invalid");
    let tenant = app.owner.tenant.clone();
    let colleague = app.member_of(&tenant, "colleague", "ADMIN").await;
    apply(&colleague, first, &token).await.refused(403, "approval_invalid");
    app.db.expire_approvals(first).await.unwrap();
    apply(&app.owner, first, &token).await.refused(403, "approval_expired");
    let token = approve(&app, &ctx, first, &Options::default()).await;
    let other = approve(&app, &ctx, first, &Options::default()).await;
    apply(&app.owner, first, &token).await.data(202);
    apply(&app.owner, first, &token).await.refused(409, "already_applied");
    apply(&app.owner, first, &other).await.refused(409, "already_applied");
    let status = app.owner.get(&format!("/api/migration/job/{first}/status")).await.data(200);
    assert_eq!((&status["status"], &status["plan_digest"]), (&json!("applying"), &json!("d1")));
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once() {
    let app = spawn().await;
    let server = app.server("cancel").await;
    let body = source(&server, "/var/backups/migrations/a.tar", "waiting");
    let job = app.owner.post("/api/migration/analyze", body).await.data(202)["job_id"].clone();
    let job = job.as_str().unwrap().to_owned();
    let cancel = async |job: &str| {
        app.owner.post(&format!("/api/migration/job/{job}/cancel"), json!({})).await
    };
    let status = async |job: &str| {
        let path = format!("/api/migration/job/{job}/status");
        let status = app.owner.get(&path).await.data(200);
        (status["status"].clone(), status["error"]["code"].clone())
    };
    cancel(&job).await.data(202);
    assert_eq!(status(&job).await, (json!("cancelled"), json!("cancelled")));
    cancel(&job).await.refused(409, "job_state");

    let (analyzed, ctx) = analyzed(&app, &app.owner, &server, "approved").await;
    cancel(&analyzed.to_string()).await.refused(409, "job_state");
    let token = approve(&app, &ctx, analyzed, &Options::default()).await;
    let body = json!({"job_id": analyzed.0, "approval_token": token});
    app.owner.post("/api/migration/apply", body).await.data(202);
    cancel(&analyzed.to_string()).await.data(202);
    assert_eq!(status(&analyzed.to_string()).await, (json!("failed"), json!("cancelled")));
    // It may be approved and applied again.
    let token = approve(&app, &ctx, analyzed, &Options::default()).await;
    let body = json!({"job_id": analyzed.0, "approval_token": token});
    app.owner.post("/api/migration/apply", body).await.data(202);
    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "MIGRATION_CANCELLED").count(), 2, "{kinds:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn two_applies_at_once_start_one() {
    let app = spawn().await;
    let server = app.server("race").await;
    let (job, ctx) = analyzed(&app, &app.owner, &server, "race").await;
    let token = approve(&app, &ctx, job, &Options::default()).await;
    let body = json!({"job_id": job.0, "approval_token": token});
    let tries = (0..6).map(|_| app.owner.post("/api/migration/apply", body.clone()));
    let got = futures::future::join_all(tries).await;
    assert_eq!(got.iter().filter(|got| got.status == 202).count(), 1, "{got:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_selective_restore_is_what_was_previewed() {
    let app = spawn().await;
    let server = app.server("select").await;
    let (job, ctx) = analyzed(&app, &app.owner, &server, "select").await;
    let options: Options =
        serde_json::from_value(json!({"components": {"files": [], "databases": ["a_wp"]}}))
            .unwrap();
    let token = approve(&app, &ctx, job, &options).await;
    let restore = async |components: Value| {
        let body = json!({"job_id": job.0, "approval_token": token, "components": components});
        app.owner.post("/api/migration/selective-restore", body).await
    };
    restore(json!(["files"])).await.refused(409, "components_differ");
    restore(json!(["files", "databases"])).await.refused(409, "components_differ");
    restore(json!({"files": null, "databases": ["a_wp"]})).await.data(202);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_selection_that_cannot_be_meant_is_refused() {
    let app = spawn().await;
    let server = app.server("selection").await;
    let (job, _) = analyzed(&app, &app.owner, &server, "selection").await;
    for components in [
        json!([]),
        json!({}),
        json!(["everything"]),
        json!({"files": ["../x"]}),
        json!({"files": ["/public_html/x"]}),
        json!({"files": [""]}),
    ] {
        let body = json!({"job_id": job.0, "mode": "overwrite", "components": components});
        app.owner.post("/api/migration/preview", body).await.refused(400, "invalid_request");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_was_not_applied_cannot_be_checked_or_rolled_back() {
    let app = spawn().await;
    let server = app.server("early").await;
    let (job, _) = analyzed(&app, &app.owner, &server, "early").await;
    let body = json!({ "job_id": job.0 });
    for path in ["validate-complete", "rollback"] {
        let path = format!("/api/migration/{path}");
        app.owner.post(&path, body.clone()).await.refused(409, "job_state");
    }
    app.db.remove().await.unwrap();
}
