//! The life of a subscription, through the client of the official shapes.

use serde_json::json;
use stripe_billing::invoice::{ListInvoice, RetrieveInvoice};
use stripe_billing::invoice_payment::ListInvoicePayment;
use stripe_billing::subscription::{
    CancelSubscription, ListSubscription, RetrieveSubscription, UpdateSubscription,
};
use stripe_checkout::checkout_session::{
    CreateCheckoutSession, CreateCheckoutSessionLineItems, ListLineItemsCheckoutSession,
    RetrieveCheckoutSession,
};
use stripe_checkout::{CheckoutSessionMode, CheckoutSessionPaymentStatus, CheckoutSessionStatus};
use stripe_core::event::ListEvent;
use stripe_core::refund::CreateRefund;
use stripe_product::price::{CreatePrice, CreatePriceRecurring, CreatePriceRecurringInterval};
use stripe_product::product::CreateProduct;
use stripe_shared::{InvoiceStatus, SubscriptionStatus};
use stripe_types::Currency;

use crate::support::{SECRET, World, text};

/// Product, price and a session in subscription mode, with a set-up fee, through the client.
async fn session(world: &World) -> stripe_shared::CheckoutSession {
    let product = CreateProduct::new("Hosting M").send(&world.client).await.unwrap();
    let price = CreatePrice::new(Currency::EUR)
        .product(product.id.as_str())
        .unit_amount(1200)
        .recurring(CreatePriceRecurring::new(CreatePriceRecurringInterval::Month))
        .send(&world.client)
        .await
        .unwrap();
    let fee = CreatePrice::new(Currency::EUR)
        .product(product.id.as_str())
        .unit_amount(500)
        .send(&world.client)
        .await
        .unwrap();
    let line = |price: &stripe_shared::Price| CreateCheckoutSessionLineItems {
        price: Some(price.id.to_string()),
        quantity: Some(1),
        ..CreateCheckoutSessionLineItems::new()
    };
    CreateCheckoutSession::new()
        .mode(CheckoutSessionMode::Subscription)
        .line_items([line(&price), line(&fee)])
        .success_url("https://panel.test/back?session={CHECKOUT_SESSION_ID}")
        .client_reference_id("order-1")
        .expand(["line_items".to_owned()])
        .send(&world.client)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_checkout_becomes_a_subscription_that_renews() {
    let world = World::new().await;
    let session = session(&world).await;
    assert_eq!(session.amount_total, Some(1700));
    assert_eq!(session.payment_status, CheckoutSessionPaymentStatus::Unpaid);
    assert_eq!(session.line_items.unwrap().data.len(), 2);
    let answer = world.press(session.id.as_str(), "pay", "pm_card_visa").await;
    assert_eq!(answer.status(), 303);
    let back = answer.headers()["location"].to_str().unwrap();
    assert_eq!(back, format!("https://panel.test/back?session={}", session.id));

    let session = RetrieveCheckoutSession::new(&session.id)
        .expand(["subscription.latest_invoice".into(), "customer".into(), "invoice".into()])
        .send(&world.client)
        .await
        .unwrap();
    assert_eq!(session.status, Some(CheckoutSessionStatus::Complete));
    assert_eq!(session.payment_status, CheckoutSessionPaymentStatus::Paid);
    let subscription = session.subscription.unwrap().into_object().unwrap();
    assert_eq!(subscription.status, SubscriptionStatus::Active);
    let invoice = subscription.latest_invoice.unwrap().into_object().unwrap();
    assert_eq!((invoice.status, invoice.total), (Some(InvoiceStatus::Paid), 1700));
    let lines = ListLineItemsCheckoutSession::new(&session.id).send(&world.client).await.unwrap();
    assert_eq!(lines.data.len(), 2);

    world.days(35).await;
    let renewed = RetrieveSubscription::new(&subscription.id).send(&world.client).await.unwrap();
    let item = &renewed.items.data[0];
    assert_eq!(renewed.status, SubscriptionStatus::Active);
    assert!(item.current_period_start > subscription.items.data[0].current_period_start);
    let invoices = ListInvoice::new()
        .subscription(subscription.id.as_str())
        .send(&world.client)
        .await
        .unwrap();
    let totals: Vec<i64> = invoices.data.iter().map(|invoice| invoice.total).collect();
    assert_eq!(totals, [1200, 1700], "the fee is paid once");
    let parent = invoices.data[0].parent.clone().unwrap().subscription_details.unwrap();
    assert_eq!(parent.subscription.id(), &subscription.id);
}

#[tokio::test]
async fn the_events_come_in_order_and_are_all_known_to_the_official_types() {
    let world = World::new().await;
    let session = session(&world).await;
    world.press(session.id.as_str(), "pay", "pm_card_visa").await;
    let kinds = world.kinds().await;
    let place = |kind: &str| {
        kinds.iter().position(|one| one == kind).unwrap_or_else(|| panic!("{kind} in {kinds:?}"))
    };
    let order = [
        "customer.created",
        "payment_method.attached",
        "customer.subscription.created",
        "invoice.created",
        "invoice.finalized",
        "charge.succeeded",
        "payment_intent.succeeded",
        "invoice.paid",
        "invoice.payment_succeeded",
        "customer.subscription.updated",
        "checkout.session.completed",
    ];
    assert!(order.map(place).is_sorted(), "{kinds:?}");
    world.days(90).await;
    world.settled().await;
    let got = world.hook.got();
    let created: Vec<i64> = got.iter().map(|one| one.event(SECRET).created).collect();
    assert!(created.is_sorted(), "events are made at the moments that are played");
    assert!(created.last().unwrap() - created[0] > 80 * 86_400);
    let paid = got.iter().filter(|one| one.kind() == "invoice.paid").count();
    assert!((3..=4).contains(&paid), "each period was played in turn: {paid}");
    let listed = ListEvent::new().limit(3).send(&world.client).await.unwrap();
    assert_eq!(listed.data.len(), 3);
    assert!(listed.has_more);
}

/// From the failed renewal to what the settings say comes after the last attempt.
async fn dunning(after_retries: &str) -> (World, String) {
    let world = World::new().await;
    world.control("settings", json!({"after_retries": after_retries})).await;
    let (subscription, customer) = world.subscription("pm_card_visa", 900).await;
    let id = text(&subscription, "id");
    assert_eq!(subscription["status"], "active");
    world.control("card", json!({"customer": customer, "behaviour": "fails_later"})).await;
    world.days(32).await;
    let late = RetrieveSubscription::new(&*id).send(&world.client).await.unwrap();
    assert_eq!(late.status, SubscriptionStatus::PastDue);
    (world, id)
}

#[tokio::test]
async fn a_refused_card_is_tried_again_after_3_5_and_7_days_and_then_it_ends() {
    let (world, id) = dunning("canceled").await;
    world.days(20).await;
    let ended = RetrieveSubscription::new(&*id)
        .expand(["latest_invoice".into()])
        .send(&world.client)
        .await
        .unwrap();
    assert_eq!(ended.status, SubscriptionStatus::Canceled);
    let invoice = ended.latest_invoice.unwrap().into_object().unwrap();
    assert_eq!(invoice.attempt_count, 4);
    assert_eq!(invoice.next_payment_attempt, None);
    let events = world.get("/v1/events", "type=invoice.payment_failed").await;
    let times: Vec<i64> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|one| one["created"].as_i64().unwrap())
        .collect();
    let gaps: Vec<i64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 86_400).collect();
    assert_eq!(gaps, [3, 5, 7]);
    assert_eq!(world.kinds().await.last().unwrap(), "customer.subscription.deleted");
}

#[tokio::test]
async fn an_unpaid_subscription_comes_back_when_its_invoice_is_paid() {
    let (world, id) = dunning("unpaid").await;
    world.days(20).await;
    let unpaid = RetrieveSubscription::new(&*id).send(&world.client).await.unwrap();
    assert_eq!(unpaid.status, SubscriptionStatus::Unpaid);
    let invoice = unpaid.latest_invoice.unwrap().id().clone().unwrap().to_string();
    let refused = world.send("POST", &format!("/v1/invoices/{invoice}/pay"), "", None).await;
    assert_eq!((refused.status, refused.code()), (402, "card_declined"));
    let form = "payment_method=pm_card_visa";
    let paid = world.post(&format!("/v1/invoices/{invoice}/pay"), form).await;
    assert_eq!(paid["status"], "paid");
    let back = RetrieveSubscription::new(&*id).send(&world.client).await.unwrap();
    assert_eq!(back.status, SubscriptionStatus::Active);
}

#[tokio::test]
async fn authentication_leads_over_a_page_and_back() {
    let world = World::new().await;
    let session = session(&world).await;
    let page = world.press(session.id.as_str(), "pay_with_authentication", "").await;
    assert!(page.text().await.unwrap().contains("Complete authentication"));
    let open = RetrieveCheckoutSession::new(&session.id).send(&world.client).await.unwrap();
    assert_eq!(open.status, Some(CheckoutSessionStatus::Open));
    world.press(session.id.as_str(), "authenticated", "").await;
    let done = RetrieveCheckoutSession::new(&session.id).send(&world.client).await.unwrap();
    assert_eq!(done.payment_status, CheckoutSessionPaymentStatus::Paid);

    let intent = world
        .post(
            "/v1/payment_intents",
            "amount=700&currency=eur&payment_method=pm_card_authenticationRequired&confirm=true",
        )
        .await;
    assert_eq!(intent["status"], "requires_action");
    world.control("authenticate", json!({"payment_intent": intent["id"], "well": false})).await;
    let failed = world.get(&format!("/v1/payment_intents/{}", text(&intent, "id")), "").await;
    assert_eq!(failed["status"], "requires_payment_method");
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}

#[tokio::test]
async fn a_declined_card_leaves_the_session_open_and_a_late_payment_completes_it_unpaid() {
    let world = World::new().await;
    let price = world.price(2500, None).await;
    let form = format!(
        "mode=payment&line_items[0][price]={price}&line_items[0][quantity]=2&success_url=https://x.test/"
    );
    let id = text(&world.post("/v1/checkout/sessions", &form).await, "id");
    let page = world.press(&id, "decline", "").await.text().await.unwrap();
    assert!(page.contains("declined"), "{page}");
    assert_eq!(world.get(&format!("/v1/checkout/sessions/{id}"), "").await["status"], "open");
    world.press(&id, "later_succeeds", "").await;
    let late = world.get(&format!("/v1/checkout/sessions/{id}"), "expand[]=payment_intent").await;
    assert_eq!((&late["status"], &late["payment_status"]), (&json!("complete"), &json!("unpaid")));
    assert_eq!(late["payment_intent"]["status"], "processing");
    world.days(1).await;
    let paid = world.get(&format!("/v1/checkout/sessions/{id}"), "").await;
    assert_eq!(paid["payment_status"], "paid");
    let kinds = world.kinds().await;
    assert!(kinds.ends_with(&["checkout.session.async_payment_succeeded".to_owned()]), "{kinds:?}");
}

#[tokio::test]
async fn sessions_expire_by_the_clock_and_by_hand() {
    let world = World::new().await;
    let (first, second) = (session(&world).await, session(&world).await);
    world.post(&format!("/v1/checkout/sessions/{}/expire", first.id), "").await;
    world.days(2).await;
    for session in [&first, &second] {
        let session = RetrieveCheckoutSession::new(&session.id).send(&world.client).await.unwrap();
        assert_eq!(session.status, Some(CheckoutSessionStatus::Expired));
        assert_eq!(session.url, None);
    }
    let expired =
        world.kinds().await.iter().filter(|kind| *kind == "checkout.session.expired").count();
    assert_eq!(expired, 2);
    let again =
        world.send("POST", &format!("/v1/checkout/sessions/{}/expire", first.id), "", None).await;
    assert_eq!(again.status, 400);
}

#[tokio::test]
async fn refunds_disputes_and_the_payment_of_an_invoice() {
    let world = World::new().await;
    let (subscription, _) = world.subscription("pm_card_visa", 3000).await;
    let invoice = text(&subscription, "latest_invoice");
    let payments =
        ListInvoicePayment::new().invoice(invoice.as_str()).send(&world.client).await.unwrap();
    let intent = payments.data[0].payment.payment_intent.clone().unwrap().id().to_string();
    let part = CreateRefund::new()
        .payment_intent(intent.as_str())
        .amount(1000)
        .send(&world.client)
        .await
        .unwrap();
    assert_eq!(part.amount, 1000);
    let charge = part.charge.unwrap().id().to_string();
    let rest = world.post("/v1/refunds", &format!("charge={charge}")).await;
    assert_eq!(rest["amount"], 2000);
    let more = world.send("POST", "/v1/refunds", &format!("charge={charge}"), None).await;
    assert_eq!(more.code(), "charge_already_refunded");

    let (second, _) = world.subscription("pm_card_visa", 4000).await;
    let invoice = RetrieveInvoice::new(text(&second, "latest_invoice"))
        .expand(["payments".into()])
        .send(&world.client)
        .await
        .unwrap();
    let intent =
        invoice.payments.unwrap().data[0].payment.payment_intent.clone().unwrap().id().to_string();
    let dispute = world.control("dispute", json!({"payment_intent": intent})).await;
    let id = text(&dispute, "id");
    stripe_core::dispute::RetrieveDispute::new(&*id).send(&world.client).await.unwrap();
    world.control("dispute", json!({"dispute": id, "close": "won"})).await;
    world.settled().await;
    let kinds: Vec<String> = world
        .hook
        .got()
        .iter()
        .map(|one| {
            one.event(SECRET);
            one.kind()
        })
        .collect();
    for kind in [
        "refund.created",
        "charge.refunded",
        "charge.dispute.created",
        "charge.dispute.closed",
        "charge.dispute.funds_reinstated",
    ] {
        assert!(kinds.iter().any(|one| one == kind), "{kind} in {kinds:?}");
    }
}

#[tokio::test]
async fn cancelling_at_the_end_now_and_not_at_all() {
    let world = World::new().await;
    let (subscription, customer) = world.subscription("pm_card_visa", 800).await;
    let id = text(&subscription, "id");
    let ends =
        UpdateSubscription::new(&*id).cancel_at_period_end(true).send(&world.client).await.unwrap();
    assert_eq!(ends.cancel_at, Some(ends.items.data[0].current_period_end));
    let stays = UpdateSubscription::new(&*id)
        .cancel_at_period_end(false)
        .send(&world.client)
        .await
        .unwrap();
    assert_eq!(stays.cancel_at, None);
    UpdateSubscription::new(&*id).cancel_at_period_end(true).send(&world.client).await.unwrap();
    world.days(32).await;
    let over = RetrieveSubscription::new(&*id).send(&world.client).await.unwrap();
    assert_eq!(over.status, SubscriptionStatus::Canceled);
    let open =
        ListSubscription::new().customer(customer.as_str()).send(&world.client).await.unwrap();
    assert!(open.data.is_empty(), "cancelled ones are not listed unless asked for");
    let all = world.get("/v1/subscriptions", &format!("customer={customer}&status=all")).await;
    assert_eq!(all["data"].as_array().unwrap().len(), 1);
    let (other, _) = world.subscription("pm_card_visa", 800).await;
    let gone = CancelSubscription::new(text(&other, "id")).send(&world.client).await.unwrap();
    assert_eq!(gone.status, SubscriptionStatus::Canceled);
}

#[tokio::test]
async fn trials_end_with_an_invoice_or_a_pause() {
    let world = World::new().await;
    let (price, customer) =
        (world.price(1000, Some("month")).await, world.customer("pm_card_visa").await);
    let form = format!("customer={customer}&items[0][price]={price}&trial_period_days=14");
    let with_card = world.post("/v1/subscriptions", &form).await;
    assert_eq!(with_card["status"], "trialing");
    let poor = text(&world.post("/v1/customers", "email=c@d.test").await, "id");
    let form = format!(
        "customer={poor}&items[0][price]={price}&trial_period_days=14&trial_settings[end_behavior][missing_payment_method]=pause"
    );
    let without = world.post("/v1/subscriptions", &form).await;
    world.days(15).await;
    let first = world
        .get(&format!("/v1/subscriptions/{}", text(&with_card, "id")), "expand[]=latest_invoice")
        .await;
    assert_eq!(
        (&first["status"], &first["latest_invoice"]["amount_paid"]),
        (&json!("active"), &json!(1000))
    );
    let second = world.get(&format!("/v1/subscriptions/{}", text(&without, "id")), "").await;
    assert_eq!(second["status"], "paused");
    let kinds = world.kinds().await;
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "customer.subscription.trial_will_end").count(),
        2
    );
    assert!(kinds.contains(&"customer.subscription.paused".to_owned()));
    world.settled().await;
    world.hook.got().iter().for_each(|one| drop(one.event(SECRET)));
}
