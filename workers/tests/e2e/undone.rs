//! What is taken back, and what must not be lost by it.

use crate::archives::{self, SHOPCO};
use crate::expect::{assert_moved, messages};
use crate::program::wait_for;
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn what_came_later_is_shown_and_parked() {
    let stack = Stack::start("later", &[]).await;
    let path = stack.server.put(&archives::file(SHOPCO));
    let before = Snapshot::of(&stack.server);
    let zones = archives::hold_zones(SHOPCO);
    let job = stack.analyze(&path, "shopco").await;
    stack.apply(&job).await;

    let server = &stack.server;
    server.sh("printf 'Subject: later\\n\\nA letter from later.\\n' | /usr/sbin/sendmail -i sales@shopco.example");
    let sales = ("sales@shopco.example", "Mail-Pass-2!");
    wait_for("the letter", Duration::from_secs(30), async || {
        (messages(server, sales, "INBOX") == 2).then_some(())
    })
    .await;
    server.sh("mariadb shopco_wp -e \"INSERT INTO posts (title) VALUES ('A row from later')\"");
    server.sh("echo 'A page from later' >/home/shopco/public_html/later.html");
    server.sh("chown shopco: /home/shopco/public_html/later.html");

    let body = json!({"job_id": job});
    let refused = stack.client.post("/api/migration/rollback", body).await;
    let refused = refused.refused(409, "changed_since_apply");
    let named: Vec<_> = refused["fields"].as_array().unwrap().iter().map(|f| &f["path"]).collect();
    let wanted =
        ["file:public_html/later.html", "database:shopco_wp", "mailbox:sales@shopco.example"];
    assert_eq!(named, wanted, "{refused:#}");

    stack.roll_back(&job, true).await;
    before.assert_same(&Snapshot::of(server));
    let parked = format!("/var/lib/migrapanel/parked/{job}");
    let dump = server.sh(&format!("cat {parked}/shopco_wp.sql"));
    assert!(dump.contains("A row from later"), "{dump}");
    let kept = server.sh(&format!("for f in {parked}/*.tar; do tar -xOf $f; done"));
    assert!(kept.contains("A page from later") && kept.contains("A letter from later"), "{kept}");
    let rights = server.sh(&format!("stat -c '%a %U' {parked}"));
    assert_eq!(rights.trim(), "700 root");
    drop(zones);
    stack.end().await;
}

#[tokio::test]
async fn a_step_that_fails_is_undone_with_all_before_it() {
    let stack = Stack::start("failing", &[]).await;
    let work = tempfile::tempdir().unwrap();
    archives::unpack(SHOPCO, work.path());
    let dump = work.path().join("cpmove-shopco/mysql/shopco_gad.sql");
    let text = std::fs::read_to_string(&dump).unwrap();
    std::fs::write(&dump, text + "\nINSERT INTO `nowhere` VALUES (1);\n").unwrap();
    let path = stack.server.put_bytes(&archives::pack(work.path()), "cpmove-broken.tar.gz");
    let before = Snapshot::of(&stack.server);
    let zones = archives::hold_zones(SHOPCO);

    let job = stack.analyze(&path, "shopco").await;
    let token = stack.preview(&job).await;
    stack.start_apply(&job, &token).await;
    let status = stack.wait(&job, &["failed"]).await;
    let message = status["error"]["message"].as_str().unwrap();
    assert!(message.contains("shopco_gad"), "{message}");
    let failed =
        status["steps"].as_array().unwrap().iter().find(|step| step["name"] == "databases");
    assert_eq!(failed.unwrap()["state"], "undone", "{:#}", status["steps"]);
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(stack.client.get("/api/accounts").await.data(200), json!([]));

    // The same account from its whole archive, as if nothing had been.
    let path = stack.server.put(&archives::file(SHOPCO));
    let job = stack.analyze(&path, "shopco").await;
    let status = stack.apply(&job).await;
    assert_moved(&stack.server, &archives::expected(SHOPCO), &status).await;
    stack.roll_back(&job, false).await;
    drop(zones);
    stack.end().await;
}

#[tokio::test]
async fn an_apply_that_takes_too_long_is_stopped_and_taken_back() {
    let mut stack = Stack::start("slow", &[]).await;
    let path = stack.server.put(&archives::file(SHOPCO));
    let before = Snapshot::of(&stack.server);
    let zones = archives::hold_zones(SHOPCO);
    let job = stack.analyze(&path, "shopco").await;
    let token = stack.preview(&job).await;
    stack.replace_migrator_with("MIGRAPANEL__APPLY_LIMIT_SECS", "2");
    stack.start_apply(&job, &token).await;
    let status = stack.wait(&job, &["failed"]).await;
    assert_eq!(status["error"]["code"], "time_limit", "{status:#}");
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(stack.client.get("/api/accounts").await.data(200), json!([]));
    drop(zones);
    stack.end().await;
}

#[tokio::test]
async fn selected_parts_come_alone_then_the_rest_and_go_back_in_turn() {
    let stack = Stack::start("parts", &[]).await;
    let server = &stack.server;
    let path = server.put(&archives::file(SHOPCO));
    let before = Snapshot::of(server);
    let zones = archives::hold_zones(SHOPCO);
    let restore = async |components: Value| {
        let job = stack.analyze(&path, "shopco").await;
        let body = json!({"job_id": job, "components": components});
        let preview = stack.client.post("/api/migration/preview", body).await.data(200);
        let body = json!({"job_id": job, "approval_token": preview["approval_token"], "components": components});
        stack.client.post("/api/migration/selective-restore", body).await.data(202);
        stack.wait(&job, &["completed", "completed_with_losses"]).await;
        job
    };
    let first = restore(json!({"databases": ["shopco_gad"], "files": ["public_html/blog"]})).await;
    let names = server.sh("mariadb -N -e 'SHOW DATABASES LIKE \"shopco%\"'");
    assert_eq!(names.trim(), "shopco_gad");
    server.sh("test -f /home/shopco/public_html/blog/index.html");
    server.sh("test ! -e /home/shopco/public_html/index.php");
    server.sh("test ! -e /etc/migrapanel/mail/shopco.example");

    let rest = json!({"files": [], "databases": ["shopco_wp"], "email": [], "dns": [], "ssl": []});
    let second = restore(rest).await;
    let status = stack.status(&second).await;
    assert_moved(server, &archives::expected(SHOPCO), &status).await;

    let body = json!({"job_id": first});
    let refused = stack.client.post("/api/migration/rollback", body).await;
    assert_eq!(refused.status, 409, "the later one stands on it: {:?}", refused.body);
    stack.roll_back(&second, true).await;
    stack.roll_back(&first, true).await;
    before.assert_same(&Snapshot::of(server));
    drop(zones);
    stack.end().await;
}
