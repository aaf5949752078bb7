//! Workers die, the relay and the broker are away, places are few: no job is lost or done twice.

use crate::archives::{self, ARIEL, PLAIN};
use crate::bed::sandbox;
use crate::expect::{assert_moved, assert_no_zones};
use crate::gates;
use crate::program::{program, run, wait_for};
use crate::snapshot::Snapshot;
use crate::stack::{APPLIED, Stack};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::time::Duration;

/// The steps of an apply, in their order.
pub const STEPS: [&str; 10] = [
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

/// Each step's action and each undo is carried out twice: the worker dies when it has begun and
/// when it is done, before that is known.
#[tokio::test]
async fn workers_die_at_each_boundary_and_others_go_on() {
    let mut stack = Stack::start("deaths", &[]).await;
    let (archive, wanted) = archives::like_shopco("dieone");
    let path = stack.server.put_bytes(&archive, "cpmove-dieone.tar.gz");
    gates::install(&stack);
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());

    let job = stack.analyze(&path, "dieone").await;
    stack.apply(&job).await;
    let undisturbed = Snapshot::of(&stack.server);
    stack.roll_back(&job, false).await;
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(slate, stack.slate());

    for blow in [Blow::Worker, Blow::AllElse] {
        let boundaries = forward(&["read_archive", "find_conflicts"]);
        gates::close(&stack, &boundaries);
        let job = stack.start_analysis(&path, "dieone").await;
        through(&mut stack, &boundaries, blow).await;
        stack.wait(&job, &["analyzed"]).await;

        let token = stack.preview(&job).await;
        let boundaries = forward(&STEPS);
        gates::close(&stack, &boundaries);
        stack.start_apply(&job, &token).await;
        through(&mut stack, &boundaries, blow).await;
        let status = stack.wait(&job, APPLIED).await;
        assert_moved(&stack.server, &wanted, &status).await;
        undisturbed.assert_like(&Snapshot::of(&stack.server));

        let boundaries: Vec<String> = STEPS
            .iter()
            .rev()
            .flat_map(|step| [format!("{step}:undoing"), format!("{step}:undone")])
            .collect();
        gates::close(&stack, &boundaries);
        stack.client.post("/api/migration/rollback", json!({"job_id": job})).await.data(202);
        through(&mut stack, &boundaries, blow).await;
        stack.wait(&job, &["rolled_back"]).await;
        before.assert_same(&Snapshot::of(&stack.server));
        assert_eq!(slate, stack.slate());
    }
    assert_no_zones(&wanted);
    assert_eq!(stack.server.staging(), "", "the staging is not empty");
    stack.assert_idle().await;
    stack.end().await;
}

/// Just before and just after each of these steps.
fn forward(steps: &[&str]) -> Vec<String> {
    steps.iter().flat_map(|step| [format!("{step}:started"), format!("{step}:done")]).collect()
}

#[derive(Clone, Copy)]
enum Blow {
    Worker,
    /// The relay, the API and the SSH connection.
    AllElse,
}

/// Follows the job from boundary to boundary and strikes at each.
async fn through(stack: &mut Stack, boundaries: &[String], blow: Blow) {
    for boundary in boundaries {
        gates::reached(stack, boundary).await;
        match blow {
            Blow::Worker => {
                stack.replace_migrator();
                gates::open_for_others(stack, boundary);
                stack.end_leases();
            }
            Blow::AllElse => {
                stack.replace_relay();
                stack.replace_api().await;
                stack.server.cut_ssh();
                gates::open(stack, boundary);
            }
        }
    }
}

#[tokio::test]
async fn each_step_fails_in_turn_and_nothing_is_left_of_it() {
    let stack = Stack::start("turns", &[]).await;
    let (archive, wanted) = archives::like_shopco("turned");
    let path = stack.server.put_bytes(&archive, "cpmove-turned.tar.gz");
    gates::install(&stack);
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());
    let job = stack.analyze(&path, "turned").await;
    for step in STEPS {
        let report = format!("{step}:done");
        gates::refuse(&stack, &report);
        let token = stack.preview(&job).await;
        stack.start_apply(&job, &token).await;
        let status = stack.wait(&job, &["failed"]).await;
        gates::open(&stack, &report);
        let last = status["steps"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["name"], &last["state"]), (&json!(step), &json!("undone")), "{status:#}");
        before.assert_same(&Snapshot::of(&stack.server));
        assert_eq!(slate, stack.slate(), "{step}");
    }
    let status = stack.apply(&job).await;
    assert_moved(&stack.server, &wanted, &status).await;
    stack.roll_back(&job, false).await;
    before.assert_same(&Snapshot::of(&stack.server));
    assert_no_zones(&wanted);
    stack.assert_idle().await;
    stack.end().await;
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

    stack.lose_questions().await;
    wait_for("questions to be answered again", Duration::from_secs(60), async || {
        let got = stack.client.post("/api/migration/validate", stack.source(&plain, "plain")).await;
        (got.status == 200).then_some(())
    })
    .await;

    let zones = (archives::hold_zones(ARIEL), archives::hold_zones(PLAIN));
    let first = stack.analyze(&ariel, "arielstudio01").await;
    let second = stack.analyze(&plain, "plain").await;
    let tokens = (stack.preview(&first).await, stack.preview(&second).await);
    stack.start_apply(&first, &tokens.0).await;
    stack.wait(&first, &["applying"]).await;
    stack.start_apply(&second, &tokens.1).await;
    let waiting = stack.status(&second).await;
    assert_eq!(waiting["current_step"], "queued", "{waiting:#}");
    assert!(waiting["queue_position"].as_u64().is_some_and(|place| place >= 1), "{waiting:#}");
    let applied = stack.wait(&first, APPLIED).await;
    let second_applied = stack.wait(&second, APPLIED).await;
    assert!(time(&second_applied["completed_at"]) > time(&applied["completed_at"]));
    stack.roll_back(&second, false).await;
    stack.roll_back(&first, false).await;
    drop(zones);
    stack.end().await;
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}
