//! Writers racing each other while the server and the worker are killed: afterwards every record set is
//! answered as the API says, on both backends.

use super::server::{Backend, Server};
use super::{Scene, assert_answers, change, due};
use entities::dns::changes::Wanted;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WRITERS: u64 = 4;
const CHANGES: usize = 60;
const NAMES: [&str; 6] = ["@", "www", "mail", "a.b", "*.wild", "_acme-challenge"];

/// A change that is valid at any time beside all others.
fn random_change(rng: &mut StdRng, writer: u64, at: usize) -> (String, &'static str, Wanted) {
    let name = (*NAMES.choose(rng).unwrap()).to_owned();
    let rtype = *["A", "AAAA", "TXT", "MX"].choose(rng).unwrap();
    if rng.random_bool(0.25) {
        return (name, rtype, Wanted::Absent);
    }
    let count = rng.random_range(1..=4);
    let record = |n: usize| match rtype {
        "A" => format!("192.0.{writer}.{}", (at * 4 + n) % 250),
        "AAAA" => format!("2001:db8::{writer}:{at:x}:{n}"),
        "TXT" => format!("\"writer {writer}\" \"change {at}; {n} \\\"quoted\\\" \\195\\164\""),
        _ => format!("{} mx{n}.elsewhere.test.", at % 100),
    };
    let records = (0..count).map(record).collect();
    (name, rtype, Wanted::Put { ttl: Some(60 + u32::try_from(at).unwrap()), records })
}

async fn race(backend: Backend, seed: u64) {
    let mut scene = Scene::new(Server::powerdns(backend).await).await;
    let zone = scene.zone("race.test").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (db, ctx) = (scene.db.db.clone(), scene.ctx.clone());
        writers.spawn(async move {
            let mut rng = StdRng::seed_from_u64(seed * 100 + writer);
            for at in 0..CHANGES {
                let (name, rtype, wanted) = random_change(&mut rng, writer, at);
                change(&db, &ctx, zone, (&name, rtype), wanted).await;
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
            }
        });
    }
    let writing = Arc::new(AtomicBool::new(true));
    let all = {
        let writing = Arc::clone(&writing);
        tokio::spawn(async move {
            while let Some(done) = writers.join_next().await {
                done.unwrap();
            }
            writing.store(false, Ordering::Relaxed);
        })
    };
    let mut rng = StdRng::seed_from_u64(seed);
    while writing.load(Ordering::Relaxed) {
        // Two workers share the work; both die at any point of it.
        let workers = [scene.worker(), scene.worker()].map(|servers| {
            tokio::spawn(async move {
                loop {
                    if due(&servers).await == 0 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        });
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..250))).await;
        if rng.random_bool(0.5) {
            scene.primary.kill();
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..100))).await;
        }
        for worker in workers {
            worker.abort();
        }
        scene.primary.kill();
        scene.primary.start().await;
        scene.forget_pauses().await;
    }
    all.await.unwrap();
    let row = scene.await_sync(zone).await;
    assert_eq!(row.applied_version, Some(row.version));
    assert_answers(&scene.primary, "race.test", &scene.sets(zone).await);
    let soa = scene.primary.answers_of("race.test", "SOA");
    assert!(soa.contains(&row.serial.to_string()), "{soa}");
    scene.db.remove().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_on_sqlite() {
    race(Backend::Sqlite, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_writers_on_postgres() {
    race(Backend::Postgres, 2).await;
}
