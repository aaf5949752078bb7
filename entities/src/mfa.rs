//! The second factor: codes by time (RFC 6238), each of which works once, and recovery codes.

use crate::Result;
use crate::accounts::{locked, own_doing};
use crate::audit::Audit;
use crate::db::{Db, SystemTx};
use crate::error::{Code, Error};
use crate::ids::{RowId, UserId};
use crate::mail::{self, Letter};
use crate::sealing::SealingKeys;
use crate::secrets::SecretKeys;
use crate::sessions;
use crate::tables::{app_user, recovery_code};
use crate::tenancy::TenantCtx;
use crate::tenants;
use chrono::Utc;
use rand::Rng;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};
use secrecy::{ExposeSecret, SecretString};
use totp_rs::{Algorithm, Secret, TOTP};
use uuid::Uuid;

/// What is shown as the second factor.
#[derive(Debug)]
pub enum Factor {
    /// Six digits of the app.
    Code(String),
    Recovery(String),
}

/// What became of secrets that were under an old key.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Resealed {
    /// Under the newest now.
    pub count: u64,
    /// Under a key that is not there.
    pub unreadable: u64,
}

/// Secrets that are sealed anew in one transaction.
const RESEALED_AT_ONCE: u64 = 200;

/// Seconds that a code is for.
const STEP_SECS: u64 = 30;
/// How many recovery codes a person has.
const RECOVERY_CODES: usize = 10;
const ISSUER: &str = "MigraPanel";

fn totp(secret: &SecretString, email: &str) -> Result<TOTP> {
    let bytes = Secret::Encoded(secret.expose_secret().to_owned())
        .to_bytes()
        .map_err(|e| Error::internal(e.to_string()))?;
    // A colon would end the issuer's part of the label.
    let account = email.replace(':', "");
    TOTP::new(Algorithm::SHA1, 6, 1, STEP_SECS, bytes, Some(ISSUER.to_owned()), account)
        .map_err(|e| Error::internal(e.to_string()))
}

/// The secret for an authenticator app, which shows it is there by [`enable`].
#[derive(Debug)]
pub struct Setup {
    pub secret: SecretString,
    /// `otpauth://…`, for a QR code.
    pub url: SecretString,
}

/// Makes a secret. A factor that is in use stays so until the new one is shown to work.
pub async fn set_up(db: &Db, keys: &SecretKeys, ctx: &TenantCtx) -> Result<Setup> {
    own_doing(ctx)?;
    let tx = db.system().await?;
    let user = locked(&tx, sessions::person(ctx)?).await?.ok_or(Error::NotFound("user"))?;
    if user.totp_enabled_at.is_some() {
        let text = "A second factor is in use. Disable it first.";
        return Err(Error::refused(Code::Conflict, text));
    }
    let Secret::Encoded(text) = Secret::generate_secret().to_encoded() else {
        return Err(Error::internal("a secret that is not encoded"));
    };
    let secret = SecretString::from(text);
    let url = SecretString::from(totp(&secret, &user.email)?.get_url());
    let sealed = keys.sealing().seal(&secret)?;
    let id = user.id;
    let mut row: app_user::ActiveModel = user.into();
    row.totp_secret = Set(Some(sealed));
    row.update(tx.conn()).await?;
    tx.audit(ctx, Audit::MfaSetUp { user: id }).await?;
    tx.commit().await?;
    Ok(Setup { secret, url })
}

/// Takes the factor into use once a code of it was shown; gives the recovery codes, once.
pub async fn enable(
    db: &Db,
    keys: &SecretKeys,
    ctx: &TenantCtx,
    code: &str,
) -> Result<Vec<String>> {
    own_doing(ctx)?;
    let tx = db.system().await?;
    let user = locked(&tx, sessions::person(ctx)?).await?.ok_or(Error::NotFound("user"))?;
    if user.totp_enabled_at.is_some() {
        return Err(Error::refused(Code::Conflict, "The second factor is in use already."));
    }
    if user.totp_secret.is_none() {
        let text = "There is no second factor to enable. Begin at POST /api/auth/mfa/setup.";
        return Err(Error::refused(Code::Conflict, text));
    }
    check_code(&tx, keys, &user, code).await?;
    let (id, email) = (user.id, user.email.clone());
    let row = app_user::ActiveModel {
        id: Set(id),
        totp_enabled_at: Set(Some(Utc::now())),
        ..Default::default()
    };
    row.update(tx.conn()).await?;
    let codes = renew(&tx, id).await?;
    mail::write(&tx, &email, &Letter::MfaChanged { enabled: true }).await?;
    // Their tokens say that a factor is missing.
    sessions::make_stale(&tx, sessions::of_user(id)).await?;
    tx.audit(ctx, Audit::MfaEnabled { user: id }).await?;
    tx.commit().await?;
    Ok(codes)
}

/// Takes the factor out of use; it has to be shown once more.
pub async fn disable(db: &Db, keys: &SecretKeys, ctx: &TenantCtx, factor: Factor) -> Result<()> {
    own_doing(ctx)?;
    let tx = db.system().await?;
    let user = locked(&tx, sessions::person(ctx)?).await?.ok_or(Error::NotFound("user"))?;
    in_use(&user)?;
    check(&tx, keys, ctx, &user, factor).await?;
    remove(&tx, &user).await?;
    sessions::make_stale(&tx, sessions::of_user(user.id)).await?;
    tx.audit(ctx, Audit::MfaDisabled { user: user.id }).await?;
    tx.commit().await
}

/// The factor with its recovery codes; its owner gets a letter.
pub(crate) async fn remove(tx: &SystemTx, user: &app_user::Model) -> Result<()> {
    let row = app_user::ActiveModel {
        id: Set(user.id),
        totp_secret: Set(None),
        totp_enabled_at: Set(None),
        ..Default::default()
    };
    row.update(tx.conn()).await?;
    recovery_code::Entity::delete_many()
        .filter(recovery_code::Column::UserId.eq(user.id))
        .exec(tx.conn())
        .await?;
    mail::write(tx, &user.email, &Letter::MfaChanged { enabled: false }).await
}

/// Makes new recovery codes; the old ones work no more.
pub async fn renew_codes(
    db: &Db,
    keys: &SecretKeys,
    ctx: &TenantCtx,
    factor: Factor,
) -> Result<Vec<String>> {
    own_doing(ctx)?;
    let tx = db.system().await?;
    let user = locked(&tx, sessions::person(ctx)?).await?.ok_or(Error::NotFound("user"))?;
    in_use(&user)?;
    check(&tx, keys, ctx, &user, factor).await?;
    let codes = renew(&tx, user.id).await?;
    tx.audit(ctx, Audit::RecoveryCodesRenewed { user: user.id }).await?;
    tx.commit().await?;
    Ok(codes)
}

fn in_use(user: &app_user::Model) -> Result<()> {
    if user.totp_enabled_at.is_none() {
        return Err(Error::refused(Code::Conflict, "There is no second factor in use."));
    }
    Ok(())
}

/// At a login: whoever has a factor shows it.
pub(crate) async fn require(
    tx: &SystemTx,
    keys: &SecretKeys,
    ctx: &TenantCtx,
    user: &app_user::Model,
    factor: Option<Factor>,
) -> Result<()> {
    match (user.totp_enabled_at, factor) {
        (None, _) => Ok(()),
        (Some(_), Some(factor)) => check(tx, keys, ctx, user, factor).await,
        (Some(_), None) => Err(Error::refused(
            Code::MfaRequired,
            "Send the code of the authenticator app as `code` too, or a recovery code as \
             `recovery_code`.",
        )),
    }
}

async fn check(
    tx: &SystemTx,
    keys: &SecretKeys,
    ctx: &TenantCtx,
    user: &app_user::Model,
    factor: Factor,
) -> Result<()> {
    match factor {
        Factor::Code(code) => check_code(tx, keys, user, &code).await,
        Factor::Recovery(code) => {
            let used = recovery_code::Entity::update_many()
                .col_expr(recovery_code::Column::UsedAt, Expr::value(Utc::now()))
                .filter(
                    Condition::all()
                        .add(recovery_code::Column::UserId.eq(user.id))
                        .add(recovery_code::Column::CodeSha256.eq(hash(&code)))
                        .add(recovery_code::Column::UsedAt.is_null()),
                )
                .exec(tx.conn())
                .await?;
            if used.rows_affected != 1 {
                return Err(wrong_code());
            }
            let left = recovery_code::Entity::find()
                .filter(recovery_code::Column::UserId.eq(user.id))
                .filter(recovery_code::Column::UsedAt.is_null())
                .count(tx.conn())
                .await?;
            tx.audit(ctx, Audit::RecoveryCodeUsed { user: user.id, left }).await
        }
    }
}

/// What a wrong second factor is told. The same code as a wrong password, since it counts as one.
fn wrong_code() -> Error {
    Error::refused(
        Code::InvalidCredentials,
        "The code of the second factor is wrong, or was used before. Wait for the next one.",
    )
}

/// What somebody is told whose factor is sealed under a key that is gone.
const UNREADABLE: &str = "Codes of the authenticator app cannot be checked at the moment. Log in with \
                          a recovery code, and tell the operator.";

/// The code of now, of the step before or the next, and of none that was used: RFC 6238, 5.2. What
/// was sealed under an old key is sealed anew, so that the old one can go.
async fn check_code(
    tx: &SystemTx,
    keys: &SecretKeys,
    user: &app_user::Model,
    code: &str,
) -> Result<()> {
    let sealed = user.totp_secret.as_deref().ok_or_else(wrong_code)?;
    if !keys.sealing().has_key_of(sealed) {
        tracing::error!(user = %user.id, "mfa.key_missing");
        return Err(Error::later(Code::Unavailable, UNREADABLE, 60));
    }
    let totp = totp(&keys.sealing().open(sealed)?, &user.email)?;
    let now = u64::try_from(Utc::now().timestamp()).map_err(Error::internal)? / STEP_SECS;
    let shown: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let last = u64::try_from(user.totp_last_step).unwrap_or(0);
    let step = [now.saturating_sub(1), now, now.saturating_add(1)]
        .into_iter()
        .find(|step| *step > last && totp.generate(step.saturating_mul(STEP_SECS)) == shown)
        .ok_or_else(wrong_code)?;
    let mut row = app_user::ActiveModel {
        id: Set(user.id),
        totp_last_step: Set(i64::try_from(step).map_err(Error::internal)?),
        ..Default::default()
    };
    if let Some(anew) = keys.sealing().reseal(sealed)? {
        row.totp_secret = Set(Some(anew));
    }
    row.update(tx.conn()).await?;
    Ok(())
}

/// Seals the secrets that are under an old key under the newest, some at a time so that no login
/// waits for long. May be repeated, and stopped half-way.
pub async fn reseal(db: &Db, keys: &SealingKeys) -> Result<Resealed> {
    let mut all = Resealed::default();
    let mut after = UserId(Uuid::nil());
    loop {
        let tx = db.system().await?;
        let rows = app_user::Entity::find()
            .filter(app_user::Column::Id.gt(after))
            .filter(Expr::cust_with_values(
                "split_part(totp_secret, '.', 1) <> $1",
                [keys.newest()?],
            ))
            .order_by_asc(app_user::Column::Id)
            .limit(RESEALED_AT_ONCE)
            .lock_exclusive()
            .all(tx.conn())
            .await?;
        let Some(last) = rows.last() else { return Ok(all) };
        after = last.id;
        let before = all.count;
        for user in rows {
            let sealed = user.totp_secret.as_deref().unwrap_or_default();
            match keys.reseal(sealed) {
                Err(error) => {
                    tracing::error!(user = %user.id, cause = %error.chain(), "mfa.unreadable");
                    all.unreadable = all.unreadable.saturating_add(1);
                }
                Ok(anew) => {
                    let mut row: app_user::ActiveModel = user.into();
                    row.totp_secret = Set(anew);
                    row.update(tx.conn()).await?;
                    all.count = all.count.saturating_add(1);
                }
            }
        }
        let count = all.count.saturating_sub(before);
        if count > 0 {
            tenants::audit_operator(&tx, Audit::SecretsResealed { count }).await?;
            tx.commit().await?;
        }
    }
}

async fn renew(tx: &SystemTx, user: UserId) -> Result<Vec<String>> {
    recovery_code::Entity::delete_many()
        .filter(recovery_code::Column::UserId.eq(user))
        .exec(tx.conn())
        .await?;
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
    let rows = codes.iter().map(|code| recovery_code::ActiveModel {
        id: Set(RowId::new()),
        user_id: Set(user),
        code_sha256: Set(hash(code)),
        used_at: NotSet,
    });
    recovery_code::Entity::insert_many(rows).exec_without_returning(tx.conn()).await?;
    Ok(codes)
}

/// Sixteen signs that cannot be mistaken for one another: 80 random bits.
fn recovery_code() -> String {
    const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    let signs: String = (0..16)
        .filter_map(|_| SIGNS.get(rng.random_range(0..SIGNS.len())).map(|b| char::from(*b)))
        .collect();
    let parts: Vec<&str> =
        [0..4, 4..8, 8..12, 12..16].into_iter().filter_map(|r| signs.get(r)).collect();
    parts.join("-")
}

/// Case and dashes do not matter.
fn hash(code: &str) -> String {
    let plain: String =
        code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    sessions::hash(&plain)
}
