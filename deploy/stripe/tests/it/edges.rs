//! Payments that do not go through at once: what they leave behind, and what they do not.

use serde_json::json;

use crate::support::{SECRET, World, text};

#[tokio::test]
async fn a_first_payment_that_never_comes_ends_after_23_hours() {
    let world = World::new().await;
    let (subscription, _) =
        world.subscription("pm_card_chargeDeclinedInsufficientFunds", 900).await;
    assert_eq!(subscription["status"], "incomplete");
    let path = format!("/v1/subscriptions/{}", text(&subscription, "id"));
    world.control("clock", json!({"advance_seconds": 22 * 3600})).await;
    assert_eq!(world.get(&path, "").await["status"], "incomplete");
    world.control("clock", json!({"advance_seconds": 2 * 3600})).await;
    let over = world.get(&path, "expand[]=latest_invoice").await;
    assert_eq!(over["status"], "incomplete_expired");
    assert_eq!(over["latest_invoice"]["status"], "void");
    world.days(60).await;
    let invoices = world.get("/v1/invoices", "").await;
    assert_eq!(invoices["data"].as_array().unwrap().len(), 1, "nothing renews");
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}

#[tokio::test]
async fn what_must_be_paid_at_once_leaves_nothing_behind_when_it_is_not() {
    let world = World::new().await;
    let price = world.price(900, Some("month")).await;
    let customer = world.customer("pm_card_chargeDeclinedInsufficientFunds").await;
    let before = world.kinds().await;
    let form =
        format!("customer={customer}&items[0][price]={price}&payment_behavior=error_if_incomplete");
    let refused = world.send("POST", "/v1/subscriptions", &form, None).await;
    assert_eq!((refused.status, refused.code()), (402, "card_declined"));
    assert_eq!(refused.body["error"]["decline_code"], "insufficient_funds");
    assert_eq!(world.kinds().await, before);
    let all = world.get("/v1/subscriptions", "status=all").await;
    assert!(all["data"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn a_renewal_that_needs_the_customer_is_paid_when_they_have_authenticated() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 900).await;
    world.control("card", json!({"customer": customer, "behaviour": "authenticates"})).await;
    world.days(32).await;
    let path = format!("/v1/subscriptions/{}", text(&subscription, "id"));
    let late = world.get(&path, "expand[]=latest_invoice.payments").await;
    assert_eq!(late["status"], "past_due");
    let kinds = world.kinds().await;
    assert!(kinds.contains(&"invoice.payment_action_required".to_owned()), "{kinds:?}");
    let payment = &late["latest_invoice"]["payments"]["data"][0]["payment"];
    let intent = text(payment, "payment_intent");
    let waits = world.get(&format!("/v1/payment_intents/{intent}"), "").await;
    assert_eq!(waits["status"], "requires_action");
    let url = text(&waits["next_action"]["redirect_to_url"], "url");
    let answer = reqwest::Client::new().post(url).body("action=authenticated").send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let back = world.get(&path, "expand[]=latest_invoice").await;
    assert_eq!(
        (&back["status"], &back["latest_invoice"]["status"]),
        (&json!("active"), &json!("paid"))
    );
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}

#[tokio::test]
async fn a_late_payment_of_a_subscription_that_fails_is_collected_again() {
    let world = World::new().await;
    let price = world.price(900, Some("month")).await;
    let form =
        format!("mode=subscription&line_items[0][price]={price}&success_url=https://x.test/");
    let id = text(&world.post("/v1/checkout/sessions", &form).await, "id");
    world.press(&id, "later_fails", "pm_card_visa").await;
    let path = format!("/v1/checkout/sessions/{id}");
    let done = world.get(&path, "expand[]=subscription").await;
    assert_eq!(
        (&done["payment_status"], &done["subscription"]["status"]),
        (&json!("unpaid"), &json!("active"))
    );
    world.control("clock", json!({"advance_seconds": 120})).await;
    let failed = world.get(&path, "expand[]=subscription").await;
    assert_eq!(failed["subscription"]["status"], "past_due");
    assert!(world.kinds().await.contains(&"checkout.session.async_payment_failed".to_owned()));
    world.days(4).await;
    let paid = world.get(&path, "expand[]=subscription").await;
    assert_eq!(paid["subscription"]["status"], "active");
    assert_eq!(paid["payment_status"], "unpaid", "the session has ended with the failure");
}

#[tokio::test]
async fn a_payment_once_can_come_with_an_invoice_and_keep_the_card() {
    let world = World::new().await;
    let price = world.price(4900, None).await;
    let form = format!(
        "mode=payment&line_items[0][price]={price}&success_url=https://x.test/&invoice_creation[enabled]=true&payment_intent_data[metadata][order]=17&payment_intent_data[setup_future_usage]=off_session&metadata[order]=17"
    );
    let session = world.post("/v1/checkout/sessions", &form).await;
    let id = text(&session, "id");
    world.press(&id, "pay", "pm_card_visa").await;
    let paid = world
        .get(
            &format!("/v1/checkout/sessions/{id}"),
            "expand[]=invoice&expand[]=payment_intent.latest_charge",
        )
        .await;
    assert_eq!(paid["invoice"]["status"], "paid");
    assert_eq!(paid["payment_intent"]["metadata"]["order"], "17");
    assert_eq!(paid["payment_intent"]["latest_charge"]["amount_captured"], 4900);
    let customer = text(&paid, "customer");
    let cards = world.get(&format!("/v1/customers/{customer}/payment_methods"), "").await;
    let card = text(&cards["data"][0], "id");
    let form = format!(
        "amount=100&currency=eur&customer={customer}&payment_method={card}&off_session=true&confirm=true"
    );
    assert_eq!(world.post("/v1/payment_intents", &form).await["status"], "succeeded");
    world.post(&format!("/v1/payment_methods/{card}/detach"), "").await;
    let events = world.get("/v1/events", "type=payment_intent.succeeded").await;
    assert_eq!(events["data"].as_array().unwrap().len(), 2);
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}

#[tokio::test]
async fn deleting_and_giving_up() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 900).await;
    let invoice = text(&world.post("/v1/invoices", &format!("customer={customer}")).await, "id");
    world.send("DELETE", &format!("/v1/invoices/{invoice}"), "", None).await;
    assert_eq!(world.send("GET", &format!("/v1/invoices/{invoice}"), "", None).await.status, 404);
    world.post("/v1/invoiceitems", &format!("customer={customer}&amount=700&currency=eur")).await;
    let form = format!("customer={customer}&pending_invoice_items_behavior=include");
    let invoice = text(&world.post("/v1/invoices", &form).await, "id");
    world.post(&format!("/v1/invoices/{invoice}/finalize"), "").await;
    let given_up = world.post(&format!("/v1/invoices/{invoice}/mark_uncollectible"), "").await;
    assert_eq!(given_up["status"], "uncollectible");
    let void = world.post(&format!("/v1/invoices/{invoice}/void"), "").await;
    assert_eq!(void["status"], "void");
    let refused = world.send("POST", &format!("/v1/invoices/{invoice}/pay"), "", None).await;
    assert_eq!(refused.status, 400);
    world.send("DELETE", &format!("/v1/customers/{customer}"), "", None).await;
    let gone = world.get(&format!("/v1/customers/{customer}"), "").await;
    assert_eq!(gone["deleted"], true);
    let over = world.get(&format!("/v1/subscriptions/{}", text(&subscription, "id")), "").await;
    assert_eq!(over["status"], "canceled");
    let form = format!("customer={customer}&amount=1&currency=eur");
    assert_eq!(
        world.send("POST", "/v1/payment_intents", &form, None).await.code(),
        "resource_missing"
    );
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}
