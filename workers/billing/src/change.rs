//! Changes of what is paid for again and again. Stripe is asked, and the subscription is looked at
//! anew; what follows for the services follows from what is seen then.

use crate::client::{Answer, Failure};
use crate::objects::{Invoice, Named, Subscription};
use crate::{Billing, look, sync};
use chrono::{DateTime, TimeDelta, Utc};
use entities::Result;
use entities::audit::Audit;
use entities::billing::standing::Overpaid;
use entities::billing::subscriptions::{self, Item, Status};
use entities::billing::{leases, moment, standing};
use entities::cloudpods::sold;
use entities::db::SystemTx;
use entities::error::{Code, Error};
use entities::ids::{PriceId, SubscriptionId, WorkerId};
use entities::tables::{price, subscription};
use entities::tenancy::{Permission, TenantCtx};
use serde_json::{Value, json};

/// How long what a preview has shown holds.
const PREVIEW_HOLDS: TimeDelta = TimeDelta::minutes(15);
/// How long a change may take.
const CHANGE_SECS: u32 = 120;

/// What a change would come to.
#[derive(Debug, Clone)]
pub struct Preview {
    pub currency: String,
    /// What is charged, or below zero credited, for the change at once.
    pub due_now: i64,
    pub lines: Vec<Line>,
    /// The moment that it was computed for: the change is to name it.
    pub at: DateTime<Utc>,
}

/// A line of a preview.
#[derive(Debug, Clone)]
pub struct Line {
    pub description: String,
    /// In minor units.
    pub amount: i64,
    pub period_start: Option<DateTime<Utc>>,
    pub period_end: Option<DateTime<Utc>>,
}

/// A change of one item to another price.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    pub subscription: SubscriptionId,
    /// The price that is paid now; none: there is one item only.
    pub from: Option<PriceId>,
    pub to: PriceId,
}

struct Drawn {
    row: subscription::Model,
    item: Item,
    price: price::Model,
}

fn over(row: &subscription::Model) -> Result<()> {
    if row.status.is_over() {
        let text = "This subscription is over. Order again.";
        return Err(Error::refused(Code::SubscriptionState, text));
    }
    Ok(())
}

async fn draw(billing: &Billing, ctx: &TenantCtx, wanted: Wanted) -> Result<Drawn> {
    let tx = billing.db.read(ctx, Permission::BillingWrite).await?;
    let row = subscriptions::find_subscription(&tx, wanted.subscription).await?;
    over(&row)?;
    let price = subscriptions::price_for_change(&tx, &row, wanted.to).await?;
    let mut items = subscriptions::items(&row)?;
    if let Some(from) = wanted.from {
        items.retain(|item| item.price == Some(from));
    }
    let mut items = items.into_iter();
    let (Some(item), None) = (items.next(), items.next()) else {
        let text = "must name one price that the subscription pays now";
        return Err(Error::field("from_price_id", text));
    };
    if item.price == Some(price.id) {
        return Err(Error::field("price_id", "is what the subscription pays already"));
    }
    if let Some(from) = item.price {
        subscriptions::refuse_other_kind(&tx, from, &price).await?;
    }
    drop(tx);
    let drawn = Drawn { row, item, price };
    // Only asked: nothing is held.
    drop(hold(billing, &drawn).await?);
    Ok(drawn)
}

/// Holds room for what is to be larger, or refuses it, before anything is charged.
async fn hold(billing: &Billing, drawn: &Drawn) -> Result<SystemTx> {
    let tx = billing.db.system().await?;
    if let Some(item) = drawn.item.order_item {
        sold::hold_change(&tx, item, drawn.price.id).await?;
    }
    Ok(tx)
}

/// What changing to another price would come to now. Nothing is changed.
pub async fn preview(billing: &Billing, ctx: &TenantCtx, wanted: Wanted) -> Result<Preview> {
    let drawn = draw(billing, ctx, wanted).await?;
    let at = billing.now().await?;
    compute(billing, &drawn, at).await
}

async fn compute(billing: &Billing, drawn: &Drawn, at: DateTime<Utc>) -> Result<Preview> {
    let price = sync::price(billing, drawn.price.id).await?;
    let params = json!({
        "subscription": drawn.row.stripe_id,
        "subscription_details": {
            "items": [{ "id": drawn.item.stripe_id, "price": price, "quantity": drawn.item.quantity }],
            "proration_behavior": "always_invoice",
            "proration_date": at.timestamp(),
        },
    });
    let key = format!("preview/{}", uuid::Uuid::now_v7());
    let told: Answer<Invoice> =
        billing.stripe.post("/invoices/create_preview", &key, &params).await;
    let shown = told?;
    let mut lines = Vec::new();
    for line in shown.lines.map_or_else(Vec::new, |list| list.data) {
        let (start, end) = line.period.map_or((None, None), |p| (Some(p.start), Some(p.end)));
        lines.push(Line {
            description: line.description.unwrap_or_default(),
            amount: line.amount,
            period_start: start.map(moment).transpose()?,
            period_end: end.map(moment).transpose()?,
        });
    }
    Ok(Preview { currency: shown.currency, due_now: shown.total, lines, at })
}

/// What somebody has seen and says yes to.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub at: DateTime<Utc>,
    pub due_now: i64,
}

/// Changes to another price at what was shown; refused with `amount_changed` when it comes to
/// something else by now.
pub async fn change(billing: &Billing, ctx: &TenantCtx, wanted: Wanted, seen: Seen) -> Result<()> {
    // Who may not, or whose it is not, hears that first.
    draw(billing, ctx, wanted).await?;
    let age = billing.now().await? - seen.at;
    if !(TimeDelta::minutes(-1)..=PREVIEW_HOLDS).contains(&age) {
        let text = "This preview is too old. Look at the preview again.";
        return Err(Error::refused(Code::AmountChanged, text));
    }
    // One after the other: what was shown holds for what is there.
    let (name, owner) = (format!("subscription/{}", wanted.subscription), WorkerId::new());
    if !leases::take(&billing.db, &name, owner, CHANGE_SECS).await? {
        let text = "This subscription is being changed right now. Look at the preview again.";
        return Err(Error::refused(Code::AmountChanged, text));
    }
    let changed = change_alone(billing, ctx, wanted, seen).await;
    leases::give_back(&billing.db, &name, owner).await?;
    changed
}

async fn change_alone(
    billing: &Billing,
    ctx: &TenantCtx,
    wanted: Wanted,
    seen: Seen,
) -> Result<()> {
    let drawn = draw(billing, ctx, wanted).await?;
    if drawn.row.status == Status::Paused {
        let text = "This subscription is paused. Resume it first.";
        return Err(Error::refused(Code::SubscriptionState, text));
    }
    let shown = compute(billing, &drawn, seen.at).await?;
    if shown.due_now != seen.due_now {
        let text = "It comes to another amount by now. Look at the preview again.";
        return Err(Error::refused(Code::AmountChanged, text));
    }
    hold(billing, &drawn).await?.commit().await?;
    let price = sync::price(billing, drawn.price.id).await?;
    let params = json!({
        "items": [{ "id": drawn.item.stripe_id, "price": price, "quantity": drawn.item.quantity }],
        "proration_behavior": "always_invoice",
        "proration_date": seen.at.timestamp(),
        // What cannot be paid is not changed.
        "payment_behavior": "error_if_incomplete",
    });
    let told = json!({ "price": drawn.price.id, "due_now": seen.due_now });
    let key = format!("{}/change/{}/{}", drawn.row.id, drawn.price.id, seen.at.timestamp());
    update(billing, ctx, &drawn.row, (&key, &params, told)).await
}

/// Records who wants what, asks Stripe and looks at what came of it.
async fn update(
    billing: &Billing,
    ctx: &TenantCtx,
    row: &subscription::Model,
    (key, params, told): (&str, &Value, Value),
) -> Result<()> {
    note(billing, ctx, row, told).await?;
    let path = format!("/subscriptions/{}", row.stripe_id);
    let answer: Answer<Named> = billing.stripe.post(&path, key, params).await;
    answer?;
    look::subscription(billing, &row.stripe_id).await?;
    Ok(())
}

async fn note(
    billing: &Billing,
    ctx: &TenantCtx,
    row: &subscription::Model,
    change: Value,
) -> Result<()> {
    let tx = billing.db.system().await?;
    let entry = Audit::SubscriptionChangeRequested { subscription: row.id, change };
    tx.audit(ctx, entry).await?;
    tx.commit().await
}

/// What else somebody may want of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It ends when what is paid for ends.
    CancelAtPeriodEnd,
    /// It ends now; nothing is given back by itself.
    CancelNow,
    /// It goes on after all.
    KeepOn,
    /// Nothing is charged, and what was bought is suspended.
    Pause,
    Resume,
}

impl Deed {
    /// The right that it takes.
    #[must_use]
    pub fn permission(self) -> Permission {
        match self {
            Self::CancelNow => Permission::BillingEnd,
            _ => Permission::BillingWrite,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CancelAtPeriodEnd => "cancel_at_period_end",
            Self::CancelNow => "cancel_now",
            Self::KeepOn => "keep",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// Does it. Repeating it changes nothing.
pub async fn carry_out(
    billing: &Billing,
    ctx: &TenantCtx,
    id: SubscriptionId,
    deed: Deed,
) -> Result<()> {
    ctx.require_write(deed.permission())?;
    let tx = billing.db.read(ctx, deed.permission()).await?;
    let row = subscriptions::find_subscription(&tx, id).await?;
    drop(tx);
    if row.status == Status::Cancelled && deed == Deed::CancelNow {
        return Ok(());
    }
    over(&row)?;
    let told = json!({ "deed": deed.name() });
    let key = format!("{}/{}/{}", row.id, deed.name(), uuid::Uuid::now_v7());
    let params = match deed {
        Deed::CancelNow => {
            note(billing, ctx, &row, told).await?;
            return end(billing, &row.stripe_id).await;
        }
        Deed::CancelAtPeriodEnd => json!({ "cancel_at_period_end": true }),
        Deed::KeepOn => json!({ "cancel_at_period_end": false }),
        Deed::Pause => json!({ "pause_collection": { "behavior": "void" } }),
        Deed::Resume => resuming(billing, &row).await?,
    };
    update(billing, ctx, &row, (&key, &params, told)).await
}

/// What lets a subscription go on. When the pause has outlasted what was paid for, the next period begins
/// now, and is paid now.
async fn resuming(billing: &Billing, row: &subscription::Model) -> Result<Value> {
    let found: Subscription =
        billing.stripe.get(&format!("/subscriptions/{}", row.stripe_id)).await?;
    let newest: Option<Invoice> = match &found.latest_invoice {
        Some(id) => Some(billing.stripe.get(&format!("/invoices/{}", id.id())).await?),
        None => None,
    };
    let unpaid = newest.is_some_and(|invoice| invoice.status.as_deref() == Some("void"));
    // An empty text takes the pause away.
    Ok(match unpaid {
        true => json!({
            "pause_collection": "",
            "billing_cycle_anchor": "now",
            "proration_behavior": "none",
        }),
        false => json!({ "pause_collection": "" }),
    })
}

/// Ends a subscription at once, when it has not ended yet.
pub async fn end(billing: &Billing, stripe_id: &str) -> Result<()> {
    let path = format!("/subscriptions/{stripe_id}");
    let told: Answer<Subscription> =
        billing.stripe.delete(&path, &format!("{stripe_id}/end")).await;
    match told {
        Ok(_) | Err(Failure::Refused { .. }) => {}
        Err(failure) => return Err(failure.into()),
    }
    look::subscription(billing, stripe_id).await?;
    Ok(())
}

/// Ends what is paid for nothing, and lowers what more is paid for than could be made; how many. One that
/// fails does not keep the others.
pub async fn end_unpaid(billing: &Billing) -> Result<usize> {
    let tx = billing.db.system().await?;
    let ended = standing::to_end(&tx, 20).await?;
    let overpaid = standing::overpaid(&tx, 20).await?;
    drop(tx);
    for id in ended {
        if let Err(error) = end(billing, &id).await {
            tracing::warn!(id, cause = %error.chain(), "subscription.not_ended");
            subscriptions::postpone(&billing.db, &id).await?;
        }
    }
    for less in overpaid {
        if let Err(error) = lower(billing, &less).await {
            tracing::warn!(?less, cause = %error.chain(), "subscription.not_lowered");
            subscriptions::postpone(&billing.db, &less.subscription).await?;
        }
    }
    // What is left of them is due again in a moment, and not at once.
    Ok(0)
}

async fn lower(billing: &Billing, less: &Overpaid) -> Result<()> {
    let item = match less.quantity {
        0 => json!({ "id": less.item, "deleted": true }),
        quantity => json!({ "id": less.item, "quantity": quantity }),
    };
    let params = json!({ "items": [item], "proration_behavior": "none" });
    let path = format!("/subscriptions/{}", less.subscription);
    let key = format!("{}/{}/{}", less.subscription, less.item, less.quantity);
    let told: Answer<Named> = billing.stripe.post(&path, &key, &params).await;
    told?;
    look::subscription(billing, &less.subscription).await?;
    Ok(())
}
