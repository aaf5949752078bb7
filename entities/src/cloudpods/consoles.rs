//! Consoles: a ticket that opens one once, the rights that it lives by, and how many there may be.
//!
//! The row of a console is made with its ticket and goes with its end. Whoever serves it looks at its
//! rights again and again ([`look_again`]), which also says that it is still there: one that nobody
//! looks at any more counts no more, and is removed ([`prune`]).

use super::{Desired, Status, refusal};
use crate::audit::Audit;
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{CloudpodId, RequestId, RowId, TenantId};
use crate::tables::cloudpod;
use crate::tables::cloudpod_console::{self, Column};
use crate::tenancy::{Origin, Permission, TenantCtx};
use crate::{Result, keys, sessions};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Duration, Utc};
use rand::RngCore;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
};
use secrecy::{ExposeSecret, SecretString};

/// How long a ticket may be used.
const TICKET_SECS: i64 = 30;
/// The most consoles of one pod, and of all pods of a tenant, that are open at once.
pub const OF_POD_MAX: u64 = 2;
pub const OF_TENANT_MAX: u64 = 10;
/// After how long without a look at its rights a console counts as ended: its process has died.
const LOST_SECS: i64 = 100;

/// What opens a console, once.
#[derive(Debug)]
pub struct Ticket {
    pub text: SecretString,
    pub expires_at: DateTime<Utc>,
}

/// A console that has begun.
#[derive(Debug)]
pub struct Opened {
    pub id: RowId,
    /// Whoever works in it.
    pub ctx: TenantCtx,
}

/// Gives out a ticket for the console of a pod that runs.
pub async fn request_console(db: &Db, ctx: &TenantCtx, pod: CloudpodId) -> Result<Ticket> {
    ctx.require_write(Permission::CloudpodsWrite)?;
    let tx = db.system_as(ctx).await?;
    let tenant = ctx.tenant();
    find_usable(&tx, tenant, pod).await?;
    lock(&tx, tenant).await?;
    check_count(&tx, tenant, pod).await?;
    let mut secret = [0u8; 32];
    rand::rng().fill_bytes(&mut secret);
    let text = URL_SAFE_NO_PAD.encode(secret);
    let now = Utc::now();
    let expires_at = now + Duration::seconds(TICKET_SECS);
    let row = cloudpod_console::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tenant),
        cloudpod_id: Set(pod),
        session_id: Set(ctx.session()),
        key_id: Set(ctx.key()),
        ticket_sha256: Set(sessions::hash(&text)),
        expires_at: Set(expires_at),
        ip: NotSet,
        opened_at: NotSet,
        seen_at: NotSet,
        created_at: Set(now),
    };
    row.insert(tx.conn()).await?;
    tx.commit().await?;
    Ok(Ticket { text: SecretString::from(text), expires_at })
}

/// Opens the console that a ticket is for, with the rights of this moment. The ticket is worth
/// nothing afterwards; whatever is wrong with it, the answer is one.
pub async fn open_console(
    db: &Db,
    pod: CloudpodId,
    ticket: &SecretString,
    request: RequestId,
    origin: Origin,
) -> Result<Opened> {
    let fits = Condition::all()
        .add(Column::TicketSha256.eq(sessions::hash(ticket.expose_secret())))
        .add(Column::CloudpodId.eq(pod))
        .add(Column::OpenedAt.is_null())
        .add(Column::ExpiresAt.gt(Utc::now()));
    let find = || cloudpod_console::Entity::find().filter(fits.clone());
    let tx = db.system().await?;
    let row = find().one(tx.conn()).await?.ok_or_else(ticket_invalid)?;
    drop(tx);
    let ip = origin.ip.clone();
    let ctx = holder(db, &row, request, origin).await?;
    let tx = db.system().await?;
    lock(&tx, row.tenant_id).await?;
    let row = find().lock_exclusive().one(tx.conn()).await?.ok_or_else(ticket_invalid)?;
    let checked = async {
        ctx.require_write(Permission::CloudpodsWrite)?;
        find_usable(&tx, row.tenant_id, pod).await?;
        check_count(&tx, row.tenant_id, pod).await
    };
    let id = row.id;
    if let Err(refusal) = checked.await {
        cloudpod_console::Entity::delete_by_id(id).exec(tx.conn()).await?;
        tx.commit().await?;
        return Err(refusal);
    }
    let mut row: cloudpod_console::ActiveModel = row.into();
    let now = Utc::now();
    (row.ip, row.opened_at, row.seen_at) = (Set(ip), Set(Some(now)), Set(Some(now)));
    row.update(tx.conn()).await?;
    tx.audit(&ctx, Audit::CloudpodConsoleOpened { cloudpod: pod }).await?;
    tx.commit().await?;
    Ok(Opened { id, ctx })
}

fn ticket_invalid() -> Error {
    let text = "This ticket is unknown, used or too old. Ask for another at POST /api/cloudpods/{id}/console, and use it within 30 seconds.";
    Error::refused(Code::TicketInvalid, text)
}

/// Whether a console may stay open: the login or key that has opened it has the right still, in this
/// tenant, and the pod is the tenant's and runs.
pub async fn look_again(db: &Db, id: RowId, request: RequestId) -> Result<()> {
    let tx = db.system().await?;
    let row = cloudpod_console::Entity::find_by_id(id).one(tx.conn()).await?;
    drop(tx);
    let row = row.ok_or(Error::NotFound("console"))?;
    let origin = Origin { ip: row.ip.clone(), user_agent: None };
    let ctx = holder(db, &row, request, origin).await?;
    ctx.require_write(Permission::CloudpodsWrite)?;
    let tx = db.system().await?;
    find_usable(&tx, row.tenant_id, row.cloudpod_id).await?;
    let mut row: cloudpod_console::ActiveModel = row.into();
    row.seen_at = Set(Some(Utc::now()));
    row.update(tx.conn()).await?;
    tx.commit().await
}

/// Notes that a console has ended. One that has ended stays so.
pub async fn close_console(db: &Db, id: RowId) -> Result<()> {
    let tx = db.system().await?;
    cloudpod_console::Entity::delete_by_id(id).exec(tx.conn()).await?;
    tx.commit().await
}

/// Removes tickets that nobody used, and consoles whose process has died.
pub async fn prune(db: &Db) -> Result<()> {
    let tx = db.system().await?;
    let now = Utc::now();
    let old = Column::ExpiresAt.lt(now - Duration::minutes(1));
    let unused = Condition::all().add(Column::OpenedAt.is_null()).add(old);
    let lost = Column::SeenAt.lt(now - Duration::minutes(10));
    cloudpod_console::Entity::delete_many()
        .filter(Condition::any().add(unused).add(lost))
        .exec(tx.conn())
        .await?;
    tx.commit().await
}

/// Whoever a console belongs to, with the rights of this moment.
async fn holder(
    db: &Db,
    row: &cloudpod_console::Model,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    match (row.session_id, row.key_id) {
        (Some(id), _) => sessions::resume(db, id, row.tenant_id, request, origin).await,
        (None, Some(id)) => keys::resume(db, id, row.tenant_id, request, origin).await,
        (None, None) => Err(Error::internal("a console of nobody")),
    }
}

/// The tenant's pod, when it runs and shall.
async fn find_usable(tx: &SystemTx, tenant: TenantId, pod: CloudpodId) -> Result<cloudpod::Model> {
    let row = cloudpod::Entity::find_by_id(pod)
        .filter(cloudpod::Column::TenantId.eq(tenant))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("CloudPod"))?;
    match (row.status, row.desired) {
        (Status::Active, Desired::Active) => Ok(row),
        _ => Err(refusal(&row, "only one that runs has a console")),
    }
}

/// Consoles of a tenant are counted one after the other.
async fn lock(tx: &SystemTx, tenant: TenantId) -> Result<()> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('consoles ' || $1, 0))";
    tx.conn().execute_raw(statement(sql, [tenant.to_string().into()])).await?;
    Ok(())
}

async fn check_count(tx: &SystemTx, tenant: TenantId, pod: CloudpodId) -> Result<()> {
    let open = cloudpod_console::Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::SeenAt.gt(Utc::now() - Duration::seconds(LOST_SECS)));
    let of_pod = open.clone().filter(Column::CloudpodId.eq(pod)).count(tx.conn()).await?;
    let too_many = |most: u64, whose: &str| {
        let text = format!("{whose} has at most {most} open consoles: close one first.");
        Err(Error::refused(Code::QuotaExceeded, text))
    };
    if of_pod >= OF_POD_MAX {
        return too_many(OF_POD_MAX, "A CloudPod");
    }
    if open.count(tx.conn()).await? >= OF_TENANT_MAX {
        return too_many(OF_TENANT_MAX, "A tenant");
    }
    Ok(())
}
