//! Accounts move with everything that ordinary clients can see, and a rollback leaves the server as
//! it was.

use crate::archives::{self, ARIEL, PLAIN, SHOPCO};
use crate::expect::{assert_moved, assert_no_zones};
use crate::program::wait_for;
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use serde_json::json;
use std::time::Duration;

/// All on one server, so that they also have to get along; taken back in another order.
#[tokio::test]
async fn accounts_move_and_go_back() {
    let stack = Stack::start("moves", &[]).await;
    let names = [PLAIN, SHOPCO, ARIEL];
    let paths = names.map(|name| stack.server.put(&archives::file(name)));
    let before = Snapshot::of(&stack.server);
    let zones = names.map(archives::hold_zones);

    let mut jobs = Vec::new();
    for (name, path) in names.into_iter().zip(&paths) {
        jobs.push(move_account(&stack, name, path).await);
    }
    let accounts = stack.client.get("/api/accounts").await.data(200);
    assert_eq!(accounts.as_array().unwrap().len(), 3, "{accounts:#}");
    for index in [1, 0, 2] {
        stack.roll_back(&jobs[index], false).await;
        assert_no_zones(&archives::expected(names[index]));
    }

    before.assert_same(&Snapshot::of(&stack.server));
    let staging = stack.server.sh("find /home/.migrapanel -mindepth 1 ! -name kept");
    assert_eq!(staging, "", "the staging is not empty");
    let accounts = stack.client.get("/api/accounts").await.data(200);
    assert_eq!(accounts, json!([]));
    let again = stack.analyze(&paths[0], "plain").await;
    stack.apply(&again).await;
    stack.roll_back(&again, false).await;
    before.assert_same(&Snapshot::of(&stack.server));
    drop(zones);
    stack.end().await;
}

/// The whole way, as a user walks it; the job.
async fn move_account(stack: &Stack, name: &str, path: &str) -> String {
    let wanted = archives::expected(name);
    let user = wanted["username"].as_str().unwrap();
    let body = stack.source(path, user);
    let valid = stack.client.post("/api/migration/validate", body).await.data(200);
    assert_eq!(valid["valid"], true, "{valid:#}");
    let job = stack.analyze(path, user).await;
    let plan = stack.client.get(&format!("/api/migration/plan?job_id={job}")).await.data(200);
    let mut found: Vec<_> =
        plan["domains"].as_array().unwrap().iter().map(|d| &d["name"]).collect();
    let mut named: Vec<_> =
        wanted["domains"].as_array().unwrap().iter().map(|d| &d["name"]).collect();
    found.sort_by_key(|name| name.to_string());
    named.sort_by_key(|name| name.to_string());
    assert_eq!(found, named);
    let status = stack.apply(&job).await;
    assert_moved(&stack.server, &wanted, &status).await;
    let complete = json!({"job_id": job});
    let checks = stack.client.post("/api/migration/validate-complete", complete).await.data(200);
    assert_eq!(checks["valid"], true, "{checks:#}");
    confirm_cron(stack, &job, user).await;
    job
}

/// The report says what awaits confirmation; confirmed, it is given to cron.
async fn confirm_cron(stack: &Stack, job: &str, user: &str) {
    let report =
        async || stack.client.get(&format!("/api/migration/job/{job}/report")).await.data(200);
    let waiting = report().await;
    let count = waiting["totals"]["disabled"].as_u64().unwrap();
    assert!(count > 0, "{waiting:#}");
    assert_eq!(waiting["status"], "completed_with_losses");
    let path = format!("/api/migration/job/{job}/confirm");
    let first = format!("cron:{user}:1");
    let unknown = stack.client.post(&path, json!({"items": ["cron:nobody:1"]})).await;
    unknown.refused(400, "invalid_request");
    stack.client.post(&path, json!({ "items": [first] })).await.data(202);
    let found = wait_for("the cron job's confirmation", Duration::from_secs(60), async || {
        let found = report().await;
        (found["totals"]["disabled"].as_u64() != Some(count)).then_some(found)
    })
    .await;
    let items = found["components"]["files"]["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["id"] == first.as_str()).unwrap();
    assert_eq!(item["outcome"], "migrated", "{item:#}");
    let crontab = stack.server.sh(&format!("crontab -l -u {user}"));
    assert!(crontab.contains("/usr/bin/php8.2"), "{crontab}");
    // The job's row is free again only a moment after its items.
    wait_for("the job's end", Duration::from_secs(30), async || {
        let job = stack.client.get(&format!("/api/jobs/{job}")).await.data(200);
        (job["state"] == "done").then_some(())
    })
    .await;
}
