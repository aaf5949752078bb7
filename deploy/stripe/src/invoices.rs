//! Invoices: drafts, what they are worth, and how they are paid.

use serde_json::{Value, json};

use crate::cards::{self, Presence, Verdict};
use crate::error::{Answer, ApiError};
use crate::lines::{line_of_item, total};
use crate::value::Fields;
use crate::world::{World, inner_list, merge, new_id};
use crate::{coupons, payments, renewals};

/// What a new invoice is made of.
pub struct Draft {
    /// Who pays.
    pub customer: String,
    /// For which subscription, if for one.
    pub subscription: Option<String>,
    /// Stripe's `billing_reason`.
    pub reason: &'static str,
    /// In which currency.
    pub currency: String,
    /// What is paid for.
    pub lines: Vec<Value>,
    /// Other fields, over the usual ones.
    pub more: Value,
}

/// Makes a draft with the pending invoice items, and announces it.
pub fn draft(world: &mut World, draft: Draft) -> Value {
    let id = new_id("in");
    let customer = world.find("customer", &draft.customer).unwrap_or_default();
    let subscription = draft.subscription.as_deref().and_then(|id| world.find("subscription", id));
    let mut lines = take_pending(world, &draft, &id);
    lines.extend(draft.lines);
    for line in &mut lines {
        line.write("invoice", json!(id));
    }
    let mut fields = usual(world, &customer, subscription.as_ref());
    merge(
        &mut fields,
        json!({
            "billing_reason": draft.reason, "currency": draft.currency,
            "lines": inner_list(lines, &format!("/v1/invoices/{id}/lines")),
        }),
    );
    merge(&mut fields, draft.more);
    total(world, &mut fields);
    let invoice = world.create("invoice", id, fields);
    world.emit("invoice.created", &invoice);
    invoice
}

fn usual(world: &World, customer: &Value, subscription: Option<&Value>) -> Value {
    let now = world.now();
    let parent = subscription.map(|subscription| {
        json!({
            "type": "subscription_details", "quote_details": null,
            "subscription_details": {"metadata": subscription.at("metadata"), "subscription": subscription.at("id")},
        })
    });
    let lasting: Vec<&Value> = subscription
        .map(|subscription| subscription.parts("discounts"))
        .unwrap_or_default()
        .iter()
        .filter(|id| coupons::lasts(world, id.as_str().unwrap_or_default(), now))
        .collect();
    let of =
        |name: &str| subscription.map_or(Value::Null, |subscription| subscription[name].clone());
    let sends = of("collection_method") == "send_invoice";
    let automatic_tax =
        subscription.is_some_and(|subscription| subscription.flag("automatic_tax.enabled"));
    json!({
        "account_country": "DE", "account_name": "MigraPanel", "account_tax_ids": null,
        "amount_overpaid": 0, "amount_paid": 0, "amount_shipping": 0, "application": null,
        "attempt_count": 0, "attempted": false, "auto_advance": true,
        "automatic_tax": {"disabled_reason": null, "enabled": automatic_tax, "liability": null, "provider": null, "status": null},
        "automatically_finalizes_at": null,
        "collection_method": if sends { "send_invoice" } else { "charge_automatically" },
        "custom_fields": null, "customer": customer.at("id"), "customer_address": customer.at("address"),
        "customer_email": customer.at("email"), "customer_name": customer.at("name"),
        "customer_phone": customer.at("phone"), "customer_shipping": null,
        "customer_tax_exempt": customer.at("tax_exempt"),
        "customer_tax_ids": crate::customers::tax_ids(world, customer.text("id")),
        "default_payment_method": null, "default_source": null, "default_tax_rates": [],
        "description": of("description"), "discounts": lasting,
        "due_date": if sends { json!(now + of("days_until_due").as_i64().unwrap_or(30) * 86_400) } else { Value::Null },
        "effective_at": null, "ending_balance": null, "footer": null, "from_invoice": null,
        "hosted_invoice_url": null, "invoice_pdf": null, "issuer": {"type": "self"},
        "last_finalization_error": null, "latest_revision": null, "next_payment_attempt": null,
        "number": null, "on_behalf_of": null, "parent": parent,
        "payment_settings": {"default_mandate": null, "payment_method_options": null, "payment_method_types": null},
        "period_end": now, "period_start": now, "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "receipt_number": null, "rendering": null,
        "shipping_cost": null, "shipping_details": null, "starting_balance": 0,
        "statement_descriptor": null, "status": "draft",
        "status_transitions": {"finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null},
        "test_clock": null, "threshold_reason": null, "total_pretax_credit_amounts": [],
        "webhooks_delivered_at": now,
    })
}

/// Lines of what waits for the next invoice of the subscription, or of the customer.
fn take_pending(world: &mut World, draft: &Draft, invoice: &str) -> Vec<Value> {
    let wants = draft.subscription.is_some() || draft.more.flag("_takes_pending");
    let fits = |item: &&Value| {
        let of = item.text("parent.subscription_details.subscription");
        wants
            && item.at("invoice").is_null()
            && item.text("customer") == draft.customer
            && item.text("currency") == draft.currency
            && (of.is_empty() || draft.subscription.as_deref() == Some(of))
    };
    let items: Vec<Value> = world.all("invoiceitem").filter(fits).cloned().collect();
    for item in &items {
        world.set(item.text("id"), json!({"invoice": invoice}));
    }
    items.iter().map(line_of_item).collect()
}

/// A draft becomes an invoice with a number, and owes what it says.
pub fn finalize(world: &mut World, id: &str) -> Answer {
    let mut invoice = world.get("invoice", id, "id")?;
    if invoice.text("status") != "draft" {
        return Err(ApiError::invalid(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.",
        ));
    }
    let now = world.now();
    let mut customer = world.find("customer", invoice.text("customer")).unwrap_or_default();
    let number = customer.int("next_invoice_sequence").max(1);
    customer.write("next_invoice_sequence", json!(number + 1));
    customer.write("currency", invoice.at("currency").clone());
    let (starting, total) = (customer.int("balance"), invoice.int("total"));
    let (due, ending) = ((starting + total).max(0), (starting + total).min(0));
    customer.write("balance", json!(ending));
    world.put(&customer);
    let url = format!("{}/i/{id}", world.base_url);
    merge(
        &mut invoice,
        json!({
            "status": "open", "effective_at": now, "automatically_finalizes_at": null,
            "number": format!("{}-{number:04}", customer.text("invoice_prefix")),
            "starting_balance": starting, "ending_balance": ending, "amount_due": due,
            "amount_remaining": due, "hosted_invoice_url": url, "invoice_pdf": format!("{url}/pdf"),
        }),
    );
    invoice.write("status_transitions.finalized_at", json!(now));
    world.put(&invoice);
    for discount in invoice.parts("discounts").iter().filter_map(Value::as_str) {
        coupons::spend(world, discount);
    }
    if due > 0 {
        ask_payment(world, &invoice);
    }
    let invoice = world.get("invoice", id, "id")?;
    world.emit("invoice.finalized", &invoice);
    if due == 0 {
        paid(world, id, false);
    } else if invoice.text("collection_method") == "send_invoice" {
        world.emit("invoice.sent", &invoice);
    } else if invoice.flag("auto_advance") {
        world.set(id, json!({"next_payment_attempt": now + 3600}));
    }
    world.get("invoice", id, "id")
}

fn ask_payment(world: &mut World, invoice: &Value) {
    let description = if invoice.text("billing_reason") == "subscription_create" {
        "Subscription creation"
    } else {
        "Invoice"
    };
    let card = card_of(world, invoice);
    let intent = payments::new_intent(
        world,
        json!({
            "amount": invoice.at("amount_due"), "currency": invoice.at("currency"),
            "customer": invoice.at("customer"), "description": description,
            "payment_method": card, "_invoice": invoice.at("id"),
            "status": if card.is_some() { "requires_confirmation" } else { "requires_payment_method" },
        }),
    );
    let payment = json!({
        "amount_paid": null, "amount_requested": invoice.at("amount_due"),
        "currency": invoice.at("currency"), "invoice": invoice.at("id"), "is_default": true,
        "payment": {"type": "payment_intent", "payment_intent": intent.at("id")}, "status": "open",
        "status_transitions": {"canceled_at": null, "paid_at": null},
    });
    let payment = world.create("invoice_payment", new_id("inpay"), payment);
    world
        .set(invoice.text("id"), json!({"_intent": intent.at("id"), "_payment": payment.at("id")}));
}

/// The payment intent of an invoice, once it is finalized.
pub fn intent_of(world: &World, invoice: &Value) -> Option<Value> {
    world.find("payment_intent", invoice.text("_intent"))
}

/// The card that would be charged: the invoice's, the subscription's, the customer's.
fn card_of(world: &World, invoice: &Value) -> Option<String> {
    let subscription = world.find("subscription", subscription_of(invoice));
    invoice
        .some_text("default_payment_method")
        .or_else(|| {
            subscription.and_then(|subscription| subscription.some_text("default_payment_method"))
        })
        .or_else(|| cards::default_of(world, invoice.text("customer")))
}

/// The subscription that an invoice is for, or nothing.
pub fn subscription_of(invoice: &Value) -> &str {
    invoice.text("parent.subscription_details.subscription")
}

/// Charges an open invoice. Without a card, that is a failure, too.
pub fn attempt(
    world: &mut World,
    id: &str,
    card: Option<&str>,
    presence: Presence,
) -> Answer<Verdict> {
    let invoice = world.get("invoice", id, "id")?;
    let intent = intent_of(world, &invoice)
        .ok_or_else(|| ApiError::invalid("This invoice has nothing to be paid."))?;
    let card = card.map(str::to_owned).or_else(|| card_of(world, &invoice));
    let Some(card) = card else {
        failed(world, id, false);
        return Ok(Verdict::Declined("card_declined", "no_default_payment_method"));
    };
    let verdict = payments::attempt(world, intent.text("id"), Some(&card), presence)?;
    if verdict != Verdict::Paid {
        failed(world, id, verdict == Verdict::Authenticate);
    }
    Ok(verdict)
}

/// An invoice is paid: by its intent, by a balance, or by hand.
pub fn paid(world: &mut World, id: &str, out_of_band: bool) {
    let Some(mut invoice) = world.find("invoice", id) else { return };
    if !matches!(invoice.text("status"), "open" | "uncollectible") {
        return;
    }
    let now = world.now();
    let count =
        invoice.int("attempt_count") + i64::from(!out_of_band && invoice.int("amount_due") > 0);
    let due = invoice.int("amount_due");
    merge(
        &mut invoice,
        json!({
            "status": "paid", "attempted": true, "attempt_count": count,
            "amount_paid": due, "amount_remaining": 0, "next_payment_attempt": null,
            "auto_advance": false,
        }),
    );
    invoice.write("status_transitions.paid_at", json!(now));
    world.put(&invoice);
    let payment = invoice.text("_payment").to_owned();
    if !out_of_band && !payment.is_empty() {
        let transitions = json!({"canceled_at": null, "paid_at": now});
        let payment = world.set(&payment, json!({"status": "paid", "amount_paid": invoice.at("amount_due"), "status_transitions": transitions}));
        world.emit("invoice.paid", &invoice);
        world.emit("invoice_payment.paid", &payment);
    } else {
        if let Some(intent) = intent_of(world, &invoice) {
            payments::end(world, intent.text("id"), Some("void_invoice"));
        }
        world.emit("invoice.paid", &invoice);
    }
    world.emit("invoice.payment_succeeded", &invoice);
    renewals::invoice_paid(world, &invoice);
}

/// An attempt failed or waits for the customer: says so, and plans the next.
pub fn failed(world: &mut World, id: &str, waits: bool) {
    let Some(before) = world.find("invoice", id) else { return };
    let count = before.int("attempt_count") + 1;
    let first =
        before.text("billing_reason") == "subscription_create" && !before.flag("_collected_later");
    let days = usize::try_from(count - 1)
        .ok()
        .and_then(|place| world.settings.retry_days.get(place).copied());
    let automatic = before.text("collection_method") == "charge_automatically";
    let next = days
        .filter(|_| !first && automatic && !subscription_of(&before).is_empty())
        .map(|days| world.now() + days * 86_400);
    let invoice = world
        .set(id, json!({"attempted": true, "attempt_count": count, "next_payment_attempt": next}));
    if waits {
        world.emit("invoice.payment_action_required", &invoice);
    }
    world.emit("invoice.payment_failed", &invoice);
    world.emit_changed("invoice.updated", &before, &invoice);
    renewals::invoice_failed(world, &invoice, next.is_none() && !first);
}

/// A credit note lowers what is due, or counts what was given back.
pub fn credited(world: &mut World, id: &str, amount: i64) {
    let Some(before) = world.find("invoice", id) else { return };
    let after = if before.text("status") == "open" {
        let left = before.int("amount_remaining") - amount;
        world.set(
            id,
            json!({
                "pre_payment_credit_notes_amount": before.int("pre_payment_credit_notes_amount") + amount,
                "amount_due": before.int("amount_due") - amount, "amount_remaining": left,
            }),
        )
    } else {
        world.set(id, json!({"post_payment_credit_notes_amount": before.int("post_payment_credit_notes_amount") + amount}))
    };
    world.emit_changed("invoice.updated", &before, &after);
    if after.text("status") != "open" {
        return;
    }
    let left = after.int("amount_remaining");
    if left <= 0 {
        paid(world, id, true);
    } else if let Some(intent) = intent_of(world, &after) {
        world.set(intent.text("id"), json!({"amount": left}));
    }
}

/// Adds to what a customer owes (below zero: has to their credit).
pub fn add_balance(world: &mut World, customer: &str, amount: i64) {
    if let Some(before) = world.find("customer", customer) {
        let after = world.set(customer, json!({"balance": before.int("balance") + amount}));
        world.emit_changed("customer.updated", &before, &after);
    }
}
