//! Idempotency keys, failures to order, and who may ask.

use std::time::Duration;

use serde_json::json;
use stripe::{IdempotencyKey, RequestStrategy, StripeRequest};
use stripe_core::customer::CreateCustomer;
use stripe_core::refund::ListRefund;

use crate::support::World;

async fn customers(world: &World) -> usize {
    world.get("/v1/customers", "limit=100").await["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_key_repeats_the_answer_and_not_the_effect() {
    let world = World::new().await;
    let first = world.send("POST", "/v1/customers", "email=a@b.test", Some("k1")).await;
    let again = world.send("POST", "/v1/customers", "email=a@b.test", Some("k1")).await;
    assert_eq!(first.body, again.body);
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        ("", "true")
    );
    assert_eq!(again.header("original-request"), first.header("request-id"));
    let other = world.send("POST", "/v1/customers", "email=other@b.test", Some("k1")).await;
    assert_eq!(
        (other.status, other.body["error"]["type"].as_str()),
        (400, Some("idempotency_error"))
    );
    let elsewhere = world.send("POST", "/v1/products", "email=a@b.test", Some("k1")).await;
    assert_eq!(elsewhere.status, 400);
    assert_eq!(customers(&world).await, 1);
    world.control("clock", json!({"advance_seconds": 86_401})).await;
    let later = world.send("POST", "/v1/customers", "email=a@b.test", Some("k1")).await;
    assert_ne!(later.body["id"], first.body["id"], "a key is kept for a day");
    let strategy = RequestStrategy::Idempotent(IdempotencyKey::new("k2").unwrap());
    let create =
        || CreateCustomer::new().email("c@d.test").customize().request_strategy(strategy.clone());
    let (one, two) =
        (create().send(&world.client).await.unwrap(), create().send(&world.client).await.unwrap());
    assert_eq!(one.id, two.id);
}

#[tokio::test]
async fn a_refusal_before_the_work_keeps_nothing_and_a_refused_card_does() {
    let world = World::new().await;
    let bad = world.send("POST", "/v1/customers", "nmae=x", Some("k")).await;
    assert_eq!((bad.status, bad.code()), (400, "parameter_unknown"));
    let good = world.send("POST", "/v1/customers", "name=x", Some("k")).await;
    assert_eq!((good.status, good.header("idempotent-replayed")), (200, ""));
    let form = "amount=500&currency=eur&payment_method=pm_card_chargeDeclined&confirm=true";
    let declined = world.send("POST", "/v1/payment_intents", form, Some("card")).await;
    assert_eq!((declined.status, declined.code()), (402, "card_declined"));
    let again = world.send("POST", "/v1/payment_intents", form, Some("card")).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (402, "true"));
}

#[tokio::test]
async fn a_running_request_conflicts_with_its_repetition() {
    let world = World::new().await;
    world
        .control(
            "fail",
            json!({"path": "/v1/customers", "method": "post", "kind": "slow", "seconds": 2}),
        )
        .await;
    let slow = world.send("POST", "/v1/customers", "name=x", Some("k"));
    let beside = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            // The slow request holds the key once it has written its customer.
            if customers(&world).await == 1 {
                return world.send("POST", "/v1/customers", "name=x", Some("k")).await;
            }
        }
    };
    let (slow, beside) = tokio::join!(slow, beside);
    assert_eq!(slow.status, 200);
    assert_eq!((beside.status, beside.code()), (409, "idempotency_key_in_use"));
    let after = world.send("POST", "/v1/customers", "name=x", Some("k")).await;
    assert_eq!(after.body["id"], slow.body["id"]);
    assert_eq!(customers(&world).await, 1);
}

#[tokio::test]
async fn failures_come_before_or_after_the_write() {
    let world = World::new().await;
    let create = async |key: &str| world.send("POST", "/v1/customers", "name=x", Some(key)).await;
    world.control("fail", json!({"path": "/v1/customers", "kind": "before", "status": 503})).await;
    assert_eq!(create("a").await.status, 503);
    assert_eq!(customers(&world).await, 0);
    assert_eq!(create("a").await.status, 200);

    world
        .control("fail", json!({"path": "/v1/customers", "method": "post", "kind": "after"}))
        .await;
    assert_eq!(create("b").await.status, 500);
    assert_eq!(customers(&world).await, 2);
    let repeated = create("b").await;
    assert_eq!((repeated.status, repeated.header("idempotent-replayed")), (200, "true"));
    assert_eq!(customers(&world).await, 2);

    world
        .control("fail", json!({"path": "/v1/customers", "method": "post", "kind": "after_stored"}))
        .await;
    assert_eq!(create("c").await.status, 500);
    let repeated = create("c").await;
    assert_eq!((repeated.status, repeated.header("idempotent-replayed")), (500, "true"));
    assert_eq!(customers(&world).await, 3);

    world
        .control(
            "fail",
            json!({"path": "/v1/customers", "kind": "rate_limit", "seconds": 7, "times": 2}),
        )
        .await;
    for _ in 0..2 {
        let limited = create("d").await;
        assert_eq!(
            (limited.status, limited.code(), limited.header("retry-after")),
            (429, "rate_limit", "7")
        );
    }
    assert_eq!(create("d").await.status, 200);
}

#[tokio::test]
async fn only_the_key_is_let_in_and_only_the_pinned_version_is_spoken() {
    let world = World::new().await;
    let ask = |request: reqwest::RequestBuilder| async {
        request.send().await.unwrap().status().as_u16()
    };
    let http = reqwest::Client::new();
    let url = format!("{}/v1/customers", world.sandbox.base_url);
    assert_eq!(ask(http.get(&url)).await, 401);
    assert_eq!(ask(http.get(&url).bearer_auth("sk_test_other")).await, 401);
    assert_eq!(ask(http.get(&url).basic_auth(crate::support::KEY, Some(""))).await, 200);
    assert_eq!(
        ask(http.get(&url).bearer_auth(crate::support::KEY).header("stripe-version", "2024-06-20"))
            .await,
        400
    );
    let missing = world.send("GET", "/v1/customers/cus_none", "", None).await;
    assert_eq!((missing.status, missing.code()), (404, "resource_missing"));
    assert!(missing.header("request-id").starts_with("req_"));
    let nowhere = world.send("GET", "/v1/nothing", "", None).await;
    assert_eq!(nowhere.status, 404);
    assert_eq!(stripe_shared::version::VERSION.as_str(), stripe_sandbox::API_VERSION);
    ListRefund::new().send(&world.client).await.unwrap();
}
