//! Delivery: signed, repeated until it is taken, and disturbed to order.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{SECRET, World, text, until};

async fn make_customers(world: &World, count: usize) {
    for number in 0..count {
        world.post("/v1/customers", &format!("name=c{number}")).await;
    }
}

fn names(world: &World) -> Vec<String> {
    world.hook.got().iter().map(|one| text(&one.json()["data"]["object"], "name")).collect()
}

#[tokio::test]
async fn events_are_signed_and_come_in_order() {
    let world = World::new().await;
    make_customers(&world, 5).await;
    until(async || names(&world).len() == 5).await;
    assert_eq!(names(&world), ["c0", "c1", "c2", "c3", "c4"]);
    for one in world.hook.got() {
        let event = one.event(SECRET);
        assert!(event.request.unwrap().id.is_some());
        assert!(
            stripe_webhook::Webhook::construct_event(&one.body, &one.signature, "whsec_other")
                .is_err()
        );
    }
    world.control("delivery", json!({"signature_offset_seconds": -301})).await;
    make_customers(&world, 1).await;
    until(async || names(&world).len() == 6).await;
    let old = world.hook.got().pop().unwrap();
    assert!(stripe_webhook::Webhook::construct_event(&old.body, &old.signature, SECRET).is_err());
}

#[tokio::test]
async fn both_secrets_sign_while_one_is_rolled() {
    let world = World::new().await;
    let rolled = world.control("roll_secret", json!({"expires_in_seconds": 3600})).await;
    make_customers(&world, 1).await;
    until(async || world.hook.got().len() == 1).await;
    let one = world.hook.got().remove(0);
    assert_eq!(one.signature.matches("v1=").count(), 2);
    one.event(SECRET);
    one.event(&text(&rolled, "secret"));
    world.control("roll_secret", json!({"expires_in_seconds": 0})).await;
    make_customers(&world, 1).await;
    until(async || world.hook.got().len() == 2).await;
    assert_eq!(world.hook.got()[1].signature.matches("v1=").count(), 1);
}

#[tokio::test]
async fn what_is_refused_is_sent_again() {
    let world = World::new().await;
    world.control("delivery", json!({"retry_seconds": [0.05, 0.05]})).await;
    world.hook.refuse(2);
    make_customers(&world, 1).await;
    until(async || world.hook.got().len() == 3).await;
    world.settled().await;
    let ids: BTreeSet<String> =
        world.hook.got().iter().map(|one| text(&one.json(), "id")).collect();
    assert_eq!(ids.len(), 1, "each attempt carries the same event");
    let log = world.deliveries().await;
    let states: Vec<String> =
        log["data"].as_array().unwrap().iter().map(|one| text(one, "state")).collect();
    assert_eq!(states, ["failed", "failed", "delivered"]);
    world.hook.refuse(3);
    make_customers(&world, 1).await;
    until(async || world.hook.got().len() == 6).await;
    until(async || {
        world.deliveries().await["data"].as_array().unwrap().last().unwrap()["state"] == "given_up"
    })
    .await;
}

#[tokio::test]
async fn duplicates_losses_and_wrong_versions() {
    let world = World::new().await;
    world.control("delivery", json!({"duplicates": 2})).await;
    make_customers(&world, 2).await;
    until(async || names(&world).len() == 6).await;
    assert_eq!(names(&world), ["c0", "c0", "c0", "c1", "c1", "c1"]);
    world
        .control("delivery", json!({"duplicates": 0, "drop_next": 2, "api_version": "2024-06-20"}))
        .await;
    make_customers(&world, 3).await;
    until(async || names(&world).len() == 7).await;
    let last = world.hook.got().pop().unwrap().json();
    assert_eq!(
        (&last["data"]["object"]["name"], &last["api_version"]),
        (&json!("c2"), &json!("2024-06-20"))
    );
    let listed = world.get("/v1/events", "limit=100").await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 5, "what was lost can still be listed");
    world
        .control("delivery", json!({"drop_types": ["customer.created"], "api_version": null}))
        .await;
    make_customers(&world, 1).await;
    world.control("event", json!({"type": "made.up", "object": {"odd": [1, null]}})).await;
    until(async || world.hook.got().len() == 8).await;
    assert_eq!(world.hook.got()[7].kind(), "made.up");
}

#[tokio::test]
async fn held_events_are_released_in_any_order() {
    let world = World::new().await;
    world.control("delivery", json!({"hold": true})).await;
    make_customers(&world, 4).await;
    let held = world.deliveries().await["held"].as_array().unwrap().clone();
    assert_eq!((held.len(), world.hook.got().len()), (4, 0));
    world.control("release", json!({"events": [held[2], held[0]]})).await;
    until(async || names(&world).len() == 2).await;
    assert_eq!(names(&world), ["c2", "c0"]);
    world.control("release", json!({"order": "reverse"})).await;
    until(async || names(&world).len() == 4).await;
    assert_eq!(names(&world), ["c2", "c0", "c3", "c1"]);
}

#[tokio::test]
async fn a_seed_shuffles_in_the_same_way_each_time() {
    let mut orders = Vec::new();
    for seed in [7, 7, 8] {
        let world = World::new().await;
        world.control("delivery", json!({"shuffle": {"window": 10, "seed": seed}})).await;
        make_customers(&world, 10).await;
        until(async || names(&world).len() == 10).await;
        orders.push(names(&world));
    }
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0], orders[2]);
    assert!(!orders[0].is_sorted());
    let all: BTreeSet<&String> = orders[0].iter().collect();
    assert_eq!(all.len(), 10);
}

#[tokio::test]
async fn endpoints_get_what_they_asked_for_and_reset_forgets() {
    let world = World::new().await;
    let first = world.get("/v1/webhook_endpoints", "").await;
    let endpoint = text(&first["data"][0], "id");
    world.post(&format!("/v1/webhook_endpoints/{endpoint}"), "enabled_events[]=product.*").await;
    make_customers(&world, 1).await;
    world.post("/v1/products", "name=p").await;
    until(async || world.hook.got().len() == 1).await;
    assert_eq!(world.hook.got()[0].kind(), "product.created");
    let refused = json!({"url": "http://127.0.0.1:9/", "secret": "whsec_a"});
    for _ in 0..2 {
        world.control("webhook", refused.clone()).await;
    }
    let all = world.get("/v1/webhook_endpoints", "").await;
    assert_eq!(all["data"].as_array().unwrap().len(), 2, "an address has one endpoint");
    world.control("reset", json!({})).await;
    assert!(world.get("/v1/products", "").await["data"].as_array().unwrap().is_empty());
    make_customers(&world, 1).await;
    until(async || world.hook.got().len() == 2).await;
}
