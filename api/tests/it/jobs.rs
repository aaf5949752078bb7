//! Jobs as those see them who watch over them: whose they see, which do not get on, what of them is
//! shown, and what becomes of them and of what they were for when they are stopped or brought on.

use crate::app::{App, Client, Got, spawn};
use crate::catalogue::{price_body, product_body};
use crate::contract;
use entities::ids::{JobId, RowId};
use serde_json::{Value, json};
use std::time::Duration;

/// One job of each kind, of a tenant on a server of its own.
struct Scene {
    app: App,
    tenant: Client,
    server: String,
    migration: String,
    hosting: String,
    certificate: String,
    activation: String,
    enroll: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// A row of a table.
async fn row(app: &App, table: &str, id: &str) -> Value {
    let rows = app.db.dump(table).await.unwrap();
    let mut rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id} in {table}"))
}

/// The row of a table whose job this is.
async fn of_job(app: &App, table: &str, column: &str, job: &str) -> Value {
    let rows = app.db.dump(table).await.unwrap();
    let mut rows = rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.find(|row| row[column] == job).unwrap_or_else(|| panic!("nothing in {table} has {job}"))
}

async fn analyze(client: &Client, server: &str, user: &str) -> String {
    let path = format!("/var/backups/migrations/{}/{user}.tar", client.tenant);
    let body = json!({"server_id": server, "backup_path": path, "target_user": user});
    text(&client.post("/api/migration/analyze", body).await.data(202)["job_id"])
}

impl Scene {
    async fn set() -> Self {
        let app = spawn().await;
        let tenant = app.member_kind("jobs", "customer").await;
        let server = app.server("jobs").await;
        let grant = json!({ "tenant_id": tenant.tenant });
        app.owner.post(&format!("/api/servers/{server}/grants"), grant).await.data(200);
        let migration = analyze(&tenant, &server, "alice").await;
        let product = app.owner.post("/api/products", product_body("Plan")).await.data(201);
        let price = price_body(product["id"].as_str().unwrap());
        let price = text(&app.owner.post("/api/prices", price).await.data(201)["id"]);
        let service = contract::service(&app, &tenant, &price).await;
        let service = tenant.get(&format!("/api/services/{service}")).await.data(200);
        let hosting = text(&service["job_id"]);
        let certificate = contract::certificate(&app, &tenant, (&server, migration.clone())).await;
        let path = format!("/api/certificates/{certificate}/renew");
        let certificate = text(&tenant.post(&path, json!({})).await.data(202)["job_id"]);
        let path = format!("/api/servers/{server}/enroll");
        let enroll = text(&app.owner.post(&path, json!({})).await.data(202)["job_id"]);
        let activation = activation(&app, &tenant, (&server, &migration)).await;
        Self { app, tenant, server, migration, hosting, certificate, activation, enroll }
    }

    /// Lets a job be in a state as if workers had brought it there.
    async fn put(&self, job: &str, phase: &str, state: &str) {
        let (state, lease) = match state {
            "abandoned" => ("running", "now() - interval '1 minute'"),
            "lost" => ("unwinding", "now() - interval '1 minute'"),
            "running" | "unwinding" => (state, "now() + interval '1 hour'"),
            _ => (state, "NULL"),
        };
        let sql = format!(
            "UPDATE job SET phase = '{phase}', state = '{state}', lease_until = {lease},
                cancel_requested_at = NULL, completed_at = NULL, error_code = NULL WHERE id = '{job}'"
        );
        self.app.db.execute(&sql).await.unwrap();
    }

    async fn ask(&self, job: &str, what: &str) -> Got {
        let path = format!("/api/jobs/{job}/{what}");
        self.app.owner.post(&path, json!({"reason": "It is in the way."})).await
    }

    /// Cancels a job of this phase that nobody has begun.
    async fn cancel_waiting(&self, job: &str, phase: &str) {
        self.put(job, phase, "queued").await;
        assert_eq!(self.ask(job, "cancel").await.data(202)["state"], "failed", "{phase}");
        let row = row(&self.app, "job", job).await;
        assert_eq!((&row["state"], &row["error_code"]), (&json!("failed"), &json!("cancelled")));
    }

    async fn list(&self, client: &Client, query: &str) -> Vec<String> {
        let got = client.get(&format!("/api/jobs?{query}")).await.data(200);
        got.as_array().unwrap().iter().map(|job| text(&job["id"])).collect()
    }

    async fn stuck(&self, job: &str) -> Value {
        self.app.owner.get(&format!("/api/jobs/{job}")).await.data(200)["stuck"].clone()
    }

    async fn execute(&self, sql: &str) {
        self.app.db.execute(sql).await.unwrap();
    }

    async fn end(self) {
        self.app.db.remove().await.unwrap();
    }
}

/// A job that lets a domain take mail.
async fn activation(app: &App, tenant: &Client, (server, made_by): (&str, &str)) -> String {
    let (job, account) = (JobId::new(), RowId::new());
    let owner = &tenant.tenant;
    let sql = format!(
        "INSERT INTO job (id, tenant_id, kind, phase, state, server_id, subject, actor)
            SELECT '{job}', tenant_id, 'activation', 'activate', 'queued', server_id, 'account:dora', actor
            FROM job WHERE id = '{made_by}';
         INSERT INTO hosting_account (id, tenant_id, server_id, username, job_id)
            VALUES ('{account}', '{owner}', '{server}', 'dora', '{made_by}');
         INSERT INTO domain (id, tenant_id, name, account_id, job_id, active, activation_job_id)
            VALUES ('{}', '{owner}', 'dora.example', '{account}', '{made_by}', false, '{job}')",
        RowId::new()
    );
    app.db.execute(&sql).await.unwrap();
    job.to_string()
}

#[tokio::test]
async fn the_platforms_staff_sees_all_jobs_and_a_tenant_its_own() {
    let scene = Scene::set().await;
    let other = scene.app.member("other", "OWNER").await;
    let staff = &scene.app.owner;
    // The newest first.
    let own = [&scene.activation, &scene.certificate, &scene.hosting, &scene.migration];
    let mut theirs = scene.list(&scene.tenant, "").await;
    theirs.retain(|id| *id != scene.activation);
    assert_eq!(theirs, [&scene.certificate, &scene.hosting, &scene.migration].map(String::as_str));
    assert_eq!(scene.list(staff, "").await.len(), 5);
    assert_eq!(scene.list(&other, "").await.len(), 0);
    let there = staff.acting_in(&scene.tenant.tenant);
    assert_eq!(scene.list(&there, "").await.len(), 4, "in a tenant its staff sees that tenant's");
    for job in own {
        let path = format!("/api/jobs/{job}");
        for client in [staff, &scene.tenant, &there] {
            assert_eq!(client.get(&path).await.data(200)["id"], **job);
        }
        for path in [path.clone(), format!("{path}/events")] {
            other.get(&path).await.refused(404, "not_found");
            staff.acting_in(&other.tenant).get(&path).await.refused(404, "not_found");
        }
    }
    scene.tenant.get(&format!("/api/jobs/{}", scene.enroll)).await.refused(404, "not_found");
    let viewer = scene.app.member_of(&scene.tenant.tenant, "viewer", "VIEWER").await;
    viewer.get("/api/jobs").await.refused(403, "forbidden");
    for what in ["cancel", "requeue"] {
        let path = format!("/api/jobs/{}/{what}", scene.hosting);
        let body = json!({"reason": "x"});
        scene.tenant.post(&path, body.clone()).await.refused(403, "forbidden");
        staff.post(&path, json!({"reason": " "})).await.refused(400, "invalid_request");
        staff.post(&path, json!({})).await.refused(400, "invalid_request");
        let nobodys = format!("/api/jobs/{}/{what}", JobId::new());
        staff.post(&nobodys, body).await.refused(404, "not_found");
    }
    scene.end().await;
}

#[tokio::test]
async fn lists_are_filtered_paged_and_summed_up() {
    let scene = Scene::set().await;
    let staff = &scene.app.owner;
    scene.put(&scene.hosting, "provision", "running").await;
    for (query, found) in [
        ("kind=migration".to_owned(), vec![&scene.migration]),
        ("kind=nonsense".to_owned(), vec![]),
        ("state=running".to_owned(), vec![&scene.hosting]),
        (format!("kind=enroll&server_id={}", scene.server), vec![&scene.enroll]),
        (format!("server_id={}", JobId::new()), vec![]),
        (format!("kind=hosting&tenant_id={}", scene.tenant.tenant), vec![&scene.hosting]),
        (format!("tenant_id={}", staff.tenant), vec![&scene.enroll]),
        ("state=done".to_owned(), vec![]),
        ("stuck=true".to_owned(), vec![]),
    ] {
        let found: Vec<String> = found.into_iter().cloned().collect();
        assert_eq!(scene.list(staff, &query).await, found, "{query}");
    }
    // Nobody filters their way to others' jobs.
    let query = format!("tenant_id={}", staff.tenant);
    assert!(scene.list(&scene.tenant, &query).await.is_empty());
    staff.get("/api/jobs?state=sleeping").await.refused(400, "invalid_request");
    let mut paged = Vec::new();
    for number in 1..=3 {
        let got = staff.get(&format!("/api/jobs?per_page=2&page={number}")).await;
        assert_eq!(got.body["meta"]["total"], 5);
        let page = got.data(200);
        paged.extend(page.as_array().unwrap().iter().map(|job| text(&job["id"])));
    }
    assert_eq!(paged, scene.list(staff, "").await);
    let behind = staff.get("/api/jobs?page=9").await;
    assert_eq!(
        (behind.body["meta"]["total"].clone(), behind.body["data"].clone()),
        (5.into(), json!([]))
    );

    let second = analyze(&scene.tenant, &scene.server, "bob").await;
    let sql = format!("UPDATE job SET queued_at = now() - interval '1 hour' WHERE id = '{second}'");
    scene.execute(&sql).await;
    let listed = staff.get("/api/jobs?kind=migration").await.data(200);
    let shown: Vec<(String, i64)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (text(&job["id"]), job["queue_position"].as_i64().unwrap()))
        .collect();
    assert_eq!(shown, [(second.clone(), 1), (scene.migration.clone(), 2)]);
    assert!((3600..3700).contains(&listed[0]["age_secs"].as_i64().unwrap()));
    let counts = staff.get("/api/jobs/summary").await.data(200);
    let counted: Vec<_> = counts
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (text(&c["kind"]), text(&c["state"]), c["count"].clone(), c["stuck"].clone()))
        .collect();
    let line = |kind: &str, state: &str, count: i64, stuck: i64| {
        (kind.to_owned(), state.to_owned(), count.into(), stuck.into())
    };
    let expected = [
        line("activation", "queued", 1, 0),
        line("certificate", "queued", 1, 0),
        line("enroll", "queued", 1, 0),
        line("hosting", "running", 1, 0),
        line("migration", "queued", 2, 1),
    ];
    assert_eq!(counted, expected);
    let oldest = counts[4]["oldest_secs"].as_i64().unwrap();
    assert!((3600..3700).contains(&oldest), "{counts}");
    let own = scene.tenant.get("/api/jobs/summary").await.data(200);
    assert_eq!(own.as_array().unwrap().len(), 4, "an enrolment is the platform's: {own}");
    scene.end().await;
}

#[tokio::test]
async fn each_way_of_not_getting_on_is_named() {
    let scene = Scene::set().await;
    let staff = &scene.app.owner;
    let (first, second) = (&scene.migration, analyze(&scene.tenant, &scene.server, "bob").await);
    assert_eq!(scene.stuck(first).await, json!([]));

    scene.put(first, "analyze", "abandoned").await;
    assert_eq!(scene.stuck(first).await, json!(["lease_ended"]));
    scene.put(first, "apply", "lost").await;
    assert_eq!(scene.stuck(first).await, json!(["lease_ended"]));

    // It waits for a slot while another analysis runs, and for nothing when none does.
    let queued_long_ago =
        format!("UPDATE job SET queued_at = now() - interval '6 minutes' WHERE id = '{second}'");
    scene.execute(&queued_long_ago).await;
    assert_eq!(scene.stuck(&second).await, json!(["not_taken"]), "an apply has other slots");
    scene.put(first, "analyze", "running").await;
    assert_eq!(scene.stuck(&second).await, json!([]));
    scene.put(first, "analyze", "abandoned").await;
    assert_eq!(scene.stuck(&second).await, json!(["not_taken"]), "nobody is at work there");
    scene.put(first, "analyze", "done").await;
    assert_eq!(scene.stuck(&second).await, json!(["not_taken"]));
    // It waits for whoever works on the same account of the same server.
    let same = format!("UPDATE job SET subject = 'account:bob' WHERE id = '{}'", scene.hosting);
    scene.execute(&same).await;
    scene.put(&scene.hosting, "provision", "running").await;
    assert_eq!(scene.stuck(&second).await, json!([]));
    assert_eq!(scene.list(staff, "stuck=true").await, Vec::<String>::new());

    let many = format!("UPDATE job SET attempts = 4 WHERE id = '{}'", scene.hosting);
    scene.execute(&many).await;
    assert_eq!(scene.stuck(&scene.hosting).await, json!(["no_progress"]));
    let late = format!(
        "UPDATE job SET attempts = 1, deadline_at = now() - interval '1 second' WHERE id = '{}'",
        scene.hosting
    );
    scene.execute(&late).await;
    assert_eq!(scene.stuck(&scene.hosting).await, json!(["over_deadline"]));
    let all = format!(
        "UPDATE job SET attempts = 9, lease_until = now() - interval '1 second' WHERE id = '{}'",
        scene.hosting
    );
    scene.execute(&all).await;
    let every = json!(["lease_ended", "no_progress", "over_deadline"]);
    assert_eq!(scene.stuck(&scene.hosting).await, every);
    // Whose worker is gone is not waited for.
    let stuck = scene.list(staff, "stuck=true").await;
    assert_eq!(stuck, [second.clone(), scene.hosting.clone()]);
    let of_kind = scene.list(staff, "stuck=true&kind=hosting").await;
    assert_eq!(of_kind, [scene.hosting.as_str()]);
    assert_eq!(scene.list(&scene.tenant, "stuck=true").await, stuck);
    assert_eq!(scene.list(staff, "stuck=false").await.len(), 4);
    // What has ended has no worker that could be missing.
    scene.put(&scene.hosting, "provision", "done").await;
    assert_eq!(scene.stuck(&scene.hosting).await, json!([]));
    scene.end().await;
}

const PASSWORD: &str = "hunter2";
const SEALED: &str = "k1.3q2+7wAAAAAAAAAAAAAAAAECAwQFBgcICQoLDA0ODw==";

/// A step of each of two runs, and a line of the log, with secrets where none should be.
async fn write_steps(scene: &Scene, job: &str) {
    let tenant = &scene.tenant.tenant;
    let mut sql = String::new();
    for (run, seq, name) in [(1, 1, "old"), (2, 1, "first"), (2, 2, "second")] {
        sql.push_str(&format!(
            "INSERT INTO job_step (id, tenant_id, job_id, run, seq, name, state, input, output, error,
                finished_at)
             VALUES ('{}', '{tenant}', '{job}', {run}, {seq}, '{name}', 'failed',
                '{{\"user\": \"alice\", \"db_password\": \"{PASSWORD}\", \"x\": \"{SEALED}\"}}',
                '[\"{SEALED}\", 7]', 'IDENTIFIED BY ''{PASSWORD}'' was refused', now());",
            RowId::new()
        ));
    }
    sql.push_str(&format!(
        "INSERT INTO job_log (id, tenant_id, job_id, level, message)
            VALUES ('{}', '{tenant}', '{job}', 'info', 'mysql://root:{PASSWORD}@db said {SEALED}');
         UPDATE job SET run = 2, error_code = 'step_failed', state = 'failed',
            error_message = 'password={PASSWORD}', completed_at = now(),
            result = '{{\"token\": \"{PASSWORD}\", \"count\": 3}}' WHERE id = '{job}'",
        RowId::new()
    ));
    scene.execute(&sql).await;
}

#[tokio::test]
async fn steps_are_shown_of_all_runs_and_no_secret_with_them() {
    let scene = Scene::set().await;
    for job in [&scene.migration, &scene.hosting] {
        write_steps(&scene, job).await;
        for client in [&scene.app.owner, &scene.tenant] {
            for path in [format!("/api/jobs/{job}"), format!("/api/jobs/{job}/events")] {
                let got = client.get(&path).await;
                assert_eq!(got.status, 200);
                let shown = got.body.to_string();
                for secret in [PASSWORD, "3q2+7w", "k1."] {
                    assert!(!shown.contains(secret), "{path} shows {secret}: {shown}");
                }
            }
        }
    }
    let seen = scene.app.owner.get(&format!("/api/jobs/{}", scene.migration)).await.data(200);
    let names: Vec<_> =
        seen["steps"].as_array().unwrap().iter().map(|s| text(&s["name"])).collect();
    assert_eq!(names, ["first", "second", "old"], "the newest run first");
    let step = &seen["steps"][0];
    assert_eq!(
        step["input"],
        json!({"user": "alice", "db_password": "[redacted]", "x": "[redacted]"})
    );
    assert_eq!(step["output"], json!(["[redacted]", 7]));
    assert_eq!(step["error"], "IDENTIFIED BY '[redacted]' was refused");
    assert_eq!(seen["result"], json!({"token": "[redacted]", "count": 3}));
    assert_eq!(seen["log"].as_array().unwrap().len(), 1);
    // What goes wrong on a server is for its operators.
    let theirs = scene.tenant.get(&format!("/api/jobs/{}", scene.hosting)).await.data(200);
    assert_eq!((&theirs["server_id"], &theirs["result"]), (&Value::Null, &Value::Null));
    assert_eq!(theirs["error"], "It has failed. Your provider knows of it.");
    assert_eq!((&theirs["log"], &theirs["steps"][0]["input"]), (&json!([]), &Value::Null));
    assert_eq!(theirs["steps"][0]["error"], Value::Null);
    let own = scene.tenant.get(&format!("/api/jobs/{}", scene.migration)).await.data(200);
    assert_eq!(
        (&own["server_id"], &own["error"]),
        (&json!(scene.server), &json!("password=[redacted]"))
    );
    assert_eq!(own["steps"], seen["steps"]);
    scene.end().await;
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once_and_what_it_was_for_knows() {
    let scene = Scene::set().await;
    let app = &scene.app;
    let cancel = async |job: &str, phase: &str| scene.cancel_waiting(job, phase).await;
    let job = &scene.migration;
    let migration = async || row(app, "migration", job).await["state"].clone();
    for (before, phase, after) in [
        ("queued", "analyze", "cancelled"),
        ("applying", "apply", "failed"),
        ("completed", "confirm", "completed"),
        ("rolling_back", "rollback", "undo_failed"),
    ] {
        let sql = format!("UPDATE migration SET state = '{before}' WHERE id = '{job}'");
        scene.execute(&sql).await;
        cancel(job, phase).await;
        assert_eq!(migration().await, after, "{phase}");
    }
    // A rollback that has not begun leaves an applied migration as it was, unless an undo has failed.
    for (what, after) in [
        ("SELECT 1", "completed"),
        (
            "INSERT INTO migration_resource (id, tenant_id, job_id, operation_id, component, action,
                summary, outcome, detail) SELECT id, tenant_id, id, 'x', 'files', 'create', '', 'failed', ''
                FROM migration",
            "completed_with_losses",
        ),
        (
            "INSERT INTO job_step (id, tenant_id, job_id, run, seq, name, state, input)
                SELECT id, tenant_id, id, 1, 1, 'x', 'undo_failed', 'null' FROM migration",
            "undo_failed",
        ),
    ] {
        let sql = "UPDATE migration SET state = 'rolling_back', applied_at = now()";
        scene.execute(&format!("{sql}; {what}")).await;
        cancel(job, "rollback").await;
        assert_eq!(migration().await, after);
    }

    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "JOB_CANCELLED").count(), 7);
    assert_eq!(kinds.iter().filter(|kind| *kind == "MIGRATION_CANCELLED").count(), 2);
    let trail = scene.tenant.get("/api/audit?kind=JOB_CANCELLED").await.data(200);
    assert_eq!(trail[0]["data"]["reason"], "It is in the way.", "{trail}");
    scene.end().await;
}

#[tokio::test]
async fn services_certificates_domains_and_servers_know_of_a_job_that_never_began() {
    let scene = Scene::set().await;
    let app = &scene.app;
    let cancel = async |job: &str, phase: &str| scene.cancel_waiting(job, phase).await;
    let service = async || of_job(app, "service", "job_id", &scene.hosting).await;
    cancel(&scene.hosting, "provision").await;
    let made = service().await;
    assert_eq!((&made["state"], &made["attempts"]), (&json!("pending"), &json!(1)));
    for (phase, state) in
        [("suspend", "active"), ("terminate", "suspended"), ("take_back", "provisioning")]
    {
        scene
            .execute(&format!("UPDATE service SET state = '{state}', attempts = 0, error = NULL"))
            .await;
        cancel(&scene.hosting, phase).await;
        let made = service().await;
        assert_eq!(made["state"], state, "{phase}: what it is stays");
        assert_eq!(made["error"], "The job was cancelled before it began.");
    }
    cancel(&scene.certificate, "issue").await;
    let certificate = of_job(app, "certificate", "job_id", &scene.certificate).await;
    let shown = (&certificate["state"], &certificate["attempts"], &certificate["error_code"]);
    assert_eq!(shown, (&json!("failed"), &json!(1), &json!("cancelled")));
    cancel(&scene.activation, "activate").await;
    let domain = of_job(app, "domain", "activation_job_id", &scene.activation).await;
    assert_ne!(domain["activation_next_at"], Value::Null);
    scene.execute("UPDATE server SET state = 'enrolling'").await;
    cancel(&scene.enroll, "enroll").await;
    assert_eq!(row(app, "server", &scene.server).await["state"], "pending");
    scene.end().await;
}

#[tokio::test]
async fn of_what_runs_only_that_is_stopped_which_can_be_taken_back() {
    let scene = Scene::set().await;
    let app = &scene.app;
    for (job, phases, stopped) in [
        (&scene.migration, &["analyze", "apply"][..], true),
        (&scene.migration, &["rollback", "confirm"], false),
        (&scene.hosting, &["provision"], true),
        (&scene.hosting, &["take_back", "suspend", "unsuspend", "terminate"], false),
        (&scene.certificate, &["issue", "renew"], true),
        (&scene.certificate, &["remove"], false),
        (&scene.activation, &["activate"], false),
        (&scene.enroll, &["enroll"], false),
    ] {
        for phase in phases {
            for state in ["running", "abandoned"] {
                scene.put(job, phase, state).await;
                let before = app.db.dump("service").await.unwrap()
                    + &app.db.dump("migration").await.unwrap();
                let got = scene.ask(job, "cancel").await;
                if stopped {
                    assert_eq!(got.data(202)["state"], "running", "{phase}");
                    // Asking again is the same.
                    assert_eq!(scene.ask(job, "cancel").await.data(202)["state"], "running");
                } else {
                    got.refused(409, "job_state");
                }
                let now = row(app, "job", job).await;
                assert_eq!(now["state"], "running", "{phase}: its worker ends it");
                assert_eq!(now["cancel_requested_at"] != Value::Null, stopped, "{phase}");
                let after = app.db.dump("service").await.unwrap()
                    + &app.db.dump("migration").await.unwrap();
                assert_eq!(before, after, "{phase}");
            }
            for state in ["unwinding", "lost", "done", "failed"] {
                scene.put(job, phase, state).await;
                scene.ask(job, "cancel").await.refused(409, "job_state");
                assert_eq!(row(app, "job", job).await["cancel_requested_at"], Value::Null);
            }
        }
    }
    scene.end().await;
}

async fn announced(app: &App, job: &str) -> usize {
    app.db.dump("outbox").await.unwrap().lines().filter(|line| line.contains(job)).count()
}

#[tokio::test]
async fn what_waits_or_was_left_behind_is_announced_again() {
    let scene = Scene::set().await;
    let app = &scene.app;
    for (job, phases) in [
        (&scene.migration, &["analyze", "apply", "rollback", "confirm"][..]),
        (&scene.hosting, &["provision", "take_back", "suspend", "unsuspend", "terminate"]),
        (&scene.certificate, &["issue", "renew", "remove"]),
        (&scene.activation, &["activate"]),
        (&scene.enroll, &["enroll"]),
    ] {
        for phase in phases {
            for (state, shown) in
                [("queued", "queued"), ("abandoned", "running"), ("lost", "unwinding")]
            {
                scene.put(job, phase, state).await;
                let before = (announced(app, job).await, row(app, "job", job).await);
                assert_eq!(scene.ask(job, "requeue").await.data(202)["state"], shown, "{phase}");
                assert_eq!(announced(app, job).await, before.0 + 1, "{phase} {state}");
                assert_eq!(row(app, "job", job).await, before.1, "{phase}: nothing else changes");
            }
            for state in ["running", "unwinding", "done"] {
                scene.put(job, phase, state).await;
                let before = announced(app, job).await;
                scene.ask(job, "requeue").await.refused(409, "job_state");
                assert_eq!(announced(app, job).await, before);
            }
        }
    }
    scene.end().await;
}

#[tokio::test]
async fn what_has_failed_is_run_again_or_has_its_own_way() {
    let scene = Scene::set().await;
    let app = &scene.app;
    for (job, phase, way) in [
        (&scene.migration, "apply", "POST /api/migration/preview"),
        (&scene.migration, "rollback", "POST /api/migration/rollback"),
        (&scene.migration, "confirm", "/confirm"),
        (&scene.hosting, "provision", "/retry"),
        (&scene.hosting, "suspend", "/retry"),
        (&scene.hosting, "take_back", "/retry"),
        (&scene.certificate, "issue", "/renew"),
        (&scene.certificate, "remove", "/renew"),
    ] {
        scene.put(job, phase, "failed").await;
        let refused = scene.ask(job, "requeue").await.refused(409, "job_state");
        assert!(refused["error"].as_str().unwrap().contains(way), "{phase}: {refused}");
        assert_eq!(row(app, "job", job).await["state"], "failed");
    }
    scene.execute("UPDATE migration SET state = 'undo_failed'").await;
    scene.put(&scene.migration, "apply", "failed").await;
    let refused = scene.ask(&scene.migration, "requeue").await.refused(409, "job_state");
    assert!(refused["error"].as_str().unwrap().contains("/api/migration/rollback"), "{refused}");

    scene.execute("UPDATE migration SET state = 'failed', progress = 40").await;
    scene.execute("UPDATE server SET state = 'pending', last_error = 'x'").await;
    scene.put(&scene.migration, "analyze", "failed").await;
    scene.ask(&scene.migration, "requeue").await.refused(409, "server_not_enrolled");
    let actor = row(app, "job", &scene.migration).await["actor"].clone();
    scene.put(&scene.enroll, "enroll", "failed").await;
    for job in [&scene.enroll, &scene.migration, &scene.activation] {
        let phase = row(app, "job", job).await["phase"].as_str().unwrap().to_owned();
        scene.put(job, &phase, "failed").await;
        let before = announced(app, job).await;
        assert_eq!(scene.ask(job, "requeue").await.data(202)["state"], "queued");
        let now = row(app, "job", job).await;
        assert_eq!((&now["state"], &now["run"]), (&json!("queued"), &json!(2)));
        assert_eq!(announced(app, job).await, before + 1);
        if job == &scene.enroll {
            assert_eq!(row(app, "server", &scene.server).await["state"], "enrolling");
            scene.execute("UPDATE server SET state = 'enrolled'").await;
        }
    }
    let now = row(app, "migration", &scene.migration).await;
    assert_eq!((&now["state"], &now["progress"]), (&json!("queued"), &json!(0)));
    assert_eq!(row(app, "job", &scene.migration).await["actor"], actor, "it stays whose it was");
    let audit = scene.tenant.get("/api/audit?kind=JOB_REQUEUED").await.data(200);
    assert_eq!(audit.as_array().unwrap().len(), 2, "{audit}");
    // Another job has taken its place.
    scene.put(&scene.activation, "activate", "failed").await;
    scene.execute("UPDATE domain SET activation_job_id = NULL").await;
    scene.ask(&scene.activation, "requeue").await.refused(409, "job_state");
    scene.end().await;
}

#[tokio::test]
async fn an_action_is_done_once_for_a_key_however_often_it_is_repeated() {
    let scene = Scene::set().await;
    let path = format!("/api/jobs/{}/requeue", scene.migration);
    let body = Some(json!({"reason": "x"}).to_string());
    let before = announced(&scene.app, &scene.migration).await;
    for replayed in ["false", "true"] {
        let got =
            scene.app.owner.ask(reqwest::Method::POST, &path, body.clone(), Some("once")).await;
        assert_eq!((got.status.as_u16(), got.replayed.as_deref()), (202, Some(replayed)));
    }
    assert_eq!(announced(&scene.app, &scene.migration).await, before + 1);
    scene.end().await;
}

#[tokio::test]
async fn a_stream_tells_how_any_job_gets_on_until_it_ends() {
    let scene = Scene::set().await;
    let url = format!("{}/api/jobs/{}/events", scene.app.url, scene.hosting);
    let open = |client: &Client| {
        let token = client.token.clone().unwrap();
        reqwest::Client::new().get(&url).bearer_auth(token).send()
    };
    let mut streams = Vec::new();
    for client in [&scene.app.owner, &scene.tenant] {
        let mut stream = open(client).await.unwrap();
        let first = stream.chunk().await.unwrap().unwrap();
        assert!(first.starts_with(b"event: status"), "{first:?}");
        streams.push(stream);
    }
    write_steps(&scene, &scene.hosting).await;
    for (stream, line) in streams.into_iter().zip([true, false]) {
        let rest = tokio::time::timeout(Duration::from_secs(30), stream.text()).await;
        let rest = rest.expect("the stream goes on after the job's end").unwrap();
        assert!(
            rest.contains("\"state\":\"failed\"") && rest.ends_with("event: end\ndata: {}\n\n"),
            "{rest}"
        );
        assert_eq!(rest.contains("event: log"), line, "logs are for operators: {rest}");
    }
    // Whoever comes back has the lines after the last one that they have.
    let after = open(&scene.app.owner).await.unwrap().text().await.unwrap();
    let id = after.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let token = scene.app.owner.token.clone().unwrap();
    let again = reqwest::Client::new().get(&url).bearer_auth(token).header("last-event-id", id);
    let again = again.send().await.unwrap().text().await.unwrap();
    assert!(!again.contains("event: log") && again.contains("event: end"), "{again}");
    scene.end().await;
}
