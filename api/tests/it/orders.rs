//! What is bought, by whom, and what becomes of it.

use crate::app::{Client, Got};
use crate::catalogue::{Market, delete, patch, price_body, product_body};
use futures::future::join_all;
use serde_json::{Value, json};

/// An order of one thing at this price.
pub fn order_body(price: &str) -> Value {
    json!({"items": [{"price_id": price, "quantity": 1}]})
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

async fn order(client: &Client, price: &str) -> String {
    id(&client.post("/api/orders", order_body(price)).await.data(201))
}

async fn mark_paid(client: &Client, order: &str) -> Got {
    let body = json!({"reason": "Came by bank transfer."});
    client.post(&format!("/api/orders/{order}/mark-paid"), body).await
}

async fn limit(market: &Market, tenant: &str, accounts: u32) {
    let change = json!({"limits": {"accounts": accounts}});
    patch(&market.app.owner, &format!("/api/tenants/{tenant}"), change).await.data(200);
}

#[tokio::test]
async fn a_tenant_orders_what_it_sees_and_its_orders_are_its_own() {
    let market = Market::open().await;
    let mut prices = Vec::new();
    for seller in market.sellers() {
        prices.push(market.offer(seller).await[2].clone());
    }
    let [one, two, three] = &market.customers;
    let nothing = order_body("01900000-0000-7000-8000-000000000000");
    one.post("/api/orders", nothing).await.refused(404, "not_found");
    one.post("/api/orders", order_body(&prices[2])).await.refused(404, "not_found");
    two.post("/api/orders", order_body(&prices[1])).await.refused(404, "not_found");
    three.post("/api/orders", order_body(&prices[1])).await.refused(404, "not_found");
    let mine = order(one, &prices[1]).await;
    let from_above = order(one, &prices[0]).await;
    let theirs = order(two, &prices[2]).await;
    for table in ["", "orders", "order_item", "order_transition", "reservation"] {
        if !table.is_empty() {
            let script = format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY");
            market.app.db.execute(&script).await.unwrap();
        }
        let listed = one.get("/api/orders").await.data(200);
        let listed: Vec<String> = listed.as_array().unwrap().iter().map(id).collect();
        assert_eq!(listed, [from_above.clone(), mine.clone()]);
        let path = format!("/api/orders/{theirs}");
        one.get(&path).await.refused(404, "not_found");
        patch(one, &path, json!({"notes": "x"})).await.refused(404, "not_found");
        one.post(&format!("{path}/cancel"), json!({})).await.refused(404, "not_found");
        // Not even those who have sold it, but in the buyer's name.
        market.resellers[1].get(&path).await.refused(404, "not_found");
        let there = market.resellers[1].acting_in(&two.tenant);
        assert_eq!(there.get(&path).await.data(200)["status"], "draft");
        market.resellers[0].acting_in(&two.tenant).get(&path).await.refused(404, "not_found");
    }
    mark_paid(one, &mine).await.refused(403, "forbidden");
    mark_paid(&market.resellers[0].acting_in(&one.tenant), &mine).await.refused(403, "forbidden");
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_order_keeps_what_was_sold_and_adds_it_up() {
    let market = Market::open().await;
    let (seller, buyer) = (&market.resellers[0], &market.customers[0]);
    let [_, product, _] = market.offer(seller).await;
    let euro = |amount: i64| json!({"amount": amount, "currency": "eur"});
    let mut tried = price_body(&product);
    tried["setup_fee"] = euro(1500);
    tried["trial_days"] = json!(14);
    let tried = id(&seller.post("/api/prices", tried).await.data(201));
    let mut once = price_body(&product);
    once["interval"] = json!("one_off");
    let once = id(&seller.post("/api/prices", once).await.data(201));
    let body = json!({
        "items": [{"price_id": tried, "quantity": 2}, {"price_id": once, "quantity": 1}],
        "tax": {"company": "Sunrise GmbH", "city": "Köln", "country": "DE", "vat_id": "de 123.456.789"},
        "notes": "Please call\nbefore noon.",
        "external_reference": "shop-17",
    });
    let made = buyer.post("/api/orders", body.clone()).await.data(201);
    assert_eq!(made["subtotal"], euro(2997));
    assert_eq!(made["setup_fees"], euro(3000));
    assert_eq!(made["total"], euro(5997));
    assert_eq!(made["due_now"], euro(3999));
    assert_eq!(made["tax"]["vat_id"], "DE123456789");
    assert_eq!(made["status"], "draft");
    assert!(made["number"].as_str().unwrap().starts_with("MP-"));
    let step = &made["transitions"][0];
    assert_eq!((&step["before"], &step["after"]), (&Value::Null, &json!("draft")));
    assert_eq!(step["actor"], made["ordered_by"]);
    assert_eq!(made["ordered_by"]["kind"], "user");
    buyer.post("/api/orders", body).await.refused(409, "conflict");

    // What is renamed or sold no more afterwards is in the order as it was.
    patch(seller, &format!("/api/products/{product}"), json!({"name": "New"})).await.data(200);
    delete(seller, &format!("/api/prices/{tried}")).await.data(200);
    buyer.post("/api/orders", order_body(&tried)).await.refused(409, "not_for_sale");
    delete(seller, &format!("/api/products/{product}")).await.data(200);
    buyer.post("/api/orders", order_body(&once)).await.refused(409, "not_for_sale");
    let seen = buyer.get(&format!("/api/orders/{}", id(&made))).await.data(200);
    assert_eq!(seen, made);
    assert_eq!(seen["items"][0]["name"], "Plan");
    assert_eq!(seen["items"][0]["specification"]["mailboxes"], 50);

    // Whoever sells looks it up by what the buyer calls it.
    let there = seller.acting_in(&buyer.tenant);
    let found = there.get("/api/orders?external_reference=shop-17").await.data(200);
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["number"], made["number"]);
    let none = there.get("/api/orders?external_reference=shop-18").await.data(200);
    assert_eq!(none, json!([]));
    assert_eq!(there.get("/api/orders?status=paid").await.data(200), json!([]));
    there.get("/api/orders?status=lost").await.refused(400, "invalid_request");
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_no_order_is_refused() {
    let market = Market::open().await;
    let (seller, buyer) = (&market.app.owner, &market.customers[2]);
    let [_, product, month] = market.offer(seller).await;
    let price = async |change: Value| {
        let mut body = price_body(&product);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        id(&seller.post("/api/prices", body).await.data(201))
    };
    let year = price(json!({"interval": "year"})).await;
    let dollar = price(json!({"money": {"amount": 1, "currency": "usd"}})).await;
    let tried = price(json!({"trial_days": 7})).await;
    let most = price(json!({"money": {"amount": 999_999_999_999_i64, "currency": "eur"}})).await;
    let line = |price: &str, quantity: Value| json!({"price_id": price, "quantity": quantity});
    for items in [
        json!([]),
        json!([line(&month, json!(0))]),
        json!([line(&month, json!(1001))]),
        json!([line(&month, json!(-1))]),
        json!([line(&month, json!(1.5))]),
        json!([line(&month, json!(1)), line(&month, json!(1))]),
        json!([line(&month, json!(1)), line(&year, json!(1))]),
        json!([line(&month, json!(1)), line(&dollar, json!(1))]),
        json!([line(&month, json!(1)), line(&tried, json!(1))]),
        json!([line(&most, json!(2))]),
        json!([line(&most, json!(1)), line(&month, json!(1))]),
        json!([[month, 1]]),
        json!([{"price_id": month, "quantity": 1, "money": {"amount": 1, "currency": "eur"}}]),
    ] {
        let body = json!({ "items": items });
        buyer.post("/api/orders", body).await.refused(400, "invalid_request");
    }
    for change in [
        json!({"total": 1}),
        json!({"tax": {"country": "Germany"}}),
        json!({"tax": {"country": "DE", "vat_id": "DE12"}}),
        json!({"tax": {"country": "DE", "company": "a\u{202e}b"}}),
        json!({"tax": ["Sunrise GmbH"]}),
        json!({"notes": "x".repeat(2001)}),
        json!({"external_reference": ""}),
    ] {
        let mut body = order_body(&month);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        buyer.post("/api/orders", body).await.refused(400, "invalid_request");
    }
    assert_eq!(buyer.get("/api/orders").await.data(200), json!([]));
    buyer.post("/api/orders", order_body(&most)).await.data(201);
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_draft_is_changed_and_cancelled_and_what_is_paid_is_neither() {
    let market = Market::open().await;
    let (seller, buyer) = (&market.resellers[0], &market.customers[0]);
    let [_, product, price] = market.offer(seller).await;
    let mut dear = price_body(&product);
    dear["money"] = json!({"amount": 5000, "currency": "eur"});
    let dear = id(&seller.post("/api/prices", dear).await.data(201));
    let draft = order(buyer, &price).await;
    let path = format!("/api/orders/{draft}");
    let change = json!({
        "items": [{"price_id": dear, "quantity": 3.0}],
        "notes": "More.", "external_reference": "r1", "tax": {"country": "AT"},
    });
    let seen = patch(buyer, &path, change).await.data(200);
    assert_eq!(seen["total"]["amount"], 15000);
    assert_eq!(seen["items"].as_array().unwrap().len(), 1);
    assert_eq!(seen["items"][0]["quantity"], 3);
    assert_eq!((&seen["notes"], &seen["external_reference"]), (&json!("More."), &json!("r1")));
    let seen = patch(buyer, &path, json!({"tax": null, "external_reference": null})).await;
    let seen = seen.data(200);
    assert_eq!((&seen["tax"], &seen["external_reference"]), (&Value::Null, &Value::Null));
    assert_eq!(seen["total"]["amount"], 15000, "what was left out stays");
    patch(buyer, &path, json!({"items": []})).await.refused(400, "invalid_request");

    let cancel = format!("{path}/cancel");
    let gone = buyer.post(&cancel, json!({})).await.data(200);
    assert_eq!(gone["status"], "cancelled");
    let again = buyer.post(&cancel, json!({})).await.data(200);
    assert_eq!(again["transitions"].as_array().unwrap().len(), 2, "cancelled once");
    patch(buyer, &path, json!({"notes": "x"})).await.refused(409, "order_state");
    mark_paid(&market.app.owner, &draft).await.refused(409, "order_state");

    let paid = order(buyer, &price).await;
    let billing = market.app.member_of(&market.app.owner.tenant, "till", "BILLING").await;
    let seen = mark_paid(&billing, &paid).await.data(200);
    assert_eq!(seen["status"], "paid");
    assert_eq!(seen["transitions"][1]["cause"], "Marked as paid by hand: Came by bank transfer.");
    let path = format!("/api/orders/{paid}");
    buyer.post(&format!("{path}/cancel"), json!({})).await.refused(409, "order_state");
    patch(buyer, &path, json!({"notes": "x"})).await.refused(409, "order_state");
    let member = market.app.member_of(&market.app.owner.tenant, "staff", "MEMBER").await;
    mark_paid(&member, &paid).await.refused(403, "forbidden");
    // The buyer's own trail says who did it.
    let trail = buyer.get("/api/audit?kind=ORDER_PAID").await.data(200);
    assert_eq!(trail.as_array().unwrap().len(), 1);
    let kinds = market.app.db.audit_kinds().await.unwrap();
    for kind in ["ORDER_CREATED", "ORDER_UPDATED", "ORDER_CANCELLED", "ORDER_PAID"] {
        assert!(kinds.contains(&kind.to_owned()), "{kind}");
    }
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn of_fifty_who_mark_it_as_paid_at_once_one_pays() {
    let market = Market::open().await;
    let [_, _, price] = market.offer(&market.app.owner).await;
    let order = order(&market.customers[2], &price).await;
    let paid = join_all((0..50).map(|_| mark_paid(&market.app.owner, &order))).await;
    for got in paid {
        assert_eq!(got.data(200)["status"], "paid");
    }
    let seen = market.customers[2].get(&format!("/api/orders/{order}")).await.data(200);
    let after: Vec<&Value> =
        seen["transitions"].as_array().unwrap().iter().map(|step| &step["after"]).collect();
    assert_eq!(after, ["draft", "paid"]);
    let outbox = market.app.db.dump("outbox").await.unwrap();
    assert_eq!(outbox.lines().filter(|row| row.contains("order_changed")).count(), 1);
    let paid = market.app.db.audit_kinds().await.unwrap();
    assert_eq!(paid.iter().filter(|kind| *kind == "ORDER_PAID").count(), 1);
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn nothing_is_paid_for_that_there_is_no_room_for() {
    let market = Market::open().await;
    let (owner, buyer) = (&market.app.owner, &market.customers[2]);
    let [_, _, price] = market.offer(owner).await;
    let mut more = product_body("More mail");
    more["specification"] = json!({"kind": "addon", "raises": "mailboxes", "by": 10});
    let more = id(&owner.post("/api/products", more).await.data(201));
    let more = id(&owner.post("/api/prices", price_body(&more)).await.data(201));
    limit(&market, &buyer.tenant, 2).await;
    let body = json!({"items": [{"price_id": price, "quantity": 3}]});
    let three = id(&buyer.post("/api/orders", body).await.data(201));
    mark_paid(owner, &three).await.refused(409, "quota_exceeded");
    // An add-on takes no account's place.
    let two = json!({"items": [
        {"price_id": price, "quantity": 2},
        {"price_id": more, "quantity": 3},
    ]});
    patch(buyer, &format!("/api/orders/{three}"), two).await.data(200);
    mark_paid(owner, &three).await.data(200);
    mark_paid(owner, &order(buyer, &price).await).await.refused(409, "quota_exceeded");
    // By itself it is nothing.
    let alone = json!({"items": [{"price_id": more, "quantity": 1}]});
    buyer.post("/api/orders", alone).await.refused(400, "invalid_request");
    market.app.db.remove().await.unwrap();
}
