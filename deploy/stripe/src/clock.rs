//! The sandbox's time: what falls due, one thing after the other, each at its own moment.

use chrono::{DateTime, Days, Months};
use serde_json::{Value, json};

use crate::cards::Presence;
use crate::invoice_calls::as_preview;
use crate::value::Fields;
use crate::world::World;
use crate::{checkout, invoices, payments, renewals, subscriptions};

const DAY: i64 = 86_400;
/// Stripe keeps events for so long.
const EVENTS_KEPT: i64 = 30 * DAY;

/// A moment and some intervals, by the calendar: the 31st and a month is the last of February.
pub fn add_interval(from: i64, unit: &str, count: i64) -> i64 {
    let Some(start) = DateTime::from_timestamp(from, 0) else { return from };
    let number = u32::try_from(count.unsigned_abs()).unwrap_or(u32::MAX);
    let (months, days) = match unit {
        "year" => (number.saturating_mul(12), 0),
        "month" => (number, 0),
        "week" => (0, u64::from(number) * 7),
        _ => (0, u64::from(number)),
    };
    let moved = if count < 0 {
        start
            .checked_sub_months(Months::new(months))
            .and_then(|time| time.checked_sub_days(Days::new(days)))
    } else {
        start
            .checked_add_months(Months::new(months))
            .and_then(|time| time.checked_add_days(Days::new(days)))
    };
    moved.map_or(from, |time| time.timestamp())
}

/// The first end of a period after a moment, counted from the anchor.
pub fn next_end(anchor: i64, unit: &str, count: i64, after: i64) -> i64 {
    (0..)
        .map(|times| add_interval(anchor, unit, count * times))
        .find(|end| *end > after)
        .unwrap_or(after + DAY)
}

/// Something that falls due.
enum Due {
    Expire,
    Settle(bool),
    Incomplete,
    Cancel,
    TrialEnds,
    Upcoming(i64),
    Renew,
    Unpause,
    Finalize,
    Attempt,
}

/// Plays everything up to a moment, each thing at its own time.
pub fn advance(world: &mut World, to: i64) {
    while let Some((at, id, due)) = next(world).filter(|(at, ..)| *at <= to) {
        let moment = at.max(world.now().min(to));
        world.pin(Some(moment));
        run(world, &id, due);
    }
    world.pin(None);
    world.move_to(to);
    let oldest = world.now() - EVENTS_KEPT;
    world.forget("event", |event| event.int("created") < oldest);
}

/// Plays what has fallen due by itself while real time went on.
pub fn catch_up(world: &mut World) {
    let now = world.now();
    if next(world).is_some_and(|(at, ..)| at <= now) {
        advance(world, now);
    }
}

fn next(world: &World) -> Option<(i64, String, Due)> {
    let mut found: Option<(i64, String, Due)> = None;
    let mut offer = |at: i64, object: &Value, due: Due| {
        if found.as_ref().is_none_or(|(soonest, ..)| at < *soonest) {
            found = Some((at, object.text("id").to_owned(), due));
        }
    };
    for session in world.all("checkout.session").filter(|session| session.text("status") == "open")
    {
        offer(session.int("expires_at"), session, Due::Expire);
    }
    for intent in world.all("payment_intent") {
        if let Some(at) = intent.some_int("_late.due") {
            offer(at, intent, Due::Settle(intent.flag("_late.well")));
        }
    }
    for invoice in world.all("invoice").filter(|invoice| invoice.flag("auto_advance")) {
        match (
            invoice.text("status"),
            invoice.some_int("automatically_finalizes_at"),
            invoice.some_int("next_payment_attempt"),
        ) {
            ("draft", Some(at), _) => offer(at, invoice, Due::Finalize),
            ("open", _, Some(at)) => offer(at, invoice, Due::Attempt),
            _ => {}
        }
    }
    for subscription in
        world.all("subscription").filter(|subscription| !subscriptions::is_over(subscription))
    {
        offer_subscription(world, subscription, &mut offer);
    }
    found
}

fn offer_subscription(
    world: &World,
    subscription: &Value,
    offer: &mut impl FnMut(i64, &Value, Due),
) {
    let status = subscription.text("status");
    let (start, end) = subscriptions::period(subscription);
    match status {
        "incomplete" => {
            return offer(subscription.int("created") + 23 * 3600, subscription, Due::Incomplete);
        }
        "paused" => return,
        _ => {}
    }
    if let Some(at) =
        subscription.some_int("cancel_at").filter(|_| !subscription.flag("cancel_at_period_end"))
    {
        offer(at, subscription, Due::Cancel);
    }
    if let Some(at) = subscription.some_int("pause_collection.resumes_at") {
        offer(at, subscription, Due::Unpause);
    }
    if status == "trialing" && !subscription.flag("_trial_told") {
        offer((subscription.int("trial_end") - 3 * DAY).max(start), subscription, Due::TrialEnds);
    }
    if subscription.int("_upcoming_told") != end
        && status != "unpaid"
        && !subscription.flag("cancel_at_period_end")
    {
        offer(
            (end - world.settings.upcoming_days * DAY).max(start),
            subscription,
            Due::Upcoming(end),
        );
    }
    offer(end, subscription, Due::Renew);
}

fn run(world: &mut World, id: &str, due: Due) {
    match due {
        Due::Expire => checkout::expired(world, id),
        Due::Settle(well) => payments::settle(world, id, well),
        Due::Incomplete => renewals::expire(world, id),
        Due::Cancel => renewals::cancel_now(world, id, "cancellation_requested"),
        Due::Renew => renewals::renew(world, id),
        Due::TrialEnds => {
            let subscription = world.set(id, json!({"_trial_told": true}));
            world.emit("customer.subscription.trial_will_end", &subscription);
        }
        Due::Upcoming(end) => {
            world.set(id, json!({"_upcoming_told": end}));
            let mut trial = world.trial();
            if let Ok(invoice) = renewals::upcoming(&mut trial, id) {
                let mut invoice = as_preview(invoice);
                if let Some(map) = invoice.as_object_mut() {
                    map.remove("id");
                }
                world.emit("invoice.upcoming", &invoice);
            }
        }
        Due::Unpause => {
            if let Some(before) = world.find("subscription", id) {
                let after = world.set(id, json!({"pause_collection": null}));
                world.emit_changed("customer.subscription.updated", &before, &after);
            }
        }
        Due::Finalize => {
            world.set(id, json!({"automatically_finalizes_at": null}));
            let collected = renewals::collect(world, id);
            world.set(id, json!({"_collected": collected.is_ok()}));
        }
        Due::Attempt => {
            world.set(id, json!({"next_payment_attempt": null}));
            let tried = invoices::attempt(world, id, None, Presence::Billing);
            world.set(id, json!({"_tried": tried.is_ok()}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp()
    }

    #[test]
    fn months_keep_the_anchors_day() {
        let anchor = at("2027-01-31T10:00:00Z");
        let ends: Vec<i64> =
            std::iter::successors(Some(anchor), |end| Some(next_end(anchor, "month", 1, *end)))
                .take(4)
                .collect();
        assert_eq!(
            ends,
            [
                anchor,
                at("2027-02-28T10:00:00Z"),
                at("2027-03-31T10:00:00Z"),
                at("2027-04-30T10:00:00Z")
            ]
        );
        assert_eq!(add_interval(at("2028-02-29T00:00:00Z"), "year", 1), at("2029-02-28T00:00:00Z"));
        assert_eq!(add_interval(anchor, "week", -2), anchor - 14 * DAY);
    }
}
