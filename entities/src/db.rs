//! The doors to Postgres. A transaction is the only way to a row, and opening one checks the right.

use crate::Result;
use crate::audit::{self, Audit};
use crate::error::Error;
use crate::idempotency::Once;
use crate::ids::TenantId;
use crate::outbox::{self, Message};
use crate::tables::{Owned, Published, tenant_ancestry};
use crate::tenancy::{Permission, TenantCtx};
use schema::{Migrator, MigratorTrait};
use sea_orm::{
    AccessMode, ColumnTrait, Condition, ConnectOptions, ConnectionTrait, Database,
    DatabaseConnection, DatabaseTransaction, DbBackend, EntityTrait, PrimaryKeyTrait, QueryFilter,
    QuerySelect, QueryTrait, Select, Statement, TransactionTrait, Value,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// What Postgres is to think of a client that has vanished, with its locks: that it is gone, half a
/// minute after its host and five after itself has stopped to answer.
const GONE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "20"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("idle_in_transaction_session_timeout", "300s"),
];

/// A pool of connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    pool: DatabaseConnection,
    /// Where connections live: with the process. Of several runtimes, such as a web server's, one may
    /// end while others still work, and with it the connections that were made in it.
    home: Handle,
}

impl Db {
    /// Connects; fails at once when the server does not answer within ten seconds. Connections live in
    /// the runtime that this is called in.
    pub async fn connect(url: &str, connections_max: u32) -> Result<Self> {
        let mut options = ConnectOptions::new(url.to_owned());
        options
            .max_connections(connections_max)
            .connect_timeout(Duration::from_secs(10))
            .acquire_timeout(Duration::from_secs(10))
            .map_sqlx_postgres_opts(|options| options.options(GONE))
            .sqlx_logging(false);
        Ok(Self { pool: Database::connect(options).await?, home: Handle::current() })
    }

    /// Brings the database to this version's schema; the role must be able to create roles. Repeating
    /// it changes nothing.
    pub async fn migrate(&self) -> Result<()> {
        Ok(Migrator::up(&self.pool, None).await?)
    }

    /// Whether Postgres answers.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.pool.ping().await?)
    }

    /// Opens a transaction that may only read, after checking the right.
    pub async fn read(&self, ctx: &TenantCtx, permission: Permission) -> Result<TenantTx> {
        ctx.require(permission)?;
        let tx = self.begin(AccessMode::ReadOnly, Some(ctx.tenant())).await?;
        Ok(TenantTx {
            tx,
            ctx: ctx.clone(),
            audited: AtomicBool::new(true),
            reads: false,
            once: None,
        })
    }

    /// Opens a transaction that reads and may write nothing but the audit trail, after checking the
    /// right: for looking at what is worth a trace. It commits only with an entry.
    pub async fn read_audited(&self, ctx: &TenantCtx, permission: Permission) -> Result<TenantTx> {
        ctx.require(permission)?;
        let tx = self.begin(AccessMode::ReadWrite, Some(ctx.tenant())).await?;
        hold_to_reading(&tx).await?;
        Ok(TenantTx {
            tx,
            ctx: ctx.clone(),
            audited: AtomicBool::new(false),
            reads: true,
            once: None,
        })
    }

    /// Opens a transaction that may write, after checking the right. It commits only with an entry
    /// in the audit trail. What is the platform's alone is done in the platform, wherever its staff
    /// acts.
    pub async fn write(&self, ctx: &TenantCtx, permission: Permission) -> Result<TenantTx> {
        ctx.require_write(permission)?;
        let ctx = &if permission.platform_only() { ctx.within(ctx.home()) } else { ctx.clone() };
        let tx = self.begin(AccessMode::ReadWrite, Some(ctx.tenant())).await?;
        if let Some(once) = ctx.once() {
            once.claim(&tx).await?;
        }
        let (audited, once) = (AtomicBool::new(false), ctx.once().cloned());
        Ok(TenantTx { tx, ctx: ctx.clone(), audited, reads: false, once })
    }

    /// Opens a transaction that sees all tenants: for logging in, for the relay and for a worker's
    /// own bookkeeping.
    pub async fn system(&self) -> Result<SystemTx> {
        Ok(SystemTx { tx: self.begin(AccessMode::ReadWrite, None).await?, once: None })
    }

    /// Opens a transaction that sees all tenants for what `ctx` asks: whatever is made with it for a
    /// request with an `Idempotency-Key` is made once. Its commit waits for the answer, so that
    /// nothing that a handler does after it may rest on others' seeing what was made; what ends
    /// logins uses [`Db::system`]. The caller checks the right.
    pub async fn system_as(&self, ctx: &TenantCtx) -> Result<SystemTx> {
        let tx = self.begin(AccessMode::ReadWrite, None).await?;
        let Some(once) = ctx.once() else { return Ok(SystemTx { tx, once: None }) };
        once.claim(&tx).await?;
        Ok(SystemTx { tx, once: Some((Arc::clone(once), ctx.tenant())) })
    }

    /// The role and the tenant that a connection carries outside any transaction: none and nothing,
    /// or a transaction was not ended.
    #[cfg(feature = "testing")]
    pub async fn connection_state(&self) -> Result<(String, String)> {
        let sql = "SELECT current_setting('role') AS role, coalesce(current_setting('app.tenant_id', true), '') AS tenant";
        let row = self.pool.query_one_raw(statement(sql, [])).await?;
        let row = row.ok_or_else(|| Error::internal("Postgres tells no settings"))?;
        Ok((row.try_get("", "role")?, row.try_get("", "tenant")?))
    }

    /// Begins in a task of its own: a caller that is dropped half-way would otherwise return a
    /// connection with an open transaction to the pool (launchbadge/sqlx issue 4385).
    async fn begin(
        &self,
        mode: AccessMode,
        tenant: Option<TenantId>,
    ) -> Result<DatabaseTransaction> {
        let pool = self.pool.clone();
        let begun = self.home.spawn(async move {
            let tx = pool.begin_with_config(None, Some(mode)).await?;
            let (role, pin) = match tenant {
                Some(id) => ("migrapanel_tenant", id.to_string()),
                None => ("migrapanel_system", String::new()),
            };
            tx.query_one_raw(statement(
                "SELECT set_config('role', $1, true), set_config('app.tenant_id', $2, true)",
                [role.into(), pin.into()],
            ))
            .await?;
            Ok::<_, Error>(tx)
        });
        begun.await.map_err(Error::internal)?
    }
}

/// Lets Postgres refuse every write until the savepoint is released: a subtransaction may be read-only
/// within a transaction that is not.
async fn hold_to_reading(tx: &DatabaseTransaction) -> Result<()> {
    tx.execute_raw(statement("SAVEPOINT reading", [])).await?;
    tx.execute_raw(statement("SET TRANSACTION READ ONLY", [])).await?;
    Ok(())
}

/// A statement with bound values.
pub(crate) fn statement<const N: usize>(sql: &str, values: [Value; N]) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// A transaction pinned to one tenant. Dropping it rolls back.
#[derive(Debug)]
pub struct TenantTx {
    tx: DatabaseTransaction,
    ctx: TenantCtx,
    audited: AtomicBool,
    /// Whether only the audit trail may be written.
    reads: bool,
    /// The request that this is the effect of.
    once: Option<Arc<Once>>,
}

impl TenantTx {
    pub(crate) fn conn(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// The tenant's rows of a table. The scope stands in the statement itself, so that it holds without
    /// row-level security, too.
    pub(crate) fn own<E: Owned>(&self) -> Select<E> {
        E::find().filter(E::OWNER.eq(self.tenant()))
    }

    /// The row of this id, when it is the tenant's.
    pub(crate) fn own_by_id<E: Owned>(
        &self,
        id: impl Into<<E::PrimaryKey as PrimaryKeyTrait>::ValueType>,
    ) -> Select<E> {
        E::find_by_id(id).filter(E::OWNER.eq(self.tenant()))
    }

    /// The rows of a table that the tenant sees: its own, and what those above it publish.
    pub(crate) fn seen<E: Published>(&self) -> Select<E> {
        let above = tenant_ancestry::Entity::find()
            .filter(tenant_ancestry::Column::DescendantId.eq(self.tenant()))
            .select_only()
            .column(tenant_ancestry::Column::AncestorId)
            .into_query();
        let own = E::OWNER.eq(self.tenant());
        E::find().filter(Condition::any().add(own).add(E::OWNER.in_subquery(above)))
    }

    /// Who acts here.
    #[must_use]
    pub fn ctx(&self) -> &TenantCtx {
        &self.ctx
    }

    /// The tenant whose rows are seen.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.ctx.tenant()
    }

    /// Appends to the audit trail, in this transaction.
    pub async fn audit(&self, entry: Audit) -> Result<()> {
        if self.reads {
            self.tx.execute_raw(statement("RELEASE SAVEPOINT reading", [])).await?;
        }
        audit::append(&self.tx, &self.ctx, entry).await?;
        if self.reads {
            hold_to_reading(&self.tx).await?;
        }
        self.audited.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a message into the outbox, in this transaction.
    pub async fn publish(&self, message: Message) -> Result<()> {
        outbox::append(&self.tx, self.tenant(), message).await
    }

    /// Commits; a write without an audit entry is an error of ours. For a request with an
    /// `Idempotency-Key` the commit waits for the answer: until then nobody else sees what was made.
    pub async fn commit(self) -> Result<()> {
        if !self.audited.load(Ordering::Relaxed) {
            return Err(Error::internal("a write transaction without an audit entry"));
        }
        match self.once {
            Some(once) => once.keep(self.tx, self.ctx.tenant()),
            None => self.tx.commit().await?,
        }
        Ok(())
    }
}

/// A transaction that sees all tenants. Dropping it rolls back.
#[derive(Debug)]
pub struct SystemTx {
    tx: DatabaseTransaction,
    /// The request that this is the effect of.
    once: Option<(Arc<Once>, TenantId)>,
}

impl SystemTx {
    pub(crate) fn conn(&self) -> &DatabaseTransaction {
        &self.tx
    }

    /// Appends to a tenant's audit trail, in the name of `ctx`.
    pub async fn audit(&self, ctx: &TenantCtx, entry: Audit) -> Result<()> {
        audit::append(&self.tx, ctx, entry).await
    }

    /// Puts a message into the outbox, in this transaction.
    pub async fn publish(&self, tenant: TenantId, message: Message) -> Result<()> {
        outbox::append(&self.tx, tenant, message).await
    }

    /// Commits; as the effect of a request with an `Idempotency-Key` it waits for the answer.
    pub async fn commit(self) -> Result<()> {
        match self.once {
            Some((once, tenant)) => once.keep(self.tx, tenant),
            None => self.tx.commit().await?,
        }
        Ok(())
    }
}
