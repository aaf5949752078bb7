//! Jobs that somebody stops, and others that need not wait for them.

use crate::archives::{self, SHOPCO};
use crate::hosting;
use crate::program::wait_for;
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// An account whose dump keeps MariaDB busy for as long as it may.
fn slow(stack: &Stack) -> String {
    let work = tempfile::tempdir().unwrap();
    archives::unpack(SHOPCO, work.path());
    let dump = work.path().join("cpmove-shopco/mysql/shopco_wp.sql");
    let text = std::fs::read_to_string(&dump).unwrap();
    std::fs::write(&dump, "CREATE TABLE slow AS SELECT SLEEP(600);\n".to_owned() + &text).unwrap();
    stack.server.put_bytes(&archives::pack(work.path()), "cpmove-slow.tar.gz")
}

async fn cancel(stack: &Stack, job: &str) {
    let path = format!("/api/migration/job/{job}/cancel");
    stack.client.post(&path, json!({})).await.data(202);
}

fn code(status: &Value) -> &str {
    status["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_running_apply_is_stopped_and_taken_back_and_an_analysis_does_not_wait_for_it() {
    let stack = Stack::start("cancel", &[("MIGRAPANEL__MIGRATIONS_MAX", "1")]).await;
    let path = slow(&stack);
    let other = stack.server.put_bytes(&archives::like_shopco("cancel").0, "cpmove-cancel.tar.gz");
    let before = Snapshot::of(&stack.server);
    let zones = archives::hold_zones(SHOPCO);
    let job = stack.analyze(&path, "shopco").await;
    let token = stack.preview(&job).await;
    stack.start_apply(&job, &token).await;
    let loading = "pgrep -x -u shopco mariadb || true";
    wait_for("the dump to be loaded", Duration::from_secs(60), async || {
        (!stack.server.sh(loading).trim().is_empty()).then_some(())
    })
    .await;

    // The only slot is taken, and an analysis has one of its own.
    let other = stack.analyze(&other, "cancel").await;
    let token = stack.preview(&other).await;
    stack.start_apply(&other, &token).await;
    cancel(&stack, &other).await;
    let status = stack.status(&other).await;
    assert_eq!((status["status"].as_str(), code(&status)), (Some("failed"), "cancelled"));

    let asked = Instant::now();
    cancel(&stack, &job).await;
    wait_for("the dump to be let go", Duration::from_secs(60), async || {
        stack.server.sh(loading).trim().is_empty().then_some(())
    })
    .await;
    let status = stack.wait(&job, &["failed"]).await;
    assert_eq!(code(&status), "cancelled", "{status:#}");
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    before.assert_same(&Snapshot::of(&stack.server));
    stack.assert_idle().await;
    drop(zones);
    stack.end().await;
}

/// Making a user takes as long as it may.
const SLOW_USERADD: &str = "mv /usr/sbin/useradd /usr/sbin/useradd.real
    printf '#!/bin/sh\nsleep 600\n' >/usr/sbin/useradd
    chmod 0755 /usr/sbin/useradd";
const QUICK_USERADD: &str = "mv /usr/sbin/useradd.real /usr/sbin/useradd";

#[tokio::test]
async fn an_account_that_is_being_made_is_stopped_taken_back_and_made_later() {
    let stack = Stack::start("cancel-service", &[]).await;
    let domain = format!("{}.example", hosting::fresh("stopped"));
    let price = hosting::offer(&stack).await;
    let before = Snapshot::of(&stack.server);
    stack.server.sh(SLOW_USERADD);
    let service = hosting::buy(&stack, &price, &[&domain]).await;
    let sleeping = "pgrep -f '^sleep 600' || true";
    wait_for("the user to be made", Duration::from_secs(60), async || {
        (!stack.server.sh(sleeping).trim().is_empty()).then_some(())
    })
    .await;
    let path = format!("/api/services/{service}");
    let job = stack.client.get(&path).await.data(200)["job_id"].clone();
    let job = format!("/api/jobs/{}", job.as_str().unwrap());
    let seen = stack.client.get(&job).await.data(200);
    let steps: Vec<&str> =
        seen["steps"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(steps, ["prepare", "take_names", "create_user"], "{seen:#}");

    let reason = json!({"reason": "A test stops it."});
    let stopped = stack.client.post(&format!("{job}/cancel"), reason.clone()).await.data(202);
    assert_eq!(stopped["state"], "running");
    stack.server.sh(QUICK_USERADD);
    let ended = wait_for("the job's end", Duration::from_secs(60), async || {
        let seen = stack.client.get(&job).await.data(200);
        (seen["state"] == "failed").then_some(seen)
    })
    .await;
    assert_eq!(ended["error_code"], "cancelled", "{ended:#}");
    let states: Vec<&str> =
        ended["steps"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["undone"; 3], "{ended:#}");
    before.assert_same(&Snapshot::of(&stack.server));
    let now = stack.client.get(&path).await.data(200);
    assert_eq!(now["state"], "pending", "{now:#}");
    // What failed is the service's to be tried again, and it is.
    stack.client.post(&format!("{job}/requeue"), reason).await.refused(409, "job_state");
    wait_for("the account", Duration::from_secs(120), async || {
        (stack.client.get(&path).await.data(200)["state"] == "active").then_some(())
    })
    .await;
    stack.assert_idle().await;
    stack.end().await;
}
