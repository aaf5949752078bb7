//! Domains are their tenant's when the world sees the record that was asked for.

use super::Scene;
use super::server::{Backend, Server};
use entities::dns::verification;
use entities::tenancy::Permission;
use workers::dns::verification::look;

async fn request(scene: &Scene, zone: entities::ids::ZoneId) {
    let tx = scene.db.db.write(&scene.ctx, Permission::ZonesWrite).await.unwrap();
    verification::request(&tx, zone, &super::free()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_domain_is_verified_by_what_the_world_sees() {
    let mut scene = Scene::new(Server::powerdns(Backend::Sqlite).await).await;
    let zone = scene.zone("mine.test").await;
    assert_eq!(look(&scene.worker()).await.unwrap(), 0, "nobody has asked");
    // The world does not know the zone yet.
    request(&scene, zone).await;
    assert_eq!(look(&scene.worker()).await.unwrap(), 1);
    let row = scene.row(zone).await.unwrap();
    assert!(row.verified_at.is_none() && row.verification_error.is_some(), "{row:?}");
    assert!(row.verification_next_at.is_some(), "it is looked for again");
    let tx = scene.db.db.system().await.unwrap();
    let below = super::name("www.mine.test");
    assert!(!verification::is_verified(&tx, scene.ctx.tenant(), &below).await.unwrap());
    drop(tx);
    // A record with something else proves nothing.
    scene.put(zone, "_migrapanel-verify", "TXT", &["\"migrapanel=guess\""]).await;
    scene.await_sync(zone).await;
    scene.db.execute("UPDATE dns_zone SET verification_next_at = now()").await.unwrap();
    look(&scene.worker()).await.unwrap();
    assert!(scene.row(zone).await.unwrap().verified_at.is_none());
    let token = scene.row(zone).await.unwrap().verification_token.unwrap();
    scene.put(zone, "_migrapanel-verify", "TXT", &["\"other\"", &format!("\"{token}\"")]).await;
    scene.await_sync(zone).await;
    scene.db.execute("UPDATE dns_zone SET verification_next_at = now()").await.unwrap();
    look(&scene.worker()).await.unwrap();
    let row = scene.row(zone).await.unwrap();
    assert!(row.verified_at.is_some() && row.verification_error.is_none(), "{row:?}");
    let tx = scene.db.db.system().await.unwrap();
    assert!(verification::is_verified(&tx, scene.ctx.tenant(), &below).await.unwrap());
    drop(tx);
    // A resolver that is away verifies nothing, and says so.
    let other = scene.zone("other.test").await;
    request(&scene, other).await;
    scene.primary.kill();
    look(&scene.worker()).await.unwrap();
    let row = scene.row(other).await.unwrap();
    assert!(row.verification_error.unwrap().contains("does not answer"));
    scene.db.remove().await.unwrap();
}
