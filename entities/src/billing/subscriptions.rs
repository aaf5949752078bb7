//! What is paid again and again, as Stripe has it.

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::{Billing, Kind};
use crate::db::{Db, SystemTx, TenantTx, statement};
use crate::due;
use crate::error::{Code, Error};
use crate::ids::{OrderId, OrderItemId, PriceId, SubscriptionId};
use crate::orders;
use crate::tables::subscription::{self, Column};
use crate::tables::{order_item, price, product};
use crate::tenancy::TenantCtx;
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DeriveActiveEnum,
    EntityTrait, EnumIter, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The first payment has not come yet: nothing is made.
    #[sea_orm(string_value = "incomplete")]
    Incomplete,
    /// It never came.
    #[sea_orm(string_value = "incomplete_expired")]
    IncompleteExpired,
    #[sea_orm(string_value = "trialing")]
    Trialing,
    #[sea_orm(string_value = "active")]
    Active,
    /// A payment is missing; reminders are written, and what was bought runs on for a while.
    #[sea_orm(string_value = "past_due")]
    PastDue,
    /// Stripe has given the payment up; what was bought is suspended.
    #[sea_orm(string_value = "unpaid")]
    Unpaid,
    /// Nothing is charged, and what was bought is suspended.
    #[sea_orm(string_value = "paused")]
    Paused,
    #[sea_orm(string_value = "cancelled")]
    Cancelled,
}

/// Stripe's word, and ours: the one table of it (docs.stripe.com/billing/subscriptions/overview,
/// "Subscription statuses").
pub const STATUSES: [(&str, Status); 8] = [
    ("incomplete", Status::Incomplete),
    ("incomplete_expired", Status::IncompleteExpired),
    ("trialing", Status::Trialing),
    ("active", Status::Active),
    ("past_due", Status::PastDue),
    ("unpaid", Status::Unpaid),
    ("paused", Status::Paused),
    ("canceled", Status::Cancelled),
];

impl Status {
    /// From Stripe's word. While the collection is paused Stripe goes on calling a subscription
    /// active; here it is paused. A word that Stripe did not have yet is none: nothing is changed.
    #[must_use]
    pub fn of_stripe(word: &str, collection_paused: bool) -> Option<Self> {
        let (_, status) = STATUSES.iter().find(|(theirs, _)| *theirs == word)?;
        let runs = matches!(status, Self::Trialing | Self::Active | Self::PastDue | Self::Unpaid);
        Some(if collection_paused && runs { Self::Paused } else { *status })
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Cancelled | Self::IncompleteExpired)
    }
}

/// One thing that is paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The item's id at Stripe.
    pub stripe_id: String,
    /// The price's id at Stripe.
    pub stripe_price: String,
    /// Ours, when it is one of the catalogue.
    pub price: Option<PriceId>,
    /// The line of the order that it was at first; another price does not change that.
    #[serde(default)]
    pub order_item: Option<OrderItemId>,
    pub quantity: i64,
}

/// What was seen of a subscription at Stripe.
#[derive(Debug, Clone)]
pub struct Seen {
    pub stripe_id: String,
    pub customer: String,
    /// What we wrote into it.
    pub order: Option<OrderId>,
    pub status: Status,
    pub currency: String,
    /// Item, price and quantity, by Stripe's ids.
    pub items: Vec<(String, String, i64)>,
    pub period_start: Option<DateTime<Utc>>,
    pub period_end: Option<DateTime<Utc>>,
    pub trial_end: Option<DateTime<Utc>>,
    pub cancel_at: Option<DateTime<Utc>>,
    pub cancel_at_period_end: bool,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub invoice: Option<String>,
    /// Since when the newest invoice is open.
    pub open_since: Option<DateTime<Utc>>,
    pub action_url: Option<String>,
}

/// Numbers a look that is about to begin, for [`record`]; none: the subscription is not known yet. Of two
/// looks the one that was begun later stands. It may have seen less than the other; but whatever changes
/// at Stripe is told by an event of its own, whose look begins after the change.
pub async fn begin_look(tx: &SystemTx, stripe_id: &str) -> Result<Option<i64>> {
    let sql = "UPDATE subscription SET looks = looks + 1 WHERE stripe_id = $1 RETURNING looks";
    let row = tx.conn().query_one_raw(statement(sql, [stripe_id.into()])).await?;
    row.map(|row| row.try_get("", "looks").map_err(Error::from)).transpose()
}

/// What came of looking.
#[derive(Debug)]
pub enum Recorded {
    /// It is none of ours.
    Foreign,
    /// Somebody made the row since the look was begun; look again.
    Again,
    /// It is as was seen, or as somebody saw who looked later.
    Done(OrderId),
}

/// Brings our row to what was seen; makes it the first time.
pub async fn record(
    tx: &SystemTx,
    seen: &Seen,
    look: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Recorded> {
    let Some(known) = by_stripe_id(tx, &seen.stripe_id).await? else {
        return make(tx, seen, now).await;
    };
    // Always the order before what belongs to it, so that nobody waits for another in a circle.
    orders::status::lock(tx, known.order_id).await?;
    let row = subscription::Entity::find_by_id(known.id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("subscription"))?;
    let Some(look) = look else { return Ok(Recorded::Again) };
    if look <= row.seen {
        return Ok(Recorded::Done(row.order_id));
    }
    let before = show(&row);
    let (id, order, tenant, was) = (row.id, row.order_id, row.tenant_id, row.status);
    let mut active = row.into_active_model();
    fill(tx, &mut active, seen, now).await?;
    active.seen = Set(look);
    active.updated_at = Set(Utc::now());
    let row = active.update(tx.conn()).await?;
    let after = show(&row);
    if before != after {
        let ctx = TenantCtx::system(tenant);
        tx.audit(&ctx, Audit::SubscriptionUpdated { subscription: id, before, after }).await?;
        if row.status.is_over() && !was.is_over() {
            tx.audit(&ctx, Audit::SubscriptionCancelled { subscription: id, order }).await?;
        }
    }
    Ok(Recorded::Done(order))
}

async fn make(tx: &SystemTx, seen: &Seen, now: DateTime<Utc>) -> Result<Recorded> {
    let Some(id) = seen.order else { return Ok(Recorded::Foreign) };
    let order = match orders::status::lock(tx, id).await {
        Err(Error::NotFound(_)) => return Ok(Recorded::Foreign),
        order => order?,
    };
    let customer = super::customers::customer_of(tx, order.tenant_id).await?;
    if customer.as_deref() != Some(seen.customer.as_str()) || order.currency != seen.currency {
        return Ok(Recorded::Foreign);
    }
    let other = subscription::Entity::find().filter(Column::OrderId.eq(id)).one(tx.conn()).await?;
    // Made by somebody else since we looked, or a second one for the same order.
    if let Some(other) = other {
        if other.stripe_id == seen.stripe_id {
            return Ok(Recorded::Again);
        }
        if !other.status.is_over() || seen.status.is_over() {
            return Ok(Recorded::Foreign);
        }
        // The first came to nothing, and the order was paid for again.
        let before = show(&other);
        let subscription = other.id;
        let mut row = other.into_active_model();
        row.stripe_id = Set(seen.stripe_id.clone());
        row.items = Set(json!([]));
        fill(tx, &mut row, seen, now).await?;
        let row = row.update(tx.conn()).await?;
        let entry = Audit::SubscriptionUpdated { subscription, before, after: show(&row) };
        tx.audit(&TenantCtx::system(order.tenant_id), entry).await?;
        return Ok(Recorded::Done(id));
    }
    let mut row = subscription::ActiveModel {
        id: Set(SubscriptionId::new()),
        tenant_id: Set(order.tenant_id),
        order_id: Set(id),
        stripe_id: Set(seen.stripe_id.clone()),
        letters: Set(0),
        looks: Set(0),
        seen: Set(0),
        updated_at: Set(Utc::now()),
        created_at: Set(Utc::now()),
        ..Default::default()
    };
    fill(tx, &mut row, seen, now).await?;
    let row = row.insert(tx.conn()).await?;
    let ctx = TenantCtx::system(order.tenant_id);
    let (subscription, status) = (row.id, row.status);
    tx.audit(&ctx, Audit::SubscriptionCreated { subscription, order: id, status }).await?;
    if status.is_over() {
        tx.audit(&ctx, Audit::SubscriptionCancelled { subscription, order: id }).await?;
    }
    Ok(Recorded::Done(id))
}

/// One at which Stripe could not be brought to where it is to be is tried again after a while, and others
/// before it.
pub async fn postpone(db: &Db, stripe_id: &str) -> Result<()> {
    let tx = db.system().await?;
    let by_name = subscription::Entity::find().filter(Column::StripeId.eq(stripe_id));
    let row = by_name.one(tx.conn()).await?;
    drop(tx);
    match row {
        Some(row) => due::postpone(db, "subscription", row.id.0).await,
        None => Ok(()),
    }
}

async fn fill(
    tx: &SystemTx,
    row: &mut subscription::ActiveModel,
    seen: &Seen,
    now: DateTime<Utc>,
) -> Result<()> {
    let known: Vec<Item> = match row.items.try_as_ref() {
        Some(items) => serde_json::from_value(items.clone())?,
        None => Vec::new(),
    };
    let order = row.order_id.try_as_ref().copied();
    let mut items = Vec::with_capacity(seen.items.len());
    for (stripe_id, stripe_price, quantity) in &seen.items {
        let price = price::Entity::find()
            .filter(price::Column::StripeId.eq(stripe_price.as_str()))
            .one(tx.conn())
            .await?;
        let price = price.map(|row| row.id);
        let before = known.iter().find(|item| item.stripe_id == *stripe_id);
        let order_item = match before.and_then(|item| item.order_item) {
            Some(known) => Some(known),
            None => order_item::Entity::find()
                .filter(order_item::Column::OrderId.eq(order))
                .filter(order_item::Column::PriceId.eq(price))
                .one(tx.conn())
                .await?
                .map(|row| row.id),
        };
        items.push(Item {
            stripe_id: stripe_id.clone(),
            stripe_price: stripe_price.clone(),
            price,
            order_item,
            quantity: *quantity,
        });
    }
    let was_due = row.past_due_at.try_as_ref().copied().flatten();
    if seen.status == Status::PastDue || seen.status == Status::Unpaid {
        row.past_due_at = Set(was_due.or(seen.open_since).or(Some(now)));
    } else {
        row.past_due_at = Set(None);
        row.letters = Set(0);
    }
    row.status = Set(seen.status);
    row.currency = Set(seen.currency.clone());
    row.items = Set(serde_json::to_value(items)?);
    row.period_start = Set(seen.period_start);
    row.period_end = Set(seen.period_end);
    row.trial_end = Set(seen.trial_end);
    row.cancel_at = Set(seen.cancel_at);
    row.cancel_at_period_end = Set(seen.cancel_at_period_end);
    row.started_at = Set(seen.started_at);
    row.ended_at = Set(seen.ended_at.or(seen.status.is_over().then_some(now)));
    row.invoice = Set(seen.invoice.clone());
    row.action_url = Set(seen.action_url.clone());
    Ok(())
}

fn show(row: &subscription::Model) -> Value {
    json!({
        "status": row.status,
        "items": row.items,
        "period_end": row.period_end,
        "cancel_at": row.cancel_at,
        "cancel_at_period_end": row.cancel_at_period_end,
    })
}

/// What is paid for.
pub fn items(row: &subscription::Model) -> Result<Vec<Item>> {
    Ok(serde_json::from_value(row.items.clone())?)
}

/// A page of the tenant's subscriptions, newest first, and how many there are.
pub async fn list_subscriptions(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<subscription::Model>, u64)> {
    let query = tx.own::<subscription::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A subscription of the tenant.
pub async fn find_subscription(tx: &TenantTx, id: SubscriptionId) -> Result<subscription::Model> {
    let row = tx.own_by_id::<subscription::Entity>(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("subscription"))
}

/// The same, by Stripe's id, of any tenant.
pub async fn by_stripe_id(tx: &SystemTx, id: &str) -> Result<Option<subscription::Model>> {
    Ok(subscription::Entity::find().filter(Column::StripeId.eq(id)).one(tx.conn()).await?)
}

/// What is paid again and again for an order.
pub async fn of_order(tx: &SystemTx, order: OrderId) -> Result<Option<subscription::Model>> {
    Ok(subscription::Entity::find().filter(Column::OrderId.eq(order)).one(tx.conn()).await?)
}

/// Stripe's ids of those that are not over, after `after`, in their order.
pub async fn running(tx: &SystemTx, after: &str, limit: u64) -> Result<Vec<String>> {
    let rows = subscription::Entity::find()
        .filter(Column::Status.is_not_in([Status::Cancelled, Status::IncompleteExpired]))
        .filter(Column::StripeId.gt(after))
        .order_by_asc(Column::StripeId)
        .limit(limit)
        .all(tx.conn())
        .await?;
    Ok(rows.into_iter().map(|row| row.stripe_id).collect())
}

/// A price that a subscription may change to, as the tenant sees it: on sale, of the same currency,
/// and paid again and again.
pub async fn price_for_change(
    tx: &TenantTx,
    row: &subscription::Model,
    id: PriceId,
) -> Result<price::Model> {
    let price = tx.seen::<price::Entity>().filter(price::Column::Id.eq(id)).one(tx.conn()).await?;
    let price = price.ok_or(Error::NotFound("price"))?;
    let product = tx
        .seen::<product::Entity>()
        .filter(product::Column::Id.eq(price.product_id))
        .one(tx.conn())
        .await?;
    let product = product.ok_or(Error::NotFound("product"))?;
    if price.archived_at.is_some() || product.archived_at.is_some() {
        let text = format!("{} is not sold at this price any more. Choose another.", product.name);
        return Err(Error::refused(Code::NotForSale, text));
    }
    if price.billing == Billing::OneOff {
        return Err(Error::field("price_id", "must be a price that is paid again and again"));
    }
    if price.currency != row.currency {
        return Err(Error::field("price_id", "must be of the subscription's currency"));
    }
    Ok(price)
}

/// Refuses a change to something else than what is paid for now: another kind of thing.
pub async fn refuse_other_kind(tx: &TenantTx, from: PriceId, to: &price::Model) -> Result<()> {
    let of = async |id: PriceId| {
        let price =
            tx.seen::<price::Entity>().filter(price::Column::Id.eq(id)).one(tx.conn()).await?;
        let Some(price) = price else { return Ok::<_, Error>(None) };
        let product = tx.seen::<product::Entity>();
        let product = product.filter(product::Column::Id.eq(price.product_id));
        Ok(product.one(tx.conn()).await?)
    };
    let (now, then) = (of(from).await?, of(to.id).await?);
    let Some(now) = now else { return Ok(()) };
    if then.as_ref().map(|then| then.kind) != Some(now.kind) {
        return Err(Error::field("price_id", "must be of the kind that is paid for now"));
    }
    if now.kind == Kind::Addon && then.map(|then| then.id) != Some(now.id) {
        let text = "must be of the same add-on: what it raises was made with its order. Order what is to be different";
        return Err(Error::field("price_id", text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sea_orm::Iterable;

    #[test]
    fn each_word_of_stripe_has_one_of_ours() {
        use Status::*;
        for (word, paused, ours) in [
            ("incomplete", false, Some(Incomplete)),
            ("incomplete_expired", false, Some(IncompleteExpired)),
            ("trialing", false, Some(Trialing)),
            ("active", false, Some(Active)),
            ("past_due", false, Some(PastDue)),
            ("unpaid", false, Some(Unpaid)),
            ("paused", false, Some(Paused)),
            ("canceled", false, Some(Cancelled)),
            ("incomplete", true, Some(Incomplete)),
            ("incomplete_expired", true, Some(IncompleteExpired)),
            ("trialing", true, Some(Paused)),
            ("active", true, Some(Paused)),
            ("past_due", true, Some(Paused)),
            ("unpaid", true, Some(Paused)),
            ("paused", true, Some(Paused)),
            ("canceled", true, Some(Cancelled)),
            ("cancelled", false, None),
            ("", false, None),
        ] {
            assert_eq!(Status::of_stripe(word, paused), ours, "{word} {paused}");
        }
        for status in Status::iter() {
            assert_eq!(STATUSES.iter().filter(|(_, ours)| *ours == status).count(), 1);
        }
    }
}
