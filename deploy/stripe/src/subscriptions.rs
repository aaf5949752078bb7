//! Subscriptions: how they begin, renew and end.

use serde_json::{Value, json};

use crate::cards::{self, Presence, Verdict};
use crate::catalogue::{line_price, plan_of};
use crate::clock::{add_interval, next_end};
use crate::error::{Answer, ApiError};
use crate::invoices::{self, Draft, intent_of, subscription_of};
use crate::lines::{Line, line};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, inner_list, merge, new_id};
use crate::{coupons, customers, payments};

const DAY: i64 = 86_400;

/// Whether it has ended for good.
pub fn is_over(subscription: &Value) -> bool {
    matches!(subscription.text("status"), "canceled" | "incomplete_expired")
}

/// The running period: all items of a subscription share it.
pub fn period(subscription: &Value) -> (i64, i64) {
    let item = subscription.parts("items.data").first().cloned().unwrap_or_default();
    (item.int("current_period_start"), item.int("current_period_end"))
}

/// How long a period is: a word and a number.
pub fn interval(subscription: &Value) -> (String, i64) {
    let item = subscription.parts("items.data").first().cloned().unwrap_or_default();
    (
        item.text("price.recurring.interval").to_owned(),
        item.int("price.recurring.interval_count").max(1),
    )
}

/// Writes the period into all items.
pub fn set_period(subscription: &mut Value, start: i64, end: i64) {
    for item in subscription.parts_mut("items.data").iter_mut() {
        merge(item, json!({"current_period_start": start, "current_period_end": end}));
    }
}

/// `POST /v1/subscriptions`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let before = world.clone();
    let customer = customers::living(world, params.required("customer")?, "customer")?;
    let mut items = Vec::new();
    for item in params.list("items") {
        let price = line_price(world, &item, params.text("currency").unwrap_or_default())?;
        items.push((price, item.int("quantity")?.unwrap_or(1), item.get("metadata").cloned()));
    }
    let mut extras = Vec::new();
    for extra in params.list("add_invoice_items") {
        let price = line_price(world, &extra, params.text("currency").unwrap_or_default())?;
        extras.push((price, extra.int("quantity")?.unwrap_or(1)));
    }
    let mut more = json!({});
    if let Some(card) = params.text("default_payment_method") {
        let card = world.get("payment_method", card, "default_payment_method")?;
        more.write("default_payment_method", card.at("id").clone());
    }
    let behaviour = params.choice(
        "payment_behavior",
        &["allow_incomplete", "default_incomplete", "error_if_incomplete"],
    )?;
    let id = start(world, Start { customer: customer.text("id"), items, extras, more, params })?;
    let subscription = world.get("subscription", &id, "id")?;
    let invoice = world.find("invoice", subscription.text("latest_invoice")).unwrap_or_default();
    let charges = subscription.text("collection_method") == "charge_automatically";
    if invoice.text("status") == "open" && charges && behaviour != Some("default_incomplete") {
        let away = params.flag("off_session")? == Some(true);
        let presence = if away { Presence::Billing } else { Presence::There };
        let verdict = invoices::attempt(world, invoice.text("id"), None, presence)?;
        if let (Verdict::Declined(code, bank), Some("error_if_incomplete")) = (verdict, behaviour) {
            let intent = intent_of(world, &invoice).unwrap_or_default();
            let refusal = payments::refusal(world, intent.text("id"), code, bank);
            *world = before;
            return Err(refusal);
        }
    }
    world.get("subscription", &id, "id")
}

/// What a new subscription is made of.
pub struct Start<'a> {
    /// Whose it is.
    pub customer: &'a str,
    /// Recurring prices with quantity and metadata.
    pub items: Vec<(Value, i64, Option<Value>)>,
    /// Prices that are paid once, with the first invoice.
    pub extras: Vec<(Value, i64)>,
    /// Other fields, over the usual ones.
    pub more: Value,
    /// What the caller asked for: trial, anchor, metadata …
    pub params: &'a Params,
}

/// Makes the subscription and its first invoice, which is finalized and not yet charged.
pub fn start(world: &mut World, start: Start<'_>) -> Answer<String> {
    let now = world.now();
    let params = start.params;
    let mut subscription = describe(world, &start)?;
    let (unit, count) = interval(&subscription);
    let trial = trial_end(params, now)?;
    let anchor = match (trial, params.int("billing_cycle_anchor")?) {
        (Some(end), _) => end,
        (None, Some(anchor)) if anchor <= now => {
            return Err(ApiError::param(
                "billing_cycle_anchor",
                "billing_cycle_anchor must be in the future",
            ));
        }
        (None, Some(anchor)) => anchor,
        (None, None) => now,
    };
    let end = if anchor > now { anchor } else { add_interval(now, &unit, count) };
    set_period(&mut subscription, now, end);
    let part = anchor > now && trial.is_none();
    let free = trial.is_some() || (part && params.text("proration_behavior") == Some("none"));
    let mut lines = full_lines(&subscription, (now, end), part);
    for line in &mut lines {
        let amount = match (free, part) {
            (true, _) => 0,
            (false, true) => coupons::share(
                line.int("amount"),
                end - now,
                end - add_interval(end, &unit, -count),
            ),
            (false, false) => continue,
        };
        merge(line, json!({"amount": amount, "subtotal": amount}));
    }
    lines.extend(start.extras.iter().map(|(price, quantity)| extra_line(price, *quantity, now)));
    merge(
        &mut subscription,
        json!({
            "billing_cycle_anchor": anchor, "trial_start": trial.map(|_| now), "trial_end": trial,
            "status": if trial.is_some() { "trialing" } else { "incomplete" },
        }),
    );
    let id = subscription.text("id").to_owned();
    let due: i64 = lines.iter().map(|line| line.int("amount")).sum();
    let sends = subscription.text("collection_method") == "send_invoice";
    if trial.is_none() && (due == 0 || sends) {
        subscription.write("status", json!("active"));
    }
    let subscription = world.create("subscription", id.clone(), subscription);
    world.emit("customer.subscription.created", &subscription);
    let invoice = invoices::draft(
        world,
        Draft {
            customer: start.customer.to_owned(),
            subscription: Some(id.clone()),
            reason: "subscription_create",
            currency: subscription.text("currency").to_owned(),
            lines,
            more: json!({}),
        },
    );
    world.set(&id, json!({"latest_invoice": invoice.at("id")}));
    let invoice = invoices::finalize(world, invoice.text("id"))?;
    world.set(invoice.text("id"), json!({"next_payment_attempt": null}));
    Ok(id)
}

fn describe(world: &mut World, start: &Start<'_>) -> Answer {
    let params = start.params;
    let id = new_id("sub");
    let first = start.items.first().ok_or_else(|| ApiError::missing("items"))?;
    let mut items = Vec::new();
    for (price, quantity, metadata) in &start.items {
        if price.text("type") != "recurring" {
            return Err(ApiError::param(
                "items[0][price]",
                format!("The price {} is not recurring.", price.text("id")),
            ));
        }
        if price.at("currency") != first.0.at("currency")
            || price.at("recurring.interval") != first.0.at("recurring.interval")
        {
            return Err(ApiError::invalid(
                "All prices of a subscription must have one currency and one interval.",
            ));
        }
        items.push(new_item(world, &id, price, *quantity, metadata.clone()));
    }
    let discounts = coupons::redeem(
        world,
        &params.list("discounts"),
        &json!({"subscription": id, "customer": start.customer}),
    )?;
    let mut fields = json!({
        "id": id, "application": null, "application_fee_percent": null,
        "automatic_tax": {"disabled_reason": null, "enabled": params.flag("automatic_tax.enabled")?.unwrap_or(false), "liability": null},
        "billing_cycle_anchor_config": null,
        "billing_mode": {"type": "flexible", "flexible": {"proration_discounts": "included"}},
        "billing_schedules": [], "billing_thresholds": null, "cancel_at": params.int("cancel_at")?,
        "cancel_at_period_end": params.flag("cancel_at_period_end")?.unwrap_or(false),
        "canceled_at": null, "cancellation_details": {"comment": null, "feedback": null, "reason": null},
        "collection_method": params.choice("collection_method", &["charge_automatically", "send_invoice"])?.unwrap_or("charge_automatically"),
        "currency": first.0.at("currency"), "customer": start.customer,
        "days_until_due": params.int("days_until_due")?, "default_payment_method": null,
        "default_source": null, "default_tax_rates": [], "description": null,
        "discounts": discounts, "ended_at": null,
        "invoice_settings": {"account_tax_ids": null, "issuer": {"type": "self"}},
        "items": inner_list(items, &format!("/v1/subscription_items?subscription={id}")),
        "latest_invoice": null, "next_pending_invoice_item_invoice": null, "on_behalf_of": null,
        "pause_collection": null,
        "payment_settings": {"payment_method_options": null, "payment_method_types": null, "save_default_payment_method": params.text("payment_settings.save_default_payment_method").unwrap_or("off")},
        "pending_invoice_item_interval": null, "pending_setup_intent": null,
        "pending_update": null, "schedule": null, "start_date": world.now(), "test_clock": null,
        "transfer_data": null,
        "trial_settings": {"end_behavior": {"missing_payment_method": params.text("trial_settings.end_behavior.missing_payment_method").unwrap_or("create_invoice")}},
    });
    params.copy_texts(&mut fields, &["description"]);
    params.copy_metadata(&mut fields);
    merge(&mut fields, start.more.clone());
    Ok(fields)
}

/// An item of a subscription.
pub fn new_item(
    world: &World,
    subscription: &str,
    price: &Value,
    quantity: i64,
    metadata: Option<Value>,
) -> Value {
    json!({
        "id": new_id("si"), "object": "subscription_item", "billing_thresholds": null,
        "created": world.now(), "current_period_start": 0, "current_period_end": 0,
        "discounts": [], "metadata": metadata.unwrap_or_else(|| json!({})), "plan": plan_of(price),
        "price": price, "quantity": quantity, "subscription": subscription, "tax_rates": [],
    })
}

fn trial_end(params: &Params, now: i64) -> Answer<Option<i64>> {
    let end = match (params.text("trial_end"), params.int("trial_period_days")?) {
        (Some("now"), _) | (None, None | Some(0)) => return Ok(None),
        (Some(_), _) => params.int("trial_end")?.unwrap_or_default(),
        (None, Some(days)) => now + days * DAY,
    };
    if end <= now {
        Err(ApiError::param("trial_end", "Invalid trial_end: must be in the future"))
    } else {
        Ok(Some(end))
    }
}

/// The lines of all items for a whole period.
pub fn full_lines(subscription: &Value, period: (i64, i64), proration: bool) -> Vec<Value> {
    let one = |item: &Value| {
        let (price, quantity) = (item.at("price"), item.int("quantity"));
        line(Line {
            text: format!(
                "{quantity} × {} (per {})",
                name_of(price),
                price.text("recurring.interval")
            ),
            price: (price, quantity),
            amount: price.int("unit_amount") * quantity,
            period,
            item: Some((item.text("id"), subscription.text("id"))),
            proration,
        })
    };
    subscription.parts("items.data").iter().map(one).collect()
}

/// What a price is called on an invoice.
pub fn name_of(price: &Value) -> String {
    price.some_text("nickname").unwrap_or_else(|| price.text("product").to_owned())
}

/// The line of something paid once.
pub fn extra_line(price: &Value, quantity: i64, now: i64) -> Value {
    line(Line {
        text: name_of(price),
        price: (price, quantity),
        amount: price.int("unit_amount") * quantity,
        period: (now, now),
        item: None,
        proration: false,
    })
}

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
