//! Money that goes back, money that is asked back, and money that is not what was ordered.

use super::Scene;
use billing::change::{self, Deed, Seen, Wanted};
use billing::checkout;
use entities::billing::checkouts::State as Checkout;
use entities::billing::events::{self, State as Event};
use entities::billing::repayments::{self, Asked, Kind, State as Repaid};
use entities::billing::subscriptions::Status as Paying;
use entities::billing::{checkouts, customers, invoices};
use entities::catalogue::{Billing as Interval, prices};
use entities::error::Code;
use entities::orders::{self, Status};
use entities::services::{self, Desired, State};
use entities::tenancy::Permission;
use entities::values::Title;
use serde_json::{Value, json};

#[tokio::test]
async fn what_cannot_be_made_is_paid_back_and_paid_for_no_more() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(2).await;
    billing::reconcile::events(scene.billing()).await.unwrap();
    scene.worker.work_once().await.unwrap();
    // It is tried three times.
    for _ in 0..3 {
        scene.end_all(|_| Some("The disk is full.".to_owned())).await;
        scene.db.execute("UPDATE service SET next_at = now()").await.unwrap();
        entities::services::converge_due(&scene.db.db, 100).await.unwrap();
    }
    assert_eq!(scene.status(order).await, Status::Failed);
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Refunded);
    assert_eq!(scene.subscription(order).await.status, Paying::Cancelled);
    let repayments = scene.repayments(order).await;
    let made: Vec<_> = repayments.iter().map(|r| (r.kind, r.amount, r.state)).collect();
    assert_eq!(made, [(Kind::Refund, 2000, Repaid::Succeeded)]);
    let payments = scene.payments(order).await;
    assert_eq!((payments.len(), payments[0].refunded), (1, 2000));
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
    let (rows, _) = invoices::list_invoices(&tx, 0, 10).await.unwrap();
    assert_eq!(rows[0].credit_notes.as_array().unwrap().len(), 1);
    drop(tx);
    scene.close().await;
}

#[tokio::test]
async fn of_two_the_one_that_cannot_be_made_is_paid_back() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(2).await;
    billing::reconcile::events(scene.billing()).await.unwrap();
    scene.worker.work_once().await.unwrap();
    for _ in 0..3 {
        scene.end_all(|s| (s.unit == 2).then(|| "The disk is full.".to_owned())).await;
        scene.db.execute("UPDATE service SET next_at = now() WHERE unit = 2").await.unwrap();
        entities::services::converge_due(&scene.db.db, 100).await.unwrap();
    }
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::PartiallyActive);
    let subscription = scene.subscription(order).await;
    assert_eq!(
        (subscription.status, &subscription.items[0]["quantity"]),
        (Paying::Active, &json!(1))
    );
    assert_eq!(scene.payments(order).await[0].refunded, 1000);
    scene.days(32).await;
    scene.settle().await;
    let amounts: Vec<_> = scene.payments(order).await.iter().map(|p| p.amount).collect();
    assert_eq!(amounts, [2000, 1000]);
    scene.close().await;
}

#[tokio::test]
async fn a_refund_suspends_and_one_that_the_bank_sends_back_restores() {
    let scene = Scene::open().await;
    let price = scene.price(scene.product, 5000, (Interval::OneOff, None, None)).await;
    let order = scene.order_of(&scene.ctx, price, 1).await;
    let row = scene.checkout(order).await;
    scene.press(&row, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    let payment = scene.payments(order).await.remove(0);
    let asked = |amount| Asked {
        payment: payment.id,
        amount,
        reason: Title::parse("It did not please").unwrap(),
    };
    let staff = &scene.platform;
    let too_much = repayments::refund(&scene.db.db, staff, &asked(Some(5001))).await;
    assert_eq!(too_much.unwrap_err().code(), Code::InvalidRequest);
    repayments::refund(&scene.db.db, staff, &asked(Some(1000))).await.unwrap();
    scene.settle().await;
    assert_eq!(scene.services(order).await[0].state, State::Active);
    repayments::refund(&scene.db.db, staff, &asked(None)).await.unwrap();
    scene.settle().await;
    assert_eq!(scene.payments(order).await[0].refunded, 5000);
    assert_eq!(scene.status(order).await, Status::Refunded);
    assert_eq!(scene.services(order).await[0].state, State::Suspended);
    let again = repayments::refund(&scene.db.db, staff, &asked(None)).await;
    assert_eq!(again.unwrap_err().code(), Code::Conflict);

    let refund = scene.repayments(order).await.remove(1).stripe_id.unwrap();
    scene.control("refund_failure", json!({ "refund": refund })).await;
    scene.settle().await;
    assert_eq!(scene.repayments(order).await[1].state, Repaid::Failed);
    assert_eq!(scene.status(order).await, Status::Active);
    assert_eq!(scene.services(order).await[0].state, State::Active);
    scene.close().await;
}

#[tokio::test]
async fn a_dispute_suspends_until_it_is_won() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let intent = scene.payments(order).await[0].stripe_id.clone();
    let opened =
        scene.control("dispute", json!({ "payment_intent": intent, "reason": "fraudulent" })).await;
    scene.settle().await;
    let service = scene.services(order).await.remove(0);
    assert_eq!(service.state, State::Suspended);
    assert!(service.reason.unwrap().contains("bank"));
    let dispute = opened["id"].as_str().unwrap();
    scene.control("dispute", json!({ "dispute": dispute, "close": "won" })).await;
    scene.settle().await;
    assert_eq!(scene.services(order).await[0].state, State::Active);
    let kinds = scene.kinds().await;
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!((count("DISPUTE_OPENED"), count("DISPUTE_CLOSED")), (1, 1));

    let (other, _) = scene.paid(1).await;
    scene.settle().await;
    let intent = scene.payments(other).await[0].stripe_id.clone();
    let opened = scene.control("dispute", json!({ "payment_intent": intent })).await;
    let dispute = opened["id"].as_str().unwrap();
    scene.control("dispute", json!({ "dispute": dispute, "close": "lost" })).await;
    scene.settle().await;
    assert_eq!(scene.services(other).await[0].state, State::Suspended);
    assert_eq!(scene.subscription(other).await.status, Paying::Cancelled);
    scene.days(31).await;
    scene.settle().await;
    assert_eq!(scene.services(other).await[0].state, State::Terminated);
    assert_eq!(scene.payments(other).await.len(), 1);
    scene.close().await;
}

type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;

/// Changes what a session says, as somebody would who makes one of their own.
async fn forged(scene: &Scene, change: impl Fn(&mut Value)) -> (entities::ids::OrderId, String) {
    let order = scene.order(1).await;
    let row = scene.checkout(order).await;
    // The same account of Stripe's, another price: our metadata on somebody's own session.
    let mut request = row.request.clone();
    change(&mut request);
    let session: Value = scene
        .billing()
        .stripe
        .post("/checkout/sessions", &order.to_string(), &request)
        .await
        .unwrap();
    let id = session["id"].as_str().unwrap().to_owned();
    let sql = format!("UPDATE checkout SET stripe_id = '{id}' WHERE order_id = '{order}'");
    scene.db.execute(&sql).await.unwrap();
    scene
        .control(
            &format!("checkout/{id}"),
            json!({ "action": "pay", "payment_method": "pm_card_visa", "email": "a@b.test" }),
        )
        .await;
    scene.settle().await;
    (order, id)
}

#[tokio::test]
async fn an_amount_a_currency_or_a_customer_that_is_not_the_orders_is_refused() {
    let scene = Scene::open().await;
    let cheap = scene.price(scene.product, 1, (Interval::Month, None, None)).await;
    let cheap = billing::sync::price(scene.billing(), cheap).await.unwrap();
    let other = scene.order(1).await;
    let stranger = scene.db.tenant(&scene.platform, "stranger").await.unwrap();
    let stranger = billing::customers::ensure(scene.billing(), stranger.tenant()).await.unwrap();
    let data = |currency: &str| {
        json!([{ "quantity": 1, "price_data": { "currency": currency, "unit_amount": 1000,
            "recurring": { "interval": "month" }, "product_data": { "name": "x" } } }])
    };
    let changes: [(&str, Change); 5] = [
        ("amount", Box::new(|r| r["line_items"][0]["price"] = json!(cheap))),
        ("amount", Box::new(|r| r["line_items"][0]["quantity"] = json!(2))),
        ("currency", Box::new(|r| r["line_items"] = data("usd"))),
        ("customer", Box::new(|r| r["customer"] = json!(stranger))),
        ("names another order", Box::new(|r| r["metadata"]["order_id"] = json!(other))),
    ];
    for (why, change) in changes {
        let (order, id) = forged(&scene, change).await;
        assert_eq!(scene.status(order).await, Status::PendingPayment, "{why}");
        assert!(scene.services(order).await.is_empty());
        let filter = events::Filter { state: Some(Event::Dead), kind: None };
        let (dead, _) =
            events::list_events(&scene.db.db, &scene.platform, &filter, 0, 50).await.unwrap();
        let note = dead.iter().find(|e| e.object_id.as_ref() == Some(&id)).unwrap().note.clone();
        assert!(note.as_ref().unwrap().contains(why), "{why}: {note:?}");
    }
    assert!(scene.kinds().await.iter().any(|kind| kind == "CHECKOUT_REFUSED"));
    scene.close().await;
}

#[tokio::test]
async fn money_for_an_order_that_was_cancelled_goes_back() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    let tx = scene.db.db.write(&scene.ctx, Permission::OrdersWrite).await.unwrap();
    orders::cancel_order(&tx, order).await.unwrap();
    tx.commit().await.unwrap();
    scene.settle().await;
    assert_eq!(scene.payments(order).await[0].refunded, 1000);
    assert_eq!(scene.subscription(order).await.status, Paying::Cancelled);
    assert!(scene.services(order).await.is_empty());
    assert_eq!(scene.status(order).await, Status::Cancelled);
    scene.close().await;
}

#[tokio::test]
async fn money_for_an_order_that_was_paid_by_hand_meanwhile_goes_back() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    let reason = Title::parse("By bank transfer").unwrap();
    orders::mark_paid(&scene.db.db, &scene.platform, order, &reason).await.unwrap();
    scene.settle().await;
    assert_eq!(scene.payments(order).await[0].refunded, 1000);
    assert_eq!(scene.subscription(order).await.status, Paying::Cancelled);
    let services = scene.services(order).await;
    assert_eq!((services.len(), services[0].state), (1, State::Active));
    assert_eq!(scene.status(order).await, Status::Active);
    scene.close().await;
}

#[tokio::test]
async fn a_cancelled_or_forgotten_checkout_is_closed_and_may_be_opened_again() {
    let scene = Scene::open().await;
    let order = scene.order(1).await;
    let first = scene.checkout(order).await;
    let same = scene.checkout(order).await;
    assert_eq!((same.attempt, &same.url), (1, &first.url));
    let closed = checkout::give_up(scene.billing(), &scene.ctx, order).await.unwrap();
    assert_eq!(closed.state, Checkout::Expired);
    let path = format!("/checkout/sessions/{}", first.stripe_id.unwrap());
    assert_eq!(scene.stripe(&path).await["status"], "expired");
    assert_eq!(scene.status(order).await, Status::Expired);
    let second = scene.checkout(order).await;
    assert_eq!(second.attempt, 2);
    scene.days(2).await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Expired);
    let third = scene.checkout(order).await;
    assert_eq!((third.attempt, third.state), (3, Checkout::Open));
    scene.press(&third, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
    assert_eq!(checkouts::find_newest(&tx, order).await.unwrap().state, Checkout::Complete);
    drop(tx);
    let paid = checkout::open(scene.billing(), &scene.ctx, order, None).await.unwrap_err();
    assert_eq!(paid.code(), Code::OrderState);
    scene.close().await;
}

#[tokio::test]
async fn trials_set_up_fees_and_promotion_codes_come_to_what_was_said() {
    let scene = Scene::open().await;
    let tried = scene.price(scene.product, 1000, (Interval::Month, Some(1500), Some(14))).await;
    let order = scene.order_of(&scene.ctx, tried, 1).await;
    let row = scene.checkout(order).await;
    scene.press(&row, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    assert_eq!(scene.subscription(order).await.status, Paying::Trialing);
    assert_eq!(scene.payments(order).await[0].amount, 1500);
    scene.days(15).await;
    scene.settle().await;
    assert_eq!(scene.subscription(order).await.status, Paying::Active);
    assert_eq!(scene.payments(order).await[1].amount, 1000);

    let coupon: Value = scene
        .billing()
        .stripe
        .post("/coupons", "c", &json!({ "percent_off": 50, "duration": "once" }))
        .await
        .unwrap();
    let params =
        json!({ "promotion": { "type": "coupon", "coupon": coupon["id"] }, "code": "HALF" });
    let _: Value = scene.billing().stripe.post("/promotion_codes", "p", &params).await.unwrap();
    let order = scene.order(1).await;
    let open =
        |code: &str| checkout::open(scene.billing(), &scene.ctx, order, Some(code.to_owned()));
    assert_eq!(open("NEVER").await.unwrap_err().code(), Code::InvalidRequest);
    let row = open("HALF").await.unwrap();
    scene.press(&row, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    assert_eq!(scene.payments(order).await[0].amount, 500);
    scene.close().await;
}

#[tokio::test]
async fn a_plan_is_changed_at_what_was_shown_and_paused_and_ended_as_wanted() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let large = scene.sell("Hosting L", 4096).await;
    let large = scene.price(large, 3000, (Interval::Month, None, None)).await;
    let subscription = scene.subscription(order).await.id;
    let wanted = Wanted { subscription, from: None, to: large };
    let (billing, ctx) = (scene.billing(), &scene.ctx);
    let preview = change::preview(billing, ctx, wanted).await.unwrap();
    assert!((1900..=2000).contains(&preview.due_now), "{preview:?}");
    assert_eq!(preview.lines.len(), 2);
    let days = |days| chrono::TimeDelta::days(days);
    for wrong in [
        Seen { at: preview.at, due_now: preview.due_now - 1 },
        // Whoever chooses the moment chooses the amount.
        Seen { at: preview.at + days(29), due_now: 0 },
        Seen { at: preview.at - days(29), due_now: 2000 },
        Seen { at: preview.at - days(1), due_now: preview.due_now },
    ] {
        let refused = change::change(billing, ctx, wanted, wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::AmountChanged);
    }
    let seen = Seen { at: preview.at, due_now: preview.due_now };
    change::change(billing, ctx, wanted, seen).await.unwrap();
    scene.settle().await;
    let row = scene.subscription(order).await;
    assert_eq!(row.items[0]["price"], json!(large));
    let amounts: Vec<_> = scene.payments(order).await.iter().map(|p| p.amount).collect();
    assert_eq!(amounts, [1000, preview.due_now]);
    assert_eq!(scene.services(order).await[0].specification["disk_mib"], json!(4096));

    // The change was given back, and not the plan.
    let proration = scene.payments(order).await.remove(1).id;
    let reason = Title::parse("A mistake").unwrap();
    let asked = Asked { payment: proration, amount: None, reason };
    repayments::refund(&scene.db.db, &scene.platform, &asked).await.unwrap();
    scene.settle().await;
    assert_eq!(scene.services(order).await[0].state, State::Active);

    let stranger = scene.db.tenant(&scene.platform, "stranger").await.unwrap();
    for deed in [Deed::Pause, Deed::CancelNow] {
        let other = change::carry_out(billing, &stranger, subscription, deed).await.unwrap_err();
        assert_eq!(other.code(), Code::NotFound);
    }
    for (deed, status, state) in [
        (Deed::Pause, Paying::Paused, State::Suspended),
        (Deed::Resume, Paying::Active, State::Active),
        (Deed::CancelAtPeriodEnd, Paying::Active, State::Active),
        (Deed::KeepOn, Paying::Active, State::Active),
        (Deed::CancelNow, Paying::Cancelled, State::Suspended),
    ] {
        change::carry_out(billing, ctx, subscription, deed).await.unwrap();
        scene.settle().await;
        let row = scene.subscription(order).await;
        assert_eq!(
            (row.status, row.cancel_at_period_end),
            (status, deed == Deed::CancelAtPeriodEnd)
        );
        assert_eq!(scene.services(order).await[0].state, state, "{deed:?}");
    }
    change::carry_out(billing, ctx, subscription, Deed::CancelNow).await.unwrap();
    let over = change::carry_out(billing, ctx, subscription, Deed::Resume).await.unwrap_err();
    assert_eq!(over.code(), Code::SubscriptionState);
    scene.close().await;
}

#[tokio::test]
async fn a_pause_over_the_renewal_is_no_free_month() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let id = scene.subscription(order).await.id;
    let deed = async |deed| {
        change::carry_out(scene.billing(), &scene.ctx, id, deed).await.unwrap();
        scene.settle().await;
    };
    scene.days(10).await;
    deed(Deed::Pause).await;
    deed(Deed::Resume).await;
    assert_eq!(scene.payments(order).await.len(), 1);
    scene.days(18).await;
    deed(Deed::Pause).await;
    scene.days(5).await;
    scene.settle().await;
    assert_eq!(scene.payments(order).await.len(), 1);
    deed(Deed::Resume).await;
    let amounts: Vec<_> = scene.payments(order).await.iter().map(|p| p.amount).collect();
    assert_eq!(amounts, [1000, 1000]);
    assert_eq!(scene.services(order).await[0].state, State::Active);
    scene.close().await;
}

#[tokio::test]
async fn money_that_does_not_come_in_the_end_leaves_the_order_to_be_paid_anew() {
    let scene = Scene::open().await;
    let order = scene.order(1).await;
    let row = scene.checkout(order).await;
    scene.press(&row, "later_fails", "pm_card_visa").await;
    scene.settle().await;
    let intent = scene.stripe("/payment_intents?limit=1").await["data"][0]["id"].clone();
    scene.control("settle", json!({ "payment_intent": intent, "well": false })).await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Expired);
    let again = scene.checkout(order).await;
    assert_eq!(again.attempt, 2);
    scene.press(&again, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    assert_eq!(scene.subscription(order).await.status, Paying::Active);
    let subscriptions = scene.stripe("/subscriptions?limit=10&status=active").await;
    assert_eq!(subscriptions["data"].as_array().unwrap().len(), 1);
    scene.close().await;
}

#[tokio::test]
async fn money_that_comes_at_a_later_try_counts() {
    let scene = Scene::open().await;
    let order = scene.order(1).await;
    let row = scene.checkout(order).await;
    scene.press(&row, "later_fails", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::PendingPayment);
    // It fails, and is tried again with success, while nobody looks.
    scene.days(8).await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    assert_eq!(scene.payments(order).await.len(), 1);
    scene.close().await;
}

#[tokio::test]
async fn what_was_ordered_is_paid_at_its_price_though_it_is_not_sold_any_more() {
    let scene = Scene::open().await;
    let order = scene.order(2).await;
    let tx = scene.db.db.write(&scene.platform, Permission::CatalogueWrite).await.unwrap();
    prices::archive_price(&tx, scene.plan).await.unwrap();
    tx.commit().await.unwrap();
    scene.settle().await;
    let row = scene.checkout(order).await;
    scene.press(&row, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    assert_eq!(scene.payments(order).await[0].amount, 2000);
    scene.close().await;
}

#[tokio::test]
async fn an_invoice_has_its_tax_and_its_vat_id_and_the_card_is_shown() {
    let scene = Scene::open_with(true).await;
    let settings = json!({ "draft_seconds": 0, "tax_percent": { "DE": 19, "FR": 20 } });
    scene.control("settings", settings).await;
    let pay = async |tax: Value| {
        let order = scene.order_taxed(tax).await;
        let row = scene.checkout(order).await;
        scene.press(&row, "pay", "pm_card_visa").await;
        scene.settle().await;
        assert_eq!(scene.status(order).await, Status::Active);
        scene.payments(order).await[0].amount
    };
    let home = json!({ "company": "Sunrise GmbH", "street": "Am Ring 4", "postal_code": "50667",
        "city": "Köln", "country": "DE", "vat_id": "DE123456789" });
    assert_eq!(pay(home.clone()).await, 1190);
    // The same again changes nothing at Stripe.
    assert_eq!(pay(home).await, 1190);
    let customer = scene.stripe("/customers?limit=1").await["data"][0].clone();
    // The page has asked for the address anew.
    let address = &customer["address"]["country"];
    assert_eq!((&customer["name"], address), (&json!("Sunrise GmbH"), &json!("DE")));
    let path = format!("/customers/{}/tax_ids?limit=10", customer["id"].as_str().unwrap());
    let ids = scene.stripe(&path).await["data"].as_array().unwrap().clone();
    assert_eq!((ids.len(), &ids[0]["value"]), (1, &json!("DE123456789")));
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
    let (rows, _) = invoices::list_invoices(&tx, 0, 10).await.unwrap();
    assert_eq!((rows[0].subtotal, rows[0].tax, rows[0].total), (1000, 190, 1190));
    let known = customers::find_customer(&tx).await.unwrap().unwrap();
    let card: customers::Card = serde_json::from_value(known.card.unwrap()).unwrap();
    assert_eq!((card.brand.as_deref(), card.last4.as_deref()), (Some("visa"), Some("4242")));
    drop(tx);
    scene.close().await;
}

#[tokio::test]
async fn what_the_bank_asks_of_the_buyer_is_shown() {
    let scene = Scene::open().await;
    let once = scene.price(scene.product, 5000, (Interval::OneOff, None, None)).await;
    for price in [once, scene.plan] {
        let order = scene.order_of(&scene.ctx, price, 1).await;
        let row = scene.checkout(order).await;
        scene.press(&row, "pay_with_authentication", "pm_card_authenticationRequired").await;
        scene.settle().await;
        assert_eq!(scene.status(order).await, Status::PendingPayment);
        let kinds = scene.kinds().await;
        assert!(kinds.iter().any(|kind| kind == "PAYMENT_ACTION_REQUIRED"), "{kinds:?}");
        if price == once {
            let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
            let row = checkouts::find_newest(&tx, order).await.unwrap();
            assert_eq!(row.payment_state.as_deref(), Some("requires_action"));
        }
        scene.press(&row, "authenticated", "").await;
        scene.settle().await;
        assert_eq!(scene.status(order).await, Status::Active);
    }
    scene.close().await;
}

#[tokio::test]
async fn what_is_gone_at_stripe_is_carried_there_anew() {
    let scene = Scene::open().await;
    scene.paid(1).await;
    scene.settle().await;
    let forgotten = scene.order(1).await;
    scene.checkout(forgotten).await;
    scene.control("reset", json!({})).await;
    let tx = scene.db.db.write(&scene.ctx, Permission::OrdersWrite).await.unwrap();
    orders::cancel_order(&tx, forgotten).await.unwrap();
    tx.commit().await.unwrap();
    // What is not there any more is not closed for ever.
    scene.settle().await;
    let (order, row) = scene.paid(1).await;
    assert_eq!((row.attempt, row.state), (2, Checkout::Open));
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    scene.close().await;
}

#[tokio::test]
async fn what_the_platform_has_suspended_does_not_run_because_it_is_paid() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let service = scene.services(order).await[0].id;
    let reason = Title::parse("It sends spam").unwrap();
    let ask = async |desired: Desired| {
        services::request(&scene.db.db, &scene.platform, (service, desired), &reason).await.unwrap()
    };
    ask(Desired::Suspended).await;
    scene.settle().await;
    scene.days(32).await;
    scene.settle().await;
    assert_eq!(scene.services(order).await[0].state, State::Suspended);
    ask(Desired::Active).await;
    scene.settle().await;
    assert_eq!(scene.services(order).await[0].state, State::Active);
    scene.close().await;
}

#[tokio::test]
async fn what_is_made_late_is_credited_and_a_slow_bank_is_waited_for() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    billing::reconcile::events(scene.billing()).await.unwrap();
    scene.worker.work_once().await.unwrap();
    scene
        .db
        .execute(
            "ALTER TABLE order_transition DISABLE TRIGGER append_only;
             UPDATE order_transition SET created_at = created_at - interval '3 days'",
        )
        .await
        .unwrap();
    scene.settle().await;
    let credits = scene.repayments(order).await;
    assert_eq!(credits.len(), 1);
    assert_eq!((credits[0].kind, credits[0].state), (Kind::Credit, Repaid::Succeeded));
    assert!((95..=105).contains(&credits[0].amount), "{}", credits[0].amount);
    scene.days(32).await;
    scene.settle().await;
    let paid: Vec<_> = scene.payments(order).await.iter().map(|p| p.amount).collect();
    assert_eq!(paid, [1000, 1000 - credits[0].amount]);

    let order = scene.order(1).await;
    let row = scene.checkout(order).await;
    scene.press(&row, "later_succeeds", "pm_card_visa").await;
    scene.settle().await;
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
    assert_eq!(checkouts::find_newest(&tx, order).await.unwrap().state, Checkout::Processing);
    drop(tx);
    let wait = checkout::open(scene.billing(), &scene.ctx, order, None).await.unwrap_err();
    assert_eq!(wait.code(), Code::OrderState);
    scene.days(8).await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    scene.close().await;
}
