//! Rights that somebody tries to take, or to keep when they were taken away: strangers' addresses,
//! logins that are under way, what outlives whoever began it.

use crate::app::{App, Client, PASSWORD, spawn};
use crate::auth::token_of;
use entities::ids::LinkId;
use entities::mail::Letter;
use reqwest::Method;
use serde_json::{Value, json};

async fn last(app: &App, to: &str) -> Letter {
    app.db.letters(to).await.unwrap().pop().unwrap()
}

async fn invitation(app: &App, to: &str) -> LinkId {
    match last(app, to).await {
        Letter::Invitation { link, .. } => link,
        other => panic!("{other:?}"),
    }
}

async fn me(client: &Client) -> String {
    client.get("/api/me").await.data(200)["user"]["id"].as_str().unwrap().to_owned()
}

const GRABBED: &str = "two grey herons";

#[tokio::test]
async fn an_address_belongs_to_whoever_reads_its_letters() {
    let app = spawn().await;
    let thief = app.member_kind("thief", "reseller").await;
    let corp = app.member("corp", "OWNER").await;
    let login = |email: &str, password: &str| {
        let (app, body) = (app.anonymous(), json!({"email": email, "password": password}));
        async move { app.post("/api/auth/login", body).await }
    };
    // Once as a member of a tenant of one's own, once by registering.
    let path = format!("/api/tenants/{}/members", thief.tenant);
    let body = json!({"email": "ceo@big.test", "password": GRABBED, "role": "OWNER"});
    let made = thief.post(&path, body).await.data(201);
    assert_eq!(made["email_verified"], false);
    assert!(matches!(last(&app, "ceo@big.test").await, Letter::VerifyEmail { .. }));
    let body = json!({"email": "cfo@big.test", "password": GRABBED, "name": "Thief"});
    app.anonymous().post("/api/auth/register", body).await.data(202);
    for email in ["ceo@big.test", "cfo@big.test"] {
        login(email, GRABBED).await.refused(403, "email_unverified");
        corp.post("/api/invitations", json!({"email": email, "role": "ADMIN"})).await.data(201);
        let token = token_of(invitation(&app, email).await);
        let nobody = app.anonymous();
        // The password that is there already counts for nothing: one has to be chosen.
        let bare = json!({ "token": token });
        nobody.post("/api/invitations/accept", bare).await.refused(400, "invalid_request");
        let body = json!({"token": token, "password": PASSWORD, "name": "Right One"});
        nobody.post("/api/invitations/accept", body).await.data(200);
        login(email, GRABBED).await.refused(401, "invalid_credentials");
        let right = Client::login(&app.url, email).await;
        right.post("/api/auth/switch-tenant", json!({"tenant_id": corp.tenant})).await.data(200);
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_a_thief_has_asked_for_ends_with_the_password() {
    let app = spawn().await;
    let owner = app.member("robbed", "OWNER").await;
    let email = "robbed-owner@customer.test";
    let new = json!({"email": "thief@evil.test", "password": PASSWORD});
    owner.post("/api/auth/change-email", new).await.data(202);
    let Letter::ChangeEmail { link: change } = last(&app, "thief@evil.test").await else {
        panic!()
    };
    app.anonymous().post("/api/auth/forgot-password", json!({ "email": email })).await.data(202);
    let Letter::ResetPassword { link: reset } = last(&app, email).await else { panic!() };
    let body = json!({"current_password": PASSWORD, "new_password": GRABBED});
    owner.post("/api/auth/change-password", body).await.data(200);
    let nobody = app.anonymous();
    let confirm = json!({ "token": token_of(change) });
    nobody.post("/api/auth/confirm-email", confirm).await.refused(400, "link_invalid");
    let set = json!({"token": token_of(reset), "password": "three green boats"});
    nobody.post("/api/auth/reset-password", set).await.refused(400, "link_invalid");
    app.db.remove().await.unwrap();
}

/// A role is taken away while its owner logs in and refreshes: whatever token comes out of it either
/// says the new role, or is void.
#[tokio::test]
async fn a_login_under_way_keeps_nothing_that_is_taken_away() {
    let app = spawn().await;
    let owner = app.member("demoting", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "demoting", "ADMIN").await;
    let path = format!("/api/users/{}", me(&admin).await);
    let role = |role: &str| json!({ "role": role }).to_string();
    let credentials = json!({"email": "demoting-admin@customer.test", "password": PASSWORD});
    for round in 0..6 {
        owner.send(Method::PATCH, &path, Some(role("ADMIN"))).await.data(200);
        let begun = app.anonymous().post("/api/auth/login", credentials.clone()).await.data(200);
        let mut tries = Vec::new();
        for nth in 0..4 {
            let nobody = app.anonymous();
            let (at, body) = if nth == 0 {
                ("/api/auth/login", credentials.clone())
            } else {
                ("/api/auth/refresh", json!({"refresh_token": begun["refresh_token"]}))
            };
            tries.push(tokio::spawn(async move { nobody.post(at, body).await }));
        }
        // Each round at another moment of the login.
        tokio::time::sleep(std::time::Duration::from_millis(round * 60)).await;
        owner.send(Method::PATCH, &path, Some(role("VIEWER"))).await.data(200);
        for tried in tries {
            let got = tried.await.unwrap();
            if got.status != 200 {
                continue;
            }
            let token = got.data(200)["access_token"].as_str().unwrap().to_owned();
            let listed = app.anonymous().with_token(&token).get("/api/audit").await;
            assert!([401, 403].contains(&listed.status.as_u16()), "{round}: {}", listed.body);
        }
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn who_acts_as_somebody_else_ends_with_their_own_right_to() {
    let app = spawn().await;
    let victim = app.member("acted-as", "OWNER").await;
    let user = me(&victim).await;
    let platform = app.owner.tenant.clone();
    for how in ["logged out", "demoted", "removed"] {
        let staff = app.member_of(&platform, &how.replace(' ', "-"), "OWNER").await;
        let id = me(&staff).await;
        let body = json!({"tenant_id": victim.tenant, "user_id": user, "minutes": 5, "reason": "ticket 17"});
        let begun = staff.post("/api/impersonations", body).await.data(201);
        let acting = app.anonymous().with_token(begun["access_token"].as_str().unwrap());
        acting.get("/api/me").await.data(200);
        // It throws nobody out, and leaves the person's own to the person.
        let rename = json!({"name": "x"}).to_string();
        acting.send(Method::PATCH, "/api/me", Some(rename)).await.refused(403, "forbidden");
        let ends = acting.send(Method::DELETE, "/api/auth/sessions", None).await;
        ends.refused(403, "forbidden");
        let path = format!("/api/users/{id}");
        match how {
            "logged out" => staff.post("/api/auth/logout", json!({})).await.data(200),
            "demoted" => {
                let viewer = json!({"role": "VIEWER"}).to_string();
                app.owner.send(Method::PATCH, &path, Some(viewer)).await.data(200)
            }
            _ => app.owner.send(Method::DELETE, &path, None).await.data(200),
        };
        let got = acting.get("/api/me").await;
        assert_eq!(got.status, 401, "{how}: {}", got.body);
    }
    victim.get("/api/me").await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_somebody_above_has_done_is_undone_from_above() {
    let app = spawn().await;
    let reseller = app.member_kind("seller", "reseller").await;
    let child = json!({"name": "buyer", "kind": "customer"});
    let child = reseller.post("/api/tenants", child).await.data(201)["id"].clone();
    let path = format!("/api/tenants/{}", child.as_str().unwrap());
    let reason = json!({"reason": "abuse"});
    app.owner.post(&format!("{path}/suspend"), reason.clone()).await.data(200);
    reseller.post(&format!("{path}/resume"), json!({})).await.refused(403, "forbidden");
    reseller.post(&format!("{path}/suspend"), reason.clone()).await.refused(403, "forbidden");
    app.owner.post(&format!("{path}/resume"), json!({})).await.data(200);
    reseller.post(&format!("{path}/suspend"), reason).await.data(200);
    reseller.post(&format!("{path}/resume"), json!({})).await.data(200);
    let limit = async |who: &Client, members: u32| {
        let limits = json!({"limits": {"members": members}}).to_string();
        who.send(Method::PATCH, &path, Some(limits)).await
    };
    limit(&reseller, 20).await.data(200);
    limit(&app.owner, 5).await.data(200);
    limit(&reseller, 50).await.refused(403, "forbidden");
    // Nor by being quick.
    let (suspend, resume) = (format!("{path}/suspend"), format!("{path}/resume"));
    for _ in 0..5 {
        let (done, ..) = tokio::join!(
            app.owner.post(&suspend, json!({"reason": "abuse"})),
            reseller.post(&resume, json!({})),
            reseller.post(&resume, json!({})),
            reseller.post(&resume, json!({})),
        );
        done.data(200);
        let stands = app.owner.get(&path).await.data(200);
        assert!(stands["suspended_at"].is_string(), "{stands}");
        app.owner.post(&resume, json!({})).await.data(200);
    }
    // Whoever was removed leaves no door open behind them.
    let second = app.member_of(&reseller.tenant, "second", "OWNER").await;
    let guest = json!({"email": "me-again@evil.test", "role": "OWNER"});
    second.post("/api/invitations", guest).await.data(201);
    let link = invitation(&app, "me-again@evil.test").await;
    let gone = format!("/api/users/{}", me(&second).await);
    reseller.send(Method::DELETE, &gone, None).await.data(200);
    let body = json!({"token": token_of(link), "password": PASSWORD, "name": "x"});
    app.anonymous().post("/api/invitations/accept", body).await.refused(400, "link_invalid");
    // And it takes an ADMIN to act below one's own tenant.
    let member = app.member_of(&reseller.tenant, "looking", "BILLING").await;
    let below = member.acting_in(child.as_str().unwrap());
    below.get("/api/users").await.refused(403, "forbidden");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_mailbox_gets_a_few_letters_and_no_more() {
    let app = spawn().await;
    let owner = app.member("chatty", "OWNER").await;
    let invite =
        || owner.post("/api/invitations", json!({"email": "poor@soul.test", "role": "VIEWER"}));
    let mut refused = 0;
    for _ in 0..6 {
        refused += u32::from(invite().await.status == 429);
    }
    assert!(refused >= 3, "{refused}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_second_factor_is_neither_forced_upon_anybody_nor_guessed_and_a_lost_one_is_lifted() {
    let app = spawn().await;
    let owner = app.member("factor", "OWNER").await;
    // A token that was found does not lock its owner out.
    let wrong = json!({"password": "a wrong password"});
    owner.post("/api/auth/mfa/setup", wrong).await.refused(400, "invalid_request");
    let setup = json!({ "password": PASSWORD });
    let secret = owner.post("/api/auth/mfa/setup", setup).await.data(200)["secret"].clone();
    let code = crate::auth::code(secret.as_str().unwrap(), 0);
    owner.post("/api/auth/mfa/enable", json!({ "code": code })).await.data(200);
    let login = json!({"email": "factor-owner@customer.test", "password": PASSWORD});
    app.anonymous().post("/api/auth/login", login).await.refused(401, "mfa_required");
    let users = app.owner.acting_in(&owner.tenant).get("/api/users").await.data(200);
    let id = users[0]["id"].as_str().unwrap();
    assert_eq!(users[0]["mfa_enabled"], true);
    let lift = format!("/api/users/{id}/reset-mfa");
    let stranger = app.member("stranger", "OWNER").await;
    stranger.post(&lift, json!({})).await.refused(404, "not_found");
    app.owner.acting_in(&owner.tenant).post(&lift, json!({})).await.data(200);
    app.owner.acting_in(&owner.tenant).post(&lift, json!({})).await.refused(409, "conflict");
    owner.get("/api/me").await.refused(401, "unauthenticated");
    Client::login(&app.url, "factor-owner@customer.test").await;
    assert!(app.db.audit_kinds().await.unwrap().contains(&"MFA_RESET".to_owned()));
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn nobody_takes_what_stands_above_them() {
    let app = spawn().await;
    let owner = app.member("heights", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "heights", "ADMIN").await;
    let delete = async |who: &Client, path: &str| who.send(Method::DELETE, path, None).await;
    let high = json!({"name": "high", "role": "OWNER"});
    let high = owner.post("/api/api-keys", high).await.data(201)["id"].clone();
    let high = format!("/api/api-keys/{}", high.as_str().unwrap());
    delete(&admin, &high).await.refused(403, "forbidden");
    let guest = |role: &str| json!({"email": "guest@heights.test", "role": role});
    let open = owner.post("/api/invitations", guest("OWNER")).await.data(201)["id"].clone();
    let open = format!("/api/invitations/{}", open.as_str().unwrap());
    delete(&admin, &open).await.refused(403, "forbidden");
    admin.post("/api/invitations", guest("VIEWER")).await.refused(403, "forbidden");
    delete(&owner, &open).await.data(200);
    delete(&owner, &high).await.data(200);
    admin.post("/api/invitations", guest("VIEWER")).await.data(201);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_narrowed_key_makes_nobody_who_may_do_more() {
    let app = spawn().await;
    let owner = app.member_kind("narrow", "reseller").await;
    let child = json!({"name": "below", "kind": "customer"});
    let child = owner.post("/api/tenants", child).await.data(201)["id"].clone();
    let key = async |scopes: Value| {
        let body = json!({"name": "k", "role": "ADMIN", "scopes": scopes});
        let made = owner.post("/api/api-keys", body).await.data(201);
        app.anonymous().with_token(made["key"].as_str().unwrap())
    };
    let narrowed = key(json!(["members:read", "members:write"])).await;
    let free = key(json!([])).await;
    let person = |email: &str| json!({"email": email, "password": PASSWORD, "role": "ADMIN"});
    let own = format!("/api/tenants/{}/members", owner.tenant);
    let guest = json!({"email": "guest@narrow.test", "role": "ADMIN"});
    narrowed.post(&own, person("a@narrow.test")).await.refused(403, "forbidden");
    narrowed.post("/api/invitations", guest.clone()).await.refused(403, "forbidden");
    let member = app.member_of(&owner.tenant, "narrow", "VIEWER").await;
    let one = format!("/api/users/{}", me(&member).await);
    let role = json!({"role": "ADMIN"}).to_string();
    narrowed.send(Method::PATCH, &one, Some(role)).await.refused(403, "forbidden");
    narrowed.send(Method::DELETE, &one, None).await.data(200);
    // A reseller's software makes the people of its customers, and one without scopes anybody.
    let below = format!("/api/tenants/{}/members", child.as_str().unwrap());
    narrowed.post(&below, person("b@narrow.test")).await.data(201);
    free.post("/api/invitations", guest).await.data(201);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_a_key_has_invited_goes_with_whoever_made_the_key() {
    let app = spawn().await;
    let owner = app.member("backdoor", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "backdoor", "ADMIN").await;
    let key = admin.post("/api/api-keys", json!({"name": "k", "role": "ADMIN"})).await.data(201);
    let key = app.anonymous().with_token(key["key"].as_str().unwrap());
    let guest = json!({"email": "back@evil.test", "role": "ADMIN"});
    key.post("/api/invitations", guest).await.data(201);
    let link = invitation(&app, "back@evil.test").await;
    let one = format!("/api/users/{}", me(&admin).await);
    owner.send(Method::DELETE, &one, None).await.data(200);
    let body = json!({"token": token_of(link), "password": PASSWORD, "name": "x"});
    app.anonymous().post("/api/invitations/accept", body).await.refused(400, "link_invalid");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_key_is_no_way_around_the_second_factor() {
    let app = spawn().await;
    let owner = app.member("around", "OWNER").await;
    let key = json!({"name": "k", "role": "ADMIN"});
    let key = owner.post("/api/api-keys", key).await.data(201)["key"].clone();
    let key = app.anonymous().with_token(key.as_str().unwrap());
    key.get("/api/users").await.data(200);
    let path = format!("/api/tenants/{}", owner.tenant);
    let want = json!({"require_mfa": true}).to_string();
    owner.send(Method::PATCH, &path, Some(want)).await.data(200);
    key.get("/api/users").await.refused(403, "mfa_setup_required");
    let owner = Client::login(&app.url, "around-owner@customer.test").await;
    let setup = owner.post("/api/auth/mfa/setup", json!({ "password": PASSWORD })).await.data(200);
    let code = crate::auth::code(setup["secret"].as_str().unwrap(), 0);
    owner.post("/api/auth/mfa/enable", json!({ "code": code })).await.data(200);
    key.get("/api/users").await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_suspended_tenant_can_still_take_rights_away() {
    let app = spawn().await;
    let owner = app.member("halted", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "halted", "ADMIN").await;
    let leaked = admin.post("/api/api-keys", json!({"name": "leaked", "role": "ADMIN"})).await;
    let leaked = leaked.data(201);
    let other = admin.post("/api/api-keys", json!({"name": "other", "role": "ADMIN"})).await;
    other.data(201);
    let guest = json!({"email": "guest@halted.test", "role": "ADMIN"});
    let guest = owner.post("/api/invitations", guest).await.data(201);
    let late = json!({"email": "late@halted.test", "role": "OWNER"});
    owner.post("/api/invitations", late).await.data(201);
    let late = invitation(&app, "late@halted.test").await;
    let one = format!("/api/users/{}", me(&admin).await);
    let path = format!("/api/tenants/{}/suspend", owner.tenant);
    app.owner.post(&path, json!({"reason": "unpaid"})).await.data(200);
    let owner = Client::login(&app.url, "halted-owner@customer.test").await;
    for (kind, id) in [("api-keys", &leaked["id"]), ("invitations", &guest["id"])] {
        let path = format!("/api/{kind}/{}", id.as_str().unwrap());
        owner.send(Method::DELETE, &path, None).await.data(200);
    }
    owner.send(Method::DELETE, &one, None).await.data(200);
    let key = json!({"name": "k", "role": "VIEWER"});
    owner.post("/api/api-keys", key).await.refused(403, "tenant_suspended");
    let body = json!({"token": token_of(late), "password": PASSWORD, "name": "x"});
    let accept = "/api/invitations/accept";
    app.anonymous().post(accept, body).await.refused(403, "tenant_suspended");
    // Each key has an entry, whichever way it went.
    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "API_KEY_REVOKED").count(), 2);
    app.db.remove().await.unwrap();
}
