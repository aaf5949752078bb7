//! Money that goes back, to the card or as a credit for what is billed next. A row is written in the
//! transaction of what it follows from; a worker carries it out at Stripe under a key of the row, so
//! that each is made once whoever dies when.

use crate::Result;
use crate::audit::Audit;
use crate::billing::payments;
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::error::{Code, Error};
use crate::ids::{OrderId, PaymentId, RepaymentId};
use crate::orders;
use crate::tables::orders as orders_table;
use crate::tables::payment;
use crate::tables::repayment::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DeriveActiveEnum,
    EntityTrait, EnumIter, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use values::{Money, Title};

/// How money goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// To where it came from.
    #[sea_orm(string_value = "refund")]
    Refund,
    /// It lowers what is billed next.
    #[sea_orm(string_value = "credit")]
    Credit,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Refund, Self::Credit];
}

/// Where a repayment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Stripe is to be asked.
    #[sea_orm(string_value = "wanted")]
    Wanted,
    /// Stripe has it, and the bank has not.
    #[sea_orm(string_value = "pending")]
    Pending,
    #[sea_orm(string_value = "succeeded")]
    Succeeded,
    /// Stripe or the bank did not take it: somebody must look at it.
    #[sea_orm(string_value = "failed")]
    Failed,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Wanted, Self::Pending, Self::Succeeded, Self::Failed];
}

/// Why a payment goes back that came when nobody could take it.
pub(crate) fn unwanted(payment: PaymentId) -> String {
    format!("payment/{payment}/unwanted")
}

/// Wants money of a payment back to where it came from: so much, or all that is left. `reference`
/// names why, once in the installation, and `cause` says it; whoever wants the same again changes
/// nothing. Nothing left: nothing is wanted.
pub async fn want_refund(
    tx: &SystemTx,
    order: &orders_table::Model,
    payment: &payment::Model,
    amount: Option<i64>,
    (reference, cause): (&str, &str),
) -> Result<bool> {
    let payment = payments::lock(tx, payment.id).await?;
    let left = left_of(tx, &payment).await?;
    let amount = amount.unwrap_or(left).min(left);
    if amount <= 0 {
        return Ok(false);
    }
    let new = New { kind: Kind::Refund, payment: Some(payment.id), amount, reference, cause };
    insert(tx, &TenantCtx::system(order.tenant_id), order, &new).await
}

/// Wants a credit of so much for what is billed next.
pub async fn want_credit(
    tx: &SystemTx,
    order: &orders_table::Model,
    amount: i64,
    (reference, cause): (&str, &str),
) -> Result<bool> {
    let new = New { kind: Kind::Credit, payment: None, amount, reference, cause };
    insert(tx, &TenantCtx::system(order.tenant_id), order, &new).await
}

/// What of a payment did not go back yet, and is not on its way.
async fn left_of(tx: &SystemTx, payment: &payment::Model) -> Result<i64> {
    let coming: Vec<i64> = repayment::Entity::find()
        .filter(Column::PaymentId.eq(payment.id))
        .filter(Column::State.is_in([State::Wanted, State::Pending, State::Succeeded]))
        .select_only()
        .column(Column::Amount)
        .into_tuple()
        .all(tx.conn())
        .await?;
    let ours = coming.into_iter().fold(0i64, i64::saturating_add);
    // What somebody gave back by Stripe's own pages is known from the payment only.
    Ok(payment.amount.saturating_sub(ours.max(payment.refunded)))
}

struct New<'a> {
    kind: Kind,
    payment: Option<PaymentId>,
    amount: i64,
    reference: &'a str,
    cause: &'a str,
}

async fn insert(
    tx: &SystemTx,
    ctx: &TenantCtx,
    order: &orders_table::Model,
    new: &New<'_>,
) -> Result<bool> {
    let id = RepaymentId::new();
    let row = repayment::ActiveModel {
        id: Set(id),
        tenant_id: Set(order.tenant_id),
        order_id: Set(order.id),
        payment_id: Set(new.payment),
        reference: Set(new.reference.to_owned()),
        kind: Set(new.kind),
        currency: Set(order.currency.clone()),
        amount: Set(new.amount),
        cause: Set(new.cause.to_owned()),
        actor: Set(serde_json::to_value(ctx.actor())?),
        state: Set(State::Wanted),
        attempts: Set(0),
        next_at: Set(Utc::now()),
        created_at: Set(Utc::now()),
        ..Default::default()
    };
    let once = sea_orm::sea_query::OnConflict::column(Column::Reference).do_nothing().to_owned();
    let inserted =
        repayment::Entity::insert(row).on_conflict(once).exec_without_returning(tx.conn()).await?;
    if inserted == 0 {
        return Ok(false);
    }
    let (money, cause) = (Money::new(new.amount, order.currency.parse()?), new.cause.to_owned());
    let entry = match new.kind {
        Kind::Refund => Audit::RefundCreated { repayment: id, order: order.id, money, cause },
        Kind::Credit => Audit::CreditCreated { repayment: id, order: order.id, money, cause },
    };
    tx.audit(ctx, entry).await?;
    tx.conn().execute_unprepared("NOTIFY billing").await?;
    Ok(true)
}

/// A refund that somebody of the platform wants.
#[derive(Debug)]
pub struct Asked {
    pub payment: PaymentId,
    /// In minor units; none: all that is left.
    pub amount: Option<i64>,
    pub reason: Title,
}

/// Gives money of a payment of any tenant back, for the platform's people.
pub async fn refund(db: &Db, ctx: &TenantCtx, asked: &Asked) -> Result<repayment::Model> {
    ctx.require_write(Permission::PaymentsRefund)?;
    let tx = db.system_as(ctx).await?;
    let payment = payment::Entity::find_by_id(asked.payment).one(tx.conn()).await?;
    let payment = payment.ok_or(Error::NotFound("payment"))?;
    let order = orders::status::lock(&tx, payment.order_id).await?;
    let payment = payments::lock(&tx, payment.id).await?;
    let left = left_of(&tx, &payment).await?;
    let amount = asked.amount.unwrap_or(left);
    if left == 0 {
        let text = "All of this payment went back already, or is on its way.";
        return Err(Error::refused(Code::Conflict, text));
    }
    if !(1..=left).contains(&amount) {
        return Err(Error::field("amount", format!("must be 1 to {left} minor units")));
    }
    let reference = format!("payment/{}/{}", payment.id, RepaymentId::new());
    let new = New {
        kind: Kind::Refund,
        payment: Some(payment.id),
        amount,
        reference: &reference,
        cause: asked.reason.as_str(),
    };
    insert(&tx, &ctx.within(order.tenant_id), &order, &new).await?;
    let row = repayment::Entity::find().filter(Column::Reference.eq(reference.as_str()));
    let row = row.one(tx.conn()).await?.ok_or(Error::NotFound("repayment"))?;
    tx.commit().await?;
    Ok(row)
}

/// How long others leave a repayment alone that somebody took.
const LEASE_SECS: f64 = 90.0;

/// Takes what Stripe is to be asked for. Whoever dies with it leaves it to the next.
pub async fn take(db: &Db, limit: i64) -> Result<Vec<repayment::Model>> {
    let tx = db.system().await?;
    let sql = "UPDATE repayment SET attempts = attempts + 1,
            next_at = now() + make_interval(secs => $2)
        WHERE id IN (SELECT id FROM repayment WHERE state = 'wanted' AND next_at <= now()
            ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id";
    let rows = tx.conn().query_all_raw(statement(sql, [limit.into(), LEASE_SECS.into()])).await?;
    let ids = rows.iter().map(|row| row.try_get("", "id")).collect::<Result<Vec<RepaymentId>, _>>();
    let found = repayment::Entity::find()
        .filter(Column::Id.is_in(ids?))
        .order_by_asc(Column::Id)
        .all(tx.conn())
        .await?;
    tx.commit().await?;
    Ok(found)
}

/// Stripe was not asked to the end: the row is tried again after a pause.
pub async fn postpone(tx: &SystemTx, row: &repayment::Model, why: &str) -> Result<()> {
    let sql = "UPDATE repayment SET error = $2,
            next_at = now() + make_interval(secs => least(21600, 5 * 2 ^ least(attempts, 12)))
        WHERE id = $1 AND state = 'wanted'";
    tx.conn().execute_raw(statement(sql, [row.id.0.into(), why.into()])).await?;
    Ok(())
}

/// What became of a repayment at Stripe.
#[derive(Debug, Clone)]
pub struct Made {
    pub stripe_id: Option<String>,
    pub state: State,
    pub error: Option<String>,
}

/// Records what became of a repayment, the first time and whenever Stripe tells more.
pub async fn record(tx: &SystemTx, id: RepaymentId, made: &Made) -> Result<Option<OrderId>> {
    let row = repayment::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    let Some(row) = row else { return Ok(None) };
    let (was, order, tenant) = (row.state, row.order_id, row.tenant_id);
    let money = Money::new(row.amount, row.currency.parse()?);
    if was == made.state && row.stripe_id == made.stripe_id {
        return Ok(Some(order));
    }
    let mut active = row.into_active_model();
    active.state = Set(made.state);
    if made.stripe_id.is_some() {
        active.stripe_id = Set(made.stripe_id.clone());
    }
    active.error = Set(made.error.clone());
    active.update(tx.conn()).await?;
    let ctx = TenantCtx::system(tenant);
    let entry = match made.state {
        State::Succeeded => Audit::RefundSucceeded { repayment: id, order, money },
        State::Failed => Audit::RefundFailed {
            repayment: id,
            order,
            reason: made.error.clone().unwrap_or_else(|| "The bank did not take it.".to_owned()),
        },
        State::Wanted | State::Pending => return Ok(Some(order)),
    };
    if was != made.state {
        tx.audit(&ctx, entry).await?;
    }
    Ok(Some(order))
}

/// By Stripe's id of the refund.
pub async fn by_stripe_id(tx: &SystemTx, id: &str) -> Result<Option<repayment::Model>> {
    Ok(repayment::Entity::find().filter(Column::StripeId.eq(id)).one(tx.conn()).await?)
}

/// What went back, or is to, of an order.
pub async fn of_order(tx: &SystemTx, order: OrderId) -> Result<Vec<repayment::Model>> {
    let query = repayment::Entity::find().filter(Column::OrderId.eq(order));
    Ok(query.order_by_asc(Column::CreatedAt).order_by_asc(Column::Id).all(tx.conn()).await?)
}

/// What went back to the tenant, or is to, newest first.
pub async fn list_repayments(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<repayment::Model>, u64)> {
    let query = tx.own::<repayment::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}
