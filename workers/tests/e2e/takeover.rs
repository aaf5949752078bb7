//! One job and two workers that believe that it is theirs; workers that let go; servers and networks
//! that go without a word.

use crate::archives;
use crate::deaths::STEPS;
use crate::expect::{assert_moved, assert_no_zones};
use crate::gates;
use crate::program::wait_for;
use crate::snapshot::Snapshot;
use crate::stack::{APPLIED, Stack};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Who was frozen past the lease wakes in the middle of what another does, or has done, and changes
/// nothing: neither in our rows nor on the server.
#[tokio::test]
async fn a_frozen_worker_wakes_and_is_refused() {
    let mut stack = Stack::start("frozen", &[]).await;
    let (archive, wanted) = archives::like_shopco("frozen");
    let path = stack.server.put_bytes(&archive, "cpmove-frozen.tar.gz");
    gates::install(&stack);
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());
    let job = stack.analyze(&path, "frozen").await;
    let token = stack.preview(&job).await;
    let (at, later) = ("create_user:done".to_owned(), "databases:done".to_owned());
    gates::close(&stack, &[at.clone(), later.clone()]);
    stack.start_apply(&job, &token).await;
    gates::reached(&stack, &at).await;

    // The elder stops; Postgres gives its connections up, as it does for a machine that is gone.
    let elder = stack.migrator.take().unwrap();
    elder.signal("STOP");
    gates::open_for_others(&stack, &at);
    stack.start_migrator();
    stack.end_leases();
    gates::reached(&stack, &later).await;
    elder.signal("CONT");
    wait_for("the elder to see it", Duration::from_secs(30), async || {
        let log = stack.migrator_log();
        (log.contains("job.lost") || log.contains("job.taken_over") || log.contains("job.broken"))
            .then_some(())
    })
    .await;
    gates::open(&stack, &later);
    let status = stack.wait(&job, APPLIED).await;
    assert_moved(&stack.server, &wanted, &status).await;

    // Frozen while its agent is at work: the next one's claim stops that agent.
    stack.client.post("/api/migration/rollback", json!({"job_id": job})).await.data(202);
    wait_for("the rollback to begin", Duration::from_secs(30), async || {
        let steps = stack.status(&job).await["steps"].clone();
        steps.as_array().unwrap().iter().any(|step| step["state"] == "undone").then_some(())
    })
    .await;
    stack.migrator.as_ref().unwrap().signal("STOP");
    let frozen = stack.migrator.replace(elder).unwrap();
    stack.end_leases();
    stack.wait(&job, &["rolled_back"]).await;
    frozen.signal("CONT");
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(slate, stack.slate());
    assert_no_zones(&wanted);
    frozen.kill();
    enrolment(&mut stack).await;
    before.assert_same(&Snapshot::of(&stack.server));
    stack.assert_idle().await;
    stack.end().await;
}

/// The worker and its agent die while a server is enrolled again that has lost a part of its layout.
async fn enrolment(stack: &mut Stack) {
    stack.server.inside(
        "rm /etc/ssh/sshd_config.d/migrapanel.conf /etc/exim4/exim4.conf /etc/dovecot/dovecot.conf",
    );
    let path = format!("/api/servers/{}/enroll", stack.server_id);
    let job = stack.client.post(&path, json!({})).await.data(202);
    let path = format!("/api/jobs/{}", job["job_id"].as_str().unwrap());
    for _ in 0..3 {
        wait_for("the enrolment to run", Duration::from_secs(30), async || {
            (stack.client.get(&path).await.data(200)["state"] != "queued").then_some(())
        })
        .await;
        stack.replace_migrator();
        stack.server.inside("pkill -KILL -f '^/usr/local/lib/migrapanel/migrapanel-agent' || true");
        stack.end_leases();
    }
    wait_for("the enrolment", Duration::from_secs(60), async || {
        let job = stack.client.get(&path).await.data(200);
        assert_ne!(job["state"], "failed", "{job:#}");
        (job["state"] == "done").then_some(())
    })
    .await;
}

/// A worker that is asked to end lets its job go, and another has it at once: long before the lease
/// would have ended.
#[tokio::test]
async fn networks_servers_and_workers_go_in_the_middle() {
    let mut stack = Stack::start("gone", &[]).await;
    let (archive, wanted) = archives::like_shopco("gonest");
    let path = stack.server.put_bytes(&archive, "cpmove-gonest.tar.gz");
    gates::install(&stack);
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());

    let job = stack.analyze(&path, "gonest").await;
    let token = stack.preview(&job).await;
    stack.start_apply(&job, &token).await;
    asked_to_end(&mut stack, &job).await;
    let status = stack.wait(&job, APPLIED).await;
    assert_moved(&stack.server, &wanted, &status).await;
    stack.roll_back(&job, false).await;
    before.assert_same(&Snapshot::of(&stack.server));

    silent_network(&stack, &job).await;
    power_cuts(&stack, &path, &wanted).await;
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(slate, stack.slate());
    assert_no_zones(&wanted);
    stack.assert_idle().await;
    stack.end().await;
}

async fn asked_to_end(stack: &mut Stack, job: &str) {
    for step in ["restore_home", "mail"] {
        wait_for(step, Duration::from_secs(60), async || {
            let status = stack.status(job).await;
            let current = status["current_step"].as_str().unwrap_or_default();
            let at = STEPS.iter().position(|name| *name == current);
            let wanted = STEPS.iter().position(|name| *name == step);
            assert_eq!(status["status"], "applying", "{status:#}");
            (at >= wanted).then_some(())
        })
        .await;
        let fence = stack.sql("SELECT fence FROM job WHERE phase = 'apply'");
        let next = stack.another_migrator();
        let ending = stack.migrator.replace(next).unwrap();
        ending.signal("TERM");
        let asked = Instant::now();
        ending.ended(Duration::from_secs(30)).await;
        wait_for("another worker's claim", Duration::from_secs(30), async || {
            (stack.sql("SELECT fence FROM job WHERE phase = 'apply'") != fence).then_some(())
        })
        .await;
        assert!(asked.elapsed() < Duration::from_secs(25), "{:?}", asked.elapsed());
    }
}

/// The network goes without a word while the agent works, and comes back: nobody waits for ever.
async fn silent_network(stack: &Stack, job: &str) {
    let path = stack.sql(&format!("SELECT source_path FROM migration WHERE id = '{job}'"));
    let job = stack.analyze(path.trim(), "gonest").await;
    let token = stack.preview(&job).await;
    stack.start_apply(&job, &token).await;
    let begun = "restore_home:started".to_owned();
    gates::close(stack, std::slice::from_ref(&begun));
    gates::reached(stack, &begun).await;
    stack.server.inside("ip link set host0 down");
    gates::open(stack, &begun);
    wait_for("the worker to notice", Duration::from_secs(60), async || {
        let said = format!(
            "SELECT 1 FROM job_log WHERE job_id = '{job}' AND message LIKE '%Trying again%' LIMIT 1"
        );
        (!stack.sql(&said).is_empty()).then_some(())
    })
    .await;
    stack.server.inside("ip link set host0 up");
    let status = stack.wait(&job, APPLIED).await;
    assert_eq!(status["error"], Value::Null, "{status:#}");
    stack.roll_back(&job, false).await;
}

/// The server's power goes in the middle of an apply and of its rollback.
async fn power_cuts(stack: &Stack, path: &str, wanted: &Value) {
    let job = stack.analyze(path, "gonest").await;
    let token = stack.preview(&job).await;
    let begun = "databases:started".to_owned();
    gates::close(stack, std::slice::from_ref(&begun));
    stack.start_apply(&job, &token).await;
    gates::reached(stack, &begun).await;
    gates::open(stack, &begun);
    stack.server.cut_power();
    let status = stack.wait(&job, APPLIED).await;
    assert_moved(&stack.server, wanted, &status).await;

    let undoing = "mail:undoing".to_owned();
    gates::close(stack, std::slice::from_ref(&undoing));
    stack.client.post("/api/migration/rollback", json!({"job_id": job})).await.data(202);
    gates::reached(stack, &undoing).await;
    gates::open(stack, &undoing);
    stack.server.cut_power();
    stack.wait(&job, &["rolled_back"]).await;
}
