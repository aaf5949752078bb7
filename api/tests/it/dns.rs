//! Zones and their records over the API: what is refused, what is counted, who sees what.

use crate::app::{App, Client, spawn};
use reqwest::Method;
use serde_json::{Value, json};

/// A zone of the client's; its path.
async fn zone(client: &Client, name: &str) -> String {
    let made = client.post("/api/dns/zones", json!({ "name": name })).await.data(201);
    format!("/api/dns/zones/{}", made["id"].as_str().unwrap())
}

fn set(name: &str, rtype: &str, records: &[&str]) -> Value {
    json!({ "name": name, "type": rtype, "records": records })
}

async fn version(client: &Client, zone: &str) -> i64 {
    client.get(zone).await.data(200)["version"].as_i64().unwrap()
}

/// Sends with the version that was seen.
async fn seen(client: &Client, url: &str, version: i64, body: Value) -> crate::app::Got {
    client.with_header("If-Match", &format!("\"{version}\"")).post(url, body).await
}

async fn put(client: &Client, url: &str, body: Value) -> crate::app::Got {
    client.send(Method::PUT, url, Some(body.to_string())).await
}

/// A zone file as it is, for whatever stands in the zone.
async fn file(client: &Client, url: &str, text: &str) -> crate::app::Got {
    let token = format!("Bearer {}", client.token.as_deref().unwrap());
    client
        .with_header("Authorization", &token)
        .with_header("If-Match", "*")
        .with_header("Content-Type", "text/dns")
        .send_as_is(url, text)
        .await
}

async fn delete(client: &Client, url: &str) -> crate::app::Got {
    client.send(Method::DELETE, url, None).await
}

#[tokio::test]
async fn record_sets_are_made_changed_and_removed() {
    let app = spawn().await;
    let owner = app.member("zones", "OWNER").await;
    let zone = zone(&owner, "Zönes.test").await;
    let made = owner.get(&zone).await.data(200);
    assert_eq!((&made["name"], &made["state"]), (&json!("xn--znes-5qa.test"), &json!("pending")));
    let records = format!("{zone}/records");
    let www = set("www", "a", &["192.0.2.1", "192.0.2.2"]);
    let made = owner.post(&records, www.clone()).await.data(201);
    assert_eq!((&made["type"], &made["ttl"]), (&json!("A"), &json!(3600)));
    owner.post(&records, www).await.refused(409, "conflict");
    let other = json!({"ttl": 300, "records": ["192.0.2.3"]});
    let other = put(&owner, &format!("{records}/www/A"), other).await.data(200);
    assert_eq!(other, json!({"name": "www", "type": "A", "ttl": 300, "records": ["192.0.2.3"]}));
    owner.post(&records, set("@", "TXT", &["v=spf1 -all"])).await.data(201);
    owner.post(&records, set("*.wild", "AAAA", &["2001:DB8::1"])).await.data(201);
    let listed = owner.get(&format!("{records}?type=TXT")).await.data(200);
    assert_eq!(listed[0]["records"], json!(["\"v=spf1 -all\""]));
    let wild = owner.get(&format!("{records}/*.wild/aaaa")).await.data(200);
    assert_eq!(wild["records"], json!(["2001:db8::1"]));
    assert_eq!(version(&owner, &zone).await, 5);
    delete(&owner, &format!("{records}/www/A")).await.data(200);
    delete(&owner, &format!("{records}/www/A")).await.refused(404, "not_found");
    delete(&owner, &format!("{records}/@/NS")).await.refused(400, "invalid_request");
    let gone = delete(&owner, &zone).await.data(202);
    assert_eq!(gone["state"], "deleting");
    owner.post(&records, set("x", "A", &["192.0.2.1"])).await.refused(404, "not_found");
    let trail = owner.get("/api/audit?limit=200").await.data(200);
    let kinds: Vec<&str> =
        trail.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    for kind in [
        "DNS_DOMAIN_CREATED",
        "DNS_DOMAIN_VIEWED",
        "DNS_RECORD_CREATED",
        "DNS_RECORD_UPDATED",
        "DNS_RECORD_DELETED",
        "DNS_DOMAIN_DELETED",
    ] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_records_is_said_at_the_field() {
    let app = spawn().await;
    let owner = app.member("wrong", "OWNER").await;
    let zone = zone(&owner, "wrong.test").await;
    let records = format!("{zone}/records");
    owner.post(&records, set("there", "A", &["192.0.2.1"])).await.data(201);
    for (body, path) in [
        (set("x", "A", &["192.0.2.256"]), "/records/0"),
        (set("x", "A", &["192.0.2.1", "::1"]), "/records/1"),
        (set("x", "SOA", &["a b 1 2 3 4 5"]), "/type"),
        (set("x", "LUA", &["A \"x\""]), "/type"),
        (set("@", "CNAME", &["elsewhere.test."]), "/type"),
        (set("there", "CNAME", &["elsewhere.test."]), "/type"),
        (set("x", "MX", &["10 192.0.2.1"]), "/records/0"),
        (set("_sip._tcp", "SRV", &["1 2 5060 192.0.2.1"]), "/records/0"),
        (set("x", "CAA", &["0 nonsense \"x\""]), "/records/0"),
        (set(&"a".repeat(64), "A", &["192.0.2.1"]), "/name"),
        (set("other.example.", "A", &["192.0.2.1"]), "/name"),
        (set("x", "TLSA", &["3 1 1 abcd"]), "/records/0"),
        (json!({"name": "x", "type": "A", "ttl": 1, "records": ["192.0.2.1"]}), "/ttl"),
    ] {
        let got = owner.post(&records, body.clone()).await;
        let got = got.refused(400, "invalid_request");
        assert_eq!(got["fields"][0]["path"], path, "{body}: {got}");
    }
    let batch = json!({"changes": [
        {"action": "put", "name": "a", "type": "A", "records": ["192.0.2.1"]},
        {"action": "put", "name": "b", "type": "A", "records": ["192.0.2.1", "no"]},
    ]});
    let got = seen(&owner, &format!("{zone}/batch"), version(&owner, &zone).await, batch).await;
    assert_eq!(got.body["fields"][0]["path"], "/changes/1/records/1", "{}", got.body);
    owner.get(&format!("{records}/a/A")).await.refused(404, "not_found");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn two_editors_never_overwrite_each_other() {
    let app = spawn().await;
    let owner = app.member("editors", "OWNER").await;
    let zone = zone(&owner, "editors.test").await;
    let batch = format!("{zone}/batch");
    let change = |address: &str| {
        json!({"changes": [
            {"action": "put", "name": "www", "type": "A", "records": [address]},
        ]})
    };
    owner.post(&batch, change("192.0.2.1")).await.refused(428, "version_required");
    let first = version(&owner, &zone).await;
    let shown = seen(&owner, &format!("{batch}?preview=true"), first, change("192.0.2.1")).await;
    let shown = shown.data(200);
    assert_eq!((&shown["preview"], &shown["diff"][0]["before"]), (&json!(true), &Value::Null));
    assert_eq!(version(&owner, &zone).await, first);
    // Of many who have seen the same, one comes through.
    let tries = (0..8).map(|n| {
        let (owner, batch) = (owner.clone(), batch.clone());
        async move { seen(&owner, &batch, first, change(&format!("192.0.2.{n}"))).await.status }
    });
    let statuses = futures::future::join_all(tries).await;
    assert_eq!(statuses.iter().filter(|s| s.as_u16() == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| s.as_u16() == 412).count(), 7, "{statuses:?}");
    assert_eq!(version(&owner, &zone).await, first + 1);
    // What changes nothing is no new version.
    let now = owner.get(&format!("{zone}/records/www/A")).await.data(200);
    let same = json!({"ttl": now["ttl"], "records": now["records"]});
    put(&owner, &format!("{zone}/records/www/A"), same).await.data(200);
    assert_eq!(version(&owner, &zone).await, first + 1);
    owner.with_header("If-Match", "*").post(&batch, change("192.0.2.99")).await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_can_replace_a_cname() {
    let app = spawn().await;
    let owner = app.member("batch", "OWNER").await;
    let zone = zone(&owner, "batch.test").await;
    owner.post(&format!("{zone}/records"), set("www", "CNAME", &["@"])).await.data(201);
    let now = version(&owner, &zone).await;
    let changes = json!({"changes": [
        {"action": "put", "name": "www", "type": "A", "records": ["192.0.2.1"]},
        {"action": "delete", "name": "www", "type": "CNAME"},
    ]});
    let done = seen(&owner, &format!("{zone}/batch"), now, changes.clone()).await.data(200);
    assert_eq!(done["diff"].as_array().unwrap().len(), 2, "{done}");
    let twice = json!({"changes": [changes["changes"][0], changes["changes"][0]]});
    let got = seen(&owner, &format!("{zone}/batch"), now + 1, twice).await;
    got.refused(400, "invalid_request");
    let half = json!({"changes": [
        {"action": "put", "name": "ftp", "type": "A", "records": ["192.0.2.1"]},
        {"action": "create", "name": "www", "type": "A", "records": ["192.0.2.2"]},
    ]});
    seen(&owner, &format!("{zone}/batch"), now + 1, half).await.refused(409, "conflict");
    owner.get(&format!("{zone}/records/ftp/A")).await.refused(404, "not_found");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_name_has_one_owner_and_neighbours_must_agree() {
    let app = spawn().await;
    let a = app.member("first", "OWNER").await;
    let b = app.member("second", "OWNER").await;
    let above = zone(&a, "shared.test").await;
    let name = |name: &str| json!({ "name": name });
    b.post("/api/dns/zones", name("shared.test")).await.refused(409, "conflict");
    b.post("/api/dns/zones", name("blog.shared.test")).await.refused(409, "zone_taken");
    zone(&a, "own.shared.test").await;
    for wrong in ["co.uk", "test", "a.localhost", "ns1.ours.test", "ours.test", "x.hosted.test"] {
        b.post("/api/dns/zones", name(wrong)).await.refused(400, "invalid_request");
    }
    b.post("/api/dns/zones", name("2.0.192.in-addr.arpa")).await.refused(400, "invalid_request");
    let agreement = json!({"name": "blog.shared.test", "tenant_id": b.tenant});
    let agreements = format!("{above}/agreements");
    let made = a.post(&agreements, agreement.clone()).await.data(201);
    a.post(&agreements, json!({"name": "other.test", "tenant_id": b.tenant}))
        .await
        .refused(400, "invalid_request");
    b.post("/api/dns/zones", name("shop.shared.test")).await.refused(409, "zone_taken");
    zone(&b, "blog.shared.test").await;
    // The agreement ends; what was made under it stays, and nothing new comes.
    let id = made["id"].as_str().unwrap();
    delete(&b, &format!("{agreements}/{id}")).await.refused(404, "not_found");
    delete(&a, &format!("{agreements}/{id}")).await.data(200);
    b.post("/api/dns/zones", name("a.blog.shared.test")).await.refused(409, "zone_taken");
    a.post("/api/dns/zones", name("x.blog.shared.test")).await.refused(409, "zone_taken");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn of_many_who_want_related_names_one_tenant_gets_them() {
    let app = spawn().await;
    let mut tries = Vec::new();
    for n in 0..4 {
        let client = app.member(&format!("rival{n}"), "OWNER").await;
        for name in ["race.test", "a.race.test", "b.a.race.test"] {
            let client = client.clone();
            tries.push(async move {
                let got = client.post("/api/dns/zones", json!({ "name": name })).await;
                (client.tenant.clone(), got.status.as_u16())
            });
        }
    }
    let got = futures::future::join_all(tries).await;
    let winners: std::collections::BTreeSet<_> =
        got.iter().filter(|(_, status)| *status == 201).map(|(tenant, _)| tenant).collect();
    assert_eq!(winners.len(), 1, "{got:?}");
    assert!(got.iter().all(|(_, status)| [201, 409].contains(status)), "{got:?}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_zone_is_changed_so_often_and_what_is_refused_does_not_count() {
    let app = spawn().await;
    let owner = app.member("often", "OWNER").await;
    let zone = zone(&owner, "often.test").await;
    let records = format!("{zone}/records");
    for n in 0..30 {
        owner.post(&records, set("x", "A", &["no"])).await.refused(400, "invalid_request");
        if n < 9 {
            owner.post(&records, set(&format!("n{n}"), "A", &["192.0.2.1"])).await.data(201);
        }
    }
    let many: Vec<Value> = (0..50)
        .map(|n| json!({"action": "put", "name": format!("m{n}"), "type": "A", "records": ["192.0.2.1"]}))
        .collect();
    let now = version(&owner, &zone).await;
    let batch = json!({ "changes": many });
    seen(&owner, &format!("{zone}/batch"), now, batch).await.data(200);
    // Ten at once, and two a second: by now some seconds may have passed.
    let mut refused = None;
    for n in 0..30 {
        let got = owner.post(&records, set(&format!("o{n}"), "A", &["192.0.2.1"])).await;
        if got.status != 201 {
            refused = Some(got);
            break;
        }
    }
    let refused = refused.expect("a zone that is changed without end is refused");
    assert!(refused.retry_after.is_some_and(|secs| secs > 0));
    let refused = refused.refused(429, "too_many_requests");
    assert!(refused["error"].as_str().unwrap().contains("one batch"), "{refused}");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn zones_and_records_are_limited_by_the_tenants_quota() {
    let app = spawn().await;
    let owner = app.member("quota", "OWNER").await;
    let limits = json!({"limits": {"zones": 1, "records": 3}});
    let path = format!("/api/tenants/{}", owner.tenant);
    app.owner.send(Method::PATCH, &path, Some(limits.to_string())).await.data(200);
    let zone = zone(&owner, "quota.test").await;
    let other = json!({"name": "other-quota.test"});
    owner.post("/api/dns/zones", other).await.refused(409, "quota_exceeded");
    let records = format!("{zone}/records");
    for n in 0..2 {
        owner.post(&records, set(&format!("n{n}"), "A", &["192.0.2.1"])).await.data(201);
    }
    let one_more = owner.post(&records, set("n2", "A", &["192.0.2.1"])).await;
    one_more.refused(409, "quota_exceeded");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn zone_files_come_in_and_go_out_the_same() {
    let app = spawn().await;
    let owner = app.member("files", "OWNER").await;
    let zone = zone(&owner, "files.test").await;
    let text_in = "$TTL 2h\n$ORIGIN files.test.\n@ IN SOA ns.old.example. x.files.test. ( 7 1h 15m 1w 1h )\n\
                @ NS ns.old.example.\n@ 1D IN MX 10 mail\nmail A 192.0.2.1\n\tAAAA 2001:db8::1\n\
                www CNAME @\n@ TXT \"a \\\"quote\\\"\" ( \"and\"\n \"more\" )\n";
    let import = format!("{zone}/import");
    let shown = file(&owner, &format!("{import}?preview=true"), text_in).await;
    assert_eq!(shown.data(200)["diff"].as_array().unwrap().len(), 5);
    let done = file(&owner, &import, text_in).await.data(200);
    assert_eq!(done["diff"].as_array().unwrap().len(), 5, "{done}");
    let servers = owner.get(&format!("{zone}/records/@/NS")).await.data(200);
    assert_eq!(servers["records"], json!(["ns1.ours.test.", "ns2.ours.test."]));
    let text = owner.send(Method::GET, &format!("{zone}/export"), None).await.body;
    let text = text.as_str().unwrap();
    assert!(text.contains("86400") && text.contains("192.0.2.1"), "{text}");
    let again = json!({ "zone_file": text });
    let again = owner.with_header("If-Match", "*").post(&import, again).await;
    assert_eq!(again.data(200)["diff"], json!([]));
    // One line that cannot be taken refuses the file, unless it may be left out.
    let bad = "www A 192.0.2.1\nbroken A 192.0.2.999\n";
    let got = file(&owner, &import, bad).await;
    let got = got.refused(400, "invalid_request");
    assert!(got["fields"][0]["message"].as_str().unwrap().starts_with("line 2"), "{got}");
    let url = format!("{import}?leave_out=true&mode=merge&preview=true");
    let got = file(&owner, &url, "b A 192.0.2.1\nc A 1.2\n").await;
    let got = got.data(200);
    assert_eq!((&got["left_out"][0]["line"], &got["diff"][0]["name"]), (&json!(2), &json!("b")));
    for bad in ["$INCLUDE /etc/passwd\n", "$GENERATE 1-9 a$ A 192.0.2.$\n", "a TXT \"open\n"] {
        file(&owner, &import, bad).await.refused(400, "invalid_request");
    }
    let large = "x".repeat(5 << 20);
    file(&owner, &import, &large).await.refused(413, "payload_too_large");
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn templates_are_seen_below_and_show_what_they_would_do() {
    let app = spawn().await;
    let owner = app.member("template", "OWNER").await;
    let records = json!([
        {"name": "@", "type": "A", "records": ["{ipv4}"]},
        {"name": "@", "type": "AAAA", "records": ["{ipv6}"]},
        {"name": "@", "type": "TXT", "ttl": 600, "records": ["v=spf1 include:{domain} -all"]},
    ]);
    let new = json!({"name": "Web", "records": records});
    let template = app.owner.post("/api/dns/templates", new).await.data(201)["id"].clone();
    let bad =
        json!({"name": "Bad", "records": [{"name": "@", "type": "A", "records": ["{ipv6}"]}]});
    owner.post("/api/dns/templates", bad).await.refused(400, "invalid_request");
    assert_eq!(owner.get("/api/dns/templates").await.data(200)[0]["id"], template);
    let path = format!("/api/dns/templates/{}", template.as_str().unwrap());
    delete(&owner, &path).await.refused(404, "not_found");
    let zone = zone(&owner, "template.test").await;
    let apply = format!("{zone}/apply-template");
    let values = json!({"template_id": template, "ipv4": "192.0.2.7"});
    let now = version(&owner, &zone).await;
    let shown = seen(&owner, &format!("{apply}?preview=true"), now, values.clone()).await.data(200);
    assert_eq!(shown["left_out"][0]["what"], "@ AAAA");
    let done = seen(&owner, &apply, now, values).await.data(200);
    assert_eq!(done["diff"], shown["diff"]);
    let text = owner.get(&format!("{zone}/records/@/TXT")).await.data(200);
    assert_eq!(text["records"], json!(["\"v=spf1 include:template.test -all\""]));
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_bound_changes_its_records_and_nothing_else() {
    let app = spawn().await;
    let owner = app.member("bound", "OWNER").await;
    let zone = zone(&owner, "bound.test").await;
    let other = self::zone(&owner, "unbound.test").await;
    let id = zone.rsplit('/').next().unwrap();
    let bindings = json!([{"zone_id": id, "name": "_acme-challenge", "type": "txt"}]);
    let new = json!({"name": "acme", "role": "ADMIN", "dns": bindings});
    owner.post("/api/api-keys", new.clone()).await.refused(400, "invalid_request");
    let mut new = new;
    new["scopes"] = json!(["dns:read", "dns:write"]);
    let key = owner.post("/api/api-keys", new).await.data(201);
    assert_eq!(key["dns"][0]["type"], "TXT");
    let key = app.anonymous().with_token(key["key"].as_str().unwrap());
    let acme = format!("{zone}/records/_acme-challenge/TXT");
    put(&key, &acme, json!({"records": ["token"]})).await.data(200);
    key.post(&format!("{zone}/records"), set("www", "A", &["192.0.2.1"]))
        .await
        .refused(403, "forbidden");
    key.post(&format!("{zone}/records"), set("_acme-challenge.www", "TXT", &["x"]))
        .await
        .refused(403, "forbidden");
    key.get(&other).await.refused(404, "not_found");
    let seen = key.get("/api/dns/zones").await.data(200);
    assert_eq!(seen.as_array().unwrap().len(), 1, "{seen}");
    let import = json!({"zone_file": "www A 192.0.2.1"});
    let got = key.with_header("If-Match", "*").post(&format!("{zone}/import"), import).await;
    got.refused(403, "forbidden");
    for (method, path) in
        [(Method::POST, format!("{zone}/verify")), (Method::POST, format!("{zone}/sync"))]
    {
        key.send(method, &path, None).await.refused(403, "forbidden");
    }
    key.post("/api/dns/zones", json!({"name": "new.test"})).await.refused(403, "forbidden");
    key.get("/api/services").await.refused(403, "forbidden");
    delete(&key, &acme).await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_zone_goes_to_a_tenant_below_with_all_that_it_has() {
    let app = spawn().await;
    let reseller = app.member_kind("giver", "reseller").await;
    let child = json!({"name": "child", "kind": "customer"});
    let child = reseller.post("/api/tenants", child).await.data(201)["id"].clone();
    let child = child.as_str().unwrap();
    let zone = zone(&reseller, "given.test").await;
    reseller.post(&format!("{zone}/records"), set("www", "A", &["192.0.2.1"])).await.data(201);
    let stranger = app.member("stranger", "OWNER").await;
    let transfer = format!("{zone}/transfer");
    let to = |tenant: &str| json!({ "tenant_id": tenant });
    reseller.post(&transfer, to(&stranger.tenant)).await.refused(400, "invalid_request");
    reseller.post(&transfer, to(child)).await.data(200);
    reseller.get(&zone).await.refused(404, "not_found");
    let there = reseller.acting_in(child);
    assert_eq!(there.get(&format!("{zone}/records/www/A")).await.data(200)["ttl"], 3600);
    there.post(&format!("{zone}/records"), set("ftp", "A", &["192.0.2.1"])).await.data(201);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn addresses_have_names_in_the_platforms_reverse_zones() {
    let app = spawn().await;
    let owner = app.member("addresses", "OWNER").await;
    let path = "/api/dns/addresses/192.0.2.17";
    let name = json!({"hostname": "Server.hosting.test"});
    put(&app.owner, path, name.clone()).await.refused(409, "conflict");
    let zone = zone(&app.owner, "2.0.192.in-addr.arpa").await;
    let named = put(&app.owner, path, name.clone()).await.data(200);
    assert_eq!(named["hostname"], "server.hosting.test");
    let set = app.owner.get(&format!("{zone}/records/17/PTR")).await.data(200);
    assert_eq!(set["records"], json!(["server.hosting.test."]));
    owner.get(path).await.refused(404, "not_found");
    put(&owner, path, name).await.refused(404, "not_found");
    assert_eq!(delete(&app.owner, path).await.data(200)["hostname"], Value::Null);
    app.owner.get("/api/dns/addresses/nothing").await.refused(400, "invalid_request");
    app.db.remove().await.unwrap();
}

/// Somebody below BILLING sees nothing, BILLING reads, ADMIN writes, OWNER deletes: the table of roles
/// is tried by `contract`; here that a deleted zone is one for the owner.
#[tokio::test]
async fn zones_are_ended_by_owners() {
    let app: App = spawn().await;
    let owner = app.member("roles", "OWNER").await;
    let admin = app.member_of(&owner.tenant, "roles", "ADMIN").await;
    let billing = app.member_of(&owner.tenant, "roles", "BILLING").await;
    let member = app.member_of(&owner.tenant, "roles", "MEMBER").await;
    let zone = zone(&admin, "roles.test").await;
    member.get(&zone).await.refused(403, "forbidden");
    billing.get(&zone).await.data(200);
    billing
        .post(&format!("{zone}/records"), set("a", "A", &["192.0.2.1"]))
        .await
        .refused(403, "forbidden");
    delete(&admin, &zone).await.refused(403, "forbidden");
    delete(&owner, &zone).await.data(202);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_zone_within_a_zone_is_delegated_and_hides_nothing_unsaid() {
    let app = spawn().await;
    let owner = app.member("within", "OWNER").await;
    let above = zone(&owner, "within.test").await;
    let records = format!("{above}/records");
    owner.post(&records, set("www.sub", "A", &["192.0.2.1"])).await.data(201);
    let below = json!({"name": "sub.within.test"});
    let refused = owner.post("/api/dns/zones", below.clone()).await.refused(409, "conflict");
    assert!(refused["error"].as_str().unwrap().contains("www.sub.within.test. A"), "{refused}");
    delete(&owner, &format!("{records}/www.sub/A")).await.data(200);
    zone(&owner, "sub.within.test").await;
    let servers = owner.get(&format!("{records}/sub/NS")).await.data(200);
    assert_eq!(servers["records"], json!(["ns1.ours.test.", "ns2.ours.test."]));
    let hidden = owner.post(&records, set("new.sub", "TXT", &["never answered"])).await;
    hidden.refused(400, "invalid_request");
    // The other order: what is below was there first.
    zone(&owner, "a.b.later.test").await;
    let later = zone(&owner, "later.test").await;
    owner.get(&format!("{later}/records/a.b/NS")).await.data(200);
    app.db.remove().await.unwrap();
}

#[tokio::test]
async fn files_as_they_are_in_the_wild() {
    let app = spawn().await;
    let owner = app.member("wild", "OWNER").await;
    let zone = zone(&owner, "wild.test").await;
    let import = format!("{zone}/import");
    // A mail server that is an alias is wrong, and everywhere.
    let alias = "@ 3600 MX 10 mail\nmail 3600 CNAME @\n@ 3600 A 192.0.2.1\n";
    file(&owner, &import, alias).await.data(200);
    owner.post(&format!("{zone}/records"), set("x", "A", &["192.0.2.1"])).await.data(201);
    let both = "www 3600 CNAME @\nwww 3600 A 192.0.2.1\n@ 3600 A 192.0.2.1\n";
    let refused = file(&owner, &import, both).await.refused(400, "invalid_request");
    assert_eq!(refused["fields"][0]["path"], "/zone_file", "{refused}");
    let taken = file(&owner, &format!("{import}?leave_out=true"), both).await.data(200);
    assert_eq!(taken["left_out"][0]["line"], 1, "{taken}");
    file(&owner, &import, "; nothing\n").await.refused(400, "invalid_request");
    owner.get(&format!("{zone}/records/www/A")).await.data(200);
    for (name, rtype, target) in [("self", "CNAME", "self"), ("@", "ALIAS", "@")] {
        owner
            .post(&format!("{zone}/records"), set(name, rtype, &[target]))
            .await
            .refused(400, "invalid_request");
    }
    let all = owner.get(&format!("{zone}/records?name=_")).await.data(200);
    assert_eq!(all, json!([]), "a part of a name is no pattern");
    app.db.remove().await.unwrap();
}
