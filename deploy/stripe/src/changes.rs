//! Changes of a running subscription, with the prorations that they bring.

use serde_json::{Value, json};

use crate::cards::Verdict;
use crate::catalogue::{line_price, plan_of};
use crate::clock::add_interval;
use crate::coupons::{self, share};
use crate::error::{Answer, ApiError};
use crate::invoices::intent_of;
use crate::items::{self, Item};
use crate::params::Params;
use crate::renewals::{bill, collect};
use crate::subscriptions::{self, full_lines, interval, name_of, period, set_period};
use crate::value::Fields;
use crate::world::{World, merge};
use crate::{invoices, payments};

/// `POST /v1/subscriptions/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let saved = world.clone();
    let result = change(world, id, params);
    if result.is_err() {
        *world = saved;
    }
    result
}

fn change(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("subscription", id, "id")?;
    if subscriptions::is_over(&before) {
        return Err(ApiError::invalid(
            "A canceled subscription can only update its cancellation_details and metadata.",
        ));
    }
    let prorates = params
        .choice("proration_behavior", &["create_prorations", "none", "always_invoice"])?
        .unwrap_or("create_prorations");
    let mut after = before.clone();
    simple_fields(world, &mut after, params)?;
    plan_end(world, &mut after, params)?;
    let changed = params.has("items") && change_items(world, &mut after, params)?;
    let now = world.now();
    let ends_trial = params.text("trial_end") == Some("now") && before.text("status") == "trialing";
    let starts_anew = params.text("billing_cycle_anchor") == Some("now")
        || ends_trial
        || (before.text("status") != "trialing" && interval(&before) != interval(&after));
    let date = params.int("proration_date")?.unwrap_or(now);
    let running = before.text("status") != "trialing";
    if running && prorates != "none" && (changed || starts_anew) {
        prorate(world, (&before, &after), date, starts_anew);
    }
    if let Some(end) = params.int("trial_end").ok().flatten() {
        give_trial(world, &mut after, end)?;
    } else if starts_anew {
        let (unit, count) = interval(&after);
        set_period(&mut after, now, add_interval(now, &unit, count));
        after.write("billing_cycle_anchor", json!(now));
        if ends_trial {
            merge(&mut after, json!({"trial_end": now, "status": "active"}));
        }
    }
    world.put(&after);
    world.emit_changed("customer.subscription.updated", &before, &after);
    if starts_anew || (changed && running && prorates == "always_invoice") {
        let lines =
            if starts_anew { full_lines(&after, period(&after), false) } else { Vec::new() };
        bill_now(world, &after, lines, params)?;
    }
    world.get("subscription", id, "id")
}

fn simple_fields(world: &mut World, after: &mut Value, params: &Params) -> Answer<()> {
    params.copy_texts(after, &["description"]);
    params.copy_metadata(after);
    if let Some(card) = params.text("default_payment_method") {
        let card = world.get("payment_method", card, "default_payment_method")?;
        if card.at("customer") != after.at("customer") {
            return Err(ApiError::param(
                "default_payment_method",
                "The customer does not have a payment method with this ID.",
            ));
        }
        after.write("default_payment_method", card.at("id").clone());
    }
    if let Some(method) =
        params.choice("collection_method", &["charge_automatically", "send_invoice"])?
    {
        after.write("collection_method", json!(method));
    }
    if let Some(days) = params.int("days_until_due")? {
        after.write("days_until_due", json!(days));
    }
    if let Some(enabled) = params.flag("automatic_tax.enabled")? {
        after.write("automatic_tax.enabled", json!(enabled));
    }
    if params.has("pause_collection") {
        let behaviours = ["keep_as_draft", "mark_uncollectible", "void"];
        after.write("pause_collection", match params.choice("pause_collection.behavior", &behaviours)? {
            Some(behaviour) => {
                json!({"behavior": behaviour, "resumes_at": params.int("pause_collection.resumes_at")?})
            }
            None => Value::Null,
        });
    }
    if let Some(saves) = params.text("payment_settings.save_default_payment_method") {
        after.write("payment_settings.save_default_payment_method", json!(saves));
    }
    if params.has("discounts") {
        let owner = json!({"subscription": after.at("id"), "customer": after.at("customer")});
        after.write("discounts", json!(coupons::redeem(world, &params.list("discounts"), &owner)?));
    }
    Ok(())
}

/// `cancel_at_period_end` and `cancel_at`, and taking them back.
fn plan_end(world: &World, after: &mut Value, params: &Params) -> Answer<()> {
    let asked = match (params.flag("cancel_at_period_end")?, params.text("cancel_at")) {
        (Some(true), _) => Some((true, json!(period(after).1))),
        (Some(false), None) => Some((false, Value::Null)),
        (_, Some(_)) => Some((false, json!(params.int("cancel_at")?))),
        (None, None) if params.has("cancel_at") => Some((false, Value::Null)),
        (None, None) => None,
    };
    if let Some((at_end, at)) = asked {
        let ends = !at.is_null();
        after.write("canceled_at", if ends { json!(world.now()) } else { Value::Null });
        after.write(
            "cancellation_details.reason",
            if ends { json!("cancellation_requested") } else { Value::Null },
        );
        merge(after, json!({"cancel_at_period_end": at_end, "cancel_at": at}));
    }
    let details = params.part("cancellation_details");
    for name in ["comment", "feedback"] {
        if let Some(text) = details.text(name) {
            after.write(&format!("cancellation_details.{name}"), json!(text));
        }
    }
    Ok(())
}

/// Changes, adds and removes items; whether that changes what is paid.
fn change_items(world: &mut World, after: &mut Value, params: &Params) -> Answer<bool> {
    let (start, end) = period(after);
    let mut items = after.parts("items.data").to_vec();
    let old: Vec<(Value, Value)> = items
        .iter()
        .map(|item| (item.at("price.id").clone(), item.at("quantity").clone()))
        .collect();
    for wanted in params.list("items") {
        let place = match wanted.text("id") {
            Some(id) => {
                Some(items.iter().position(|item| item.text("id") == id).ok_or_else(|| {
                    ApiError::param("items", format!("No such subscription item: '{id}'"))
                        .code("resource_missing")
                })?)
            }
            None => None,
        };
        if wanted.flag("deleted")? == Some(true) {
            if let Some(place) = place {
                items.remove(place);
            }
            continue;
        }
        let item = changed_item(world, after, place.and_then(|place| items.get(place)), &wanted)?;
        match place.and_then(|place| items.get_mut(place)) {
            Some(old) => *old = item,
            None => items.push(item),
        }
    }
    if items.is_empty() {
        return Err(ApiError::param("items", "A subscription must have at least one item."));
    }
    let new: Vec<(Value, Value)> = items
        .iter()
        .map(|item| (item.at("price.id").clone(), item.at("quantity").clone()))
        .collect();
    after.write("items.total_count", json!(items.len()));
    after.write("items.data", json!(items));
    set_period(after, start, end);
    Ok(old != new)
}

/// An item as it is wanted: the old one changed, or a new one.
fn changed_item(
    world: &mut World,
    subscription: &Value,
    old: Option<&Value>,
    wanted: &Params,
) -> Answer {
    let currency = subscription.text("currency").to_owned();
    let names = wanted.has("price") || wanted.has("price_data");
    let price = if names { Some(line_price(world, wanted, &currency)?) } else { None };
    let fits =
        |price: &Value| price.text("currency") == currency && price.text("type") == "recurring";
    if let Some(price) = price.as_ref().filter(|price| !fits(price)) {
        let message =
            format!("The price {} is not a recurring one in {currency}.", price.text("id"));
        return Err(ApiError::param("items", message));
    }
    let quantity = wanted.int("quantity")?;
    let Some(old) = old else {
        let price = price.ok_or_else(|| ApiError::missing("items[0][price]"))?;
        let metadata = wanted.get("metadata").cloned();
        return Ok(subscriptions::new_item(
            world,
            subscription.text("id"),
            &price,
            quantity.unwrap_or(1),
            metadata,
        ));
    };
    let mut item = old.clone();
    if let Some(price) = price {
        merge(&mut item, json!({"plan": plan_of(&price), "price": price}));
    }
    if let Some(quantity) = quantity {
        item.write("quantity", json!(quantity));
    }
    wanted.copy_metadata(&mut item);
    Ok(item)
}

/// What was paid and will not be used is credited; what is used from now on is charged, unless a
/// new period begins and charges it whole.
fn prorate(world: &mut World, (before, after): (&Value, &Value), date: i64, starts_anew: bool) {
    let kept = |item: &Value, others: &Value| {
        others.parts("items.data").iter().any(|other| {
            other.at("id") == item.at("id")
                && other.at("price.id") == item.at("price.id")
                && other.at("quantity") == item.at("quantity")
        })
    };
    for item in before.parts("items.data") {
        if starts_anew || !kept(item, after) {
            part_item(world, (before, item), date, true);
        }
    }
    for item in after.parts("items.data") {
        if !starts_anew && !kept(item, before) {
            part_item(world, (after, item), date, false);
        }
    }
}

/// Credits the rest of the running period, as a cancellation with `prorate` does.
pub fn credit_rest(world: &mut World, subscription: &Value, date: i64) {
    for item in subscription.parts("items.data") {
        part_item(world, (subscription, item), date, true);
    }
}

fn part_item(world: &mut World, (subscription, item): (&Value, &Value), date: i64, credit: bool) {
    let (start, end) = period(subscription);
    let whole = item.int("price.unit_amount") * item.int("quantity");
    let rest = share(whole, (end - date).clamp(0, end - start), end - start);
    let (amount, verb) = if credit { (-rest, "Unused") } else { (rest, "Remaining") };
    let new = items::new(
        world,
        Item {
            customer: subscription.text("customer"),
            subscription: Some(subscription.text("id")),
            text: format!(
                "{verb} time on {} × {}",
                item.int("quantity"),
                name_of(item.at("price"))
            ),
            price: (item.at("price"), item.int("quantity")),
            amount,
            period: (date, end),
            proration: true,
        },
    );
    world.emit("invoiceitem.created", &new);
}

/// A trial, or a longer one: the period ends with it, and is paid for from there.
fn give_trial(world: &World, after: &mut Value, end: i64) -> Answer<()> {
    let now = world.now();
    if end <= now {
        return Err(ApiError::param("trial_end", "Invalid trial_end: must be in the future"));
    }
    let start = after.some_int("trial_start").unwrap_or(now);
    set_period(after, now, end);
    merge(
        after,
        json!({"status": "trialing", "trial_start": start, "trial_end": end, "billing_cycle_anchor": end, "_trial_told": null}),
    );
    Ok(())
}

fn bill_now(world: &mut World, after: &Value, lines: Vec<Value>, params: &Params) -> Answer<()> {
    let behaviour = params.choice(
        "payment_behavior",
        &["allow_incomplete", "default_incomplete", "error_if_incomplete"],
    )?;
    let invoice = bill(world, after, "subscription_update", (lines, json!({})));
    world.set(after.text("id"), json!({"latest_invoice": invoice.at("id")}));
    if behaviour == Some("default_incomplete") {
        return invoices::finalize(world, invoice.text("id")).map(drop);
    }
    let verdict = collect(world, invoice.text("id"))?;
    match (verdict, behaviour) {
        (Some(Verdict::Declined(code, bank)), Some("error_if_incomplete")) => {
            let invoice = world.get("invoice", invoice.text("id"), "id")?;
            let intent = intent_of(world, &invoice).unwrap_or_default();
            Err(payments::refusal(world, intent.text("id"), code, bank))
        }
        _ => Ok(()),
    }
}
