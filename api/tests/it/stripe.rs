//! What Stripe tells, over HTTP, and what customers and operators see of it.

use crate::app::{App, Client, STRIPE_SECRET, edge, spawn, spawn_with, stripe_at};
use crate::catalogue::{price_body, product_body};
use entities::billing::{customers, invoices, payments, subscriptions};
use entities::ids::OrderId;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::Sha256;

/// A subscription, an invoice and a payment of an order, as if they had been seen at Stripe.
pub async fn billed(app: &App, owner: &Client, order: &str) -> [String; 3] {
    let order = OrderId(order.parse().unwrap());
    let tenant: entities::ids::TenantId = serde_json::from_value(json!(owner.tenant)).unwrap();
    let now = chrono::Utc::now();
    let name = order.0.simple();
    let tx = app.db.db.system().await.unwrap();
    let customer = customers::keep(&tx, tenant, &format!("cus_{name}")).await.unwrap();
    let seen = subscriptions::Seen {
        stripe_id: format!("sub_{name}"),
        customer: customer.clone(),
        order: Some(order),
        status: subscriptions::Status::Active,
        currency: "eur".to_owned(),
        items: vec![("si_1".to_owned(), "price_1".to_owned(), 1)],
        period_start: Some(now),
        period_end: Some(now),
        trial_end: None,
        cancel_at: None,
        cancel_at_period_end: false,
        started_at: Some(now),
        ended_at: None,
        invoice: None,
        open_since: None,
        action_url: None,
    };
    subscriptions::record(&tx, &seen, None, now).await.unwrap();
    let seen = invoices::Seen {
        stripe_id: format!("in_{name}"),
        customer: customer.clone(),
        subscription: Some(seen.stripe_id),
        order: None,
        number: Some("R-1".to_owned()),
        status: "paid".to_owned(),
        reason: None,
        currency: "eur".to_owned(),
        subtotal: 999,
        tax: 0,
        total: 999,
        amount_paid: 999,
        amount_remaining: 0,
        attempts: 1,
        next_attempt_at: None,
        requires_action: false,
        page_url: None,
        pdf_url: Some("https://stripe.test/r-1.pdf".to_owned()),
        credit_notes: Vec::new(),
        period_start: None,
        period_end: None,
        created_at: now,
    };
    invoices::record(&tx, &seen).await.unwrap();
    let seen = payments::Seen {
        stripe_id: format!("pi_{name}"),
        customer: Some(customer),
        order,
        invoice: Some(seen.stripe_id),
        status: "succeeded".to_owned(),
        currency: "eur".to_owned(),
        amount: 999,
        refunded: 0,
        created_at: now,
    };
    let payment = payments::record(&tx, &seen, None, now).await.unwrap().unwrap();
    let subscription = subscriptions::of_order(&tx, order).await.unwrap().unwrap();
    let invoice = invoices::by_stripe_id(&tx, &format!("in_{name}")).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    [subscription.id.to_string(), invoice.id.to_string(), payment.id.to_string()]
}

fn signed(body: &str, secret: &str, at: i64) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let mac = mac.chain_update(at.to_string()).chain_update(".").chain_update(body.as_bytes());
    format!("t={at},v1={}", hex::encode(mac.finalize().into_bytes()))
}

async fn tell(app: &App, body: &str, signature: Option<String>) -> (u16, Value) {
    let url = format!("{}/api/webhooks/stripe", app.url);
    let mut call = reqwest::Client::new().post(url).body(body.to_owned());
    if let Some(signature) = signature {
        call = call.header("stripe-signature", signature);
    }
    let got = call.send().await.unwrap();
    (got.status().as_u16(), got.json().await.unwrap())
}

fn event(id: &str, kind: &str, object: &str) -> String {
    json!({ "id": id, "object": "event", "type": kind, "created": 1_795_000_000, "livemode": false,
        "api_version": "2020-01-01", "data": { "object": { "id": format!("{object}_1"),
        "object": object, "status": "a word of tomorrow" } } })
    .to_string()
}

#[tokio::test]
async fn what_stripe_has_signed_is_kept_once_and_nothing_else() {
    let app = spawn().await;
    let now = chrono::Utc::now().timestamp();
    let body = event("evt_1", "invoice.paid", "invoice");
    let good = signed(&body, STRIPE_SECRET, now);
    let other = signed(&body, "whsec_other", now);
    for (why, signature) in [
        ("nothing", None),
        ("an empty header", Some(String::new())),
        ("another secret", Some(other.clone())),
        ("long ago", Some(signed(&body, STRIPE_SECRET, now - 310))),
        ("tomorrow", Some(signed(&body, STRIPE_SECRET, now + 310))),
        ("another body", Some(signed("{}", STRIPE_SECRET, now))),
    ] {
        let (status, answer) = tell(&app, &body, signature).await;
        assert_eq!((status, &answer["code"]), (400, &json!("signature_invalid")), "{why}");
    }
    let events = app.owner.get("/api/stripe-events").await.data(200);
    assert_eq!(events, json!([]));
    // Two of the header's signatures, the second of which fits; then again, as Stripe does.
    let both = format!("{other},v1={}", good.split_once("v1=").unwrap().1);
    for _ in 0..3 {
        assert_eq!(tell(&app, &body, Some(both.clone())).await.0, 200);
    }
    let unknown = event("evt_2", "rocket.launched", "rocket");
    assert_eq!(tell(&app, &unknown, Some(signed(&unknown, STRIPE_SECRET, now))).await.0, 200);
    let odd = event("evt_3", "invoice.paid", "invoice").replace("1795000000", "99999999999999999");
    let nul = event("evt_4", "invoice\u{0}", "invoice");
    for broken in ["[]", "{", "{\"id\": 5}", "\u{0}", &odd, &nul] {
        let signature = signed(broken, STRIPE_SECRET, now);
        assert_eq!(tell(&app, broken, Some(signature)).await.0, 200, "{broken:?}");
    }
    let events = app.owner.get("/api/stripe-events?per_page=50").await.data(200);
    let events = events.as_array().unwrap();
    assert_eq!(events.len(), 8);
    let state = |id: &str| events.iter().find(|e| e["id"] == id).unwrap()["state"].clone();
    assert_eq!((state("evt_1"), state("evt_2")), (json!("pending"), json!("ignored")));
    assert_eq!(events.iter().filter(|e| e["state"] == "unreadable").count(), 6);
    let shown = app.owner.get("/api/stripe-events/evt_1").await.data(200);
    assert_eq!(shown["body"], body);
    let only = app.owner.get("/api/stripe-events?state=ignored").await.data(200);
    assert_eq!(only[0]["id"], "evt_2");
    app.owner.get("/api/stripe-events?state=new").await.refused(400, "invalid_request");

    app.db.execute("UPDATE stripe_event SET state = 'dead', attempts = 9").await.unwrap();
    let again = app.owner.post("/api/stripe-events/evt_1/replay", json!({})).await.data(200);
    assert_eq!((&again["state"], &again["attempts"]), (&json!("pending"), &json!(0)));
    let nothing = app.owner.post("/api/stripe-events/evt_2/replay", json!({})).await;
    nothing.refused(409, "conflict");
    let customer = app.member_kind("buyer", "customer").await;
    customer.get("/api/stripe-events").await.refused(403, "forbidden");
}

#[tokio::test]
async fn redis_away_or_forgetful_changes_nothing() {
    let app = spawn_with(edge(), SecretString::from("redis://127.0.0.1:9")).await;
    let now = chrono::Utc::now().timestamp();
    let body = event("evt_1", "invoice.paid", "invoice");
    for _ in 0..2 {
        let signature = signed(&body, STRIPE_SECRET, now);
        assert_eq!(tell(&app, &body, Some(signature)).await.0, 200);
    }
    let events = app.owner.get("/api/stripe-events").await.data(200);
    assert_eq!(events.as_array().unwrap().len(), 1);
}

#[test]
fn an_empty_secret_is_refused() {
    for text in ["", " ", ",", "whsec_a,", ",whsec_a", "whsec_a,,whsec_b"] {
        let read = entities::config::webhook_secrets(&SecretString::from(text));
        assert!(read.is_err(), "{text:?}");
    }
    let read = entities::config::webhook_secrets(&SecretString::from("whsec_a, whsec_b"));
    assert_eq!(read.unwrap().len(), 2);
}

#[tokio::test]
async fn a_buyer_pays_on_a_page_and_comes_back() {
    let sandbox = stripe_sandbox::start(stripe_sandbox::Config {
        listen: "127.0.0.1:0".to_owned(),
        key: "sk_test_it".to_owned(),
        webhooks: Vec::new(),
    })
    .await
    .unwrap();
    let app = crate::app::spawn_at(stripe_at(&sandbox.base_url)).await;
    let buyer = app.member_kind("buyer", "customer").await;
    let product = app.owner.post("/api/products", product_body("Plan")).await.data(201);
    let price = price_body(product["id"].as_str().unwrap());
    let price = app.owner.post("/api/prices", price).await.data(201)["id"].clone();
    let order = json!({"items": [{"price_id": price, "quantity": 1}]});
    let order = buyer.post("/api/orders", order).await.data(201);
    let path = format!("/api/orders/{}/checkout", order["id"].as_str().unwrap());
    buyer.get(&path).await.refused(404, "not_found");
    let opened = buyer.post(&path, json!({})).await.data(200);
    assert_eq!((&opened["state"], &opened["attempt"]), (&json!("open"), &json!(1)));
    let url = opened["url"].as_str().unwrap();
    let page = reqwest::get(url).await.unwrap().text().await.unwrap();
    assert!(page.contains("Plan") && page.contains("Pay"), "{page}");
    assert_eq!(buyer.post(&path, json!({})).await.data(200)["url"], url);
    let id = url.rsplit('/').next().unwrap();
    let pay = json!({"action": "pay", "payment_method": "pm_card_visa", "email": "a@b.test"});
    let control = format!("{}/_control/checkout/{id}", sandbox.base_url);
    reqwest::Client::new().post(control).json(&pay).send().await.unwrap();
    let back = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let back = back.build().unwrap();
    let url = format!("{}/api/checkout/return?session_id={id}", app.url);
    let got = back.get(&url).send().await.unwrap();
    assert_eq!(got.status(), 303);
    let wanted = format!("http://panel.test/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(got.headers()["location"], wanted);
    let path = format!("/api/orders/{}", order["id"].as_str().unwrap());
    assert_eq!(buyer.get(&path).await.data(200)["status"], "paid");
    assert_eq!(buyer.get("/api/subscriptions").await.data(200)[0]["status"], "active");
    let invoice = buyer.get("/api/invoices").await.data(200)[0].clone();
    assert_eq!(invoice["status"], "paid");
    assert!(invoice["pdf_url"].as_str().unwrap().starts_with("http"));
    let portal = buyer.post("/api/billing/portal", json!({})).await.data(200);
    assert!(portal["url"].as_str().unwrap().starts_with("http"));
    let payment = buyer.get("/api/payments").await.data(200)[0].clone();
    let refund = format!("/api/payments/{}/refund", payment["id"].as_str().unwrap());
    buyer.post(&refund, json!({"reason": "x"})).await.refused(403, "forbidden");
    let made = app.owner.post(&refund, json!({"reason": "x", "amount": 5})).await.data(202);
    assert_eq!((&made["state"], &made["money"]["amount"]), (&json!("wanted"), &json!(5)));
    assert_eq!(buyer.get("/api/repayments").await.data(200)[0]["id"], made["id"]);
    let unknown = format!("{}/api/checkout/return?session_id=cs_nobodys", app.url);
    assert_eq!(back.get(&unknown).send().await.unwrap().status(), 404);
}
