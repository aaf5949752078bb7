//! Tenants and their tree.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::error::{Code, Error};
use crate::ids::{RequestId, TenantId};
use crate::sessions::{self, act_in};
use crate::tables::{session, tenant, tenant_ancestry};
use crate::tenancy::{Actor, Origin, Permission, Role, StoredActor, TenantCtx, TenantKind};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait,
};
use serde::{Deserialize, Serialize};

/// How much a tenant may have; what is not named is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Members, open invitations included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// Tenants directly below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<u32>,
    /// Hosting accounts, those that are being made included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<u32>,
    /// `CloudPods`, those that are ordered included; and of those without an order as many at and below the
    /// tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudpods: Option<u32>,
    /// Zones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<u32>,
    /// Record sets in each zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u32>,
    /// Requests in 15 minutes, of all its people and keys together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
}

impl Limits {
    /// As they stand in the row.
    pub fn of(row: &tenant::Model) -> Result<Self> {
        Ok(serde_json::from_value(row.limits.clone())?)
    }
}

/// How much the tenant may have.
pub(crate) async fn limits_of(tx: &TenantTx) -> Result<Limits> {
    let row = tenant::Entity::find_by_id(tx.tenant()).one(tx.conn()).await?;
    Limits::of(&row.ok_or(Error::NotFound("tenant"))?)
}

/// Refuses one more of something that is limited. The tenant's row stays locked until the end of the
/// transaction, so that of many who ask at once only as many get it as there is room for.
pub(crate) async fn reserve<C: ConnectionTrait>(
    conn: &C,
    tenant: TenantId,
    limit: fn(&Limits) -> Option<u32>,
    name: &str,
    count: impl AsyncFnOnce(&C) -> Result<u64>,
) -> Result<()> {
    lock_limit(conn, tenant, name).await?;
    let row =
        tenant::Entity::find_by_id(tenant).one(conn).await?.ok_or(Error::NotFound("tenant"))?;
    let Some(limit) = limit(&Limits::of(&row)?) else { return Ok(()) };
    if count(conn).await? < u64::from(limit) {
        return Ok(());
    }
    let text = format!(
        "The limit of {limit} {name} is reached: remove one, or ask your provider for more."
    );
    Err(Error::refused(Code::QuotaExceeded, text))
}

/// Lets nobody else take of what is limited until the end of the transaction. An advisory lock: a
/// tenant may look at its row, but not lock it.
pub(crate) async fn lock_limit<C: ConnectionTrait>(
    conn: &C,
    tenant: TenantId,
    name: &str,
) -> Result<()> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('limit ' || $1 || ' ' || $2, 0))";
    conn.execute_raw(statement(sql, [name.into(), tenant.to_string().into()])).await?;
    Ok(())
}

/// The platform tenant, once it was made.
pub async fn platform(tx: &SystemTx) -> Result<Option<TenantId>> {
    let row = tenant::Entity::find()
        .filter(tenant::Column::Kind.eq(TenantKind::Platform))
        .one(tx.conn())
        .await?;
    Ok(row.map(|t| t.id))
}

/// Records in the platform's trail what the operator has done at the machine.
pub(crate) async fn audit_operator(tx: &SystemTx, entry: Audit) -> Result<()> {
    let platform = platform(tx).await?.ok_or(Error::NotFound("tenant"))?;
    let stored = StoredActor::new(Actor::Bootstrap, Role::Owner, true);
    let ctx = TenantCtx::new(platform, &stored, RequestId::new(), Origin::default());
    tx.audit(&ctx, entry).await
}

/// Makes a tenant below the one that is acted in. The platform has resellers and customers, a
/// reseller customers, a customer none.
pub async fn create_tenant(
    db: &Db,
    ctx: &TenantCtx,
    kind: TenantKind,
    name: &str,
) -> Result<tenant::Model> {
    ctx.require_write(Permission::TenantWrite)?;
    let tx = db.system_as(ctx).await?;
    let parent = row(&tx, ctx.tenant()).await?;
    let allowed = match parent.kind {
        TenantKind::Platform => kind != TenantKind::Platform,
        TenantKind::Reseller => kind == TenantKind::Customer,
        TenantKind::Customer => false,
    };
    if !allowed {
        return Err(Error::field("kind", "a tenant of this kind cannot be made below this tenant"));
    }
    reserve(
        tx.conn(),
        parent.id,
        |l| l.tenants,
        "tenants",
        async |conn| {
            let below = tenant::Entity::find().filter(tenant::Column::ParentId.eq(parent.id));
            Ok(below.count(conn).await?)
        },
    )
    .await?;
    let id = insert(&tx, kind, name, Some(parent.id)).await?;
    tx.audit(ctx, Audit::TenantCreated { id, name: name.to_owned() }).await?;
    let made = row(&tx, id).await?;
    tx.commit().await?;
    Ok(made)
}

/// The tenant that `tx` acts in.
pub async fn find_tenant(tx: &TenantTx) -> Result<tenant::Model> {
    tenant::Entity::find_by_id(tx.tenant()).one(tx.conn()).await?.ok_or(Error::NotFound("tenant"))
}

/// How much the tenant may ask, when it has a limit of its own.
pub async fn find_request_limit(db: &Db, tenant: TenantId) -> Result<Option<u32>> {
    let tx = db.system().await?;
    Ok(Limits::of(&row(&tx, tenant).await?)?.requests)
}

/// A tenant at or below the one that is acted in.
pub async fn find_below(db: &Db, ctx: &TenantCtx, id: TenantId) -> Result<tenant::Model> {
    ctx.require(Permission::TenantRead)?;
    act_in(db, ctx, id).await?;
    let tx = db.system().await?;
    row(&tx, id).await
}

/// A page of the tenant that is acted in and all below it, by name; and how many there are.
pub async fn list_tenants(
    db: &Db,
    ctx: &TenantCtx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<tenant::Model>, u64)> {
    ctx.require(Permission::TenantRead)?;
    let system = db.system().await?;
    let below = tenant_ancestry::Entity::find()
        .filter(tenant_ancestry::Column::AncestorId.eq(ctx.tenant()))
        .select_only()
        .column(tenant_ancestry::Column::DescendantId)
        .into_query();
    let query = tenant::Entity::find().filter(tenant::Column::Id.in_subquery(below));
    let total = query.clone().count(system.conn()).await?;
    let rows = query
        .order_by_asc(tenant::Column::Name)
        .order_by_asc(tenant::Column::Id)
        .offset(offset)
        .limit(limit)
        .all(system.conn())
        .await?;
    Ok((rows, total))
}

/// What changes of a tenant; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    pub name: Option<String>,
    pub require_mfa: Option<bool>,
    /// Set by whoever is above.
    pub limits: Option<Limits>,
}

/// Changes a tenant at or below the one that is acted in. Nobody sets limits of their own tenant, but
/// for the platform, and nobody changes those that one above theirs has set.
pub async fn update_tenant(
    db: &Db,
    ctx: &TenantCtx,
    id: TenantId,
    change: Change,
) -> Result<tenant::Model> {
    ctx.require_write(Permission::TenantWrite)?;
    let there = act_in(db, ctx, id).await?;
    if change.limits.is_some() && ctx.home() == id && !ctx.is_platform_staff() {
        return Err(Error::refused(
            Code::Forbidden,
            "The limits of a tenant are set by the one above it. Ask your provider.",
        ));
    }
    let tx = db.system().await?;
    let before = locked(&tx, id).await?;
    let mut active: tenant::ActiveModel = before.clone().into();
    if let Some(name) = change.name {
        active.name = Set(name);
    }
    if let Some(require) = change.require_mfa {
        active.require_mfa = Set(require);
    }
    if let Some(limits) = change.limits {
        below(&tx, ctx, before.limits_by, "Its limits were set").await?;
        active.limits = Set(serde_json::to_value(limits)?);
        active.limits_by = Set(Some(ctx.home()));
    }
    let after = if active.is_changed() { active.update(tx.conn()).await? } else { before.clone() };
    if after.require_mfa != before.require_mfa {
        let members = Condition::all().add(session::Column::TenantId.eq(id));
        sessions::make_stale(&tx, members).await?;
    }
    let entry = Audit::TenantUpdated { id, before: seen(&before), after: seen(&after) };
    tx.audit(&there, entry).await?;
    tx.commit().await?;
    Ok(after)
}

fn seen(row: &tenant::Model) -> serde_json::Value {
    serde_json::json!({ "name": row.name, "require_mfa": row.require_mfa, "limits": row.limits })
}

/// Suspends a tenant below the one that is acted in, with all below it: its people can look, and
/// change nothing. Suspending again changes the reason only.
pub async fn suspend_tenant(
    db: &Db,
    ctx: &TenantCtx,
    id: TenantId,
    reason: &str,
) -> Result<tenant::Model> {
    let there = strictly_below(db, ctx, id).await?;
    let tx = db.system().await?;
    let before = locked(&tx, id).await?;
    below(&tx, ctx, before.suspended_by, "It was suspended").await?;
    let mut active: tenant::ActiveModel = before.clone().into();
    active.suspended_at = Set(Some(Utc::now()));
    active.suspended_reason = Set(Some(reason.to_owned()));
    active.suspended_by = Set(Some(ctx.home()));
    active.update(tx.conn()).await?;
    thaw_or_freeze(&tx, id).await?;
    let after = row(&tx, id).await?;
    let reason = reason.to_owned();
    let (before, seen) = (suspension(&before), suspension(&after));
    tx.audit(&there, Audit::TenantSuspended { id, reason, before, after: seen }).await?;
    tx.commit().await?;
    Ok(after)
}

/// Refuses whoever stands below the tenant in whose name something was decided.
async fn below(tx: &SystemTx, ctx: &TenantCtx, by: Option<TenantId>, what: &str) -> Result<()> {
    let Some(by) = by else { return Ok(()) };
    let reaches = tenant_ancestry::Entity::find_by_id((ctx.home(), by)).one(tx.conn()).await?;
    if reaches.is_none() {
        let text = format!("{what} by a tenant above yours, which alone changes that: ask there.");
        return Err(Error::refused(Code::Forbidden, text));
    }
    Ok(())
}

/// Lets a suspended tenant go on, and all below it that are not suspended themselves.
pub async fn resume_tenant(db: &Db, ctx: &TenantCtx, id: TenantId) -> Result<tenant::Model> {
    let there = strictly_below(db, ctx, id).await?;
    let tx = db.system().await?;
    let before = locked(&tx, id).await?;
    below(&tx, ctx, before.suspended_by, "It was suspended").await?;
    let mut active: tenant::ActiveModel = before.clone().into();
    active.suspended_at = Set(None);
    active.suspended_reason = Set(None);
    active.suspended_by = Set(None);
    active.update(tx.conn()).await?;
    thaw_or_freeze(&tx, id).await?;
    let after = row(&tx, id).await?;
    let (before, seen) = (suspension(&before), suspension(&after));
    tx.audit(&there, Audit::TenantResumed { id, before, after: seen }).await?;
    tx.commit().await?;
    Ok(after)
}

fn suspension(row: &tenant::Model) -> serde_json::Value {
    serde_json::json!({
        "suspended_at": row.suspended_at,
        "suspended_reason": row.suspended_reason,
        "frozen": row.frozen,
    })
}

async fn strictly_below(db: &Db, ctx: &TenantCtx, id: TenantId) -> Result<TenantCtx> {
    ctx.require_write(Permission::TenantWrite)?;
    let there = act_in(db, ctx, id).await?;
    if ctx.home() == id {
        let text = "Nobody suspends or resumes their own tenant: whoever is above it does.";
        return Err(Error::refused(Code::Forbidden, text));
    }
    Ok(there)
}

/// A tenant is frozen when it, or one above it, is suspended. Tokens say so: they are made again.
async fn thaw_or_freeze(tx: &SystemTx, id: TenantId) -> Result<()> {
    tx.conn()
        .execute_raw(statement(
            "UPDATE tenant t SET frozen = EXISTS (SELECT 1 FROM tenant_ancestry a
                JOIN tenant up ON up.id = a.ancestor_id
                WHERE a.descendant_id = t.id AND up.suspended_at IS NOT NULL)
             WHERE t.id IN (SELECT descendant_id FROM tenant_ancestry WHERE ancestor_id = $1)",
            [id.0.into()],
        ))
        .await?;
    let below = tenant_ancestry::Entity::find()
        .filter(tenant_ancestry::Column::AncestorId.eq(id))
        .select_only()
        .column(tenant_ancestry::Column::DescendantId)
        .into_query();
    let members = Condition::all().add(session::Column::TenantId.in_subquery(below));
    sessions::make_stale(tx, members).await
}

/// The same, kept as it is until the end of the transaction: what is decided from it holds.
async fn locked(tx: &SystemTx, id: TenantId) -> Result<tenant::Model> {
    let row = tenant::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("tenant"))
}

pub(crate) async fn row(tx: &SystemTx, id: TenantId) -> Result<tenant::Model> {
    tenant::Entity::find_by_id(id).one(tx.conn()).await?.ok_or(Error::NotFound("tenant"))
}

pub(crate) async fn insert(
    tx: &SystemTx,
    kind: TenantKind,
    name: &str,
    parent: Option<TenantId>,
) -> Result<TenantId> {
    let id = TenantId::new();
    let frozen = match parent {
        Some(parent) => row(tx, parent).await?.frozen,
        None => false,
    };
    tenant::ActiveModel {
        id: Set(id),
        parent_id: Set(parent),
        kind: Set(kind),
        name: Set(name.to_owned()),
        suspended_at: NotSet,
        suspended_reason: NotSet,
        suspended_by: NotSet,
        frozen: Set(frozen),
        require_mfa: NotSet,
        limits: NotSet,
        limits_by: NotSet,
        created_at: Set(Utc::now()),
    }
    .insert(tx.conn())
    .await?;
    let mut rows = vec![tenant_ancestry::ActiveModel {
        ancestor_id: Set(id),
        descendant_id: Set(id),
        depth: Set(0),
    }];
    if let Some(parent) = parent {
        let above = tenant_ancestry::Entity::find()
            .filter(tenant_ancestry::Column::DescendantId.eq(parent))
            .all(tx.conn())
            .await?;
        rows.extend(above.into_iter().map(|row| tenant_ancestry::ActiveModel {
            ancestor_id: Set(row.ancestor_id),
            descendant_id: Set(id),
            depth: Set(row.depth.saturating_add(1)),
        }));
    }
    tenant_ancestry::Entity::insert_many(rows).exec_without_returning(tx.conn()).await?;
    Ok(id)
}
