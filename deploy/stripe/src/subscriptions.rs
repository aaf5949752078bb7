//! Subscriptions, and how they begin.

use serde_json::{Value, json};

use crate::cards::{Presence, Verdict};
use crate::catalogue::{line_price, plan_of};
use crate::clock::add_interval;
use crate::error::{Answer, ApiError};
use crate::invoices::{self, Draft, intent_of};
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
    let first = subscription.parts("items.data").first();
    first.map_or((0, 0), |item| (item.int("current_period_start"), item.int("current_period_end")))
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
