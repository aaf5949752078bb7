//! Payment intents and their charges.

use serde_json::{Value, json};

use crate::cards::{self, Presence, Verdict};
use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, merge, new_id, random, shown};
use crate::{charges, checkout, customers, invoices};

/// `POST /v1/payment_intents`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let amount = params.int("amount")?.ok_or_else(|| ApiError::missing("amount"))?;
    if amount < 1 {
        return Err(ApiError::param("amount", "This value must be greater than or equal to 1.")
            .code("parameter_invalid_integer"));
    }
    let currency = params.required("currency")?.to_lowercase();
    let mut fields = json!({"amount": amount, "currency": currency});
    if let Some(customer) = params.text("customer") {
        fields.write("customer", customers::living(world, customer, "customer")?.at("id").clone());
    }
    params.copy_texts(
        &mut fields,
        &[
            "description",
            "receipt_email",
            "setup_future_usage",
            "statement_descriptor",
            "statement_descriptor_suffix",
            "transfer_group",
        ],
    );
    params.copy_metadata(&mut fields);
    if let Some(card) = params.text("payment_method") {
        let card = cards::of_token(world, card, "payment_method")?;
        merge(
            &mut fields,
            json!({"payment_method": card.at("id"), "status": "requires_confirmation"}),
        );
    }
    let intent = new_intent(world, fields);
    if params.flag("confirm")? == Some(true) {
        confirm(world, intent.text("id"), params)
    } else {
        Ok(intent)
    }
}

/// A payment intent, announced.
pub fn new_intent(world: &mut World, fields: Value) -> Value {
    let id = new_id("pi");
    let mut all = json!({
        "amount_capturable": 0, "amount_details": {"tip": {}}, "amount_received": 0,
        "application": null, "application_fee_amount": null,
        "automatic_payment_methods": {"enabled": true, "allow_redirects": "always"},
        "canceled_at": null, "cancellation_reason": null, "capture_method": "automatic_async",
        "client_secret": format!("{id}_secret_{}", random(24)),
        "confirmation_method": "automatic", "customer": null, "description": null,
        "last_payment_error": null, "latest_charge": null, "next_action": null,
        "on_behalf_of": null, "payment_method": null, "payment_method_types": ["card"],
        "processing": null, "receipt_email": null, "setup_future_usage": null, "shipping": null,
        "source": null, "statement_descriptor": null, "statement_descriptor_suffix": null,
        "status": "requires_payment_method", "transfer_data": null, "transfer_group": null,
    });
    merge(&mut all, fields);
    let intent = world.create("payment_intent", id, all);
    world.emit("payment_intent.created", &intent);
    intent
}

/// `POST /v1/payment_intents/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let mut intent = world.get("payment_intent", id, "id")?;
    if let Some(amount) = params.int("amount")? {
        open(&intent)?;
        intent.write("amount", json!(amount));
    }
    if let Some(card) = params.text("payment_method") {
        open(&intent)?;
        let card = cards::of_token(world, card, "payment_method")?;
        merge(
            &mut intent,
            json!({"payment_method": card.at("id"), "status": "requires_confirmation"}),
        );
    }
    params.copy_texts(&mut intent, &["description", "receipt_email", "setup_future_usage"]);
    params.copy_metadata(&mut intent);
    world.put(&intent);
    Ok(intent)
}

fn open(intent: &Value) -> Answer<()> {
    let status = intent.text("status");
    if matches!(status, "requires_payment_method" | "requires_confirmation" | "requires_action") {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "This PaymentIntent's status is {status}, which does not allow this. Retrieve it to see its state."
    ))
    .code("payment_intent_unexpected_state"))
}

/// `POST /v1/payment_intents/{}/confirm`
pub fn confirm(world: &mut World, id: &str, params: &Params) -> Answer {
    let away = params.text("off_session").is_some_and(|value| value != "false");
    let presence = if away { Presence::Away } else { Presence::There };
    if let Some(url) = params.text("return_url") {
        world.get("payment_intent", id, "id")?;
        world.set(id, json!({"_return_url": url}));
    }
    match attempt(world, id, params.text("payment_method"), presence)? {
        Verdict::Declined(code, bank) => Err(refusal(world, id, code, bank)),
        _ => world.get("payment_intent", id, "id"),
    }
}

/// The 402 of a refused card.
pub fn refusal(world: &World, intent: &str, code: &'static str, bank: &str) -> ApiError {
    let intent = world.find("payment_intent", intent).map(|intent| shown(&intent));
    ApiError::card(code, bank, sentence(code, bank), intent.unwrap_or_default())
}

/// What a refusal says.
pub fn sentence(code: &str, bank: &str) -> &'static str {
    match (code, bank) {
        (_, "insufficient_funds") => "Your card has insufficient funds.",
        ("expired_card", _) => "Your card has expired.",
        ("authentication_required", _) => {
            "Your card was declined. This transaction requires authentication."
        }
        ("payment_intent_authentication_failure", _) => {
            "We are unable to authenticate your payment method. Please choose a different payment method and try again."
        }
        _ => "Your card was declined.",
    }
}

/// Charges the intent's card, or another; what hangs on the intent follows.
pub fn attempt(
    world: &mut World,
    id: &str,
    card: Option<&str>,
    presence: Presence,
) -> Answer<Verdict> {
    let intent = world.get("payment_intent", id, "id")?;
    open(&intent)?;
    let name = card.map(str::to_owned).or_else(|| intent.some_text("payment_method")).ok_or_else(
        || {
            ApiError::invalid(
                "You cannot confirm this PaymentIntent because it's missing a payment method.",
            )
            .code("payment_intent_unexpected_state")
        },
    )?;
    let card = cards::of_token(world, &name, "payment_method")?;
    let owner = intent.text("customer").to_owned();
    if card.some_text("customer").is_some_and(|customer| customer != owner) {
        return Err(ApiError::param(
            "payment_method",
            "The provided PaymentMethod cannot be used with this customer.",
        ));
    }
    world.set(
        id,
        json!({"payment_method": card.at("id"), "last_payment_error": null, "next_action": null}),
    );
    let verdict = cards::verdict(&card, presence);
    match verdict {
        Verdict::Paid => succeed(world, id),
        Verdict::Authenticate => ask_authentication(world, id),
        Verdict::Declined(code, bank) => fail(world, id, code, bank),
    }
    Ok(verdict)
}

fn ask_authentication(world: &mut World, id: &str) {
    let url = format!("{}/authenticate/{id}", world.base_url);
    let back = world.find("payment_intent", id).and_then(|intent| intent.some_text("_return_url"));
    let intent = world.set(
        id,
        json!({
            "status": "requires_action",
            "next_action": {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": back}},
        }),
    );
    world.emit("payment_intent.requires_action", &intent);
}

/// The customer came back from their bank.
pub fn authenticated(world: &mut World, id: &str, well: bool) -> Answer {
    let intent = world.get("payment_intent", id, "id")?;
    if intent.text("status") != "requires_action" {
        return Err(ApiError::invalid("This PaymentIntent does not wait for an authentication.")
            .code("payment_intent_unexpected_state"));
    }
    world.set(id, json!({"next_action": null}));
    if well {
        succeed(world, id);
    } else {
        fail(world, id, "payment_intent_authentication_failure", "authentication_required");
        if let Some(invoice) = intent.some_text("_invoice") {
            invoices::failed(world, &invoice, false);
        }
    }
    world.get("payment_intent", id, "id")
}

/// The money is there.
pub fn succeed(world: &mut World, id: &str) {
    let Some(intent) = world.find("payment_intent", id) else { return };
    let charge = charges::new(world, &intent, None);
    world.emit("charge.succeeded", &charge);
    let intent = world.set(
        id,
        json!({
            "status": "succeeded", "amount_received": intent.at("amount"), "latest_charge": charge.at("id"),
            "processing": null, "next_action": null,
        }),
    );
    let (card, customer) = (intent.text("payment_method"), intent.text("customer"));
    if intent.some_text("setup_future_usage").is_some() && !customer.is_empty() {
        // A card that cannot be kept was paid with all the same.
        let kept = cards::attach(world, card, customer).is_ok();
        world.set(id, json!({"_card_kept": kept}));
    }
    world.emit("payment_intent.succeeded", &intent);
    if let Some(invoice) = intent.some_text("_invoice") {
        invoices::paid(world, &invoice, false);
    }
    if let Some(session) = intent.some_text("_session") {
        checkout::paid(world, &session);
    }
}

/// The card was refused.
pub fn fail(world: &mut World, id: &str, code: &str, bank: &str) {
    let Some(intent) = world.find("payment_intent", id) else { return };
    let charge = charges::new(world, &intent, Some((code, bank)));
    world.emit("charge.failed", &charge);
    let card = world.find("payment_method", intent.text("payment_method")).map(|card| shown(&card));
    let intent = world.set(
        id,
        json!({
            "status": "requires_payment_method", "latest_charge": charge.at("id"), "payment_method": null,
            "processing": null, "next_action": null,
            "last_payment_error": {
                "type": "card_error", "code": code, "decline_code": bank, "charge": charge.at("id"),
                "message": sentence(code, bank), "payment_method": card,
                "doc_url": format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")),
            },
        }),
    );
    world.emit("payment_intent.payment_failed", &intent);
}

/// The money will come, or not, after a while.
pub fn process(world: &mut World, id: &str, well: bool) {
    let due = world.now() + world.settings.late_seconds;
    let intent =
        world.set(id, json!({"status": "processing", "_late": {"due": due, "well": well}}));
    world.emit("payment_intent.processing", &intent);
}

/// The end of [`process`].
pub fn settle(world: &mut World, id: &str, well: bool) {
    let Some(intent) = world.find("payment_intent", id) else { return };
    world.set(id, json!({"_late": null}));
    if well {
        succeed(world, id);
        return;
    }
    fail(world, id, "card_declined", "generic_decline");
    if let Some(invoice) = intent.some_text("_invoice") {
        invoices::failed(world, &invoice, false);
    }
    if let Some(session) = intent.some_text("_session") {
        // What is paid after this is the invoice's business, and not the session's.
        world.set(id, json!({"_session": null}));
        checkout::failed_late(world, &session);
    }
}

/// `POST /v1/payment_intents/{}/cancel`
pub fn cancel(world: &mut World, id: &str, params: &Params) -> Answer {
    let intent = world.get("payment_intent", id, "id")?;
    open(&intent)?;
    if intent.some_text("_invoice").is_some() {
        return Err(ApiError::invalid(
            "You cannot cancel a PaymentIntent that belongs to an invoice: void the invoice instead.",
        ));
    }
    Ok(end(world, id, params.text("cancellation_reason")))
}

/// Cancels an intent that nothing hangs on any more.
pub fn end(world: &mut World, id: &str, reason: Option<&str>) -> Value {
    let now = world.now();
    let intent = world.set(
        id,
        json!({"status": "canceled", "canceled_at": now, "cancellation_reason": reason, "next_action": null}),
    );
    world.emit("payment_intent.canceled", &intent);
    intent
}
