use crate::app::{App, Client, PASSWORD, TOKEN_KEYS, edge, spawn, spawn_with};
use entities::config::{self, Edge};
use entities::ids::LinkId;
use entities::mail::Letter;
use entities::secrets::{Purpose, SecretKeys};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use totp_rs::{Algorithm, Secret, TOTP};

/// The secret part of a mailed link, as the notifier derives it.
pub fn token_of(link: LinkId) -> String {
    let keys = SecretKeys::parse(&SecretString::from(TOKEN_KEYS)).unwrap();
    keys.issue(Purpose::Link, link.0).unwrap()
}

async fn last_letter(app: &App, to: &str) -> Letter {
    app.db.letters(to).await.unwrap().pop().unwrap()
}

async fn log_in(app: &App, body: Value) -> crate::app::Got {
    app.anonymous().post("/api/auth/login", body).await
}

#[tokio::test]
async fn a_login_gives_tokens_that_work_and_a_wrong_one_tells_nothing() {
    let app = spawn().await;
    let nobody = app.anonymous();
    let wrong = json!({"email": "owner@platform.test", "password": "wrong password"});
    let wrong = nobody.post("/api/auth/login", wrong).await.refused(401, "invalid_credentials");
    let unknown = json!({"email": "nobody@platform.test", "password": PASSWORD});
    let unknown = nobody.post("/api/auth/login", unknown).await.refused(401, "invalid_credentials");
    assert_eq!(wrong["error"], unknown["error"]);
    let me = app.owner.get("/api/me").await.data(200);
    assert_eq!(me["tenant"]["kind"], "platform");
    nobody.get("/api/me").await.refused(401, "unauthenticated");
    nobody.with_token("a.b.c").get("/api/me").await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_an_old_one_ends_the_family() {
    let app = spawn().await;
    let nobody = app.anonymous();
    let login = json!({"email": "owner@platform.test", "password": PASSWORD});
    let begun = nobody.post("/api/auth/login", login).await.data(200);
    let access = nobody.with_token(begun["access_token"].as_str().unwrap());
    let first = begun["refresh_token"].clone();
    let refresh = |token: &Value| {
        let body = json!({ "refresh_token": token });
        let nobody = nobody.clone();
        async move { nobody.post("/api/auth/refresh", body).await }
    };
    let second = refresh(&first).await.data(200)["refresh_token"].clone();
    assert_ne!(first, second);
    // Two tabs refresh at once: both get the same successor.
    assert_eq!(refresh(&first).await.data(200)["refresh_token"], second);
    let third = refresh(&second).await.data(200)["refresh_token"].clone();
    access.get("/api/me").await.data(200);
    // Two generations old: somebody has a copy.
    refresh(&first).await.refused(401, "refresh_invalid");
    refresh(&third).await.refused(401, "refresh_invalid");
    access.get("/api/me").await.refused(401, "unauthenticated");
    let mut forged = third.as_str().unwrap().to_owned();
    forged.replace_range(30..31, if forged.as_bytes()[30] == b'A' { "B" } else { "A" });
    refresh(&json!(forged)).await.refused(401, "refresh_invalid");
    refresh(&json!("0123456789abcdef0123456789abcdef")).await.refused(401, "refresh_invalid");
    let kinds = app.db.audit_kinds().await.unwrap();
    assert!(kinds.contains(&"REFRESH_TOKEN_REUSED".to_owned()), "{kinds:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_grace_of_an_old_refresh_token_ends() {
    let app = spawn().await;
    let login = json!({"email": "owner@platform.test", "password": PASSWORD});
    let first = log_in(&app, login).await.data(200)["refresh_token"].clone();
    let body = json!({ "refresh_token": first });
    app.anonymous().post("/api/auth/refresh", body.clone()).await.data(200);
    app.db.execute("UPDATE session SET rotated_at = now() - interval '11 seconds'").await.unwrap();
    app.anonymous().post("/api/auth/refresh", body).await.refused(401, "refresh_invalid");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn logging_out_and_a_new_password_end_access_at_once() {
    let app = spawn().await;
    let member = app.member("ends", "OWNER").await;
    let email = "ends-owner@customer.test";
    let other = Client::login(&app.url, email).await;
    member.post("/api/auth/logout", json!({})).await.data(200);
    member.get("/api/me").await.refused(401, "unauthenticated");
    other.get("/api/me").await.data(200);
    let third = Client::login(&app.url, email).await;
    let change = |old: &str, new: &str| json!({"current_password": old, "new_password": new});
    let path = "/api/auth/change-password";
    let wrong = other.post(path, change("wrong", "another fine one 2")).await;
    wrong.refused(400, "invalid_request");
    let weak = other.post(path, change(PASSWORD, "password1")).await;
    assert_eq!(weak.refused(400, "invalid_request")["fields"][0]["path"], "/new_password");
    let long = other.post(path, change(PASSWORD, &"x1 y2 ".repeat(13))).await;
    long.refused(400, "invalid_request");
    let new = other.post(path, change(PASSWORD, "another fine one 2")).await.data(200);
    for old in [&other, &third] {
        old.get("/api/me").await.refused(401, "unauthenticated");
    }
    other.with_token(new["access_token"].as_str().unwrap()).get("/api/me").await.data(200);
    log_in(&app, json!({"email": email, "password": PASSWORD}))
        .await
        .refused(401, "invalid_credentials");
    assert_eq!(last_letter(&app, email).await, Letter::PasswordChanged);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_owner_only() {
    let app = spawn().await;
    let mine = app.member("sessions", "OWNER").await;
    let other = Client::login(&app.url, "sessions-owner@customer.test").await;
    let list = mine.get("/api/auth/sessions").await.data(200);
    let find = |current: bool| {
        let all = list.as_array().unwrap();
        let found = all.iter().find(|s| s["current"] == current).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(list.as_array().unwrap().len(), 2);
    let path = format!("/api/auth/sessions/{}", find(false));
    app.owner.send(Method::DELETE, &path, None).await.refused(404, "not_found");
    mine.send(Method::DELETE, &path, None).await.data(200);
    other.get("/api/me").await.refused(401, "unauthenticated");
    let keep = "/api/auth/sessions?keep_current=true";
    Client::login(&app.url, "sessions-owner@customer.test").await;
    assert_eq!(mine.send(Method::DELETE, keep, None).await.data(200)["ended"], 1);
    mine.get("/api/me").await.data(200);
    mine.send(Method::DELETE, "/api/auth/sessions", None).await.data(200);
    mine.get("/api/me").await.refused(401, "unauthenticated");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn whoever_registers_proves_the_address_first() {
    let app = spawn().await;
    let nobody = app.anonymous();
    let new = json!({"email": "Jane@Shop.Test", "password": "a quiet river 7", "name": "Jane Roe"});
    nobody.post("/api/auth/register", new.clone()).await.data(202);
    let login = json!({"email": "jane@shop.test", "password": "a quiet river 7"});
    log_in(&app, login.clone()).await.refused(403, "email_unverified");
    let Letter::VerifyEmail { link } = last_letter(&app, "jane@shop.test").await else { panic!() };
    let again = json!({"email": "jane@shop.test"});
    nobody.post("/api/auth/resend-verification", again).await.data(202);
    let Letter::VerifyEmail { link: newer } = last_letter(&app, "jane@shop.test").await else {
        panic!()
    };
    let verify = |link| json!({ "token": token_of(link) });
    // A newer link makes the older one worthless, and none works twice or for anything else.
    nobody.post("/api/auth/verify-email", verify(link)).await.refused(400, "link_invalid");
    let reset = json!({"token": token_of(newer), "password": "stolen words 9"});
    nobody.post("/api/auth/reset-password", reset).await.refused(400, "link_invalid");
    nobody.post("/api/auth/verify-email", verify(newer)).await.data(200);
    nobody.post("/api/auth/verify-email", verify(newer)).await.refused(400, "link_invalid");
    let tokens = log_in(&app, login).await.data(200);
    assert_eq!(tokens["user"]["role"], "OWNER");
    assert_eq!(tokens["tenant"]["name"], "Jane Roe");
    // Who has a login already is told by mail; the caller hears the same.
    nobody.post("/api/auth/register", new).await.data(202);
    assert_eq!(last_letter(&app, "jane@shop.test").await, Letter::AccountExists);
    for (password, name) in [("short", "J"), ("new@shop.test", "J"), ("Jane Roe 1", "Jane Roe")] {
        let weak = json!({"email": "new@shop.test", "password": password, "name": name});
        nobody.post("/api/auth/register", weak).await.refused(400, "invalid_request");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn who_registers_an_address_at_once_with_others_hears_the_same() {
    let app = spawn().await;
    let new = json!({"email": "twin@shop.test", "password": "a quiet river 7", "name": "Jane Roe"});
    let nobody = app.anonymous();
    let register = || nobody.post("/api/auth/register", new.clone());
    // All have looked whether the address is known before the first can take it.
    let hold = "BEGIN; LOCK TABLE app_user IN SHARE MODE; SELECT pg_sleep(4); COMMIT";
    let (held, a, b, c) = tokio::join!(app.db.execute(hold), register(), register(), register());
    held.unwrap();
    for got in [a, b, c] {
        got.data(202);
    }
    let letters = app.db.letters("twin@shop.test").await.unwrap();
    let new = letters.iter().filter(|l| matches!(l, Letter::VerifyEmail { .. })).count();
    assert_eq!((letters.len(), new), (3, 1), "{letters:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_by_mail() {
    let app = spawn().await;
    let member = app.member("forgot", "OWNER").await;
    let email = "forgot-owner@customer.test";
    let nobody = app.anonymous();
    nobody.post("/api/auth/forgot-password", json!({"email": "nobody@x.test"})).await.data(202);
    assert!(app.db.letters("nobody@x.test").await.unwrap().is_empty());
    nobody.post("/api/auth/forgot-password", json!({ "email": email })).await.data(202);
    let Letter::ResetPassword { link } = last_letter(&app, email).await else { panic!() };
    let reset = |password: &str| json!({"token": token_of(link), "password": password});
    // A weak one does not use the link up.
    nobody
        .post("/api/auth/reset-password", reset("12345678"))
        .await
        .refused(400, "invalid_request");
    nobody.post("/api/auth/reset-password", reset("seven green boats")).await.data(200);
    nobody
        .post("/api/auth/reset-password", reset("seven more boats"))
        .await
        .refused(400, "link_invalid");
    member.get("/api/me").await.refused(401, "unauthenticated");
    log_in(&app, json!({"email": email, "password": "seven green boats"})).await.data(200);
    nobody.post("/api/auth/forgot-password", json!({ "email": email })).await.data(202);
    let Letter::ResetPassword { link } = last_letter(&app, email).await else { panic!() };
    app.db.execute("UPDATE link SET expires_at = now()").await.unwrap();
    let late = json!({"token": token_of(link), "password": "too late for this"});
    nobody.post("/api/auth/reset-password", late).await.refused(400, "link_invalid");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_time_does_not_tell_whose_address_it_is() {
    let app = spawn().await;
    for path in ["/api/auth/forgot-password", "/api/auth/resend-verification"] {
        for email in ["owner@platform.test", "nobody@x.test"] {
            let start = std::time::Instant::now();
            app.anonymous().post(path, json!({ "email": email })).await.data(202);
            // Longer than what is written for somebody who is there.
            assert!(start.elapsed().as_millis() >= 200, "{path} {email}: {:?}", start.elapsed());
        }
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_address_changes_once_the_new_one_is_proved() {
    let app = spawn().await;
    let member = app.member("moves", "OWNER").await;
    let ask = |email: &str| json!({"password": PASSWORD, "email": email});
    let path = "/api/auth/change-email";
    member.post(path, ask("owner@platform.test")).await.data(202);
    assert_eq!(last_letter(&app, "owner@platform.test").await, Letter::AccountExists);
    member.post(path, ask("new@customer.test")).await.data(202);
    let Letter::ChangeEmail { link } = last_letter(&app, "new@customer.test").await else {
        panic!()
    };
    assert_eq!(member.get("/api/me").await.data(200)["user"]["email"], "moves-owner@customer.test");
    let confirm = json!({ "token": token_of(link) });
    app.anonymous().post("/api/auth/confirm-email", confirm.clone()).await.data(200);
    app.anonymous().post("/api/auth/confirm-email", confirm).await.refused(400, "link_invalid");
    log_in(&app, json!({"email": "new@customer.test", "password": PASSWORD})).await.data(200);
    let told = last_letter(&app, "moves-owner@customer.test").await;
    assert_eq!(told, Letter::EmailChanged { to: "new@customer.test".into() });
    app.db.remove().await.unwrap();
}

pub fn code(secret: &str, steps: i64) -> String {
    let bytes = Secret::Encoded(secret.to_owned()).to_bytes().unwrap();
    let totp = TOTP::new(Algorithm::SHA1, 6, 1, 30, bytes, None, "x".to_owned()).unwrap();
    let now = chrono::Utc::now().timestamp() + steps * 30;
    totp.generate(now.try_into().unwrap())
}

/// Waits until the oldest code that is taken stays so for a while: it is not to be too old on its way.
pub async fn early_in_a_step() {
    while chrono::Utc::now().timestamp() % 30 > 20 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_second_factor_is_asked_for_and_each_code_works_once() {
    let app = spawn().await;
    let member = app.member("mfa", "OWNER").await;
    let setup = member.post("/api/auth/mfa/setup", json!({ "password": PASSWORD })).await.data(200);
    assert!(setup["otpauth_url"].as_str().unwrap().starts_with("otpauth://totp/MigraPanel"));
    let secret = setup["secret"].as_str().unwrap();
    let enable = "/api/auth/mfa/enable";
    member.post(enable, json!({"code": "000000"})).await.refused(400, "invalid_request");
    early_in_a_step().await;
    let shown = code(secret, -1);
    let codes = member.post(enable, json!({ "code": shown })).await.data(200);
    let codes = codes["recovery_codes"].as_array().unwrap().clone();
    assert_eq!(codes.len(), 10);
    // The token from before says that there is no factor: it is refreshed.
    member.get("/api/me").await.refused(401, "token_expired");
    let login = |more: Value| {
        let mut body = json!({"email": "mfa-owner@customer.test", "password": PASSWORD});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    log_in(&app, login(json!({}))).await.refused(401, "mfa_required");
    log_in(&app, login(json!({ "code": shown }))).await.refused(401, "invalid_credentials");
    let now = code(secret, 0);
    let both = tokio::join!(
        log_in(&app, login(json!({ "code": now }))),
        log_in(&app, login(json!({ "code": now }))),
    );
    let worked = [&both.0, &both.1].iter().filter(|got| got.status == 200).count();
    assert_eq!(worked, 1, "{} {}", both.0.body, both.1.body);
    let recovery = login(json!({ "recovery_code": codes[0].as_str().unwrap().to_uppercase() }));
    let tokens = log_in(&app, recovery.clone()).await.data(200);
    log_in(&app, recovery).await.refused(401, "invalid_credentials");
    let member = member.with_token(tokens["access_token"].as_str().unwrap());
    let proof = json!({"password": PASSWORD, "recovery_code": codes[1]});
    member.post("/api/auth/mfa/disable", proof).await.data(200);
    log_in(&app, login(json!({}))).await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_tenant_that_wants_a_second_factor_gives_nothing_without_one() {
    let app = spawn().await;
    let member = app.member("strict", "OWNER").await;
    let path = format!("/api/tenants/{}", member.tenant);
    let want = json!({"require_mfa": true}).to_string();
    member.send(Method::PATCH, &path, Some(want)).await.data(200);
    member.get("/api/users").await.refused(401, "token_expired");
    let member = Client::login(&app.url, "strict-owner@customer.test").await;
    member.get("/api/users").await.refused(403, "mfa_setup_required");
    member.get("/api/me").await.data(200);
    let setup = member.post("/api/auth/mfa/setup", json!({ "password": PASSWORD })).await.data(200);
    let code = code(setup["secret"].as_str().unwrap(), 0);
    member.post("/api/auth/mfa/enable", json!({ "code": code })).await.data(200);
    member.get("/api/users").await.refused(401, "token_expired");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn many_wrong_passwords_lock_strangers_out_and_not_the_owners_device() {
    let app = spawn().await;
    app.member("locked", "OWNER").await;
    for email in ["locked-owner@customer.test", "nobody-at-all@customer.test"] {
        let good = json!({"email": email, "password": PASSWORD});
        let device = log_in(&app, good.clone()).await.body["data"]["device_token"].clone();
        let wrong = json!({"email": email, "password": "wrong wrong"});
        // Whoever does not exist has failed once already. Another spelling is the same account.
        for nth in 0..if device.is_null() { 8 } else { 9 } {
            let spelt = ["", ".", "\u{200b}"].map(|end| format!("{email}{end}"));
            let spelt = json!({"email": spelt[nth % 3], "password": "wrong wrong"});
            log_in(&app, spelt).await.refused(401, "invalid_credentials");
            app.forget_addresses().await;
        }
        log_in(&app, wrong.clone()).await.refused(401, "invalid_credentials");
        let refused = log_in(&app, good.clone()).await;
        assert!(refused.retry_after.is_some_and(|secs| (50..=60).contains(&secs)));
        refused.refused(429, "account_locked");
        if device.is_null() {
            continue;
        }
        let mut known = good.clone();
        known["device_token"] = device;
        log_in(&app, known).await.data(200);
        log_in(&app, good.clone()).await.refused(429, "account_locked");
        app.anonymous()
            .post("/api/auth/forgot-password", json!({ "email": email }))
            .await
            .data(202);
        let Letter::ResetPassword { link } = last_letter(&app, email).await else { panic!() };
        let reset = json!({"token": token_of(link), "password": "seven green boats"});
        app.anonymous().post("/api/auth/reset-password", reset).await.data(200);
        log_in(&app, json!({"email": email, "password": "seven green boats"})).await.data(200);
    }
    let letters = app.db.letters("locked-owner@customer.test").await.unwrap();
    assert!(letters.contains(&Letter::AccountLocked));
    let kinds = app.db.audit_kinds().await.unwrap();
    assert!(kinds.contains(&"ACCOUNT_LOCKED".to_owned()), "{kinds:?}");
    app.db.remove().await.unwrap();
}

/// Wrong passwords for one account, side by side, each from an address of its own: how many were
/// compared, and the longest that anybody is told to wait.
async fn overrun(app: &App, email: &str, tries: usize) -> (usize, u64) {
    let tries = (0..tries).map(|nth| {
        let stranger = app.anonymous().with_header("x-forwarded-for", &format!("198.51.100.{nth}"));
        let body = json!({"email": email, "password": "wrong wrong"});
        async move { stranger.post("/api/auth/login", body).await }
    });
    let (mut compared, mut wait) = (0, 0);
    for got in futures::future::join_all(tries).await {
        if got.status == 401 {
            compared += 1;
            continue;
        }
        wait = wait.max(got.retry_after.unwrap());
        got.refused(429, "account_locked");
    }
    (compared, wait)
}

#[tokio::test]
async fn side_by_side_no_more_passwords_are_tried_than_one_after_the_other() {
    let edge = Edge { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..edge() };
    let app = spawn_with(edge, config::secret("TEST_REDIS_URL").unwrap()).await;
    app.member("overrun", "OWNER").await;
    let email = "overrun-owner@customer.test";
    let (compared, wait) = overrun(&app, email, 60).await;
    assert_eq!(compared, 10);
    assert!((50..=60).contains(&wait), "{wait}");
    let told = async || {
        let letters = app.db.letters(email).await.unwrap();
        letters.into_iter().filter(|letter| *letter == Letter::AccountLocked).count()
    };
    assert_eq!(told().await, 1);
    // The lock ends: one more may be tried, and it locks one step longer.
    let mut redis = app.state.redis().await.unwrap();
    let key = hex::encode(Sha256::digest(email.as_bytes()));
    let key = app.state.redis_key(&format!("login:anybody:{key}"));
    let mut end = redis::cmd("HDEL");
    end.arg(key).arg("until").query_async::<()>(&mut redis).await.unwrap();
    let (compared, wait) = overrun(&app, email, 20).await;
    assert_eq!(compared, 1);
    assert!((110..=120).contains(&wait), "{wait}");
    assert_eq!(told().await, 2);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_password_that_was_not_wrong_is_no_failure() {
    let app = spawn().await;
    let new = json!({"email": "jane@late.test", "password": "a quiet river 7", "name": "Jane Roe"});
    app.anonymous().post("/api/auth/register", new).await.data(202);
    let login = json!({"email": "jane@late.test", "password": "a quiet river 7"});
    for _ in 0..12 {
        log_in(&app, login.clone()).await.refused(403, "email_unverified");
        app.forget_addresses().await;
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_hash_of_the_old_system_is_replaced_at_the_first_login() {
    const OLD: &str = "pbkdf2_sha512$100000$00112233445566778899aabbccddeeff$6cbed59f582390f4e8aae45c04c545a3f95598ec9077408dd6731403cbae2a4b94a0fecf44d62f91c69bc8d49b0fd2052c692181e56aea80ab40d5ecd2ef7c26";
    let app = spawn().await;
    let email = "old@platform.test";
    entities::accounts::bootstrap_platform(&app.db.db, "Platform", email, OLD.to_owned())
        .await
        .unwrap();
    let wrong = json!({"email": email, "password": "correct horse battery stapler"});
    log_in(&app, wrong).await.refused(401, "invalid_credentials");
    let right = json!({"email": email, "password": "correct horse battery staple"});
    // Whoever comes while another login replaces the hash is let in by the new one.
    let three = (right.clone(), right.clone(), right.clone());
    let three = tokio::join!(log_in(&app, three.0), log_in(&app, three.1), log_in(&app, three.2));
    for got in [three.0, three.1, three.2] {
        got.data(200);
    }
    log_in(&app, right).await.data(200);
    let kinds = app.db.audit_kinds().await.unwrap();
    let migrated = kinds.iter().filter(|k| *k == "PASSWORD_HASH_MIGRATED").count();
    assert_eq!(migrated, 1);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn bodies_that_cannot_be_read_name_what_is_wrong() {
    let app = spawn().await;
    let send = |body: &str| {
        let (nobody, body) = (app.anonymous(), body.to_owned());
        async move { nobody.send(reqwest::Method::POST, "/api/auth/login", Some(body)).await }
    };
    send("{").await.refused(400, "invalid_request");
    let unknown = r#"{"email": "a@b.test", "password": "x", "extra": 1}"#;
    let named = send(unknown).await.refused(400, "invalid_request");
    assert_eq!(named["fields"][0]["path"], "/extra");
    let named = send(r#"{"email": "a@b.test"}"#).await.refused(400, "invalid_request");
    assert_eq!(named["fields"][0]["path"], "/password");
    let named = send(r#"{"email": 5, "password": "x"}"#).await.refused(400, "invalid_request");
    assert_eq!(named["fields"][0]["path"], "/email");
    let named = send(r#"{"email": "", "password": "x"}"#).await.refused(400, "invalid_request");
    assert_eq!(named["fields"][0]["path"], "/email");
    let large = format!(r#"{{"email": "{}"}}"#, "x".repeat(300 << 10));
    send(&large).await.refused(413, "payload_too_large");
    send(r#"{"email": "a\u0000@b.test", "password": "x"}"#)
        .await
        .refused(401, "invalid_credentials");
    for name in ["a\u{0}b", "  ", "moc.knab\u{202e}"] {
        let named = serde_json::json!({ "name": name, "kind": "customer" });
        app.owner.post("/api/tenants", named).await.refused(400, "invalid_request");
    }
    app.anonymous().get("/api/nothing").await.refused(404, "route_not_found");
    app.owner.get("/api/servers/nothing").await.refused(404, "not_found");
    app.db.remove().await.unwrap();
}
