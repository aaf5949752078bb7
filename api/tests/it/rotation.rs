//! Keys are replaced while people are logged in: first the new one before the old one, then the new
//! one alone.

use crate::app::{App, Client, KEYS, PASSWORD, TOKEN_KEYS, spawn};
use crate::auth::{code, early_in_a_step, token_of};
use crate::program::{Process, program};
use entities::mail::Letter;
use entities::sealing::SealingKeys;
use entities::servers;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

const NEW_KEYS: &str = "next:fedcba9876543210fedcba9876543210";
const NEW_TOKEN_KEYS: &str = "next:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// Processes under the new key with the old one, and under the new one alone.
async fn processes(app: &App) -> (Process, Process) {
    let jwt = format!("{NEW_KEYS},{KEYS}");
    let tokens = format!("{NEW_TOKEN_KEYS},{TOKEN_KEYS}");
    (
        Process::start_with(app, &jwt, &tokens).await,
        Process::start_with(app, NEW_KEYS, NEW_TOKEN_KEYS).await,
    )
}

async fn log_in(client: &Client, body: Value) -> crate::app::Got {
    client.post("/api/auth/login", body).await
}

async fn refresh(client: &Client, token: &Value) -> crate::app::Got {
    client.post("/api/auth/refresh", json!({ "refresh_token": token })).await
}

/// The mailed link of a forgotten password.
async fn reset_link(app: &App, email: &str) -> String {
    app.anonymous().post("/api/auth/forgot-password", json!({ "email": email })).await.data(202);
    let Some(Letter::ResetPassword { link }) = app.db.letters(email).await.unwrap().pop() else {
        panic!("no letter")
    };
    token_of(link)
}

#[tokio::test]
async fn what_was_made_under_the_old_key_works_until_it_goes() {
    let app = spawn().await;
    let nobody = app.anonymous();
    app.member("turns", "OWNER").await;
    let email = "turns-owner@customer.test";
    let login = json!({"email": email, "password": PASSWORD});
    let old = log_in(&nobody, login.clone()).await.data(200);
    let other = log_in(&nobody, login.clone()).await.data(200);
    let (link, late) =
        (reset_link(&app, email).await, reset_link(&app, "owner@platform.test").await);
    let (both, new) = processes(&app).await;
    let (both, new) = (nobody.at(&both.url), nobody.at(&new.url));

    let access = |client: &Client, tokens: &Value| {
        client.with_token(tokens["access_token"].as_str().unwrap())
    };
    access(&both, &old).get("/api/me").await.data(200);
    let refused = access(&new, &old).get("/api/me").await.refused(401, "unauthenticated");
    assert!(refused["error"].as_str().unwrap().ends_with("Log in again."), "{refused}");
    // What is made from now on is under the new key; the old one is needed for nothing of it.
    refresh(&new, &old["refresh_token"]).await.refused(401, "refresh_invalid");
    let turned = refresh(&both, &old["refresh_token"]).await.data(200);
    assert_eq!(
        refresh(&both, &old["refresh_token"]).await.data(200)["refresh_token"],
        turned["refresh_token"]
    );
    access(&both, &turned).get("/api/me").await.data(200);
    access(&new, &turned).get("/api/me").await.data(200);
    let turned = refresh(&new, &turned["refresh_token"]).await.data(200);
    access(&new, &turned).get("/api/me").await.data(200);
    // Whoever slept through it logs in again.
    refresh(&new, &other["refresh_token"]).await.refused(401, "refresh_invalid");
    log_in(&new, login).await.data(200);

    let reset = |token: &str| json!({"token": token, "password": "seven green boats"});
    new.post("/api/auth/reset-password", reset(&late)).await.refused(400, "link_invalid");
    both.post("/api/auth/reset-password", reset(&link)).await.data(200);
    log_in(&new, json!({"email": email, "password": "seven green boats"})).await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_device_is_known_as_long_as_its_key_is() {
    let app = spawn().await;
    let email = "owner@platform.test";
    let good = json!({"email": email, "password": PASSWORD});
    let device = log_in(&app.anonymous(), good.clone()).await.data(200)["device_token"].clone();
    let (both, new) = processes(&app).await;
    let (both, new) = (app.anonymous().at(&both.url), app.anonymous().at(&new.url));
    for _ in 0..10 {
        let wrong = json!({"email": email, "password": "wrong wrong"});
        log_in(&both, wrong).await.refused(401, "invalid_credentials");
    }
    let mut known = good.clone();
    known["device_token"] = device;
    log_in(&new, known.clone()).await.refused(429, "account_locked");
    let anew = log_in(&both, known.clone()).await.data(200)["device_token"].clone();
    assert_ne!(anew, known["device_token"]);
    known["device_token"] = anew;
    log_in(&new, known).await.data(200);
    app.db.remove().await.unwrap();
}

/// Somebody with a second factor; the address, the secret and a recovery code.
async fn with_factor(app: &App, name: &str) -> (String, String, Value) {
    let member = app.member(name, "OWNER").await;
    let setup = member.post("/api/auth/mfa/setup", json!({ "password": PASSWORD })).await.data(200);
    let secret = setup["secret"].as_str().unwrap().to_owned();
    early_in_a_step().await;
    let shown = json!({ "code": code(&secret, -1) });
    let codes = member.post("/api/auth/mfa/enable", shown).await.data(200);
    (format!("{name}-owner@customer.test"), secret, codes["recovery_codes"][0].clone())
}

fn with_code(email: &str, secret: &str, steps: i64) -> Value {
    json!({"email": email, "password": PASSWORD, "code": code(secret, steps)})
}

/// What the operator's command says, and whether it is content.
async fn reseal(app: &App, token_keys: &str, sealing_keys: Option<&str>) -> (bool, String) {
    let mut command = program(app, "reseal");
    command.env("MIGRAPANEL__TOKEN_KEYS", token_keys);
    if let Some(keys) = sealing_keys {
        command.env("MIGRAPANEL__SEALING_KEYS", keys);
    }
    let output = command.output().await.unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn second_factors_come_under_the_new_key_and_the_old_one_can_go() {
    let app = spawn().await;
    let (used, used_secret, _) = with_factor(&app, "used").await;
    let (idle, idle_secret, recovery) = with_factor(&app, "idle").await;
    let (both, new) = processes(&app).await;
    let (both, new) = (app.anonymous().at(&both.url), app.anonymous().at(&new.url));
    // Who logs in takes theirs along.
    log_in(&both, with_code(&used, &used_secret, 0)).await.data(200);
    log_in(&new, with_code(&used, &used_secret, 1)).await.data(200);
    // Whose key is gone is told so, and is not locked out of the account.
    let told = log_in(&new, with_code(&idle, &idle_secret, 0)).await;
    assert!(told.retry_after.is_some());
    let told = told.refused(503, "unavailable");
    assert!(told["error"].as_str().unwrap().contains("recovery code"), "{told}");
    let saved = json!({"email": idle, "password": PASSWORD, "recovery_code": recovery});
    log_in(&new, saved).await.data(200);

    let (fine, said) = reseal(&app, NEW_TOKEN_KEYS, None).await;
    assert_eq!(
        (fine, said.as_str()),
        (
            false,
            "Second factors: 0 sealed anew, 1 under a missing key.\nWebhook secrets: 0 sealed anew, 0 under a missing key.\n"
        )
    );
    let tokens = format!("{NEW_TOKEN_KEYS},{TOKEN_KEYS}");
    let (fine, said) = reseal(&app, &tokens, None).await;
    assert_eq!(
        (fine, said.as_str()),
        (
            true,
            "Second factors: 1 sealed anew, 0 under a missing key.\nWebhook secrets: 0 sealed anew, 0 under a missing key.\n"
        )
    );
    log_in(&new, with_code(&idle, &idle_secret, 0)).await.data(200);
    let (fine, said) = reseal(&app, NEW_TOKEN_KEYS, None).await;
    assert_eq!(
        (fine, said.as_str()),
        (
            true,
            "Second factors: 0 sealed anew, 0 under a missing key.\nWebhook secrets: 0 sealed anew, 0 under a missing key.\n"
        )
    );
    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "SECRETS_RESEALED").count(), 1);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_workers_key_comes_under_the_new_key() {
    let app = spawn().await;
    let keys = |text: &str| SealingKeys::parse(&SecretString::from(text)).unwrap();
    let db = &app.db.db;
    let private = SecretString::from("private");
    servers::keep_identity(db, &keys(TOKEN_KEYS), "public", &private).await.unwrap();
    assert!(!reseal(&app, TOKEN_KEYS, Some(NEW_TOKEN_KEYS)).await.0);
    let both = format!("{NEW_TOKEN_KEYS},{TOKEN_KEYS}");
    for (keys, count) in [(both.as_str(), 1), (both.as_str(), 0), (NEW_TOKEN_KEYS, 0)] {
        let (fine, said) = reseal(&app, TOKEN_KEYS, Some(keys)).await;
        assert!(fine && said.contains(&format!("SSH keys: {count} sealed anew.\n")), "{said}");
    }
    let (_, opened) = servers::open_identity(db, &keys(NEW_TOKEN_KEYS)).await.unwrap();
    assert_eq!(opened.expose_secret(), "private");
    app.db.remove().await.unwrap();
}
