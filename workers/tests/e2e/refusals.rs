//! What must not run, over the real road: bad archives, a server that is another one than was
//! previewed or asked for.

use crate::archives::{self, ARIEL, PLAIN, SHOPCO};
use crate::server::BACKUPS;
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use serde_json::json;

#[tokio::test]
async fn bad_archives_and_other_servers_are_refused() {
    let mut stack = Stack::start("refusals", &[]).await;
    let before = Snapshot::of(&stack.server);
    bad_archives(&stack).await;
    stack.server.sh(&format!("rm -r {BACKUPS}/*"));
    before.assert_same(&Snapshot::of(&stack.server));
    let zones = [PLAIN, ARIEL].map(archives::hold_zones);
    another_plan(&mut stack).await;
    another_archive(&stack).await;
    maintenance(&stack).await;
    drop(zones);
    another_host_key(&mut stack).await;
    stack.end().await;
}

async fn bad_archives(stack: &Stack) {
    let server = &stack.server;
    let whole = std::fs::read(archives::file(SHOPCO)).unwrap();
    let text = server.put_bytes(b"hello, this is no archive\n", "text.tar.gz");
    let half = server.put_bytes(&whole[..whole.len() / 2], "half.tar.gz");
    let work = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(work.path().join("backup/config/cp")).unwrap();
    std::fs::write(work.path().join("backup/config/cp/shopco"), "USER=shopco\n").unwrap();
    let jetbackup = server.put_bytes(&archives::pack(work.path()), "jetbackup.tar.gz");
    let archive = server.put(&archives::file(PLAIN));
    server.sh(&format!("ln -s {archive} {BACKUPS}/link.tar"));
    server.sh(&format!("cp {archive} {BACKUPS}/open.tar; chmod 0666 {BACKUPS}/open.tar"));

    for (path, user, code) in [
        (text.as_str(), "shopco", "not_an_archive"),
        (&half, "shopco", "truncated"),
        (&jetbackup, "shopco", "jetbackup_layout"),
        (&format!("{BACKUPS}/link.tar"), "plain", "archive_unsafe"),
        (&format!("{BACKUPS}/open.tar"), "plain", "archive_unsafe"),
        (&format!("{BACKUPS}/none.tar"), "plain", "archive_not_found"),
    ] {
        let job = stack.start_analysis(path, user).await;
        let status = stack.wait(&job, &["failed"]).await;
        assert_eq!(status["error"]["code"], code, "{path}: {status:#}");
        let preview = json!({"job_id": job});
        stack.client.post("/api/migration/preview", preview).await.refused(409, "job_state");
    }
    for path in [&text, &jetbackup, &format!("{BACKUPS}/link.tar")] {
        let body = stack.source(path, "shopco");
        let checks = stack.client.post("/api/migration/validate", body).await.data(200);
        assert_eq!(checks["valid"], false, "{path}: {checks:#}");
    }
    for path in ["/etc/passwd", "/var/backups/migrations/../../../etc/passwd", BACKUPS] {
        for step in ["validate", "analyze"] {
            let body = stack.source(path, "plain");
            let got = stack.client.post(&format!("/api/migration/{step}"), body).await;
            got.refused(422, "path_outside_backup_dirs");
        }
    }
}

/// Somebody else's hand between preview and apply: nothing is done, and nothing of theirs is lost.
async fn another_plan(stack: &mut Stack) {
    let path = stack.server.put(&archives::file(PLAIN));
    let job = stack.analyze(&path, "plain").await;
    let token = stack.preview(&job).await;
    stack.server.sh("useradd -m plain");
    let before = Snapshot::of(&stack.server);
    let body = json!({"job_id": job, "approval_token": token});
    let got = stack.client.post("/api/migration/apply", body).await;
    got.refused(409, "plan_changed");
    before.assert_same(&Snapshot::of(&stack.server));
    stack.server.sh("userdel -r plain 2>&1");

    // With nobody to ask, the job itself finds it when it begins; it goes on once the cause is gone.
    let path = stack.server.put(&archives::file(ARIEL));
    let job = stack.analyze(&path, "arielstudio01").await;
    let token = stack.preview(&job).await;
    stack.migrator.take().unwrap().kill();
    stack.server.sh("mariadb -e 'CREATE DATABASE arielstudio01_main'");
    let before = Snapshot::of(&stack.server);
    stack.start_apply(&job, &token).await;
    stack.start_migrator();
    let status = stack.wait(&job, &["failed"]).await;
    assert_eq!(status["error"]["code"], "plan_changed", "{status:#}");
    before.assert_same(&Snapshot::of(&stack.server));
    stack.server.sh("mariadb -e 'DROP DATABASE arielstudio01_main'");
    stack.apply(&job).await;
    stack.roll_back(&job, false).await;
}

async fn another_archive(stack: &Stack) {
    let path = stack.server.put(&archives::file(PLAIN));
    let job = stack.analyze(&path, "plain").await;
    let token = stack.preview(&job).await;
    stack.server.put(&archives::file(PLAIN));
    let before = Snapshot::of(&stack.server);
    let body = json!({"job_id": job, "approval_token": token});
    let got = stack.client.post("/api/migration/apply", body).await;
    got.refused(409, "archive_changed");
    before.assert_same(&Snapshot::of(&stack.server));
}

async fn maintenance(stack: &Stack) {
    let path = stack.server.put(&archives::file(PLAIN));
    let job = stack.analyze(&path, "plain").await;
    let token = stack.preview(&job).await;
    let server = format!("/api/servers/{}", stack.server_id);
    stack.client.patch(&server, json!({"maintenance": true})).await.data(200);
    let source = stack.source(&path, "plain");
    for (step, body) in [
        ("validate", source.clone()),
        ("analyze", source),
        ("preview", json!({"job_id": job})),
        ("apply", json!({"job_id": job, "approval_token": token})),
    ] {
        let got = stack.client.post(&format!("/api/migration/{step}"), body).await;
        got.refused(409, "server_maintenance");
    }
    stack.client.patch(&server, json!({"maintenance": false})).await.data(200);
}

/// A server that shows another key than the enrolled one may be anybody's.
async fn another_host_key(stack: &mut Stack) {
    let path = stack.server.put(&archives::file(PLAIN));
    let job = stack.analyze(&path, "plain").await;
    let since = stack.server.inside(
        "rm /etc/ssh/ssh_host_*; ssh-keygen -q -A; systemctl restart ssh >/dev/null; date +%s",
    );
    stack.replace_migrator();
    let new = stack.start_analysis(&path, "plain").await;
    let status = stack.wait(&new, &["failed"]).await;
    assert_eq!(status["error"]["code"], "host_key_changed", "{status:#}");
    let body = stack.source(&path, "plain");
    let got = stack.client.post("/api/migration/validate", body).await;
    got.refused(502, "host_key_changed");
    let got = stack.client.post("/api/migration/preview", json!({"job_id": job})).await;
    got.refused(502, "host_key_changed");
    let look = format!("journalctl -u ssh --since @{} | grep -c Accepted || true", since.trim());
    let looked = stack.server.inside(&look);
    assert_eq!(looked.trim(), "0", "somebody logged in");
}
