//! Many orders at once for less room than they want, while nodes, workers and answers fail at random:
//! afterwards the database, the node and the bills say the same.

use super::shop::{Shop, WORKERS};
use crate::chance::Chance;
use crate::program::wait_for;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const ORDERS: usize = 50;
const ROOM: usize = 20;
/// What a node may do to the commands with which a container is made.
const FAULTS: [(&str, &str, u32); 10] = [
    ("pct create", "lost", 2),
    ("pct create", "lost_before", 2),
    ("pct create", "fail", 1),
    ("pct create", "fail_after", 1),
    ("pct create", "late", 1),
    ("pct create", "full", 1),
    ("pct start", "lost", 2),
    ("pct start", "fail", 1),
    ("pct status", "lost_before", 1),
    ("pvesh get", "late", 1),
];

/// So many containers fit on the node, by its cores.
async fn make_room(shop: &Shop, places: usize) {
    let server = format!("/api/servers/{}", shop.bed.servers[0]);
    let cores: f64 = shop.sql("SELECT cpu_cores FROM server").trim().parse().unwrap();
    let factor = f64::from(u32::try_from(places).unwrap()) / cores;
    // Memory and disk are there for more.
    let body = json!({"cpu_factor": factor, "memory_factor": 100.0, "disk_factor": 100.0});
    shop.owner.patch(&server, body).await.data(200);
}

#[tokio::test]
async fn fifty_orders_for_twenty_places_while_everything_fails_now_and_then() {
    let mut shop = Shop::open("orders").await;
    let mut chance = Chance::of_seed();
    make_room(&shop, ROOM).await;
    let names: Vec<String> = (0..ORDERS).map(|nth| format!("pod-{nth}.example")).collect();
    let asked = futures::future::join_all(names.iter().map(|name| shop.order(name))).await;
    let (held, refused): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|(_, checkout)| checkout.status == 200);
    let node = "SELECT health_at, last_error, cpu_cores, memory_mib, disk_mib FROM server";
    assert_eq!((held.len(), refused.len()), (ROOM, ORDERS - ROOM), "{}", shop.sql(node));
    let mut explained = BTreeSet::new();
    for (order, checkout) in refused {
        let said = checkout.refused(409, "no_capacity");
        assert!(said["error"].as_str().unwrap().contains("no room for pod-s"), "{said:#}");
        explained.insert(order);
    }
    assert_eq!(shop.stripe_has("checkout/sessions?limit=100").await.len(), ROOM);
    let places = "SELECT count(*) FROM placement WHERE released_at IS NULL";
    assert_eq!(shop.sql(places).trim(), ROOM.to_string());

    for (words, kind, times) in FAULTS {
        // Longer than the worker waits for an answer, when it comes late.
        shop.bed.nodes[0].fault(words, kind, times, if kind == "late" { 22 } else { 2 });
    }
    let mut paid = BTreeSet::new();
    for (order, checkout) in held {
        shop.pay(&checkout.body["data"]).await;
        paid.insert(order);
        if chance.below(4) == 0 {
            let name: &&str = chance.pick(&WORKERS);
            shop.replace(name);
        }
    }
    let begun = "SELECT count(*) > 0 FROM cloudpod WHERE status = 'provisioning'";
    for _ in 0..4 {
        shop.until(begun, "t", 120).await;
        shop.replace("provisioner");
    }
    let made = "SELECT count(*) FROM cloudpod WHERE status = 'active'";
    // What has failed three times by bad luck is the operator's, who tries it again.
    wait_for("all that was paid", Duration::from_secs(400), async || {
        retry_failed(&shop).await;
        (shop.sql(made).trim() == ROOM.to_string()).then_some(())
    })
    .await;
    shop.bed.nodes[0].clear_faults();
    compare(&shop, &paid, &explained).await;
    shop.end().await;
}

async fn retry_failed(shop: &Shop) {
    for service in shop.sql("SELECT id FROM service WHERE state = 'failed'").lines() {
        let path = format!("/api/services/{service}/retry");
        shop.owner.post(&path, json!({"reason": "The node works again."})).await;
    }
}

fn texts(list: &[Value], of: impl Fn(&Value) -> String) -> BTreeSet<String> {
    let set: BTreeSet<String> = list.iter().map(of).collect();
    assert_eq!(set.len(), list.len(), "twice: {list:#?}");
    set
}

/// The database, the node and the bills, as sets.
async fn compare(shop: &Shop, paid: &BTreeSet<String>, refused: &BTreeSet<String>) {
    let orders = "SELECT count(*) FROM orders WHERE status = 'active'";
    shop.until(orders, &ROOM.to_string(), 60).await;
    let column = |sql: &str| -> BTreeSet<String> {
        let text = shop.sql(sql);
        let set: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(set.len(), text.lines().count(), "twice: {text}");
        set
    };
    assert_eq!(&column("SELECT id FROM orders WHERE status = 'active'"), paid);
    assert_eq!(
        &column("SELECT id FROM orders WHERE status = 'pending_payment' OR status = 'draft'"),
        refused
    );
    let vmids = column("SELECT vmid FROM cloudpod WHERE status = 'active'");
    assert_eq!(vmids.len(), ROOM);
    let on_node: BTreeSet<String> =
        shop.bed.nodes[0].vmids().into_iter().map(|vmid| vmid.to_string()).collect();
    assert_eq!(on_node, vmids);
    let places =
        "SELECT p.vmid FROM placement l JOIN cloudpod p ON p.id = l.cloudpod_id AND p.vmid = l.vmid
        WHERE l.released_at IS NULL";
    assert_eq!(column(places), vmids);
    assert_eq!(column("SELECT id FROM placement WHERE released_at IS NULL").len(), ROOM);
    let addresses = column("SELECT ipv4 FROM cloudpod WHERE status = 'active'");
    assert_eq!(addresses.len(), ROOM);
    let held = "SELECT split_part(a.address, '/', 1) FROM ip_address a JOIN placement l ON l.id = a.placement_id
        WHERE l.released_at IS NULL";
    assert_eq!(column(held), addresses);
    let sold = "SELECT s.order_id FROM service s JOIN cloudpod p ON p.service_id = s.id
        WHERE s.state = 'active' AND p.status = 'active'";
    assert_eq!(&column(sold), paid);
    let subscriptions = shop.stripe_has("subscriptions?limit=100&status=active").await;
    let of_order = |object: &Value| object["metadata"]["order_id"].as_str().unwrap().to_owned();
    assert_eq!(&texts(&subscriptions, of_order), paid);
    let invoices = shop.stripe_has("invoices?limit=100").await;
    assert_eq!(invoices.len(), ROOM);
    assert!(
        invoices.iter().all(|i| i["status"] == "paid" && i["amount_paid"] == 499),
        "{invoices:#?}"
    );
    for (vmid, address) in shop
        .sql("SELECT vmid, ipv4 FROM cloudpod WHERE status = 'active'")
        .lines()
        .filter_map(|line| line.split_once('|'))
    {
        let config = shop.bed.nodes[0].sh(&format!("pct config {vmid}"));
        assert!(config.contains(&format!("ip={address}/")), "{vmid}: {config}");
        let banner = format!("timeout 10 bash -c 'head -c 4 </dev/tcp/{address}/22'");
        assert_eq!(shop.bed.nodes[0].sh(&banner), "SSH-", "{vmid}");
    }
}
