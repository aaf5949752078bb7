//! Postgres, RabbitMQ and Redis go away in the middle and come back; a client asks again what it got
//! no answer to.

use crate::archives;
use crate::expect::{assert_moved, assert_no_zones};
use crate::gates;
use crate::program::wait_for;
use crate::roads::Road;
use crate::snapshot::Snapshot;
use crate::stack::{APPLIED, Stack};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn servers_go_away_in_the_middle_and_come_back() {
    let (mut stack, roads) = Stack::start_on_roads("outages").await;
    let (archive, wanted) = archives::like_shopco("outage");
    let path = stack.server.put_bytes(&archive, "cpmove-outage.tar.gz");
    gates::install(&stack);
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());
    let job = stack.analyze(&path, "outage").await;
    let token = stack.preview(&job).await;
    let forward = ["create_user:done", "restore_home:started", "databases:done", "dns:started"];
    let forward = forward.map(str::to_owned);
    gates::close(&stack, &forward);
    stack.start_apply(&job, &token).await;
    strike(&stack, &roads, &forward).await;
    let status = stack.wait(&job, APPLIED).await;
    assert_moved(&stack.server, &wanted, &status).await;

    asked_again(&mut stack, &job, &token).await;
    let back = ["dns:undoing", "databases:undone", "restore_home:undoing", "create_user:undone"];
    let back = back.map(str::to_owned);
    gates::close(&stack, &back);
    stack.client.post("/api/migration/rollback", json!({"job_id": job})).await.data(202);
    let again = stack.client.post("/api/migration/rollback", json!({"job_id": job})).await;
    assert_eq!(again.status, 409, "{:#}", again.body);
    strike(&stack, &roads, &back).await;
    stack.wait(&job, &["rolled_back"]).await;
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(slate, stack.slate());
    assert_no_zones(&wanted);
    stack.assert_idle().await;
    stack.end().await;
}

/// At each boundary another outage: all connections cut at once, then each server away for a while.
async fn strike(stack: &Stack, [postgres, rabbitmq, redis]: &[Road; 3], boundaries: &[String; 4]) {
    for (nth, boundary) in boundaries.iter().enumerate() {
        gates::reached(stack, boundary).await;
        match nth {
            0 => {
                postgres.sever();
                rabbitmq.sever();
                redis.sever();
            }
            1 => postgres.cut(),
            2 => rabbitmq.cut(),
            _ => redis.cut(),
        }
        // Postgres takes the transaction of a client that is gone back.
        if nth < 2 {
            gates::open_for_others(stack, boundary);
        } else {
            gates::open(stack, boundary);
        }
        wait_for("the outage to be seen", Duration::from_secs(20), async || {
            let ready = stack.client.get("/readyz").await;
            let seen = match nth {
                0 => true,
                1 => ready.status == 503,
                2 => ready.body["rabbitmq"] == "down",
                _ => ready.body["redis"] == "down",
            };
            seen.then_some(())
        })
        .await;
        for road in [postgres, rabbitmq, redis] {
            road.mend();
        }
        if nth < 2 {
            stack.end_leases();
        }
    }
}

/// The API dies between a commit and its answer: whoever asks again is told what stands.
async fn asked_again(stack: &mut Stack, job: &str, token: &str) {
    stack.replace_api().await;
    let body = json!({"job_id": job, "approval_token": token});
    let got = stack.client.post("/api/migration/apply", body).await;
    got.refused(409, "already_applied");
}
