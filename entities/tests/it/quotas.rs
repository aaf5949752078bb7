//! How many hosting accounts a tenant may have, whoever takes them at once.

use cpanel::plan::{Options, Totals};
use cpanel::protocol::Preview;
use entities::error::Code;
use entities::hosting::{self, Possession};
use entities::ids::{JobId, ServerId, WorkerId};
use entities::jobs::{self, Claim, Claimant, Ending};
use entities::migrations::{self, NewMigration, State};
use entities::servers;
use entities::tenancy::{Permission, TenantCtx};
use entities::tenants::{self, Change, Limits};
use entities::testing::TestDb;
use entities::values::{AbsPath, Username};
use futures::future::join_all;
use serde_json::json;

/// A tenant and a server that it may use.
async fn begin() -> (TestDb, TenantCtx, ServerId) {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    (db, ctx, server)
}

async fn allow(db: &TestDb, ctx: &TenantCtx, accounts: u32) {
    let limits = Some(Limits { accounts: Some(accounts), ..Limits::default() });
    let change = Change { limits, ..Change::default() };
    tenants::update_tenant(&db.db, ctx, ctx.tenant(), change).await.unwrap();
}

/// What became of an attempt: nothing, or the code of its refusal.
type Outcome<T> = Result<T, Code>;

async fn analyze(db: &TestDb, ctx: &TenantCtx, server: ServerId, user: &str) -> Outcome<JobId> {
    let new = NewMigration {
        server,
        path: AbsPath::parse("/var/backups/migrations/a.tar").unwrap(),
        target_user: Username::parse(user).unwrap(),
    };
    let tx = db.db.write(ctx, Permission::MigrationsWrite).await.unwrap();
    let id = migrations::start_migration(&tx, new).await.map_err(|e| e.code())?;
    tx.commit().await.unwrap();
    Ok(id)
}

/// As if the analysis had ended well.
async fn pretend_analyzed(db: &TestDb) {
    let script =
        "UPDATE migration SET state = 'analyzed', plan = '{\"domains\": [], \"zones\": []}';
                  UPDATE job SET state = 'done' WHERE kind = 'migration'";
    db.execute(script).await.unwrap();
}

async fn preview(db: &TestDb, ctx: &TenantCtx, id: JobId) -> Outcome<String> {
    let shown: Preview = serde_json::from_value(json!({
        "plan": {"operations": [], "totals": Totals::default(), "warnings": [], "not_transferred": [], "conflicts": []},
        "digest": "d", "expanded_bytes": 1,
    }))
    .unwrap();
    let tx = db.db.write(ctx, Permission::MigrationsWrite).await.unwrap();
    let approval = migrations::approve(&tx, id, &Options::default(), &shown).await;
    let approval = approval.map_err(|e| e.code())?;
    tx.commit().await.unwrap();
    Ok(approval.token)
}

async fn apply(db: &TestDb, ctx: &TenantCtx, id: JobId, token: &str) -> Outcome<()> {
    let tx = db.db.write(ctx, Permission::MigrationsWrite).await.unwrap();
    migrations::start_apply(&tx, id, token, None).await.map_err(|e| e.code())?;
    tx.commit().await.unwrap();
    Ok(())
}

async fn claim(db: &TestDb, job: JobId) -> Claim {
    let who = Claimant { worker: WorkerId::new(), lease_secs: 60, migrations_max: 1000 };
    let tx = db.db.system().await.unwrap();
    let claim = jobs::claim(&tx, job, who).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    claim
}

async fn take(db: &TestDb, claim: &Claim, user: &str) -> Outcome<()> {
    let user = Username::parse(user).unwrap();
    let tx = db.db.system().await.unwrap();
    let wanted =
        Possession { user: &user, domains: &[], active: &std::collections::BTreeSet::new() };
    hosting::take(&tx, claim, &wanted).await.map_err(|e| e.code())?;
    tx.commit().await.unwrap();
    Ok(())
}

/// The apply ends, and with it the claim.
async fn end(db: &TestDb, claim: &Claim, state: State) {
    let tx = db.db.system().await.unwrap();
    if state != State::Completed {
        hosting::give_up(&tx, claim).await.unwrap();
    }
    migrations::settle(&tx, claim, state, None).await.unwrap();
    jobs::finish(&tx, claim, &Ending::Done { result: json!({}) }).await.unwrap();
    tx.commit().await.unwrap();
}

fn names() -> Vec<String> {
    (0..20).map(|nth| format!("user{nth}")).collect()
}

/// One of them, and what the others were told.
#[track_caller]
fn the_one<T>(outcomes: &[Outcome<T>]) -> usize {
    let made: Vec<usize> = (0..outcomes.len()).filter(|nth| outcomes[*nth].is_ok()).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let told = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(
        told.clone().all(|code| *code == Code::QuotaExceeded),
        "{:?}",
        told.collect::<Vec<_>>()
    );
    made[0]
}

#[tokio::test]
async fn of_twenty_applies_at_once_one_has_the_one_place() {
    let (db, ctx, server) = begin().await;
    let names = names();
    let mut jobs = Vec::new();
    for name in &names {
        jobs.push(analyze(&db, &ctx, server, name).await.unwrap());
    }
    pretend_analyzed(&db).await;
    let tokens = join_all(jobs.iter().map(|id| preview(&db, &ctx, *id))).await;
    allow(&db, &ctx, 1).await;
    let applies = jobs.iter().zip(&tokens).map(|(id, token)| {
        let token = token.as_ref().unwrap();
        apply(&db, &ctx, *id, token)
    });
    let first = the_one(&join_all(applies).await);
    let second = usize::from(first == 0);
    let again = tokens[second].as_ref().unwrap();

    // While it waits, while it works, and once it is there, nobody else is let in.
    let refused = Err(Code::QuotaExceeded);
    assert_eq!(apply(&db, &ctx, jobs[second], again).await, refused);
    let held = claim(&db, jobs[first]).await;
    take(&db, &held, &names[first]).await.unwrap();
    // Whoever is killed here takes it again, and needs no second place.
    take(&db, &held, &names[first]).await.unwrap();
    assert_eq!(apply(&db, &ctx, jobs[second], again).await, refused);
    end(&db, &held, State::Completed).await;
    assert_eq!(apply(&db, &ctx, jobs[second], again).await, refused);
    assert_eq!(preview(&db, &ctx, jobs[second]).await, Err(Code::QuotaExceeded));
    assert_eq!(analyze(&db, &ctx, server, "other").await, Err(Code::QuotaExceeded));

    // Into the account that is there one may go again.
    let restore = analyze(&db, &ctx, server, &names[first]).await.unwrap();
    db.execute("UPDATE migration SET state = 'analyzed', plan = '{}' WHERE state = 'queued'")
        .await
        .unwrap();
    let token = preview(&db, &ctx, restore).await.unwrap();
    apply(&db, &ctx, restore, &token).await.unwrap();
    end(&db, &claim(&db, restore).await, State::Failed).await;

    // Rolled back, it gives its place back.
    let tx = db.db.write(&ctx, Permission::MigrationsWrite).await.unwrap();
    migrations::start_rollback(&tx, jobs[first], false).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(apply(&db, &ctx, jobs[second], again).await, refused);
    end(&db, &claim(&db, jobs[first]).await, State::RolledBack).await;
    apply(&db, &ctx, jobs[second], again).await.unwrap();
    // And so does one that is cancelled before it has begun.
    let tx = db.db.write(&ctx, Permission::MigrationsWrite).await.unwrap();
    migrations::cancel_migration(&tx, jobs[second]).await.unwrap();
    tx.commit().await.unwrap();
    let third = (0..20).find(|nth| *nth != first && *nth != second).unwrap();
    apply(&db, &ctx, jobs[third], tokens[third].as_ref().unwrap()).await.unwrap();
    db.remove().await.unwrap();
}

#[tokio::test]
async fn of_twenty_workers_that_take_names_at_once_one_finds_room() {
    let (db, ctx, server) = begin().await;
    let names = names();
    let mut claims = Vec::new();
    for name in &names {
        let id = analyze(&db, &ctx, server, name).await.unwrap();
        claims.push(claim(&db, id).await);
    }
    // The limit was lowered after all of them had been let in.
    allow(&db, &ctx, 1).await;
    let taken = claims.iter().zip(&names).map(|(claim, name)| take(&db, claim, name));
    let first = the_one(&join_all(taken).await);
    let tx = db.db.read(&ctx, Permission::AccountsRead).await.unwrap();
    let accounts = hosting::list_accounts(&tx, 0, 50).await.unwrap().0;
    drop(tx);
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0].username, names[first]);
    end(&db, &claims[first], State::Failed).await;
    let second = usize::from(first == 0);
    take(&db, &claims[second], &names[second]).await.unwrap();
    db.remove().await.unwrap();
}

#[tokio::test]
async fn the_limit_is_a_tenants_own() {
    let (db, platform, server) = begin().await;
    allow(&db, &platform, 0).await;
    let refused = analyze(&db, &platform, server, "alice").await;
    assert_eq!(refused, Err(Code::QuotaExceeded));
    let customer = db.tenant(&platform, "customer").await.unwrap();
    let tx = db.db.write(&platform, Permission::ServersWrite).await.unwrap();
    entities::servers::grant_server(&db.db, &tx, server, customer.tenant()).await.unwrap();
    tx.commit().await.unwrap();
    analyze(&db, &customer, server, "alice").await.unwrap();
    db.remove().await.unwrap();
}

#[tokio::test]
async fn of_the_work_on_containers_nobody_has_all_while_others_wait() {
    let (db, one, server) = begin().await;
    let other = db.tenant(&one, "other").await.unwrap();
    let tx = db.db.write(&one, Permission::ServersWrite).await.unwrap();
    servers::grant_server(&db.db, &tx, server, other.tenant()).await.unwrap();
    tx.commit().await.unwrap();
    let mut jobs = Vec::new();
    for name in names().iter().take(6) {
        jobs.push(analyze(&db, &one, server, name).await.unwrap());
    }
    let waits = analyze(&db, &other, server, "waits").await.unwrap();
    db.execute("UPDATE job SET kind = 'cloudpod', phase = 'reboot'").await.unwrap();
    let try_claim = async |job| {
        let who = Claimant { worker: WorkerId::new(), lease_secs: 60, migrations_max: 1 };
        let tx = db.db.system().await.unwrap();
        let claim = jobs::claim(&tx, job, who).await.unwrap();
        tx.commit().await.unwrap();
        claim.is_some()
    };
    for job in &jobs[..4] {
        assert!(try_claim(*job).await);
    }
    assert!(!try_claim(jobs[4]).await, "somebody else waits");
    assert!(try_claim(waits).await);
    assert!(try_claim(jobs[4]).await && try_claim(jobs[5]).await, "nobody else waits");
    // A node makes one backup at a time.
    db.execute("UPDATE job SET phase = 'backup', state = 'queued'").await.unwrap();
    assert!(try_claim(waits).await);
    assert!(!try_claim(jobs[0]).await, "a node makes one backup at a time");
    db.execute("UPDATE job SET phase = 'reboot' WHERE state = 'queued'").await.unwrap();
    assert!(try_claim(jobs[0]).await);
    db.remove().await.unwrap();
}
