//! The DNS worker against real servers: what they answer is what the rows say, whatever happens.

mod copies;
mod drift;
mod race;
mod run;
pub mod server;
mod signed;
mod verified;

use entities::config;
use entities::db::Db;
use entities::dns;
use entities::dns::budget::{Limit, Limits};
use entities::dns::changes::{self, Edit, SetChange, Wanted};
use entities::dns::names::Rules;
use entities::dns::zones::{self, Change, NewZone};
use entities::ids::{WorkerId, ZoneId};
use entities::sealing::SealingKeys;
use entities::tables::dns_zone;
use entities::tenancy::{Permission, TenantCtx};
use entities::testing::TestDb;
use entities::values::DomainName;
use secrecy::SecretString;
use server::Server;
use std::time::{Duration, Instant};
use workers::dns::{Servers, converge, secondaries};
use zonefile::RecordSet;

/// A tenant with a zone, and a first server.
pub struct Scene {
    pub db: TestDb,
    pub ctx: TenantCtx,
    pub primary: Server,
    pub secondaries: Vec<config::DnsServer>,
}

pub fn sealing() -> SealingKeys {
    let text = "t:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    SealingKeys::parse(&SecretString::from(text.to_owned())).unwrap()
}

pub fn name(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

pub fn rules() -> Rules {
    Rules {
        special: ["test".to_owned()].into(),
        nameservers: vec![name("ns1.ours.test"), name("ns2.ours.test")],
        accounts_domain: name("hosted.test"),
    }
}

/// As good as none.
pub fn free() -> Limits {
    let limit = Limit::parse("1000/1").unwrap();
    Limits { zone: vec![limit], tenant: vec![limit] }
}

impl Scene {
    pub async fn new(primary: Server) -> Self {
        let db = TestDb::create().await.unwrap();
        let platform = db.platform().await.unwrap();
        let ctx = db.tenant(&platform, "zones").await.unwrap();
        Self { db, ctx, primary, secondaries: Vec::new() }
    }

    /// A worker's view of the servers; each call is another worker.
    pub fn worker(&self) -> Servers {
        let config = config::Dns {
            primary: self.primary.config("primary"),
            secondaries: self.secondaries.clone(),
            transfer_from: self.primary.address(),
            resolver: self.primary.address(),
            check_secs: 900,
        };
        Servers::new(self.db.db.clone(), WorkerId::new(), &config, sealing()).unwrap()
    }

    pub async fn zone(&self, text: &str) -> ZoneId {
        let new = NewZone { name: name(text), change: Change::default() };
        zones::create_zone(&self.db.db, &self.ctx, new, (&rules(), &free())).await.unwrap().id
    }

    pub async fn row(&self, zone: ZoneId) -> Option<dns_zone::Model> {
        let tx = self.db.db.read(&self.ctx, Permission::ZonesRead).await.unwrap();
        dns::find_zone(&tx, zone).await.ok()
    }

    /// All sets that the API shows.
    pub async fn sets(&self, zone: ZoneId) -> Vec<RecordSet> {
        let tx = self.db.db.read(&self.ctx, Permission::ZonesRead).await.unwrap();
        dns::whole_zone(&tx, zone).await.unwrap().1
    }

    pub async fn put(&self, zone: ZoneId, set: &str, rtype: &str, records: &[&str]) {
        put(&self.db.db, &self.ctx, zone, (set, rtype, records)).await;
    }

    /// Lets a fresh worker do all that is due, until nothing is.
    pub async fn settle(&self) {
        let servers = self.worker();
        for _ in 0..20 {
            if due(&servers).await == 0 {
                break;
            }
        }
        secondaries::look(&servers).await.unwrap();
    }

    /// Waits until a zone is in order.
    pub async fn await_sync(&self, zone: ZoneId) -> dns_zone::Model {
        let begun = Instant::now();
        loop {
            self.forget_pauses().await;
            self.settle().await;
            let row = self.row(zone).await.unwrap();
            if row.state == "in_sync" {
                return row;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{row:?}\n{}", self.primary.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// As if the pauses after failures were over, and dead workers' time, too.
    pub async fn forget_pauses(&self) {
        let sql = "UPDATE dns_zone SET next_at = NULL, lease_until = NULL, dnssec_next_at = NULL,
            copies_next_at = CASE WHEN copies_next_at IS NULL THEN NULL ELSE now() END";
        self.db.execute(sql).await.unwrap();
    }

    /// As if every zone had been compared long ago.
    pub async fn age_checks(&self) {
        self.db.execute("UPDATE dns_zone SET checked_at = NULL").await.unwrap();
    }
}

/// Does what is due, once; how many zones.
pub async fn due(servers: &Servers) -> usize {
    let due = entities::dns::sync::Due { limit: 16, check_secs: 900.0 };
    let tx = servers.db.system().await.unwrap();
    let zones = entities::dns::sync::take_due(&tx, servers.worker, due).await.unwrap();
    tx.commit().await.unwrap();
    for zone in &zones {
        converge::converge(servers, zone).await.unwrap();
    }
    zones.len()
}

/// Puts a set; whatever stood there goes.
pub async fn put(
    db: &Db,
    ctx: &TenantCtx,
    zone: ZoneId,
    (set, rtype, records): (&str, &str, &[&str]),
) {
    let records = records.iter().map(|r| (*r).to_owned()).collect();
    change(db, ctx, zone, (set, rtype), Wanted::Put { ttl: Some(300), records }).await;
}

pub async fn change(
    db: &Db,
    ctx: &TenantCtx,
    zone: ZoneId,
    (set, rtype): (&str, &str),
    wanted: Wanted,
) {
    let tx = db.write(ctx, Permission::ZonesWrite).await.unwrap();
    let change =
        SetChange { name: set.to_owned(), rtype: rtype.to_owned(), wanted, pointer: String::new() };
    let edit = Edit { zone, expected: None, limits: None, preview: false };
    let changed = changes::change_sets(&tx, &edit, &[change]).await.unwrap();
    if !changed.diff.is_empty() {
        tx.commit().await.unwrap();
    }
}

/// What a server answers, as sets: each asked for over UDP by itself, and all by a transfer over TCP.
pub fn assert_answers(server: &Server, zone: &str, sets: &[RecordSet]) {
    let zone = name(zone);
    for set in sets {
        let text = server.answers_of(&set.name, &set.rtype);
        let answered = zonefile::read(&zone, text.as_bytes()).unwrap();
        assert_eq!(answered.sets, std::slice::from_ref(set), "{text}");
    }
    let text = server.dig(&["+noall", "+answer", "+onesoa", zone.as_str(), "AXFR"]);
    let mut transferred = zonefile::read(&zone, text.as_bytes()).unwrap().sets;
    let mut sets = sets.to_vec();
    let key = |set: &RecordSet| (set.name.clone(), set.rtype.clone());
    transferred.sort_by_key(key);
    sets.sort_by_key(key);
    assert_eq!(transferred, sets, "{text}");
}
