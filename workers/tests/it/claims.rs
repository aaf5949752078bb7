//! Who may carry out a job: leases, fences, slots.

use entities::error::Code;
use entities::ids::{JobId, WorkerId};
use entities::jobs::{self, Claim, Claimant, Ending, StepState};
use entities::outbox::{self, Unsent};
use entities::tenancy::{Permission, TenantKind};
use entities::testing::TestDb;
use entities::{servers, sessions, tenants};
use serde_json::json;

const MANY: i64 = 100;

async fn claim(db: &TestDb, job: JobId, migrations_max: i64) -> Option<Claim> {
    let who = Claimant { worker: WorkerId::new(), lease_secs: 60, migrations_max };
    let tx = db.db.system().await.unwrap();
    let claim = jobs::claim(&tx, job, who).await.unwrap();
    tx.commit().await.unwrap();
    claim
}

async fn finish(db: &TestDb, claim: &Claim) -> entities::Result<()> {
    let tx = db.db.system().await?;
    jobs::finish(&tx, claim, &Ending::Done { result: json!({}) }).await?;
    tx.commit().await
}

#[tokio::test]
async fn of_many_who_claim_at_once_one_has_the_job() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let job = db.migration(&ctx, server, "alice").await.unwrap();
    let claims = futures::future::join_all((0..6).map(|_| claim(&db, job, MANY))).await;
    assert_eq!(claims.iter().flatten().count(), 1);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn a_worker_whose_lease_ended_can_change_nothing_any_more() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let job = db.migration(&ctx, server, "alice").await.unwrap();
    let old = claim(&db, job, MANY).await.unwrap();
    assert!(claim(&db, job, MANY).await.is_none());
    db.expire_lease(job).await.unwrap();
    let new = claim(&db, job, MANY).await.unwrap();
    assert!(new.fence > old.fence);

    let tx = db.db.system().await.unwrap();
    let writes = [
        jobs::heartbeat(&tx, &old, 60).await,
        jobs::start_step(&tx, &old, 1, "late", json!(null)).await,
        jobs::record_step(&tx, &old, "late", &StepState::Undone).await,
        jobs::begin_unwinding(&tx, &old, "x", "x").await,
        jobs::finish(&tx, &old, &Ending::Done { result: json!({}) }).await,
    ];
    for write in writes {
        assert_eq!(write.unwrap_err().code(), Code::StaleFence);
    }
    drop(tx);
    finish(&db, &new).await.unwrap();
    assert_eq!(db.job(job).await.unwrap().state, "done");
    db.remove().await.unwrap();
}

#[tokio::test]
async fn no_more_migrations_run_at_once_than_there_are_slots_and_one_an_account() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let first = db.migration(&ctx, server, "alice").await.unwrap();
    let second = db.migration(&ctx, server, "bob").await.unwrap();
    let same = db.migration(&ctx, server, "alice").await.unwrap();
    let running = claim(&db, first, 1).await.unwrap();
    assert!(claim(&db, second, 1).await.is_none());
    let tx = db.db.system().await.unwrap();
    let row = db.job(second).await.unwrap();
    assert_eq!(jobs::queue_position(&tx, &row).await.unwrap(), Some(1));
    let row = db.job(same).await.unwrap();
    assert_eq!(jobs::queue_position(&tx, &row).await.unwrap(), Some(2));
    drop(tx);
    assert!(claim(&db, same, MANY).await.is_none(), "alice is being worked on");
    let waiting = db.unsent().await.unwrap();
    finish(&db, &running).await.unwrap();
    assert_eq!(db.unsent().await.unwrap(), waiting + 2, "those who wait are announced");
    assert!(claim(&db, same, 1).await.is_some());
    assert!(claim(&db, second, 1).await.is_none());
    // A worker that takes its own job over again needs no further slot.
    db.expire_lease(same).await.unwrap();
    assert!(claim(&db, same, 1).await.is_some());
    db.remove().await.unwrap();
}

/// Moves a job on as if its analysis had been approved and its apply queued.
async fn as_apply(db: &TestDb, job: JobId) {
    let sql = format!("UPDATE job SET phase = 'apply' WHERE id = '{job}'");
    db.execute(&sql).await.unwrap();
}

#[tokio::test]
async fn analyses_do_not_wait_for_applies_nor_one_tenant_for_another() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let kind = TenantKind::Customer;
    let other = tenants::create_tenant(&db.db, &ctx, kind, "other").await.unwrap();
    let other = sessions::act_in(&db.db, &ctx, other.id).await.unwrap();
    let tx = db.db.write(&ctx, Permission::ServersWrite).await.unwrap();
    servers::grant_server(&db.db, &tx, server, other.tenant()).await.unwrap();
    tx.commit().await.unwrap();
    let mut greedy = Vec::new();
    for user in ["a", "b", "c", "d"] {
        let job = db.migration(&ctx, server, user).await.unwrap();
        as_apply(&db, job).await;
        greedy.push(job);
    }
    // While nobody else waits, one tenant may have all three slots.
    let first = claim(&db, greedy[0], 3).await.unwrap();
    assert!(claim(&db, greedy[1], 3).await.is_some());
    let third = claim(&db, greedy[2], 3).await.unwrap();
    assert!(claim(&db, greedy[3], 3).await.is_none());
    let analysis = db.migration(&ctx, server, "e").await.unwrap();
    assert!(claim(&db, analysis, 3).await.is_some(), "analyses have slots of their own");
    // Another tenant has the slot that becomes free, though it came later.
    let patient = db.migration(&other, server, "f").await.unwrap();
    as_apply(&db, patient).await;
    finish(&db, &first).await.unwrap();
    assert!(claim(&db, greedy[3], 3).await.is_none(), "somebody else waits");
    assert!(claim(&db, patient, 3).await.is_some());
    finish(&db, &third).await.unwrap();
    assert!(claim(&db, greedy[3], 3).await.is_some());
    db.remove().await.unwrap();
}

#[tokio::test]
async fn what_was_left_behind_is_announced_again() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let job = db.migration(&ctx, server, "alice").await.unwrap();
    let held = claim(&db, job, MANY).await.unwrap();
    let sweep = async || {
        let tx = db.db.system().await.unwrap();
        let count = jobs::sweep(&tx).await.unwrap();
        tx.commit().await.unwrap();
        count
    };
    let send = async || {
        let all = |unsent: Vec<Unsent>| async { unsent.into_iter().map(|m| m.id).collect() };
        outbox::send_batch(&db.db, 100, all).await.unwrap()
    };
    assert_eq!(send().await, 1);
    assert_eq!(sweep().await, 0);
    let tx = db.db.system().await.unwrap();
    jobs::release(&tx, &held).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.unsent().await.unwrap(), 1, "who lets a job go says so");
    assert_eq!(sweep().await, 0, "while the broker is away announcements do not pile up");
    assert_eq!(send().await, 1);
    assert_eq!(sweep().await, 1);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn many_that_wait_do_not_keep_other_work_from_being_announced() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    for nth in 0..30 {
        db.migration(&ctx, server, &format!("user{nth}")).await.unwrap();
    }
    let first = db.migration(&ctx, server, "first").await.unwrap();
    let second = db.migration(&ctx, server, "second").await.unwrap();
    let script = format!(
        "UPDATE job SET queued_at = now() - interval '1 hour';
         UPDATE job SET kind = 'cloudpod', phase = 'reboot', queued_at = now() - interval '1 minute'
            WHERE id IN ('{first}', '{second}');
         UPDATE outbox SET sent_at = now()"
    );
    db.execute(&script).await.unwrap();
    // What has been announced since the last time is sent.
    let announced = async |job: JobId| {
        let text = job.to_string();
        let mut found = false;
        let all = |unsent: Vec<Unsent>| {
            let mut payloads = unsent.iter().map(|m| String::from_utf8_lossy(&m.payload));
            found = payloads.any(|payload| payload.contains(&text));
            async move { unsent.into_iter().map(|m| m.id).collect() }
        };
        outbox::send_batch(&db.db, 100, all).await.unwrap();
        found
    };
    let tx = db.db.system().await.unwrap();
    assert_eq!(jobs::sweep(&tx).await.unwrap(), 22);
    tx.commit().await.unwrap();
    assert!(announced(second).await);
    // Nor when one of them ends.
    let held = claim(&db, first, MANY).await.unwrap();
    finish(&db, &held).await.unwrap();
    assert!(announced(second).await);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn only_claims_without_progress_count() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let job = db.migration(&ctx, server, "alice").await.unwrap();
    let mut held = claim(&db, job, MANY).await.unwrap();
    for lost in 1..4 {
        assert_eq!(held.attempts, lost);
        db.expire_lease(job).await.unwrap();
        held = claim(&db, job, MANY).await.unwrap();
    }
    let tx = db.db.system().await.unwrap();
    jobs::start_step(&tx, &held, 1, "step", json!(null)).await.unwrap();
    jobs::record_step(&tx, &held, "step", &StepState::Failed("x".into())).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.job(job).await.unwrap().attempts, 4);
    let tx = db.db.system().await.unwrap();
    jobs::record_step(&tx, &held, "step", &StepState::Done(json!(null))).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.job(job).await.unwrap().attempts, 1);
    db.remove().await.unwrap();
}
