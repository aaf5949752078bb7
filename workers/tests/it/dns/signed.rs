//! Signed zones: validated from their DS on, kept when the server loses its keys, and not ended while the
//! zone above holds a DS.

use super::Scene;
use super::server::{Backend, Server, program};
use entities::dns::signing;
use entities::ids::ZoneId;
use entities::tables::dns_zone;
use entities::tenancy::Permission;
use reqwest::Method;
use serde_json::json;

async fn sign(scene: &Scene, zone: ZoneId, signed: bool) -> dns_zone::Model {
    let tx = scene.db.db.write(&scene.ctx, Permission::ZonesWrite).await.unwrap();
    signing::request(&tx, zone, signed, &super::free()).await.unwrap();
    tx.commit().await.unwrap();
    scene.forget_pauses().await;
    scene.settle().await;
    scene.row(zone).await.unwrap()
}

/// What a validating tool says of a name, trusting only these DS records.
fn validated(scene: &Scene, zone: &str, ds: &serde_json::Value, name: &str, rtype: &str) -> String {
    let anchors: Vec<String> = ds
        .as_array()
        .unwrap()
        .iter()
        .map(|ds| {
            let words: Vec<&str> = ds.as_str().unwrap().split(' ').collect();
            let digest = words[3..].concat();
            format!("\"{zone}.\" static-ds {} {} {} \"{digest}\";", words[0], words[1], words[2])
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("trust-anchors {{ {} }};", anchors.join(" "))).unwrap();
    let output = program("delv")
        .args(["@127.0.0.1", "-p", &scene.primary.dns.to_string(), "-a"])
        .arg(file.path())
        .args([&format!("+root={zone}"), name, rtype])
        .output()
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn a_signed_zone_is_validated_and_outlives_its_server() {
    let scene = Scene::new(Server::powerdns(Backend::Sqlite).await).await;
    let zone = scene.zone("signed.test").await;
    scene.put(zone, "www", "A", &["192.0.2.1"]).await;
    scene.await_sync(zone).await;
    let row = sign(&scene, zone, true).await;
    assert_eq!((row.dnssec.as_str(), row.dnssec_error.as_deref()), ("on", None));
    assert!(!row.ds.as_array().unwrap().is_empty(), "{:?}", row.ds);
    for (name, rtype) in [("www.signed.test", "A"), ("signed.test", "SOA")] {
        let said = validated(&scene, "signed.test", &row.ds, name, rtype);
        assert!(said.contains("; fully validated"), "{said}");
    }
    let said = validated(&scene, "signed.test", &row.ds, "nothing.signed.test", "A");
    assert!(said.contains("negative response, fully validated"), "{said}");
    // Changes are signed as they come.
    scene.put(zone, "www", "A", &["192.0.2.2"]).await;
    scene.put(zone, "new", "TXT", &["\"x\""]).await;
    scene.await_sync(zone).await;
    let said = validated(&scene, "signed.test", &row.ds, "new.signed.test", "TXT");
    assert!(said.contains("; fully validated"), "{said}");
    // The server's disk is lost: the same key signs again, so that the DS above stays right.
    scene.primary.ask(Method::DELETE, "/zones/signed.test.", json!({})).await;
    scene.age_checks().await;
    scene.settle().await;
    assert_eq!(scene.row(zone).await.unwrap().ds, row.ds);
    let said = validated(&scene, "signed.test", &row.ds, "www.signed.test", "A");
    assert!(said.contains("; fully validated"), "{said}");
    let dump = scene.db.dump_all().await.unwrap();
    assert!(!dump.contains("PrivateKey:"), "a key lies open in the database");
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn signing_ends_only_when_the_zone_above_has_let_go() {
    let scene = Scene::new(Server::powerdns(Backend::Sqlite).await).await;
    let above = scene.zone("above.test").await;
    let zone = scene.zone("below.above.test").await;
    scene.await_sync(zone).await;
    let row = sign(&scene, zone, true).await;
    let ds: Vec<&str> = row.ds.as_array().unwrap().iter().filter_map(|ds| ds.as_str()).collect();
    let delegated = scene.primary.answers_of("below.above.test", "NS");
    assert!(delegated.contains("ns1.ours.test."), "the zone above knows it: {delegated}");
    scene.put(above, "below", "DS", &ds).await;
    scene.await_sync(above).await;
    let row = sign(&scene, zone, false).await;
    assert_eq!(row.dnssec, "ending");
    assert!(row.dnssec_error.unwrap().contains("registrar"));
    assert!(scene.primary.dig(&["+dnssec", "below.above.test", "SOA"]).contains("RRSIG"));
    let tx = scene.db.db.write(&scene.ctx, Permission::ZonesWrite).await.unwrap();
    drop(tx);
    let absent = entities::dns::changes::Wanted::Absent;
    super::change(&scene.db.db, &scene.ctx, above, ("below", "DS"), absent).await;
    scene.await_sync(above).await;
    scene.forget_pauses().await;
    scene.settle().await;
    // Whoever has seen the DS remembers it for its time.
    let row = scene.row(zone).await.unwrap();
    assert_eq!(row.dnssec, "ending");
    assert!(row.dnssec_error.unwrap().contains("remember"));
    scene.db.execute("UPDATE dns_zone SET dnssec_hold_until = now()").await.unwrap();
    scene.forget_pauses().await;
    scene.settle().await;
    let row = scene.row(zone).await.unwrap();
    assert_eq!((row.dnssec.as_str(), row.dnssec_error), ("off", None));
    assert!(!scene.primary.dig(&["+dnssec", "below.above.test", "SOA"]).contains("RRSIG"));
    scene.db.remove().await.unwrap();
}
