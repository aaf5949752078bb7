//! Dead letters: messages that a worker cannot read, that are for others, or whose handling fails
//! again and again. Each is kept before it leaves its queue, so that a worker that dies in between
//! finds it there again, and makes no second row of it. An operator looks at it, mends the cause,
//! and replays or discards it.

use crate::Result;
use crate::asks;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::RowId;
use crate::mail;
use crate::outbox::{self, Message};
use crate::tables::dead_letter::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DeriveActiveEnum,
    EntityTrait, EnumIter, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What the post of letters to people counts as: it is no queue of the broker's.
pub const MAIL: &str = "mail";
/// How often in a row handling a message fails until it is dead.
pub const TRIES_MAX: i32 = 5;
/// Failures that lie further apart than this are not in a row.
const IN_A_ROW_SECS: f64 = 600.0;
/// How much of a message is kept: ours have some hundred bytes.
const KEPT_BYTES: usize = 1 << 16;
/// How long messages are remembered whose handling failed, and then did not any more.
const FORGOTTEN_SECS: f64 = 86_400.0;

/// Why a message is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is no message that we know.
    Unreadable,
    /// It is for those who read another queue.
    Foreign,
    /// Acting on it failed again and again.
    Failing,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unreadable, Self::Foreign, Self::Failing];

    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Foreign => "foreign",
            Self::Failing => "failing",
        }
    }
}

/// A message that a worker could not act on.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    pub queue: &'a str,
    pub payload: &'a [u8],
    pub reason: Reason,
    pub error: &'a str,
}

/// Keeps a message that nobody can act on. Once this has returned it may leave its queue.
pub async fn keep(db: &Db, letter: Letter<'_>) -> Result<()> {
    let tx = db.system().await?;
    insert(&tx, letter, 1).await?;
    tx.commit().await
}

/// The same in a transaction of the caller's.
pub(crate) async fn keep_in(tx: &SystemTx, letter: Letter<'_>) -> Result<()> {
    insert(tx, letter, 1).await.map(drop)
}

/// Counts that acting on a message has failed; whether it is dead by that, and may leave its queue.
pub async fn count_failure(db: &Db, queue: &str, payload: &[u8], error: &str) -> Result<bool> {
    let tx = db.system().await?;
    let letter = Letter { queue, payload, reason: Reason::Failing, error };
    let dead = insert(&tx, letter, TRIES_MAX).await?;
    tx.commit().await?;
    Ok(dead)
}

const INSERT: &str = "INSERT INTO dead_letter AS known
        (id, digest, queue, payload, bytes, reason, error, dead_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 <= 1 THEN now() END)
    ON CONFLICT (digest) DO UPDATE SET
        reason = excluded.reason, error = excluded.error, last_at = now(),
        count = known.count + 1,
        tries = CASE WHEN known.last_at < now() - make_interval(secs => $9) THEN 1
            ELSE known.tries + 1 END,
        dead_at = CASE
            WHEN $8 <= CASE WHEN known.last_at < now() - make_interval(secs => $9) THEN 1
                ELSE known.tries + 1 END THEN coalesce(known.dead_at, now())
            ELSE known.dead_at END
    RETURNING tries >= $8 AS dead";

async fn insert(tx: &SystemTx, letter: Letter<'_>, tries_max: i32) -> Result<bool> {
    let mut hash = Sha256::new();
    // No queue's name has a NUL.
    hash.update(letter.queue.as_bytes());
    hash.update([0]);
    hash.update(letter.payload);
    let kept = letter.payload.get(..KEPT_BYTES).unwrap_or(letter.payload);
    let error: String = letter.error.chars().filter(|c| *c != '\0').take(2000).collect();
    let (queue, reason) = (letter.queue, letter.reason.as_str());
    tracing::error!(queue, reason, error, bytes = letter.payload.len(), "message.not_acted_on");
    let values = [
        RowId::new().0.into(),
        hex::encode(hash.finalize()).into(),
        queue.into(),
        kept.into(),
        i64::try_from(letter.payload.len()).unwrap_or(i64::MAX).into(),
        reason.into(),
        error.into(),
        tries_max.into(),
        IN_A_ROW_SECS.into(),
    ];
    let row = tx.conn().query_one_raw(statement(INSERT, values)).await?;
    row.map_or(Ok(false), |row| Ok(row.try_get("", "dead")?))
}

/// Which dead letters are wanted; nothing set: all.
#[derive(Debug, Default)]
pub struct Filter {
    pub queue: Option<String>,
    pub reason: Option<Reason>,
    /// Whether they were replayed, and did not come back since.
    pub replayed: Option<bool>,
}

/// A page of the dead letters, those that came last first, and how many there are. For the platform's
/// people.
pub async fn list_letters(
    db: &Db,
    ctx: &TenantCtx,
    filter: &Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<dead_letter::Model>, u64)> {
    ctx.require(Permission::DeadLettersRead)?;
    let tx = db.system().await?;
    let mut query = dead_letter::Entity::find().filter(Column::DeadAt.is_not_null());
    if let Some(queue) = &filter.queue {
        query = query.filter(Column::Queue.eq(queue.as_str()));
    }
    if let Some(reason) = filter.reason {
        query = query.filter(Column::Reason.eq(reason));
    }
    if let Some(replayed) = filter.replayed {
        let gone = Condition::all()
            .add(Column::ReplayedAt.is_not_null())
            .add(Expr::col(Column::ReplayedAt).gte(Expr::col(Column::LastAt)));
        query = query.filter(if replayed { gone } else { gone.not() });
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::LastAt).order_by_asc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

async fn lock(tx: &SystemTx, id: RowId) -> Result<dead_letter::Model> {
    let row = dead_letter::Entity::find_by_id(id)
        .filter(Column::DeadAt.is_not_null())
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    row.ok_or(Error::NotFound("dead letter"))
}

/// Sends a dead letter to its queue again, through the outbox; a letter to a person goes back into the
/// post. For the platform's people.
pub async fn replay(db: &Db, ctx: &TenantCtx, id: RowId) -> Result<dead_letter::Model> {
    ctx.require_write(Permission::DeadLettersWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock(&tx, id).await?;
    check_replayable(&row)?;
    let there = ctx.within(ctx.home());
    if row.queue == MAIL {
        let Posted { mail } = serde_json::from_slice(&row.payload)?;
        mail::put_back(&tx, mail).await?;
    } else {
        outbox::append(tx.conn(), there.tenant(), Message::LetterReplayed { letter: id }).await?;
    }
    let entry = Audit::DeadLetterReplayed { letter: id, queue: row.queue.clone() };
    tx.audit(&there, entry).await?;
    let mut row: dead_letter::ActiveModel = row.into();
    row.tries = Set(0);
    row.replayed_at = Set(Some(Utc::now()));
    let row = row.update(tx.conn()).await?;
    tx.commit().await?;
    Ok(row)
}

/// What stands for a letter to a person.
#[derive(Serialize, Deserialize)]
struct Posted {
    mail: RowId,
}

/// What stands for a letter to a person here: its id, since the letter itself lies in the post.
pub(crate) fn posted(id: RowId) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!(Posted { mail: id }))?)
}

fn check_replayable(row: &dead_letter::Model) -> Result<()> {
    let refused = |text: &str| Err(Error::refused(Code::Conflict, text));
    if asks::ASK_QUEUES.contains(&row.queue.as_str()) {
        return refused(
            "Whoever asked this has gone, so that nobody would hear the answer. Ask anew, and discard it.",
        );
    }
    if row.queue != MAIL && !outbox::QUEUES.contains(&row.queue.as_str()) {
        return refused("No worker reads this queue any more. Discard the letter.");
    }
    if usize::try_from(row.bytes).ok() != Some(row.payload.len()) {
        return refused(
            "This was too long to be kept whole, and cannot be sent again. Discard it.",
        );
    }
    Ok(())
}

/// Removes a dead letter that needs nothing any more. For the platform's people.
pub async fn discard(db: &Db, ctx: &TenantCtx, id: RowId) -> Result<()> {
    ctx.require_write(Permission::DeadLettersWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock(&tx, id).await?;
    let entry = Audit::DeadLetterDiscarded {
        letter: id,
        queue: row.queue.clone(),
        digest: row.digest.clone(),
    };
    dead_letter::Entity::delete_by_id(id).exec(tx.conn()).await?;
    tx.audit(&ctx.within(ctx.home()), entry).await?;
    tx.commit().await
}

/// What is to be sent for a replay, and where to; none when the letter was discarded meanwhile.
pub(crate) async fn find_payload(tx: &SystemTx, id: RowId) -> Result<Option<(String, Vec<u8>)>> {
    let row = dead_letter::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(row.map(|row| (row.queue, row.payload)))
}

/// Forgets failures that ended by themselves. What is dead stays until somebody discards it.
pub async fn prune(db: &Db) -> Result<()> {
    let tx = db.system().await?;
    let sql = "DELETE FROM dead_letter
        WHERE dead_at IS NULL AND last_at < now() - make_interval(secs => $1)";
    tx.conn().execute_raw(statement(sql, [FORGOTTEN_SECS.into()])).await?;
    tx.commit().await
}
