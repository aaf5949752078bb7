//! The engine, with a saga of three steps whose effects are kept in memory: each step fails in turn,
//! the worker dies at each boundary, each undo runs twice.

use entities::config::{Acme, Base, Dns, DnsServer, Migrator};
use entities::db::Db;
use entities::error::{Code, Error};
use entities::ids::{JobId, WorkerId};
use entities::jobs::{self, Claim, Claimant};
use entities::sealing::SealingKeys;
use entities::servers;
use entities::testing::TestDb;
use entities::values::DomainName;
use secrecy::SecretString;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use workers::agent::AgentBinary;
use workers::dns::Servers;
use workers::error::Result;
use workers::fleet::Fleet;
use workers::saga::{Cx, Direction, Saga, Step, Undoing};
use workers::world::World;

const NAMES: [&str; 3] = ["first", "second", "third"];

/// What stands out there, and how often each thing was done.
#[derive(Debug, Default)]
struct Outside {
    stands: BTreeSet<&'static str>,
    runs: BTreeMap<&'static str, u32>,
    undos: Vec<(&'static str, Option<u32>)>,
    /// How often an undo finds nobody there.
    away: u32,
}

#[derive(Serialize)]
struct Put {
    name: &'static str,
    /// The effect is there, but the report is a failure.
    fails: bool,
    #[serde(skip)]
    outside: Arc<Mutex<Outside>>,
}

impl Step for Put {
    type Output = u32;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, _: &Cx) -> Result<u32> {
        let mut outside = self.outside.lock().unwrap();
        outside.stands.insert(self.name);
        let runs = outside.runs.entry(self.name).or_default();
        *runs += 1;
        if self.fails {
            return Err(Error::refused(Code::StepFailed, "It was told to fail."));
        }
        Ok(*runs)
    }

    async fn undo(&self, _: &Cx, output: Option<u32>) -> Result<()> {
        let mut outside = self.outside.lock().unwrap();
        if outside.away > 0 {
            outside.away -= 1;
            return Err(Error::refused(Code::ServerUnreachable, "Nobody is there."));
        }
        outside.stands.remove(self.name);
        outside.undos.push((self.name, output));
        Ok(())
    }
}

async fn function(
    saga: &mut Saga,
    upto: usize,
    fails: Option<usize>,
    outside: &Arc<Mutex<Outside>>,
) -> Result<()> {
    for (at, name) in NAMES.into_iter().enumerate().take(upto) {
        let outside = Arc::clone(outside);
        saga.step(Put { name, fails: fails == Some(at), outside }).await?;
    }
    Ok(())
}

/// No step here asks for a zone.
pub fn nowhere() -> Dns {
    let address = "127.0.0.1:1".parse().unwrap();
    let key = SecretString::from("x".to_owned());
    Dns {
        primary: DnsServer {
            name: "primary".to_owned(),
            address,
            api: Some(("http://127.0.0.1:1".to_owned(), key)),
        },
        secondaries: vec![],
        transfer_from: address,
        resolver: address,
        check_secs: 900,
    }
}

pub fn world(db: &TestDb) -> World {
    let nowhere = SecretString::from("amqp://127.0.0.1:1".to_owned());
    world_of(db.db.clone(), Base { database_url: db.url.clone(), amqp_url: nowhere })
}

/// The same with a broker, and with connections of its own.
pub fn world_of(db: Db, base: Base) -> World {
    let text = |text: &str| SecretString::from(text.to_owned());
    let config = Migrator {
        base,
        sealing_keys: SealingKeys::parse(&text("t:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
            .unwrap(),
        agent: "/nonexistent".into(),
        migrations_max: 3,
        apply_limit_secs: 60,
        lease_secs: 60,
        node_limit_secs: 60,
        ready_secs: 60,
        reconcile_secs: 60,
        dns: nowhere(),
        nameservers: vec![],
        accounts_domain: DomainName::parse("hosted.test").unwrap(),
        acme: Acme {
            directory: "https://127.0.0.1:1/dir".to_owned(),
            email: None,
            root: None,
            caa: DomainName::parse("ca.test").unwrap(),
        },
    };
    let worker = WorkerId::new();
    let sealing = config.sealing_keys.clone();
    World {
        worker,
        db: db.clone(),
        fleet: Fleet::new(text("x")),
        dns: Servers::new(db, worker, &config.dns, sealing).unwrap(),
        agent: AgentBinary { bytes: bytes::Bytes::new(), sha256: String::new() },
        ending: CancellationToken::new(),
        config: Arc::new(config),
    }
}

/// A claim on a job; an earlier one is taken over, as after a death.
async fn cx(db: &TestDb, world: &World, job: JobId) -> Cx {
    db.expire_lease(job).await.unwrap();
    let who = Claimant { worker: world.worker, lease_secs: 60, migrations_max: 100 };
    let tx = db.db.system().await.unwrap();
    let claim: Claim = jobs::claim(&tx, job, who).await.unwrap().unwrap();
    let server = servers::load_server(&tx, claim.server).await.unwrap();
    tx.commit().await.unwrap();
    let undoing = Undoing::Discard;
    Cx { world: world.clone(), claim: Arc::new(claim), server: Arc::new(server), undoing }
}

async fn begin() -> (TestDb, World, JobId, Arc<Mutex<Outside>>) {
    let db = TestDb::create().await.unwrap();
    let ctx = db.platform().await.unwrap();
    let server = db.server(&ctx).await.unwrap();
    let job = db.migration(&ctx, server, "alice").await.unwrap();
    let world = world(&db);
    (db, world, job, Arc::default())
}

#[tokio::test]
async fn each_step_fails_in_turn_and_everything_is_undone_newest_first() {
    for failing in 0..NAMES.len() {
        let (db, world, job, outside) = begin().await;
        let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Forward).await.unwrap();
        let error = function(&mut saga, 3, Some(failing), &outside).await.unwrap_err();
        assert_eq!(error.code(), Code::StepFailed);
        saga.unwind().await.unwrap();
        let mut undone: Vec<_> = NAMES[..=failing].iter().map(|name| (*name, Some(1))).collect();
        undone[failing].1 = None;
        undone.reverse();
        {
            let outside = outside.lock().unwrap();
            assert!(outside.stands.is_empty(), "{outside:?}");
            assert_eq!(outside.undos, undone, "the one that failed is undone, too, without output");
        }
        db.remove().await.unwrap();
    }
}

#[tokio::test]
async fn an_undo_waits_for_a_server_that_is_away() {
    let (db, world, job, outside) = begin().await;
    let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Forward).await.unwrap();
    function(&mut saga, 3, None, &outside).await.unwrap();
    outside.lock().unwrap().away = 2;
    saga.unwind().await.unwrap();
    assert!(outside.lock().unwrap().stands.is_empty());
    db.remove().await.unwrap();
}

#[tokio::test]
async fn after_a_death_finished_steps_answer_from_the_store() {
    for done in 0..=NAMES.len() {
        let (db, world, job, outside) = begin().await;
        let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Forward).await.unwrap();
        function(&mut saga, done, None, &outside).await.unwrap();
        drop(saga);
        let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Forward).await.unwrap();
        function(&mut saga, 3, None, &outside).await.unwrap();
        {
            let outside = outside.lock().unwrap();
            assert_eq!(outside.stands.len(), 3);
            assert!(outside.runs.values().all(|runs| *runs == 1), "{outside:?}");
        }
        // A later rollback replays the same stored steps to know what to take back.
        let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Back).await.unwrap();
        function(&mut saga, 3, None, &outside).await.unwrap();
        saga.unwind().await.unwrap();
        assert!(outside.lock().unwrap().stands.is_empty());
        db.remove().await.unwrap();
    }
}

#[tokio::test]
async fn a_death_while_undoing_is_gone_on_from_where_it_stood() {
    let (db, world, job, outside) = begin().await;
    let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Forward).await.unwrap();
    function(&mut saga, 3, Some(1), &outside).await.unwrap_err();
    // The worker dies before it has undone anything; the next one only replays and undoes.
    drop(saga);
    for _ in 0..2 {
        let mut saga = Saga::resume(cx(&db, &world, job).await, Direction::Back).await.unwrap();
        let stopped = function(&mut saga, 3, None, &outside).await.unwrap_err();
        assert_eq!(stopped.code(), Code::Stopped);
        saga.unwind().await.unwrap();
        assert!(outside.lock().unwrap().stands.is_empty());
    }
    {
        let outside = outside.lock().unwrap();
        assert_eq!(outside.undos, [("second", None), ("first", Some(1))]);
        assert_eq!(outside.runs.len(), 2, "nothing is carried out while undoing");
    }
    db.remove().await.unwrap();
}
