//! Workers die, the relay and the broker are away, places are few: no job is lost or done twice.

use crate::archives::{self, ARIEL, PLAIN, SHOPCO};
use crate::bed::sandbox;
use crate::expect::assert_moved;
use crate::program::{program, run, wait_for};
use crate::snapshot::Snapshot;
use crate::stack::{APPLIED, Stack};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::time::Duration;

/// The steps of an apply, in their order.
const STEPS: [&str; 10] = [
    "check_plan",
    "take_names",
    "create_user",
    "create_directories",
    "restore_home",
    "databases",
    "mail",
    "dns",
    "certificates",
    "post_validation",
];

#[tokio::test]
async fn a_worker_that_is_killed_at_each_step_is_replaced() {
    let mut stack = Stack::start("deaths", &[("MIGRAPANEL__LEASE_SECS", "3")]).await;
    let path = stack.server.put(&archives::file(SHOPCO));
    let before = Snapshot::of(&stack.server);
    let zones = archives::hold_zones(SHOPCO);
    let job = stack.analyze(&path, "shopco").await;
    let token = stack.preview(&job).await;
    stack.start_apply(&job, &token).await;
    let mut kills = 0;
    for step in 0..STEPS.len() {
        let status = reaches(&stack, &job, step).await;
        if status["status"] == "applying" {
            stack.replace_migrator();
            kills += 1;
        }
    }
    assert!(kills >= 7, "only {kills} kills fell into the apply");
    let status = stack.wait(&job, APPLIED).await;
    assert_moved(&stack.server, &archives::expected(SHOPCO), &status).await;

    stack.client.post("/api/migration/rollback", json!({"job_id": job})).await.data(202);
    for undone in [1, 3, 5, 7] {
        wait_for("the rollback's next step", Duration::from_secs(60), async || {
            let status = stack.status(&job).await;
            (status["status"] == "rolled_back" || undone_steps(&status) >= undone).then_some(())
        })
        .await;
        stack.replace_migrator();
    }
    stack.wait(&job, &["rolled_back"]).await;
    before.assert_same(&Snapshot::of(&stack.server));
    drop(zones);
    stack.end().await;
}

/// Waits until the job is at this step or beyond.
async fn reaches(stack: &Stack, job: &str, step: usize) -> Value {
    wait_for(STEPS[step], Duration::from_secs(60), async || {
        let status = stack.status(job).await;
        let current = status["current_step"].as_str().unwrap_or_default();
        let at = STEPS.iter().position(|name| *name == current);
        let there = at.is_some_and(|at| at >= step) || status["status"] != "applying";
        there.then_some(status)
    })
    .await
}

fn undone_steps(status: &Value) -> usize {
    status["steps"].as_array().unwrap().iter().filter(|step| step["state"] == "undone").count()
}

#[tokio::test]
async fn jobs_wait_for_the_relay_the_broker_and_a_place() {
    let mut stack = Stack::start("waits", &[("MIGRAPANEL__MIGRATIONS_MAX", "1")]).await;
    let plain = stack.server.put(&archives::file(PLAIN));
    let ariel = stack.server.put(&archives::file(ARIEL));

    stack.relay.take().unwrap().kill();
    let job = stack.start_analysis(&plain, "plain").await;
    let checks = stack.client.post("/api/migration/validate", stack.source(&plain, "plain")).await;
    assert_eq!(checks.data(200)["valid"], true, "questions need no relay");
    assert_eq!(stack.status(&job).await["status"], "queued");
    stack.start_relay();
    stack.wait(&job, &["analyzed"]).await;

    run(program(sandbox("services")).args(["vhost-delete", "e2e-waits"]));
    let job = stack.start_analysis(&plain, "plain").await;
    let got = stack.client.post("/api/migration/validate", stack.source(&plain, "plain")).await;
    assert_eq!(got.status, 503, "{:#}", got.body);
    assert_eq!(stack.status(&job).await["status"], "queued");
    run(program(sandbox("services")).args(["vhost", "e2e-waits"]));
    stack.wait(&job, &["analyzed"]).await;

    let zones = archives::hold_zones(ARIEL);
    let first = stack.analyze(&ariel, "arielstudio01").await;
    let token = stack.preview(&first).await;
    stack.start_apply(&first, &token).await;
    let second = stack.start_analysis(&plain, "plain").await;
    let waiting = stack.status(&second).await;
    assert_eq!(waiting["status"], "queued", "{waiting:#}");
    assert!(waiting["queue_position"].as_u64().is_some_and(|place| place >= 1), "{waiting:#}");
    let second = stack.wait(&second, &["analyzed"]).await;
    let applied = stack.wait(&first, APPLIED).await;
    let began = time(&second["started_at"]);
    assert!(began >= time(&applied["completed_at"]), "{second:#} {applied:#}");
    stack.roll_back(&first, false).await;
    drop(zones);
    stack.end().await;
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}
