//! The outbox reaches the broker, whatever happens in between.

use entities::audit::verify;
use entities::config;
use entities::testing::TestDb;
use workers::{amqp, relay, seal};

#[tokio::test]
async fn messages_are_sent_once_confirmed_and_kept_while_the_broker_is_away() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    for user in ["alice", "bob", "carol"] {
        db.migration(&ctx, server, user).await.unwrap();
    }
    let url = config::secret("TEST_AMQP_URL").unwrap();
    let connection = amqp::connect(&url, "test").await.unwrap();
    let channel = amqp::publisher(&connection).await.unwrap();
    connection.close(200, "".into()).await.unwrap();
    assert!(relay::relay_once(&db.db, &channel).await.is_err());
    assert_eq!(db.unsent().await.unwrap(), 3, "nothing counts as sent that was not confirmed");

    let connection = amqp::connect(&url, "test").await.unwrap();
    let channel = amqp::publisher(&connection).await.unwrap();
    // Two relays at once share the work; none sends what the other has taken.
    let both =
        tokio::join!(relay::relay_once(&db.db, &channel), relay::relay_once(&db.db, &channel));
    assert_eq!(both.0.unwrap() + both.1.unwrap(), 3);
    assert_eq!(db.unsent().await.unwrap(), 0);
    db.remove().await.unwrap();
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_not_sent() {
    let url = config::secret("TEST_AMQP_URL").unwrap();
    let connection = amqp::connect(&url, "test").await.unwrap();
    let channel = amqp::publisher(&connection).await.unwrap();
    let nowhere =
        amqp::publish_confirmed(&channel, "no.such.queue", b"{}", Default::default()).await;
    assert!(nowhere.is_err());
}

#[tokio::test]
async fn the_trail_is_sealed_by_any_number_of_relays() {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    db.migration(&ctx, server, "alice").await.unwrap();
    let both = tokio::join!(seal::seal_once(&db.db), seal::seal_once(&db.db));
    assert_eq!(both.0.unwrap() + both.1.unwrap(), 1);
    assert_eq!(seal::seal_once(&db.db).await.unwrap(), 0);
    let chain = verify::verify_chain(&db.db, ctx.tenant(), None).await.unwrap();
    assert_eq!((chain.fault, chain.unsealed), (None, 0));
    assert_eq!(chain.head.seq, i64::try_from(db.audit_kinds().await.unwrap().len()).unwrap());
    db.remove().await.unwrap();
}
