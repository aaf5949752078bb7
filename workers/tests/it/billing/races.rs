//! Many at once, and those who die half-way.

use super::Scene;
use billing::{checkout, inbox, look};
use entities::billing::checkouts::State as Checkout;
use entities::orders::Status;
use entities::tenancy::Permission;
use futures::future::join_all;
use serde_json::json;
use std::collections::BTreeSet;

#[tokio::test]
async fn fifty_checkouts_of_one_order_are_one_session() {
    let scene = Scene::open().await;
    let order = scene.order(1).await;
    let opening = (0..50).map(|_| checkout::open(scene.billing(), &scene.ctx, order, None));
    let opened = join_all(opening).await;
    let ids: BTreeSet<_> = opened.into_iter().map(|row| row.unwrap().stripe_id.unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let sessions = scene.stripe("/checkout/sessions?limit=100").await;
    assert_eq!(sessions["data"].as_array().unwrap().len(), 1);
    assert_eq!(scene.stripe("/customers?limit=100").await["data"].as_array().unwrap().len(), 1);
    scene.close().await;
}

#[tokio::test]
async fn the_page_of_return_and_the_news_fulfil_once() {
    let scene = Scene::open().await;
    for _ in 0..5 {
        let (order, row) = scene.paid(1).await;
        let id = row.stripe_id.unwrap();
        for event in scene.news().await {
            scene.hear(&event).await;
        }
        let news = (0..4).map(|_| inbox::handle_due(scene.billing()));
        let back = (0..4).map(|_| look::session(scene.billing(), &id));
        let (heard, seen) = tokio::join!(join_all(news), join_all(back));
        assert!(heard.iter().all(Result::is_ok) && seen.iter().all(Result::is_ok), "{seen:?}");
        scene.settle().await;
        assert_eq!(scene.status(order).await, Status::Active);
        let whole = scene.look(order).await;
        let paid = whole.transitions.iter().filter(|t| t.after == Status::Paid).count();
        assert_eq!((paid, scene.services(order).await.len()), (1, 1));
        assert_eq!(scene.payments(order).await.len(), 1);
        assert!(scene.repayments(order).await.is_empty());
    }
    scene.close().await;
}

#[tokio::test]
async fn whoever_dies_while_opening_a_checkout_leaves_it_to_the_next() {
    let scene = Scene::open().await;
    // Stripe has done it, and the first answer is lost on its way.
    let fail = |kind: &str| json!({ "path": "/v1/checkout/sessions", "method": "post", "kind": kind, "status": 502 });
    let order = scene.order(1).await;
    scene.control("fail", fail("after")).await;
    let row = scene.checkout(order).await;
    assert_eq!((row.attempt, row.state), (1, Checkout::Open));
    let sessions = scene.stripe("/checkout/sessions?limit=100").await;
    assert_eq!(sessions["data"].as_array().unwrap().len(), 1);
    // Stripe has broken, and says so for a day to whoever comes with that key.
    let broken = scene.order(1).await;
    scene.control("fail", fail("after_stored")).await;
    let lost = checkout::open(scene.billing(), &scene.ctx, broken, None).await;
    assert!(lost.is_err());
    assert_eq!(scene.status(broken).await, Status::PendingPayment);
    let second = scene.checkout(broken).await;
    assert_eq!((second.attempt, second.state), (2, Checkout::Open));

    // It died after Stripe had answered: the customer pays, and nobody has kept the session's id.
    let lost = "UPDATE checkout SET stripe_id = NULL, state = 'opening' WHERE order_id = ";
    scene.db.execute(&format!("{lost} '{order}'")).await.unwrap();
    scene.press(&row, "pay", "pm_card_visa").await;
    scene.settle().await;
    assert_eq!(scene.status(order).await, Status::Active);

    // It died, and nobody came back: the session is found by its key, and closed.
    let order = scene.order(1).await;
    let row = scene.checkout(order).await;
    scene
        .db
        .execute(&format!(
            "UPDATE checkout SET stripe_id = NULL, url = NULL, state = 'opening',
                created_at = created_at - interval '1 hour' WHERE order_id = '{order}'"
        ))
        .await
        .unwrap();
    scene.settle().await;
    let path = format!("/checkout/sessions/{}", row.stripe_id.unwrap());
    assert_eq!(scene.stripe(&path).await["status"], "expired");
    assert_eq!(scene.status(order).await, Status::Expired);
    scene.close().await;
}

#[tokio::test]
async fn a_refund_whose_answer_is_lost_is_made_once() {
    let scene = Scene::open().await;
    let (order, _) = scene.paid(1).await;
    let tx = scene.db.db.write(&scene.ctx, Permission::OrdersWrite).await.unwrap();
    entities::orders::cancel_order(&tx, order).await.unwrap();
    tx.commit().await.unwrap();
    let fail = json!({ "path": "/v1/credit_notes", "method": "post", "kind": "after_stored",
        "status": 502 });
    scene.control("fail", fail).await;
    scene.settle().await;
    // A day later the key is forgotten; what was made is found.
    scene.days(2).await;
    scene.db.execute("UPDATE repayment SET next_at = now()").await.unwrap();
    scene.settle().await;
    assert_eq!(scene.payments(order).await[0].refunded, 1000);
    let refunds = scene.stripe("/refunds?limit=100").await;
    assert_eq!(refunds["data"].as_array().unwrap().len(), 1);
    assert_eq!(scene.status(order).await, Status::Cancelled);
    scene.close().await;
}
