//! The inbox of what Stripe tells: each event is kept before it is answered, and handled by a worker
//! afterwards. One that cannot be handled is tried again for about two days, then it is dead until
//! an operator replays it.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::tables::stripe_event::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::{DateTime, Utc};
use rand::Rng;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DeriveActiveEnum,
    EntityTrait, EnumIter, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is to be handled.
    #[sea_orm(string_value = "pending")]
    Pending,
    #[sea_orm(string_value = "handled")]
    Handled,
    /// It is of a kind, or about something, that nothing follows from here.
    #[sea_orm(string_value = "ignored")]
    Ignored,
    /// It was signed by Stripe, and is no event that we can read.
    #[sea_orm(string_value = "unreadable")]
    Unreadable,
    /// It was tried long enough; an operator may replay it.
    #[sea_orm(string_value = "dead")]
    Dead,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Handled, Self::Ignored, Self::Unreadable, Self::Dead];

    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Handled => "handled",
            Self::Ignored => "ignored",
            Self::Unreadable => "unreadable",
            Self::Dead => "dead",
        }
    }
}

/// What an event is about. News of anything else is kept, and nothing follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Session,
    Subscription,
    Invoice,
    PaymentIntent,
    Charge,
    Refund,
    Dispute,
    CreditNote,
    Customer,
    PaymentMethod,
}

impl Subject {
    /// By what Stripe calls the object.
    #[must_use]
    pub fn of(object: &str) -> Option<Self> {
        Some(match object {
            "checkout.session" => Self::Session,
            "subscription" => Self::Subscription,
            "invoice" => Self::Invoice,
            "payment_intent" => Self::PaymentIntent,
            "charge" => Self::Charge,
            "refund" => Self::Refund,
            "dispute" => Self::Dispute,
            "credit_note" => Self::CreditNote,
            "customer" => Self::Customer,
            "payment_method" => Self::PaymentMethod,
            _ => return None,
        })
    }
}

/// How we came to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Webhook,
    /// It was found in Stripe's list of events.
    Reconciler,
}

/// An event as it came.
#[derive(Debug)]
pub struct Incoming<'a> {
    pub id: &'a str,
    pub kind: &'a str,
    pub created_at: DateTime<Utc>,
    pub livemode: bool,
    pub api_version: Option<&'a str>,
    /// What kind of object it is about, and which one.
    pub object: Option<(&'a str, &'a str)>,
    pub body: &'a [u8],
    pub source: Source,
}

/// Keeps an event; whether it was new. Once this has returned it is never lost.
pub async fn keep(db: &Db, event: &Incoming<'_>) -> Result<bool> {
    let known = event.object.filter(|(kind, _)| Subject::of(kind).is_some());
    let state = if known.is_some() { State::Pending } else { State::Ignored };
    let row = stripe_event::ActiveModel {
        id: Set(event.id.to_owned()),
        kind: Set(event.kind.to_owned()),
        created_at: Set(event.created_at),
        received_at: Set(Utc::now()),
        source: Set(match event.source {
            Source::Webhook => "webhook".to_owned(),
            Source::Reconciler => "reconciler".to_owned(),
        }),
        livemode: Set(event.livemode),
        api_version: Set(event.api_version.map(str::to_owned)),
        object_kind: Set(event.object.map(|(kind, _)| kind.to_owned())),
        object_id: Set(event.object.map(|(_, id)| id.to_owned())),
        body: Set(event.body.to_vec()),
        state: Set(state),
        note: Set(known.is_none().then(|| "Nothing follows from events of this kind.".to_owned())),
        attempts: Set(0),
        next_at: Set(Utc::now()),
        ..Default::default()
    };
    insert(db, row).await
}

/// Keeps what was signed by Stripe and is no event that we can read; whether it was new. The same body
/// is kept once.
pub async fn keep_unreadable(db: &Db, body: &[u8], why: &str) -> Result<bool> {
    let row = stripe_event::ActiveModel {
        id: Set(format!("unreadable:{}", hex::encode(Sha256::digest(body)))),
        kind: Set("unreadable".to_owned()),
        created_at: Set(Utc::now()),
        received_at: Set(Utc::now()),
        source: Set("webhook".to_owned()),
        livemode: Set(false),
        body: Set(body.to_vec()),
        state: Set(State::Unreadable),
        note: Set(Some(why.to_owned())),
        attempts: Set(0),
        next_at: Set(Utc::now()),
        ..Default::default()
    };
    insert(db, row).await
}

async fn insert(db: &Db, row: stripe_event::ActiveModel) -> Result<bool> {
    let tx = db.system().await?;
    let once = sea_orm::sea_query::OnConflict::column(Column::Id).do_nothing().to_owned();
    let inserted = stripe_event::Entity::insert(row)
        .on_conflict(once)
        .exec_without_returning(tx.conn())
        .await?;
    tx.commit().await?;
    Ok(inserted > 0)
}

/// How long others leave an event alone that somebody took.
const LEASE_SECS: f64 = 90.0;
/// The pauses between tries; after the last an event is dead.
const PAUSES_SECS: [f64; 12] =
    [1.0, 3.0, 10.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 21_600.0, 43_200.0, 86_400.0];

/// An event that somebody has taken, to handle it.
#[derive(Debug, Clone)]
pub struct Taken {
    pub id: String,
    pub kind: String,
    pub subject: Subject,
    pub object: String,
    pub created_at: DateTime<Utc>,
    attempts: i32,
    fence: i64,
}

/// Takes up to `limit` events that are due, in the order in which they happened. Whoever dies with
/// them leaves them to the next.
pub async fn take(db: &Db, limit: i64) -> Result<Vec<Taken>> {
    let tx = db.system().await?;
    let sql = "UPDATE stripe_event SET attempts = attempts + 1, fence = fence + 1,
            taken_until = now() + make_interval(secs => $2)
        WHERE id IN (SELECT id FROM stripe_event WHERE state = 'pending' AND next_at <= now()
            AND (taken_until IS NULL OR taken_until < now())
            ORDER BY created_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id, kind, object_kind, object_id, created_at, attempts, fence";
    let rows = tx.conn().query_all_raw(statement(sql, [limit.into(), LEASE_SECS.into()])).await?;
    let mut taken = Vec::with_capacity(rows.len());
    for row in rows {
        let (kind, object): (Option<String>, Option<String>) =
            (row.try_get("", "object_kind")?, row.try_get("", "object_id")?);
        let subject = kind.as_deref().and_then(Subject::of).zip(object);
        let Some((subject, object)) = subject else { continue };
        taken.push(Taken {
            id: row.try_get("", "id")?,
            kind: row.try_get("", "kind")?,
            subject,
            object,
            created_at: row.try_get("", "created_at")?,
            attempts: row.try_get("", "attempts")?,
            fence: row.try_get("", "fence")?,
        });
    }
    tx.commit().await?;
    taken.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(taken)
}

/// What came of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handled {
    Well,
    /// It is about nothing of ours.
    Foreign,
    /// It is not what was asked for; somebody must look at it.
    Refused(String),
}

/// Records what came of an event. When it was taken by somebody else meanwhile, nothing is changed:
/// that one records it.
pub async fn record(db: &Db, event: &Taken, handled: &Handled) -> Result<()> {
    let (state, note) = match handled {
        Handled::Well => (State::Handled, None),
        Handled::Foreign => (State::Ignored, Some("It is about nothing that was made here.")),
        Handled::Refused(why) => (State::Dead, Some(why.as_str())),
    };
    let tx = db.system().await?;
    let sql =
        "UPDATE stripe_event SET state = $3, note = $4, handled_at = now(), taken_until = NULL
        WHERE id = $1 AND fence = $2 AND state = 'pending'";
    let values = [event.id.as_str().into(), event.fence.into(), state.as_str().into(), note.into()];
    tx.conn().execute_raw(statement(sql, values)).await?;
    tx.commit().await
}

/// Records that an event could not be handled: it is tried again after a pause, or dead.
pub async fn record_failure(db: &Db, event: &Taken, why: &str) -> Result<()> {
    let nth = usize::try_from(event.attempts.saturating_sub(1)).unwrap_or_default();
    let pause = PAUSES_SECS.get(nth).map(|pause| pause * rand::rng().random_range(0.8..1.2));
    let tx = db.system().await?;
    let sql = "UPDATE stripe_event SET note = $3, taken_until = NULL,
            next_at = now() + make_interval(secs => coalesce($4, 0)),
            state = CASE WHEN $4::float8 IS NULL THEN 'dead' ELSE state END
        WHERE id = $1 AND fence = $2 AND state = 'pending'";
    let values = [event.id.as_str().into(), event.fence.into(), why.into(), pause.into()];
    tx.conn().execute_raw(statement(sql, values)).await?;
    tx.commit().await
}

/// Which events are wanted; nothing set: all.
#[derive(Debug, Default)]
pub struct Filter {
    pub state: Option<State>,
    pub kind: Option<String>,
}

/// A page of the events, newest first, and how many there are. For the platform's people.
pub async fn list_events(
    db: &Db,
    ctx: &TenantCtx,
    filter: &Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<stripe_event::Model>, u64)> {
    ctx.require(Permission::StripeEventsRead)?;
    let tx = db.system().await?;
    let mut query = stripe_event::Entity::find();
    if let Some(state) = filter.state {
        query = query.filter(Column::State.eq(state));
    }
    if let Some(kind) = filter.kind.as_ref().filter(|kind| !kind.contains('\0')) {
        query = query.filter(Column::Kind.eq(kind.as_str()));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::ReceivedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// No text of the database's has a NUL.
fn storable(id: &str) -> Result<()> {
    if id.contains('\0') { Err(Error::NotFound("event")) } else { Ok(()) }
}

/// An event. For the platform's people.
pub async fn find_event(db: &Db, ctx: &TenantCtx, id: &str) -> Result<stripe_event::Model> {
    ctx.require(Permission::StripeEventsRead)?;
    storable(id)?;
    let tx = db.system().await?;
    let row = stripe_event::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("event"))
}

/// Lets an event be handled once more, whatever became of it. For the platform's people.
pub async fn replay(db: &Db, ctx: &TenantCtx, id: &str) -> Result<stripe_event::Model> {
    ctx.require_write(Permission::StripeEventsReplay)?;
    storable(id)?;
    let tx = db.system_as(ctx).await?;
    let row = stripe_event::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("event"))?;
    if row.object_kind.as_deref().and_then(Subject::of).is_none() {
        let text = "Nothing follows from an event of this kind; there is nothing to replay.";
        return Err(Error::refused(Code::Conflict, text));
    }
    let fence = row.fence;
    let mut row: stripe_event::ActiveModel = row.into();
    row.state = Set(State::Pending);
    row.note = Set(None);
    row.attempts = Set(0);
    // Whoever works on it right now records nothing over this.
    row.fence = Set(fence.saturating_add(1));
    row.next_at = Set(Utc::now());
    row.taken_until = Set(None);
    row.handled_at = Set(None);
    let row = row.update(tx.conn()).await?;
    tx.conn().execute_unprepared("NOTIFY billing").await?;
    let there = ctx.within(ctx.home());
    tx.audit(&there, Audit::StripeEventReplayed { event: id.to_owned() }).await?;
    tx.commit().await?;
    Ok(row)
}

/// How many events wait, how many seconds the oldest has, and how many are dead.
pub async fn backlog(db: &Db) -> Result<(i64, f64, i64)> {
    let tx = db.system().await?;
    let sql = "SELECT count(*) FILTER (WHERE state = 'pending') AS waiting,
            count(*) FILTER (WHERE state = 'dead') AS dead,
            coalesce(extract(epoch FROM now() - min(received_at) FILTER (WHERE state = 'pending')), 0)::float8
                AS oldest
        FROM stripe_event WHERE state IN ('pending', 'dead') AND $1";
    let row = tx.conn().query_one_raw(statement(sql, [true.into()])).await?;
    let row = row.ok_or_else(|| Error::internal("a count without an answer"))?;
    Ok((row.try_get("", "waiting")?, row.try_get("", "oldest")?, row.try_get("", "dead")?))
}

/// The moment that billing goes by. With real money it is the clock's; in Stripe's test mode, where
/// time may be moved on, it is not earlier than the newest thing that Stripe has told.
pub async fn clock(tx: &SystemTx) -> Result<DateTime<Utc>> {
    let sql = "SELECT max(created_at) AS newest FROM stripe_event
        WHERE NOT livemode AND state <> 'unreadable' AND $1";
    let row = tx.conn().query_one_raw(statement(sql, [true.into()])).await?;
    let newest: Option<DateTime<Utc>> = row.map_or(Ok(None), |row| row.try_get("", "newest"))?;
    Ok(newest.map_or_else(Utc::now, |newest| newest.max(Utc::now())))
}

/// Removes events that were handled three months ago; Stripe itself keeps them for 30 days.
pub async fn prune(db: &Db) -> Result<()> {
    let old = Duration::from_secs(90 * 86_400).as_secs_f64();
    let tx = db.system().await?;
    let sql = "DELETE FROM stripe_event WHERE state IN ('handled', 'ignored')
        AND received_at < now() - make_interval(secs => $1)";
    tx.conn().execute_raw(statement(sql, [old.into()])).await?;
    tx.commit().await
}
