//! Many orders at once, with everything that goes wrong: news that come twice, late or never, buyers who
//! change their minds, accounts that cannot be made, and workers that are killed wherever they stand. In
//! the end nothing is lost and nothing is there twice.

use super::Scene;
use billing::{checkout, inbox, reconcile};
use entities::ids::OrderId;
use entities::orders::{self, Status};
use entities::services::State;
use entities::tenancy::Permission;
use entities::values::Title;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ORDERS: usize = 24;

/// Runs for a while and is then dropped where it stands, as a process is that is killed: what it has
/// sent is sent, what it has not committed never was.
async fn killed<T>(after: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(after, work).await.ok()
}

struct Run {
    scene: Scene,
    rng: StdRng,
    heard: usize,
}

impl Run {
    fn patience(&mut self) -> Duration {
        Duration::from_micros(self.rng.random_range(0..60_000))
    }

    /// Somebody does something with an order.
    async fn touch(&mut self, order: OrderId) {
        let patience = self.patience();
        let scene = &self.scene;
        let opened = killed(patience * 4, checkout::open(scene.billing(), &scene.ctx, order, None));
        let opened = opened.await.and_then(Result::ok);
        match self.rng.random_range(0..10) {
            0 => {
                let tx = scene.db.db.write(&scene.ctx, Permission::OrdersWrite).await.unwrap();
                if orders::cancel_order(&tx, order).await.is_ok() {
                    tx.commit().await.unwrap();
                }
            }
            1 => {
                let reason = Title::parse("By bank transfer").unwrap();
                let paid = orders::mark_paid(&scene.db.db, &scene.platform, order, &reason).await;
                assert!(paid.is_ok() || scene.status(order).await != Status::Draft);
            }
            _ => {
                if let Some(row) = opened {
                    let path = format!("/checkout/sessions/{}", row.stripe_id.clone().unwrap());
                    if scene.stripe(&path).await["status"] == "open" {
                        scene.press(&row, "pay", "pm_card_visa").await;
                    }
                }
            }
        }
    }

    /// Some of the news arrive: in any order, some twice, some never.
    async fn hear(&mut self) {
        let mut news = self.scene.news().await.split_off(self.heard);
        self.heard += news.len();
        news.retain(|_| self.rng.random_range(0..10) > 1);
        let again: Vec<Value> =
            news.iter().filter(|_| self.rng.random_range(0..4) == 0).cloned().collect();
        news.extend(again);
        news.shuffle(&mut self.rng);
        for event in news {
            self.scene.hear(&event).await;
        }
    }

    async fn work(&mut self) {
        for _ in 0..6 {
            let patience = self.patience();
            killed(patience, inbox::handle_due(self.scene.billing())).await;
            let patience = self.patience();
            killed(patience, self.scene.worker.work_once()).await;
        }
        let unlucky = self.rng.random_range(0..6);
        self.scene
            .end_all(|row| (row.unit == 2 && unlucky == 0).then(|| "The disk is full.".to_owned()))
            .await;
        // Leases of those who were killed run out.
        self.scene
            .db
            .execute(
                "UPDATE stripe_event SET taken_until = NULL, next_at = now();
                 UPDATE billing_lease SET until = now() - interval '1 s';
                 UPDATE repayment SET next_at = now();
                 UPDATE checkout SET next_at = now(); UPDATE subscription SET next_at = now();
                 UPDATE orders SET next_at = now(); UPDATE service SET next_at = now()",
            )
            .await
            .unwrap();
        entities::services::converge_due(&self.scene.db.db, 100).await.unwrap();
    }
}

async fn run(seed: u64) {
    let scene = Scene::open().await;
    let mut run = Run { scene, rng: StdRng::seed_from_u64(seed), heard: 0 };
    let mut all = Vec::new();
    for _ in 0..ORDERS {
        let quantity = run.rng.random_range(1..=2);
        let order = run.scene.order(quantity).await;
        all.push(order);
        run.touch(order).await;
        if run.rng.random_range(0..3) == 0 {
            let other = all[run.rng.random_range(0..all.len())];
            run.touch(other).await;
        }
        run.hear().await;
        run.work().await;
    }
    // Everything that was lost is found, and everybody comes to an end: what nobody has paid in time
    // runs out.
    let later = "UPDATE checkout SET created_at = created_at - interval '1 hour';
        UPDATE reservation SET expires_at = now() WHERE expires_at IS NOT NULL";
    for _ in 0..4 {
        run.scene.days(1).await;
        run.scene.db.execute(later).await.unwrap();
        orders::expire_overdue(&run.scene.db.db, 1000).await.unwrap();
        reconcile::open(run.scene.billing()).await.unwrap();
        run.scene.settle().await;
        run.work().await;
        run.scene.settle().await;
    }
    check(&run.scene, &all, seed).await;
    run.scene.close().await;
}

async fn list(scene: &Scene, what: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let page = scene.stripe(&format!("/{what}?limit=100{after}")).await;
        let data = page["data"].as_array().unwrap().clone();
        let last = data.last().map(|object| object["id"].as_str().unwrap().to_owned());
        all.extend(data);
        match last.filter(|_| page["has_more"] == true) {
            Some(last) => after = format!("&starting_after={last}"),
            None => return all,
        }
    }
}

async fn check(scene: &Scene, all: &[OrderId], seed: u64) {
    let mut known = BTreeMap::new();
    let mut served = 0;
    for order in all {
        let whole = scene.look(*order).await;
        let status = whole.order.status;
        let wanted = usize::try_from(whole.items[0].quantity).unwrap();
        let services = scene.services(*order).await;
        let was_paid = whole.transitions.iter().any(|t| t.after == Status::Paid);
        let is_once = whole.transitions.iter().filter(|t| t.after == Status::Paid).count() <= 1;
        let about = format!("seed {seed}: {} {status:?}", whole.order.number);
        assert!(is_once, "{about} was paid twice");
        // Every paid order has exactly its services, and every service a paid order.
        assert_eq!(services.len(), if was_paid { wanted } else { 0 }, "{about}");
        let units: BTreeSet<_> = services.iter().map(|s| s.unit).collect();
        assert_eq!(units.len(), services.len(), "{about}");
        assert!(
            services.iter().all(|s| !matches!(s.state, State::Pending | State::Provisioning)),
            "{about} {services:?}"
        );
        assert!(
            !matches!(status, Status::Paid | Status::Provisioning | Status::PendingPayment),
            "{about} goes nowhere"
        );
        served += services.iter().filter(|s| s.state == State::Active).count();
        for payment in scene.payments(*order).await {
            let made = services.iter().filter(|s| s.state == State::Active).count();
            known.insert(payment.stripe_id.clone(), (*order, status, payment, made, wanted));
        }
    }
    let mut kept = BTreeMap::<OrderId, i64>::new();
    for charge in list(scene, "charges").await.iter().filter(|c| c["status"] == "succeeded") {
        let intent = charge["payment_intent"].as_str().unwrap();
        let (order, status, payment, made, wanted) =
            known.get(intent).unwrap_or_else(|| panic!("seed {seed}: nobody knows {charge}"));
        let (amount, back) =
            (charge["amount"].as_i64().unwrap(), charge["amount_refunded"].as_i64().unwrap());
        assert_eq!((payment.amount, payment.refunded), (amount, back), "seed {seed}");
        // Every charge is a fulfilment or went back, and what could not be made went back.
        let left = amount - back;
        let due = amount / i64::try_from(*wanted).unwrap() * i64::try_from(*made).unwrap();
        assert!(left == 0 || left == due, "seed {seed}: {order} {status:?} {left} of {amount}");
        *kept.entry(*order).or_default() += left;
    }
    assert!(served > 0 && !kept.is_empty(), "seed {seed}: nothing has happened");
    for subscription in list(scene, "subscriptions").await {
        let order: OrderId = serde_json::from_value(subscription["metadata"]["order_id"].clone())
            .expect("every subscription names its order");
        let runs = kept.get(&order).is_some_and(|left| *left > 0);
        assert_eq!(subscription["status"] == "active", runs, "seed {seed}: {subscription}");
    }
    for event in list(scene, "events").await {
        assert!(event["id"].is_string());
    }
    let dead = scene.db.dump("stripe_event").await.unwrap();
    assert!(!dead.contains("\"dead\""), "seed {seed}");
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_is_there_twice() {
    run(1).await;
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_is_there_twice_another_time() {
    run(2).await;
}
