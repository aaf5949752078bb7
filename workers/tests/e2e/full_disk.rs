//! The server's disk fills up at every step of an apply: the job ends with a sentence that says so, and
//! is taken back while the disk is still full; everything else on the server lives on.

use crate::archives;
use crate::deaths::STEPS;
use crate::expect::assert_moved;
use crate::gates;
use crate::server::Server;
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use serde_json::json;

#[tokio::test]
async fn a_full_disk_ends_each_step_and_hinders_no_undo() {
    let stack = Stack::start_with_small_disk("full").await;
    let (archive, wanted) = archives::like_shopco("fulled");
    let path = stack.server.put_bytes(&archive, "cpmove-fulled.tar.gz");
    gates::install(&stack);
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());
    let job = stack.analyze(&path, "fulled").await;
    for step in STEPS {
        let begins = format!("{step}:started");
        gates::close(&stack, std::slice::from_ref(&begins));
        let token = stack.preview(&job).await;
        stack.start_apply(&job, &token).await;
        gates::reached(&stack, &begins).await;
        fill(&stack.server);
        gates::open(&stack, &begins);
        let status = stack.wait(&job, &["failed"]).await;
        assert_eq!(status["error"]["code"], "disk_full", "{step}: {status:#}");
        let message = status["error"]["message"].as_str().unwrap();
        assert!(message.to_lowercase().contains("free some space"), "{message}");
        before.assert_same(&Snapshot::of(&stack.server));
        assert_eq!(slate, stack.slate(), "{step}");
        stack.server.sh(
            "systemctl is-active --quiet mariadb apache2 php8.2-fpm dovecot exim4 && mariadb -e 'SELECT 1'",
        );
        stack.server.sh("rm /var/tmp/filling");
    }
    let status = stack.apply(&job).await;
    assert_moved(&stack.server, &wanted, &status).await;
    let reserves = stack.server.sh("find /home/.migrapanel /var/lib/migrapanel -name '*reserve*'");
    assert_eq!(reserves, "");
    stack.roll_back(&job, false).await;
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(stack.client.get("/api/accounts").await.data(200), json!([]));
    stack.end().await;
}

/// Leaves two pages.
fn fill(server: &Server) {
    server.inside(
        "free=$(df --output=avail -B1 /home | tail -1); fallocate -l $((free - 8192)) /var/tmp/filling",
    );
}
