//! How subscriptions renew, pause, fall behind and end.

use serde_json::{Value, json};

use crate::cards::{self, Presence, Verdict};
use crate::clock::{add_interval, next_end};
use crate::error::{Answer, ApiError};
use crate::invoices::{self, Draft, intent_of, subscription_of};
use crate::params::Params;
use crate::subscriptions::{full_lines, interval, is_over, period, set_period};
use crate::value::Fields;
use crate::world::{World, merge};

/// The period is over: it ends, pauses, or the next begins with a draft of its invoice.
pub fn renew(world: &mut World, id: &str) {
    let Some(before) = world.find("subscription", id) else { return };
    let now = world.now();
    if before.flag("cancel_at_period_end") {
        cancel_now(world, id, "cancellation_requested");
        return;
    }
    let trial_ends = before.text("status") == "trialing";
    let has_card = before
        .some_text("default_payment_method")
        .or_else(|| cards::default_of(world, before.text("customer")))
        .is_some();
    if trial_ends && !has_card && before.text("collection_method") == "charge_automatically" {
        match before.text("trial_settings.end_behavior.missing_payment_method") {
            "cancel" => return cancel_now(world, id, "payment_failed"),
            "pause" => {
                let after = world.set(id, json!({"status": "paused"}));
                world.emit_changed("customer.subscription.updated", &before, &after);
                return world.emit("customer.subscription.paused", &after);
            }
            _ => {}
        }
    }
    let (unit, count) = interval(&before);
    let start = period(&before).1;
    let end = next_end(before.int("billing_cycle_anchor"), &unit, count, start);
    let mut after = before.clone();
    set_period(&mut after, start, end);
    if trial_ends {
        after.write("status", json!("active"));
    }
    world.put(&after);
    let stands = before.text("status") == "unpaid" || !before.at("pause_collection").is_null();
    let more = json!({
        "auto_advance": !stands, "period_start": period(&before).0, "period_end": start,
        "automatically_finalizes_at": if stands { Value::Null } else { json!(now + world.settings.draft_seconds) },
    });
    let lines = full_lines(&after, (start, end), false);
    let invoice = bill(world, &after, "subscription_cycle", (lines, more));
    let after = world.set(id, json!({"latest_invoice": invoice.at("id")}));
    world.emit_changed("customer.subscription.updated", &before, &after);
    match before.text("pause_collection.behavior") {
        "" | "keep_as_draft" => {}
        behaviour => drop_invoice(world, invoice.text("id"), behaviour),
    }
}

/// Collection is paused: the invoice comes into being and is given up at once.
fn drop_invoice(world: &mut World, invoice: &str, behaviour: &str) {
    let status = if behaviour == "void" { "void" } else { "uncollectible" };
    if invoices::finalize(world, invoice).is_ok() {
        let given_up = crate::invoice_calls::give_up(world, invoice, status);
        world.set(invoice, json!({"_given_up": given_up.is_ok()}));
    }
}

/// Drafts an invoice of a subscription.
pub fn bill(
    world: &mut World,
    subscription: &Value,
    reason: &'static str,
    parts: (Vec<Value>, Value),
) -> Value {
    invoices::draft(
        world,
        Draft {
            customer: subscription.text("customer").to_owned(),
            subscription: subscription.some_text("id"),
            reason,
            currency: subscription.text("currency").to_owned(),
            lines: parts.0,
            more: parts.1,
        },
    )
}

/// What the next renewal would bring, on a copy of the world.
pub fn upcoming(trial: &mut World, id: &str) -> Answer {
    let subscription = trial.get("subscription", id, "subscription")?;
    let ends = subscription.flag("cancel_at_period_end")
        || subscription.some_int("cancel_at").is_some_and(|at| at <= period(&subscription).1);
    if is_over(&subscription) || ends {
        return Err(
            ApiError::not_found("No upcoming invoices for customer.").code("invoice_upcoming_none")
        );
    }
    trial.pin(Some(period(&subscription).1));
    trial.set(id, json!({"pause_collection": null}));
    renew(trial, id);
    let renewed = trial.get("subscription", id, "subscription")?;
    let mut invoice = trial.get("invoice", renewed.text("latest_invoice"), "subscription")?;
    invoice.write("next_payment_attempt", invoice.at("automatically_finalizes_at").clone());
    Ok(invoice)
}

/// `DELETE /v1/subscriptions/{}`
pub fn cancel(world: &mut World, id: &str, params: &Params) -> Answer {
    let subscription = world.get("subscription", id, "id")?;
    if is_over(&subscription) {
        return Err(ApiError::no_such("subscription", id, "id"));
    }
    if params.flag("prorate")? == Some(true) {
        crate::changes::credit_rest(world, &subscription, world.now());
    }
    if params.flag("invoice_now")? == Some(true) {
        let invoice = bill(world, &subscription, "manual", (Vec::new(), json!({})));
        world.set(id, json!({"latest_invoice": invoice.at("id")}));
        invoices::finalize(world, invoice.text("id"))?;
    }
    let mut details = json!({"comment": null, "feedback": null});
    params.part("cancellation_details").copy_texts(&mut details, &["comment", "feedback"]);
    world.set(id, json!({"cancellation_details": details}));
    cancel_now(world, id, "cancellation_requested");
    world.get("subscription", id, "id")
}

/// Ends a subscription. What is open is not collected any more.
pub fn cancel_now(world: &mut World, id: &str, reason: &str) {
    let Some(mut subscription) = world.find("subscription", id) else { return };
    let now = world.now();
    let details = subscription.at("cancellation_details");
    let reason = details.some_text("reason").unwrap_or_else(|| reason.to_owned());
    subscription.write("cancellation_details.reason", json!(reason));
    let at = subscription.some_int("canceled_at").unwrap_or(now);
    merge(
        &mut subscription,
        json!({"status": "canceled", "canceled_at": at, "ended_at": now, "pause_collection": null}),
    );
    world.put(&subscription);
    let open: Vec<String> = world
        .all("invoice")
        .filter(|invoice| {
            subscription_of(invoice) == id && matches!(invoice.text("status"), "open" | "draft")
        })
        .map(|invoice| invoice.text("id").to_owned())
        .collect();
    for invoice in open {
        world.set(&invoice, json!({"auto_advance": false, "next_payment_attempt": null, "automatically_finalizes_at": null}));
    }
    world.emit("customer.subscription.deleted", &subscription);
}

/// The first payment never came.
pub fn expire(world: &mut World, id: &str) {
    let Some(before) = world.find("subscription", id) else { return };
    let now = world.now();
    let after = world.set(id, json!({"status": "incomplete_expired", "ended_at": now}));
    world.emit_changed("customer.subscription.updated", &before, &after);
    drop_open(world, after.text("latest_invoice"));
}

fn drop_open(world: &mut World, invoice: &str) {
    if world.find("invoice", invoice).is_some_and(|invoice| invoice.text("status") == "open") {
        let given_up = crate::invoice_calls::give_up(world, invoice, "void");
        world.set(invoice, json!({"_given_up": given_up.is_ok()}));
    }
}

/// `POST /v1/subscriptions/{}/resume`
pub fn resume(world: &mut World, id: &str) -> Answer {
    let before = world.get("subscription", id, "id")?;
    if before.text("status") != "paused" {
        return Err(ApiError::invalid("Only a paused subscription can be resumed."));
    }
    let now = world.now();
    let (unit, count) = interval(&before);
    let mut after = before.clone();
    let end = add_interval(now, &unit, count);
    set_period(&mut after, now, end);
    merge(&mut after, json!({"status": "active", "billing_cycle_anchor": now}));
    world.put(&after);
    let lines = full_lines(&after, (now, end), false);
    let invoice = bill(world, &after, "subscription_update", (lines, json!({})));
    let after = world.set(id, json!({"latest_invoice": invoice.at("id")}));
    world.emit_changed("customer.subscription.updated", &before, &after);
    world.emit("customer.subscription.resumed", &after);
    collect(world, invoice.text("id"))?;
    world.get("subscription", id, "id")
}

/// Finalizes a draft and charges it.
pub fn collect(world: &mut World, invoice: &str) -> Answer<Option<Verdict>> {
    let invoice = invoices::finalize(world, invoice)?;
    if invoice.text("status") != "open" || invoice.text("collection_method") == "send_invoice" {
        return Ok(None);
    }
    invoices::attempt(world, invoice.text("id"), None, Presence::Billing).map(Some)
}

/// An invoice was paid: what waited for it runs again.
pub fn invoice_paid(world: &mut World, invoice: &Value) {
    let Some(before) = world.find("subscription", subscription_of(invoice)) else { return };
    let mut after = before.clone();
    if before.text("payment_settings.save_default_payment_method") == "on_subscription"
        && let Some(card) =
            intent_of(world, invoice).and_then(|intent| intent.some_text("payment_method"))
        && cards::attach(world, &card, before.text("customer")).is_ok()
    {
        after.write("default_payment_method", json!(card));
    }
    let latest = before.at("latest_invoice") == invoice.at("id");
    match before.text("status") {
        "incomplete" => after.write("status", json!("active")),
        "past_due" | "unpaid" if latest => after.write("status", json!("active")),
        _ => {}
    }
    world.put(&after);
    world.emit_changed("customer.subscription.updated", &before, &after);
}

/// An invoice was voided or written off: it is not waited for any more.
pub fn invoice_given_up(world: &mut World, invoice: &Value) {
    let Some(before) = world.find("subscription", subscription_of(invoice)) else { return };
    if before.text("status") == "past_due" && before.at("latest_invoice") == invoice.at("id") {
        let after = world.set(before.text("id"), json!({"status": "active"}));
        world.emit_changed("customer.subscription.updated", &before, &after);
    }
}

/// A payment failed; `last` if it is not tried again.
pub fn invoice_failed(world: &mut World, invoice: &Value, last: bool) {
    let Some(before) = world.find("subscription", subscription_of(invoice)) else { return };
    let id = before.text("id").to_owned();
    if before.text("status") == "active" {
        let after = world.set(&id, json!({"status": "past_due"}));
        world.emit_changed("customer.subscription.updated", &before, &after);
    }
    let Some(before) = world.find("subscription", &id) else { return };
    if !last || before.text("status") != "past_due" {
        return;
    }
    match world.settings.after_retries.as_str() {
        "canceled" => cancel_now(world, &id, "payment_failed"),
        "unpaid" => {
            let after = world.set(&id, json!({"status": "unpaid"}));
            world.emit_changed("customer.subscription.updated", &before, &after);
        }
        _ => {}
    }
}
