//! People of an old system, taken over by the program that an operator runs.

use crate::app::{App, spawn};
use crate::program::{program, until};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

/// Of `correct horse battery staple`, as all of these.
const PBKDF2: &str = "pbkdf2_sha512$100000$00112233445566778899aabbccddeeff$6cbed59f582390f4e8aae45c04c545a3f95598ec9077408dd6731403cbae2a4b94a0fecf44d62f91c69bc8d49b0fd2052c692181e56aea80ab40d5ecd2ef7c26";
const CRYPTED: &str = "$2y$05$abcdefghijklmnopqrstuuFiPhXf1sVd3pCCRO.uVh34H/qI/ZsuS";
const PASSWORD: &str = "correct horse battery staple";

fn line(email: &str, hash: &str, tenant: &str) -> String {
    let person = json!({
        "email": email, "name": "Jane", "password_hash": hash, "tenant_id": tenant, "role": "MEMBER",
    });
    format!("{person}\n")
}

fn start(app: &App) -> Child {
    let mut command = program(app, "import-users");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its exit code and all that it has said.
async fn import(app: &App, lines: &str) -> (i32, String) {
    let mut child = start(app);
    let mut input = child.stdin.take().unwrap();
    let lines = lines.to_owned();
    let feeding = tokio::spawn(async move { input.write_all(lines.as_bytes()).await });
    let output = child.wait_with_output().await.unwrap();
    feeding.await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

async fn log_in(app: &App, email: &str) -> Value {
    let body = json!({"email": email, "password": PASSWORD});
    app.anonymous().post("/api/auth/login", body).await.data(200)
}

async fn tenant(app: &App, name: &str, limits: Value) -> String {
    let body = json!({"name": name, "kind": "customer"});
    let id = app.owner.post("/api/tenants", body).await.data(201)["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    let change = json!({ "limits": limits }).to_string();
    let path = format!("/api/tenants/{id}");
    app.owner.send(reqwest::Method::PATCH, &path, Some(change)).await.data(200);
    id
}

async fn trail(app: &App, tenant: &str) -> Vec<Value> {
    let entries = app.owner.acting_in(tenant).get("/api/audit?limit=200").await.data(200);
    entries.as_array().unwrap().clone()
}

#[tokio::test]
async fn people_come_with_their_old_passwords_and_log_in_with_them() {
    let app = spawn().await;
    let there = tenant(&app, "moved", json!({})).await;
    let people = [("old@moved.test", PBKDF2), ("cheap@moved.test", CRYPTED)];
    let lines = people.map(|(email, hash)| line(email, hash, &there)).concat();
    let (code, said) = import(&app, &lines).await;
    assert_eq!((code, said.trim()), (0, "Imported 2, skipped 0, refused 0."));
    for entry in trail(&app, &there).await {
        if ["USER_CREATED", "MEMBER_ADDED"].contains(&entry["kind"].as_str().unwrap()) {
            assert_eq!(entry["actor_kind"], "bootstrap", "{entry}");
        }
    }
    for (email, hash) in people {
        assert!(app.db.dump("app_user").await.unwrap().contains(hash));
        let tokens = log_in(&app, email).await;
        assert_eq!(tokens["user"]["role"], "MEMBER");
        assert_eq!(tokens["tenant"]["id"], there.as_str());
        let users = app.db.dump("app_user").await.unwrap();
        assert!(!users.contains(hash) && users.contains("$2b$12$"), "{email}");
        log_in(&app, email).await;
    }
    let kinds = app.db.audit_kinds().await.unwrap();
    for (kind, wanted) in [("USER_CREATED", 2), ("MEMBER_ADDED", 2), ("PASSWORD_HASH_MIGRATED", 2)]
    {
        assert_eq!(kinds.iter().filter(|k| *k == kind).count(), wanted, "{kind}");
    }
    // Again: nothing changes, and the new hashes stay.
    let before = app.db.dump("app_user").await.unwrap();
    let (code, said) = import(&app, &lines).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("line 2: skipped: cheap@moved.test has a login already"), "{said}");
    assert!(said.ends_with("Imported 0, skipped 2, refused 0.\n"), "{said}");
    assert_eq!(app.db.dump("app_user").await.unwrap(), before);
    assert_eq!(app.db.audit_kinds().await.unwrap(), kinds);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn bad_lines_are_named_and_the_others_are_imported() {
    let app = spawn().await;
    let there = tenant(&app, "some", json!({"members": 2})).await;
    let nowhere = entities::ids::TenantId::new().to_string();
    let lines = [
        line("one@some.test", PBKDF2, &there),
        "\n".to_owned(),
        line("no address", PBKDF2, &there),
        line("dear@some.test", &CRYPTED.replace("$05$", "$16$"), &there),
        line("lost@some.test", PBKDF2, &nowhere),
        line("ONE@some.test", CRYPTED, &there),
        format!("{}\n", "x".repeat(100_000)),
        line("two@some.test", CRYPTED, &there),
        line("three@some.test", CRYPTED, &there),
        // Cut off in the middle.
        line("four@some.test", CRYPTED, &there).split_at(60).0.to_owned(),
    ];
    let (code, said) = import(&app, &lines.concat()).await;
    assert_eq!(code, 1, "{said}");
    for told in [
        "line 3: refused: email: ",
        "line 4: refused: password_hash: ",
        "line 5: refused: There is no such tenant.",
        "line 6: skipped: one@some.test has",
        "line 7: refused: The line has more than 16 KiB.",
        "line 9: refused: The limit of 2 members is reached",
        "line 10: refused: ",
        "Imported 2, skipped 1, refused 6.",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    assert!(!said.contains("6cbed59f") && !said.contains("$2y$"), "{said}");
    let members = app.owner.acting_in(&there).get("/api/users?sort=email").await.data(200);
    let members: Vec<&str> =
        members.as_array().unwrap().iter().map(|m| m["email"].as_str().unwrap()).collect();
    assert_eq!(members, ["one@some.test", "two@some.test"]);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_was_killed_half_way_is_run_again() {
    let app = spawn().await;
    let there = tenant(&app, "half", json!({})).await;
    let lines: Vec<String> =
        (0..20).map(|i| line(&format!("p{i}@half.test"), PBKDF2, &there)).collect();
    let mut child = start(&app);
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines[..7].concat().as_bytes()).await.unwrap();
    // Half a line, too: it is not taken for a whole one.
    input.write_all(&lines[7].as_bytes()[..30]).await.unwrap();
    input.flush().await.unwrap();
    until("seven are in", async || {
        app.db.dump("app_user").await.unwrap().matches("@half.test").count() >= 7
    })
    .await;
    child.kill().await.unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "");
    let (code, said) = import(&app, &lines.concat()).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("Imported 13, skipped 7, refused 0.\n"), "{said}");
    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "USER_CREATED").count(), 20);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn two_at_once_make_each_person_once() {
    let app = spawn().await;
    let there = tenant(&app, "both", json!({})).await;
    let lines: String =
        (0..30).map(|i| line(&format!("p{i}@both.test"), CRYPTED, &there)).collect();
    let both = tokio::join!(import(&app, &lines), import(&app, &lines));
    assert_eq!((both.0.0, both.1.0), (0, 0), "{both:?}");
    let kinds = app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "USER_CREATED").count(), 30);
    app.db.remove().await.unwrap();
}
