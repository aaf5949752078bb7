//! Amounts: prorations, discounts, taxes, balances, credit notes.

use serde_json::{Value, json};
use stripe_billing::billing_portal_session::CreateBillingPortalSession;
use stripe_billing::credit_note::ListCreditNote;
use stripe_billing::invoice_item::ListInvoiceItem;
use stripe_billing::tax_id::CreateCustomerTaxId;
use stripe_core::customer::RetrieveCustomer;
use stripe_payment::payment_method::ListPaymentMethod;
use stripe_product::coupon::ListCoupon;
use stripe_product::promotion_code::ListPromotionCode;

use crate::support::{SECRET, World, text};

fn item(subscription: &Value) -> String {
    text(&subscription["items"]["data"][0], "id")
}

/// Moves to the middle of the running period, to the second.
async fn half_way(world: &World, subscription: &Value) {
    let period = &subscription["items"]["data"][0];
    let (start, end) = (
        period["current_period_start"].as_i64().unwrap(),
        period["current_period_end"].as_i64().unwrap(),
    );
    world.control("clock", json!({"to": (start + end) / 2})).await;
}

#[tokio::test]
async fn an_upgrade_is_previewed_and_then_costs_what_the_preview_said() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 1000).await;
    let id = text(&subscription, "id");
    let big = world.price(3000, Some("month")).await;
    half_way(&world, &subscription).await;
    let date = world.now().await;
    let change = format!(
        "items[0][id]={}&items[0][price]={big}&proration_behavior=always_invoice&proration_date={date}",
        item(&subscription)
    );
    let nested = change.split('&').map(|pair| {
        let (name, value) = pair.split_once('=').unwrap();
        let (first, rest) = name
            .split_once('[')
            .map_or((name, String::new()), |(first, rest)| (first, format!("[{rest}")));
        format!("&subscription_details[{first}]{rest}={value}")
    });
    let form = format!("customer={customer}&subscription={id}{}", nested.collect::<String>());
    let preview = world.post("/v1/invoices/create_preview", &form).await;
    let total = preview["total"].as_i64().unwrap();
    assert!((999..=1001).contains(&total), "half of 30 less half of 10: {preview}");
    let before = world.get(&format!("/v1/subscriptions/{id}"), "").await;
    assert_eq!(
        before["latest_invoice"], subscription["latest_invoice"],
        "a preview changes nothing"
    );

    let after = world
        .post(&format!("/v1/subscriptions/{id}"), &format!("{change}&expand[]=latest_invoice"))
        .await;
    assert_eq!(after["latest_invoice"]["total"], total);
    assert_eq!(after["latest_invoice"]["status"], "paid");
    assert_eq!(after["latest_invoice"]["billing_reason"], "subscription_update");
    let lines = after["latest_invoice"]["lines"]["data"].as_array().unwrap();
    assert!(lines.iter().all(|line| line["parent"]["invoice_item_details"]["proration"] == true));
    ListInvoiceItem::new().customer(customer.as_str()).send(&world.client).await.unwrap();
}

#[tokio::test]
async fn a_downgrade_waits_for_the_renewal_or_is_credited_at_once() {
    let world = World::new().await;
    let small = world.price(1000, Some("month")).await;
    let (waits, _) = world.subscription("pm_card_visa", 3000).await;
    let (now, customer) = world.subscription("pm_card_visa", 3000).await;
    half_way(&world, &now).await;
    let form = |subscription: &Value, how: &str| {
        format!(
            "items[0][id]={}&items[0][price]={small}&proration_behavior={how}",
            item(subscription)
        )
    };
    let changed = world
        .post(
            &format!("/v1/subscriptions/{}", text(&waits, "id")),
            &form(&waits, "create_prorations"),
        )
        .await;
    assert_eq!(changed["latest_invoice"], waits["latest_invoice"]);
    let upcoming = world
        .post("/v1/invoices/create_preview", &format!("subscription={}", text(&waits, "id")))
        .await;
    let total = upcoming["total"].as_i64().unwrap();
    assert!((-1..=1).contains(&total), "10 less half of 20: {total}");

    world
        .post(&format!("/v1/subscriptions/{}", text(&now, "id")), &form(&now, "always_invoice"))
        .await;
    let owner = world.get(&format!("/v1/customers/{customer}"), "").await;
    let balance = owner["balance"].as_i64().unwrap();
    assert!(
        (-1001..=-999).contains(&balance),
        "what was credited stays with the customer: {balance}"
    );
    world.days(20).await;
    let renewed = world
        .get(&format!("/v1/subscriptions/{}", text(&now, "id")), "expand[]=latest_invoice")
        .await;
    assert_eq!(renewed["latest_invoice"]["total"], 1000);
    assert!(renewed["latest_invoice"]["amount_due"].as_i64().unwrap() <= 1, "the credit pays it");
}

#[tokio::test]
async fn the_period_may_begin_anew_when_the_service_exists() {
    let world = World::new().await;
    let (subscription, _) = world.subscription("pm_card_visa", 3100).await;
    let id = text(&subscription, "id");
    world.days(3).await;
    let moved = world
        .post(
            &format!("/v1/subscriptions/{id}"),
            "billing_cycle_anchor=now&proration_behavior=none",
        )
        .await;
    let start = moved["items"]["data"][0]["current_period_start"].as_i64().unwrap();
    assert!((world.now().await - start).abs() < 10);
    let (other, _) = world.subscription("pm_card_visa", 3100).await;
    let end = world.now().await + 10 * 86_400;
    let free = world
        .post(
            &format!("/v1/subscriptions/{}", text(&other, "id")),
            &format!("trial_end={end}&proration_behavior=none"),
        )
        .await;
    assert_eq!((&free["status"], &free["billing_cycle_anchor"]), (&json!("trialing"), &json!(end)));
    assert_eq!(free["latest_invoice"], other["latest_invoice"]);
}

#[tokio::test]
async fn promotion_codes_take_off_once_and_not_again() {
    let world = World::new().await;
    world.post("/v1/coupons", "id=HALF&percent_off=50&duration=once").await;
    let code = world
        .post(
            "/v1/promotion_codes",
            "promotion[type]=coupon&promotion[coupon]=HALF&code=WELCOME&max_redemptions=1",
        )
        .await;
    let price = world.price(2000, Some("month")).await;
    let form = format!(
        "mode=subscription&line_items[0][price]={price}&success_url=https://x.test/&discounts[0][promotion_code]={}",
        text(&code, "id")
    );
    let session = world.post("/v1/checkout/sessions", &form).await;
    assert_eq!(session["amount_total"], 1000);
    let session_id = text(&session, "id");
    world.control(&format!("checkout/{session_id}"), json!({"action": "pay"})).await;
    let session = world
        .get(
            &format!("/v1/checkout/sessions/{session_id}"),
            "expand[]=subscription.latest_invoice&expand[]=subscription.discounts",
        )
        .await;
    assert_eq!(session["subscription"]["latest_invoice"]["amount_paid"], 1000);
    assert_eq!(session["subscription"]["discounts"][0]["source"]["coupon"], "HALF");
    world.days(33).await;
    let id = text(&session["subscription"], "id");
    let renewed = world.get(&format!("/v1/subscriptions/{id}"), "expand[]=latest_invoice").await;
    assert_eq!(renewed["latest_invoice"]["amount_paid"], 2000);
    let again = world.send("POST", "/v1/checkout/sessions", &form, None).await;
    assert_eq!(again.code(), "promotion_code_expired");
    ListCoupon::new().send(&world.client).await.unwrap();
    let codes = ListPromotionCode::new().code("WELCOME").send(&world.client).await.unwrap();
    assert_eq!(codes.data[0].times_redeemed, 1);
}

#[tokio::test]
async fn tax_goes_by_the_country_and_not_for_a_business_abroad() {
    let world = World::new().await;
    let price = world.price(1000, Some("month")).await;
    let mut totals = Vec::new();
    for (country, vat) in [("DE", None), ("FR", None), ("FR", Some("FR12345678901")), ("US", None)]
    {
        let form = format!(
            "email=x@y.test&address[country]={country}&invoice_settings[default_payment_method]=pm_card_visa"
        );
        let customer = text(&world.post("/v1/customers", &form).await, "id");
        if let Some(vat) = vat {
            CreateCustomerTaxId::new(
                customer.as_str(),
                stripe_billing::tax_id::CreateCustomerTaxIdType::EuVat,
                vat,
            )
            .send(&world.client)
            .await
            .unwrap();
        }
        let form = format!(
            "customer={customer}&items[0][price]={price}&automatic_tax[enabled]=true&expand[]=latest_invoice"
        );
        let subscription = world.post("/v1/subscriptions", &form).await;
        totals.push(subscription["latest_invoice"]["total"].as_i64().unwrap());
    }
    assert_eq!(totals, [1190, 1200, 1000, 1000]);
    let customer = text(&world.post("/v1/customers", "email=x@y.test").await, "id");
    let bad = world
        .send("POST", &format!("/v1/customers/{customer}/tax_ids"), "type=eu_vat&value=ZZ1", None)
        .await;
    assert_eq!(bad.code(), "tax_id_invalid");
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}

#[tokio::test]
async fn credit_notes_lower_what_is_open_and_give_back_what_was_paid() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 5000).await;
    let paid = text(&subscription, "latest_invoice");
    let note = world.post("/v1/credit_notes", &format!("invoice={paid}&amount=1500&refund_amount=1000&credit_amount=500&reason=order_change")).await;
    assert_eq!(note["type"], "post_payment");
    assert_eq!(world.get(&format!("/v1/customers/{customer}"), "").await["balance"], -500);
    world
        .post(
            "/v1/invoiceitems",
            &format!("customer={customer}&amount=2000&currency=eur&description=Move"),
        )
        .await;
    let form = format!(
        "customer={customer}&collection_method=send_invoice&days_until_due=14&pending_invoice_items_behavior=include"
    );
    let invoice = text(&world.post("/v1/invoices", &form).await, "id");
    let open = world.post(&format!("/v1/invoices/{invoice}/finalize"), "").await;
    assert_eq!(
        (&open["amount_due"], &open["total"]),
        (&json!(1500), &json!(2000)),
        "the credit counts"
    );
    assert!(text(&open, "number").ends_with("-0002"));
    world.post("/v1/credit_notes", &format!("invoice={invoice}&amount=1500")).await;
    let settled = world.get(&format!("/v1/invoices/{invoice}"), "").await;
    assert_eq!(settled["status"], "paid");
    let notes =
        ListCreditNote::new().customer(customer.as_str()).send(&world.client).await.unwrap();
    assert_eq!(notes.data.len(), 2);
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}

#[tokio::test]
async fn the_portal_ends_a_subscription_and_changes_the_card() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 100).await;
    let portal = CreateBillingPortalSession::new()
        .customer(customer.as_str())
        .return_url("https://x.test/")
        .send(&world.client)
        .await
        .unwrap();
    let press = async |form: String| {
        let client = reqwest::Client::new().post(&portal.url);
        let client = client.header("content-type", "application/x-www-form-urlencoded").body(form);
        client.send().await.unwrap().text().await.unwrap()
    };
    let page = press(format!("action=cancel&subscription={}", text(&subscription, "id"))).await;
    assert!(page.contains("Keep it"), "{page}");
    press("action=card&payment_method=pm_card_mastercard".into()).await;
    let cards =
        ListPaymentMethod::new().customer(customer.as_str()).send(&world.client).await.unwrap();
    assert_eq!(cards.data.len(), 2);
    RetrieveCustomer::new(customer.as_str()).send(&world.client).await.unwrap();
    let after = world
        .get(
            &format!("/v1/subscriptions/{}", text(&subscription, "id")),
            "expand[]=default_payment_method",
        )
        .await;
    assert_eq!(after["cancel_at_period_end"], true);
    assert_eq!(after["default_payment_method"]["card"]["brand"], "mastercard");
}

#[tokio::test]
async fn collection_can_be_paused_and_goes_on() {
    let world = World::new().await;
    let (subscription, _) = world.subscription("pm_card_visa", 700).await;
    let id = text(&subscription, "id");
    world.post(&format!("/v1/subscriptions/{id}"), "pause_collection[behavior]=void").await;
    world.days(33).await;
    let paused = world.get(&format!("/v1/subscriptions/{id}"), "expand[]=latest_invoice").await;
    assert_eq!(
        (&paused["status"], &paused["latest_invoice"]["status"]),
        (&json!("active"), &json!("void"))
    );
    world.post(&format!("/v1/subscriptions/{id}"), "pause_collection=").await;
    world.days(33).await;
    let running = world.get(&format!("/v1/subscriptions/{id}"), "expand[]=latest_invoice").await;
    assert_eq!(running["latest_invoice"]["status"], "paid");
}
