//! The trail: appended only, sealed behind its writers, and whatever was done to it shows.

use crate::in_maintenance;
use entities::audit::verify::{Chain, Noted, verify_chain};
use entities::audit::{self, Audit, Cursor, Filter, seal, unknown};
use entities::error::Code;
use entities::servers;
use entities::tables::audit_log;
use entities::tenancy::{Permission, TenantCtx};
use entities::testing::TestDb;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use secrecy::ExposeSecret;
use serde_json::json;

/// One connection of the schema's owner, who is also the server's superuser.
async fn owner(db: &TestDb) -> DatabaseConnection {
    let mut options = ConnectOptions::new(db.url.expose_secret());
    options.max_connections(1);
    Database::connect(options).await.unwrap()
}

async fn note(db: &TestDb, ctx: &TenantCtx, count: usize) {
    for _ in 0..count {
        let tx = db.db.write(ctx, Permission::TenantWrite).await.unwrap();
        tx.audit(Audit::Logout {}).await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn entries(db: &TestDb, ctx: &TenantCtx) -> Vec<audit_log::Model> {
    let tx = db.db.read(ctx, Permission::AuditRead).await.unwrap();
    audit::list_entries(&tx, Filter::default(), 1000).await.unwrap()
}

async fn verify(db: &TestDb, ctx: &TenantCtx) -> Chain {
    verify_chain(&db.db, ctx.tenant(), None).await.unwrap()
}

async fn seal_all(db: &TestDb) {
    while !seal::seal_entries(&db.db, 3).await.unwrap().is_empty() {}
}

#[tokio::test]
async fn an_entry_tells_who_did_it_and_what_changed_even_when_they_are_gone() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let tx = db.db.write(&ctx, Permission::ServersWrite).await.unwrap();
    servers::update_server(&tx, server, in_maintenance(true)).await.unwrap();
    tx.commit().await.unwrap();
    let entry = entries(&db, &ctx).await.remove(0);
    assert_eq!(entry.kind, "SERVER_UPDATED");
    assert_eq!(entry.data, json!({ "id": server }));
    assert_eq!(entry.before, Some(json!({"maintenance": false})));
    assert_eq!(entry.after, Some(json!({"maintenance": true})));
    assert_eq!(entry.actor_id, ctx.user().map(|id| id.0));
    owner(&db).await.execute_unprepared("UPDATE app_user SET email = 'x'").await.unwrap();
    assert_eq!(entry.actor_label.as_deref(), Some("owner@platform.test"));
    assert_eq!(entries(&db, &ctx).await.remove(0).actor_label, entry.actor_label);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn nobody_changes_or_removes_an_entry_or_a_seal() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    note(&db, &ctx, 1).await;
    seal_all(&db).await;
    let owner = owner(&db).await;
    for table in ["audit_log", "audit_seal"] {
        for statement in [
            format!("UPDATE {table} SET tenant_id = tenant_id"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
            format!("UPDATE {table} SET tenant_id = tenant_id WHERE false"),
        ] {
            for role in ["migrapanel_tenant", "migrapanel_system"] {
                let script = format!("BEGIN; SET LOCAL ROLE {role}; {statement}; COMMIT");
                let refused = owner.execute_unprepared(&script).await.unwrap_err().to_string();
                assert!(refused.contains("permission denied"), "{role} {statement}: {refused}");
                owner.execute_unprepared("ROLLBACK").await.unwrap();
            }
            for settings in ["", "SET LOCAL session_replication_role = replica;"] {
                let script = format!("BEGIN; {settings} {statement}; COMMIT");
                let refused = owner.execute_unprepared(&script).await.unwrap_err().to_string();
                assert!(refused.contains("is ever changed or removed"), "{statement}: {refused}");
                owner.execute_unprepared("ROLLBACK").await.unwrap();
            }
        }
    }
    assert!(verify(&db, &ctx).await.fault.is_none());
    drop(owner);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn many_sealers_beside_many_writers_make_one_chain_wherever_they_die() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let sealers: Vec<_> = (0..3u64)
        .map(|nth| {
            let db = db.db.clone();
            tokio::spawn(async move {
                for round in 0..40u64 {
                    // Dropped at another place each time, as a process that is killed.
                    let limit = std::time::Duration::from_millis(1 + (nth * 7 + round) % 9);
                    let sealing = seal::seal_entries(&db, 2);
                    if tokio::time::timeout(limit, sealing).await.is_err() {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    let writers = (0..4).map(|_| note(&db, &ctx, 15));
    futures::future::join_all(writers).await;
    for sealer in sealers {
        sealer.await.unwrap();
    }
    seal_all(&db).await;
    let chain = verify(&db, &ctx).await;
    assert_eq!(chain.fault, None);
    let all = entries(&db, &ctx).await.len();
    assert_eq!((usize::try_from(chain.head.seq).unwrap(), chain.unsealed), (all, 0));
    assert!(all >= 60, "{all}");
    db.remove().await.unwrap();
}

#[tokio::test]
async fn what_commits_late_gets_a_later_number() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let late = db.db.write(&ctx, Permission::TenantWrite).await.unwrap();
    late.audit(Audit::SessionRevoked { session: entities::ids::SessionId::new() }).await.unwrap();
    note(&db, &ctx, 2).await;
    seal_all(&db).await;
    let before = verify(&db, &ctx).await.head;
    late.commit().await.unwrap();
    assert_eq!(verify(&db, &ctx).await.unsealed, 1);
    seal_all(&db).await;
    let chain = verify(&db, &ctx).await;
    assert_eq!((chain.fault, chain.head.seq), (None, before.seq + 1));
    let noted: Noted = before.to_string().parse().unwrap();
    let chain = verify_chain(&db.db, ctx.tenant(), Some(&noted)).await.unwrap();
    assert_eq!(chain.fault, None);
    db.remove().await.unwrap();
}

/// What somebody with all rights does to a chain of numbers 1 to 8, and what is said of it: `{N}`
/// stands for the id of the entry with that number.
const TAMPERED: &[(&str, &str)] = &[
    ("UPDATE audit_log SET data = '{\"x\": 1}' WHERE id = '{4}'", "number 4, entry {4}, was changed"),
    ("UPDATE audit_log SET kind = 'LOGIN' WHERE id = '{4}'", "number 4, entry {4}, was changed"),
    ("UPDATE audit_log SET ip = '192.0.2.1' WHERE id = '{4}'", "number 4, entry {4}, was changed"),
    ("UPDATE audit_log SET actor_label = 'x@y.test' WHERE id = '{4}'", "number 4, entry {4}, was"),
    ("UPDATE audit_log SET created_at = created_at - interval '1 us' WHERE id = '{4}'", "number 4"),
    ("UPDATE audit_log SET after = '{}' WHERE id = '{4}'", "number 4, entry {4}, was changed"),
    ("UPDATE audit_log SET impersonator_id = actor_id WHERE id = '{4}'", "number 4, entry {4}, was"),
    ("DELETE FROM audit_log WHERE id = '{5}'", "number 5, entry {5}, was removed"),
    (
        "DELETE FROM audit_log WHERE id = '{5}'; DELETE FROM audit_seal WHERE seq = 5",
        "the seal number 5 was removed: the next one is number 6, entry {6}",
    ),
    (
        "DELETE FROM audit_log WHERE id = '{5}'; DELETE FROM audit_seal WHERE seq = 5;
         UPDATE audit_seal SET seq = seq - 1 WHERE seq = 6; UPDATE audit_seal SET seq = 6 WHERE seq = 7;
         UPDATE audit_seal SET seq = 7 WHERE seq = 8",
        "number 5, entry {6}, was changed, or stands in another's place",
    ),
    ("DELETE FROM audit_seal WHERE seq = 8", "entry {8} was added beside the chain"),
    (
        "UPDATE audit_seal SET audit_id = gen_random_uuid() WHERE seq = 3;
         UPDATE audit_seal SET audit_id = '{3}' WHERE seq = 6;
         UPDATE audit_seal SET audit_id = '{6}' WHERE seq = 3",
        "number 3, entry {6}, was changed, or stands in another's place",
    ),
    (
        "UPDATE audit_seal SET seq = 100 WHERE seq = 3; UPDATE audit_seal SET seq = 3 WHERE seq = 4;
         UPDATE audit_seal SET seq = 4 WHERE seq = 100",
        "number 3, entry {4}, was changed, or stands in another's place",
    ),
    (
        "INSERT INTO audit_log (id, tenant_id, kind, actor_kind, data, created_at)
         SELECT '01900000-0000-7000-8000-000000000001', tenant_id, kind, actor_kind, data, created_at
         FROM audit_log WHERE id = '{3}'",
        "entry 01900000-0000-7000-8000-000000000001 was added beside the chain",
    ),
    (
        "INSERT INTO audit_unsealed SELECT tenant_id, '01900000-0000-7000-8000-000000000002'
         FROM audit_log WHERE id = '{3}'",
        "entry 01900000-0000-7000-8000-000000000002 was removed before it was sealed",
    ),
    ("UPDATE audit_seal SET hash = repeat('0', 64) WHERE seq = 2", "number 2, entry {2}, was changed"),
    ("DELETE FROM audit_log; DELETE FROM audit_seal", "the chain ends at number 0"),
    (
        "DELETE FROM audit_log WHERE id IN ('{7}', '{8}'); DELETE FROM audit_seal WHERE seq > 6",
        "the chain ends at number 6: what followed to 8 was cut off",
    ),
];

#[tokio::test]
async fn whoever_changes_removes_moves_or_adds_an_entry_is_found_out() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    note(&db, &ctx, 7).await;
    seal_all(&db).await;
    let whole = verify(&db, &ctx).await;
    assert_eq!((whole.fault, whole.head.seq), (None, 8));
    let noted: Noted = whole.head.to_string().parse().unwrap();
    let mut ids: Vec<String> =
        entries(&db, &ctx).await.iter().map(|row| row.id.to_string()).collect();
    ids.reverse();
    let fill = |text: &str| {
        ids.iter()
            .enumerate()
            .fold(text.to_owned(), |text, (nth, id)| text.replace(&format!("{{{}}}", nth + 1), id))
    };
    let owner = owner(&db).await;
    let keep =
        "CREATE TABLE kept_log AS TABLE audit_log; CREATE TABLE kept_seal AS TABLE audit_seal;
        ALTER TABLE audit_log DISABLE TRIGGER ALL; ALTER TABLE audit_seal DISABLE TRIGGER ALL;
        ALTER TABLE audit_unsealed DISABLE TRIGGER ALL";
    owner.execute_unprepared(keep).await.unwrap();
    for (script, said) in TAMPERED {
        owner.execute_unprepared(&fill(script)).await.unwrap();
        let found = verify_chain(&db.db, ctx.tenant(), Some(&noted)).await.unwrap();
        let fault = found.fault.unwrap_or_default();
        assert!(fault.contains(&fill(said)), "{script}: {fault}");
        let again = "DELETE FROM audit_unsealed; DELETE FROM audit_seal; DELETE FROM audit_log;
            INSERT INTO audit_log SELECT * FROM kept_log; INSERT INTO audit_seal SELECT * FROM kept_seal";
        owner.execute_unprepared(again).await.unwrap();
        assert_eq!(verify(&db, &ctx).await.fault, None, "after {script}");
    }
    drop(owner);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn a_chain_that_was_written_anew_has_another_head() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    note(&db, &ctx, 3).await;
    seal_all(&db).await;
    let noted: Noted = verify(&db, &ctx).await.head.to_string().parse().unwrap();
    let owner = owner(&db).await;
    let anew =
        "ALTER TABLE audit_log DISABLE TRIGGER ALL; ALTER TABLE audit_seal DISABLE TRIGGER ALL;
        DELETE FROM audit_seal; UPDATE audit_log SET ip = '192.0.2.1';
        INSERT INTO audit_unsealed SELECT tenant_id, id FROM audit_log";
    owner.execute_unprepared(anew).await.unwrap();
    seal_all(&db).await;
    assert_eq!(verify(&db, &ctx).await.fault, None, "without a note nothing shows");
    let found = verify_chain(&db.db, ctx.tenant(), Some(&noted)).await.unwrap();
    assert!(found.fault.unwrap().contains("was written anew: number 4"));
    drop(owner);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn an_audited_read_writes_nothing_but_the_trail() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let tx = db.db.read_audited(&ctx, Permission::ServersRead).await.unwrap();
    assert_eq!(tx.commit().await.unwrap_err().code(), Code::Internal, "it must be recorded");
    let tx = db.db.read_audited(&ctx, Permission::ServersRead).await.unwrap();
    tx.audit(Audit::TenantUsersListed { count: 1 }).await.unwrap();
    servers::find_server(&tx, server).await.unwrap();
    tx.audit(Audit::TenantUserViewed { user: ctx.user().unwrap() }).await.unwrap();
    tx.commit().await.unwrap();
    for recorded in [false, true] {
        let tx = db.db.read_audited(&ctx, Permission::ServersRead).await.unwrap();
        if recorded {
            tx.audit(Audit::TenantUsersListed { count: 1 }).await.unwrap();
        }
        assert!(servers::update_server(&tx, server, in_maintenance(true)).await.is_err());
    }
    let kinds = db.audit_kinds().await.unwrap();
    assert_eq!(kinds[kinds.len() - 2..], ["TENANT_USERS_LISTED", "TENANT_USER_VIEWED"]);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn failed_logins_of_nobody_are_counted_and_recorded_once() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let tallies = (0..20).map(|nth| {
        let ip = if nth < 15 { Some("192.0.2.9") } else { None };
        audit::tally_unknown_login(&db.db, ip)
    });
    for tallied in futures::future::join_all(tallies).await {
        tallied.unwrap();
    }
    assert_eq!(unknown::record_unknown_logins(&db.db).await.unwrap(), 0, "not over yet");
    let owner = owner(&db).await;
    let over = "UPDATE audit_unknown_login SET quarter = quarter - interval '15 minutes'";
    owner.execute_unprepared(over).await.unwrap();
    // Counting goes on in the next quarter; one who counts late counts again.
    audit::tally_unknown_login(&db.db, Some("192.0.2.9")).await.unwrap();
    let relays = (0..4).map(|_| unknown::record_unknown_logins(&db.db));
    let recorded: usize =
        futures::future::join_all(relays).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(recorded, 2);
    let failed: Vec<_> =
        entries(&db, &ctx).await.into_iter().filter(|row| row.kind == "LOGIN_FAILED").collect();
    let mut seen: Vec<_> = failed.iter().map(|r| (r.ip.as_deref(), &r.data["count"])).collect();
    seen.sort_by_key(|(ip, _)| *ip);
    assert_eq!(seen, [(Some("192.0.2.9"), &json!(15)), (Some("unknown"), &json!(5))]);
    assert!(failed.iter().all(|r| r.actor_kind == "anonymous" && r.data["since"].is_string()));
    drop(owner);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn pages_stay_as_they_are_while_entries_come_in() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    note(&db, &ctx, 9).await;
    let expected: Vec<_> = entries(&db, &ctx).await.into_iter().map(|row| row.id).collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let tx = db.db.read(&ctx, Permission::AuditRead).await.unwrap();
        let filter = Filter { after, ..Filter::default() };
        let page = audit::list_entries(&tx, filter, 4).await.unwrap();
        drop(tx);
        let Some(last) = page.last() else { break };
        after = Some(Cursor::parse(&Cursor::of(last).to_string()).unwrap());
        seen.extend(page.into_iter().map(|row| row.id));
        note(&db, &ctx, 2).await;
    }
    assert_eq!(seen, expected);
    for text in ["", "x", "AAAA", &"A".repeat(32), &"_".repeat(32), "é"] {
        match Cursor::parse(text) {
            Ok(cursor) => assert_eq!(cursor.to_string(), text),
            Err(error) => assert_eq!(error.code(), Code::InvalidRequest, "{text}"),
        }
    }
    db.remove().await.unwrap();
}

#[tokio::test]
async fn a_tenant_sees_its_own_trail_and_chain_only() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    let other = db.tenant(&platform, "other").await.unwrap();
    note(&db, &platform, 2).await;
    note(&db, &other, 3).await;
    seal_all(&db).await;
    let tx = db.db.read(&other, Permission::AuditRead).await.unwrap();
    let lines = audit::export_entries(&tx, Filter::default(), 100).await.unwrap();
    let numbers: Vec<_> = lines.iter().map(|(_, seal)| seal.as_ref().unwrap().seq).collect();
    assert_eq!(numbers, [1, 2, 3]);
    drop(tx);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn the_platforms_trail_shows_that_another_chains_end_was_cut_off() {
    let db = TestDb::create().await.unwrap();
    let platform = db.platform().await.unwrap();
    let ctx = db.tenant(&platform, "cut").await.unwrap();
    note(&db, &ctx, 4).await;
    seal_all(&db).await;
    assert_eq!(seal::anchor_heads(&db.db).await.unwrap(), 1);
    assert_eq!(seal::anchor_heads(&db.db).await.unwrap(), 0, "nothing has grown since");
    note(&db, &ctx, 1).await;
    seal_all(&db).await;
    let whole = verify(&db, &ctx).await;
    assert_eq!(whole.fault, None);
    let owner = owner(&db).await;
    let tenant = ctx.tenant();
    let cut = |behind: i64| {
        format!(
            "ALTER TABLE audit_log DISABLE TRIGGER append_only;
             ALTER TABLE audit_seal DISABLE TRIGGER ALL; SET session_replication_role = replica;
             DELETE FROM audit_log WHERE id IN (SELECT audit_id FROM audit_seal
                WHERE tenant_id = '{tenant}' AND seq > {behind});
             DELETE FROM audit_seal WHERE tenant_id = '{tenant}' AND seq > {behind};
             SET session_replication_role = origin;
             ALTER TABLE audit_log ENABLE ALWAYS TRIGGER append_only"
        )
    };
    let noted = whole.head.seq - 1;
    owner.execute_unprepared(&cut(noted)).await.unwrap();
    assert_eq!(verify(&db, &ctx).await.fault, None, "what came after the note is not missed yet");
    owner.execute_unprepared(&cut(noted - 1)).await.unwrap();
    let fault = verify(&db, &ctx).await.fault.unwrap();
    assert!(fault.contains(&format!("what followed to {noted} was cut off")), "{fault}");
    // It grows again past the note, and is noted anew: what was there is not forgotten.
    note(&db, &ctx, 5).await;
    seal_all(&db).await;
    assert_eq!(seal::anchor_heads(&db.db).await.unwrap(), 1);
    let fault = verify(&db, &ctx).await.fault.unwrap();
    assert!(fault.contains(&format!("was written anew: number {noted}")), "{fault}");
    owner.execute_unprepared(&cut(0)).await.unwrap();
    assert!(verify(&db, &ctx).await.fault.unwrap().contains("ends at number 0"));
    drop(owner);
    db.remove().await.unwrap();
}
