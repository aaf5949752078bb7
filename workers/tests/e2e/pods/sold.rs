//! A container that was paid for follows its subscription: suspended when the money stays away, opened
//! when it comes, resized with its plan, and gone with all that belongs to it.

use super::shop::{Shop, id};
use entities::ids::CloudpodId;
use serde_json::{Value, json};

const DAY: i64 = 86_400;

async fn buy(shop: &Shop, hostname: &str) -> (String, CloudpodId) {
    let (order, checkout) = shop.order(hostname).await;
    shop.pay(&checkout.data(200)).await;
    let status = format!("SELECT status FROM orders WHERE id = '{order}'");
    shop.until(&status, "active", 120).await;
    let pod = format!(
        "SELECT p.id FROM cloudpod p JOIN service s ON s.id = p.service_id WHERE s.order_id = '{order}'"
    );
    (order, CloudpodId(shop.sql(&pod).trim().parse().unwrap()))
}

async fn until(shop: &Shop, pod: CloudpodId, status: &str) {
    shop.until(&format!("SELECT status FROM cloudpod WHERE id = '{pod}'"), status, 120).await;
}

/// The whole of a zone, a line each.
fn records(shop: &Shop) -> String {
    shop.sql("SELECT name || ' ' || rtype || ' ' || (records->>0) FROM dns_record_set WHERE rtype IN ('A', 'AAAA', 'PTR') ORDER BY 1")
}

/// The zone of the buyer's domain, and one of the platform for the names of addresses.
async fn make_zones(shop: &Shop, domain: &str) {
    shop.buyer.post("/api/dns/zones", json!({"name": domain})).await.data(201);
    let network = shop.bed.nodes[0].get("PVE_NETWORK4");
    let mut parts: Vec<&str> = network.split(['.', '/']).take(3).collect();
    parts.reverse();
    let reverse = format!("{}.in-addr.arpa", parts.join("."));
    shop.owner.post("/api/dns/zones", json!({"name": reverse})).await.data(201);
}

#[tokio::test]
async fn a_container_follows_its_subscription_to_its_end() {
    let shop = Shop::open("sold").await;
    let domain = format!("sold-{}.example", uuid::Uuid::now_v7().simple());
    make_zones(&shop, &domain).await;
    let before =
        (shop.bed.slate_of(&["placement", "ip_address", "dns_record_set"]), records(&shop));
    let (order, pod) = buy(&shop, &format!("app.{domain}")).await;
    let row = shop.bed.pod(pod).await;
    let address = row.ipv4.clone().unwrap();
    let names = records(&shop);
    assert!(names.contains(&format!("app.{domain}. A {address}")), "{names}");
    assert!(names.contains(&format!("PTR app.{domain}.")), "{names}");
    let subscription = id(&shop.buyer.get("/api/subscriptions").await.data(200)[0]);

    follows_the_money(&shop, pod).await;
    follows_the_plan(&shop, pod, &subscription).await;

    // What its owner calls the address goes with it, too.
    let name = json!({"hostname": "mail.elsewhere.example"});
    shop.buyer.put(&format!("/api/dns/addresses/{address}"), name).await.data(200);
    assert!(records(&shop).contains("PTR mail.elsewhere.example."));

    // Nobody deletes what is paid on for.
    let refused = shop.buyer.delete(&format!("/api/cloudpods/{pod}")).await;
    refused.refused(409, "cloudpod_sold");
    let cancel = format!("/api/subscriptions/{subscription}/cancel");
    shop.buyer.post(&cancel, json!({"when": "now"})).await.data(200);
    until(&shop, pod, "suspended").await;
    shop.control("clock", json!({"advance_seconds": 40 * DAY})).await;
    until(&shop, pod, "deleted").await;
    assert!(shop.bed.nodes[0].vmids().is_empty());
    let after = (shop.bed.slate_of(&["placement", "ip_address", "dns_record_set"]), records(&shop));
    assert_eq!(after, before);
    let audited = "SELECT count(*) FROM audit_log WHERE kind = 'CLOUDPOD_DELETED'";
    assert_eq!(shop.sql(audited).trim(), "1");
    let ended = format!("SELECT state FROM service WHERE order_id = '{order}'");
    shop.until(&ended, "terminated", 30).await;
    shop.end().await;
}

/// A card that pays no more, and pays again.
async fn follows_the_money(shop: &Shop, pod: CloudpodId) {
    let customer = shop.stripe_has("customers?limit=1").await;
    let customer = id(&customer[0]);
    let card = |behaviour: &str| json!({"customer": customer, "behaviour": behaviour});
    shop.control("card", card("declined")).await;
    shop.control("settings", json!({"retry_days": [20]})).await;
    // A month, and then the days of grace.
    shop.control("clock", json!({"advance_seconds": 31 * DAY})).await;
    let due = "SELECT status FROM subscription";
    shop.until(due, "past_due", 30).await;
    assert_eq!(shop.bed.pod(pod).await.status.as_str(), "active");
    shop.control("clock", json!({"advance_seconds": 11 * DAY})).await;
    until(shop, pod, "suspended").await;
    assert!(shop.bed.nodes[0].sh("pct list").contains("stopped"));
    let start = shop.buyer.post(&format!("/api/cloudpods/{pod}/start"), json!({})).await;
    start.refused(409, "cloudpod_state");
    // The next attempt at the card.
    shop.control("card", card("pays")).await;
    shop.control("clock", json!({"advance_seconds": 10 * DAY})).await;
    until(shop, pod, "active").await;
    assert!(shop.bed.nodes[0].sh("pct list").contains("running"));
}

/// A larger plan makes it larger, a smaller one gives memory back, and none makes the disk smaller.
async fn follows_the_plan(shop: &Shop, pod: CloudpodId, subscription: &str) {
    let path = format!("/api/subscriptions/{subscription}");
    for (price, cores, disk) in [(1, 2, 3072), (2, 1, 3072)] {
        let wanted = json!({"price_id": shop.prices[price]});
        let preview = shop.buyer.post(&format!("{path}/preview"), wanted.clone()).await.data(200);
        let mut change = wanted;
        change["proration_at"] = preview["proration_at"].clone();
        change["due_now"] = preview["due_now"]["amount"].clone();
        shop.buyer.post(&format!("{path}/change"), change).await.data(200);
        let size = format!(
            "SELECT specification->>'cpu_cores' || ' ' || (specification->>'disk_mib') FROM cloudpod WHERE id = '{pod}'"
        );
        shop.until(&size, &format!("{cores} {disk}"), 120).await;
        let row = shop.bed.pod(pod).await;
        let config = shop.bed.nodes[0].sh(&format!("pct config {}", row.vmid.unwrap()));
        assert!(config.contains(&format!("cores: {cores}")), "{config}");
        let takes = "SELECT cpu_cores FROM placement WHERE released_at IS NULL";
        shop.until(takes, &cores.to_string(), 20).await;
        let view: Value = shop.buyer.get(&format!("/api/cloudpods/{pod}")).await.data(200);
        assert_eq!((&view["status"], &view["error"]), (&json!("active"), &Value::Null), "{view:#}");
        let shrunk = json!({"price_id": shop.prices[0]});
        let refused = shop.buyer.post(&format!("{path}/preview"), shrunk).await;
        assert_eq!(refused.refused(400, "invalid_request")["fields"][0]["path"], "/price_id");
    }
}
