use crate::app::{server_body, spawn};
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn servers_are_the_platforms_and_seen_by_whom_they_are_granted_to() {
    let app = spawn().await;
    let server = app.server("one").await;
    let customer = app.member("delta", "OWNER").await;
    customer.get(&format!("/api/servers/{server}")).await.refused(404, "server_not_found");
    assert_eq!(customer.get("/api/servers").await.data(200), json!([]));
    let grant = json!({ "tenant_id": customer.tenant });
    app.owner.post(&format!("/api/servers/{server}/grants"), grant.clone()).await.data(200);
    app.owner.post(&format!("/api/servers/{server}/grants"), grant.clone()).await.data(200);
    let seen = customer.get(&format!("/api/servers/{server}")).await.data(200);
    assert_eq!(seen["name"], "one");
    customer.post("/api/servers", server_body("two")).await.refused(403, "forbidden");
    customer.post(&format!("/api/servers/{server}/grants"), grant).await.refused(403, "forbidden");
    customer
        .post(&format!("/api/servers/{server}/enroll"), json!({}))
        .await
        .refused(403, "forbidden");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_server_needs_a_fingerprint_an_address_and_a_name_of_its_own() {
    let app = spawn().await;
    let with = |field: &str, value: serde_json::Value| {
        let mut body = server_body("three");
        body[field] = value;
        let owner = app.owner.clone();
        async move { owner.post("/api/servers", body).await }
    };
    let refused = with("host_key_fingerprint", json!("MD5:aa:bb")).await;
    assert_eq!(
        refused.refused(400, "invalid_request")["fields"][0]["path"],
        "/host_key_fingerprint"
    );
    with("host", json!("-oProxyCommand=x")).await.refused(400, "invalid_request");
    with("host", json!("named.example")).await.refused(400, "invalid_request");
    with("backup_dirs", json!(["/"])).await.refused(400, "invalid_request");
    with("backup_dirs", json!(["/var/../etc"])).await.refused(400, "invalid_request");
    with("name", json!("three")).await.data(201);
    with("name", json!("three")).await.refused(409, "conflict");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_was_said_of_a_server_is_set_right() {
    let app = spawn().await;
    let mut body = server_body("typo");
    body["node"] = json!({"cluster": "one", "name": "pve2"});
    let id = app.owner.post("/api/servers", body).await.data(201)["id"].clone();
    let path = format!("/api/servers/{}", id.as_str().unwrap());
    let patch = async |body: serde_json::Value| {
        app.owner.send(Method::PATCH, &path, Some(body.to_string())).await
    };
    let key = format!("SHA256:{}", "B".repeat(43));
    let right = json!({"host": "192.0.2.77", "ssh_port": 2222, "host_key_fingerprint": key, "node": {"name": "pve1", "bridge": "vmbr1"}});
    let view = patch(right).await.data(200);
    assert_eq!((&view["host"], &view["ssh_port"]), (&json!("192.0.2.77"), &json!(2222)));
    assert_eq!(view["host_key_fingerprint"], key);
    let node = app.db.dump("node").await.unwrap();
    assert!(node.contains(r#""name":"pve1""#) && node.contains(r#""cluster":"one""#), "{node}");
    assert!(node.contains(r#""bridge":"vmbr1""#), "{node}");
    let told = app.owner.get("/api/audit?kind=SERVER_UPDATED").await.data(200);
    assert_eq!(told[0]["before"]["node"]["name"], "pve2", "{told:#}");
    patch(json!({"host": "-oProxyCommand=x"})).await.refused(400, "invalid_request");
    patch(json!({"host_key_fingerprint": "MD5:aa"})).await.refused(400, "invalid_request");
    app.db.execute("UPDATE server SET state = 'enrolled'").await.unwrap();
    patch(json!({"node": {"name": "pve3"}})).await.refused(400, "invalid_request");
    patch(json!({"ssh_port": 22})).await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn nothing_is_started_on_a_server_in_maintenance_or_before_enrolment() {
    let app = spawn().await;
    let pending = app.owner.post("/api/servers", server_body("four")).await.data(201)["id"].clone();
    let analyze = |server: &str| {
        let body = json!({"server_id": server, "backup_path": "/var/backups/migrations/a.tar", "target_user": "alice"});
        let owner = app.owner.clone();
        async move { owner.post("/api/migration/analyze", body).await }
    };
    analyze(pending.as_str().unwrap()).await.refused(409, "server_not_enrolled");
    let server = app.server("five").await;
    let patch = |on: bool| {
        let (owner, path) = (app.owner.clone(), format!("/api/servers/{server}"));
        let body = json!({ "maintenance": on }).to_string();
        async move { owner.send(Method::PATCH, &path, Some(body)).await.data(200) }
    };
    assert_eq!(patch(true).await["maintenance"], true);
    analyze(&server).await.refused(409, "server_maintenance");
    patch(false).await;
    analyze(&server).await.data(202);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn servers_are_the_platforms_wherever_its_staff_acts() {
    let app = spawn().await;
    let tenant = app.member("elsewhere", "OWNER").await.tenant;
    let there = app.owner.acting_in(&tenant);
    let key = Some("one-server");
    let body = server_body("seven");
    let made = || there.ask(Method::POST, "/api/servers", Some(body.to_string()), key);
    let server = made().await.data(201);
    let again = made().await;
    assert_eq!(again.replayed.as_deref(), Some("true"));
    assert_eq!(again.data(201)["id"], server["id"]);
    let path = format!("/api/servers/{}", server["id"].as_str().unwrap());
    // It is not granted to the tenant yet, and so not seen there.
    there.get(&path).await.refused(404, "server_not_found");
    let on = json!({"maintenance": true}).to_string();
    assert_eq!(there.send(Method::PATCH, &path, Some(on)).await.data(200)["maintenance"], true);
    there.post(&format!("{path}/grants"), json!({ "tenant_id": tenant })).await.data(200);
    there.get(&path).await.data(200);
    let trail = app.owner.get("/api/audit?kind=SERVER_GRANTED").await.data(200);
    assert_eq!(trail.as_array().unwrap().len(), 1, "{trail}");
    app.db.remove().await.unwrap();
}
