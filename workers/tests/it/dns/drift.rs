//! Servers that are away, changed by others, refuse, or have zones that are not ours.

use super::server::{Backend, Server};
use super::{Scene, assert_answers, due};
use entities::dns::sync;
use entities::dns::zones;
use entities::tenancy::Permission;
use reqwest::Method;
use serde_json::json;
use workers::dns::{converge, health};

async fn scene() -> Scene {
    Scene::new(Server::powerdns(Backend::Sqlite).await).await
}

#[tokio::test]
async fn a_server_that_is_down_delays_and_the_zone_says_why() {
    let mut scene = scene().await;
    let zone = scene.zone("down.test").await;
    scene.settle().await;
    scene.primary.kill();
    scene.put(zone, "www", "A", &["192.0.2.1"]).await;
    assert_eq!(scene.row(zone).await.unwrap().state, "pending");
    scene.settle().await;
    let row = scene.row(zone).await.unwrap();
    assert_eq!(row.state, "error");
    assert!(row.error.unwrap().contains("does not answer"));
    assert!(row.next_at.is_some() && row.attempts > 0);
    scene.put(zone, "www", "A", &["192.0.2.2"]).await;
    scene.primary.start().await;
    let row = scene.await_sync(zone).await;
    assert_eq!((row.error, row.attempts), (None, 0));
    assert_answers(&scene.primary, "down.test", &scene.sets(zone).await);
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_burst_of_changes_is_one_write() {
    let scene = scene().await;
    let zone = scene.zone("burst.test").await;
    scene.settle().await;
    for n in 0..20 {
        scene.put(zone, &format!("n{n}"), "A", &["192.0.2.1"]).await;
    }
    let before = scene.row(zone).await.unwrap();
    assert_eq!(due(&scene.worker()).await, 1);
    let after = scene.row(zone).await.unwrap();
    assert_eq!((after.state.as_str(), after.fence), ("in_sync", before.fence + 1));
    assert_eq!(after.applied_version, Some(before.version));
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn what_others_change_on_the_server_is_found_and_mended() {
    let scene = scene().await;
    let zone = scene.zone("drift.test").await;
    scene.put(zone, "www", "A", &["192.0.2.1"]).await;
    scene.put(zone, "gone", "A", &["192.0.2.1"]).await;
    scene.await_sync(zone).await;
    let record = |content: &str| json!([{"content": content, "disabled": false}]);
    let drift = json!({"rrsets": [
        {"name": "www.drift.test.", "type": "A", "ttl": 5, "changetype": "REPLACE", "records": record("192.0.2.66")},
        {"name": "gone.drift.test.", "type": "A", "changetype": "DELETE"},
        {"name": "evil.drift.test.", "type": "TXT", "ttl": 60, "changetype": "REPLACE", "records": record("\"x\"")},
    ]});
    scene.primary.ask(Method::PATCH, "/zones/drift.test.", drift).await;
    scene.settle().await;
    assert!(scene.primary.answers_of("evil.drift.test", "TXT").contains("\"x\""));
    scene.age_checks().await;
    scene.settle().await;
    assert_answers(&scene.primary, "drift.test", &scene.sets(zone).await);
    let kinds = scene.db.audit_kinds().await.unwrap();
    assert_eq!(kinds.iter().filter(|kind| *kind == "DNS_ZONE_REPAIRED").count(), 1, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "DNS_ZONE_PROVISIONED").count(), 1, "{kinds:?}");
    // The whole zone is lost with the server's disk.
    scene.primary.ask(Method::DELETE, "/zones/drift.test.", json!({})).await;
    scene.age_checks().await;
    scene.settle().await;
    assert_answers(&scene.primary, "drift.test", &scene.sets(zone).await);
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_zone_that_was_not_made_here_is_left_alone() {
    let scene = scene().await;
    let foreign =
        json!({"name": "foreign.test.", "kind": "Native", "nameservers": ["ns.foreign.test."]});
    scene.primary.ask(Method::POST, "/zones", foreign).await;
    let zone = scene.zone("foreign.test").await;
    scene.settle().await;
    let row = scene.row(zone).await.unwrap();
    assert_eq!(row.state, "error");
    assert!(row.error.unwrap().contains("not made here"));
    assert!(scene.primary.answers_of("foreign.test", "NS").contains("ns.foreign.test."));
    let tx = scene.db.db.write(&scene.ctx, Permission::ZonesDelete).await.unwrap();
    zones::delete_zone(&tx, zone).await.unwrap();
    tx.commit().await.unwrap();
    scene.forget_pauses().await;
    scene.settle().await;
    assert!(scene.row(zone).await.is_none());
    assert!(scene.primary.answers_of("foreign.test", "NS").contains("ns.foreign.test."));
    assert_eq!(health::remove_orphans(&scene.worker()).await.unwrap(), 0);
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_zone_goes_when_the_server_has_forgotten_it() {
    let mut scene = scene().await;
    let zone = scene.zone("ends.test").await;
    scene.settle().await;
    scene.primary.kill();
    let tx = scene.db.db.write(&scene.ctx, Permission::ZonesDelete).await.unwrap();
    zones::delete_zone(&tx, zone).await.unwrap();
    tx.commit().await.unwrap();
    scene.settle().await;
    assert_eq!(scene.row(zone).await.unwrap().state, "deleting");
    scene.primary.start().await;
    scene.forget_pauses().await;
    scene.settle().await;
    assert!(scene.row(zone).await.is_none());
    assert!(scene.primary.dig(&["ends.test", "SOA"]).contains("REFUSED"));
    // The name is free again.
    let zone = scene.zone("ends.test").await;
    scene.await_sync(zone).await;
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn a_zone_of_ours_without_a_row_is_removed_from_the_server() {
    let scene = scene().await;
    let zone = scene.zone("orphan.test").await;
    let kept = scene.zone("kept.test").await;
    scene.await_sync(zone).await;
    scene.await_sync(kept).await;
    scene.db.execute("DELETE FROM dns_zone WHERE name = 'orphan.test'").await.unwrap();
    assert_eq!(health::remove_orphans(&scene.worker()).await.unwrap(), 1);
    assert!(scene.primary.dig(&["orphan.test", "SOA"]).contains("REFUSED"));
    assert!(scene.primary.answers_of("kept.test", "SOA").contains("SOA"));
    scene.db.remove().await.unwrap();
}

/// A worker that was frozen while it wrote, longer than its lease, has written something old.
#[tokio::test]
async fn a_worker_that_was_taken_over_has_the_zone_looked_at_again() {
    let scene = scene().await;
    let zone = scene.zone("frozen.test").await;
    scene.put(zone, "www", "A", &["192.0.2.1"]).await;
    let frozen = scene.worker();
    let tx = scene.db.db.system().await.unwrap();
    let taken = sync::take_one(&tx, frozen.worker, zone).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    scene.put(zone, "www", "A", &["192.0.2.2"]).await;
    scene.await_sync(zone).await;
    let old = json!({"rrsets": [{"name": "www.frozen.test.", "type": "A", "ttl": 300,
        "changetype": "REPLACE", "records": [{"content": "192.0.2.1", "disabled": false}]}]});
    scene.primary.ask(Method::PATCH, "/zones/frozen.test.", old).await;
    let tx = scene.db.db.system().await.unwrap();
    let applied = sync::Outcome::Applied { version: taken.version, repaired: false };
    sync::record(&tx, &taken, &applied).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(scene.row(zone).await.unwrap().state, "pending");
    scene.settle().await;
    assert_answers(&scene.primary, "frozen.test", &scene.sets(zone).await);
    // What has been taken over does nothing any more.
    converge::converge(&frozen, &taken).await.unwrap();
    assert_answers(&scene.primary, "frozen.test", &scene.sets(zone).await);
    scene.db.remove().await.unwrap();
}

#[tokio::test]
async fn the_servers_and_their_health_are_shown() {
    let mut scene = scene().await;
    let zone = scene.zone("health.test").await;
    scene.await_sync(zone).await;
    health::look(&scene.worker()).await.unwrap();
    let shown = async |scene: &Scene| {
        let rows = entities::dns::servers::list_servers(&scene.db.db).await.unwrap();
        rows.into_iter().next().unwrap()
    };
    let row = shown(&scene).await;
    assert!(row.healthy && row.version.as_deref().unwrap().starts_with("4."), "{row:?}");
    assert_eq!((row.zones, row.foreign_zones), (Some(1), Some(0)));
    scene.primary.kill();
    health::look(&scene.worker()).await.unwrap();
    let row = shown(&scene).await;
    assert!(!row.healthy && row.error.is_some() && row.seen_at.is_some(), "{row:?}");
    assert_eq!(row.zones, Some(1), "what it had last stays known");
    scene.db.remove().await.unwrap();
}
