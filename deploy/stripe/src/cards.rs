//! Payment methods: cards that behave as their test tokens say.

use serde_json::{Value, json};

use crate::customers;
use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id, random};

/// Test tokens: the name, the brand, the last digits, and how the card behaves.
const TOKENS: &[(&str, &str, &str, &str)] = &[
    ("pm_card_visa", "visa", "4242", "pays"),
    ("pm_card_mastercard", "mastercard", "4444", "pays"),
    ("pm_card_amex", "amex", "8431", "pays"),
    ("pm_card_chargeDeclined", "visa", "0002", "declined"),
    ("pm_card_visa_chargeDeclined", "visa", "0002", "declined"),
    ("pm_card_chargeDeclinedInsufficientFunds", "visa", "9995", "insufficient_funds"),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "visa", "9995", "insufficient_funds"),
    ("pm_card_chargeDeclinedExpiredCard", "visa", "0069", "expired_card"),
    ("pm_card_visa_chargeDeclinedExpiredCard", "visa", "0069", "expired_card"),
    ("pm_card_authenticationRequired", "visa", "3184", "authenticates"),
    ("pm_card_authenticationRequiredOnSetup", "visa", "3155", "authenticates_once"),
    ("pm_card_threeDSecure2Required", "visa", "3220", "authenticates"),
    ("pm_card_chargeCustomerFail", "visa", "0341", "fails_later"),
];

/// How a card may behave, in the words of `/_control/card`.
pub const BEHAVIOURS: &[&str] = &[
    "pays",
    "declined",
    "insufficient_funds",
    "expired_card",
    "authenticates",
    "authenticates_once",
    "fails_later",
];

/// What comes of charging a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is paid.
    Paid,
    /// The customer must authenticate first.
    Authenticate,
    /// The bank refuses: Stripe's code and the bank's.
    Declined(&'static str, &'static str),
}

/// Whether the customer is there while the card is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// On a page of ours or the caller's.
    There,
    /// The caller charges by itself.
    Away,
    /// An invoice is collected, which waits for an authentication.
    Billing,
}

/// What comes of charging this card.
pub fn verdict(card: &Value, presence: Presence) -> Verdict {
    match (card.text("_behaviour"), presence) {
        ("fails_later", Presence::There) => Verdict::Paid,
        ("declined" | "fails_later", _) => Verdict::Declined("card_declined", "generic_decline"),
        ("insufficient_funds", _) => Verdict::Declined("card_declined", "insufficient_funds"),
        ("expired_card", _) => Verdict::Declined("expired_card", "expired_card"),
        ("authenticates", Presence::Away) => {
            Verdict::Declined("authentication_required", "authentication_required")
        }
        ("authenticates", _) | ("authenticates_once", Presence::There) => Verdict::Authenticate,
        _ => Verdict::Paid,
    }
}

/// The card of an id, or a new one of a test token.
pub fn of_token(world: &mut World, name: &str, param: &str) -> Answer {
    let Some((_, brand, last4, behaviour)) = TOKENS.iter().find(|(token, ..)| *token == name)
    else {
        return world.get("payment_method", name, param);
    };
    let fields = json!({
        "allow_redisplay": "unspecified",
        "billing_details": {"address": {"city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null}, "email": null, "name": null, "phone": null, "tax_id": null},
        "card": {
            "brand": brand, "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
            "country": "US", "display_brand": brand, "exp_month": 12, "exp_year": 2036,
            "fingerprint": random(16), "funding": "credit", "generated_from": null, "last4": last4,
            "networks": {"available": [brand], "preferred": null},
            "three_d_secure_usage": {"supported": true}, "wallet": null,
        },
        "customer": null, "type": "card", "_behaviour": behaviour,
    });
    Ok(world.create("payment_method", new_id("pm"), fields))
}

/// `POST /v1/payment_methods`: cards by `card[token]` (`tok_visa` …) or `card[number]`.
pub fn create(world: &mut World, params: &Params) -> Answer {
    params.choice("type", &["card"])?.ok_or_else(|| ApiError::missing("type"))?;
    let wanted = params.text("card.token").map(|token| token.replacen("tok_", "pm_card_", 1));
    let number = params.text("card.number").unwrap_or_default();
    let known = TOKENS.iter().find(|(name, _, last4, _)| match &wanted {
        Some(wanted) => *name == wanted,
        None => number.len() >= 12 && number.ends_with(last4),
    });
    let Some((token, ..)) = known else {
        return Err(ApiError::param(
            "card[token]",
            "Your card number is incorrect: the sandbox knows Stripe's test cards.",
        )
        .code("incorrect_number"));
    };
    let mut card = of_token(world, token, "card")?;
    copy(params, &mut card);
    world.put(&card);
    Ok(card)
}

fn copy(params: &Params, card: &mut Value) {
    if let Some(details) = params.get("billing_details").and_then(Value::as_object) {
        for (name, value) in details {
            card.write(&format!("billing_details.{name}"), value.clone());
        }
    }
    params.copy_metadata(card);
}

/// `POST /v1/payment_methods/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("payment_method", id, "id")?;
    let mut card = before.clone();
    copy(params, &mut card);
    for name in ["exp_month", "exp_year"] {
        if let Some(number) = params.int(&format!("card.{name}"))? {
            card.write(&format!("card.{name}"), json!(number));
        }
    }
    world.put(&card);
    world.emit_changed("payment_method.updated", &before, &card);
    Ok(card)
}

/// Gives a card to a customer; again for the same one changes nothing.
pub fn attach(world: &mut World, name: &str, customer: &str) -> Answer {
    customers::living(world, customer, "customer")?;
    let card = of_token(world, name, "id")?;
    if card.text("customer") == customer {
        return Ok(card);
    }
    if card.some_text("customer").is_some() {
        return Err(ApiError::invalid(
            "The payment method you provided has already been attached to a customer.",
        ));
    }
    if card.text("_behaviour") == "declined" {
        return Err(ApiError::card(
            "card_declined",
            "generic_decline",
            "Your card was declined.",
            Value::Null,
        ));
    }
    let card = world.set(card.text("id"), json!({"customer": customer}));
    world.emit("payment_method.attached", &card);
    Ok(card)
}

/// `POST /v1/payment_methods/{}/detach`
pub fn detach(world: &mut World, id: &str) -> Answer {
    let before = world.get("payment_method", id, "id")?;
    let owner = before.text("customer").to_owned();
    if owner.is_empty() {
        return Err(ApiError::invalid(
            "The payment method you provided is not attached to a customer so detachment is impossible.",
        ));
    }
    let card = world.set(id, json!({"customer": null}));
    world.emit_changed("payment_method.detached", &before, &card);
    if let Some(mut customer) = world.find("customer", &owner)
        && customer.text("invoice_settings.default_payment_method") == id
    {
        customer.write("invoice_settings.default_payment_method", Value::Null);
        world.put(&customer);
    }
    let using: Vec<String> = world
        .all("subscription")
        .filter(|subscription| subscription.text("default_payment_method") == id)
        .map(|subscription| subscription.text("id").to_owned())
        .collect();
    for subscription in using {
        world.set(&subscription, json!({"default_payment_method": null}));
    }
    Ok(card)
}

/// The card that a customer's invoices are paid with, unless something nearer names one.
pub fn default_of(world: &World, customer: &str) -> Option<String> {
    world.find("customer", customer)?.some_text("invoice_settings.default_payment_method")
}
