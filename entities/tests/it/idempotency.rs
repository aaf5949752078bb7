//! The effect of a request with a key and its answer: both or neither, wherever the process dies.

use crate::in_maintenance;
use entities::error::Code;
use entities::idempotency::{self, Answer, Ended, Once};
use entities::tenancy::{Permission, TenantCtx, TenantKind};
use entities::testing::TestDb;
use entities::{servers, tenants};
use secrecy::SecretString;
use std::sync::Arc;

fn once(ctx: &TenantCtx, request: u8) -> (Arc<Once>, TenantCtx) {
    let once = Arc::new(Once::new(ctx, SecretString::from("key"), [request; 32]).unwrap());
    (Arc::clone(&once), ctx.clone().with_once(once))
}

/// The effect: a tenant of this name, made by the system for `ctx`.
async fn make(db: &TestDb, ctx: &TenantCtx, name: &str) -> Result<(), Code> {
    let made = tenants::create_tenant(&db.db, ctx, TenantKind::Customer, name).await;
    made.map(drop).map_err(|error| error.code())
}

/// As [make], for whom the transaction of one who died stands in the way: its connection rolls back
/// behind whoever dropped it, a moment later.
async fn make_after_a_death(db: &TestDb, ctx: &TenantCtx, name: &str) {
    loop {
        match make(db, ctx, name).await {
            Ok(()) => break,
            Err(Code::IdempotencyRunning) => tokio::task::yield_now().await,
            Err(code) => panic!("{code:?}"),
        }
    }
}

async fn made(db: &TestDb) -> usize {
    db.audit_kinds().await.unwrap().iter().filter(|kind| *kind == "TENANT_CREATED").count()
}

fn answer() -> Answer {
    Answer { status: 201, body: b"{\"success\":true}".to_vec() }
}

#[tokio::test]
async fn a_process_that_dies_before_the_answer_stands_leaves_nothing() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    for _ in 0..2 {
        let (first, acting) = once(&ctx, 1);
        make_after_a_death(&db, &acting, "one").await;
        assert_eq!(made(&db).await, 0, "nothing is seen before the answer stands");
        let (_, other) = once(&ctx, 1);
        assert_eq!(make(&db, &other, "one").await, Err(Code::IdempotencyRunning));
        // The process dies here.
        drop((first, acting));
    }
    let (failing, acting) = once(&ctx, 1);
    make_after_a_death(&db, &acting, "one").await;
    assert_eq!(failing.finish(None).await.unwrap(), Ended::NotKept, "the handler failed later");
    let (third, acting) = once(&ctx, 1);
    make(&db, &acting, "one").await.unwrap();
    assert_eq!(third.finish(Some(&answer())).await.unwrap(), Ended::Kept);
    assert_eq!(made(&db).await, 1);
    // It dies before the answer has reached the client, who asks again.
    let (again, acting) = once(&ctx, 1);
    assert_eq!(again.find_answer(&db.db).await.unwrap(), Some(answer()));
    // One who looked a moment too early meets the answer at the effect.
    assert_eq!(make(&db, &acting, "one").await, Err(Code::IdempotencyRunning));
    assert_eq!(again.finish(None).await.unwrap(), Ended::Repeated(answer()));
    assert_eq!(made(&db).await, 1);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn the_key_of_another_request_is_refused_at_the_effect_too() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let (first, acting) = once(&ctx, 1);
    let tx = db.db.write(&acting, Permission::ServersWrite).await.unwrap();
    servers::update_server(&tx, server, in_maintenance(true)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(first.finish(Some(&answer())).await.unwrap(), Ended::Kept);
    let (other, acting) = once(&ctx, 2);
    let code = other.find_answer(&db.db).await.unwrap_err().code();
    assert_eq!(code, Code::IdempotencyMismatch);
    assert_eq!(make(&db, &acting, "two").await, Err(Code::IdempotencyMismatch));
    // The transaction that was refused before is rolled back behind its caller, a moment later.
    let code = loop {
        let tx = db.db.write(&acting, Permission::ServersWrite).await;
        match tx.unwrap_err().code() {
            Code::IdempotencyRunning => tokio::task::yield_now().await,
            code => break code,
        }
    };
    assert_eq!(code, Code::IdempotencyMismatch);
    // Reading needs no key.
    db.db.read(&acting, Permission::ServersRead).await.unwrap().commit().await.unwrap();
    db.remove().await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_tampered_with_does_not_open_and_an_old_one_goes() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let (first, acting) = once(&ctx, 1);
    make(&db, &acting, "one").await.unwrap();
    first.finish(Some(&answer())).await.unwrap();
    let (again, _) = once(&ctx, 1);
    db.execute("UPDATE idempotency SET sealed_body = overlay(sealed_body placing 'AA' from 30)")
        .await
        .unwrap();
    assert_eq!(again.find_answer(&db.db).await.unwrap_err().code(), Code::Internal);
    db.execute("UPDATE idempotency SET created_at = now() - interval '23 hours'").await.unwrap();
    idempotency::prune(&db.db).await.unwrap();
    assert!(again.find_answer(&db.db).await.is_err());
    db.execute("UPDATE idempotency SET created_at = now() - interval '25 hours'").await.unwrap();
    idempotency::prune(&db.db).await.unwrap();
    assert_eq!(again.find_answer(&db.db).await.unwrap(), None);
    db.remove().await.unwrap();
}
