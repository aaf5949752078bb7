//! What callers do with invoices.

use serde_json::{Value, json};

use crate::cards::{Presence, Verdict};
use crate::error::{Answer, ApiError};
use crate::invoices::{self, Draft, intent_of};
use crate::lines;
use crate::params::Params;
use crate::value::Fields;
use crate::world::World;
use crate::{changes, coupons, customers, payments, renewals, subscriptions};

/// `POST /v1/invoices`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let customer = customers::living(world, params.required("customer")?, "customer")?;
    let subscription = params.text("subscription");
    if let Some(id) = subscription {
        world.get("subscription", id, "subscription")?;
    }
    let pending = params.choice("pending_invoice_items_behavior", &["include", "exclude"])?;
    let id = customer.text("id").to_owned();
    let waiting = world
        .all("invoiceitem")
        .find(|item| item.at("invoice").is_null() && item.text("customer") == id);
    let currency = params
        .text("currency")
        .map(str::to_lowercase)
        .or_else(|| waiting.map(|item| item.text("currency").to_owned()))
        .or_else(|| customer.some_text("currency"))
        .unwrap_or_else(|| "eur".into());
    let method = params.choice("collection_method", &["charge_automatically", "send_invoice"])?;
    let discounts = coupons::redeem(world, &params.list("discounts"), &json!({"customer": id}))?;
    let mut more = json!({
        "auto_advance": params.flag("auto_advance")?.unwrap_or(false), "discounts": discounts,
        "collection_method": method.unwrap_or("charge_automatically"),
        "_takes_pending": pending == Some("include"),
    });
    if method == Some("send_invoice") {
        let days = params.int("days_until_due")?.unwrap_or(30);
        more.write(
            "due_date",
            json!(params.int("due_date")?.unwrap_or_else(|| world.now() + days * 86_400)),
        );
    }
    more.write("automatic_tax", json!({"enabled": params.flag("automatic_tax.enabled")?.unwrap_or(false), "disabled_reason": null, "liability": null, "provider": null, "status": null}));
    params.copy_texts(
        &mut more,
        &["description", "footer", "default_payment_method", "statement_descriptor"],
    );
    params.copy_metadata(&mut more);
    Ok(invoices::draft(
        world,
        Draft {
            customer: id,
            subscription: subscription.map(str::to_owned),
            reason: "manual",
            currency,
            lines: Vec::new(),
            more,
        },
    ))
}

/// `POST /v1/invoices/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("invoice", id, "id")?;
    let mut invoice = before.clone();
    params.copy_texts(&mut invoice, &["description", "footer", "default_payment_method"]);
    params.copy_flags(&mut invoice, &["auto_advance"])?;
    params.copy_metadata(&mut invoice);
    if invoice.text("status") == "draft" && params.has("discounts") {
        let owner = json!({"customer": invoice.at("customer"), "invoice": id});
        invoice
            .write("discounts", json!(coupons::redeem(world, &params.list("discounts"), &owner)?));
        lines::total(world, &mut invoice);
    }
    world.put(&invoice);
    world.emit_changed("invoice.updated", &before, &invoice);
    Ok(invoice)
}

/// `DELETE /v1/invoices/{}`: drafts only.
pub fn delete(world: &mut World, id: &str) -> Answer {
    let invoice = world.get("invoice", id, "id")?;
    if invoice.text("status") != "draft" {
        return Err(ApiError::invalid("You can only delete draft invoices."));
    }
    world.remove("invoice", id);
    world.emit("invoice.deleted", &invoice);
    Ok(json!({"id": id, "object": "invoice", "deleted": true}))
}

/// `POST /v1/invoices/{}/finalize`
pub fn finalize(world: &mut World, id: &str, params: &Params) -> Answer {
    if let Some(advance) = params.flag("auto_advance")? {
        world.get("invoice", id, "id")?;
        world.set(id, json!({"auto_advance": advance}));
    }
    invoices::finalize(world, id)
}

/// `POST /v1/invoices/{}/pay`
pub fn pay(world: &mut World, id: &str, params: &Params) -> Answer {
    let mut invoice = world.get("invoice", id, "id")?;
    if invoice.text("status") == "draft" {
        invoice = invoices::finalize(world, id)?;
    }
    match invoice.text("status") {
        "open" | "uncollectible" => {}
        "paid" if invoice.int("amount_due") == 0 => return Ok(invoice),
        "paid" => {
            return Err(ApiError::invalid("Invoice is already paid").code("invoice_already_paid"));
        }
        status => {
            return Err(ApiError::invalid(format!("Invoice is {status} and cannot be paid.")));
        }
    }
    if params.flag("paid_out_of_band")? == Some(true) {
        invoices::paid(world, id, true);
        return world.get("invoice", id, "id");
    }
    let there = params.flag("off_session")? == Some(false);
    let presence = if there { Presence::There } else { Presence::Billing };
    let verdict = invoices::attempt(world, id, params.text("payment_method"), presence)?;
    let intent = intent_of(world, &invoice).unwrap_or_default();
    match verdict {
        Verdict::Paid => world.get("invoice", id, "id"),
        Verdict::Authenticate => Err(payments::refusal(
            world,
            intent.text("id"),
            "invoice_payment_intent_requires_action",
            "authentication_required",
        )),
        Verdict::Declined(code, bank) => {
            Err(payments::refusal(world, intent.text("id"), code, bank))
        }
    }
}

/// `POST /v1/invoices/{}/void` and `…/mark_uncollectible`
pub fn give_up(world: &mut World, id: &str, status: &str) -> Answer {
    let mut invoice = world.get("invoice", id, "id")?;
    if !matches!(invoice.text("status"), "open" | "uncollectible") {
        return Err(ApiError::invalid(format!(
            "You can only pass in open invoices. This invoice isn't open: it is {}.",
            invoice.text("status")
        )));
    }
    let now = world.now();
    invoice.write("status", json!(status));
    invoice.write("next_payment_attempt", Value::Null);
    let (transition, event) = if status == "void" {
        ("voided_at", "invoice.voided")
    } else {
        ("marked_uncollectible_at", "invoice.marked_uncollectible")
    };
    invoice.write(&format!("status_transitions.{transition}"), json!(now));
    world.put(&invoice);
    if status == "void"
        && let Some(intent) = intent_of(world, &invoice)
    {
        payments::end(world, intent.text("id"), Some("void_invoice"));
    }
    world.emit(event, &invoice);
    renewals::invoice_given_up(world, &invoice);
    Ok(invoice)
}

/// `POST /v1/invoices/{}/send`
pub fn send(world: &mut World, id: &str) -> Answer {
    let mut invoice = world.get("invoice", id, "id")?;
    if invoice.text("status") == "draft" {
        invoice = invoices::finalize(world, id)?;
    }
    world.emit("invoice.sent", &invoice);
    Ok(invoice)
}

/// `POST /v1/invoices/create_preview`: what a change or the next renewal would bring, tried on a
/// copy of the world that is then forgotten.
pub fn preview(world: &World, params: &Params) -> Answer {
    let mut trial = world.trial();
    let details = params.part("subscription_details");
    let subscription = match params.text("subscription") {
        Some(id) => {
            let before = trial.get("subscription", id, "subscription")?;
            if details.value().as_object().is_some_and(|map| !map.is_empty()) {
                let mut details = details.value().clone();
                details.write("payment_behavior", json!("default_incomplete"));
                changes::update(&mut trial, id, &Params::of(details))?;
            }
            before
        }
        None => {
            let mut fields = details.value().clone();
            fields.write("customer", json!(params.required("customer")?));
            fields.write("payment_behavior", json!("default_incomplete"));
            for name in ["discounts", "automatic_tax"] {
                if let Some(value) = params.get(name) {
                    fields.write(name, value.clone());
                }
            }
            let new = subscriptions::create(&mut trial, &Params::of(fields))?;
            return Ok(as_preview(trial.get(
                "invoice",
                new.text("latest_invoice"),
                "subscription",
            )?));
        }
    };
    let id = subscription.text("id");
    let new = trial.get("subscription", id, "subscription")?;
    if new.at("latest_invoice") != subscription.at("latest_invoice") {
        return Ok(as_preview(trial.get("invoice", new.text("latest_invoice"), "subscription")?));
    }
    renewals::upcoming(&mut trial, id).map(as_preview)
}

/// A preview has the amounts of an invoice, and no place among them.
pub fn as_preview(mut invoice: Value) -> Value {
    invoice.write("id", json!(format!("upcoming_{}", invoice.text("id"))));
    for name in [
        "number",
        "hosted_invoice_url",
        "invoice_pdf",
        "automatically_finalizes_at",
        "effective_at",
    ] {
        invoice.write(name, Value::Null);
    }
    invoice.write("status", json!("draft"));
    invoice.write("amount_paid", json!(0));
    invoice.write("amount_remaining", invoice.at("amount_due").clone());
    invoice.write("attempted", json!(false));
    invoice.write("attempt_count", json!(0));
    invoice
}

/// The subscription that an invoice is for, as `GET /v1/invoices?subscription=` filters it.
pub const SUBSCRIPTION_PATH: &str = "parent.subscription_details.subscription";
