//! Acting as somebody else: explicit, for a time, marked on every entry of the trail.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx};
use crate::error::{Code, Error};
use crate::ids::{SessionId, TenantId, UserId};
use crate::sessions::{self, Begun, Claims};
use crate::tables::{app_user, session};
use crate::tenancy::{Permission, TenantCtx};
use chrono::{Duration, Utc};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter,
};

/// A session in somebody else's name; it has an access token and nothing to renew it with.
#[derive(Debug)]
pub struct Impersonation {
    pub session: SessionId,
    pub claims: Claims,
    pub email: String,
    pub tenant_name: String,
    pub secs: i64,
}

/// As whom, where, for how long and why.
#[derive(Debug)]
pub struct Wanted {
    pub tenant: TenantId,
    pub user: UserId,
    pub minutes: u8,
    pub reason: String,
}

/// Begins to act as a member of a tenant, who has no higher role than one's own. The reason stands in
/// the trail of that tenant.
pub async fn begin(db: &Db, ctx: &TenantCtx, wanted: Wanted) -> Result<Impersonation> {
    let Wanted { tenant, user, minutes, reason } = wanted;
    ctx.require_write(Permission::Impersonate)?;
    crate::accounts::own_doing(ctx)?;
    let staff = sessions::person(ctx)?;
    let secs = i64::from(minutes) * 60;
    if !(60..=sessions::ACCESS_SECS_MAX).contains(&secs) {
        return Err(Error::field("minutes", "must be 1 to 60"));
    }
    let tx = db.system_as(ctx).await?;
    still_staff(&tx, ctx, staff).await?;
    let person = app_user::Entity::find_by_id(user).one(tx.conn()).await?;
    let place = match person {
        Some(person) => sessions::find_place(&tx, person, Some(tenant)).await?,
        None => None,
    };
    let place = place.ok_or(Error::NotFound("user"))?;
    if place.standing().platform || !ctx.role().reaches(place.role) {
        let text = "Nobody acts as one of the platform's staff, or as somebody with a higher role.";
        return Err(Error::refused(Code::Forbidden, text));
    }
    let id = SessionId::new();
    let now = Utc::now();
    let row = session::ActiveModel {
        id: Set(id),
        user_id: Set(user),
        tenant_id: Set(tenant),
        generation: Set(0),
        // No token has this hash: an impersonation is not renewed.
        token_sha256: Set("-".to_owned()),
        key_id: Set("-".to_owned()),
        rotated_at: Set(now),
        expires_at: Set(now + Duration::seconds(secs)),
        stale_at: NotSet,
        revoked_at: NotSet,
        impersonator_id: Set(Some(staff)),
        ip: Set(ctx.ip().map(str::to_owned)),
        user_agent: Set(ctx.user_agent().map(str::to_owned)),
        created_at: Set(now),
    };
    session::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    // In the trail of the tenant that it happens to.
    let there = ctx.within(tenant);
    let until = now + Duration::seconds(secs);
    let entry = Audit::ImpersonationStarted { user, reason, until };
    tx.audit(&there, entry).await?;
    let begun = Begun::without_refresh(id, &place);
    tx.commit().await?;
    let claims = Claims { impersonator: Some(staff), ..begun.claims() };
    Ok(Impersonation {
        session: id,
        claims,
        email: begun.email,
        tenant_name: begun.tenant_name,
        secs,
    })
}

/// The right is that of this moment, and stays until the session stands: whoever takes it away ends
/// the session.
async fn still_staff(tx: &SystemTx, ctx: &TenantCtx, staff: UserId) -> Result<()> {
    let person = app_user::Entity::find_by_id(staff).one(tx.conn()).await?;
    let place = match person {
        Some(person) => sessions::find_place(tx, person, Some(ctx.home())).await?,
        None => None,
    };
    let needed = Permission::Impersonate.role();
    if place.is_some_and(|place| place.role.reaches(needed)) {
        return Ok(());
    }
    Err(Error::Forbidden { needed: needed.to_string() })
}

/// Ends an impersonation: one's own, or the one that this request acts in.
pub async fn end(db: &Db, ctx: &TenantCtx, id: SessionId) -> Result<()> {
    ctx.require_write(Permission::ProfileWrite)?;
    let staff = ctx.impersonator().or(ctx.user()).ok_or(Error::NotFound("impersonation"))?;
    let tx = db.system().await?;
    let row = session::Entity::find_by_id(id)
        .filter(session::Column::ImpersonatorId.eq(staff))
        .filter(session::Column::RevokedAt.is_null())
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("impersonation"))?;
    sessions::end(&tx, sea_orm::Condition::all().add(session::Column::Id.eq(id))).await?;
    let entry = Audit::ImpersonationEnded { user: row.user_id };
    tx.audit(&ctx.within(row.tenant_id), entry).await?;
    tx.commit().await
}
