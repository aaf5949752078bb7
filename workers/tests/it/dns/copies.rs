//! Secondary servers: a PowerDNS that is given its zones, and an NSD that somebody else configures.

use super::server::{Backend, Server};
use super::{Scene, assert_answers, name};
use entities::dns;
use entities::dns::zones;
use entities::tenancy::Permission;
use std::time::{Duration, Instant};
use zonefile::RecordSet;

/// Whether a server answers every set.
fn answers(server: &Server, zone: &str, sets: &[RecordSet]) -> bool {
    let zone = name(zone);
    sets.iter().all(|set| {
        let text = server.answers_of(&set.name, &set.rtype);
        let read = zonefile::read(&zone, text.as_bytes());
        read.is_ok_and(|answered| answered.sets == std::slice::from_ref(set))
    })
}

async fn await_answers(scene: &Scene, server: &Server, zone: &str, sets: &[RecordSet]) {
    let begun = Instant::now();
    while !answers(server, zone, sets) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
        scene.forget_pauses().await;
        scene.settle().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn secondary_servers_follow_and_one_that_is_away_is_named() {
    let primary = Server::powerdns(Backend::Sqlite).await;
    let mut driven = Server::secondary().await;
    let nsd = Server::nsd("copies.test", primary.dns).await;
    let mut scene = Scene::new(primary).await;
    scene.secondaries = vec![driven.config("driven"), nsd.config("nsd")];
    let zone = scene.zone("copies.test").await;
    scene.put(zone, "www", "A", &["192.0.2.1", "192.0.2.2"]).await;
    scene.put(zone, "@", "TXT", &["\"one\" \"two\""]).await;
    scene.put(zone, "@", "CAA", &["0 issue \"ca.test\""]).await;
    scene.await_sync(zone).await;
    let sets = scene.sets(zone).await;
    for server in [&driven, &nsd] {
        await_answers(&scene, server, "copies.test", &sets).await;
    }
    assert_answers(&scene.primary, "copies.test", &sets);
    driven.kill();
    scene.put(zone, "www", "A", &["192.0.2.3"]).await;
    let row = scene.await_sync(zone).await;
    let copies = dns::copies(&row).unwrap();
    assert!(copies["driven"].error.is_some(), "{copies:?}");
    driven.start().await;
    let sets = scene.sets(zone).await;
    for server in [&driven, &nsd] {
        await_answers(&scene, server, "copies.test", &sets).await;
    }
    scene.forget_pauses().await;
    scene.settle().await;
    let copies = dns::copies(&scene.row(zone).await.unwrap()).unwrap();
    assert_eq!(copies["driven"].error, None, "{copies:?}");
    // The zone leaves the server that is driven, too; the row waits for it.
    let tx = scene.db.db.write(&scene.ctx, Permission::ZonesDelete).await.unwrap();
    zones::delete_zone(&tx, zone).await.unwrap();
    tx.commit().await.unwrap();
    driven.kill();
    scene.settle().await;
    assert_eq!(scene.row(zone).await.unwrap().state, "deleting");
    driven.start().await;
    scene.forget_pauses().await;
    scene.settle().await;
    assert!(scene.row(zone).await.is_none());
    assert!(driven.dig(&["copies.test", "SOA"]).contains("REFUSED"));
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn nobody_else_transfers_a_zone() {
    let scene = Scene::new(Server::powerdns(Backend::Sqlite).await).await;
    let zone = scene.zone("closed.test").await;
    scene.await_sync(zone).await;
    let output = super::server::program("dig")
        .args(["@127.0.0.1", "-p", &scene.primary.dns.to_string(), "-b", "127.0.0.77"])
        .args(["closed.test", "AXFR"])
        .output()
        .unwrap();
    // This machine's own addresses may, by PowerDNS' configuration; what the zone allows is nobody.
    let allowed = scene
        .primary
        .ask(
            reqwest::Method::GET,
            "/zones/closed.test./metadata/ALLOW-AXFR-FROM",
            serde_json::json!({}),
        )
        .await;
    assert_eq!(allowed["metadata"], serde_json::json!([]));
    assert!(output.status.success());
    scene.db.remove().await.unwrap();
}
