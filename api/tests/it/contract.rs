//! The contract is what is committed, and who may do what holds for each of its operations.

use crate::app::{App, Client, KEYS, server_body, spawn};
use crate::catalogue::{price_body, product_body};
use crate::described;
use crate::orders::order_body;
use api::access::{self, Access};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use entities::ids::OrderId;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

#[test]
fn the_committed_contract_is_the_code() {
    let committed = std::fs::read_to_string("../openapi/openapi.json").unwrap_or_default();
    let made = api::contract::text().unwrap();
    assert!(
        committed == made,
        "openapi/openapi.json is old: run `migrapanel-api openapi > openapi/openapi.json`"
    );
}

#[test]
fn each_operation_tells_its_errors_and_has_an_example_that_is_as_its_schema_says() {
    let document: Value = serde_json::from_str(&api::contract::text().unwrap()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let about = format!("{method} {path}");
            if let Some(body) = operation["requestBody"]["content"]["application/json"].as_object()
            {
                assert!(body.contains_key("example"), "{about}: the request has no example");
                let wrong = described::wrong(&body["schema"], &body["example"]);
                assert!(wrong.is_empty(), "{about}: {wrong:?}");
            }
            let mut refusals = 0;
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{about} {status}");
                // What leads elsewhere, or out of HTTP, has no body.
                if status.starts_with(['1', '3']) {
                    continue;
                }
                for content in response["content"].as_object().unwrap().values() {
                    if status.starts_with('2') {
                        let example = content.get("example").unwrap_or(&Value::Null);
                        assert!(!example.is_null(), "{about}: the answer has no example");
                        let wrong = described::wrong(&content["schema"], example);
                        assert!(wrong.is_empty(), "{about} {status}: {wrong:?}");
                    }
                    for (code, link) in content["examples"].as_object().into_iter().flatten() {
                        let link = link["$ref"].as_str().unwrap().trim_start_matches('#');
                        let refusal = document.pointer(link).map(|e| &e["value"]);
                        let refusal =
                            refusal.unwrap_or_else(|| panic!("{about}: no example of {code}"));
                        assert_eq!(refusal["code"], **code);
                        assert!(refusal["error"].as_str().unwrap().len() > 20, "{code}");
                        refusals += 1;
                    }
                }
            }
            assert!(refusals >= 3, "{about} tells no errors");
        }
    }
}

/// A well-formed body for each operation that takes one; ids are nobody's.
fn body(method: &str, path: &str) -> Value {
    let id = NOBODYS;
    let source =
        json!({"server_id": id, "backup_path": "/var/backups/migrations/x", "target_user": "a"});
    let job = json!({ "job_id": id });
    let proof = json!({"password": "a wrong password", "code": "000000"});
    match (method, path) {
        ("get" | "delete", _) => Value::Null,
        ("patch", "/api/me") => json!({"name": "x"}),
        ("post", "/api/auth/switch-tenant") => json!({ "tenant_id": id }),
        ("post", "/api/auth/change-password") => {
            json!({"current_password": "a wrong password", "new_password": "correct horse 3"})
        }
        ("post", "/api/auth/change-email") => {
            json!({"password": "a wrong password", "email": "x@y.test"})
        }
        ("post", "/api/auth/mfa/setup") => json!({"password": "a wrong password"}),
        ("post", "/api/auth/mfa/enable") => json!({"code": "000000"}),
        ("post", "/api/auth/mfa/disable" | "/api/auth/mfa/recovery-codes") => proof,
        ("post", "/api/tenants") => json!({"name": "x", "kind": "customer"}),
        ("patch", "/api/tenants/{id}") => json!({"name": "x"}),
        ("post", "/api/tenants/{id}/suspend") => json!({"reason": "unpaid"}),
        ("post", "/api/tenants/{id}/members" | "/api/invitations") => {
            let email = format!("{}@y.test", entities::ids::JobId::new().0.simple());
            match path {
                "/api/invitations" => json!({"email": email, "role": "VIEWER"}),
                _ => json!({"email": email, "password": "correct horse 2", "role": "VIEWER"}),
            }
        }
        ("patch", "/api/users/{id}") => json!({"role": "VIEWER"}),
        ("post", "/api/api-keys") => json!({"name": "x", "role": "VIEWER"}),
        ("post", "/api/webhook-endpoints") => json!({"url": "https://hooks.example.com/x"}),
        ("patch", "/api/webhook-endpoints/{id}") => json!({"enabled": true}),
        ("post", "/api/impersonations") => {
            json!({"tenant_id": id, "user_id": id, "minutes": 5, "reason": "support"})
        }
        ("post", "/api/servers") => {
            server_body(&format!("s{}", entities::ids::JobId::new().0.simple()))
        }
        ("patch", "/api/servers/{id}") => json!({"maintenance": true}),
        ("post", "/api/servers/{id}/grants") => json!({ "tenant_id": id }),
        ("post", "/api/categories") => json!({"name": unique()}),
        ("post", "/api/products") => product_body(&unique()),
        ("post", "/api/prices") => price_body(id),
        ("post", "/api/orders") => order_body(id),
        ("patch", "/api/orders/{id}") => json!({"notes": "x"}),
        ("post", "/api/orders/{id}/mark-paid") => json!({"reason": "x"}),
        ("post", "/api/subscriptions/{id}/preview") => json!({ "price_id": id }),
        ("post", "/api/subscriptions/{id}/change") => {
            json!({"price_id": id, "proration_at": "2026-11-22T12:00:00Z", "due_now": 1})
        }
        ("post", "/api/subscriptions/{id}/cancel") => json!({"when": "period_end"}),
        ("post", "/api/payments/{id}/refund") => json!({"reason": "x"}),
        ("post", "/api/jobs/{id}/cancel" | "/api/jobs/{id}/requeue") => json!({"reason": "x"}),
        ("post", p) if p.starts_with("/api/services/") => json!({"reason": "x"}),
        (_, p) if p.starts_with("/api/dns/") => dns_body(method, path),
        (_, p) if is_of_pods(p) => pod_body(method, path),
        ("post", "/api/certificates") => json!({"names": ["www.nobodys.example"]}),
        ("patch", "/api/categories/{id}" | "/api/products/{id}") => json!({"position": 1}),
        ("post", "/api/migration/validate" | "/api/migration/analyze") => source,
        ("post", "/api/migration/apply") => json!({"job_id": id, "approval_token": "x"}),
        ("post", "/api/migration/selective-restore") => {
            json!({"job_id": id, "approval_token": "x", "components": ["files"]})
        }
        ("post", p) if p.starts_with("/api/migration/job/") => json!({}),
        ("post", p) if p.starts_with("/api/migration/") => job,
        _ => json!({}),
    }
}

fn is_of_pods(path: &str) -> bool {
    ["/api/cloudpods", "/api/pod-templates", "/api/ip-pools"].iter().any(|p| path.starts_with(p))
}

/// The same for what has to do with containers.
fn pod_body(method: &str, path: &str) -> Value {
    match (method, path) {
        ("put", "/api/pod-templates/{name}") => json!({"title": "x", "archive": "x.tar.zst"}),
        ("post", "/api/ip-pools") => {
            json!({"name": unique(), "network": "203.0.113.0/24", "gateway": "203.0.113.1"})
        }
        ("post", "/api/cloudpods") => json!({"hostname": "web", "plan": "none"}),
        ("post", "/api/cloudpods/{id}/suspend") => json!({"reason": "x"}),
        ("put", "/api/cloudpods/{id}/root-keys") => json!({"ssh_keys": []}),
        ("post", "/api/cloudpods/{id}/snapshots") => json!({"name": "before"}),
        ("put", "/api/cloudpods/{id}/backup-schedule") => json!({"every_hours": 24, "keep": 7}),
        _ => json!({}),
    }
}

/// The same for what has to do with zones.
fn dns_body(method: &str, path: &str) -> Value {
    let id = NOBODYS;
    match (method, path) {
        ("post", "/api/dns/zones") => json!({"name": format!("z{}.test", unique())}),
        ("patch", "/api/dns/zones/{id}") => json!({"default_ttl": 300}),
        ("put", "/api/dns/zones/{id}/dnssec") => json!({"enabled": true}),
        ("post", "/api/dns/zones/{id}/transfer") => json!({ "tenant_id": id }),
        ("post", "/api/dns/zones/{id}/agreements") => {
            json!({"name": "below.zone.test", "tenant_id": id})
        }
        ("post", "/api/dns/zones/{id}/records") => {
            json!({"name": "www", "type": "A", "records": ["192.0.2.1"]})
        }
        ("put", "/api/dns/zones/{id}/records/{name}/{type}") => json!({"records": ["192.0.2.1"]}),
        ("post", "/api/dns/zones/{id}/batch") => {
            json!({"changes": [{"action": "delete", "name": "www", "type": "A"}]})
        }
        ("post", "/api/dns/zones/{id}/import") => json!({"zone_file": "www A 192.0.2.1"}),
        ("post", "/api/dns/zones/{id}/apply-template") => json!({ "template_id": id }),
        ("post", "/api/dns/templates") => {
            let set = json!({"name": "@", "type": "A", "records": ["{ipv4}"]});
            json!({"name": unique(), "records": [set]})
        }
        ("patch", "/api/dns/templates/{id}") => json!({"description": "x"}),
        ("put", "/api/dns/addresses/{address}") => json!({"hostname": "host.test"}),
        _ => json!({}),
    }
}

/// A name that nothing has.
fn unique() -> String {
    entities::ids::RowId::new().to_string()
}

/// An id that nothing has.
const NOBODYS: &str = "01900000-0000-7000-8000-000000000000";
const ROLES: [&str; 5] = ["VIEWER", "MEMBER", "BILLING", "ADMIN", "OWNER"];
/// They end the caller's own login, which the others still need; tested by themselves.
const ENDING: &[(&str, &str)] = &[("post", "/api/auth/logout"), ("delete", "/api/auth/sessions")];

#[test]
fn the_table_of_roles_has_every_operation_and_is_what_is_committed() {
    let document: Value = serde_json::from_str(&api::contract::text().unwrap()).unwrap();
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(
                access::of(method, path).is_some(),
                "{method} {path} is missing from access.rs"
            );
            assert!(operation["x-required"].is_object(), "{method} {path}");
            count += 1;
        }
    }
    assert_eq!(count, access::TABLE.len(), "access.rs has an operation that there is not");
    let committed = std::fs::read_to_string("../openapi/roles.md").unwrap_or_default();
    let text = "openapi/roles.md is old: run `migrapanel-api roles > openapi/roles.md`";
    assert!(committed == access::page(), "{text}");
}

/// Tokens that nobody may use, made from a good one.
fn bad_tokens(good: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = good.split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let sign = |change: &dyn Fn(&mut Value), algorithm, secret: &[u8]| {
        let mut claims = claims.clone();
        change(&mut claims);
        let header = Header { kid: Some("test".into()), ..Header::new(algorithm) };
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    let secret = KEYS.split_once(':').unwrap().1.as_bytes();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT","kid":"test"}"#);
    let owner = claims.to_string().replace("VIEWER", "OWNER");
    let owner = URL_SAFE_NO_PAD.encode(owner);
    let hs = Algorithm::HS256;
    vec![
        ("no signature", format!("{none}.{}.", parts[1])),
        ("the signature of another", format!("{}.{owner}.{}", parts[0], parts[2])),
        ("expired", sign(&|c| c["exp"] = json!(1), hs, secret)),
        ("another audience", sign(&|c| c["aud"] = json!("other"), hs, secret)),
        ("another issuer", sign(&|c| c["iss"] = json!("other"), hs, secret)),
        ("another type", sign(&|c| c["typ"] = json!("refresh"), hs, secret)),
        ("another key", sign(&|_| (), hs, b"fedcba9876543210fedcba9876543210")),
        ("another algorithm", sign(&|_| (), Algorithm::HS512, secret)),
        ("an API key that is none", format!("mpk_{}_x", NOBODYS.replace('-', ""))),
    ]
}

#[tokio::test]
async fn each_operation_is_closed_to_nobody_and_to_forged_tokens() {
    let app = spawn().await;
    let viewer = app.member("forger", "VIEWER").await;
    for (method, path, access, _) in access::TABLE {
        if *access == Access::Open {
            continue;
        }
        ask(&app.anonymous(), method, path).await.refused(401, "unauthenticated");
        for (what, token) in bad_tokens(viewer.token.as_deref().unwrap()) {
            let got = ask(&app.anonymous().with_token(&token), method, path).await;
            assert_eq!(got.status, 401, "{method} {path} with {what}: {}", got.body);
        }
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn each_operation_is_open_to_its_role_in_its_tenant_and_below_and_nowhere_else() {
    let app = spawn().await;
    let owner = app.member_kind("matrix", "reseller").await;
    let foreign = app.member("foreign", "OWNER").await;
    let child = json!({"name": "child", "kind": "customer"});
    let child = owner.post("/api/tenants", child).await.data(201)["id"].clone();
    let child = child.as_str().unwrap();
    let mut clients = Vec::new();
    for role in &ROLES[..4] {
        clients.push((*role, app.member_of(&owner.tenant, "matrix", role).await));
    }
    clients.push(("OWNER", owner));
    for (method, path, access, _) in access::TABLE {
        let Access::Needs(permission) = access else { continue };
        if ENDING.contains(&(*method, *path)) {
            continue;
        }
        let lowest = permission.role().to_string();
        for (role, client) in &clients {
            let reaches = !permission.platform_only() && rank(role) >= rank(&lowest);
            for acting in [client.clone(), client.acting_in(child)] {
                let got = ask(&acting, method, path).await;
                let place = acting.acting.as_deref().map_or("own", |_| "child");
                let about = format!("{method} {path} as {role} in {place}: {}", got.body);
                // Below one's own tenant it takes an ADMIN.
                let reaches = reaches && (place == "own" || rank(role) >= rank("ADMIN"));
                assert_eq!(got.status != 403, reaches, "{about}");
                assert!(got.status.as_u16() < 500 || got.status == 503, "{about}");
                if reaches && (path.contains("{id}") || body(method, path).get("job_id").is_some())
                {
                    assert_eq!(got.status, 404, "{about}");
                }
            }
            for elsewhere in [&foreign.tenant, &app.owner.tenant] {
                let got = ask(&client.acting_in(elsewhere), method, path).await;
                got.refused(404, "not_found");
            }
        }
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_nothing_else() {
    let app = spawn().await;
    let owner = app.member("scoped", "OWNER").await;
    let new = json!({"name": "narrow", "role": "OWNER", "scopes": ["profile:read"]});
    let narrow = owner.post("/api/api-keys", new).await.data(201)["key"].clone();
    let narrow = app.anonymous().with_token(narrow.as_str().unwrap());
    for (method, path, access, _) in access::TABLE {
        let Access::Needs(permission) = access else { continue };
        let got = ask(&narrow, method, path).await;
        let may = permission.scope() == Some("profile:read");
        assert_eq!(got.status != 403, may, "{method} {path}: {}", got.body);
    }
    app.db.remove().await.unwrap();
}

fn rank(role: &str) -> usize {
    ROLES.iter().position(|r| *r == role).unwrap()
}

/// A service of the tenant that waits to be made.
pub async fn service(app: &App, owner: &Client, price: &str) -> String {
    let order = owner.post("/api/orders", order_body(price)).await.data(201)["id"].clone();
    let order = order.as_str().unwrap();
    let path = format!("/api/orders/{order}/mark-paid");
    app.owner.post(&path, json!({"reason": "x"})).await.data(200);
    let tx = app.db.db.system().await.unwrap();
    let made = entities::services::make_for_order(&tx, OrderId(order.parse().unwrap())).await;
    tx.commit().await.unwrap();
    made.unwrap()[0].id.to_string()
}

/// A certificate of the tenant that waits.
pub async fn certificate(app: &App, owner: &Client, (server, job): (&str, String)) -> String {
    let (account, id) = (unique(), unique());
    let tenant = &owner.tenant;
    let sql = format!(
        "INSERT INTO hosting_account (id, tenant_id, server_id, username, job_id)
            VALUES ('{account}', '{tenant}', '{server}', 'u{}', '{job}');
         INSERT INTO certificate (id, tenant_id, account_id, names, challenge, state)
            VALUES ('{id}', '{tenant}', '{account}', '[\"{id}.example\"]', 'dns-01', 'failed')",
        account.split('-').next_back().unwrap()
    );
    app.db.execute(&sql).await.unwrap();
    id
}

/// A zone of the tenant, and a template.
async fn zone(owner: &Client, name: &str) -> (Value, Value) {
    let zone = json!({"name": format!("{name}.test")});
    let zone = owner.post("/api/dns/zones", zone).await.data(201)["id"].clone();
    let set = json!({"name": "@", "type": "A", "records": ["{ipv4}"]});
    let template = json!({"name": name, "records": [set]});
    (zone, owner.post("/api/dns/templates", template).await.data(201)["id"].clone())
}

/// A container of the tenant that waits to be made, and the pool that its address is out of.
async fn pod(app: &App, owner: &Client, name: &str) -> (String, String) {
    static NODES: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
    let number = NODES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let platform = app.db.person("owner@platform.test").await.unwrap();
    let node = app.db.node(&platform, number, 10).await.unwrap();
    let grant = json!({ "tenant_id": owner.tenant });
    app.owner.post(&format!("/api/servers/{node}/grants"), grant).await.data(200);
    let plan = json!({"kind": "cloudpod_plan", "cpu_cores": 1, "memory_mib": 512, "disk_mib": 4096, "template": "debian-12"});
    let code = format!("plan-{number}");
    let product = json!({"name": format!("plan of {name}"), "code": code, "specification": plan});
    app.owner.post("/api/products", product).await.data(201);
    crate::cloudpods::allow(app, owner).await;
    let pod = json!({"hostname": format!("pod.{name}.test"), "plan": code});
    let pod = owner.post("/api/cloudpods", pod).await.data(202)["id"].clone();
    let pools = app.owner.get("/api/ip-pools?per_page=200").await.data(200);
    let is_its = |pool: &&Value| pool["name"] == format!("pool {number}");
    let pool = pools.as_array().unwrap().iter().find(is_its).unwrap()["id"].clone();
    (pod.as_str().unwrap().to_owned(), pool.as_str().unwrap().to_owned())
}

/// What there is of a tenant, by what stands for it in paths and bodies.
struct Things(Vec<(&'static str, String)>);

impl Things {
    /// One of everything, made by the tenant's owner on a server that only they may use.
    async fn of(app: &App, owner: &Client, name: &str) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let server = app.server(name).await;
        let grant = json!({ "tenant_id": owner.tenant });
        app.owner.post(&format!("/api/servers/{server}/grants"), grant).await.data(200);
        let path = format!("/var/backups/migrations/{}/x.tar.gz", owner.tenant);
        let source = json!({"server_id": server, "backup_path": path, "target_user": name});
        let job = owner.post("/api/migration/analyze", source).await.data(202)["job_id"].clone();
        let key = json!({"name": name, "role": "VIEWER"});
        let key = owner.post("/api/api-keys", key).await.data(201)["id"].clone();
        let guest = json!({"email": format!("guest@{name}.test"), "role": "VIEWER"});
        let guest = owner.post("/api/invitations", guest).await.data(201)["id"].clone();
        let child = json!({"name": format!("child of {name}"), "kind": "customer"});
        let child = owner.post("/api/tenants", child).await.data(201)["id"].clone();
        let category = json!({"name": format!("category of {name}")});
        let category = owner.post("/api/categories", category).await.data(201)["id"].clone();
        let product = product_body(&format!("product of {name}"));
        let product = owner.post("/api/products", product).await.data(201)["id"].clone();
        let price = price_body(product.as_str().unwrap());
        let price = owner.post("/api/prices", price).await.data(201)["id"].clone();
        let order = order_body(price.as_str().unwrap());
        let order = owner.post("/api/orders", order).await.data(201)["id"].clone();
        let service = service(app, owner, price.as_str().unwrap()).await;
        let certificate = certificate(app, owner, (&server, text(&job))).await;
        let billed = crate::stripe::billed(app, owner, order.as_str().unwrap()).await;
        let (zone, template) = zone(owner, name).await;
        let hook = json!({"url": format!("https://hooks.{name}.test/x")});
        let hook = owner.post("/api/webhook-endpoints", hook).await.data(201)["id"].clone();
        let test = format!("/api/webhook-endpoints/{}/test", text(&hook));
        let delivery = owner.post(&test, json!({})).await.data(202)["id"].clone();
        let (pod, pool) = pod(app, owner, name).await;
        let me = owner.get("/api/me").await.data(200)["user"]["id"].clone();
        let session = owner.get("/api/auth/sessions").await.data(200)[0]["id"].clone();
        Self(vec![
            ("/api/tenants/", owner.tenant.clone()),
            ("tenant_id", text(&child)),
            ("/api/users/", text(&me)),
            ("user_id", text(&me)),
            ("/api/api-keys/", text(&key)),
            ("/api/invitations/", text(&guest)),
            ("/api/webhook-endpoints/", text(&hook)),
            ("/api/webhook-deliveries/", text(&delivery)),
            ("/api/auth/sessions/", text(&session)),
            ("/api/impersonations/", text(&session)),
            ("/api/servers/", server.clone()),
            ("server_id", server),
            ("/api/categories/", text(&category)),
            ("/api/products/", text(&product)),
            ("product_id", text(&product)),
            ("/api/prices/", text(&price)),
            ("/api/orders/", text(&order)),
            ("/api/services/", service),
            ("/api/certificates/", certificate),
            ("/api/cloudpods/", pod),
            ("/api/ip-pools/", pool),
            ("price_id", text(&price)),
            ("/api/dns/zones/", text(&zone)),
            ("/api/dns/templates/", text(&template)),
            ("template_id", text(&template)),
            ("/api/subscriptions/", billed[0].clone()),
            ("/api/invoices/", billed[1].clone()),
            ("/api/payments/", billed[2].clone()),
            ("/api/stripe-events/", format!("evt_{name}")),
            ("/api/jobs/", text(&job)),
            ("/api/dead-letters/", unique()),
            ("/api/migration/", text(&job)),
            ("job_id", text(&job)),
        ])
    }

    fn named(&self, place: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| place.starts_with(name));
        &found.unwrap_or_else(|| panic!("say in Things what stands at {place}")).1
    }

    /// Asks for them as if they were one's own.
    async fn ask(&self, client: &Client, method: &str, path: &str) -> crate::app::Got {
        let mut url = path.to_owned();
        if path.contains("{id}") {
            url = path.replace("{id}", self.named(path));
        }
        url = with_names(&url);
        if path == "/api/migration/plan" {
            url = format!("{path}?job_id={}", self.named("job_id"));
        }
        let mut body = body(method, path);
        for (field, value) in body.as_object_mut().into_iter().flatten() {
            if *value == NOBODYS {
                *value = json!(self.named(field));
            }
        }
        send(client, method, &url, body).await
    }
}

/// With the ids of tenant B's things, A gets the answer that nobody's ids get; lists hold none of
/// them; and what A has tried changed nothing.
async fn try_what_is_anothers(app: &App, a: &Client, b: &Client, theirs: &Things) {
    let before = b.get("/api/users").await.data(200);
    for (method, path, access, _) in access::TABLE {
        if *access == Access::Open || ENDING.contains(&(*method, *path)) {
            continue;
        }
        let about = format!("{method} {path}");
        let nobodys = ask(a, method, path).await;
        let got = theirs.ask(a, method, path).await;
        if path.contains("{id}") || nobodys.status == 404 {
            assert_eq!(got.status, nobodys.status, "{about}: {}", got.body);
            assert_eq!(got.body["code"], nobodys.body["code"], "{about}: {}", got.body);
            assert!(got.status == 404 || got.status == 403, "{about}: {}", got.body);
        }
        let shown = nobodys.body.to_string();
        assert!(!shown.contains("theirs-owner@"), "{about} shows whose they are");
        // One's own trail has the ids that one has tried.
        for (name, id) in theirs.0.iter().filter(|_| !path.starts_with("/api/audit")) {
            assert!(!shown.contains(id.as_str()), "{about} shows {name}: {shown}");
        }
    }
    for path in ["/api/tenants/{id}", "/api/api-keys/{id}", "/api/migration/job/{id}/status"] {
        let seen = theirs.ask(b, "get", path).await.data(200);
        assert_ne!(seen["status"], "cancelled");
    }
    for path in ["/api/categories/{id}", "/api/products/{id}", "/api/prices/{id}"] {
        assert_eq!(theirs.ask(b, "get", path).await.data(200)["archived_at"], Value::Null);
    }
    let order = theirs.ask(b, "get", "/api/orders/{id}").await.data(200);
    assert_eq!((&order["status"], &order["notes"]), (&json!("draft"), &json!("")));
    assert_eq!(b.get("/api/users").await.data(200), before);
    assert_eq!(b.get("/api/invitations").await.data(200).as_array().unwrap().len(), 1);
    let mine = app.owner.acting_in(&b.tenant).get("/api/me").await.data(200);
    assert_eq!(mine["tenant"]["suspended_at"], Value::Null);
}

#[tokio::test]
async fn the_ids_of_another_tenant_are_nobodys_with_both_locks_and_with_the_first_alone() {
    let app = spawn().await;
    let a = app.member_kind("mine", "reseller").await;
    let b = app.member_kind("theirs", "reseller").await;
    let theirs = Things::of(&app, &b, "theirs").await;
    Things::of(&app, &a, "mine").await;
    try_what_is_anothers(&app, &a, &b, &theirs).await;
    // The second lock is taken off: what still holds is the tenant's scope in each statement.
    app.db
        .execute(
            "DO $$ DECLARE name text; BEGIN
                FOR name IN SELECT relname FROM pg_class
                    WHERE relrowsecurity AND relnamespace = 'public'::regnamespace LOOP
                    EXECUTE format('ALTER TABLE %I DISABLE ROW LEVEL SECURITY', name);
                END LOOP;
            END $$",
        )
        .await
        .unwrap();
    try_what_is_anothers(&app, &a, &b, &theirs).await;
    app.db.remove().await.unwrap();
}

/// What stands in paths beside ids.
fn with_names(path: &str) -> String {
    path.replace("{name}", "www")
        .replace("{type}", "A")
        .replace("{address}", "192.0.2.1")
        .replace("{agreement_id}", NOBODYS)
        .replace("{backup_id}", NOBODYS)
}

async fn ask(client: &Client, method: &str, path: &str) -> crate::app::Got {
    let mut url = with_names(&path.replace("{id}", NOBODYS));
    if url == "/api/migration/plan" {
        url = format!("{url}?job_id={NOBODYS}");
    }
    send(client, method, &url, body(method, path)).await
}

async fn send(client: &Client, method: &str, url: &str, body: Value) -> crate::app::Got {
    let body = (!body.is_null()).then(|| body.to_string());
    client.send(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), url, body).await
}
