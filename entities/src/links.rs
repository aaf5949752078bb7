//! Mailed links: each works once, for a time, for one purpose. What is mailed is derived from the
//! row's id; the row alone opens nothing.

use crate::Result;
use crate::db::SystemTx;
use crate::error::{Code, Error};
use crate::ids::{LinkId, UserId};
use crate::secrets::{Purpose, SecretKeys};
use crate::tables::link;
use chrono::{Duration, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    VerifyEmail,
    ResetPassword,
    ChangeEmail,
}

impl Deed {
    const fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
        }
    }

    fn life(self) -> Duration {
        match self {
            Self::VerifyEmail => Duration::days(2),
            Self::ResetPassword | Self::ChangeEmail => Duration::hours(1),
        }
    }
}

/// Makes a link; those of the same deed that were made before work no more.
pub(crate) async fn make(tx: &SystemTx, user: UserId, deed: Deed, email: &str) -> Result<LinkId> {
    expire(tx, user, deed).await?;
    let id = LinkId::new();
    let now = Utc::now();
    let row = link::ActiveModel {
        id: Set(id),
        user_id: Set(user),
        purpose: Set(deed.name().to_owned()),
        email: Set(email.to_owned()),
        expires_at: Set(now + deed.life()),
        used_at: NotSet,
        created_at: Set(now),
    };
    link::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(id)
}

/// Uses a link up, in this transaction.
pub(crate) async fn take(
    tx: &SystemTx,
    keys: &SecretKeys,
    token: &str,
    deed: Deed,
) -> Result<link::Model> {
    let (id, _) = keys.recognise(Purpose::Link, token).ok_or_else(invalid)?;
    let row = link::Entity::find_by_id(LinkId(id))
        .filter(link::Column::Purpose.eq(deed.name()))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .filter(|row| row.used_at.is_none() && row.expires_at > Utc::now())
        .ok_or_else(invalid)?;
    let mut used: link::ActiveModel = row.clone().into();
    used.used_at = Set(Some(Utc::now()));
    used.update(tx.conn()).await?;
    Ok(row)
}

pub(crate) fn invalid() -> Error {
    Error::refused(
        Code::LinkInvalid,
        "This link does not work: it was used, is too old, or was cut off. Ask for a new one.",
    )
}

/// Makes all of a person's links worthless.
pub(crate) async fn expire_all(tx: &SystemTx, user: UserId) -> Result<()> {
    for deed in [Deed::VerifyEmail, Deed::ResetPassword, Deed::ChangeEmail] {
        expire(tx, user, deed).await?;
    }
    Ok(())
}

/// Makes a person's links of this deed worthless.
pub(crate) async fn expire(tx: &SystemTx, user: UserId, deed: Deed) -> Result<()> {
    link::Entity::update_many()
        .col_expr(link::Column::UsedAt, Expr::value(Utc::now()))
        .filter(link::Column::UserId.eq(user))
        .filter(link::Column::Purpose.eq(deed.name()))
        .filter(link::Column::UsedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(())
}
