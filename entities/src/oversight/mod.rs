//! Jobs as those see them who watch over them: the platform's people the jobs of all tenants, others
//! their own. [`stuck`] says which do not get on, [`cancel`] stops one, [`requeue`] brings one on.

pub mod cancel;
pub mod requeue;
pub mod stuck;

pub use cancel::cancel;
pub use requeue::requeue;
pub use stuck::Stuck;

use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{JobId, ServerId, TenantId};
use crate::tables::{job, job_log, job_step};
use crate::tenancy::{Permission, TenantCtx};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QueryResult, QuerySelect, QueryTrait,
};
use std::collections::HashMap;

/// Which jobs are wanted; nothing set: all that one may see.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    pub kind: Option<String>,
    pub state: Option<String>,
    pub server: Option<ServerId>,
    pub tenant: Option<TenantId>,
    /// Those that do not get on, or those that do.
    pub stuck: Option<bool>,
}

/// How a job stands in the queue, by the database's clock.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// How many seconds ago it was queued; of one that has ended, how long it took from there.
    pub age_secs: i64,
    /// Which in line among those of its kind, when it waits.
    pub queue_position: Option<i64>,
    /// Why it does not get on; empty: it does, or has ended.
    pub stuck: Vec<Stuck>,
}

/// A job with how it stands.
#[derive(Debug, Clone)]
pub struct Seen {
    pub job: job::Model,
    pub standing: Standing,
}

/// How many jobs of a kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub kind: String,
    pub state: String,
    pub count: i64,
    pub stuck: i64,
    /// How many seconds ago the one was queued that waits longest of them.
    pub oldest_secs: i64,
}

/// Whose jobs somebody sees; none: everybody's. The platform's people see all from the platform, and
/// in another tenant its own.
fn whose(ctx: &TenantCtx) -> Result<Option<TenantId>> {
    ctx.require(Permission::JobsRead)?;
    let at_home = ctx.tenant() == ctx.home();
    let oversees = at_home && ctx.require(Permission::JobsOversee).is_ok();
    Ok((!oversees).then_some(ctx.tenant()))
}

/// A page of the jobs, newest first, and how many there are.
pub async fn list_jobs(
    db: &Db,
    ctx: &TenantCtx,
    filter: &Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<Seen>, u64)> {
    let whose = whose(ctx)?;
    let page = (offset, limit);
    let tx = db.system().await?;
    let (standings, total) = standings(&tx, whose, filter, page).await?;
    let ids: Vec<JobId> = standings.iter().map(|(id, _)| *id).collect();
    let mut rows = match whose {
        None => load(tx.conn(), None, &ids).await?,
        // The rows themselves are read behind both locks.
        Some(tenant) => {
            let own = db.read(ctx, Permission::JobsRead).await?;
            load(own.conn(), Some(tenant), &ids).await?
        }
    };
    let seen = standings
        .into_iter()
        .filter_map(|(id, standing)| Some(Seen { job: rows.remove(&id)?, standing }));
    Ok((seen.collect(), total))
}

async fn load(
    conn: &DatabaseTransaction,
    tenant: Option<TenantId>,
    ids: &[JobId],
) -> Result<HashMap<JobId, job::Model>> {
    let rows = job::Entity::find()
        .filter(job::Column::Id.is_in(ids.iter().copied()))
        .apply_if(tenant, |query, tenant| query.filter(job::Column::TenantId.eq(tenant)))
        .all(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Which jobs are looked for: `$1` whose, `$2` to `$5` the filter; `$6` is whether they are stuck.
const WANTED: &str = "($1::uuid IS NULL OR j.tenant_id = $1)
    AND ($2::text IS NULL OR j.kind = $2)
    AND ($3::text IS NULL OR j.state = $3)
    AND ($4::uuid IS NULL OR j.server_id = $4)
    AND ($5::uuid IS NULL OR j.tenant_id = $5)";

const AGE: &str =
    "extract(epoch FROM coalesce(j.completed_at, now()) - j.queued_at)::bigint AS age_secs";

const POSITION: &str = "CASE WHEN j.state = 'queued' THEN 1 + (SELECT count(*) FROM job o
    WHERE o.kind = j.kind AND o.state = 'queued' AND o.queued_at < j.queued_at) END
    AS queue_position";

async fn standings(
    tx: &SystemTx,
    whose: Option<TenantId>,
    filter: &Filter,
    (offset, limit): (u64, u64),
) -> Result<(Vec<(JobId, Standing)>, u64)> {
    let (reasons, any) = (stuck::columns(), stuck::any());
    let wanted = format!("FROM job j WHERE {WANTED} AND ($6::boolean IS NULL OR $6 = ({any}))");
    let sql = format!(
        "SELECT j.id, {AGE}, {POSITION}, {reasons}, count(*) OVER () AS total {wanted}
         ORDER BY j.created_at DESC, j.id DESC OFFSET {offset} LIMIT {limit}"
    );
    let values = [
        whose.map(|id| id.0).into(),
        filter.kind.clone().into(),
        filter.state.clone().into(),
        filter.server.map(|id| id.0).into(),
        filter.tenant.map(|id| id.0).into(),
        filter.stuck.into(),
    ];
    let rows = tx.conn().query_all_raw(statement(&sql, values.clone())).await?;
    let found: Result<Vec<(JobId, Standing)>> =
        rows.iter().map(|row| Ok((row.try_get("", "id")?, standing(row)?))).collect();
    let total = match rows.first() {
        Some(row) => Some(row.try_get("", "total")?),
        // A page behind the last has no row that could tell.
        None if offset > 0 => {
            let sql = format!("SELECT count(*) AS total {wanted}");
            let row = tx.conn().query_one_raw(statement(&sql, values)).await?;
            row.map(|row| row.try_get("", "total")).transpose()?
        }
        None => None,
    };
    Ok((found?, total.map_or(0, |total: i64| u64::try_from(total).unwrap_or_default())))
}

fn standing(row: &QueryResult) -> Result<Standing> {
    Ok(Standing {
        age_secs: row.try_get("", "age_secs")?,
        queue_position: row.try_get("", "queue_position")?,
        stuck: stuck::read(row)?,
    })
}

/// How many jobs there are by kind and state, and how long the oldest of them waits.
pub async fn summarize(db: &Db, ctx: &TenantCtx) -> Result<Vec<Count>> {
    let whose = whose(ctx)?;
    let tx = db.system().await?;
    let any = stuck::any();
    let sql = format!(
        "SELECT j.kind, j.state, count(*) AS count, count(*) FILTER (WHERE {any}) AS stuck,
            extract(epoch FROM now() - min(j.queued_at))::bigint AS oldest_secs
         FROM job j WHERE ($1::uuid IS NULL OR j.tenant_id = $1)
         GROUP BY j.kind, j.state ORDER BY j.kind, j.state"
    );
    let values = [whose.map(|id| id.0).into()];
    let rows = tx.conn().query_all_raw(statement(&sql, values)).await?;
    let count = |row: &QueryResult| {
        Ok(Count {
            kind: row.try_get("", "kind")?,
            state: row.try_get("", "state")?,
            count: row.try_get("", "count")?,
            stuck: row.try_get("", "stuck")?,
            oldest_secs: row.try_get("", "oldest_secs")?,
        })
    };
    rows.iter().map(count).collect()
}

/// How much of a job is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The log after this line.
    pub after: i64,
    /// At most so many lines of it; none: without it and the steps.
    pub lines: Option<u64>,
}

/// A job with how it stands, its steps (those of the newest run first) and a part of its log.
#[derive(Debug)]
pub struct Look {
    pub seen: Seen,
    pub steps: Vec<job_step::Model>,
    pub log: Vec<job_log::Model>,
}

/// Looks at a job that one may see; another's is none.
pub async fn look(db: &Db, ctx: &TenantCtx, id: JobId, part: Part) -> Result<Look> {
    let whose = whose(ctx)?;
    let (job, steps, log) = match whose {
        None => {
            let tx = db.system().await?;
            read(tx.conn(), None, id, part).await?
        }
        Some(tenant) => {
            let tx = db.read(ctx, Permission::JobsRead).await?;
            read(tx.conn(), Some(tenant), id, part).await?
        }
    };
    let tx = db.system().await?;
    let sql = format!("SELECT {AGE}, {POSITION}, {} FROM job j WHERE j.id = $1", stuck::columns());
    let row = tx.conn().query_one_raw(statement(&sql, [id.0.into()])).await?;
    let standing = row.as_ref().map(standing).transpose()?.unwrap_or_default();
    Ok(Look { seen: Seen { job, standing }, steps, log })
}

type Rows = (job::Model, Vec<job_step::Model>, Vec<job_log::Model>);

async fn read(
    conn: &DatabaseTransaction,
    tenant: Option<TenantId>,
    id: JobId,
    part: Part,
) -> Result<Rows> {
    let job = load(conn, tenant, &[id]).await?.remove(&id).ok_or(Error::NotFound("job"))?;
    let Some(lines) = part.lines else { return Ok((job, Vec::new(), Vec::new())) };
    let steps = job_step::Entity::find()
        .filter(job_step::Column::JobId.eq(id))
        .filter(job_step::Column::TenantId.eq(job.tenant_id))
        .order_by_desc(job_step::Column::Run)
        .order_by_asc(job_step::Column::Seq)
        .all(conn)
        .await?;
    let log = job_log::Entity::find()
        .filter(job_log::Column::JobId.eq(id))
        .filter(job_log::Column::TenantId.eq(job.tenant_id))
        .filter(job_log::Column::Seq.gt(part.after))
        .order_by_asc(job_log::Column::Seq)
        .limit(lines)
        .all(conn)
        .await?;
    Ok((job, steps, log))
}

/// The job, locked until the transaction ends, whoever's it is.
async fn lock(tx: &SystemTx, id: JobId) -> Result<job::Model> {
    let row = job::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("job"))
}

/// Why something cannot be done with a job as it stands.
fn refusal(text: impl Into<String>) -> Error {
    Error::refused(Code::JobState, text)
}
