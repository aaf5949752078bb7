//! Whether what was bought is to run: derived from what is known of the payments, whatever came first,
//! so that it comes back by itself when the reason goes.

use crate::Result;
use crate::audit::Audit;
use crate::billing::subscriptions::Status as SubscriptionStatus;
use crate::billing::{checkouts, customers, payments, repayments, subscriptions};
use crate::catalogue::Billing;
use crate::db::{SystemTx, statement};
use crate::error::Error;
use crate::ids::OrderId;
use crate::mail::{self, Letter};
use crate::orders::{self, Status};
use crate::services::{self, Desired};
use crate::tables::orders as orders_table;
use crate::tables::{dispute, order_item, order_transition, payment, service, subscription};
use crate::tenancy::TenantCtx;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder,
};

/// How patient we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Reminders, by days since money is missing.
    pub letters: Vec<u32>,
    /// Days since money is missing after which what was bought is suspended.
    pub grace_days: u32,
    /// Days after which what was ended, and kept until then, is terminated.
    pub retention_days: u32,
}

impl Rules {
    /// When a subscription is suspended that money is missing for since then.
    #[must_use]
    pub fn suspends_at(&self, since: DateTime<Utc>) -> DateTime<Utc> {
        since + TimeDelta::days(i64::from(self.grace_days))
    }

    /// Until when what was ended then is kept.
    #[must_use]
    pub fn kept_until(&self, ended: DateTime<Utc>) -> DateTime<Utc> {
        ended + TimeDelta::days(i64::from(self.retention_days))
    }

    /// How many reminders are to have been written by now.
    #[must_use]
    pub fn letters_by(&self, since: DateTime<Utc>, now: DateTime<Utc>) -> usize {
        let due = |days: &&u32| since + TimeDelta::days(i64::from(**days)) <= now;
        self.letters.iter().filter(due).count()
    }
}

/// Whether what was bought is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Runs,
    /// Nothing is deleted; the sentence is for the customer.
    Suspended(String),
    /// It is over for good, and was kept long enough.
    Ended(String),
}

/// Derives it. The payments and disputes are those of the order, oldest first.
fn standing(
    order: &orders_table::Model,
    subscription: Option<&subscription::Model>,
    payments: &[payment::Model],
    disputes: &[dispute::Model],
    (rules, now): (&Rules, DateTime<Utc>),
) -> Standing {
    let over = subscription.filter(|row| row.status.is_over());
    if let Some(row) = over {
        let ended = row.ended_at.unwrap_or(row.updated_at);
        return kept(ended, "The subscription has ended.", rules, now);
    }
    let lost = disputes.iter().rev().find(|row| row.status == "lost");
    if let Some(row) = lost {
        let closed = row.closed_at.unwrap_or(row.created_at);
        return kept(closed, "The bank took the payment back.", rules, now);
    }
    if order.status == Status::Refunded {
        let back = payments.iter().filter_map(|row| row.refunded_at).max();
        let back = back.unwrap_or(order.status_at);
        return kept(back, "The payment was given back.", rules, now);
    }
    let disputed =
        |row: &dispute::Model| matches!(row.status.as_str(), "needs_response" | "under_review");
    if disputes.iter().any(disputed) {
        let text = "The bank has asked for the payment back. It goes on when that is settled.";
        return Standing::Suspended(text.to_owned());
    }
    if is_given_back(subscription, payments) {
        return Standing::Suspended("The payment was given back.".to_owned());
    }
    let Some(row) = subscription else { return Standing::Runs };
    match row.status {
        SubscriptionStatus::Paused => Standing::Suspended("The subscription is paused.".to_owned()),
        SubscriptionStatus::Unpaid | SubscriptionStatus::PastDue => {
            let since = row.past_due_at.unwrap_or(row.updated_at);
            let suspends_at = rules.suspends_at(since);
            if row.status == SubscriptionStatus::PastDue && now < suspends_at {
                return Standing::Runs;
            }
            if now >= rules.kept_until(suspends_at) {
                return Standing::Ended("The payment never came.".to_owned());
            }
            let text = "The payment has been missing for too long. Pay the open invoice, and it goes on by itself.";
            Standing::Suspended(text.to_owned())
        }
        _ => Standing::Runs,
    }
}

/// Whether what was paid for the period of now went back: all of it, so that a part of it that was given
/// back, such as for a change of the plan, ends nothing.
fn is_given_back(subscription: Option<&subscription::Model>, payments: &[payment::Model]) -> bool {
    // A payment is made a moment before or after its period begins.
    let since = subscription.and_then(|row| row.period_start).map(|at| at - TimeDelta::hours(1));
    let current = payments.iter().filter(|row| since.is_none_or(|since| row.created_at >= since));
    let current: Vec<payment::Model> = current.cloned().collect();
    is_refunded(&current)
}

fn kept(ended: DateTime<Utc>, why: &str, rules: &Rules, now: DateTime<Utc>) -> Standing {
    let until = rules.kept_until(ended);
    if now >= until {
        return Standing::Ended(why.to_owned());
    }
    let day = until.format("%-d %B %Y");
    Standing::Suspended(format!("{why} Nothing is deleted before {day}."))
}

/// Whether all money that came for an order went back.
fn is_refunded(payments: &[payment::Model]) -> bool {
    let mut paid = payments.iter().filter(|row| row.amount > 0).peekable();
    paid.peek().is_some() && paid.all(|row| row.refunded >= row.amount)
}

/// Brings what was bought with an order to how its payments stand: services run, are suspended or
/// end, money goes back for what could not be made, and the letters are written. May be called at
/// any time and any number of times; whoever changed something of a payment calls it in the same
/// transaction.
pub async fn converge(tx: &SystemTx, id: OrderId, rules: &Rules, now: DateTime<Utc>) -> Result<()> {
    let order = orders::status::lock(tx, id).await?;
    let paid = payments::wanted_of_order(tx, id).await?;
    let disputes = payments::disputes_of(tx, &paid).await?;
    // What was paid when nobody could take it is no part of the order.
    let subscription = match checkouts::is_unwanted(tx, id).await? {
        true => None,
        false => subscriptions::of_order(tx, id).await?,
    };
    let order = settle_refunds(tx, order, subscription.as_ref(), &paid).await?;
    let services = services::of_order(tx, id).await?;
    give_back_unmade(tx, &order, &paid, &services).await?;
    credit_late(tx, &order, (subscription.as_ref(), &paid), &services).await?;
    if let Some(row) = &subscription {
        follow_plans(tx, row, &services).await?;
    }
    let standing = standing(&order, subscription.as_ref(), &paid, &disputes, (rules, now));
    let (desired, reason) = match &standing {
        Standing::Runs => (Desired::Active, None),
        Standing::Suspended(why) => (Desired::Suspended, Some(why.as_str())),
        Standing::Ended(why) => (Desired::Terminated, Some(why.as_str())),
    };
    let mut is_news = false;
    for service in services.iter().filter(|row| row.state != services::State::Failed) {
        is_news |= services::want(tx, service.id, desired, reason).await?;
    }
    if is_news {
        let number = order.number.clone();
        let letter = match standing {
            Standing::Runs => Letter::OrderResumed { order: number },
            Standing::Suspended(reason) => Letter::OrderSuspended { order: number, reason },
            Standing::Ended(reason) => Letter::OrderEnded { order: number, reason },
        };
        write(tx, &order, &letter).await?;
    }
    match subscription {
        Some(row) => remind(tx, &order, row, rules, now).await,
        None => Ok(()),
    }
}

/// What a service may have is what is paid for now, after a change of the plan, too.
async fn follow_plans(
    tx: &SystemTx,
    row: &subscription::Model,
    services: &[service::Model],
) -> Result<()> {
    for item in subscriptions::items(row)? {
        let (Some(order_item), Some(price)) = (item.order_item, item.price) else { continue };
        for service in services.iter().filter(|service| service.order_item_id == order_item) {
            services::follow_price(tx, service, price).await?;
        }
    }
    Ok(())
}

async fn write(tx: &SystemTx, order: &orders_table::Model, letter: &Letter) -> Result<()> {
    for to in customers::payers(tx, order.tenant_id).await? {
        mail::write(tx, &to, letter).await?;
    }
    Ok(())
}

/// An order whose money all went back is refunded, unless it goes on being paid for; one whose
/// refund came back from the bank is not any more.
async fn settle_refunds(
    tx: &SystemTx,
    order: orders_table::Model,
    subscription: Option<&subscription::Model>,
    paid: &[payment::Model],
) -> Result<orders_table::Model> {
    let goes_on = subscription.is_some_and(|row| !row.status.is_over());
    let refunded = is_refunded(paid);
    let to = if refunded && !goes_on {
        Status::Refunded
    } else if order.status == Status::Refunded && !refunded {
        Status::Active
    } else {
        return Ok(order);
    };
    if !order.status.next().contains(&to) {
        return Ok(order);
    }
    let cause = match to {
        Status::Refunded => "All money went back.",
        _ => "The bank did not take the refund.",
    };
    orders::advance(tx, &TenantCtx::system(order.tenant_id), order.id, to, cause).await?;
    orders::status::lock(tx, order.id).await
}

/// Money goes back for what could not be made: all of it, or the part of each service.
async fn give_back_unmade(
    tx: &SystemTx,
    order: &orders_table::Model,
    paid: &[payment::Model],
    services: &[service::Model],
) -> Result<()> {
    let failed: Vec<&service::Model> =
        services.iter().filter(|row| row.state == services::State::Failed).collect();
    let settled = matches!(order.status, Status::Failed | Status::PartiallyActive);
    let Some(first) = paid.iter().find(|row| row.amount > 0).filter(|_| settled) else {
        return Ok(());
    };
    let all = order.status == Status::Failed;
    let mut is_news = false;
    if all {
        for payment in paid {
            let (reference, cause) =
                (format!("payment/{}/failed", payment.id), "Nothing of the order could be made.");
            is_news |=
                repayments::want_refund(tx, order, payment, None, (&reference, cause)).await?;
        }
    } else {
        for row in failed {
            let share = share_of(tx, order, first, row).await?;
            let reference = format!("service/{}/failed", row.id);
            let cause = "A part of the order could not be made.";
            is_news |=
                repayments::want_refund(tx, order, first, Some(share), (&reference, cause)).await?;
        }
    }
    if is_news {
        let number = order.number.clone();
        write(tx, order, &Letter::OrderNotMade { order: number, all }).await?;
    }
    Ok(())
}

/// What of an order's first payment was for one unit: its part of the prices, of what was paid after
/// discounts and with taxes.
async fn share_of(
    tx: &SystemTx,
    order: &orders_table::Model,
    payment: &payment::Model,
    row: &service::Model,
) -> Result<i64> {
    let item = order_item::Entity::find_by_id(row.order_item_id).one(tx.conn()).await?;
    let item = item.ok_or(Error::NotFound("order item"))?;
    let now = if item.trial_days.is_some() { 0 } else { item.amount };
    let unit = now.saturating_add(item.setup_fee.unwrap_or(0));
    Ok(part(payment.amount, unit, order.due_now))
}

/// `amount * share / whole`, rounded to the nearest.
fn part(amount: i64, share: i64, whole: i64) -> i64 {
    let (amount, share, whole) = (i128::from(amount), i128::from(share), i128::from(whole));
    let doubled = amount.saturating_mul(share).saturating_mul(2).saturating_add(whole);
    let rounded = doubled.checked_div(whole.saturating_mul(2)).unwrap_or(0);
    i64::try_from(rounded).unwrap_or(0)
}

/// What is paid for begins when it is there: the time before that is credited.
async fn credit_late(
    tx: &SystemTx,
    order: &orders_table::Model,
    (subscription, paid): (Option<&subscription::Model>, &[payment::Model]),
    services: &[service::Model],
) -> Result<()> {
    let (Some(subscription), Some(first)) = (subscription, paid.iter().find(|row| row.amount > 0))
    else {
        return Ok(());
    };
    let period = subscription.period_end.zip(subscription.period_start);
    let Some(length) = period.map(|(end, start)| (end - start).num_seconds()) else {
        return Ok(());
    };
    let paid_at = order_transition::Entity::find()
        .filter(order_transition::Column::OrderId.eq(order.id))
        .filter(order_transition::Column::After.eq(Status::Paid))
        .order_by_asc(order_transition::Column::CreatedAt)
        .one(tx.conn())
        .await?;
    let Some(paid_at) = paid_at.map(|row| row.created_at) else { return Ok(()) };
    for row in services {
        let Some(made_at) = row.made_at else { continue };
        let item = order_item::Entity::find_by_id(row.order_item_id).one(tx.conn()).await?;
        let Some(item) = item else { continue };
        if item.billing == Billing::OneOff || item.trial_days.is_some() {
            continue;
        }
        let late = (made_at - paid_at).num_seconds().clamp(0, length);
        let share = part(first.amount, item.amount, order.due_now);
        let credit = part(share, late, length);
        if credit > 0 {
            let reference = format!("service/{}/late", row.id);
            let cause = "What was paid for was there later than the payment.";
            repayments::want_credit(tx, order, credit, (&reference, cause)).await?;
        }
    }
    Ok(())
}

/// Writes the reminder that is due; one that nobody wrote in its time is left out.
async fn remind(
    tx: &SystemTx,
    order: &orders_table::Model,
    row: subscription::Model,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Result<()> {
    let missing = matches!(row.status, SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid);
    let Some(since) = row.past_due_at.filter(|_| missing) else { return Ok(()) };
    let due = i32::try_from(rules.letters_by(since, now)).unwrap_or(i32::MAX);
    if due <= row.letters {
        return Ok(());
    }
    let (subscription, tenant, page) = (row.id, row.tenant_id, row.action_url.clone());
    let mut active = row.into_active_model();
    active.letters = Set(due);
    active.update(tx.conn()).await?;
    let letter = Letter::PaymentMissing {
        order: order.number.clone(),
        page,
        suspends_at: rules.suspends_at(since),
    };
    write(tx, order, &letter).await?;
    let entry = Audit::SubscriptionReminded { subscription, letter: due };
    tx.audit(&TenantCtx::system(tenant), entry).await
}

/// The orders on which time alone may act, after `after`, in their order: those whose subscription is
/// neither running nor waiting for its first payment, and whose bank took money back, as long as
/// something of them is there.
pub async fn restless(tx: &SystemTx, after: OrderId, limit: i64) -> Result<Vec<OrderId>> {
    let sql = "SELECT o.id FROM orders o WHERE o.id > $1
        AND EXISTS (SELECT FROM service s WHERE s.order_id = o.id
            AND s.desired <> 'terminated' AND s.state <> 'failed')
        AND (o.status = 'refunded'
            OR EXISTS (SELECT FROM subscription b WHERE b.order_id = o.id
                AND b.status NOT IN ('incomplete', 'trialing', 'active'))
            OR EXISTS (SELECT FROM payment p JOIN dispute d ON d.payment_id = p.id
                WHERE p.order_id = o.id AND d.status = 'lost'))
        ORDER BY o.id LIMIT $2";
    let rows = tx.conn().query_all_raw(statement(sql, [after.0.into(), limit.into()])).await?;
    rows.iter().map(|row| Ok(row.try_get("", "id")?)).collect()
}

/// Subscriptions, by Stripe's ids, that are paid for nothing: nothing of their order could be made, its
/// money went back, or it was paid when nobody could take it any more.
pub async fn to_end(tx: &SystemTx, limit: i64) -> Result<Vec<String>> {
    let sql = "SELECT b.stripe_id FROM subscription b JOIN orders o ON o.id = b.order_id
        WHERE b.status NOT IN ('cancelled', 'incomplete_expired') AND b.next_at <= now()
          AND (o.status IN ('failed', 'refunded')
            OR EXISTS (SELECT FROM payment p JOIN dispute d ON d.payment_id = p.id
                WHERE p.order_id = o.id AND d.status = 'lost')
            OR (EXISTS (SELECT FROM service s WHERE s.order_id = o.id)
                AND NOT EXISTS (SELECT FROM service s
                    WHERE s.order_id = o.id AND s.desired <> 'terminated'))
            OR (EXISTS (SELECT FROM checkout c WHERE c.order_id = o.id AND c.state = 'unwanted')
                AND NOT EXISTS (SELECT FROM checkout c
                    WHERE c.order_id = o.id AND c.state = 'complete')))
        ORDER BY b.id LIMIT $1";
    let rows = tx.conn().query_all_raw(statement(sql, [limit.into()])).await?;
    rows.iter().map(|row| Ok(row.try_get("", "stripe_id")?)).collect()
}

/// An item of a subscription of which more is paid for than could be made.
#[derive(Debug, Clone)]
pub struct Overpaid {
    /// Stripe's ids.
    pub subscription: String,
    pub item: String,
    /// How many there are; none: the item is to go.
    pub quantity: i64,
}

/// What is paid for again and again and could not be made, of orders of which something could.
pub async fn overpaid(tx: &SystemTx, limit: i64) -> Result<Vec<Overpaid>> {
    let sql = "SELECT b.stripe_id AS subscription, i.item ->> 'stripe_id' AS item,
            o.quantity - f.failed AS quantity
        FROM subscription b
        CROSS JOIN LATERAL jsonb_array_elements(b.items) AS i(item)
        JOIN order_item o ON o.order_id = b.order_id AND o.id::text = i.item ->> 'order_item'
        JOIN orders r ON r.id = b.order_id AND r.status = 'partially_active'
        CROSS JOIN LATERAL (SELECT count(*) AS failed FROM service s
            WHERE s.order_item_id = o.id AND s.state = 'failed') f
        WHERE b.status NOT IN ('cancelled', 'incomplete_expired') AND b.next_at <= now() AND f.failed > 0
          AND (i.item ->> 'quantity')::bigint > o.quantity - f.failed
        ORDER BY b.id LIMIT $1";
    let rows = tx.conn().query_all_raw(statement(sql, [limit.into()])).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        found.push(Overpaid {
            subscription: row.try_get("", "subscription")?,
            item: row.try_get("", "item")?,
            quantity: row.try_get("", "quantity")?,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_rounded_to_the_nearest_and_nothing_is_divided_by_nothing() {
        for (amount, share, whole, wanted) in [
            (1000, 1, 3, 333),
            (1000, 2, 3, 667),
            (1, 1, 2, 1),
            (1190, 500, 1000, 595),
            (1000, 1, 0, 0),
            (i64::MAX, i64::MAX, i64::MAX, i64::MAX),
        ] {
            assert_eq!(part(amount, share, whole), wanted, "{amount} * {share} / {whole}");
        }
    }
}
