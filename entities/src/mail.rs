//! Letters to people: written in the transaction of what they tell, sent by the notifier. A letter
//! holds ids only; the secret part of a link is derived when it is sent.

use crate::Result;
use crate::db::{Db, SystemTx, statement};
use crate::dead_letters::{self, MAIL, Reason};
use crate::error::{Code, Error};
use crate::ids::{LinkId, RowId};
use crate::tables::mail;
use crate::tenancy::Role;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    ConnectionTrait, EntityTrait,
};
use serde::{Deserialize, Serialize};

/// What a letter tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Letter {
    /// Somebody has registered with this address.
    VerifyEmail {
        link: LinkId,
    },
    /// Somebody wanted to register with an address that has a login already.
    AccountExists,
    ResetPassword {
        link: LinkId,
    },
    PasswordChanged,
    /// To the new address: is it theirs?
    ChangeEmail {
        link: LinkId,
    },
    /// To the old address.
    EmailChanged {
        to: String,
    },
    Invitation {
        link: LinkId,
        tenant: String,
        role: Role,
    },
    /// Too many wrong passwords: what the owner can do.
    AccountLocked,
    MfaChanged {
        enabled: bool,
    },
    /// Money is missing for an order: where it can be paid, and when what was bought is suspended.
    PaymentMissing {
        order: String,
        page: Option<String>,
        suspends_at: DateTime<Utc>,
    },
    /// What was bought with an order does not run any more; the sentence says why.
    OrderSuspended {
        order: String,
        reason: String,
    },
    OrderResumed {
        order: String,
    },
    /// What was bought is gone for good, but for a last backup.
    OrderEnded {
        order: String,
        reason: String,
    },
    /// Something of an order could not be made, and its money goes back.
    OrderNotMade {
        order: String,
        all: bool,
    },
}

/// Puts a letter into the post, in this transaction.
pub(crate) async fn write(tx: &SystemTx, to: &str, letter: &Letter) -> Result<()> {
    let row = mail::ActiveModel {
        id: Set(RowId::new()),
        recipient: Set(to.to_owned()),
        letter: Set(serde_json::to_value(letter)?),
        attempts: Set(0),
        next_at: Set(Utc::now()),
        sent_at: NotSet,
        failed_at: NotSet,
        last_error: NotSet,
        created_at: Set(Utc::now()),
    };
    mail::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(())
}

/// A letter that is to be sent now.
#[derive(Debug)]
pub struct Waiting {
    pub id: RowId,
    pub to: String,
    pub letter: Letter,
    /// How often it was tried, this time included.
    pub attempts: i32,
}

/// How long others leave a letter alone that somebody took.
const LEASE_SECS: f64 = 120.0;
/// How often a letter is tried; with the growing pauses between, for two days.
const ATTEMPTS_MAX: i32 = 14;

/// Takes up to `limit` letters, oldest first. Whoever dies with them leaves them to the next.
pub async fn take(db: &Db, limit: i64) -> Result<Vec<Waiting>> {
    let tx = db.system().await?;
    let rows = tx
        .conn()
        .query_all_raw(statement(
            "UPDATE mail SET attempts = attempts + 1, next_at = now() + make_interval(secs => $2)
             WHERE id IN (SELECT id FROM mail WHERE sent_at IS NULL AND failed_at IS NULL
                 AND next_at <= now() ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING id, recipient, letter, attempts",
            [limit.into(), LEASE_SECS.into()],
        ))
        .await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        let id = row.try_get("", "id")?;
        // One that nobody can read keeps no other from being sent.
        match serde_json::from_value(row.try_get("", "letter")?) {
            Ok(letter) => taken.push(Waiting {
                id,
                to: row.try_get("", "recipient")?,
                letter,
                attempts: row.try_get("", "attempts")?,
            }),
            Err(error) => give_up(&tx, id, Reason::Unreadable, &error.to_string()).await?,
        }
    }
    tx.commit().await?;
    Ok(taken)
}

/// Ends the attempts at a letter: it is a dead letter from now on.
async fn give_up(tx: &SystemTx, id: RowId, reason: Reason, error: &str) -> Result<()> {
    let sql = "UPDATE mail SET failed_at = now(), last_error = $2
        WHERE id = $1 AND sent_at IS NULL";
    let given_up = tx.conn().execute_raw(statement(sql, [id.0.into(), error.into()])).await?;
    if given_up.rows_affected() == 0 {
        return Ok(());
    }
    let payload = dead_letters::posted(id)?;
    let letter = dead_letters::Letter { queue: MAIL, payload: &payload, reason, error };
    dead_letters::keep_in(tx, letter).await
}

/// Puts a letter that was given up back into the post.
pub(crate) async fn put_back(tx: &SystemTx, id: RowId) -> Result<()> {
    let sql = "UPDATE mail SET failed_at = NULL, attempts = 0, next_at = now()
        WHERE id = $1 AND sent_at IS NULL";
    let back = tx.conn().execute_raw(statement(sql, [id.0.into()])).await?;
    if back.rows_affected() == 0 {
        let text = "This letter was sent, or is not in the post any more. Discard it.";
        return Err(Error::refused(Code::Conflict, text));
    }
    tx.conn().execute_unprepared("NOTIFY mail").await?;
    Ok(())
}

/// The server has taken the letter.
pub async fn mark_sent(db: &Db, id: RowId) -> Result<()> {
    let tx = db.system().await?;
    tx.conn()
        .execute_raw(statement(
            "UPDATE mail SET sent_at = now(), last_error = NULL WHERE id = $1",
            [id.0.into()],
        ))
        .await?;
    tx.commit().await
}

/// The letter was not taken: it is tried again after a pause that doubles, or given up when the
/// server refused it for good or it was tried often enough.
pub async fn mark_failed(db: &Db, waiting: &Waiting, why: &str, for_good: bool) -> Result<()> {
    let pause = 15.0 * f64::powi(2.0, waiting.attempts.clamp(0, 11));
    let over = for_good || waiting.attempts >= ATTEMPTS_MAX;
    let tx = db.system().await?;
    if over {
        give_up(&tx, waiting.id, Reason::Failing, why).await?;
        return tx.commit().await;
    }
    tx.conn()
        .execute_raw(statement(
            "UPDATE mail SET last_error = $2, next_at = now() + make_interval(secs => $3)
             WHERE id = $1 AND sent_at IS NULL",
            [waiting.id.0.into(), why.into(), pause.into()],
        ))
        .await?;
    tx.commit().await
}

/// Removes letters that were sent or given up a month ago.
pub async fn prune(db: &Db) -> Result<()> {
    let tx = db.system().await?;
    tx.conn()
        .execute_raw(statement(
            "DELETE FROM mail WHERE coalesce(sent_at, failed_at) < now() - make_interval(days => $1)",
            [30.into()],
        ))
        .await?;
    tx.commit().await
}
