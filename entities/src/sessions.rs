//! Logins that live on: a session a device, a refresh token that changes at each use, and how an end
//! is heard of at once.

use crate::Result;
use crate::accounts::own_doing;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{RequestId, SessionId, TenantId, UserId};
use crate::secrets::{Purpose, SecretKeys};
use crate::tables::{app_user, membership, session, tenant, tenant_ancestry};
use crate::tenancy::{Actor, Origin, Role, StoredActor, TenantCtx, TenantKind};
use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How long a refresh token lives, and how long a login may be kept alive by them.
const REFRESH_DAYS: i64 = 7;
const SESSION_DAYS: i64 = 90;
/// How long the token before the newest still gives the newest: two tabs refresh at once.
const GRACE_SECS: i64 = 10;
/// How long an access token lives at most; whoever remembers ends for longer forgets nothing.
pub const ACCESS_SECS_MAX: i64 = 3600;

/// What a verified access token says.
#[derive(Debug, Clone, Copy)]
pub struct Claims {
    pub user: UserId,
    pub tenant: TenantId,
    pub role: Role,
    pub session: SessionId,
    pub standing: Standing,
    pub impersonator: Option<UserId>,
    /// When what it says was read.
    pub made_at: DateTime<Utc>,
}

/// What else an access token says of its tenant and person, as it was when it was made; a change
/// makes the session's older tokens void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The tenant is the platform.
    pub platform: bool,
    /// The tenant, or one above it, is suspended.
    pub frozen: bool,
    /// The tenant wants a second factor, and the person has none yet.
    pub lacks_mfa: bool,
}

/// Makes the context of a request from a verified token of a session that has not ended. `acting`
/// names a descendant tenant to act in; any other is not found.
pub async fn authenticate(
    db: &Db,
    claims: Claims,
    acting: Option<TenantId>,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    let stored = StoredActor {
        impersonator: claims.impersonator,
        ..StoredActor::new(Actor::User(claims.user), claims.role, claims.standing.platform)
    };
    let ctx = TenantCtx::new(claims.tenant, &stored, request, origin)
        .of_session(claims.session, claims.standing);
    match acting {
        Some(tenant) if tenant != claims.tenant => act_below(db, &ctx, tenant).await,
        _ => Ok(ctx),
    }
}

/// The context of a login as its rights are at this moment, for what goes on when its access token has
/// expired. None of what a token says is needed; the login must not have ended.
pub(crate) async fn resume(
    db: &Db,
    id: SessionId,
    acting: TenantId,
    request: RequestId,
    origin: Origin,
) -> Result<TenantCtx> {
    let ended = || Error::refused(Code::Unauthenticated, "This login has ended. Log in again.");
    let tx = db.system().await?;
    let session = session::Entity::find_by_id(id)
        .filter(session::Column::RevokedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(Utc::now()))
        .one(tx.conn())
        .await?
        .ok_or_else(ended)?;
    let user = app_user::Entity::find_by_id(session.user_id).one(tx.conn()).await?;
    let place = match user {
        Some(user) => find_place(&tx, user, Some(session.tenant_id)).await?,
        None => None,
    };
    drop(tx);
    let place = place.ok_or_else(ended)?;
    let standing = place.standing();
    let stored = StoredActor {
        impersonator: session.impersonator_id,
        ..StoredActor::new(Actor::User(place.user.id), place.role, standing.platform)
    };
    let ctx = TenantCtx::new(place.tenant.id, &stored, request, origin).of_session(id, standing);
    match acting == ctx.tenant() {
        true => Ok(ctx),
        false => act_below(db, &ctx, acting).await,
    }
}

/// The same, for a request that names the tenant: it takes an ADMIN to act below one's own.
pub(crate) async fn act_below(db: &Db, ctx: &TenantCtx, tenant: TenantId) -> Result<TenantCtx> {
    let there = act_in(db, ctx, tenant).await?;
    if !ctx.role().reaches(Role::Admin) {
        return Err(Error::Forbidden { needed: Role::Admin.to_string() });
    }
    Ok(there)
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

/// A session as it has just begun or gone on; the refresh token is shown once.
#[derive(Debug)]
pub struct Begun {
    pub session: SessionId,
    pub refresh_token: String,
    pub user: UserId,
    pub email: String,
    pub name: String,
    pub tenant: TenantId,
    pub tenant_name: String,
    pub role: Role,
    pub standing: Standing,
    /// When this was read. An access token is made as of then: a change after it makes it void.
    pub made_at: DateTime<Utc>,
}

impl Begun {
    pub(crate) fn without_refresh(session: SessionId, place: &Place) -> Self {
        begun(session, String::new(), place)
    }

    /// What its access token says.
    #[must_use]
    pub fn claims(&self) -> Claims {
        Claims {
            user: self.user,
            tenant: self.tenant,
            role: self.role,
            session: self.session,
            standing: self.standing,
            impersonator: None,
            made_at: self.made_at,
        }
    }
}

/// A person's place in a tenant, as it is now.
#[derive(Debug, Clone)]
pub struct Place {
    pub user: app_user::Model,
    pub tenant: tenant::Model,
    pub role: Role,
}

impl Place {
    pub(crate) fn standing(&self) -> Standing {
        Standing {
            platform: self.tenant.kind == TenantKind::Platform,
            frozen: self.tenant.frozen,
            lacks_mfa: self.tenant.require_mfa && self.user.totp_enabled_at.is_none(),
        }
    }

    /// The context of this person at this place.
    pub(crate) fn ctx(&self, request: RequestId, origin: &Origin) -> TenantCtx {
        let stored = StoredActor::new(
            Actor::User(self.user.id),
            self.role,
            self.tenant.kind == TenantKind::Platform,
        );
        TenantCtx::new(self.tenant.id, &stored, request, origin.clone())
    }
}

/// The person's place in this tenant, or the oldest one; none when there is none or the person is
/// disabled. Membership and tenant stay as they are until the transaction ends: whoever changes them
/// waits, and then finds the session that was begun with them. Of the locks of one transaction this
/// comes first: membership, tenant, person, session.
pub(crate) async fn find_place(
    tx: &SystemTx,
    user: app_user::Model,
    tenant: Option<TenantId>,
) -> Result<Option<Place>> {
    if user.disabled_at.is_some() {
        return Ok(None);
    }
    let mut query = membership::Entity::find()
        .filter(membership::Column::UserId.eq(user.id))
        .order_by_asc(membership::Column::CreatedAt);
    if let Some(tenant) = tenant {
        query = query.filter(membership::Column::TenantId.eq(tenant));
    }
    let Some(member) = query.lock_shared().one(tx.conn()).await? else { return Ok(None) };
    let tenant = tenant::Entity::find_by_id(member.tenant_id)
        .lock_shared()
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("tenant"))?;
    Ok(Some(Place { user, tenant, role: member.role }))
}

/// Begins a session. The caller audits what it was begun for, and commits.
pub async fn begin(
    tx: &SystemTx,
    keys: &SecretKeys,
    place: &Place,
    origin: &Origin,
) -> Result<Begun> {
    let id = SessionId::new();
    let key = keys.newest()?;
    let token = keys.derive(key, Purpose::Refresh, id.0, 0)?.to_text();
    let now = Utc::now();
    let row = session::ActiveModel {
        id: Set(id),
        user_id: Set(place.user.id),
        tenant_id: Set(place.tenant.id),
        generation: Set(0),
        token_sha256: Set(hash(&token)),
        key_id: Set(key.to_owned()),
        rotated_at: Set(now),
        expires_at: Set(now + Duration::days(REFRESH_DAYS)),
        stale_at: NotSet,
        revoked_at: NotSet,
        impersonator_id: NotSet,
        ip: Set(origin.ip.clone()),
        user_agent: Set(origin.user_agent.clone()),
        created_at: Set(now),
    };
    session::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(begun(id, token, place))
}

fn begun(session: SessionId, refresh_token: String, place: &Place) -> Begun {
    Begun {
        session,
        refresh_token,
        user: place.user.id,
        email: place.user.email.clone(),
        name: place.user.name.clone(),
        tenant: place.tenant.id,
        tenant_name: place.tenant.name.clone(),
        role: place.role,
        standing: place.standing(),
        made_at: Utc::now(),
    }
}

/// Exchanges a refresh token for its successor. Within ten seconds the token before the newest gives
/// the same newest one again; any older one ends the session, for one of the two who have it is a
/// thief.
pub async fn refresh(
    db: &Db,
    keys: &SecretKeys,
    token: &str,
    request: RequestId,
    origin: &Origin,
) -> Result<Begun> {
    let (id, shown) = keys.recognise(Purpose::Refresh, token).ok_or_else(refresh_invalid)?;
    let tx = db.system().await?;
    let session = || session::Entity::find_by_id(SessionId(id));
    let row = session().one(tx.conn()).await?.ok_or_else(refresh_invalid)?;
    let user = app_user::Entity::find_by_id(row.user_id).one(tx.conn()).await?;
    let place = match user {
        Some(user) => find_place(&tx, user, Some(row.tenant_id)).await?,
        None => None,
    };
    let place = place.ok_or_else(refresh_invalid)?;
    let row = session()
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .filter(|row| row.revoked_at.is_none() && row.expires_at > Utc::now())
        .ok_or_else(refresh_invalid)?;
    let newest = u32::try_from(row.generation).unwrap_or(0);
    let since = Utc::now() - row.rotated_at;
    if shown == newest && row.token_sha256 == hash(token) {
        let next = rotate(&tx, keys, row, newest).await?;
        let begun = begun(SessionId(id), next, &place);
        tx.commit().await?;
        return Ok(begun);
    }
    if shown.checked_add(1) == Some(newest) && since <= Duration::seconds(GRACE_SECS) {
        let same = keys.derive(&row.key_id, Purpose::Refresh, id, newest);
        let same = same.map_err(|_its_key_is_gone| refresh_invalid())?.to_text();
        return Ok(begun(SessionId(id), same, &place));
    }
    end(&tx, Condition::all().add(session::Column::Id.eq(row.id))).await?;
    let ctx = place.ctx(request, origin);
    tx.audit(&ctx, Audit::RefreshTokenReused { session: row.id }).await?;
    tx.commit().await?;
    Err(refresh_invalid())
}

fn refresh_invalid() -> Error {
    Error::refused(Code::RefreshInvalid, "This refresh token is not valid. Log in again.")
}

async fn rotate(
    tx: &SystemTx,
    keys: &SecretKeys,
    row: session::Model,
    newest: u32,
) -> Result<String> {
    let key = keys.newest()?;
    let next = newest.checked_add(1).ok_or_else(refresh_invalid)?;
    let token = keys.derive(key, Purpose::Refresh, row.id.0, next)?.to_text();
    let now = Utc::now();
    let last = row.created_at + Duration::days(SESSION_DAYS);
    let mut row: session::ActiveModel = row.into();
    row.generation = Set(i32::try_from(next).map_err(Error::internal)?);
    row.token_sha256 = Set(hash(&token));
    row.key_id = Set(key.to_owned());
    row.rotated_at = Set(now);
    row.expires_at = Set((now + Duration::days(REFRESH_DAYS)).min(last));
    row.update(tx.conn()).await?;
    Ok(token)
}

/// What stands in the database for a token.
pub(crate) fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Ends the sessions of this condition: their refresh tokens and, once it was heard, their access
/// tokens. How many there were.
pub(crate) async fn end(tx: &SystemTx, which: Condition) -> Result<u64> {
    let done = session::Entity::update_many()
        .col_expr(session::Column::RevokedAt, Expr::value(Utc::now()))
        .filter(session::Column::RevokedAt.is_null())
        .filter(which)
        .exec(tx.conn())
        .await?;
    Ok(done.rows_affected)
}

/// Makes the access tokens of these sessions void, so that their owners refresh them and get what
/// holds now.
pub(crate) async fn make_stale(tx: &SystemTx, which: Condition) -> Result<()> {
    session::Entity::update_many()
        .col_expr(session::Column::StaleAt, Expr::value(Utc::now()))
        .filter(session::Column::RevokedAt.is_null())
        .filter(which)
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// The sessions of a person, and those in which they act as somebody else.
pub(crate) fn of_user(user: UserId) -> Condition {
    Condition::any().add(session::Column::UserId.eq(user)).add(acted_by(user))
}

/// The sessions of a person in a tenant, and those in which they act as somebody else: their right to
/// comes from a tenant that they belong to.
pub(crate) fn of_member(user: UserId, tenant: TenantId) -> Condition {
    let theirs = Condition::all()
        .add(session::Column::UserId.eq(user))
        .add(session::Column::TenantId.eq(tenant));
    Condition::any().add(theirs).add(acted_by(user))
}

fn acted_by(user: UserId) -> sea_orm::sea_query::SimpleExpr {
    session::Column::ImpersonatorId.eq(user)
}

/// The end of a session as the API remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing of it holds.
    Whole,
    /// Access tokens that were made by this time (milliseconds since 1970) do not hold.
    Before(i64),
}

impl End {
    /// Whether an access token that was made at this time holds.
    #[must_use]
    pub fn spares(self, made_at: i64) -> bool {
        match self {
            Self::Whole => false,
            Self::Before(end) => made_at > end,
        }
    }
}

/// All ends that an access token could still be subject to.
pub async fn list_recent_ends(db: &Db) -> Result<Vec<(SessionId, End)>> {
    let since = Utc::now() - Duration::seconds(ACCESS_SECS_MAX + 60);
    let tx = db.system().await?;
    let rows = session::Entity::find()
        .filter(
            Condition::any()
                .add(session::Column::RevokedAt.gt(since))
                .add(session::Column::StaleAt.gt(since)),
        )
        .all(tx.conn())
        .await?;
    Ok(rows.into_iter().filter_map(|row| end_of(&row).map(|end| (row.id, end))).collect())
}

/// The end of one session; for when ends are not heard of.
pub async fn find_end(db: &Db, id: SessionId) -> Result<Option<End>> {
    let tx = db.system().await?;
    let row = session::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(row.map_or(Some(End::Whole), |row| end_of(&row)))
}

fn end_of(row: &session::Model) -> Option<End> {
    match (row.revoked_at, row.stale_at) {
        (Some(_), _) => Some(End::Whole),
        (None, Some(at)) => Some(End::Before(at.timestamp_millis())),
        (None, None) => None,
    }
}

/// What is heard on the channel `session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    End(SessionId, End),
    /// Somebody's mark: all that was committed before it has been heard.
    Mark(Uuid),
}

/// Reads a notification: a session's id and `end` or a time, or a mark.
#[must_use]
pub fn heard(payload: &str) -> Option<Heard> {
    let Some((id, end)) = payload.split_once(' ') else {
        return Some(Heard::Mark(payload.parse().ok()?));
    };
    let end = match end {
        "end" => End::Whole,
        time => End::Before(time.parse().ok()?),
    };
    Some(Heard::End(SessionId(id.parse().ok()?), end))
}

/// Sends a mark behind all ends that are committed.
pub async fn send_mark(db: &Db, mark: Uuid) -> Result<()> {
    let tx = db.system().await?;
    tx.conn()
        .execute_raw(statement("SELECT pg_notify('session', $1)", [mark.to_string().into()]))
        .await?;
    tx.commit().await
}

/// A session as its owner sees it.
#[derive(Debug)]
pub struct Listed {
    pub id: SessionId,
    pub tenant: TenantId,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: DateTime<Utc>,
    pub used_at: DateTime<Utc>,
    pub is_current: bool,
    pub is_impersonated: bool,
}

/// The person's sessions that live, newest first.
pub async fn list_sessions(db: &Db, ctx: &TenantCtx) -> Result<Vec<Listed>> {
    let user = person(ctx)?;
    let tx = db.system().await?;
    let rows = session::Entity::find()
        .filter(session::Column::UserId.eq(user))
        .filter(session::Column::RevokedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(Utc::now()))
        .order_by_desc(session::Column::CreatedAt)
        .limit(200)
        .all(tx.conn())
        .await?;
    let listed = rows.into_iter().map(|row| Listed {
        id: row.id,
        tenant: row.tenant_id,
        ip: row.ip,
        user_agent: row.user_agent,
        created_at: row.created_at,
        used_at: row.rotated_at,
        is_current: ctx.session() == Some(row.id),
        is_impersonated: row.impersonator_id.is_some(),
    });
    Ok(listed.collect())
}

/// Ends one of the person's own sessions.
pub async fn end_session(db: &Db, ctx: &TenantCtx, id: SessionId) -> Result<()> {
    let user = person(ctx)?;
    let is_own = ctx.session() == Some(id);
    // Whoever acts as somebody else may end that, and not throw the person out.
    if !is_own {
        own_doing(ctx)?;
    }
    let tx = db.system().await?;
    let which =
        Condition::all().add(session::Column::UserId.eq(user)).add(session::Column::Id.eq(id));
    if end(&tx, which).await? == 0 {
        return Err(Error::NotFound("session"));
    }
    if is_own && ctx.impersonator().is_none() {
        end(&tx, Condition::all().add(acted_by(user))).await?;
    }
    let entry = if ctx.session() == Some(id) {
        Audit::Logout {}
    } else {
        Audit::SessionRevoked { session: id }
    };
    tx.audit(ctx, entry).await?;
    tx.commit().await
}

/// Ends all of the person's sessions, or all but this one. How many.
pub async fn end_sessions(db: &Db, ctx: &TenantCtx, keep: Option<SessionId>) -> Result<u64> {
    let user = person(ctx)?;
    own_doing(ctx)?;
    let tx = db.system().await?;
    let mut which = Condition::all().add(of_user(user));
    if let Some(keep) = keep {
        which = which.add(session::Column::Id.ne(keep));
    }
    let count = end(&tx, which).await?;
    tx.audit(ctx, Audit::SessionsRevoked { user, count }).await?;
    tx.commit().await?;
    Ok(count)
}

/// The person behind a context; a key has no sessions and no profile.
pub(crate) fn person(ctx: &TenantCtx) -> Result<UserId> {
    ctx.user().ok_or_else(|| {
        Error::refused(Code::Forbidden, "No API key may do this. Log in with a password.")
    })
}

/// The same person in another tenant that they are a member of: a session there. This one goes on.
pub async fn switch_tenant(
    db: &Db,
    keys: &SecretKeys,
    ctx: &TenantCtx,
    tenant: TenantId,
) -> Result<Begun> {
    let user = person(ctx)?;
    if ctx.impersonator().is_some() {
        let text = "Who acts as somebody else stays in the tenant. End the impersonation first.";
        return Err(Error::refused(Code::Forbidden, text));
    }
    let tx = db.system().await?;
    let user = app_user::Entity::find_by_id(user).one(tx.conn()).await?;
    let place = match user {
        Some(user) => find_place(&tx, user, Some(tenant)).await?,
        None => None,
    };
    let place = place.ok_or(Error::NotFound("tenant"))?;
    let begun = begin(&tx, keys, &place, ctx.origin()).await?;
    let there = place.ctx(ctx.request(), ctx.origin());
    tx.audit(&there, Audit::TenantSwitch { from: ctx.tenant(), to: tenant }).await?;
    tx.commit().await?;
    Ok(begun)
}
