//! A database of its own for each test, copied from a migrated template that `deploy/test` makes.

use crate::Result;
use crate::accounts::{self, Asking};
use crate::catalogue::Specification;
use crate::catalogue::products::{self, NewProduct};
use crate::cloudpods::pools::{self, NewPool};
use crate::cloudpods::templates;
use crate::config;
use crate::db::{Db, SystemTx};
use crate::error::Error;
use crate::ids::{JobId, OrderId, RequestId, RowId, ServerId};
use crate::mail::Letter;
use crate::migrations::{self, NewMigration};
use crate::servers::{self, Capacity, NewNode, NewServer};
use crate::sessions;
use crate::tables::{audit_log, job, mail, orders, outbox};
use crate::tenancy::{Origin, Permission, TenantCtx, TenantKind};
use crate::tenants;
use cpanel::protocol::EnrollReport;
use sea_orm::{
    ColumnTrait, ConnectionTrait, Database, DatabaseConnection, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, Statement,
};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use values::{
    AbsPath, ArchiveName, BridgeName, Hostname, NodeName, PlanCode, Prose, StorageId, TemplateCode,
    Title, Username,
};

/// A database that goes with the test.
#[derive(Debug)]
pub struct TestDb {
    pub db: Db,
    pub url: SecretString,
    name: String,
}

const TEMPLATE: &str = "migrapanel_test_template";

impl TestDb {
    /// Copies the template.
    pub async fn create() -> Result<Self> {
        let server = config::secret("TEST_DATABASE_URL")
            .map_err(|_e| Error::internal("TEST_DATABASE_URL is missing: run deploy/test"))?;
        let name = format!("test_{}", RowId::new().0.simple());
        let admin = connect(server.expose_secret()).await?;
        run(&admin, &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await?;
        let (before, _) = server
            .expose_secret()
            .rsplit_once('/')
            .ok_or_else(|| Error::internal("TEST_DATABASE_URL has no database"))?;
        let url = SecretString::from(format!("{before}/{name}"));
        let db = Db::connect(url.expose_secret(), 8).await?;
        Ok(Self { db, url, name })
    }

    /// The platform's owner.
    pub async fn platform(&self) -> Result<TenantCtx> {
        let email = "owner@platform.test";
        accounts::bootstrap_platform(&self.db, "Platform", email, "no hash".to_owned()).await?;
        self.person(email).await
    }

    /// Whoever has this address, without a password.
    pub async fn person(&self, email: &str) -> Result<TenantCtx> {
        let login = accounts::find_login(&self.db, email).await?.ok_or(Error::NotFound("login"))?;
        Ok(login.ctx(&Asking { request: RequestId::new(), origin: Origin::default() }))
    }

    /// What was written to an address, oldest first.
    pub async fn letters(&self, to: &str) -> Result<Vec<Letter>> {
        let tx = self.db.system().await?;
        let rows = mail::Entity::find()
            .filter(mail::Column::Recipient.eq(to))
            .order_by_asc(mail::Column::Id)
            .all(tx.conn())
            .await?;
        rows.into_iter().map(|row| Ok(serde_json::from_value(row.letter)?)).collect()
    }

    /// Runs statements as the schema's owner, whom no row-level security binds.
    pub async fn execute(&self, script: &str) -> Result<()> {
        let owner = connect(self.url.expose_secret()).await?;
        owner.execute_unprepared(script).await?;
        Ok(owner.close().await?)
    }

    /// A table's rows as text, whole.
    pub async fn dump(&self, table: &str) -> Result<String> {
        let owner = connect(self.url.expose_secret()).await?;
        let sql = format!("SELECT coalesce(string_agg(to_json(t)::text, '\n'), '') FROM {table} t");
        let row = owner.query_one_raw(crate::db::statement(&sql, [])).await?;
        owner.close().await?;
        Ok(row.map_or(Ok(String::new()), |row| row.try_get_by_index(0))?)
    }

    /// All rows of all tables as text.
    pub async fn dump_all(&self) -> Result<String> {
        let tx = self.db.system().await?;
        let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
        let mut text = String::new();
        for row in tx.conn().query_all_raw(crate::db::statement(sql, [])).await? {
            let table: String = row.try_get_by_index(0)?;
            text.push_str(&self.dump(&table).await?);
        }
        Ok(text)
    }

    /// A customer of the tenant that `ctx` acts in, with the same person acting there.
    pub async fn tenant(&self, ctx: &TenantCtx, name: &str) -> Result<TenantCtx> {
        let made = tenants::create_tenant(&self.db, ctx, TenantKind::Customer, name).await?;
        sessions::act_in(&self.db, ctx, made.id).await
    }

    /// A server that counts as enrolled, at an address that nobody has.
    pub async fn server(&self, ctx: &TenantCtx) -> Result<ServerId> {
        let new = NewServer {
            name: RowId::new().to_string(),
            host: Hostname::parse("192.0.2.1")?,
            ssh_port: 22,
            host_key_fingerprint: format!("SHA256:{}", "A".repeat(43)),
            hostname: Hostname::parse("server.test")?,
            ipv4: std::net::Ipv4Addr::new(192, 0, 2, 1),
            ipv6: None,
            backup_dirs: vec![AbsPath::parse("/var/backups/migrations")?],
            location: None,
            labels: BTreeMap::default(),
            node: None,
        };
        let tx = self.db.write(ctx, Permission::ServersWrite).await?;
        let row = servers::create_server(&tx, new).await?;
        tx.commit().await?;
        self.pretend_enrolled(row.id).await?;
        Ok(row.id)
    }

    /// A node of a cluster of its own that counts as enrolled, with room for so many containers of a core
    /// and half a gibibyte; a pool of addresses in 198.18.N.0/24 for it, and the template `debian-12`.
    pub async fn node(&self, ctx: &TenantCtx, number: u8, room: i32) -> Result<ServerId> {
        let node = NewNode {
            cluster: format!("cluster{number}"),
            name: NodeName::parse("pve1")?,
            storage: StorageId::parse("local-lvm")?,
            template_storage: StorageId::parse("local")?,
            backup_storage: StorageId::parse("local")?,
            bridge: BridgeName::parse("vmbr0")?,
        };
        let new = NewServer {
            name: RowId::new().to_string(),
            host: Hostname::parse("192.0.2.2")?,
            ssh_port: 22,
            host_key_fingerprint: format!("SHA256:{}", "A".repeat(43)),
            hostname: Hostname::parse("node.test")?,
            ipv4: std::net::Ipv4Addr::new(192, 0, 2, 2),
            ipv6: None,
            backup_dirs: Vec::new(),
            location: None,
            labels: BTreeMap::default(),
            node: Some(node),
        };
        let tx = self.db.write(ctx, Permission::ServersWrite).await?;
        let row = servers::create_server(&tx, new).await?;
        tx.commit().await?;
        let tx = self.db.system().await?;
        let room = i64::from(room);
        let capacity = Capacity {
            cpu_cores: 64,
            memory_mib: room.saturating_mul(512),
            disk_mib: room.saturating_mul(4096),
        };
        servers::record_node(&tx, row.id, capacity, &serde_json::json!({})).await?;
        tx.commit().await?;
        let pool = NewPool {
            name: Title::parse(&format!("pool {number}"))?,
            network: format!("198.18.{number}.0/24").parse().map_err(Error::internal)?,
            gateway: std::net::IpAddr::from([198, 18, number, 1]),
            first: None,
            last: None,
            cluster: Some(format!("cluster{number}")),
            location: None,
            quarantine_secs: 3600,
        };
        pools::create_pool(&self.db, ctx, pool).await?;
        let code = TemplateCode::parse("debian-12")?;
        let archive = ArchiveName::parse("debian-12-standard_12.7-1_amd64.tar.zst")?;
        let title = Title::parse("Debian 12")?;
        templates::put_template(&self.db, ctx, &code, (&title, &archive)).await?;
        Ok(row.id)
    }

    /// A migration that waits for its analysis.
    pub async fn migration(&self, ctx: &TenantCtx, server: ServerId, user: &str) -> Result<JobId> {
        let new = NewMigration {
            server,
            path: AbsPath::parse("/var/backups/migrations/a.tar")?,
            target_user: Username::parse(user)?,
        };
        let tx = self.db.write(ctx, Permission::MigrationsWrite).await?;
        let id = migrations::start_migration(&tx, new).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// How many messages wait in the outbox.
    pub async fn unsent(&self) -> Result<u64> {
        let tx = self.db.system().await?;
        let unsent = outbox::Entity::find().filter(outbox::Column::SentAt.is_null());
        Ok(unsent.count(tx.conn()).await?)
    }

    /// The kinds of the audit trail, oldest first.
    pub async fn audit_kinds(&self) -> Result<Vec<String>> {
        let tx = self.db.system().await?;
        let rows =
            audit_log::Entity::find().order_by_asc(audit_log::Column::Id).all(tx.conn()).await?;
        Ok(rows.into_iter().map(|row| row.kind).collect())
    }

    /// Calls a server enrolled without going there.
    pub async fn pretend_enrolled(&self, id: ServerId) -> Result<()> {
        let report = EnrollReport {
            changes: Vec::new(),
            os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            hostname: "server.test".to_owned(),
            php_versions: vec!["8.2".to_owned()],
        };
        let tx = self.db.system().await?;
        servers::record_enrolment(&tx, id, &report, "0").await?;
        tx.commit().await
    }

    /// The states of all jobs.
    pub async fn job(&self, id: JobId) -> Result<job::Model> {
        let tx = self.db.system().await?;
        job::Entity::find()
            .filter(job::Column::Id.eq(id))
            .one(tx.conn())
            .await?
            .ok_or(Error::NotFound("job"))
    }

    /// Lets a job's lease end now.
    pub async fn expire_lease(&self, id: JobId) -> Result<()> {
        let sql = "UPDATE job SET lease_until = now() - interval '1 second' WHERE id = $1";
        self.on_job(sql, id).await
    }

    /// Makes all approvals of a job older than they may be.
    pub async fn expire_approvals(&self, id: JobId) -> Result<()> {
        let sql = "UPDATE migration_approval SET expires_at = now() - interval '1 second' WHERE job_id = $1";
        self.on_job(sql, id).await
    }

    async fn on_job(&self, sql: &str, id: JobId) -> Result<()> {
        let tx: SystemTx = self.db.system().await?;
        tx.conn().execute_raw(crate::db::statement(sql, [id.0.into()])).await?;
        tx.commit().await
    }

    /// Cuts off the connections of a program whose last statement was this, or a look whether they live,
    /// and lets nobody connect from now on.
    pub async fn cut_off(&self, program: &str, statement: &str) -> Result<()> {
        let admin = connect(config::secret("TEST_DATABASE_URL")?.expose_secret()).await?;
        run(&admin, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", self.name)).await?;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = $1 AND application_name = $2 AND query IN ($3, 'SELECT 1')";
        let values = [self.name.as_str().into(), program.into(), statement.into()];
        let cut = admin.query_all_raw(crate::db::statement(sql, values)).await?;
        if cut.is_empty() {
            return Err(Error::internal("there is no such connection to cut off"));
        }
        Ok(())
    }

    /// Lets everybody connect again.
    pub async fn let_in(&self) -> Result<()> {
        let admin = connect(config::secret("TEST_DATABASE_URL")?.expose_secret()).await?;
        run(&admin, &format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", self.name)).await
    }

    /// Removes the database; a test that fails before leaves it for a look.
    pub async fn remove(self) -> Result<()> {
        let server = config::secret("TEST_DATABASE_URL")?;
        let admin = connect(server.expose_secret()).await?;
        run(&admin, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await
    }
}

async fn connect(url: &str) -> Result<DatabaseConnection> {
    Ok(Database::connect(url).await?)
}

async fn run(connection: &DatabaseConnection, sql: &str) -> Result<()> {
    let statement = Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    connection.execute_raw(statement).await?;
    Ok(())
}

/// A plan of containers of a core, half a gibibyte and a disk of two.
pub async fn pod_plan(db: &Db, ctx: &TenantCtx, code: &str) -> Result<()> {
    let specification = Specification::CloudpodPlan {
        cpu_cores: 1,
        memory_mib: 512,
        disk_mib: 2048,
        traffic_gib: None,
        template: "debian-12".to_owned(),
        placement: None,
    };
    let new = NewProduct {
        category: None,
        name: Title::parse(code)?,
        description: Prose::default(),
        specification,
        code: Some(PlanCode::parse(code)?),
        position: 0,
    };
    let tx = db.write(ctx, Permission::CatalogueWrite).await?;
    products::create_product(&tx, new).await?;
    tx.commit().await
}

/// All orders, oldest first.
pub async fn orders(tx: &SystemTx) -> Result<Vec<OrderId>> {
    let rows = orders::Entity::find().order_by_asc(orders::Column::Id).all(tx.conn()).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// All jobs that wait, oldest first.
pub async fn queued_jobs(tx: &SystemTx) -> Result<Vec<JobId>> {
    let waiting = job::Entity::find().filter(job::Column::State.eq("queued"));
    let rows = waiting.order_by_asc(job::Column::Id).all(tx.conn()).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
