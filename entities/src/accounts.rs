//! Tenants, people and what they log in with.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::ids::{RequestId, RowId, TenantId, UserId};
use crate::tables::{app_user, membership, refresh_token, tenant, tenant_ancestry};
use crate::tenancy::{Actor, Origin, Role, StoredActor, TenantCtx, TenantKind};
use chrono::{Duration, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use sha2::{Digest, Sha256};

/// How long a refresh token lives.
const REFRESH_DAYS: i64 = 7;

/// Somebody who may log in, with the hash to compare.
#[derive(Debug)]
pub struct Login {
    pub user: UserId,
    pub password_hash: String,
    pub tenant: TenantId,
    pub tenant_kind: TenantKind,
    pub tenant_name: String,
    pub role: Role,
}

/// Finds the person of this address with their oldest membership; nobody when there is none or it
/// was disabled.
pub async fn find_login(db: &Db, email: &str) -> Result<Option<Login>> {
    let tx = db.system().await?;
    let Some(user) = app_user::Entity::find()
        .filter(app_user::Column::Email.eq(email.trim().to_lowercase()))
        .filter(app_user::Column::DisabledAt.is_null())
        .one(tx.conn())
        .await?
    else {
        return Ok(None);
    };
    let Some(member) = membership::Entity::find()
        .filter(membership::Column::UserId.eq(user.id))
        .order_by_asc(membership::Column::CreatedAt)
        .one(tx.conn())
        .await?
    else {
        return Ok(None);
    };
    let tenant = tenant_row(&tx, member.tenant_id).await?;
    Ok(Some(Login {
        user: user.id,
        password_hash: user.password_hash,
        tenant: tenant.id,
        tenant_kind: tenant.kind,
        tenant_name: tenant.name,
        role: member.role,
    }))
}

/// What a verified access token says.
#[derive(Debug, Clone, Copy)]
pub struct Claims {
    pub user: UserId,
    pub tenant: TenantId,
}

/// Makes the context of a request from a verified token: the person must still be a member, with
/// the role of now. `acting` names a descendant tenant to act in; any other is not found.
pub async fn authenticate(
    db: &Db,
    claims: Claims,
    acting: Option<TenantId>,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    let tx = db.system().await?;
    let ended = || Error::refused(Code::Unauthenticated, "This login has ended. Log in again.");
    let user = app_user::Entity::find_by_id(claims.user).one(tx.conn()).await?;
    if user.is_none_or(|u| u.disabled_at.is_some()) {
        return Err(ended());
    }
    let member = membership::Entity::find()
        .filter(membership::Column::UserId.eq(claims.user))
        .filter(membership::Column::TenantId.eq(claims.tenant))
        .one(tx.conn())
        .await?
        .ok_or_else(ended)?;
    let home = tenant_row(&tx, claims.tenant).await?;
    let tenant = match acting {
        None => claims.tenant,
        Some(id) => tenant_ancestry::Entity::find_by_id((claims.tenant, id))
            .one(tx.conn())
            .await?
            .map(|row| row.descendant_id)
            .ok_or(Error::NotFound("tenant"))?,
    };
    let stored = StoredActor {
        actor: Actor::User(claims.user),
        role: member.role,
        platform_staff: home.kind == TenantKind::Platform,
    };
    Ok(TenantCtx::new(tenant, &stored, request, origin))
}

/// A refresh token that was just made; it is shown once and stored hashed.
#[derive(Debug)]
pub struct NewRefresh {
    pub token: String,
    pub user: UserId,
    pub tenant: TenantId,
    pub role: Role,
}

/// Records a login and begins a family of refresh tokens.
pub async fn begin_session(
    db: &Db,
    login: &Login,
    request: RequestId,
    origin: Origin,
) -> Result<NewRefresh> {
    let tx = db.system().await?;
    let token = issue(&tx, RowId::new(), login.user, login.tenant).await?;
    let stored = StoredActor {
        actor: Actor::User(login.user),
        role: login.role,
        platform_staff: login.tenant_kind == TenantKind::Platform,
    };
    tx.audit(
        &TenantCtx::new(login.tenant, &stored, request, origin),
        Audit::Login { second_factor: false },
    )
    .await?;
    tx.commit().await?;
    Ok(NewRefresh { token, user: login.user, tenant: login.tenant, role: login.role })
}

/// Exchanges a refresh token for its successor. A token works once: showing an old one again ends
/// the whole family, for one of the two who have it is a thief.
pub async fn refresh(
    db: &Db,
    token: &str,
    request: RequestId,
    origin: Origin,
) -> Result<NewRefresh> {
    let wrong =
        || Error::refused(Code::RefreshInvalid, "This refresh token is not valid. Log in again.");
    let tx = db.system().await?;
    let row = refresh_token::Entity::find()
        .filter(refresh_token::Column::TokenSha256.eq(hash(token)))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .ok_or_else(wrong)?;
    if row.revoked_at.is_some() || row.expires_at < Utc::now() {
        return Err(wrong());
    }
    let member = membership::Entity::find()
        .filter(membership::Column::UserId.eq(row.user_id))
        .filter(membership::Column::TenantId.eq(row.tenant_id))
        .one(tx.conn())
        .await?
        .ok_or_else(wrong)?;
    if row.used_at.is_some() {
        refresh_token::Entity::update_many()
            .col_expr(refresh_token::Column::RevokedAt, Expr::value(Utc::now()))
            .filter(refresh_token::Column::FamilyId.eq(row.family_id))
            .exec(tx.conn())
            .await?;
        let stored = StoredActor {
            actor: Actor::User(row.user_id),
            role: member.role,
            platform_staff: false,
        };
        let ctx = TenantCtx::new(row.tenant_id, &stored, request, origin);
        tx.audit(&ctx, Audit::RefreshTokenReused { family: row.family_id }).await?;
        tx.commit().await?;
        return Err(wrong());
    }
    let (family, user, tenant) = (row.family_id, row.user_id, row.tenant_id);
    let mut used: refresh_token::ActiveModel = row.into();
    used.used_at = Set(Some(Utc::now()));
    used.update(tx.conn()).await?;
    let token = issue(&tx, family, user, tenant).await?;
    tx.commit().await?;
    Ok(NewRefresh { token, user, tenant, role: member.role })
}

async fn issue(tx: &SystemTx, family: RowId, user: UserId, tenant: TenantId) -> Result<String> {
    let mut bytes = [0u8; 32];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    let token = hex::encode(bytes);
    let row = refresh_token::ActiveModel {
        id: Set(RowId::new()),
        family_id: Set(family),
        user_id: Set(user),
        tenant_id: Set(tenant),
        token_sha256: Set(hash(&token)),
        expires_at: Set(Utc::now() + Duration::days(REFRESH_DAYS)),
        used_at: NotSet,
        revoked_at: NotSet,
        created_at: Set(Utc::now()),
    };
    refresh_token::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(token)
}

/// What stands in the database for a token.
pub(crate) fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Makes the platform tenant and its owner; with both there already, sets the owner's password.
pub async fn bootstrap_platform(
    db: &Db,
    name: &str,
    owner_email: &str,
    password_hash: String,
) -> Result<TenantId> {
    let tx = db.system().await?;
    let email = owner_email.trim().to_lowercase();
    let tenant = match platform(&tx).await? {
        Some(id) => id,
        None => insert_tenant(&tx, TenantKind::Platform, name, None).await?,
    };
    let user = match app_user::Entity::find()
        .filter(app_user::Column::Email.eq(email.as_str()))
        .one(tx.conn())
        .await?
    {
        Some(user) => {
            let id = user.id;
            let mut user: app_user::ActiveModel = user.into();
            user.password_hash = Set(password_hash);
            user.update(tx.conn()).await?;
            id
        }
        None => insert_user(&tx, &email, password_hash).await?,
    };
    insert_membership(&tx, tenant, user, Role::Owner).await?;
    let stored = StoredActor { actor: Actor::Bootstrap, role: Role::Owner, platform_staff: true };
    let ctx = TenantCtx::new(tenant, &stored, RequestId::new(), Origin::default());
    tx.audit(&ctx, Audit::PlatformBootstrapped { owner: email }).await?;
    tx.commit().await?;
    Ok(tenant)
}

/// The platform tenant, once it was made.
pub async fn platform(tx: &SystemTx) -> Result<Option<TenantId>> {
    let row = tenant::Entity::find()
        .filter(tenant::Column::Kind.eq(TenantKind::Platform))
        .one(tx.conn())
        .await?;
    Ok(row.map(|t| t.id))
}

/// Makes a tenant below the one that `tx` acts in. The platform has resellers and customers, a
/// reseller customers, a customer none.
pub async fn create_tenant(
    db: &Db,
    tx: &TenantTx,
    kind: TenantKind,
    name: &str,
) -> Result<TenantId> {
    let parent = find_tenant(tx).await?;
    let allowed = match parent.kind {
        TenantKind::Platform => kind != TenantKind::Platform,
        TenantKind::Reseller => kind == TenantKind::Customer,
        TenantKind::Customer => false,
    };
    if !allowed {
        return Err(Error::field("kind", "a tenant of this kind cannot be made below this tenant"));
    }
    let system = db.system_as(tx.ctx()).await?;
    let id = insert_tenant(&system, kind, name, Some(parent.id)).await?;
    system.audit(tx.ctx(), Audit::TenantCreated { id, name: name.to_owned() }).await?;
    system.commit().await?;
    Ok(id)
}

/// The tenant that `tx` acts in.
pub async fn find_tenant(tx: &TenantTx) -> Result<tenant::Model> {
    tenant::Entity::find_by_id(tx.tenant()).one(tx.conn()).await?.ok_or(Error::NotFound("tenant"))
}

/// The tenant that `ctx` acts in and all below it, by name.
pub async fn list_tenants(db: &Db, tx: &TenantTx) -> Result<Vec<tenant::Model>> {
    let system = db.system().await?;
    let ids: Vec<TenantId> = tenant_ancestry::Entity::find()
        .filter(tenant_ancestry::Column::AncestorId.eq(tx.tenant()))
        .select_only()
        .column(tenant_ancestry::Column::DescendantId)
        .into_tuple()
        .all(system.conn())
        .await?;
    Ok(tenant::Entity::find()
        .filter(tenant::Column::Id.is_in(ids))
        .order_by_asc(tenant::Column::Name)
        .all(system.conn())
        .await?)
}

/// Makes a person a member of the tenant that `ctx` acts in. A new person gets the password; one
/// who exists already is refused, since only they may say what tenants they belong to.
pub async fn add_member(
    db: &Db,
    ctx: &TenantCtx,
    email: &str,
    password_hash: String,
    role: Role,
) -> Result<UserId> {
    ctx.require(crate::tenancy::Permission::MembersWrite)?;
    if !ctx.role().reaches(role) {
        return Err(Error::Forbidden { needed: role.to_string() });
    }
    let tx = db.system_as(ctx).await?;
    let email = email.trim().to_lowercase();
    let user = insert_user(&tx, &email, password_hash).await?;
    insert_membership(&tx, ctx.tenant(), user, role).await?;
    tx.audit(ctx, Audit::MemberAdded { email, role: role.to_string() }).await?;
    tx.commit().await?;
    Ok(user)
}

async fn tenant_row(tx: &SystemTx, id: TenantId) -> Result<tenant::Model> {
    tenant::Entity::find_by_id(id).one(tx.conn()).await?.ok_or(Error::NotFound("tenant"))
}

async fn insert_tenant(
    tx: &SystemTx,
    kind: TenantKind,
    name: &str,
    parent: Option<TenantId>,
) -> Result<TenantId> {
    let id = TenantId::new();
    tenant::ActiveModel {
        id: Set(id),
        parent_id: Set(parent),
        kind: Set(kind),
        name: Set(name.to_owned()),
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

async fn insert_user(tx: &SystemTx, email: &str, password_hash: String) -> Result<UserId> {
    let id = UserId::new();
    app_user::ActiveModel {
        id: Set(id),
        email: Set(email.to_owned()),
        password_hash: Set(password_hash),
        disabled_at: NotSet,
        created_at: Set(Utc::now()),
    }
    .insert(tx.conn())
    .await?;
    Ok(id)
}

async fn insert_membership(
    tx: &SystemTx,
    tenant: TenantId,
    user: UserId,
    role: Role,
) -> Result<()> {
    let row = membership::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tenant),
        user_id: Set(user),
        role: Set(role),
        created_at: Set(Utc::now()),
    };
    let once = sea_orm::sea_query::OnConflict::columns([
        membership::Column::TenantId,
        membership::Column::UserId,
    ])
    .do_nothing()
    .to_owned();
    membership::Entity::insert(row).on_conflict(once).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// The same person, acting in a tenant at or below the one of `ctx`; any other is not found.
pub async fn act_in(db: &Db, ctx: &TenantCtx, tenant: TenantId) -> Result<TenantCtx> {
    let tx = db.system().await?;
    tenant_ancestry::Entity::find_by_id((ctx.tenant(), tenant))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("tenant"))?;
    Ok(ctx.within(tenant))
}
