//! Containers over HTTP: places, numbers and addresses, rights, limits, and what is done with them.

use crate::app::{App, Client, Got, spawn};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5hjCzAbiwq1j2y0+0FtqQYdBtN5nFvGGpKqCyjIa6f me";

async fn patch(client: &Client, path: &str, body: Value) -> Got {
    client.send(Method::PATCH, path, Some(body.to_string())).await
}

async fn delete(client: &Client, path: &str) -> Got {
    client.send(Method::DELETE, path, None).await
}

/// A node with room for so many, for everybody, and the platform's plan `pod-s`.
pub async fn node(app: &App, number: u8, room: i32) -> String {
    let platform = app.db.person("owner@platform.test").await.unwrap();
    let id = app.db.node(&platform, number, room).await.unwrap().to_string();
    let grant = json!({ "tenant_id": app.owner.tenant });
    app.owner.post(&format!("/api/servers/{id}/grants"), grant).await.data(200);
    id
}

pub async fn plan(app: &App, code: &str, placement: Value) {
    let plan = json!({"kind": "cloudpod_plan", "cpu_cores": 1, "memory_mib": 512, "disk_mib": 4096, "template": "debian-12", "placement": placement});
    let product = json!({"name": code, "code": code, "specification": plan});
    app.owner.post("/api/products", product).await.data(201);
}

/// Lets a tenant make pods without orders.
pub async fn allow(app: &App, client: &Client) {
    let limits = json!({"limits": {"cloudpods": 100}});
    patch(&app.owner, &format!("/api/tenants/{}", client.tenant), limits).await.data(200);
}

fn pod(hostname: &str) -> Value {
    json!({"hostname": hostname, "plan": "pod-s"})
}

pub async fn make(client: &Client, hostname: &str) -> Value {
    client.post("/api/cloudpods", pod(hostname)).await.data(202)
}

#[tokio::test]
async fn a_pod_has_a_place_a_number_and_an_address_from_the_first_answer_on() {
    let app = spawn().await;
    let server = node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let owner = app.member("podder", "OWNER").await;
    allow(&app, &owner).await;
    let body = json!({"hostname": "Web-1.Example", "plan": "pod-s", "template": "debian-12", "ssh_keys": [KEY]});
    let made = owner.post("/api/cloudpods", body).await.data(202);
    assert_eq!(made["hostname"], "web-1.example");
    assert_eq!(made["status"], "provisioning");
    assert_eq!(made["server_id"], server.as_str());
    assert_eq!(made["ipv4"], "198.18.1.2");
    assert_eq!(made["vmid"], Value::Null, "numbers are the platform's");
    let id = made["id"].as_str().unwrap();
    let shown = owner.get(&format!("/api/cloudpods/{id}")).await.data(200);
    assert_eq!(shown["cpu_cores"], 1);
    assert_eq!(owner.get("/api/cloudpods").await.data(200).as_array().unwrap().len(), 1);
    let load = app.owner.get(&format!("/api/servers/{server}/load")).await.data(200);
    assert_eq!((&load["places"], &load["memory_mib"]), (&json!(1), &json!(512)));
    for (body, field) in [
        (json!({"hostname": "192.0.2.1", "plan": "pod-s"}), "/hostname"),
        (json!({"hostname": "-x", "plan": "pod-s"}), "/hostname"),
        (json!({"hostname": "a_b.c.example", "plan": "pod-s"}), "/hostname"),
        (json!({"hostname": "x", "plan": "--force"}), "/plan"),
        (
            json!({"hostname": "x", "plan": "pod-s", "ssh_keys": ["command=\"x\" ssh-rsa A"]}),
            "/ssh_keys/0",
        ),
    ] {
        let refused = owner.post("/api/cloudpods", body).await;
        let refused = refused.refused(400, "invalid_request");
        assert_eq!(refused["fields"][0]["path"], field, "{refused:#}");
    }
    for unknown in [
        json!({"hostname": "x", "plan": "no-such"}),
        json!({"hostname": "x", "plan": "pod-s", "template": "windows"}),
    ] {
        owner.post("/api/cloudpods", unknown).await.refused(404, "not_found");
    }
    owner.post("/api/cloudpods", pod("web-1.example")).await.refused(409, "conflict");
    let elsewhere = json!({"hostname": "y", "plan": "pod-s", "server_id": id});
    owner.post("/api/cloudpods", elsewhere).await.refused(404, "server_not_found");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn fifty_at_once_get_what_there_is_room_for_and_no_number_or_address_twice() {
    let app = spawn().await;
    node(&app, 1, 12).await;
    node(&app, 2, 8).await;
    plan(&app, "pod-s", json!(null)).await;
    let owner = app.member("crowd", "OWNER").await;
    allow(&app, &owner).await;
    let asking = (0..50).map(|nth| {
        let owner = &owner;
        async move { owner.post("/api/cloudpods", pod(&format!("pod-{nth}"))).await }
    });
    let answers = futures::future::join_all(asking).await;
    let made: Vec<_> = answers.iter().filter(|got| got.status == 202).collect();
    assert_eq!(made.len(), 20);
    for got in answers.iter().filter(|got| got.status != 202) {
        assert_eq!(
            (got.status.as_u16(), &got.body["code"]),
            (409, &json!("no_capacity")),
            "{}",
            got.body
        );
    }
    let acting = app.owner.acting_in(&owner.tenant);
    let pods = acting.get("/api/cloudpods?per_page=200").await.data(200);
    let all = |name: &str| -> BTreeSet<String> {
        pods.as_array().unwrap().iter().map(|pod| pod[name].to_string()).collect()
    };
    assert_eq!(all("ipv4").len(), 20);
    let numbers: BTreeSet<String> = pods
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| format!("{} {}", pod["server_id"], pod["vmid"]))
        .collect();
    assert_eq!(numbers.len(), 20);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn places_are_spread_packed_labelled_and_never_on_what_is_not_well() {
    let app = spawn().await;
    let first = node(&app, 1, 10).await;
    let second = node(&app, 2, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    plan(&app, "packed", json!({"policy": "pack", "apart": "no"})).await;
    plan(&app, "fast", json!({"labels": {"disk": "nvme"}})).await;
    let owner = app.member("placer", "OWNER").await;
    allow(&app, &owner).await;
    let place = async |plan: &str, name: &str| {
        let body = json!({"hostname": name, "plan": plan});
        let got = owner.post("/api/cloudpods", body).await;
        got.body["data"]["server_id"].as_str().map(str::to_owned)
    };
    let spread = [place("pod-s", "a").await, place("pod-s", "b").await];
    assert_ne!(spread[0], spread[1], "the second goes to the emptier one");
    let packed = place("packed", "c").await;
    assert_eq!(place("packed", "d").await, packed, "the fullest");
    assert_eq!(place("fast", "e").await, None, "no server has the label");
    let label = json!({"labels": {"disk": "nvme"}});
    patch(&app.owner, &format!("/api/servers/{second}"), label).await.data(200);
    assert_eq!(place("fast", "f").await.as_deref(), Some(second.as_str()));
    for (nth, away) in [json!({"maintenance": true}), json!({"draining": true})].iter().enumerate()
    {
        patch(&app.owner, &format!("/api/servers/{second}"), away.clone()).await.data(200);
        assert_eq!(place("fast", &format!("g{nth}")).await, None, "{away}");
        assert_eq!(place("pod-s", &format!("h{nth}")).await.as_deref(), Some(first.as_str()));
        let back = json!({"maintenance": false, "draining": false});
        patch(&app.owner, &format!("/api/servers/{second}"), back).await.data(200);
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_limit_a_role_and_another_tenant_are_refused() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let owner = app.member("limited", "OWNER").await;
    allow(&app, &owner).await;
    let limits = json!({"limits": {"cloudpods": 1}});
    patch(&app.owner, &format!("/api/tenants/{}", owner.tenant), limits).await.data(200);
    let made = make(&owner, "one").await;
    owner.post("/api/cloudpods", pod("two")).await.refused(409, "quota_exceeded");
    let id = made["id"].as_str().unwrap();
    let other = app.member("other", "OWNER").await;
    allow(&app, &other).await;
    other.get(&format!("/api/cloudpods/{id}")).await.refused(404, "not_found");
    other.post(&format!("/api/cloudpods/{id}/start"), json!({})).await.refused(404, "not_found");
    delete(&other, &format!("/api/cloudpods/{id}")).await.refused(404, "not_found");
    assert_eq!(other.get("/api/cloudpods").await.data(200), json!([]));
    // What is being made is not started, and what is deleted before it is made is gone at once or soon.
    let busy = owner.post(&format!("/api/cloudpods/{id}/start"), json!({})).await;
    busy.refused(409, "cloudpod_state");
    let gone = delete(&owner, &format!("/api/cloudpods/{id}")).await.data(202);
    assert_eq!(gone["desired"], "deleted");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_input_that_no_command_takes_is_refused_and_recorded() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let owner = app.member("inputs", "OWNER").await;
    allow(&app, &owner).await;
    let id = make(&owner, "one").await["id"].clone();
    owner.post("/api/cloudpods", pod("$(reboot).example")).await.refused(400, "invalid_request");
    let snapshots = format!("/api/cloudpods/{}/snapshots", id.as_str().unwrap());
    owner.post(&snapshots, json!({"name": "a; reboot"})).await.refused(400, "invalid_request");
    let kept = owner.get("/api/audit?kind=CLOUDPOD_PROVISIONING_INPUT_REJECTED").await.data(200);
    let kept = kept.as_array().unwrap().iter().map(|entry| &entry["data"]).collect::<Vec<_>>();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert_eq!((&kept[0]["cloudpod"], &kept[1]["cloudpod"]), (&id, &json!(null)));
    assert!(kept[1]["input"].as_str().unwrap().contains("hostname"), "{kept:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn an_address_is_named_by_whoever_has_a_container_there_and_by_nobody_before_or_after() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let zone = json!({"name": "1.18.198.in-addr.arpa"});
    app.owner.post("/api/dns/zones", zone).await.data(201);
    let owner = app.member("namer", "OWNER").await;
    allow(&app, &owner).await;
    let made = make(&owner, "named").await;
    let path = format!("/api/dns/addresses/{}", made["ipv4"].as_str().unwrap());
    let name = async || {
        let name = json!({"hostname": "mail.namer.example"}).to_string();
        owner.send(Method::PUT, &path, Some(name)).await
    };
    name().await.refused(404, "not_found");
    for (state, answers) in [
        ("status = 'active'", 200),
        ("status = 'suspended', desired = 'suspended'", 200),
        ("status = 'active', desired = 'deleted'", 404),
        ("status = 'failed', desired = 'active'", 404),
    ] {
        app.db.execute(&format!("UPDATE cloudpod SET {state}")).await.unwrap();
        assert_eq!(name().await.status, answers, "{state}");
        assert_eq!(owner.get(&path).await.status, answers, "{state}");
    }
    app.db.remove().await.unwrap();
}

/// A customer below a reseller.
async fn below(app: &App, reseller: &Client, name: &str) -> Client {
    let body = json!({"name": name, "kind": "customer"});
    let tenant = reseller.post("/api/tenants", body).await.data(201)["id"].clone();
    app.member_of(tenant.as_str().unwrap(), name, "OWNER").await
}

#[tokio::test]
async fn without_an_order_only_the_platforms_plans_are_had() {
    let app = spawn().await;
    node(&app, 1, 40).await;
    plan(&app, "pod-s", json!(null)).await;
    let reseller = app.member_kind("seller", "reseller").await;
    allow(&app, &reseller).await;
    let huge = json!({"kind": "cloudpod_plan", "cpu_cores": 32, "memory_mib": 8192, "disk_mib": 65536, "template": "debian-12"});
    for code in ["huge", "pod-s"] {
        let product = json!({"name": code, "code": code, "specification": huge});
        reseller.post("/api/products", product).await.data(201);
    }
    let wanted = json!({"hostname": "free", "plan": "huge"});
    reseller.post("/api/cloudpods", wanted.clone()).await.refused(404, "not_found");
    assert_eq!(make(&reseller, "small").await["cpu_cores"], 1, "it is the platform's of this name");
    let there = app.owner.acting_in(&reseller.tenant);
    assert_eq!(there.post("/api/cloudpods", wanted).await.data(202)["cpu_cores"], 32);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_one_was_given_is_not_multiplied_by_giving_it_on() {
    let app = spawn().await;
    node(&app, 1, 40).await;
    plan(&app, "pod-s", json!(null)).await;
    let reseller = app.member_kind("seller", "reseller").await;
    let limits = |count: u32| json!({"limits": {"cloudpods": count}});
    patch(&app.owner, &format!("/api/tenants/{}", reseller.tenant), limits(3)).await.data(200);
    let one = below(&app, &reseller, "first").await;
    let two = below(&app, &reseller, "second").await;
    for customer in [&one, &two] {
        let path = format!("/api/tenants/{}", customer.tenant);
        patch(&reseller, &path, limits(50)).await.data(200);
    }
    // Of many who ask at once in all places, as many get one as the reseller was given.
    let asking = (0..12).map(|nth| {
        let client = [&reseller, &one, &two][nth % 3];
        async move { client.post("/api/cloudpods", pod(&format!("pod-{nth}"))).await }
    });
    let answers = futures::future::join_all(asking).await;
    assert_eq!(answers.iter().filter(|got| got.status == 202).count(), 3);
    for got in answers.iter().filter(|got| got.status != 202) {
        assert_eq!((got.status.as_u16(), &got.body["code"]), (409, &json!("quota_exceeded")));
    }
    // What is gone makes room.
    app.db.execute("UPDATE cloudpod SET status = 'deleted', desired = 'deleted'").await.unwrap();
    make(&two, "again").await;
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn pools_do_not_overlap_and_are_kept_while_somebody_has_of_them() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let body = |network: &str, gateway: &str| json!({"name": network, "network": network, "gateway": gateway});
    for (wrong, field) in [
        (body("203.0.113.5/24", "203.0.113.1"), "/network"),
        (body("203.0.113.0/24", "203.0.114.1"), "/gateway"),
        (body("198.18.1.0/25", "198.18.1.1"), "/network"),
        (body("nonsense", "203.0.113.1"), "/network"),
    ] {
        let refused = app.owner.post("/api/ip-pools", wrong).await;
        let refused = refused.refused(400, "invalid_request");
        assert_eq!(refused["fields"][0]["path"], field);
    }
    let six = app.owner.post("/api/ip-pools", body("2001:db8::/64", "2001:db8::1")).await.data(201);
    assert_eq!(six["first"], "2001:db8::1");
    let made = make(&app.owner, "dual").await;
    assert_eq!(made["ipv6"], "2001:db8::2", "the gateway is nobody's");
    let path = format!("/api/ip-pools/{}", six["id"].as_str().unwrap());
    delete(&app.owner, &path).await.refused(409, "conflict");
    let closed = patch(&app.owner, &path, json!({"closed": true})).await.data(200);
    assert_eq!((&closed["closed"], &closed["held"]), (&json!(true), &json!(1)));
    assert_eq!(make(&app.owner, "four").await["ipv6"], Value::Null);
    // Without IPv4 there is nothing to sell, and other sites have pools of their own.
    app.db.execute("UPDATE ip_pool SET closed = (family = 4)").await.unwrap();
    let refused = app.owner.post("/api/cloudpods", pod("six")).await;
    refused.refused(409, "no_capacity");
    app.db.execute("UPDATE ip_pool SET location = 'elsewhere' WHERE family = 4").await.unwrap();
    let six = make(&app.owner, "six").await;
    assert_eq!((&six["ipv4"], six["ipv6"].is_string()), (&Value::Null, true));
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn nobody_makes_for_nothing_what_is_sold() {
    let app = spawn().await;
    node(&app, 1, 10).await;
    plan(&app, "pod-s", json!(null)).await;
    let stranger = app.member("stranger", "OWNER").await;
    let refused = stranger.post("/api/cloudpods", pod("free")).await;
    refused.refused(409, "quota_exceeded");
    allow(&app, &stranger).await;
    let made = make(&stranger, "given").await;
    let resize = format!("/api/cloudpods/{}/resize", made["id"].as_str().unwrap());
    app.db.execute("UPDATE cloudpod SET status = 'active', job_id = NULL").await.unwrap();
    let refused = stranger.post(&resize, json!({"cpu_cores": 16})).await;
    refused.refused(409, "cloudpod_sold");
    app.db.remove().await.unwrap();
}
