//! A database, a worker within the test, and nodes of their own.

use crate::bed::{binary, given, local, sandbox};
use crate::gates::Database;
use crate::processes::SEALING_KEYS;
use crate::program::{program, run, run_with, said};
use entities::cloudpods::{self, Act, Desired, NewPod, Status, create::PodName};
use entities::config::{Acme, Base, Dns, DnsServer, Migrator};
use entities::db::Db;
use entities::ids::{CloudpodId, ServerId};
use entities::sealing::SealingKeys;
use entities::servers::{self, NewNode, NewServer};
use entities::tables::cloudpod;
use entities::tenancy::{Permission, TenantCtx};
use entities::testing::{self, TestDb};
use entities::values::{
    BridgeName, DomainName, Hostname, NodeName, PlanCode, SshKey, StorageId, TemplateCode, Title,
};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use workers::runner;
use workers::world::World;

/// A local node, gone with the test.
#[derive(Debug)]
pub struct Node {
    name: String,
    env: BTreeMap<String, String>,
}

impl Node {
    pub fn start(name: &str, cluster: &str) -> Self {
        let name = format!("e2e-{name}");
        let mut start = program(sandbox("pve"));
        run(start.args(["start", &name, "--cluster", cluster]));
        let env = local().join("pve").join(&name).join("env");
        let text = std::fs::read_to_string(env).unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        Self { name, env: text.lines().filter_map(pair).collect() }
    }

    pub fn get(&self, name: &str) -> &str {
        &self.env[name]
    }

    /// A command on the node; what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        run(program(sandbox("pve")).args(["exec", &self.name, "bash", "-ec", script]))
    }

    /// Disturbs the next calls whose words begin so.
    pub fn fault(&self, words: &str, kind: &str, times: u32, secs: u32) {
        let (times, secs) = (times.to_string(), secs.to_string());
        run(program(sandbox("pve")).args(["fault", &self.name, words, kind, &times, &secs]));
    }

    pub fn clear_faults(&self) {
        run(program(sandbox("pve")).args(["fault", &self.name, "--clear"]));
    }

    /// The numbers of its containers.
    pub fn vmids(&self) -> BTreeSet<i64> {
        let list = self.sh("pct list");
        list.lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        run_with(program(sandbox("pve")).args(["stop", &self.name]), b"");
    }
}

pub struct Bed {
    pub db: TestDb,
    pub ctx: TenantCtx,
    pub world: World,
    pub nodes: Vec<Node>,
    pub servers: Vec<ServerId>,
}

impl Database for Bed {
    fn sql(&self, statement: &str) -> String {
        let mut psql = program("psql");
        psql.args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-d"]);
        psql.arg(self.db.url.expose_secret()).args(["-f", "-"]);
        let output = run_with(&mut psql, statement.as_bytes());
        said(&psql, &output)
    }
}

impl Bed {
    /// So many nodes of one cluster, enrolled, with a pool, a template and a plan.
    pub async fn open(name: &str, nodes: usize) -> Self {
        Self::open_with(name, nodes, |_| ()).await
    }

    pub async fn open_with(name: &str, nodes: usize, set: impl FnOnce(&mut Migrator)) -> Self {
        let db = TestDb::create().await.unwrap();
        let ctx = db.platform().await.unwrap();
        let mut config = config(&db);
        set(&mut config);
        let world = World::build(config).await.unwrap();
        let cluster = format!("e2e{name}");
        let names: Vec<String> = (1..=nodes).map(|nth| format!("{name}{nth}")).collect();
        // Those of a run that was cut off, all before the first starts: they share a cluster.
        for name in &names {
            run(program(sandbox("pve")).args(["stop", &format!("e2e-{name}")]));
        }
        let nodes: Vec<Node> = names.iter().map(|name| Node::start(name, &cluster)).collect();
        let mut bed = Self { db, ctx, world, nodes, servers: Vec::new() };
        for nth in 0..bed.nodes.len() {
            let id = bed.enroll(nth).await;
            bed.servers.push(id);
        }
        bed.seed().await;
        bed
    }

    pub fn db(&self) -> &Db {
        &self.db.db
    }

    async fn enroll(&self, nth: usize) -> ServerId {
        let node = &self.nodes[nth];
        let key = self.world.public_key().await.unwrap();
        node.sh(&format!("echo '{key}' >>/root/.ssh/authorized_keys"));
        let storage = |name: &str| StorageId::parse(node.get(name)).unwrap();
        let new = NewServer {
            name: node.name.clone(),
            host: Hostname::parse(node.get("PVE_HOST")).unwrap(),
            ssh_port: 22,
            host_key_fingerprint: node.get("PVE_HOST_KEY_FINGERPRINT").to_owned(),
            hostname: Hostname::parse("node.test").unwrap(),
            ipv4: node.get("PVE_HOST").parse().unwrap(),
            ipv6: None,
            backup_dirs: Vec::new(),
            location: None,
            labels: BTreeMap::new(),
            node: Some(NewNode {
                cluster: node.get("PVE_CLUSTER").to_owned(),
                name: NodeName::parse(node.get("PVE_NODE")).unwrap(),
                storage: storage("PVE_STORAGE"),
                template_storage: StorageId::parse("local").unwrap(),
                backup_storage: storage("PVE_BACKUP_STORAGE"),
                bridge: BridgeName::parse(node.get("PVE_BRIDGE")).unwrap(),
            }),
        };
        let tx = self.db().write(&self.ctx, Permission::ServersWrite).await.unwrap();
        let row = servers::create_server(&tx, new).await.unwrap();
        servers::start_enrolment(&tx, row.id).await.unwrap();
        tx.commit().await.unwrap();
        self.work().await;
        let tx = self.db().system().await.unwrap();
        let row = servers::load_server(&tx, row.id).await.unwrap();
        assert_eq!(row.state, "enrolled", "{:?}", row.last_error);
        row.id
    }

    async fn seed(&self) {
        let node = &self.nodes[0];
        let pool = |name: &str, network: &str, gateway: &str, first: Option<&str>| {
            cloudpods::pools::NewPool {
                name: Title::parse(name).unwrap(),
                network: node.get(network).parse().unwrap(),
                gateway: node.get(gateway).parse().unwrap(),
                first: first.map(|first| first.parse().unwrap()),
                last: None,
                cluster: None,
                location: None,
                quarantine_secs: 3600,
            }
        };
        let four = pool("four", "PVE_NETWORK4", "PVE_GATEWAY4", Some(node.get("PVE_FIRST4")));
        cloudpods::pools::create_pool(self.db(), &self.ctx, four).await.unwrap();
        let (code, title) = (TemplateCode::parse("debian-12").unwrap(), Title::parse("x").unwrap());
        let archive = node.get("PVE_TEMPLATE").rsplit('/').next().unwrap().parse().unwrap();
        let named = (&title, &archive);
        cloudpods::templates::put_template(self.db(), &self.ctx, &code, named).await.unwrap();
        testing::pod_plan(self.db(), &self.ctx, "pod-s").await.unwrap();
    }

    /// Runs the jobs that wait, as the relay and the worker do, until none is left.
    pub async fn work(&self) {
        let began = Instant::now();
        loop {
            let tx = self.db().system().await.unwrap();
            let jobs = testing::queued_jobs(&tx).await.unwrap();
            drop(tx);
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                if let Err(error) = runner::run_job(&self.world, job).await {
                    // It was let go as it stands: the next finds it when its lease is over.
                    tracing::info!(cause = %error.chain(), "pods.job_let_go");
                }
            }
            assert!(began.elapsed() < Duration::from_secs(180), "jobs do not end");
        }
    }

    /// What the relay does every few seconds, at once: whatever is due later, too.
    pub async fn sweep(&self) {
        self.sql("UPDATE cloudpod SET next_at = now() - interval '1 second'");
        cloudpods::converge_due(self.db(), 100).await.unwrap();
        self.work().await;
    }

    pub fn small(hostname: &str) -> NewPod {
        NewPod {
            hostname: PodName::parse(hostname).unwrap(),
            plan: PlanCode::parse("pod-s").unwrap(),
            template: None,
            server: None,
            ssh_keys: vec![SshKey::parse(KEY).unwrap()],
        }
    }

    pub async fn ask_for(&self, hostname: &str) -> CloudpodId {
        cloudpods::create_pod(self.db(), &self.ctx, Self::small(hostname)).await.unwrap().id
    }

    pub async fn pod(&self, id: CloudpodId) -> cloudpod::Model {
        let tx = self.db().system().await.unwrap();
        cloudpods::load_pod(&tx, id).await.unwrap()
    }

    /// One that runs.
    pub async fn make(&self, hostname: &str) -> cloudpod::Model {
        let id = self.ask_for(hostname).await;
        self.work().await;
        let pod = self.pod(id).await;
        assert_eq!(pod.status, Status::Active, "{pod:?}");
        pod
    }

    /// Does something with it; how it is afterwards.
    pub async fn act(&self, id: CloudpodId, what: Act) -> cloudpod::Model {
        cloudpods::act(self.db(), &self.ctx, id, what).await.unwrap();
        self.work().await;
        self.pod(id).await
    }

    pub async fn want(&self, id: CloudpodId, desired: Desired) -> cloudpod::Model {
        let why = Title::parse("A test wants it").unwrap();
        cloudpods::request(self.db(), &self.ctx, (id, desired), Some(&why)).await.unwrap();
        self.work().await;
        self.pod(id).await
    }

    /// All rows that are not history: what is gone, given back or resting is.
    pub fn slate(&self) -> BTreeSet<String> {
        let tables = self.sql(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'
             AND tablename <> ALL (ARRAY['seaql_migrations', 'gate', 'job', 'job_step', 'job_log',
                'audit_log', 'audit_seal', 'audit_unsealed', 'outbox', 'finding', 'cloudpod_traffic',
                'guest'])
             ORDER BY 1",
        );
        let history = |table: &str| match table {
            "cloudpod" => "WHERE t.status <> 'deleted'",
            "placement" => "WHERE t.released_at IS NULL",
            "ip_address" => "WHERE t.placement_id IS NOT NULL",
            _ => "",
        };
        let rows: Vec<String> = tables
            .lines()
            .map(|table| {
                let mut less = "- 'health' - 'health_at' - 'last_error' - 'next_offset'".to_owned();
                if table == "cloudpod" {
                    less.push_str(ASIDE);
                }
                let history = history(table);
                format!("SELECT '{table} ' || (to_jsonb(t) {less})::text FROM {table} t {history};")
            })
            .collect();
        self.sql(&rows.join("\n")).lines().map(str::to_owned).collect()
    }

    /// The rows of some tables that are not history.
    pub fn slate_of(&self, tables: &[&str]) -> BTreeSet<String> {
        let is_one =
            |row: &String| tables.iter().any(|table| row.starts_with(&format!("{table} ")));
        self.slate().into_iter().filter(is_one).collect()
    }

    /// The one value that a statement answers.
    pub fn sql_text(&self, statement: &str) -> String {
        self.sql(statement).trim().to_owned()
    }

    pub fn sql_count(&self, table: &str) -> u32 {
        self.sql_text(&format!("SELECT count(*) FROM {table}")).parse().unwrap()
    }

    /// Runs what a lost worker has left.
    pub async fn revive(&self) {
        let lost = self.sql(
            "SELECT id FROM job WHERE state IN ('running', 'unwinding') AND lease_until < now()",
        );
        for id in lost.lines() {
            let job = entities::ids::JobId(id.parse().unwrap());
            if let Err(error) = runner::run_job(&self.world, job).await {
                tracing::info!(cause = %error.chain(), "pods.job_let_go");
            }
        }
    }

    /// A command in a pod's container.
    #[track_caller]
    pub fn inside(&self, pod: &cloudpod::Model, script: &str) -> String {
        let nth = self.servers.iter().position(|id| Some(*id) == pod.server_id).unwrap();
        let quoted = script.replace('\'', "'\\''");
        self.nodes[nth].sh(&format!("pct exec {} -- bash -c '{quoted}'", pod.vmid.unwrap()))
    }

    pub async fn end(self) {
        drop(self.nodes);
        self.db.remove().await.unwrap();
    }
}

/// What a pod's row keeps of its last job, and of when it was looked at.
const ASIDE: &str = "- 'job_id' - 'updated_at' - 'error' - 'attempts' - 'next_at' - 'seen' - 'seen_at' - 'counters'";

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5hjCzAbiwq1j2y0+0FtqQYdBtN5nFvGGpKqCyjIa6f me";

fn config(db: &TestDb) -> Migrator {
    let text = |text: &str| SecretString::from(text.to_owned());
    let address = given("TEST_DNS_ADDR").parse().unwrap();
    let api = Some((given("TEST_PDNS_API_URL"), text(&given("TEST_PDNS_API_KEY"))));
    Migrator {
        base: Base { database_url: db.url.clone(), amqp_url: text("amqp://127.0.0.1:1") },
        sealing_keys: SealingKeys::parse(&text(SEALING_KEYS)).unwrap(),
        agent: binary("agent"),
        migrations_max: 3,
        apply_limit_secs: 120,
        lease_secs: 30,
        node_limit_secs: 20,
        ready_secs: 30,
        reconcile_secs: 60,
        dns: Dns {
            primary: DnsServer { name: "primary".to_owned(), address, api },
            secondaries: vec![],
            transfer_from: address,
            resolver: address,
            check_secs: 900,
        },
        nameservers: vec![],
        accounts_domain: DomainName::parse("hosted.test").unwrap(),
        acme: Acme {
            directory: "https://127.0.0.1:1/dir".to_owned(),
            email: None,
            root: None,
            caa: DomainName::parse("ca.test").unwrap(),
        },
    }
}
