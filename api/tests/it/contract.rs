//! The contract is what is committed, and who may do what holds for each of its operations.

use crate::app::{Client, server_body, spawn};
use reqwest::Method;
use serde_json::{Value, json};

#[test]
fn the_committed_contract_is_the_code() {
    let committed = std::fs::read_to_string("../openapi/openapi.json").unwrap_or_default();
    let made = api::app::contract().unwrap();
    assert!(
        committed == made,
        "openapi/openapi.json is old: run `migrapanel-api openapi > openapi/openapi.json`"
    );
}

/// An operation, the lowest role that may do it in its own tenant (none: nobody outside the
/// platform), and a body that is well formed.
fn operations() -> Vec<(&'static str, &'static str, Option<&'static str>, Value)> {
    let id = "01900000-0000-7000-8000-000000000000";
    let source =
        json!({"server_id": id, "backup_path": "/var/backups/migrations/x", "target_user": "a"});
    let job = json!({ "job_id": id });
    let approved = json!({"job_id": id, "approval_token": "x"});
    let selected = json!({"job_id": id, "approval_token": "x", "components": ["files"]});
    vec![
        ("get", "/api/me", Some("VIEWER"), Value::Null),
        ("post", "/api/tenants", Some("ADMIN"), json!({"name": "x", "kind": "customer"})),
        ("get", "/api/tenants", Some("MEMBER"), Value::Null),
        (
            "post",
            "/api/tenants/{own}/members",
            Some("ADMIN"),
            json!({"email": "x@y.test", "password": "correct horse 2", "role": "VIEWER"}),
        ),
        ("get", "/api/audit", Some("ADMIN"), Value::Null),
        ("get", "/api/audit/export", Some("ADMIN"), Value::Null),
        ("post", "/api/servers", None, server_body("x")),
        ("get", "/api/servers", Some("MEMBER"), Value::Null),
        ("get", "/api/servers/worker-key", None, Value::Null),
        ("get", "/api/servers/{id}", Some("MEMBER"), Value::Null),
        ("patch", "/api/servers/{id}", None, json!({"maintenance": true})),
        ("post", "/api/servers/{id}/enroll", None, json!({})),
        ("post", "/api/servers/{id}/grants", None, json!({ "tenant_id": id })),
        ("get", "/api/jobs/{id}", None, Value::Null),
        ("post", "/api/migration/validate", Some("ADMIN"), source.clone()),
        ("post", "/api/migration/analyze", Some("ADMIN"), source),
        ("get", "/api/migration/plan", Some("MEMBER"), Value::Null),
        ("post", "/api/migration/preview", Some("ADMIN"), job.clone()),
        ("post", "/api/migration/apply", Some("ADMIN"), approved),
        ("get", "/api/migration/job/{id}/status", Some("MEMBER"), Value::Null),
        ("get", "/api/migration/job/{id}/report", Some("MEMBER"), Value::Null),
        ("post", "/api/migration/job/{id}/confirm", Some("ADMIN"), json!({})),
        ("get", "/api/migration/job/{id}/logs", Some("MEMBER"), Value::Null),
        ("get", "/api/migration/job/{id}/events", Some("MEMBER"), Value::Null),
        ("post", "/api/migration/validate-complete", Some("ADMIN"), job.clone()),
        ("post", "/api/migration/rollback", Some("ADMIN"), job),
        ("post", "/api/migration/selective-restore", Some("ADMIN"), selected),
        ("get", "/api/accounts", Some("MEMBER"), Value::Null),
        ("get", "/api/dns/zones", Some("BILLING"), Value::Null),
    ]
}

const OPEN: &[&str] = &["/healthz", "/readyz", "/api/auth/login", "/api/auth/refresh"];
const ROLES: [&str; 5] = ["VIEWER", "MEMBER", "BILLING", "ADMIN", "OWNER"];

#[tokio::test]
async fn each_operation_is_closed_to_nobody_to_lower_roles_and_to_strangers() {
    let app = spawn().await;
    let document: Value = serde_json::from_str(&api::app::contract().unwrap()).unwrap();
    let table = operations();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let known =
                table.iter().any(|(m, p, ..)| m == method && p.replace("{own}", "{id}") == *path);
            assert!(
                known || OPEN.contains(&path.as_str()),
                "{method} {path} is missing from the table"
            );
        }
    }
    let mut clients = Vec::new();
    let owner = app.member("matrix", "OWNER").await;
    for role in &ROLES[..4] {
        clients.push((*role, app.member_of(&owner.tenant, "matrix", role).await));
    }
    clients.push(("OWNER", owner));
    for (method, path, lowest, body) in table {
        let anonymous = ask(&app.anonymous(), method, path, &body).await;
        anonymous.refused(401, "unauthenticated");
        for (role, client) in &clients {
            let got = ask(client, method, path, &body).await;
            let reaches = lowest.is_some_and(|lowest| rank(role) >= rank(lowest));
            assert_eq!(got.status != 403, reaches, "{method} {path} as {role}: {}", got.body);
            if reaches && (path.contains("{id}") || body.get("job_id").is_some()) {
                assert_eq!(got.status, 404, "{method} {path} as {role}: {}", got.body);
            }
        }
    }
    app.db.remove().await.unwrap();
}

fn rank(role: &str) -> usize {
    ROLES.iter().position(|r| *r == role).unwrap()
}

async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> crate::app::Got {
    let id = "01900000-0000-7000-8000-000000000000";
    let mut path = path.replace("{id}", id).replace("{own}", &client.tenant);
    if path == "/api/migration/plan" {
        path = format!("{path}?job_id={id}");
    }
    let body = (!body.is_null()).then(|| {
        let mut body = body.clone();
        if path.ends_with("/members") {
            body["email"] = json!(format!("{}@y.test", uuid_like()));
        }
        body.to_string()
    });
    client.send(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), &path, body).await
}

fn uuid_like() -> String {
    entities::ids::JobId::new().0.simple().to_string()
}
