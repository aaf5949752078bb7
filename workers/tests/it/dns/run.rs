//! The whole worker: woken by the broker, and going on without it.

use super::server::{Backend, Server};
use super::{Scene, assert_answers, sealing};
use entities::config::{self, Base, Dns, DnsWorker};
use secrecy::SecretString;
use std::time::{Duration, Instant};
use workers::dns::Worker;
use workers::{amqp, relay};

async fn worker(scene: &Scene, amqp_url: SecretString) -> tokio::task::JoinHandle<()> {
    let config = DnsWorker {
        base: Base { database_url: scene.db.url.clone(), amqp_url },
        sealing_keys: sealing(),
        dns: Dns {
            primary: scene.primary.config("primary"),
            secondaries: Vec::new(),
            transfer_from: scene.primary.address(),
            resolver: scene.primary.address(),
            check_secs: 1,
        },
    };
    let worker = Worker::open(config).await.unwrap();
    tokio::spawn(async move { worker.run().await.unwrap() })
}

/// A worker that dies in the middle of a zone holds it until its lease of a minute ends.
async fn await_answers(scene: &Scene, zone: entities::ids::ZoneId) {
    let begun = Instant::now();
    loop {
        let row = scene.row(zone).await.unwrap();
        if row.state == "in_sync" {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{row:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_change_reaches_the_server_with_the_broker_and_without() {
    let scene = Scene::new(Server::powerdns(Backend::Sqlite).await).await;
    let url = config::secret("TEST_AMQP_URL").unwrap();
    let connection = amqp::connect(&url, "test").await.unwrap();
    let channel = amqp::publisher(&connection).await.unwrap();
    let running = worker(&scene, url).await;
    let zone = scene.zone("worker.test").await;
    scene.put(zone, "www", "A", &["192.0.2.1"]).await;
    while relay::relay_once(&scene.db.db, &channel).await.unwrap() > 0 {}
    await_answers(&scene, zone).await;
    assert_answers(&scene.primary, "worker.test", &scene.sets(zone).await);
    // What others change is found by itself.
    let evil = serde_json::json!({"rrsets": [{"name": "www.worker.test.", "type": "A", "changetype": "DELETE"}]});
    scene.primary.ask(reqwest::Method::PATCH, "/zones/worker.test.", evil).await;
    let begun = Instant::now();
    while !scene.primary.answers_of("www.worker.test", "A").contains("192.0.2.1") {
        assert!(begun.elapsed() < Duration::from_secs(30), "the drift stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    running.abort();
    let nowhere = SecretString::from("amqp://127.0.0.1:1".to_owned());
    let running = worker(&scene, nowhere).await;
    scene.put(zone, "www", "A", &["192.0.2.2"]).await;
    await_answers(&scene, zone).await;
    assert_answers(&scene.primary, "worker.test", &scene.sets(zone).await);
    running.abort();
    scene.db.remove().await.unwrap();
}
