//! The catalogue at Stripe.

use super::Scene;
use billing::sync;
use entities::catalogue::products::{self, Change};
use entities::catalogue::sync::Due;
use entities::catalogue::{Billing as Interval, SyncState, prices};
use entities::tenancy::Permission;
use entities::values::Title;
use futures::future::join_all;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn products_and_prices_are_there_once_and_follow_their_rows() {
    let scene = Scene::open().await;
    let both = join_all((0..10).map(|_| sync::price(scene.billing(), scene.plan))).await;
    let made = both.iter().flatten().next().unwrap().clone();
    scene.settle().await;
    let price = scene.stripe(&format!("/prices/{made}")).await;
    assert_eq!((&price["unit_amount"], &price["currency"]), (&json!(1000), &json!("eur")));
    assert_eq!(price["recurring"]["interval"], "month");
    let count = async |path: &str| scene.stripe(path).await["data"].as_array().unwrap().len();
    assert_eq!((count("/prices?limit=100").await, count("/products?limit=100").await), (1, 1));

    let tx = scene.db.db.write(&scene.platform, Permission::CatalogueWrite).await.unwrap();
    let name = Some(Title::parse("Hosting Medium").unwrap());
    let change = Change { name, ..Change::default() };
    products::update_product(&tx, scene.product, change).await.unwrap();
    prices::archive_price(&tx, scene.plan).await.unwrap();
    tx.commit().await.unwrap();
    scene.settle().await;
    let product = price["product"].as_str().unwrap();
    assert_eq!(scene.stripe(&format!("/products/{product}")).await["name"], "Hosting Medium");
    assert_eq!(scene.stripe(&format!("/prices/{made}")).await["active"], false);
    scene.close().await;
}

#[tokio::test]
async fn what_stripe_does_not_take_says_why_and_what_it_has_made_is_found() {
    let scene = Scene::open().await;
    let fail = |path: &str, kind: &str| json!({ "path": path, "method": "post", "kind": kind, "status": 503 });
    let mut away = fail("/v1/products", "before");
    away["times"] = json!(12);
    scene.control("fail", away).await;
    sync::due(scene.billing(), Due::Changed, 10).await.unwrap();
    let shown = async || {
        let tx = scene.db.db.read(&scene.platform, Permission::CatalogueRead).await.unwrap();
        let row = products::find_product(&tx, scene.product).await.unwrap();
        (row.sync_state, row.sync_error)
    };
    let (state, error) = shown().await;
    assert_eq!(state, SyncState::Failed);
    assert!(error.unwrap().contains("503"));
    scene.control("fail", fail("/v1/products", "after_stored")).await;
    scene.control("fail", fail("/v1/prices", "after_stored")).await;
    for _ in 0..3 {
        sync::due(scene.billing(), Due::Failed, 10).await.unwrap();
    }
    assert_eq!(shown().await, (SyncState::Synced, None));
    let yearly = scene.price(scene.product, 9000, (Interval::Year, None, None)).await;
    sync::price(scene.billing(), yearly).await.unwrap();
    let count = async |path: &str| scene.stripe(path).await["data"].as_array().unwrap().len();
    assert_eq!((count("/products?limit=100").await, count("/prices?limit=100").await), (1, 2));
    scene.close().await;
}

#[tokio::test]
async fn with_the_broker_away_it_is_worked_all_the_same() {
    let scene = Scene::open().await;
    let carried = async {
        loop {
            let tx = scene.db.db.read(&scene.platform, Permission::CatalogueRead).await.unwrap();
            if products::find_product(&tx, scene.product).await.unwrap().sync_state
                == SyncState::Synced
            {
                return;
            }
            drop(tx);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let working = async {
        tokio::select! {
            ended = scene.worker.run() => panic!("{ended:?}"),
            () = carried => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), working).await.unwrap();
    scene.close().await;
}
