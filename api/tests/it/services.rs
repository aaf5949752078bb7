//! Services as their buyers see them, and what the platform's people do with them.

use crate::app::{App, Client, spawn};
use crate::catalogue::{patch, price_body, product_body};
use crate::contract::service;
use serde_json::{Value, json};

struct Shop {
    app: App,
    buyer: Client,
    price: String,
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

impl Shop {
    async fn open() -> Self {
        let app = spawn().await;
        let buyer = app.member_kind("buyer", "customer").await;
        let product = id(&app.owner.post("/api/products", product_body("Plan")).await.data(201));
        let price = id(&app.owner.post("/api/prices", price_body(&product)).await.data(201));
        Self { app, buyer, price }
    }

    async fn see(&self, client: &Client, service: &str) -> Value {
        client.get(&format!("/api/services/{service}")).await.data(200)
    }

    /// What somebody of the platform wants of it.
    async fn ask(&self, service: &str, action: &str) -> crate::app::Got {
        let path = format!("/api/services/{service}/{action}");
        self.app.owner.post(&path, json!({"reason": "The bill is open."})).await
    }
}

#[tokio::test]
async fn a_buyer_sees_what_it_is_and_nothing_of_the_server() {
    let shop = Shop::open().await;
    let made = service(&shop.app, &shop.buyer, &shop.price).await;
    let there = shop.app.owner.acting_in(&shop.buyer.tenant);
    let seen = shop.see(&shop.buyer, &made).await;
    assert_eq!((&seen["state"], &seen["desired"]), (&json!("pending"), &json!("active")));
    assert_eq!(seen["error"], "The last attempt failed. There will be another one by itself.");
    assert_eq!(shop.see(&there, &made).await["error"], "No server has room for it yet.");
    shop.app
        .db
        .execute("UPDATE service SET state = 'failed', error = '/home is full', backup_path = '/x'")
        .await
        .unwrap();
    let seen = shop.see(&shop.buyer, &made).await;
    assert_eq!(seen["error"], "It could not be made. Your provider knows of it.");
    assert_eq!(seen["backup_path"], Value::Null);
    let staff = shop.see(&there, &made).await;
    assert_eq!((&staff["error"], &staff["backup_path"]), (&json!("/home is full"), &json!("/x")));
    let order = seen["order_id"].as_str().unwrap();
    for (order, count) in [(order, 1), ("01900000-0000-7000-8000-000000000000", 0)] {
        let path = format!("/api/services?order_id={order}");
        let listed = shop.buyer.get(&path).await.data(200);
        assert_eq!(listed.as_array().unwrap().len(), count);
    }
    shop.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_platforms_people_suspend_open_and_retry() {
    let shop = Shop::open().await;
    let made = service(&shop.app, &shop.buyer, &shop.price).await;
    for _ in 0..2 {
        assert_eq!(shop.ask(&made, "suspend").await.data(200)["desired"], "suspended");
    }
    let seen = shop.see(&shop.buyer, &made).await;
    assert_eq!(seen["reason"], "The bill is open.");
    let seen = shop.ask(&made, "unsuspend").await.data(200);
    assert_eq!((&seen["desired"], &seen["reason"]), (&json!("active"), &Value::Null));
    shop.ask(&made, "retry").await.refused(409, "service_state");
    let path = format!("/api/services/{made}/suspend");
    shop.buyer.post(&path, json!({"reason": "x"})).await.refused(403, "forbidden");
    shop.app
        .db
        .execute("UPDATE service SET state = 'failed'; UPDATE orders SET status = 'failed'")
        .await
        .unwrap();
    shop.ask(&made, "suspend").await.refused(409, "service_state");
    let again = shop.ask(&made, "retry").await.data(200);
    assert_eq!(again["state"], "pending");
    let order = format!("/api/orders/{}", again["order_id"].as_str().unwrap());
    assert_eq!(shop.buyer.get(&order).await.data(200)["status"], "provisioning");
    let kinds = shop.app.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "SERVICE_REQUESTED").count(), 3);
    shop.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn domains_that_cannot_be_had_are_refused() {
    let shop = Shop::open().await;
    let order = |domains: Value| {
        let items = json!([{"price_id": shop.price, "quantity": 1, "domains": domains}]);
        shop.buyer.post("/api/orders", json!({"items": items}))
    };
    let made = order(json!(["Shop.Example"])).await.data(201);
    assert_eq!(made["items"][0]["domains"], json!(["shop.example"]));
    for domains in [json!(["x.hosted.test"]), json!(["a b"]), json!(["a.example", "b.example"])] {
        let got = order(domains).await.refused(400, "invalid_request");
        assert_eq!(got["fields"][0]["path"], "/items/0/domains");
    }
    let path = format!("/api/orders/{}", id(&made));
    let items = json!([{"price_id": shop.price, "quantity": 1, "domains": ["hosted.test"]}]);
    patch(&shop.buyer, &path, json!({"items": items})).await.refused(400, "invalid_request");
    shop.app.db.remove().await.unwrap();
}
