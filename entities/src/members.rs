//! Who belongs to a tenant, with which role. Nobody gives, changes or takes a role above their own,
//! and a tenant keeps an owner.

use crate::Result;
use crate::accounts::{self, Asking};
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::error::{Code, Error};
use crate::ids::{LinkId, TenantId, UserId};
use crate::keys;
use crate::links::{self, Deed};
use crate::mail::{self, Letter};
use crate::mfa;
use crate::secrets::{Purpose, SecretKeys};
use crate::sessions;
use crate::tables::{app_user, invitation, membership, tenant_ancestry};
use crate::tenancy::{Actor, Permission, Role, StoredActor, TenantCtx};
use crate::tenants;
use chrono::{DateTime, Duration, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, Query},
};
use serde_json::json;

/// How long an invitation may be accepted.
const INVITATION_DAYS: i64 = 7;

/// A person as their tenant sees them.
#[derive(Debug)]
pub struct Member {
    pub user: UserId,
    pub email: String,
    pub name: String,
    pub role: Role,
    pub has_mfa: bool,
    pub is_verified: bool,
    pub since: DateTime<Utc>,
}

/// What members are listed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Email,
    Name,
    Since,
}

/// Which members are listed.
#[derive(Debug)]
pub struct Wanted<'w> {
    /// A part of the address or the name.
    pub text: Option<&'w str>,
    pub role: Option<Role>,
    pub order: Order,
    pub descending: bool,
    pub offset: u64,
    pub limit: u64,
}

/// A page of the members of the tenant that `ctx` acts in, and how many there are. Recorded.
pub async fn list_members(
    db: &Db,
    ctx: &TenantCtx,
    wanted: &Wanted<'_>,
) -> Result<(Vec<Member>, u64)> {
    ctx.require(Permission::UsersRead)?;
    let tx = db.system().await?;
    let mut query = app_user::Entity::find()
        .inner_join_members()
        .filter(membership::Column::TenantId.eq(ctx.tenant()));
    if let Some(role) = wanted.role {
        query = query.filter(membership::Column::Role.eq(role));
    }
    if let Some(text) = wanted.text {
        let like = format!("%{}%", escaped(&text.to_lowercase()));
        query = query.filter(Expr::cust_with_values(
            "lower(app_user.email || ' ' || app_user.name) LIKE $1",
            [like],
        ));
    }
    let total = query.clone().count(tx.conn()).await?;
    let way = if wanted.descending { sea_orm::Order::Desc } else { sea_orm::Order::Asc };
    query = match wanted.order {
        Order::Email => query.order_by(app_user::Column::Email, way),
        Order::Name => query.order_by(app_user::Column::Name, way),
        Order::Since => query.order_by(membership::Column::CreatedAt, way),
    };
    let rows = query
        .order_by_asc(app_user::Column::Id)
        .offset(wanted.offset)
        .limit(wanted.limit)
        .all(tx.conn())
        .await?;
    tx.audit(ctx, Audit::TenantUsersListed { count: rows.len() }).await?;
    tx.commit().await?;
    Ok((rows.into_iter().filter_map(|(user, member)| Some(seen(user, &member?))).collect(), total))
}

trait WithMembership {
    fn inner_join_members(self) -> sea_orm::SelectTwo<app_user::Entity, membership::Entity>;
}

impl WithMembership for sea_orm::Select<app_user::Entity> {
    fn inner_join_members(self) -> sea_orm::SelectTwo<app_user::Entity, membership::Entity> {
        self.join(
            sea_orm::JoinType::InnerJoin,
            app_user::Entity::belongs_to(membership::Entity)
                .from(app_user::Column::Id)
                .to(membership::Column::UserId)
                .into(),
        )
        .select_also(membership::Entity)
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn seen(user: app_user::Model, member: &membership::Model) -> Member {
    Member {
        user: user.id,
        email: user.email,
        name: user.name,
        role: member.role,
        has_mfa: user.totp_enabled_at.is_some(),
        is_verified: user.email_verified_at.is_some(),
        since: member.created_at,
    }
}

/// One member of the tenant that `ctx` acts in. Recorded.
pub async fn find_member(db: &Db, ctx: &TenantCtx, id: UserId) -> Result<Member> {
    ctx.require(Permission::UsersRead)?;
    let tx = db.system().await?;
    let (user, member) = load(&tx, ctx.tenant(), id).await?;
    tx.audit(ctx, Audit::TenantUserViewed { user: id }).await?;
    tx.commit().await?;
    Ok(seen(user, &member))
}

/// Records that an administrator lifts a member's lock-out; gives the address that it is on.
pub async fn unlock_member(db: &Db, ctx: &TenantCtx, id: UserId) -> Result<String> {
    ctx.require_write(Permission::UsersWrite)?;
    let tx = db.system().await?;
    let (user, member) = load(&tx, ctx.tenant(), id).await?;
    helps(ctx, member.role)?;
    tx.audit(ctx, Audit::AccountUnlocked { user: id }).await?;
    tx.commit().await?;
    Ok(user.email)
}

/// Helping a person back in: whoever acts from above helps the last owner, too.
fn helps(ctx: &TenantCtx, role: Role) -> Result<()> {
    if ctx.home() == ctx.tenant() { ctx.at_most_own(role) } else { Ok(()) }
}

/// Takes a member's lost second factor away; all their sessions end.
pub async fn reset_mfa(db: &Db, ctx: &TenantCtx, id: UserId) -> Result<()> {
    ctx.require_write(Permission::UsersWrite)?;
    accounts::own_doing(ctx)?;
    let tx = db.system().await?;
    let (user, member) = load(&tx, ctx.tenant(), id).await?;
    helps(ctx, member.role)?;
    if others(&tx, ctx.tenant(), id).await? > 0 && !ctx.is_platform_staff() {
        let text = "This person belongs to other tenants, too: ask the platform's staff.";
        return Err(Error::refused(Code::Forbidden, text));
    }
    if user.totp_enabled_at.is_none() {
        return Err(Error::refused(Code::Conflict, "There is no second factor in use."));
    }
    mfa::remove(&tx, &user).await?;
    sessions::end(&tx, sessions::of_user(id)).await?;
    tx.audit(ctx, Audit::MfaReset { user: id }).await?;
    tx.commit().await
}

async fn load(
    tx: &SystemTx,
    tenant: TenantId,
    id: UserId,
) -> Result<(app_user::Model, membership::Model)> {
    let member = membership::Entity::find()
        .filter(membership::Column::TenantId.eq(tenant))
        .filter(membership::Column::UserId.eq(id))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("user"))?;
    let user =
        app_user::Entity::find_by_id(id).one(tx.conn()).await?.ok_or(Error::NotFound("user"))?;
    Ok((user, member))
}

/// Changes of one tenant's members come one after the other: the last owner stays whoever else
/// leaves at the same moment.
async fn alone(tx: &SystemTx, tenant: TenantId) -> Result<()> {
    tx.conn()
        .execute_raw(statement(
            "SELECT pg_advisory_xact_lock(hashtextextended('members ' || $1, 0))",
            [tenant.to_string().into()],
        ))
        .await?;
    Ok(())
}

/// Refuses one member more than the tenant may have.
pub(crate) async fn room_for_one(tx: &SystemTx, tenant: TenantId) -> Result<()> {
    tenants::reserve(
        tx.conn(),
        tenant,
        |l| l.members,
        "members",
        async |conn| {
            let members = membership::Entity::find()
                .filter(membership::Column::TenantId.eq(tenant))
                .count(conn);
            let open = open_invitations(tenant).count(conn);
            Ok(members.await? + open.await?)
        },
    )
    .await
}

fn open_invitations(tenant: TenantId) -> sea_orm::Select<invitation::Entity> {
    invitation::Entity::find()
        .filter(invitation::Column::TenantId.eq(tenant))
        .filter(invitation::Column::AcceptedAt.is_null())
        .filter(invitation::Column::RevokedAt.is_null())
        .filter(invitation::Column::ExpiresAt.gt(Utc::now()))
}

/// Makes a new person, with a password, a member of the tenant that `ctx` acts in; they log in once
/// they have opened the link that is mailed to them, or at once when the platform's staff adds them.
/// One who exists already is refused, since only they may say what tenants they belong to: invite them.
pub async fn add_member(
    db: &Db,
    ctx: &TenantCtx,
    email: &str,
    password_hash: String,
    role: Role,
) -> Result<Member> {
    ctx.require_write(Permission::MembersWrite)?;
    ctx.gives_rights()?;
    ctx.at_most_own(role)?;
    let tx = db.system_as(ctx).await?;
    room_for_one(&tx, ctx.tenant()).await?;
    // Anybody may have a tenant, and nobody takes an address into use that they cannot read. The
    // platform's staff is believed.
    let is_verified = ctx.is_platform_staff();
    let made = accounts::insert_user(&tx, email, "", password_hash, is_verified).await;
    let id = made.map_err(|error| match error.code() {
        Code::Conflict => {
            let text = "This address has a login already. Invite the person instead.";
            Error::refused(Code::Conflict, text)
        }
        _ => error,
    })?;
    if !is_verified {
        let link = links::make(&tx, id, Deed::VerifyEmail, email).await?;
        mail::write(&tx, email, &Letter::VerifyEmail { link }).await?;
    }
    accounts::insert_membership(&tx, ctx.tenant(), id, role).await?;
    let (user, member) = load(&tx, ctx.tenant(), id).await?;
    tx.audit(ctx, Audit::UserCreated { user: id, email: user.email.clone() }).await?;
    tx.audit(ctx, Audit::MemberAdded { email: user.email.clone(), role: role.to_string() }).await?;
    tx.commit().await?;
    Ok(seen(user, &member))
}

/// What changes of a member; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    pub role: Option<Role>,
    pub name: Option<String>,
}

/// Changes a member's role or name. The tokens of one whose role changes are made again.
pub async fn update_member(db: &Db, ctx: &TenantCtx, id: UserId, change: Change) -> Result<Member> {
    ctx.require_write(Permission::MembersWrite)?;
    if change.role.is_some() {
        ctx.gives_rights()?;
    }
    let tx = db.system().await?;
    alone(&tx, ctx.tenant()).await?;
    let (mut user, mut member) = load(&tx, ctx.tenant(), id).await?;
    ctx.at_most_own(member.role)?;
    if let Some(role) = change.role.filter(|role| *role != member.role) {
        ctx.at_most_own(role)?;
        if member.role == Role::Owner {
            other_owner(&tx, ctx.tenant(), id).await?;
        }
        let before = member.role;
        let mut active: membership::ActiveModel = member.into();
        active.role = Set(role);
        member = active.update(tx.conn()).await?;
        sessions::make_stale(&tx, sessions::of_member(id, ctx.tenant())).await?;
        take_back_invitations(&tx, ctx.tenant(), id).await?;
        let (before, after) = (json!({ "role": before }), json!({ "role": role }));
        tx.audit(ctx, Audit::MemberUpdated { user: id, before, after }).await?;
    }
    if let Some(name) = change.name.filter(|name| *name != user.name) {
        if others(&tx, ctx.tenant(), id).await? > 0 {
            let text =
                "This person belongs to other tenants, too: they change their name themselves.";
            return Err(Error::refused(Code::Forbidden, text));
        }
        let before = user.name.clone();
        let mut active: app_user::ActiveModel = user.into();
        active.name = Set(name.clone());
        user = active.update(tx.conn()).await?;
        let (before, after) = (json!({ "name": before }), json!({ "name": name }));
        tx.audit(ctx, Audit::UserUpdated { user: id, before, after }).await?;
    }
    tx.commit().await?;
    Ok(seen(user, &member))
}

async fn other_owner(tx: &SystemTx, tenant: TenantId, than: UserId) -> Result<()> {
    let others = membership::Entity::find()
        .filter(membership::Column::TenantId.eq(tenant))
        .filter(membership::Column::Role.eq(Role::Owner))
        .filter(membership::Column::UserId.ne(than))
        .count(tx.conn())
        .await?;
    if others == 0 {
        let text = "The last owner of a tenant stays. Make somebody else an owner first.";
        return Err(Error::refused(Code::Conflict, text));
    }
    Ok(())
}

async fn others(tx: &SystemTx, tenant: TenantId, user: UserId) -> Result<u64> {
    Ok(membership::Entity::find()
        .filter(membership::Column::UserId.eq(user))
        .filter(membership::Column::TenantId.ne(tenant))
        .count(tx.conn())
        .await?)
}

/// Takes a member out of the tenant; anybody may leave by themselves. Their sessions in it end, and
/// keys that they made in it work no more. Whoever belongs to no tenant then is deleted: nothing of
/// the person stays but the id in the trail.
pub async fn remove_member(db: &Db, ctx: &TenantCtx, id: UserId) -> Result<()> {
    let leaves = ctx.user() == Some(id) && ctx.home() == ctx.tenant();
    if leaves {
        ctx.require(Permission::ProfileWrite)?;
        accounts::own_doing(ctx)?;
    } else {
        ctx.require_write(Permission::MembersRemove)?;
    }
    let tx = db.system().await?;
    alone(&tx, ctx.tenant()).await?;
    let (user, member) = load(&tx, ctx.tenant(), id).await?;
    ctx.at_most_own(member.role)?;
    if member.role == Role::Owner {
        other_owner(&tx, ctx.tenant(), id).await?;
    }
    membership::Entity::delete_by_id(member.id).exec(tx.conn()).await?;
    sessions::end(&tx, sessions::of_member(id, ctx.tenant())).await?;
    take_back_invitations(&tx, ctx.tenant(), id).await?;
    keys::revoke_keys_of(&tx, ctx, id).await?;
    let email = user.email.clone();
    let before = json!({ "email": email, "role": member.role });
    tx.audit(ctx, Audit::MemberRemoved { user: id, before }).await?;
    if others(&tx, ctx.tenant(), id).await? == 0 {
        forget(&tx, user).await?;
        tx.audit(ctx, Audit::UserDeleted { user: id, before: json!({ "email": email }) }).await?;
    }
    tx.commit().await
}

/// Takes back what a person has invited to, in this tenant and below: their right to has changed.
async fn take_back_invitations(tx: &SystemTx, tenant: TenantId, by: UserId) -> Result<()> {
    let below = Query::select()
        .column(tenant_ancestry::Column::DescendantId)
        .from(tenant_ancestry::Entity)
        .and_where(tenant_ancestry::Column::AncestorId.eq(tenant))
        .take();
    let theirs = sea_orm::Condition::all()
        .add(invitation::Column::InvitedBy.eq(by))
        .add(invitation::Column::TenantId.in_subquery(below));
    close(tx, theirs).await.map(|_count| ())
}

async fn forget(tx: &SystemTx, user: app_user::Model) -> Result<()> {
    let id = user.id;
    let mut active: app_user::ActiveModel = user.into();
    // No address that anybody can have (RFC 2606), so that the old one may be registered again.
    active.email = Set(format!("{id}@deleted.invalid"));
    active.name = Set(String::new());
    active.password_hash = Set("!".to_owned());
    active.totp_secret = Set(None);
    active.totp_enabled_at = Set(None);
    active.disabled_at = Set(Some(Utc::now()));
    active.update(tx.conn()).await?;
    sessions::end(tx, sessions::of_user(id)).await?;
    Ok(())
}

/// Invites somebody by mail into the tenant that `ctx` acts in.
pub async fn invite(
    db: &Db,
    ctx: &TenantCtx,
    email: &str,
    role: Role,
) -> Result<invitation::Model> {
    ctx.require_write(Permission::MembersWrite)?;
    ctx.gives_rights()?;
    ctx.at_most_own(role)?;
    let email = email.trim().to_lowercase();
    let tx = db.system_as(ctx).await?;
    let tenant = tenants::row(&tx, ctx.tenant()).await?;
    let already = app_user::Entity::find()
        .inner_join_members()
        .filter(app_user::Column::Email.eq(email.as_str()))
        .filter(membership::Column::TenantId.eq(tenant.id))
        .count(tx.conn())
        .await?;
    if already > 0 {
        let text = "This person is a member already. Change the role instead.";
        return Err(Error::refused(Code::Conflict, text));
    }
    // An old one that nobody accepted stands in nobody's way, unless it offers more.
    let old = open_invitations(tenant.id).filter(invitation::Column::Email.eq(email.as_str()));
    for old in old.all(tx.conn()).await? {
        ctx.at_most_own(old.role)?;
    }
    close(&tx, open_to(tenant.id, &email)).await?;
    room_for_one(&tx, tenant.id).await?;
    let id = LinkId::new();
    let now = Utc::now();
    let row = invitation::ActiveModel {
        id: Set(id),
        tenant_id: Set(tenant.id),
        email: Set(email.clone()),
        role: Set(role),
        invited_by: Set(keys::person_behind(&tx, ctx).await?),
        expires_at: Set(now + Duration::days(INVITATION_DAYS)),
        accepted_at: NotSet,
        revoked_at: NotSet,
        created_at: Set(now),
    };
    let row = row.insert(tx.conn()).await?;
    let letter = Letter::Invitation { link: id, tenant: tenant.name, role };
    mail::write(&tx, &email, &letter).await?;
    tx.audit(ctx, Audit::InvitationCreated { invitation: id, email, role: role.to_string() })
        .await?;
    tx.commit().await?;
    Ok(row)
}

fn open_to(tenant: TenantId, email: &str) -> sea_orm::Condition {
    sea_orm::Condition::all()
        .add(invitation::Column::TenantId.eq(tenant))
        .add(invitation::Column::Email.eq(email))
}

async fn close(tx: &SystemTx, which: sea_orm::Condition) -> Result<u64> {
    let done = invitation::Entity::update_many()
        .col_expr(invitation::Column::RevokedAt, Expr::value(Utc::now()))
        .filter(invitation::Column::AcceptedAt.is_null())
        .filter(invitation::Column::RevokedAt.is_null())
        .filter(which)
        .exec(tx.conn())
        .await?;
    Ok(done.rows_affected)
}

/// A page of the invitations that wait, newest first, and how many there are.
pub async fn list_invitations(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<invitation::Model>, u64)> {
    let query = open_invitations(tx.tenant());
    let total = query.clone().count(tx.conn()).await?;
    let rows = query
        .order_by_desc(invitation::Column::CreatedAt)
        .order_by_desc(invitation::Column::Id)
        .offset(offset)
        .limit(limit)
        .all(tx.conn())
        .await?;
    Ok((rows, total))
}

/// Takes an invitation back. Nobody does so with one to a role above their own.
pub async fn revoke_invitation(db: &Db, ctx: &TenantCtx, id: LinkId) -> Result<()> {
    ctx.require_write(Permission::MembersRemove)?;
    let tx = db.system().await?;
    let open = open_invitations(ctx.tenant()).filter(invitation::Column::Id.eq(id));
    let open = open.one(tx.conn()).await?.ok_or(Error::NotFound("invitation"))?;
    ctx.at_most_own(open.role)?;
    let which = sea_orm::Condition::all()
        .add(invitation::Column::TenantId.eq(ctx.tenant()))
        .add(invitation::Column::Id.eq(id));
    if close(&tx, which).await? == 0 {
        return Err(Error::NotFound("invitation"));
    }
    tx.audit(ctx, Audit::InvitationRevoked { invitation: id }).await?;
    tx.commit().await
}

/// Whom an invitation is for, and whether they have a login already. One whose address was never
/// verified is nobody's yet.
pub async fn invited(db: &Db, keys: &SecretKeys, token: &str) -> Result<(String, bool)> {
    let tx = db.system().await?;
    let row = open_invitation(&tx, keys, token).await?;
    let known = app_user::Entity::find()
        .filter(app_user::Column::Email.eq(row.email.as_str()))
        .filter(app_user::Column::EmailVerifiedAt.is_not_null())
        .count(tx.conn())
        .await?;
    Ok((row.email, known > 0))
}

async fn open_invitation(
    tx: &SystemTx,
    keys: &SecretKeys,
    token: &str,
) -> Result<invitation::Model> {
    let (id, _) = keys.recognise(Purpose::Link, token).ok_or_else(links::invalid)?;
    invitation::Entity::find_by_id(LinkId(id))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .filter(|row| {
            row.accepted_at.is_none() && row.revoked_at.is_none() && row.expires_at > Utc::now()
        })
        .ok_or_else(links::invalid)
}

/// Accepts an invitation. The link proves the address: whoever has a login there becomes a member
/// with it, anybody else gets one with this password (`new`: name and hash).
pub async fn accept_invitation(
    db: &Db,
    keys: &SecretKeys,
    token: &str,
    new: Option<(String, String)>,
    asking: &Asking,
) -> Result<TenantId> {
    let tx = db.system().await?;
    let row = open_invitation(&tx, keys, token).await?;
    if tenants::row(&tx, row.tenant_id).await?.frozen {
        let text = "This tenant is suspended: nobody joins it until it goes on.";
        return Err(Error::refused(Code::TenantSuspended, text));
    }
    let known = app_user::Entity::find()
        .filter(app_user::Column::Email.eq(row.email.as_str()))
        .one(tx.conn())
        .await?;
    let stored = |user| StoredActor::new(Actor::User(user), row.role, false);
    let ctx =
        |user| TenantCtx::new(row.tenant_id, &stored(user), asking.request, asking.origin.clone());
    let user = match (known, new) {
        (Some(user), _) if user.disabled_at.is_some() => return Err(links::invalid()),
        (Some(user), _) if user.email_verified_at.is_some() => user.id,
        // Whoever has chosen its password could not read the mailbox, and this one can.
        (Some(user), Some((name, hash))) => {
            let id = user.id;
            let mut active: app_user::ActiveModel = user.into();
            active.password_hash = Set(hash);
            active.name = Set(name);
            active.totp_secret = Set(None);
            active.totp_enabled_at = Set(None);
            active.email_verified_at = Set(Some(Utc::now()));
            active.update(tx.conn()).await?;
            sessions::end(&tx, sessions::of_user(id)).await?;
            links::expire_all(&tx, id).await?;
            tx.audit(&ctx(id), Audit::EmailVerified { user: id, email: row.email.clone() }).await?;
            id
        }
        (None, Some((name, hash))) => {
            let id = accounts::insert_user(&tx, &row.email, &name, hash, true).await?;
            tx.audit(&ctx(id), Audit::UserCreated { user: id, email: row.email.clone() }).await?;
            id
        }
        (_, None) => {
            return Err(Error::field("password", "choose one: this address has no login yet"));
        }
    };
    alone(&tx, row.tenant_id).await?;
    accounts::insert_membership(&tx, row.tenant_id, user, row.role).await?;
    let (email, role) = (row.email.clone(), row.role.to_string());
    tx.audit(&ctx(user), Audit::InvitationAccepted { invitation: row.id, user }).await?;
    tx.audit(&ctx(user), Audit::MemberAdded { email, role }).await?;
    let tenant = row.tenant_id;
    let mut active: invitation::ActiveModel = row.into();
    active.accepted_at = Set(Some(Utc::now()));
    active.update(tx.conn()).await?;
    tx.commit().await?;
    Ok(tenant)
}
