//! What is sold, and who sees and changes it.

use crate::app::{App, Client, spawn};
use reqwest::Method;
use serde_json::{Value, json};

/// A product that anybody may sell.
pub fn product_body(name: &str) -> Value {
    json!({
        "name": name,
        "specification": {"kind": "hosting_plan", "disk_mib": 10240, "domains": 5, "mailboxes": 50, "databases": 10},
    })
}

/// A price for a product.
pub fn price_body(product: &str) -> Value {
    json!({"product_id": product, "money": {"amount": 999, "currency": "eur"}, "interval": "month"})
}

pub async fn patch(client: &Client, path: &str, body: Value) -> crate::app::Got {
    client.send(Method::PATCH, path, Some(body.to_string())).await
}

pub async fn delete(client: &Client, path: &str) -> crate::app::Got {
    client.send(Method::DELETE, path, None).await
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// The platform, two resellers, and a customer of each of the three.
pub struct Market {
    pub app: App,
    pub resellers: [Client; 2],
    /// Of the first reseller, of the second, of the platform.
    pub customers: [Client; 3],
}

impl Market {
    pub async fn open() -> Self {
        let app = spawn().await;
        let one = app.member_kind("one", "reseller").await;
        let two = app.member_kind("two", "reseller").await;
        let mut customers = Vec::new();
        for seller in [&one, &two, &app.owner] {
            let name = format!("customer-{}", customers.len());
            let body = json!({"name": name, "kind": "customer"});
            let tenant = id(&seller.post("/api/tenants", body).await.data(201));
            customers.push(app.member_of(&tenant, &name, "OWNER").await);
        }
        let customers = customers.try_into().unwrap_or_else(|_| panic!("there are three"));
        Self { app, resellers: [one, two], customers }
    }

    pub fn sellers(&self) -> [&Client; 3] {
        [&self.app.owner, &self.resellers[0], &self.resellers[1]]
    }

    /// Whoever sees what the seller of this number sells.
    fn viewers(&self, seller: usize) -> Vec<&Client> {
        let [one, two, three] = &self.customers;
        match seller {
            0 => vec![&self.app.owner, &self.resellers[0], &self.resellers[1], one, two, three],
            1 => vec![&self.resellers[0], one],
            _ => vec![&self.resellers[1], two],
        }
    }

    fn all(&self) -> Vec<&Client> {
        self.viewers(0)
    }

    /// A category, a product in it, and a price.
    pub async fn offer(&self, seller: &Client) -> [String; 3] {
        let category = id(&seller.post("/api/categories", json!({"name": "Web"})).await.data(201));
        let mut product = product_body("Plan");
        product["category_id"] = json!(category);
        let product = id(&seller.post("/api/products", product).await.data(201));
        let price = id(&seller.post("/api/prices", price_body(&product)).await.data(201));
        [category, product, price]
    }
}

const PATHS: [&str; 3] = ["/api/categories", "/api/products", "/api/prices"];

async fn ids(client: &Client, path: &str) -> Vec<String> {
    let rows = client.get(path).await.data(200);
    rows.as_array().unwrap().iter().map(id).collect()
}

/// Each seller's things are seen by itself and those below it, and changed by itself.
async fn look(market: &Market, offers: &[[String; 3]]) {
    for client in market.all() {
        for (nth, path) in PATHS.iter().enumerate() {
            let mut expected = Vec::new();
            for (seller, offer) in offers.iter().enumerate() {
                let sees = market.viewers(seller).iter().any(|v| v.tenant == client.tenant);
                let one = format!("{path}/{}", offer[nth]);
                if !sees {
                    client.get(&one).await.refused(404, "not_found");
                    delete(client, &one).await.refused(404, "not_found");
                    continue;
                }
                expected.push(offer[nth].clone());
                let seen = client.get(&one).await.data(200);
                let is_own = market.sellers()[seller].tenant == client.tenant;
                assert_eq!(seen["seller_id"], market.sellers()[seller].tenant);
                if nth > 0 {
                    assert_eq!(seen["sync"].is_object(), is_own, "{one}: {seen}");
                }
                if !is_own {
                    delete(client, &one).await.refused(404, "not_found");
                    if nth < 2 {
                        let body = json!({"name": "Mine"});
                        patch(client, &one, body).await.refused(404, "not_found");
                    }
                }
            }
            let mut listed = ids(client, path).await;
            assert_eq!(ids(client, &format!("{path}?archived=true")).await.len(), listed.len());
            listed.sort();
            expected.sort();
            assert_eq!(listed, expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_tenant_sees_what_it_and_those_above_it_sell_with_both_locks_and_with_the_first_alone() {
    let market = Market::open().await;
    let mut offers = Vec::new();
    for seller in market.sellers() {
        offers.push(market.offer(seller).await);
    }
    look(&market, &offers).await;
    for table in ["category", "product", "price", "tenant_ancestry"] {
        let script = format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY");
        market.app.db.execute(&script).await.unwrap();
    }
    look(&market, &offers).await;
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_customer_sells_nothing_and_nobody_sells_with_anothers_things() {
    let market = Market::open().await;
    let [reseller, other] = &market.resellers;
    let [category, product, _] = market.offer(other).await;
    let [_, platforms, _] = market.offer(&market.app.owner).await;
    for customer in &market.customers {
        let new = json!({"name": "Web"});
        customer.post("/api/categories", new).await.refused(409, "not_a_seller");
        customer.post("/api/products", product_body("Plan")).await.refused(409, "not_a_seller");
        customer.post("/api/prices", price_body(&platforms)).await.refused(409, "not_a_seller");
    }
    let mut body = product_body("Plan");
    body["category_id"] = json!(category);
    reseller.post("/api/products", body).await.refused(404, "not_found");
    // What one sees is not what one may sell, either.
    for product in [&product, &platforms] {
        reseller.post("/api/prices", price_body(product)).await.refused(404, "not_found");
    }
    // The reseller's people sell in no customer's name, and the platform's in the reseller's.
    let there = reseller.acting_in(&market.customers[0].tenant);
    there.post("/api/products", product_body("Plan")).await.refused(409, "not_a_seller");
    let there = market.app.owner.acting_in(&reseller.tenant);
    let made = there.post("/api/products", product_body("Plan")).await.data(201);
    assert_eq!(made["seller_id"], reseller.tenant);
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_archived_is_sold_no_more_and_still_shown() {
    let market = Market::open().await;
    let (seller, buyer) = (&market.resellers[0], &market.customers[0]);
    let [category, product, price] = market.offer(seller).await;
    let another = id(&seller.post("/api/prices", price_body(&product)).await.data(201));
    let gone = delete(seller, &format!("/api/prices/{price}")).await.data(200);
    assert!(gone["archived_at"].is_string());
    assert_eq!(gone["sync"]["version"], 2);
    let again = delete(seller, &format!("/api/prices/{price}")).await.data(200);
    assert_eq!((&again["archived_at"], &again["sync"]), (&gone["archived_at"], &gone["sync"]));
    assert_eq!(ids(buyer, "/api/prices").await, vec![another.clone()]);
    assert_eq!(ids(seller, "/api/prices").await, vec![another.clone()]);
    assert_eq!(ids(seller, "/api/prices?archived=true").await.len(), 2);

    delete(seller, &format!("/api/categories/{category}")).await.data(200);
    let mut body = product_body("Late");
    body["category_id"] = json!(category);
    seller.post("/api/products", body).await.refused(400, "invalid_request");
    assert_eq!(ids(buyer, "/api/products").await, vec![product.clone()]);

    delete(seller, &format!("/api/products/{product}")).await.data(200);
    for path in PATHS {
        assert!(ids(buyer, path).await.is_empty(), "{path}");
        assert!(ids(buyer, &format!("{path}?archived=true")).await.is_empty(), "{path}");
    }
    for (path, id) in PATHS.iter().zip([&category, &product, &another]) {
        buyer.get(&format!("{path}/{id}")).await.data(200);
    }
    seller.post("/api/prices", price_body(&product)).await.refused(400, "invalid_request");
    // The name is free again.
    seller.post("/api/categories", json!({"name": "Web"})).await.data(201);
    seller.post("/api/categories", json!({"name": "WEB"})).await.refused(409, "conflict");
    seller.post("/api/products", product_body("Plan")).await.data(201);
    seller.post("/api/products", product_body("plan")).await.refused(409, "conflict");
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_product_is_changed_in_how_it_is_shown_and_every_change_is_to_reach_stripe() {
    let market = Market::open().await;
    let seller = &market.app.owner;
    let [category, product, _] = market.offer(seller).await;
    let before = market.app.db.dump("outbox").await.unwrap();
    assert_eq!(before.matches("product_changed").count(), 2, "the kind and the payload");
    assert_eq!(before.matches("price_changed").count(), 2);
    let path = format!("/api/products/{product}");
    let change = json!({"name": "Hosting L", "position": 7, "description": "Two\nlines"});
    let seen = patch(seller, &path, change.clone()).await.data(200);
    for name in ["name", "position", "description"] {
        assert_eq!(seen[name], change[name]);
    }
    assert_eq!(seen["category_id"], category);
    assert_eq!(seen["sync"]["version"], 2);
    assert_eq!(seen["sync"]["state"], "pending");
    let seen = patch(seller, &path, json!({"category_id": null})).await.data(200);
    assert_eq!(seen["category_id"], Value::Null);
    // A change that changes nothing is none.
    let seen = patch(seller, &path, json!({"name": "Hosting L"})).await.data(200);
    assert_eq!(seen["sync"]["version"], 3);
    let after = market.app.db.dump("outbox").await.unwrap();
    assert_eq!(after.matches("product_changed").count(), 6);
    for wrong in [
        json!({"specification": {"kind": "addon", "raises": "domains", "by": 1}}),
        json!({"name": ""}),
        json!({"name": "\u{202e}gnitsoh"}),
        json!({"position": -1}),
        json!({"position": 1_000_001}),
    ] {
        patch(seller, &path, wrong).await.refused(400, "invalid_request");
    }
    let kinds = market.app.db.audit_kinds().await.unwrap();
    for kind in ["CATEGORY_CREATED", "PRODUCT_CREATED", "PRODUCT_UPDATED", "PRICE_CREATED"] {
        assert!(kinds.contains(&kind.to_owned()), "{kind}");
    }
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn prices_are_whole_minor_units_of_a_known_currency() {
    let market = Market::open().await;
    let seller = &market.app.owner;
    let [_, product, _] = market.offer(seller).await;
    let body = |change: Value| {
        let mut body = price_body(&product);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let money = |amount: Value, currency: &str| json!({"amount": amount, "currency": currency});
    for wrong in [
        json!({"money": money(json!(19.99), "eur")}),
        json!({"money": money(json!("1999"), "eur")}),
        json!({"money": money(json!(-1), "eur")}),
        json!({"money": money(json!(1_000_000_000_000_i64), "eur")}),
        json!({"money": money(json!(1), "EUR")}),
        json!({"money": money(json!(1), "xxx")}),
        json!({"money": money(json!(1234), "kwd")}),
        json!({"money": money(json!(150), "isk")}),
        json!({"money": [1999, "eur"]}),
        json!({"money": null}),
        json!({"setup_fee": money(json!(1), "usd")}),
        json!({"interval": "week"}),
        json!({"trial_days": 0}),
        json!({"trial_days": 731}),
        json!({"interval": "one_off", "trial_days": 7}),
        json!({"more": 1}),
    ] {
        seller.post("/api/prices", body(wrong.clone())).await.refused(400, "invalid_request");
    }
    for good in [
        json!({"money": money(json!(500), "jpy"), "interval": "one_off"}),
        json!({"money": money(json!(1230), "kwd"), "interval": "year"}),
        json!({"money": money(json!(0), "usd"), "trial_days": 730}),
        json!({"setup_fee": money(json!(2500), "eur"), "trial_days": 14}),
    ] {
        let made = seller.post("/api/prices", body(good.clone())).await.data(201);
        for (name, value) in good.as_object().unwrap() {
            assert_eq!(made[name], *value);
        }
    }
    assert_eq!(ids(seller, "/api/prices?currency=jpy").await.len(), 1);
    assert_eq!(ids(seller, &format!("/api/prices?product_id={product}")).await.len(), 5);
    seller.get("/api/prices?currency=JPY").await.refused(400, "invalid_request");
    // Whatever goes wrong here, what a price says stays.
    let change = "UPDATE price SET amount = 1";
    for role in ["migrapanel_tenant", "migrapanel_system"] {
        let script = format!("SET ROLE {role}; {change}");
        let refused = market.app.db.execute(&script).await.unwrap_err();
        assert!(refused.chain().contains("permission denied"), "{}", refused.chain());
    }
    market.app.db.remove().await.unwrap();
}

#[tokio::test]
async fn products_are_filtered_by_kind_and_category_and_turned_by_pages() {
    let market = Market::open().await;
    let seller = &market.resellers[0];
    let [category, product, _] = market.offer(seller).await;
    for (name, specification) in [
        (
            "Pod",
            json!({"kind": "cloudpod_plan", "cpu_cores": 2, "memory_mib": 2048, "disk_mib": 20480, "traffic_gib": 1000, "template": "debian-12"}),
        ),
        ("More mail", json!({"kind": "addon", "raises": "mailboxes", "by": 10.0})),
    ] {
        let body = json!({"name": name, "specification": specification});
        let made = seller.post("/api/products", body).await.data(201);
        assert_eq!(made["specification"]["kind"], specification["kind"]);
        assert_eq!(made["kind"], specification["kind"]);
        let listed = format!("/api/products?kind={}", specification["kind"].as_str().unwrap());
        assert_eq!(ids(seller, &listed).await, [id(&made)]);
    }
    let of_category = format!("/api/products?category_id={category}");
    assert_eq!(ids(seller, &of_category).await, [product]);
    let names = |rows: &Value| -> Vec<String> {
        rows.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = seller.get("/api/products?per_page=2").await;
    assert_eq!(first.body["meta"], json!({"page": 1, "per_page": 2, "total": 3}));
    assert_eq!(names(&first.body["data"]), ["More mail", "Plan"]);
    let second = seller.get("/api/products?per_page=2&page=2").await.data(200);
    assert_eq!(names(&second), ["Pod"]);
    seller.get("/api/products?kind=server").await.refused(400, "invalid_request");
    for specification in [
        json!({"kind": "cloudpod_plan"}),
        json!({"kind": "hosting_plan", "disk_mib": 0, "domains": 1, "mailboxes": 0, "databases": 0}),
        json!({"kind": "addon", "raises": "mailboxes", "by": 1.5}),
        json!({"kind": "addon", "raises": "mailboxes", "by": 1, "more": 1}),
        json!(["addon", "mailboxes", 1]),
    ] {
        let body = json!({"name": "Wrong", "specification": specification});
        seller.post("/api/products", body).await.refused(400, "invalid_request");
    }
    market.app.db.remove().await.unwrap();
}
