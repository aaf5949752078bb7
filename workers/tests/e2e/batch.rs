//! Ten migrations at once while workers, the relay, agents and SSH connections die at random: each
//! ends as if nothing had been, or taken back whole.

use crate::archives;
use crate::chance::Chance;
use crate::expect::{assert_moved, assert_no_zones};
use crate::snapshot::Snapshot;
use crate::stack::{APPLIED, Stack};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const USERS: [&str; 10] = [
    "batcha", "batchb", "batchc", "batchd", "batche", "batchf", "batchg", "batchh", "batchi",
    "batchj",
];
/// How long it goes on, each way.
const STORM: Duration = Duration::from_secs(15);

#[tokio::test]
async fn ten_migrations_survive_random_kills() {
    let settings = [("MIGRAPANEL__LEASE_SECS", "3"), ("MIGRAPANEL__MIGRATIONS_MAX", "4")];
    let mut stack = Stack::start("batch", &settings).await;
    let mut chance = Chance::of_seed();
    let accounts = USERS.map(archives::like_shopco);
    let mut jobs = Vec::new();
    let (before, slate) = (Snapshot::of(&stack.server), stack.slate());
    for (user, (archive, _)) in USERS.iter().zip(&accounts) {
        let path = stack.server.put_bytes(archive, &format!("cpmove-{user}.tar.gz"));
        jobs.push(stack.start_analysis(&path, user).await);
    }
    storm(&mut stack, &mut chance, &jobs, "apply").await;
    let ends = [APPLIED, &["failed"]].concat();
    for job in &jobs {
        stack.wait(job, &ends).await;
    }
    let mut applied = Vec::new();
    for (job, (_, wanted)) in jobs.iter().zip(&accounts) {
        let status = stack.status(job).await;
        if status["status"] == "failed" {
            assert_no_zones(wanted);
            continue;
        }
        assert_moved(&stack.server, wanted, &status).await;
        applied.push(job.clone());
    }
    assert!(applied.len() >= 5, "only {} of ten were applied", applied.len());
    assert_nothing_doubled(&stack);

    storm(&mut stack, &mut chance, &applied, "rollback").await;
    for job in &applied {
        stack.wait(job, &["rolled_back"]).await;
    }
    for user in USERS {
        stack.server.sh(&format!("rm /var/backups/migrations/cpmove-{user}.tar.gz"));
    }
    before.assert_same(&Snapshot::of(&stack.server));
    assert_eq!(slate, stack.slate());
    janitor(&stack, accounts.len()).await;
    stack.assert_idle().await;
    stack.end().await;
}

/// Drives the jobs on and kills something every now and then, until the storm is over and all jobs
/// have been started.
async fn storm(stack: &mut Stack, chance: &mut Chance, jobs: &[String], phase: &str) {
    let began = Instant::now();
    let mut waiting: Vec<&String> = jobs.iter().collect();
    while began.elapsed() < STORM || !waiting.is_empty() {
        if began.elapsed() < STORM {
            strike(stack, chance);
        }
        tokio::time::sleep(Duration::from_millis(200 + chance.below(1500))).await;
        let mut still = Vec::new();
        for job in waiting {
            if !start(stack, job, phase).await {
                still.push(job);
            }
        }
        waiting = still;
        assert!(began.elapsed() < STORM * 12, "{waiting:?} do not begin to {phase}");
    }
}

fn strike(stack: &mut Stack, chance: &mut Chance) {
    match chance.below(5) {
        0 => stack.replace_migrator(),
        1 => stack.replace_relay(),
        2 => stack.server.cut_ssh(),
        _ => {
            stack
                .server
                .inside("pkill -KILL -f '^/usr/local/lib/migrapanel/migrapanel-agent' || true");
        }
    }
}

/// Asks for the job's next phase when it is time; whether that is under way. What is refused because
/// somebody is away just now is asked for again.
async fn start(stack: &Stack, job: &str, phase: &str) -> bool {
    let status = stack.status(job).await;
    match (phase, status["status"].as_str().unwrap()) {
        ("apply", "analyzed") => {
            let body = json!({"job_id": job});
            let preview = stack.client.post("/api/migration/preview", body).await;
            let token = preview.body["data"]["approval_token"].clone();
            if token == Value::Null {
                assert!([502, 503, 504].contains(&preview.status), "{:#}", preview.body);
                return false;
            }
            let body = json!({"job_id": job, "approval_token": token});
            let got = stack.client.post("/api/migration/apply", body).await;
            assert!([202, 502, 503, 504].contains(&got.status), "{:#}", got.body);
            got.status == 202
        }
        ("apply", "queued" | "analyzing") => false,
        ("rollback", "completed" | "completed_with_losses") => {
            let body = json!({"job_id": job, "force": true});
            let got = stack.client.post("/api/migration/rollback", body).await;
            assert!([202, 502, 503, 504].contains(&got.status), "{:#}", got.body);
            got.status == 202
        }
        _ => true,
    }
}

/// No line, no letter and no login twice.
fn assert_nothing_doubled(stack: &Stack) {
    let doubled = stack.server.sh(
        "for f in /etc/migrapanel/mail/*/aliases /etc/migrapanel/mail/*/passwd /etc/migrapanel/mail/*/boxes \\
            /etc/migrapanel/mail/passwd /etc/passwd /etc/group; do cut -d: -f1 $f | sort | uniq -d; done
         find /etc /home -name '.*.migrapanel-new'",
    );
    assert_eq!(doubled, "");
}

/// What failed analyses and applies leave for another try goes by age.
async fn janitor(stack: &Stack, most: usize) {
    let left = stack.server.staging();
    assert!(left.lines().filter(|line| !line.contains(".json")).count() <= most, "{left}");
    assert!(!left.contains("/home/") || left.lines().all(|l| l.starts_with("/home/.migrapanel/")));
    stack.server.sh(
        "find /home/.migrapanel -mindepth 1 -maxdepth 1 ! -name kept -exec touch -d '8 days ago' {} +",
    );
    let (archive, _) = archives::like_shopco("batchz");
    let path = stack.server.put_bytes(&archive, "cpmove-batchz.tar.gz");
    let job = stack.analyze(&path, "batchz").await;
    let left = stack.server.staging();
    assert!(left.lines().all(|line| line.contains(&job)), "{left}");
}
