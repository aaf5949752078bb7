use crate::app::{Client, PASSWORD, spawn};
use crate::auth::token_of;
use entities::mail::Letter;
use reqwest::Method;
use serde_json::{Value, json};

async fn id_of(client: &Client) -> String {
    client.get("/api/me").await.data(200)["user"]["id"].as_str().unwrap().to_owned()
}

async fn patch(client: &Client, path: &str, body: Value) -> crate::app::Got {
    client.send(Method::PATCH, path, Some(body.to_string())).await
}

async fn delete(client: &Client, path: &str) -> crate::app::Got {
    client.send(Method::DELETE, path, None).await
}

#[tokio::test]
async fn an_invitation_is_accepted_once_by_whoever_has_the_mailbox() {
    let app = spawn().await;
    let admin = app.member("inviting", "OWNER").await;
    let admin = app.member_of(&admin.tenant, "inviting", "ADMIN").await;
    let invite = |email: &str, role: &str| json!({"email": email, "role": role});
    admin.post("/api/invitations", invite("x@new.test", "OWNER")).await.refused(403, "forbidden");
    admin.post("/api/invitations", invite("New@New.Test", "MEMBER")).await.data(201);
    let last = async |to: &str| app.db.letters(to).await.unwrap().pop().unwrap();
    let Letter::Invitation { link: first, .. } = last("new@new.test").await else { panic!() };
    // Another one to the same address takes the first one's place.
    let again = admin.post("/api/invitations", invite("new@new.test", "BILLING")).await.data(201);
    let Letter::Invitation { link, .. } = last("new@new.test").await else { panic!() };
    let list = admin.get("/api/invitations").await.data(200);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["id"], again["id"]);
    let accept = |link, password: Option<&str>| {
        let mut body = json!({"token": token_of(link), "name": "New One"});
        if let Some(password) = password {
            body["password"] = json!(password);
        }
        body
    };
    let nobody = app.anonymous();
    let path = "/api/invitations/accept";
    nobody.post(path, accept(first, Some(PASSWORD))).await.refused(400, "link_invalid");
    nobody.post(path, accept(link, None)).await.refused(400, "invalid_request");
    nobody.post(path, accept(link, Some(PASSWORD))).await.data(200);
    nobody.post(path, accept(link, Some(PASSWORD))).await.refused(400, "link_invalid");
    let new = Client::login(&app.url, "new@new.test").await;
    assert_eq!(new.tenant, admin.tenant);
    assert_eq!(new.get("/api/me").await.data(200)["role"], "BILLING");
    // Somebody who has a login joins with it, and switches.
    let other = app.member("other-place", "OWNER").await;
    other.post("/api/invitations", invite("new@new.test", "VIEWER")).await.data(201);
    let Letter::Invitation { link, .. } = last("new@new.test").await else { panic!() };
    nobody.post(path, accept(link, Some(PASSWORD))).await.refused(400, "invalid_request");
    nobody.post(path, json!({"token": token_of(link)})).await.data(200);
    let switch = json!({"tenant_id": other.tenant});
    let there = new.post("/api/auth/switch-tenant", switch).await.data(200);
    assert_eq!(there["user"]["role"], "VIEWER");
    admin
        .post("/api/auth/switch-tenant", json!({"tenant_id": other.tenant}))
        .await
        .refused(404, "not_found");
    let revoked = admin.post("/api/invitations", invite("late@new.test", "VIEWER")).await.data(201);
    let Letter::Invitation { link, .. } = last("late@new.test").await else { panic!() };
    let one = format!("/api/invitations/{}", revoked["id"].as_str().unwrap());
    delete(&other, &one).await.refused(404, "not_found");
    delete(&admin, &one).await.data(200);
    nobody.post(path, accept(link, Some(PASSWORD))).await.refused(400, "link_invalid");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_last_owner_stays_and_nobody_changes_whoever_is_above() {
    let app = spawn().await;
    let owner = app.member("owners", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "owners", "ADMIN").await;
    let (owner_id, admin_id) = (id_of(&owner).await, id_of(&admin).await);
    let one = |id: &str| format!("/api/users/{id}");
    patch(&admin, &one(&owner_id), json!({"role": "VIEWER"})).await.refused(403, "forbidden");
    delete(&admin, &one(&owner_id)).await.refused(403, "forbidden");
    patch(&admin, &one(&admin_id), json!({"role": "OWNER"})).await.refused(403, "forbidden");
    delete(&owner, &one(&owner_id)).await.refused(409, "conflict");
    patch(&owner, &one(&owner_id), json!({"role": "ADMIN"})).await.refused(409, "conflict");
    patch(&owner, &one(&admin_id), json!({"role": "OWNER"})).await.data(200);
    // The token from before has the old role: it is refreshed.
    admin.get("/api/users").await.refused(401, "token_expired");
    let admin = Client::login(&app.url, "owners-admin@customer.test").await;
    // Both leave at once: one stays.
    let (first, second) = (one(&owner_id), one(&admin_id));
    let both = tokio::join!(delete(&owner, &first), delete(&admin, &second));
    let mut gone = [both.0.status.as_u16(), both.1.status.as_u16()];
    gone.sort_unstable();
    assert_eq!(gone, [200, 409], "{} {}", both.0.body, both.1.body);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_removed_members_tokens_and_keys_die_and_the_person_is_forgotten() {
    let app = spawn().await;
    let owner = app.member("removes", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "removes", "ADMIN").await;
    let key = admin.post("/api/api-keys", json!({"name": "k", "role": "ADMIN"})).await;
    let key = app.anonymous().with_token(key.data(201)["key"].as_str().unwrap());
    key.get("/api/users").await.data(200);
    let id = id_of(&admin).await;
    delete(&owner, &format!("/api/users/{id}")).await.data(200);
    admin.get("/api/me").await.refused(401, "unauthenticated");
    key.get("/api/users").await.refused(401, "unauthenticated");
    let login = json!({"email": "removes-admin@customer.test", "password": PASSWORD});
    app.anonymous().post("/api/auth/login", login).await.refused(401, "invalid_credentials");
    // The address is free again.
    app.member_of(&owner.tenant, "removes", "ADMIN").await;
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn people_are_listed_page_by_page_and_another_tenants_are_not_found() {
    let app = spawn().await;
    let owner = app.member("people", "OWNER").await;
    for role in ["ADMIN", "BILLING", "MEMBER", "VIEWER"] {
        app.member_of(&owner.tenant, "people", role).await;
    }
    let stranger = app.member("strangers", "OWNER").await;
    let emails = |got: &Value| -> Vec<String> {
        let rows = got.as_array().unwrap().iter();
        rows.map(|u| u["email"].as_str().unwrap().split('@').next().unwrap().to_owned()).collect()
    };
    let all = owner.get("/api/users?per_page=2&page=2&sort=-email").await;
    assert_eq!(all.body["meta"], json!({"page": 2, "per_page": 2, "total": 5}));
    assert_eq!(emails(&all.data(200)), ["people-member", "people-billing"]);
    let found = owner.get("/api/users?q=BILL").await.data(200);
    assert_eq!(emails(&found), ["people-billing"]);
    assert_eq!(emails(&owner.get("/api/users?q=%25").await.data(200)).len(), 0);
    assert_eq!(emails(&owner.get("/api/users?role=VIEWER").await.data(200)), ["people-viewer"]);
    for wrong in ["page=0", "per_page=201", "sort=password", "role=ROOT", "nonsense=1"] {
        owner.get(&format!("/api/users?{wrong}")).await.refused(400, "invalid_request");
    }
    let one = format!("/api/users/{}", found[0]["id"].as_str().unwrap());
    owner.get(&one).await.data(200);
    stranger.get(&one).await.refused(404, "not_found");
    patch(&stranger, &one, json!({"role": "VIEWER"})).await.refused(404, "not_found");
    delete(&stranger, &one).await.refused(404, "not_found");
    stranger.post(&format!("{one}/unlock"), json!({})).await.refused(404, "not_found");
    let kinds = app.db.audit_kinds().await.unwrap();
    for kind in ["TENANT_USERS_LISTED", "TENANT_USER_VIEWED"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind}");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_limit_of_one_gives_one_whoever_asks_at_once() {
    let app = spawn().await;
    let owner = app.member_kind("limited", "reseller").await;
    let path = format!("/api/tenants/{}", owner.tenant);
    let limits = json!({"limits": {"tenants": 1, "api_keys": 1, "members": 2}});
    patch(&owner, &path, limits.clone()).await.refused(403, "forbidden");
    patch(&app.owner, &path, limits).await.data(200);
    for (path, body) in [
        ("/api/tenants", json!({"name": "x", "kind": "customer"})),
        ("/api/api-keys", json!({"name": "x", "role": "VIEWER"})),
    ] {
        let many = (0..50).map(|_| owner.post(path, body.clone()));
        let got = futures::future::join_all(many).await;
        let made = got.iter().filter(|g| g.status == 201).count();
        let refused = got.iter().filter(|g| g.body["code"] == "quota_exceeded").count();
        assert_eq!((made, refused), (1, 49), "{path}");
    }
    let many = (0..20).map(|n| {
        owner.post("/api/invitations", json!({"email": format!("p{n}@x.test"), "role": "VIEWER"}))
    });
    let made = futures::future::join_all(many).await.iter().filter(|g| g.status == 201).count();
    assert_eq!(made, 1);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_suspended_tenant_looks_and_changes_nothing_with_all_below_it() {
    let app = spawn().await;
    let reseller = app.member_kind("frozen", "reseller").await;
    let child = json!({"name": "child", "kind": "customer"});
    let child = reseller.post("/api/tenants", child).await.data(201)["id"].clone();
    let below = app.member_of(child.as_str().unwrap(), "below", "OWNER").await;
    let path = format!("/api/tenants/{}", reseller.tenant);
    let why = json!({"reason": "unpaid"});
    reseller.post(&format!("{path}/suspend"), why.clone()).await.refused(403, "forbidden");
    below.post(&format!("{path}/suspend"), why.clone()).await.refused(404, "not_found");
    app.owner.post(&format!("{path}/suspend"), why).await.data(200);
    for (name, new) in [("frozen-owner", &reseller), ("below-owner", &below)] {
        new.get("/api/users").await.refused(401, "token_expired");
        let client = Client::login(&app.url, &format!("{name}@customer.test")).await;
        client.get("/api/users").await.data(200);
        let key = json!({"name": "k", "role": "VIEWER"});
        client.post("/api/api-keys", key).await.refused(403, "tenant_suspended");
        patch(&client, "/api/me", json!({"name": "still mine"})).await.data(200);
    }
    app.owner.post(&format!("{path}/resume"), json!({})).await.data(200);
    let below = Client::login(&app.url, "below-owner@customer.test").await;
    below.post("/api/api-keys", json!({"name": "k", "role": "VIEWER"})).await.data(201);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn keys_are_narrowed_by_network_end_and_what_their_maker_may_now() {
    let app = spawn().await;
    let owner = app.member("keys", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "keys", "ADMIN").await;
    let make = async |body: Value| {
        let key = admin.post("/api/api-keys", body).await.data(201);
        (app.anonymous().with_token(key["key"].as_str().unwrap()), key["id"].clone())
    };
    admin
        .post("/api/api-keys", json!({"name": "k", "role": "OWNER"}))
        .await
        .refused(403, "forbidden");
    for wrong in [
        json!({"name": "k", "role": "ADMIN", "scopes": ["everything"]}),
        json!({"name": "k", "role": "ADMIN", "addresses": ["somewhere"]}),
        json!({"name": "k", "role": "ADMIN", "expires_at": "2020-01-01T00:00:00Z"}),
    ] {
        admin.post("/api/api-keys", wrong).await.refused(400, "invalid_request");
    }
    let (elsewhere, _) =
        make(json!({"name": "k", "role": "ADMIN", "addresses": ["192.0.2.0/24"]})).await;
    elsewhere.get("/api/users").await.refused(403, "forbidden");
    let (here, id) = make(json!({"name": "k", "role": "ADMIN", "addresses": ["127.0.0.1"]})).await;
    assert_eq!(here.get("/api/me").await.data(200)["api_key_id"], id);
    here.post("/api/auth/logout", json!({})).await.refused(403, "forbidden");
    here.post("/api/api-keys", json!({"name": "k", "role": "VIEWER"}))
        .await
        .refused(403, "forbidden");
    let shown = admin.get(&format!("/api/api-keys/{}", id.as_str().unwrap())).await.data(200);
    assert!(shown["last_used_at"].is_string() && shown.get("key").is_none());
    // Never above what its maker may now.
    let demote = json!({"role": "VIEWER"});
    patch(&owner, &format!("/api/users/{}", id_of(&admin).await), demote).await.data(200);
    here.get("/api/users").await.refused(403, "forbidden");
    app.db.execute("UPDATE api_key SET expires_at = now()").await.unwrap();
    here.get("/api/me").await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn acting_as_somebody_else_is_for_a_time_and_marked_on_every_entry() {
    let app = spawn().await;
    let owner = app.member("acted", "OWNER").await;
    let id = id_of(&owner).await;
    let body =
        json!({"tenant_id": owner.tenant, "user_id": id, "minutes": 5, "reason": "ticket 17"});
    owner.post("/api/impersonations", body.clone()).await.refused(403, "forbidden");
    let begun = app.owner.post("/api/impersonations", body).await.data(201);
    let acting = app.anonymous().with_token(begun["access_token"].as_str().unwrap());
    let me = acting.get("/api/me").await.data(200);
    let staff = id_of(&app.owner).await;
    assert_eq!((&me["user"]["id"], &me["impersonator_id"]), (&json!(id), &json!(staff)));
    acting.post("/api/invitations", json!({"email": "a@b.test", "role": "VIEWER"})).await.data(201);
    for (path, body) in [
        ("/api/auth/mfa/setup", json!({ "password": PASSWORD })),
        ("/api/api-keys", json!({"name": "k", "role": "VIEWER"})),
        ("/api/auth/switch-tenant", json!({"tenant_id": owner.tenant})),
    ] {
        acting.post(path, body).await.refused(403, "forbidden");
    }
    let entries = owner.get("/api/audit?limit=50").await.data(200);
    let find = |kind: &str| {
        let all = entries.as_array().unwrap();
        all.iter().find(|e| e["kind"] == kind).unwrap_or_else(|| panic!("{kind}")).clone()
    };
    assert_eq!(find("IMPERSONATION_STARTED")["data"]["reason"], "ticket 17");
    let marked = find("INVITATION_CREATED");
    assert!(marked.to_string().contains(&staff), "{marked}");
    let path = format!("/api/impersonations/{}", begun["id"].as_str().unwrap());
    delete(&owner, &path).await.refused(404, "not_found");
    delete(&app.owner, &path).await.data(200);
    acting.get("/api/me").await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}
