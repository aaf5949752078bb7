use crate::app::spawn;
use serde_json::json;

#[tokio::test]
async fn a_tenant_sees_its_own_and_those_below_and_no_other() {
    let app = spawn().await;
    let a = app.member("alpha", "OWNER").await;
    let b = app.member("beta", "OWNER").await;
    let names = |tenants: serde_json::Value| -> Vec<String> {
        tenants.as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(a.get("/api/tenants").await.data(200)), ["alpha"]);
    assert_eq!(names(app.owner.get("/api/tenants").await.data(200)), ["Platform", "alpha", "beta"]);
    a.acting_in(&b.tenant).get("/api/tenants").await.refused(404, "not_found");
    a.acting_in("not-an-id").get("/api/tenants").await.refused(404, "not_found");
    let acting = app.owner.acting_in(&a.tenant).get("/api/me").await.data(200);
    assert_eq!(acting["tenant"]["name"], "alpha");
    let path = format!("/api/tenants/{}/members", b.tenant);
    let body = json!({"email": "spy@x.test", "password": "correct horse 2", "role": "OWNER"});
    a.post(&path, body).await.refused(404, "not_found");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn nobody_gives_a_role_above_their_own() {
    let app = spawn().await;
    let owner = app.member("gamma", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "gamma", "ADMIN").await;
    let member = app.member_of(&owner.tenant, "gamma", "MEMBER").await;
    let path = format!("/api/tenants/{}/members", owner.tenant);
    let body = |role: &str| json!({"email": format!("new-{role}@x.test").to_lowercase(), "password": "correct horse 2", "role": role});
    admin.post(&path, body("OWNER")).await.refused(403, "forbidden");
    admin.post(&path, body("ADMIN")).await.data(201);
    member.post(&path, body("VIEWER")).await.refused(403, "forbidden");
    let short = json!({"email": "short@x.test", "password": "1234567", "role": "VIEWER"});
    admin.post(&path, short).await.refused(400, "invalid_request");
    let long = json!({"email": "long@x.test", "password": "x".repeat(73), "role": "VIEWER"});
    admin.post(&path, long).await.refused(400, "invalid_request");
    app.db.remove().await.unwrap();
}
