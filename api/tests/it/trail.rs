//! What people and tenants do is in the trail, each with what it found and left.

use crate::app::{App, Client, PASSWORD, spawn};
use crate::auth::{code, early_in_a_step, token_of};
use entities::ids::LinkId;
use entities::mail::Letter;
use reqwest::Method;
use serde_json::{Value, json};

/// The newest link that was mailed to this address.
async fn link(app: &App, to: &str) -> String {
    let letter = app.db.letters(to).await.unwrap().pop().unwrap();
    let id: LinkId = match letter {
        Letter::VerifyEmail { link }
        | Letter::ResetPassword { link }
        | Letter::ChangeEmail { link }
        | Letter::Invitation { link, .. } => link,
        other => panic!("{other:?} has no link"),
    };
    token_of(id)
}

/// The newest entry of this kind in a tenant's trail.
async fn entry(app: &App, tenant: &str, kind: &str) -> Value {
    let reader = app.owner.acting_in(tenant);
    let entries = reader.get(&format!("/api/audit?limit=50&kind={kind}")).await.data(200);
    let found = entries.as_array().unwrap().first().cloned();
    found.unwrap_or_else(|| panic!("{kind} is not in the trail"))
}

/// Each of these is there, and came from a request of `actor`.
async fn expect(app: &App, tenant: &str, actor: &str, kinds: &[&str]) {
    for kind in kinds {
        let entry = entry(app, tenant, kind).await;
        assert_eq!(entry["actor_id"], actor, "{entry}");
        assert_eq!((&entry["ip"], &entry["user_agent"]), (&json!("127.0.0.1"), &json!("tests")));
        assert!(entry["request_id"].is_string(), "{entry}");
    }
}

/// A change tells both sides.
async fn changed(app: &App, tenant: &str, kind: &str, before: Value, after: Value) {
    let entry = entry(app, tenant, kind).await;
    for (side, wanted) in [("before", before), ("after", after)] {
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(entry[side][name], *value, "{side} {name}: {entry}");
        }
    }
}

async fn send(client: &Client, method: Method, path: &str, body: Value) -> Value {
    client.send(method, path, Some(body.to_string())).await.data(200)
}

async fn id_of(client: &Client) -> String {
    client.get("/api/me").await.data(200)["user"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_persons_own_doings() {
    let app = spawn().await;
    let nobody = app.anonymous();
    let (old, new) = ("jane@shop.test", "jane@other.test");
    let body = json!({"email": old, "password": PASSWORD, "name": "Jane", "company": "Shop"});
    nobody.post("/api/auth/register", body).await.data(202);
    let verify = json!({ "token": link(&app, old).await });
    nobody.post("/api/auth/verify-email", verify).await.data(200);
    let jane = Client::login(&app.url, old).await;
    let (shop, id) = (jane.tenant.clone(), id_of(&jane).await);
    let kinds = ["TENANT_CREATED", "USER_CREATED", "EMAIL_VERIFIED", "LOGIN"];
    expect(&app, &shop, &id, &kinds).await;

    send(&jane, Method::PATCH, "/api/me", json!({"name": "Jane Roe"})).await;
    let (before, after) = (json!({"name": "Jane"}), json!({"name": "Jane Roe"}));
    changed(&app, &shop, "USER_UPDATED", before, after).await;
    let change = json!({"password": PASSWORD, "email": new});
    jane.post("/api/auth/change-email", change).await.data(202);
    let confirm = json!({ "token": link(&app, new).await });
    nobody.post("/api/auth/confirm-email", confirm).await.data(200);
    changed(&app, &shop, "EMAIL_CHANGED", json!({ "email": old }), json!({ "email": new })).await;
    expect(&app, &shop, &id, &["USER_UPDATED", "EMAIL_CHANGE_REQUESTED", "EMAIL_CHANGED"]).await;

    let wrong = json!({"email": new, "password": "wrong wrong"});
    nobody.post("/api/auth/login", wrong).await.refused(401, "invalid_credentials");
    nobody.post("/api/auth/forgot-password", json!({ "email": new })).await.data(202);
    let reset = json!({"token": link(&app, new).await, "password": PASSWORD});
    nobody.post("/api/auth/reset-password", reset).await.data(200);
    let jane = Client::login(&app.url, new).await;
    let change = json!({"current_password": PASSWORD, "new_password": "another fine one 2"});
    jane.post("/api/auth/change-password", change).await.data(200);
    let kinds = ["LOGIN_FAILED", "PASSWORD_RESET_REQUESTED", "PASSWORD_RESET", "PASSWORD_CHANGED"];
    expect(&app, &shop, &id, &kinds).await;
    let trail = app.db.dump("audit_log").await.unwrap();
    for secret in [PASSWORD, "another fine one 2", "wrong wrong", "$2b$"] {
        assert!(!trail.contains(secret), "{secret} stands in the trail");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn sessions_and_second_factors() {
    let app = spawn().await;
    let jane = app.member("doings", "OWNER").await;
    let (tenant, id) = (jane.tenant.clone(), id_of(&jane).await);
    let email = "doings-owner@customer.test";
    let other = Client::login(&app.url, email).await;
    let sessions = jane.get("/api/auth/sessions").await.data(200);
    let older = sessions.as_array().unwrap().iter().find(|s| s["current"] == false).unwrap();
    let path = format!("/api/auth/sessions/{}", older["id"].as_str().unwrap());
    jane.send(Method::DELETE, &path, None).await.data(200);
    other.get("/api/me").await.refused(401, "unauthenticated");
    let keep = "/api/auth/sessions?keep_current=true";
    jane.send(Method::DELETE, keep, None).await.data(200);
    jane.post("/api/auth/logout", json!({})).await.data(200);
    expect(&app, &tenant, &id, &["SESSION_REVOKED", "SESSIONS_REVOKED", "LOGOUT"]).await;

    let jane = Client::login(&app.url, email).await;
    let setup = jane.post("/api/auth/mfa/setup", json!({ "password": PASSWORD })).await.data(200);
    early_in_a_step().await;
    let shown = json!({ "code": code(setup["secret"].as_str().unwrap(), -1) });
    let codes = jane.post("/api/auth/mfa/enable", shown).await.data(200);
    let codes = codes["recovery_codes"].clone();
    let login = json!({"email": email, "password": PASSWORD, "recovery_code": codes[0]});
    let tokens = app.anonymous().post("/api/auth/login", login).await.data(200);
    assert_eq!(entry(&app, &tenant, "RECOVERY_CODE_USED").await["data"]["left"], 9);
    assert_eq!(entry(&app, &tenant, "LOGIN").await["data"]["second_factor"], true);
    let jane = jane.with_token(tokens["access_token"].as_str().unwrap());
    let proof = |code: &Value| json!({"password": PASSWORD, "recovery_code": code});
    let anew = jane.post("/api/auth/mfa/recovery-codes", proof(&codes[1])).await.data(200);
    let anew = anew["recovery_codes"][0].clone();
    jane.post("/api/auth/mfa/disable", proof(&anew)).await.data(200);
    let kinds = ["MFA_SET_UP", "MFA_ENABLED", "RECOVERY_CODES_RENEWED", "MFA_DISABLED"];
    expect(&app, &tenant, &id, &kinds).await;
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn members_keys_and_who_acts_for_whom() {
    let app = spawn().await;
    let owner = app.member("house", "OWNER").await;
    let (tenant, id) = (owner.tenant.clone(), id_of(&owner).await);
    let jane = app.member_of(&tenant, "jane", "VIEWER").await;
    let (jane_id, staff) = (id_of(&jane).await, id_of(&app.owner).await);
    expect(&app, &tenant, &staff, &["USER_CREATED", "MEMBER_ADDED"]).await;
    let path = format!("/api/users/{jane_id}");
    owner.get("/api/users").await.data(200);
    owner.get(&path).await.data(200);
    send(&owner, Method::PATCH, &path, json!({"role": "ADMIN"})).await;
    let (before, after) = (json!({"role": "VIEWER"}), json!({"role": "ADMIN"}));
    changed(&app, &tenant, "MEMBER_UPDATED", before, after).await;
    owner.post(&format!("{path}/unlock"), json!({})).await.data(200);

    let invite = |email: &str| json!({"email": email, "role": "MEMBER"});
    let late = owner.post("/api/invitations", invite("late@new.test")).await.data(201);
    let one = format!("/api/invitations/{}", late["id"].as_str().unwrap());
    owner.send(Method::DELETE, &one, None).await.data(200);
    // Somebody of another tenant joins, and goes over.
    let guest = app.member("guest", "OWNER").await;
    let guest_id = id_of(&guest).await;
    owner.post("/api/invitations", invite("guest-owner@customer.test")).await.data(201);
    let token = json!({ "token": link(&app, "guest-owner@customer.test").await });
    app.anonymous().post("/api/invitations/accept", token).await.data(200);
    expect(&app, &tenant, &guest_id, &["INVITATION_ACCEPTED", "MEMBER_ADDED"]).await;
    guest.post("/api/auth/switch-tenant", json!({ "tenant_id": tenant })).await.data(200);
    let switched = entry(&app, &tenant, "TENANT_SWITCH").await;
    assert_eq!(switched["data"], json!({ "from": guest.tenant, "to": tenant }));

    owner.send(Method::DELETE, &path, None).await.data(200);
    let email = json!({"email": "jane-viewer@customer.test"});
    for kind in ["MEMBER_REMOVED", "USER_DELETED"] {
        changed(&app, &tenant, kind, email.clone(), json!({})).await;
    }
    let key =
        owner.post("/api/api-keys", json!({"name": "shop", "role": "VIEWER"})).await.data(201);
    let one = format!("/api/api-keys/{}", key["id"].as_str().unwrap());
    owner.send(Method::DELETE, &one, None).await.data(200);
    owner.get("/api/audit/export").await;
    let kinds = [
        "TENANT_USERS_LISTED",
        "TENANT_USER_VIEWED",
        "MEMBER_UPDATED",
        "ACCOUNT_UNLOCKED",
        "INVITATION_CREATED",
        "INVITATION_REVOKED",
        "MEMBER_REMOVED",
        "USER_DELETED",
        "API_KEY_CREATED",
        "API_KEY_REVOKED",
        "AUDIT_EXPORTED",
    ];
    expect(&app, &tenant, &id, &kinds).await;

    let body = json!({"tenant_id": tenant, "user_id": id, "minutes": 5, "reason": "ticket 17"});
    let begun = app.owner.post("/api/impersonations", body).await.data(201);
    let one = format!("/api/impersonations/{}", begun["id"].as_str().unwrap());
    app.owner.send(Method::DELETE, &one, None).await.data(200);
    expect(&app, &tenant, &staff, &["IMPERSONATION_STARTED", "IMPERSONATION_ENDED"]).await;
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn tenants() {
    let app = spawn().await;
    let owner = app.member("house", "OWNER").await;
    let (tenant, staff) = (owner.tenant.clone(), id_of(&app.owner).await);
    let path = format!("/api/tenants/{tenant}");
    let change = json!({"name": "House", "require_mfa": true, "limits": {"accounts": 3}});
    send(&app.owner, Method::PATCH, &path, change.clone()).await;
    let before = json!({"name": "house", "require_mfa": false, "limits": {}});
    changed(&app, &tenant, "TENANT_UPDATED", before, change).await;
    for (was, now) in [(Value::Null, "unpaid"), (json!("unpaid"), "abuse")] {
        app.owner.post(&format!("{path}/suspend"), json!({ "reason": now })).await.data(200);
        let before = json!({ "suspended_reason": was, "frozen": !was.is_null() });
        let after = json!({ "suspended_reason": now, "frozen": true });
        changed(&app, &tenant, "TENANT_SUSPENDED", before, after).await;
    }
    app.owner.post(&format!("{path}/resume"), json!({})).await.data(200);
    let before = json!({"suspended_reason": "abuse", "frozen": true});
    let after = json!({"suspended_reason": null, "suspended_at": null, "frozen": false});
    changed(&app, &tenant, "TENANT_RESUMED", before, after).await;
    expect(&app, &tenant, &staff, &["TENANT_UPDATED", "TENANT_SUSPENDED", "TENANT_RESUMED"]).await;
    let made = app.db.audit_kinds().await.unwrap();
    for kind in ["PLATFORM_BOOTSTRAPPED", "TENANT_CREATED"] {
        assert!(made.contains(&kind.to_owned()), "{kind}");
    }
    app.db.remove().await.unwrap();
}
