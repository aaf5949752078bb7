//! The life of a subscription.

use super::Scene;
use billing::{inbox, reconcile};
use entities::billing::subscriptions::Status as Paying;
use entities::billing::{events, invoices, subscriptions};
use entities::mail::Letter;
use entities::orders::Status;
use entities::services::{Desired, State};
use entities::tenancy::Permission;
use serde_json::json;

#[tokio::test]
async fn what_is_paid_is_made_and_goes_on_as_long_as_it_is_paid() {
    let scene = Scene::open().await;
    let (order, row) = scene.paid(2).await;
    assert_eq!(scene.status(order).await, Status::PendingPayment);
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);
    let services = scene.services(order).await;
    assert_eq!(services.len(), 2);
    assert!(services.iter().all(|s| s.state == State::Active));
    let subscription = scene.subscription(order).await;
    assert_eq!(subscription.status, Paying::Active);
    let payments = scene.payments(order).await;
    assert_eq!(payments.iter().map(|p| (p.amount, p.refunded)).collect::<Vec<_>>(), [(2000, 0)]);
    let path = format!("/checkout/sessions/{}", row.stripe_id.unwrap());
    assert_eq!(scene.stripe(&path).await["client_reference_id"], order.to_string());

    scene.days(32).await;
    scene.settle().await;
    assert_eq!(scene.payments(order).await.len(), 2);
    let renewed = scene.subscription(order).await;
    assert!(renewed.period_end > subscription.period_end);
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
    let (rows, total) = invoices::list_invoices(&tx, 0, 50).await.unwrap();
    assert_eq!((total, rows.iter().all(|row| row.status == "paid")), (2, true));
    assert!(rows.iter().all(|row| row.pdf_url.is_some() && row.order_id == Some(order)));
    drop(tx);
    let kinds = scene.kinds().await;
    for kind in
        ["ORDER_CREATED", "ORDER_PAID", "ORDER_COMPLETED", "SUBSCRIPTION_CREATED", "INVOICE_PAID"]
    {
        assert!(kinds.iter().any(|k| k == kind), "{kind} in {kinds:?}");
    }
    scene.close().await;
}

#[tokio::test]
async fn ninety_days_without_money_lead_from_letters_to_the_end() {
    let scene = Scene::open().await;
    scene.payer("pays@buyer.test").await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let customer = scene.stripe("/customers?limit=1").await["data"][0]["id"].clone();
    scene.control("card", json!({ "customer": customer, "behaviour": "declined" })).await;
    // Stripe goes on trying for longer than we wait.
    scene
        .control("settings", json!({ "retry_days": [3, 5, 7], "after_retries": "canceled" }))
        .await;
    let mut seen = Vec::new();
    for _ in 0..90 {
        scene.days(1).await;
        scene.settle().await;
        let service = scene.services(order).await.remove(0);
        let now = (scene.subscription(order).await.status, service.state);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(
        seen,
        [
            (Paying::Active, State::Active),
            (Paying::PastDue, State::Active),
            (Paying::PastDue, State::Suspended),
            (Paying::Cancelled, State::Suspended),
            (Paying::Cancelled, State::Terminated),
        ]
    );
    let kinds = scene.kinds().await;
    let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
    assert_eq!(count("SUBSCRIPTION_REMINDED"), 3);
    assert_eq!(count("SUBSCRIPTION_CANCELLED"), 1);
    assert_eq!(count("SERVICE_TERMINATED"), 1);
    assert_eq!(count("PAYMENT_FAILED"), 4);
    let letters = scene.db.letters("pays@buyer.test").await.unwrap();
    let told: Vec<&str> = letters
        .iter()
        .map(|letter| match letter {
            Letter::PaymentMissing { page: Some(_), .. } => "missing",
            Letter::OrderSuspended { .. } => "suspended",
            Letter::OrderEnded { .. } => "ended",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["missing", "missing", "missing", "suspended", "ended"]);
    scene.close().await;
}

#[tokio::test]
async fn ninety_days_at_once_end_in_the_same() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let customer = scene.stripe("/customers?limit=1").await["data"][0]["id"].clone();
    scene.control("card", json!({ "customer": customer, "behaviour": "declined" })).await;
    scene.days(90).await;
    // The news are too old to be listed by now; what is open is looked at.
    reconcile::open(scene.billing()).await.unwrap();
    scene.settle().await;
    assert_eq!(scene.subscription(order).await.status, Paying::Cancelled);
    assert_eq!(scene.services(order).await[0].state, State::Terminated);
    scene.close().await;
}

#[tokio::test]
async fn what_was_suspended_comes_back_by_itself_when_it_is_paid() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    scene.settle().await;
    let customer = scene.stripe("/customers?limit=1").await["data"][0]["id"].clone();
    scene.control("card", json!({ "customer": customer, "behaviour": "declined" })).await;
    scene.control("settings", json!({ "retry_days": [20] })).await;
    scene.days(31).await;
    scene.settle().await;
    let due = scene.subscription(order).await;
    assert_eq!(due.status, Paying::PastDue);
    assert!(due.action_url.is_some());
    assert_eq!(scene.services(order).await[0].desired, Desired::Active);
    scene.days(11).await;
    scene.settle().await;
    let service = scene.services(order).await.remove(0);
    assert_eq!(service.state, State::Suspended);
    assert!(service.reason.unwrap().contains("missing"));

    scene.control("card", json!({ "customer": customer, "behaviour": "pays" })).await;
    scene.days(10).await;
    scene.settle().await;
    let subscription = scene.subscription(order).await;
    assert_eq!((subscription.status, subscription.past_due_at), (Paying::Active, None));
    let service = scene.services(order).await.remove(0);
    assert_eq!((service.state, service.reason), (State::Active, None));
    scene.close().await;
}

/// All orders of six events in four parts, which run at once.
async fn the_six_main_events_end_the_same(part: usize) {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    let subscribed = scene.stripe("/subscriptions?limit=1").await["data"][0].clone();
    let path = format!("/subscriptions/{}", subscribed["id"].as_str().unwrap());
    let ended: Result<serde_json::Value, _> = scene.billing().stripe.delete(&path, "end").await;
    ended.unwrap();
    let news = scene.news().await;
    let main = [
        "checkout.session.completed",
        "customer.subscription.created",
        "invoice.created",
        "invoice.paid",
        "payment_intent.succeeded",
        "customer.subscription.deleted",
    ]
    .map(|kind| news.iter().rfind(|event| event["type"] == kind).expect(kind).clone());
    let mut ends = std::collections::BTreeMap::new();
    let orders = permutations(6);
    assert_eq!(orders.len(), 720);
    for (nth, permutation) in orders.iter().enumerate().filter(|(nth, _)| nth % 4 == part) {
        for (step, place) in permutation.iter().enumerate() {
            scene.hear(&main[*place]).await;
            inbox::handle_due(scene.billing()).await.unwrap();
            // Some come twice.
            if (nth + step) % 7 == 0 {
                replay(&scene, main[*place]["id"].as_str().unwrap()).await;
                inbox::handle_due(scene.billing()).await.unwrap();
            }
        }
        scene.work().await;
        let end = state(&scene, order).await;
        ends.entry(end).or_insert_with(Vec::new).push(permutation.clone());
        forget(&scene).await;
    }
    assert_eq!(ends.len(), 1, "{:#?}", ends.iter().map(|(e, p)| (e, &p[0])).collect::<Vec<_>>());
    let end = ends.keys().next().unwrap();
    assert!(
        end.contains("Active") && end.contains("Cancelled") && end.contains("Suspended"),
        "{end}"
    );
    scene.close().await;
}

#[tokio::test]
async fn the_six_main_events_end_the_same_in_each_order_first_part() {
    the_six_main_events_end_the_same(0).await;
}

#[tokio::test]
async fn the_six_main_events_end_the_same_in_each_order_second_part() {
    the_six_main_events_end_the_same(1).await;
}

#[tokio::test]
async fn the_six_main_events_end_the_same_in_each_order_third_part() {
    the_six_main_events_end_the_same(2).await;
}

#[tokio::test]
async fn the_six_main_events_end_the_same_in_each_order_fourth_part() {
    the_six_main_events_end_the_same(3).await;
}

async fn replay(scene: &Scene, id: &str) {
    let sql =
        format!("UPDATE stripe_event SET state = 'pending', next_at = now() WHERE id = '{id}'");
    scene.db.execute(&sql).await.unwrap();
}

/// What a customer and an operator see of an order in the end.
async fn state(scene: &Scene, order: entities::ids::OrderId) -> String {
    let services = scene.services(order).await;
    let services: Vec<_> = services.iter().map(|s| (s.unit, s.desired)).collect();
    let tx = scene.db.db.system().await.unwrap();
    let subscription = subscriptions::of_order(&tx, order).await.unwrap();
    drop(tx);
    let payments = scene.payments(order).await;
    let payments: Vec<_> =
        payments.iter().map(|p| (p.stripe_id.clone(), p.amount, p.refunded)).collect();
    let repayments = scene.repayments(order).await.len();
    let status = scene.status(order).await;
    let tx = scene.db.db.read(&scene.ctx, Permission::BillingRead).await.unwrap();
    let (invoices, _) = invoices::list_invoices(&tx, 0, 50).await.unwrap();
    let invoices: Vec<_> = invoices
        .iter()
        .map(|i| (i.stripe_id.clone(), i.status.clone(), i.order_id, i.subscription_id.is_some()))
        .collect();
    let dead: Vec<_> = {
        let filter = events::Filter::default();
        let (rows, _) =
            events::list_events(&scene.db.db, &scene.platform, &filter, 0, 50).await.unwrap();
        let left = rows.into_iter().filter(|row| row.state != events::State::Handled);
        left.map(|row| (row.kind, row.state, row.note)).collect()
    };
    format!(
        "{status:?} {services:?} {:?} {:?} {payments:?} {repayments} {invoices:?} {dead:?}",
        subscription.as_ref().map(|s| s.status),
        subscription.as_ref().and_then(|s| s.ended_at),
    )
}

/// As it was before any news.
async fn forget(scene: &Scene) {
    scene
        .db
        .execute(
            "UPDATE job SET state = 'failed';
             DELETE FROM service; DELETE FROM dispute; DELETE FROM repayment; DELETE FROM payment;
             DELETE FROM invoice; DELETE FROM subscription; DELETE FROM stripe_event;
             UPDATE checkout SET state = 'open', ended_at = NULL;
             UPDATE reservation SET consumed_at = NULL, released_at = NULL;
             UPDATE orders SET status = 'pending_payment'",
        )
        .await
        .unwrap();
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(n - 1) {
        for place in 0..n {
            let mut one = shorter.clone();
            one.insert(place, n - 1);
            all.push(one);
        }
    }
    all
}
