//! Attempts to pay for an order: each is one Checkout Session at Stripe. An order has at most one that
//! is open.

use crate::Result;
use crate::audit::Audit;
use crate::billing::{customers, payments, repayments};
use crate::db::{Db, SystemTx, TenantTx};
use crate::due;
use crate::error::{Code, Error};
use crate::ids::{CheckoutId, OrderId};
use crate::orders::{self, Status};
use crate::tables::checkout::{self, Column};
use crate::tables::{order_item, orders as orders_table, price, product};
use crate::tenancy::{Permission, TenantCtx};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, DeriveActiveEnum, EntityTrait,
    EnumIter, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where an attempt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Stripe is being asked.
    #[sea_orm(string_value = "opening")]
    Opening,
    #[sea_orm(string_value = "open")]
    Open,
    /// The customer has done everything, and the money is on its way.
    #[sea_orm(string_value = "processing")]
    Processing,
    #[sea_orm(string_value = "complete")]
    Complete,
    #[sea_orm(string_value = "expired")]
    Expired,
    /// Stripe did not take it, or the money did not come.
    #[sea_orm(string_value = "failed")]
    Failed,
    /// What was paid is not what was ordered.
    #[sea_orm(string_value = "refused")]
    Refused,
    /// It was paid when nobody could take it any more; the money goes back.
    #[sea_orm(string_value = "unwanted")]
    Unwanted,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Opening,
        Self::Open,
        Self::Processing,
        Self::Complete,
        Self::Expired,
        Self::Failed,
        Self::Refused,
        Self::Unwanted,
    ];
    const LIVE: [Self; 3] = [Self::Opening, Self::Open, Self::Processing];
}

/// How long Stripe leaves a session open.
const OPEN_FOR: TimeDelta = TimeDelta::hours(24);

/// What is bought, as Stripe must be told of it.
#[derive(Debug)]
pub struct Basket {
    pub order: orders_table::Model,
    pub lines: Vec<Bought>,
}

/// A line of an order with what it rests on.
#[derive(Debug)]
pub struct Bought {
    pub item: order_item::Model,
    pub price: price::Model,
    pub product: product::Model,
}

/// The lines of an order with their products and prices.
pub async fn basket(tx: &SystemTx, id: OrderId) -> Result<Basket> {
    let order = orders_table::Entity::find_by_id(id).one(tx.conn()).await?;
    let order = order.ok_or(Error::NotFound("order"))?;
    let items = order_item::Entity::find()
        .filter(order_item::Column::OrderId.eq(id))
        .order_by_asc(order_item::Column::Position)
        .all(tx.conn())
        .await?;
    let mut lines = Vec::with_capacity(items.len());
    for item in items {
        let price = price::Entity::find_by_id(item.price_id).one(tx.conn()).await?;
        let product = product::Entity::find_by_id(item.product_id).one(tx.conn()).await?;
        let (Some(price), Some(product)) = (price, product) else {
            return Err(Error::internal("a line of an order without its price"));
        };
        lines.push(Bought { item, price, product });
    }
    Ok(Basket { order, lines })
}

/// Begins to pay for an order of the tenant: the order waits for payment from here on, room is held
/// for it, and an attempt stands to which Stripe is to be asked for a session. When one is open
/// already, it is that one: of many who begin at once all get the same.
pub async fn begin(
    db: &Db,
    ctx: &TenantCtx,
    id: OrderId,
    promotion_code: Option<String>,
) -> Result<checkout::Model> {
    ctx.require_write(Permission::BillingWrite)?;
    let tx = db.system().await?;
    let order = orders::status::lock(&tx, id).await?;
    if order.tenant_id != ctx.tenant() {
        return Err(Error::NotFound("order"));
    }
    let live = checkout::Entity::find()
        .filter(Column::OrderId.eq(id))
        .filter(Column::State.is_in(State::LIVE))
        .one(tx.conn())
        .await?;
    if let Some(row) = live {
        if row.state == State::Processing {
            let text = "This order was paid for, and the money is on its way. Wait for it.";
            return Err(Error::refused(Code::OrderState, text));
        }
        // Another code is another session: the open one is left to run out by whoever asks again.
        if order.status == Status::PendingPayment && !row.closing && row.expires_at > Utc::now() {
            if promotion_code.is_some() && row.promotion_code != promotion_code {
                let text = "A checkout of this order is open with another promotion code. Enter the code on its page, or cancel it first.";
                return Err(Error::refused(Code::Conflict, text));
            }
            return Ok(row);
        }
        let text = "The last checkout of this order is being closed. Try again in a moment.";
        return Err(Error::refused(Code::Conflict, text));
    }
    if order.status != Status::PendingPayment {
        orders::advance(&tx, ctx, id, Status::PendingPayment, "A checkout was begun.").await?;
    } else {
        orders::status::hold_again(&tx, &order).await?;
    }
    let last = checkout::Entity::find()
        .filter(Column::OrderId.eq(id))
        .order_by_desc(Column::Attempt)
        .one(tx.conn())
        .await?;
    let attempt = last.map_or(0, |row| row.attempt).saturating_add(1);
    let row = checkout::ActiveModel {
        id: Set(CheckoutId::new()),
        tenant_id: Set(order.tenant_id),
        order_id: Set(id),
        attempt: Set(attempt),
        state: Set(State::Opening),
        promotion_code: Set(promotion_code),
        request: Set(Value::Null),
        closing: Set(false),
        expires_at: Set(Utc::now() + OPEN_FOR),
        created_at: Set(Utc::now()),
        ..Default::default()
    };
    let row = row.insert(tx.conn()).await?;
    let number = order.number;
    tx.audit(ctx, Audit::CheckoutOpened { order: id, number, attempt }).await?;
    tx.commit().await?;
    Ok(row)
}

/// Fixes what Stripe is asked for: whoever asks again asks for the same. Answers what counts.
pub async fn fix_request(tx: &SystemTx, row: &checkout::Model, request: Value) -> Result<Value> {
    let row = locked(tx, row.id).await?;
    if !row.request.is_null() {
        return Ok(row.request);
    }
    let mut row = row.into_active_model();
    row.request = Set(request.clone());
    row.update(tx.conn()).await?;
    Ok(request)
}

/// A session that Stripe has made.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'a> {
    pub stripe_id: &'a str,
    pub url: Option<&'a str>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Records that Stripe has a session. None: the attempt is over meanwhile, and the session is to be
/// closed.
pub async fn opened(
    tx: &SystemTx,
    id: CheckoutId,
    opened: &Opened<'_>,
) -> Result<Option<checkout::Model>> {
    let row = locked(tx, id).await?;
    let is_wanted = row.state == State::Open || (row.state == State::Opening && !row.closing);
    let mut active = row.clone().into_active_model();
    active.stripe_id = Set(Some(opened.stripe_id.to_owned()));
    if row.state == State::Opening {
        active.state = Set(State::Open);
        active.url = Set(opened.url.map(str::to_owned));
        active.expires_at = Set(opened.expires_at.unwrap_or(row.expires_at));
    }
    let row = active.update(tx.conn()).await?;
    Ok(is_wanted.then_some(row))
}

/// Records that Stripe does not take it: the order may be paid in another way.
pub async fn not_opened(tx: &SystemTx, id: CheckoutId, why: &str) -> Result<()> {
    let row = locked(tx, id).await?;
    if row.state == State::Opening {
        let mut active = row.into_active_model();
        active.state = Set(State::Failed);
        active.error = Set(Some(why.to_owned()));
        active.ended_at = Set(Some(Utc::now()));
        active.update(tx.conn()).await?;
    }
    Ok(())
}

async fn locked(tx: &SystemTx, id: CheckoutId) -> Result<checkout::Model> {
    let row = checkout::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("checkout"))
}

/// The attempts of orders that nobody waits for the payment of any more, of those that are over their
/// time, and of those that nobody ended to open: they are to be closed at Stripe.
pub async fn to_close(tx: &SystemTx, limit: u64) -> Result<Vec<checkout::Model>> {
    let unwanted = orders_table::Entity::find()
        .filter(orders_table::Column::Status.ne(Status::PendingPayment))
        .select_only()
        .column(orders_table::Column::Id);
    let over = Condition::any()
        .add(Column::Closing.eq(true))
        .add(Column::OrderId.in_subquery(unwanted.into_query()))
        .add(Column::ExpiresAt.lt(Utc::now() - TimeDelta::minutes(10)))
        .add(
            Condition::all()
                .add(Column::State.eq(State::Opening))
                .add(Column::CreatedAt.lt(Utc::now() - TimeDelta::minutes(5))),
        );
    Ok(checkout::Entity::find()
        .filter(Column::State.is_in([State::Opening, State::Open]))
        .filter(over)
        .filter(Column::NextAt.lte(Utc::now()))
        .order_by_asc(Column::NextAt)
        .order_by_asc(Column::Id)
        .limit(limit)
        .all(tx.conn())
        .await?)
}

/// An attempt that could not be closed is tried again after a while, and others before it.
pub async fn postpone(db: &Db, id: CheckoutId) -> Result<()> {
    due::postpone(db, "checkout", id.0).await
}

/// Attempts that may have become something else at Stripe without our hearing of it.
pub async fn live(tx: &SystemTx, limit: u64) -> Result<Vec<String>> {
    let rows = checkout::Entity::find()
        .filter(Column::State.is_in([State::Open, State::Processing]))
        .filter(Column::StripeId.is_not_null())
        .order_by_asc(Column::CreatedAt)
        .limit(limit)
        .all(tx.conn())
        .await?;
    Ok(rows.into_iter().filter_map(|row| row.stripe_id).collect())
}

/// The session of an order that waits for money that is on its way.
pub async fn waiting(tx: &SystemTx, order: OrderId) -> Result<Option<String>> {
    let row = checkout::Entity::find()
        .filter(Column::OrderId.eq(order))
        .filter(Column::State.eq(State::Processing))
        .one(tx.conn())
        .await?;
    Ok(row.and_then(|row| row.stripe_id))
}

/// Whether all that was paid for an order at Stripe came when nobody could take it.
pub(crate) async fn is_unwanted(tx: &SystemTx, order: OrderId) -> Result<bool> {
    let ended = checkout::Entity::find()
        .filter(Column::OrderId.eq(order))
        .filter(Column::State.is_in([State::Unwanted, State::Complete]))
        .all(tx.conn())
        .await?;
    Ok(!ended.is_empty() && ended.iter().all(|row| row.state == State::Unwanted))
}

/// A session is not at Stripe any more: its attempt is over.
pub async fn vanish(tx: &SystemTx, stripe_id: &str) -> Result<()> {
    let row = checkout::Entity::find()
        .filter(Column::StripeId.eq(stripe_id))
        .filter(Column::State.is_in(State::LIVE))
        .one(tx.conn())
        .await?;
    let Some(row) = row else { return Ok(()) };
    let order = orders::status::lock(tx, row.order_id).await?;
    let mut active = locked(tx, row.id).await?.into_active_model();
    active.state = Set(State::Expired);
    active.url = Set(None);
    active.error = Set(Some("Stripe does not know it any more.".to_owned()));
    active.ended_at = Set(Some(Utc::now()));
    active.update(tx.conn()).await?;
    if order.status == Status::PendingPayment {
        let ctx = TenantCtx::system(order.tenant_id);
        orders::advance(tx, &ctx, order.id, Status::Expired, "The checkout is gone.").await?;
    }
    Ok(())
}

/// The newest attempt to pay for an order of the tenant.
pub async fn find_newest(tx: &TenantTx, order: OrderId) -> Result<checkout::Model> {
    let row = tx
        .own::<checkout::Entity>()
        .filter(Column::OrderId.eq(order))
        .order_by_desc(Column::Attempt)
        .one(tx.conn())
        .await?;
    row.ok_or(Error::NotFound("checkout"))
}

/// The order that a session of ours is for.
pub async fn order_of_session(db: &Db, stripe_id: &str) -> Result<Option<OrderId>> {
    // No text of the database's has one.
    if stripe_id.contains('\0') {
        return Ok(None);
    }
    let tx = db.system().await?;
    let row = checkout::Entity::find().filter(Column::StripeId.eq(stripe_id)).one(tx.conn());
    Ok(row.await?.map(|row| row.order_id))
}

/// Lets the open attempt of an order of the tenant be closed; the one that is to be.
pub async fn give_up(db: &Db, ctx: &TenantCtx, order: OrderId) -> Result<checkout::Model> {
    ctx.require_write(Permission::BillingWrite)?;
    let tx = db.system().await?;
    let row = checkout::Entity::find()
        .filter(Column::OrderId.eq(order))
        .filter(Column::TenantId.eq(ctx.tenant()))
        .filter(Column::State.is_in([State::Opening, State::Open]))
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    let row = row.ok_or(Error::NotFound("checkout"))?;
    let mut active = row.into_active_model();
    active.closing = Set(true);
    let row = active.update(tx.conn()).await?;
    let entry = Audit::CheckoutClosed { order, attempt: row.attempt };
    tx.audit(ctx, entry).await?;
    tx.commit().await?;
    Ok(row)
}

/// What was seen of a session at Stripe.
#[derive(Debug, Clone)]
pub struct Seen {
    pub stripe_id: String,
    pub is_open: bool,
    pub is_expired: bool,
    /// `paid`, `unpaid` or `no_payment_required`.
    pub payment_status: String,
    pub customer: Option<String>,
    pub currency: Option<String>,
    /// Before discounts and taxes.
    pub subtotal: Option<i64>,
    /// What we wrote into it: the order, and which attempt it is.
    pub order: Option<OrderId>,
    pub attempt: Option<i32>,
    pub url: Option<String>,
    /// What paid for it: PaymentIntents.
    pub intents: Vec<String>,
    pub requires_action: bool,
    pub intent_failed: bool,
}

/// What came of looking at a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is none of ours.
    Foreign,
    /// The order is as the session says.
    Well,
    /// What was paid is not what was ordered.
    Refused(String),
    /// It was paid, and the order cannot take it: money goes back, and what runs is to be ended.
    Unwanted,
}

/// Which attempt a session is: by its id, or, when the process died before that was kept, by what we
/// wrote into it.
async fn of_session(tx: &SystemTx, seen: &Seen) -> Result<Option<checkout::Model>> {
    let known = checkout::Entity::find().filter(Column::StripeId.eq(seen.stripe_id.as_str()));
    if let Some(row) = known.one(tx.conn()).await? {
        return Ok(Some(row));
    }
    let (Some(order), Some(attempt)) = (seen.order, seen.attempt) else { return Ok(None) };
    Ok(checkout::Entity::find()
        .filter(Column::OrderId.eq(order))
        .filter(Column::Attempt.eq(attempt))
        .filter(Column::StripeId.is_null())
        .one(tx.conn())
        .await?)
}

/// Whether a session is one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It is none of ours.
    Foreign,
    Fits,
    /// It is not what was ordered.
    Differs,
}

/// Compares a session with its order; nothing is changed.
pub async fn check(tx: &SystemTx, seen: &Seen) -> Result<Checked> {
    let Some(row) = of_session(tx, seen).await? else { return Ok(Checked::Foreign) };
    let order = orders_table::Entity::find_by_id(row.order_id).one(tx.conn()).await?;
    let order = order.ok_or(Error::NotFound("order"))?;
    let differs = mismatch(tx, &order, seen).await?.is_some();
    Ok(if differs { Checked::Differs } else { Checked::Fits })
}

/// Brings an attempt and its order to what was seen of its session. The one function that fulfils,
/// whoever heard of the payment first; of many at once one does, and the others find it done.
///
/// Answers the order, too, whose standing is to be converged then.
pub async fn settle(tx: &SystemTx, seen: &Seen) -> Result<(Settled, Option<OrderId>)> {
    let Some(row) = of_session(tx, seen).await? else { return Ok((Settled::Foreign, None)) };
    let order = orders::status::lock(tx, row.order_id).await?;
    let row = locked(tx, row.id).await?;
    let id = order.id;
    Ok((settle_locked(tx, row, order, seen).await?, Some(id)))
}

async fn settle_locked(
    tx: &SystemTx,
    row: checkout::Model,
    order: orders_table::Model,
    seen: &Seen,
) -> Result<Settled> {
    match row.state {
        State::Complete => return Ok(Settled::Well),
        State::Refused => return Ok(Settled::Refused(row.error.unwrap_or_default())),
        State::Unwanted => return Ok(Settled::Unwanted),
        _ => {}
    }
    let ctx = TenantCtx::system(order.tenant_id);
    if let Some(why) = mismatch(tx, &order, seen).await? {
        let (id, number) = (order.id, order.number.clone());
        end(tx, row, seen, State::Refused, Some(why.clone())).await?;
        let entry = Audit::CheckoutRefused { order: id, number, reason: why.clone() };
        tx.audit(&ctx, entry).await?;
        return Ok(Settled::Refused(why));
    }
    if seen.is_expired {
        end(tx, row, seen, State::Expired, None).await?;
        let others = checkout::Entity::find()
            .filter(Column::OrderId.eq(order.id))
            .filter(Column::State.is_in(State::LIVE));
        let is_last = others.one(tx.conn()).await?.is_none();
        if order.status == Status::PendingPayment && is_last {
            let cause = "The checkout ran out.";
            orders::advance(tx, &ctx, order.id, Status::Expired, cause).await?;
        }
        return Ok(Settled::Well);
    }
    if seen.is_open {
        note(tx, row, &order, seen, State::Open).await?;
        return Ok(Settled::Well);
    }
    if seen.payment_status == "unpaid" {
        return wait_for_money(tx, row, &order, seen).await;
    }
    let cause = "It was paid at Stripe.";
    let why = match orders::advance(tx, &ctx, order.id, Status::Paid, cause).await {
        Ok(true) => {
            end(tx, row, seen, State::Complete, None).await?;
            return Ok(Settled::Well);
        }
        // Somebody had marked it as paid by hand: this money is too much.
        Ok(false) => "It was paid already.".to_owned(),
        Err(error)
            if matches!(
                error.code(),
                Code::OrderState | Code::QuotaExceeded | Code::NoCapacity | Code::Conflict
            ) =>
        {
            error.to_string()
        }
        Err(error) => return Err(error),
    };
    end(tx, row, seen, State::Unwanted, Some(why.clone())).await?;
    give_back(tx, &order, seen, &why).await?;
    Ok(Settled::Unwanted)
}

/// The customer has done everything, and no money has come yet, or it did not come.
async fn wait_for_money(
    tx: &SystemTx,
    row: checkout::Model,
    order: &orders_table::Model,
    seen: &Seen,
) -> Result<Settled> {
    if !seen.intent_failed {
        note(tx, row, order, seen, State::Processing).await?;
        return Ok(Settled::Well);
    }
    let why = "The money did not come.".to_owned();
    end(tx, row, seen, State::Failed, Some(why.clone())).await?;
    let ctx = TenantCtx::system(order.tenant_id);
    if order.status == Status::PendingPayment {
        orders::advance(tx, &ctx, order.id, Status::Expired, &why).await?;
        tx.audit(&ctx, Audit::PaymentFailed { order: order.id, reason: why }).await?;
    }
    Ok(Settled::Well)
}

async fn note(
    tx: &SystemTx,
    row: checkout::Model,
    order: &orders_table::Model,
    seen: &Seen,
    state: State,
) -> Result<()> {
    let payment = if seen.requires_action {
        "requires_action".to_owned()
    } else {
        seen.payment_status.clone()
    };
    let is_news = row.payment_state.as_deref() != Some(payment.as_str());
    let mut active = row.into_active_model();
    active.state = Set(state);
    active.stripe_id = Set(Some(seen.stripe_id.clone()));
    active.url = Set(seen.url.clone());
    active.payment_state = Set(Some(payment));
    active.update(tx.conn()).await?;
    if is_news && seen.requires_action {
        let ctx = TenantCtx::system(order.tenant_id);
        tx.audit(&ctx, Audit::PaymentActionRequired { order: order.id }).await?;
    }
    Ok(())
}

async fn end(
    tx: &SystemTx,
    row: checkout::Model,
    seen: &Seen,
    state: State,
    error: Option<String>,
) -> Result<()> {
    let mut active = row.into_active_model();
    active.state = Set(state);
    active.stripe_id = Set(Some(seen.stripe_id.clone()));
    active.payment_state = Set(Some(seen.payment_status.clone()));
    active.error = Set(error);
    active.url = Set(None);
    active.ended_at = Set(Some(Utc::now()));
    active.update(tx.conn()).await?;
    Ok(())
}

/// Why a session is not what was ordered.
async fn mismatch(
    tx: &SystemTx,
    order: &orders_table::Model,
    seen: &Seen,
) -> Result<Option<String>> {
    let customer = customers::customer_of(tx, order.tenant_id).await?;
    let number = &order.number;
    Ok(if seen.order != Some(order.id) {
        Some(format!("The session names another order than {number}."))
    } else if customer.is_none() || seen.customer != customer {
        Some(format!("The session is not of the customer who ordered {number}."))
    } else if seen.currency.as_deref() != Some(order.currency.as_str()) {
        Some(format!("The session is not in the currency of {number}."))
    } else if seen.subtotal != Some(order.due_now) {
        Some(format!("The session's amount is not that of {number}."))
    } else {
        None
    })
}

/// Money that came for an order that cannot take it goes back.
async fn give_back(
    tx: &SystemTx,
    order: &orders_table::Model,
    seen: &Seen,
    cause: &str,
) -> Result<()> {
    for intent in &seen.intents {
        if let Some(payment) = payments::by_stripe_id(tx, intent).await? {
            let reference = repayments::unwanted(payment.id);
            repayments::want_refund(tx, order, &payment, None, (&reference, cause)).await?;
        }
    }
    Ok(())
}
