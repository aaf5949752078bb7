//! People: registering, logging in, passwords and addresses.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx};
use crate::error::{Code, Error};
use crate::ids::{RequestId, TenantId, UserId};
use crate::links::{self, Deed};
use crate::mail::{self, Letter};
use crate::mfa::{self, Factor};
use crate::secrets::SecretKeys;
use crate::sessions::{self, Begun, Place};
use crate::tables::{app_user, membership};
use crate::tenancy::{Actor, Origin, Role, StoredActor, TenantCtx, TenantKind};
use crate::tenants;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
};
use serde_json::json;

/// Somebody who may log in.
#[derive(Debug, Clone)]
pub struct Known {
    place: Place,
}

impl Known {
    /// Who it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.place.user.id
    }

    /// What a password is compared with.
    #[must_use]
    pub fn password_hash(&self) -> &str {
        &self.place.user.password_hash
    }

    pub(crate) fn ctx(&self, asking: &Asking) -> TenantCtx {
        self.place.ctx(asking.request, &asking.origin)
    }

    /// The tenant that is logged in to.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.place.tenant.id
    }
}

/// Who asks without being logged in.
#[derive(Debug, Clone)]
pub struct Asking {
    pub request: RequestId,
    pub origin: Origin,
}

/// Finds the person of this address with their oldest membership; nobody when there is none or it
/// was disabled.
pub async fn find_login(db: &Db, email: &str) -> Result<Option<Known>> {
    let tx = db.system().await?;
    let Some(user) = by_email(&tx, email).await? else { return Ok(None) };
    let place = sessions::find_place(&tx, user, None).await?;
    Ok(place.map(|place| Known { place }))
}

async fn by_email(tx: &SystemTx, email: &str) -> Result<Option<app_user::Model>> {
    Ok(app_user::Entity::find()
        .filter(app_user::Column::Email.eq(normal(email)))
        .one(tx.conn())
        .await?)
}

/// Whether somebody has a login at this address.
pub(crate) async fn is_known(tx: &SystemTx, email: &str) -> Result<bool> {
    Ok(by_email(tx, email).await?.is_some())
}

fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

/// What was shown at a login.
#[derive(Debug)]
pub struct Shown {
    /// Whose password it was.
    pub known: Known,
    pub factor: Option<Factor>,
    /// Replaces a hash of the old kind.
    pub rehashed: Option<String>,
}

/// Goes on with a login whose password was right: the address must be verified, and the second
/// factor given by whoever has one. None when the password was changed since it was compared.
pub async fn log_in(
    db: &Db,
    keys: &SecretKeys,
    shown: Shown,
    asking: &Asking,
) -> Result<Option<Begun>> {
    let Shown { known, factor, rehashed } = shown;
    let tx = db.system().await?;
    // Read anew: comparing the password took its time, in which rights may have been taken away.
    let place = sessions::find_place(&tx, known.place.user, None).await?;
    let mut place = place.ok_or_else(|| Error::refused(Code::InvalidCredentials, WRONG))?;
    // Locked, so that of two who show the same code one comes too late.
    let compared = place.user.password_hash;
    place.user = app_user::Entity::find_by_id(place.user.id)
        .filter(app_user::Column::DisabledAt.is_null())
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .ok_or_else(|| Error::refused(Code::InvalidCredentials, WRONG))?;
    if place.user.password_hash != compared {
        return Ok(None);
    }
    if place.user.email_verified_at.is_none() {
        let text = "This address is not verified yet: open the link that was mailed to it, or ask \
                    for another at POST /api/auth/resend-verification.";
        return Err(Error::refused(Code::EmailUnverified, text));
    }
    let ctx = place.ctx(asking.request, &asking.origin);
    mfa::require(&tx, keys, &ctx, &place.user, factor).await?;
    if let Some(hash) = rehashed {
        set_hash(&tx, place.user.id, hash).await?;
        tx.audit(&ctx, Audit::PasswordHashMigrated { user: place.user.id }).await?;
    }
    let begun = sessions::begin(&tx, keys, &place, &asking.origin).await?;
    tx.audit(&ctx, Audit::Login { second_factor: place.user.totp_enabled_at.is_some() }).await?;
    tx.commit().await?;
    Ok(Some(begun))
}

/// What a failed login is told, whatever was wrong.
pub const WRONG: &str = "The address or the password is wrong. Check both and try again.";

/// Records that somebody gave a wrong password, or a wrong second factor, for a known person.
pub async fn record_failure(db: &Db, login: &Known, asking: &Asking, reason: &str) -> Result<()> {
    let tx = db.system().await?;
    let ctx = login.ctx(asking);
    let entry = Audit::LoginFailed { reason: reason.to_owned(), count: 1, since: None };
    tx.audit(&ctx, entry).await?;
    tx.commit().await
}

/// Records that a login was locked after too many failures, and tells its owner.
pub async fn record_lock(
    db: &Db,
    login: &Known,
    asking: &Asking,
    until: DateTime<Utc>,
) -> Result<()> {
    let tx = db.system().await?;
    let ctx = login.ctx(asking);
    let email = &login.place.user.email;
    mail::write(&tx, email, &Letter::AccountLocked).await?;
    tx.audit(&ctx, Audit::AccountLocked { user: login.place.user.id, until }).await?;
    tx.commit().await
}

/// A new customer.
#[derive(Debug, Clone)]
pub struct Registration {
    pub email: String,
    pub name: String,
    /// The tenant's name.
    pub company: String,
    pub password_hash: String,
}

/// Makes a customer of the platform with an owner, who has to verify the address. An address that
/// has a login already gets a letter that says so; the caller hears the same.
pub async fn register(db: &Db, new: Registration, asking: &Asking) -> Result<()> {
    let tx = db.system().await?;
    let platform = tenants::platform(&tx).await?.ok_or(Error::NotFound("tenant"))?;
    let email = normal(&new.email);
    if by_email(&tx, &email).await?.is_some() {
        mail::write(&tx, &email, &Letter::AccountExists).await?;
        return tx.commit().await;
    }
    let tenant = tenants::insert(&tx, TenantKind::Customer, &new.company, Some(platform)).await?;
    let user = insert_user(&tx, &email, &new.name, new.password_hash, false).await?;
    insert_membership(&tx, tenant, user, Role::Owner).await?;
    let stored = StoredActor::new(Actor::User(user), Role::Owner, false);
    let ctx = TenantCtx::new(tenant, &stored, asking.request, asking.origin.clone());
    tx.audit(&ctx, Audit::TenantCreated { id: tenant, name: new.company }).await?;
    tx.audit(&ctx, Audit::UserCreated { user, email: email.clone() }).await?;
    let link = links::make(&tx, user, Deed::VerifyEmail, &email).await?;
    mail::write(&tx, &email, &Letter::VerifyEmail { link }).await?;
    tx.commit().await
}

/// Mails another link to an address that is not verified; nothing to any other.
pub async fn resend_verification(db: &Db, email: &str) -> Result<()> {
    let tx = db.system().await?;
    let user = by_email(&tx, email).await?;
    let Some(user) = user.filter(|u| u.email_verified_at.is_none() && u.disabled_at.is_none())
    else {
        return Ok(());
    };
    let link = links::make(&tx, user.id, Deed::VerifyEmail, &user.email).await?;
    mail::write(&tx, &user.email, &Letter::VerifyEmail { link }).await?;
    tx.commit().await
}

/// The link of [`register`] was opened.
pub async fn verify_email(db: &Db, keys: &SecretKeys, token: &str, asking: &Asking) -> Result<()> {
    let tx = db.system().await?;
    let link = links::take(&tx, keys, token, Deed::VerifyEmail).await?;
    let user = locked(&tx, link.user_id).await?.filter(|u| u.email == link.email);
    let user = user.ok_or_else(links::invalid)?;
    let ctx = somewhere(&tx, &user, asking).await?;
    let mut row: app_user::ActiveModel = user.into();
    row.email_verified_at = Set(Some(Utc::now()));
    let user = row.update(tx.conn()).await?;
    if let Some(ctx) = ctx {
        tx.audit(&ctx, Audit::EmailVerified { user: user.id, email: user.email }).await?;
    }
    tx.commit().await
}

/// Mails a link that sets a new password, to an address that has a login; nothing to any other.
pub async fn forgot_password(db: &Db, email: &str, asking: &Asking) -> Result<()> {
    let tx = db.system().await?;
    let Some(user) = by_email(&tx, email).await?.filter(|u| u.disabled_at.is_none()) else {
        return Ok(());
    };
    let link = links::make(&tx, user.id, Deed::ResetPassword, &user.email).await?;
    mail::write(&tx, &user.email, &Letter::ResetPassword { link }).await?;
    if let Some(ctx) = somewhere(&tx, &user, asking).await? {
        tx.audit(&ctx, Audit::PasswordResetRequested { user: user.id }).await?;
    }
    tx.commit().await
}

/// Whose link this is, without using it up: what the new password may not be made of.
pub async fn link_owner(db: &Db, keys: &SecretKeys, token: &str) -> Result<app_user::Model> {
    let tx = db.system().await?;
    let link = links::take(&tx, keys, token, Deed::ResetPassword).await?;
    app_user::Entity::find_by_id(link.user_id).one(tx.conn()).await?.ok_or_else(links::invalid)
}

/// Sets a new password by a mailed link, which also proves the address. All sessions end.
pub async fn reset_password(
    db: &Db,
    keys: &SecretKeys,
    token: &str,
    password_hash: String,
    asking: &Asking,
) -> Result<UserId> {
    let tx = db.system().await?;
    let link = links::take(&tx, keys, token, Deed::ResetPassword).await?;
    let user = locked(&tx, link.user_id).await?.filter(|u| u.email == link.email);
    let user = user.filter(|u| u.disabled_at.is_none()).ok_or_else(links::invalid)?;
    let ctx = somewhere(&tx, &user, asking).await?;
    let (id, email) = (user.id, user.email.clone());
    let verified = user.email_verified_at.or_else(|| Some(Utc::now()));
    let mut row: app_user::ActiveModel = user.into();
    row.password_hash = Set(password_hash);
    row.email_verified_at = Set(verified);
    row.update(tx.conn()).await?;
    sessions::end(&tx, sessions::of_user(id)).await?;
    // Above all an address that whoever had the old password has asked for.
    links::expire_all(&tx, id).await?;
    mail::write(&tx, &email, &Letter::PasswordChanged).await?;
    if let Some(ctx) = ctx {
        tx.audit(&ctx, Audit::PasswordReset { user: id }).await?;
    }
    tx.commit().await?;
    Ok(id)
}

/// The person behind a context, with the hash to compare.
pub async fn find_self(db: &Db, ctx: &TenantCtx) -> Result<app_user::Model> {
    let tx = db.system().await?;
    app_user::Entity::find_by_id(sessions::person(ctx)?)
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("user"))
}

/// Sets a new password for the person behind a context. All sessions end; a new one begins.
pub async fn change_password(
    db: &Db,
    keys: &SecretKeys,
    ctx: &TenantCtx,
    old_hash: &str,
    password_hash: String,
) -> Result<Begun> {
    own_doing(ctx)?;
    let tx = db.system().await?;
    let id = sessions::person(ctx)?;
    let user = app_user::Entity::find_by_id(id).one(tx.conn()).await?;
    let place = match user {
        Some(user) => sessions::find_place(&tx, user, Some(ctx.home())).await?,
        None => None,
    };
    let mut place = place.ok_or(Error::NotFound("user"))?;
    let user = locked(&tx, id).await?;
    // Somebody else may have changed it since it was compared.
    let user = user.filter(|u| u.password_hash == old_hash).ok_or_else(|| {
        Error::refused(Code::Conflict, "The password was changed meanwhile. Try again.")
    })?;
    set_hash(&tx, user.id, password_hash).await?;
    sessions::end(&tx, sessions::of_user(user.id)).await?;
    links::expire_all(&tx, user.id).await?;
    mail::write(&tx, &user.email, &Letter::PasswordChanged).await?;
    tx.audit(ctx, Audit::PasswordChanged { user: user.id }).await?;
    place.user = user;
    let begun = sessions::begin(&tx, keys, &place, ctx.origin()).await?;
    tx.commit().await?;
    Ok(begun)
}

/// Mails a link to the new address; the old one holds until it is opened.
pub async fn request_email_change(db: &Db, ctx: &TenantCtx, email: &str) -> Result<()> {
    own_doing(ctx)?;
    let tx = db.system_as(ctx).await?;
    let user = locked(&tx, sessions::person(ctx)?).await?.ok_or(Error::NotFound("user"))?;
    let email = normal(email);
    let taken = by_email(&tx, &email).await?.is_some();
    // Whether somebody else has it is told to its owner only.
    if taken {
        mail::write(&tx, &email, &Letter::AccountExists).await?;
    } else {
        let link = links::make(&tx, user.id, Deed::ChangeEmail, &email).await?;
        mail::write(&tx, &email, &Letter::ChangeEmail { link }).await?;
    }
    tx.audit(ctx, Audit::EmailChangeRequested { user: user.id, to: email }).await?;
    tx.commit().await
}

/// The link of [`request_email_change`] was opened: the new address is the login now.
pub async fn change_email(db: &Db, keys: &SecretKeys, token: &str, asking: &Asking) -> Result<()> {
    let tx = db.system().await?;
    let link = links::take(&tx, keys, token, Deed::ChangeEmail).await?;
    let user = locked(&tx, link.user_id).await?.filter(|u| u.disabled_at.is_none());
    let user = user.ok_or_else(links::invalid)?;
    let ctx = somewhere(&tx, &user, asking).await?;
    let (id, old) = (user.id, user.email.clone());
    let mut row: app_user::ActiveModel = user.into();
    row.email = Set(link.email.clone());
    row.email_verified_at = Set(Some(Utc::now()));
    row.update(tx.conn()).await?;
    // Whoever holds the old mailbox could still have these.
    links::expire_all(&tx, id).await?;
    mail::write(&tx, &old, &Letter::EmailChanged { to: link.email.clone() }).await?;
    if let Some(ctx) = ctx {
        let (before, after) = (json!({ "email": old }), json!({ "email": link.email }));
        tx.audit(&ctx, Audit::EmailChanged { user: id, before, after }).await?;
    }
    tx.commit().await
}

/// Sets the name that others see.
pub async fn rename_self(db: &Db, ctx: &TenantCtx, name: &str) -> Result<app_user::Model> {
    own_doing(ctx)?;
    let tx = db.system().await?;
    let user = locked(&tx, sessions::person(ctx)?).await?.ok_or(Error::NotFound("user"))?;
    let (id, before) = (user.id, user.name.clone());
    let mut row: app_user::ActiveModel = user.into();
    row.name = Set(name.to_owned());
    let user = row.update(tx.conn()).await?;
    let (before, after) = (json!({ "name": before }), json!({ "name": name }));
    tx.audit(ctx, Audit::UserUpdated { user: id, before, after }).await?;
    tx.commit().await?;
    Ok(user)
}

/// What only the person itself may do, and nobody who acts as that person.
pub(crate) fn own_doing(ctx: &TenantCtx) -> Result<()> {
    if ctx.impersonator().is_some() {
        let text = "Whoever acts as somebody else may not do this. It is left to the person.";
        return Err(Error::refused(Code::Forbidden, text));
    }
    Ok(())
}

/// A context in the oldest of a person's tenants, for the trail; none for who has no tenant.
async fn somewhere(
    tx: &SystemTx,
    user: &app_user::Model,
    asking: &Asking,
) -> Result<Option<TenantCtx>> {
    let place = sessions::find_place(tx, user.clone(), None).await?;
    Ok(place.map(|place| place.ctx(asking.request, &asking.origin)))
}

pub(crate) async fn locked(tx: &SystemTx, user: UserId) -> Result<Option<app_user::Model>> {
    Ok(app_user::Entity::find_by_id(user).lock_exclusive().one(tx.conn()).await?)
}

async fn set_hash(tx: &SystemTx, user: UserId, password_hash: String) -> Result<()> {
    let row = app_user::ActiveModel {
        id: Set(user),
        password_hash: Set(password_hash),
        ..Default::default()
    };
    row.update(tx.conn()).await?;
    Ok(())
}

/// Makes the platform tenant and its owner; with both there already, sets the owner's password.
pub async fn bootstrap_platform(
    db: &Db,
    name: &str,
    owner_email: &str,
    password_hash: String,
) -> Result<TenantId> {
    let tx = db.system().await?;
    let email = normal(owner_email);
    let tenant = match tenants::platform(&tx).await? {
        Some(id) => id,
        None => tenants::insert(&tx, TenantKind::Platform, name, None).await?,
    };
    let user = match by_email(&tx, &email).await? {
        Some(user) => {
            set_hash(&tx, user.id, password_hash).await?;
            sessions::end(&tx, sessions::of_user(user.id)).await?;
            user.id
        }
        None => insert_user(&tx, &email, "", password_hash, true).await?,
    };
    insert_membership(&tx, tenant, user, Role::Owner).await?;
    let stored = StoredActor::new(Actor::Bootstrap, Role::Owner, true);
    let ctx = TenantCtx::new(tenant, &stored, RequestId::new(), Origin::default());
    tx.audit(&ctx, Audit::PlatformBootstrapped { owner: email }).await?;
    tx.commit().await?;
    Ok(tenant)
}

pub(crate) async fn insert_user(
    tx: &SystemTx,
    email: &str,
    name: &str,
    password_hash: String,
    is_verified: bool,
) -> Result<UserId> {
    let id = UserId::new();
    app_user::ActiveModel {
        id: Set(id),
        email: Set(normal(email)),
        password_hash: Set(password_hash),
        name: Set(name.to_owned()),
        email_verified_at: Set(is_verified.then(Utc::now)),
        totp_secret: NotSet,
        totp_enabled_at: NotSet,
        totp_last_step: NotSet,
        disabled_at: NotSet,
        created_at: Set(Utc::now()),
    }
    .insert(tx.conn())
    .await?;
    Ok(id)
}

pub(crate) async fn insert_membership(
    tx: &SystemTx,
    tenant: TenantId,
    user: UserId,
    role: Role,
) -> Result<()> {
    let row = membership::ActiveModel {
        id: Set(crate::ids::RowId::new()),
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
