//! Charges: what a payment intent's attempts leave behind.

use serde_json::{Value, json};

use crate::error::Answer;
use crate::params::Params;
use crate::payments::sentence;
use crate::value::Fields;
use crate::world::{World, new_id};

/// The charge of an attempt, refused (with the code and the bank's) or not. Nothing is announced.
pub fn new(world: &mut World, intent: &Value, refused: Option<(&str, &str)>) -> Value {
    let card = world.find("payment_method", intent.text("payment_method")).unwrap_or_default();
    let paid = refused.is_none();
    let amount = intent.at("amount");
    let id = new_id("ch");
    let outcome = match refused {
        None => {
            json!({"network_status": "approved_by_network", "reason": null, "risk_level": "normal", "risk_score": 7, "seller_message": "Payment complete.", "type": "authorized"})
        }
        Some((_, bank)) => {
            json!({"network_status": "declined_by_network", "reason": bank, "risk_level": "normal", "risk_score": 7, "seller_message": "The bank did not return any further details with this decline.", "type": "issuer_declined"})
        }
    };
    let receipt = format!("{}/receipts/{id}", world.base_url);
    world.create(
        "charge",
        id,
        json!({
            "amount": amount, "amount_captured": if paid { amount.clone() } else { json!(0) },
            "amount_refunded": 0, "application": null, "application_fee": null,
            "application_fee_amount": null,
            "balance_transaction": if paid { json!(new_id("txn")) } else { Value::Null },
            "billing_details": card.at("billing_details"), "calculated_statement_descriptor": "MIGRAPANEL",
            "captured": paid, "currency": intent.at("currency"), "customer": intent.at("customer"),
            "description": intent.at("description"), "disputed": false,
            "failure_balance_transaction": null, "failure_code": refused.map(|(code, _)| code),
            "failure_message": refused.map(|(code, bank)| sentence(code, bank)),
            "fraud_details": {}, "metadata": intent.at("metadata"), "on_behalf_of": null,
            "outcome": outcome, "paid": paid, "payment_intent": intent.at("id"),
            "payment_method": card.at("id"),
            "payment_method_details": {"type": "card", "card": {
                "amount_authorized": if paid { amount.clone() } else { Value::Null },
                "authorization_code": null, "brand": card.at("card.brand"), "checks": card.at("card.checks"),
                "country": "US", "exp_month": 12, "exp_year": 2036,
                "fingerprint": card.at("card.fingerprint"), "funding": "credit", "installments": null,
                "last4": card.at("card.last4"), "mandate": null, "network": card.at("card.brand"),
                "three_d_secure": null, "wallet": null,
            }},
            "radar_options": {}, "receipt_email": intent.at("receipt_email"), "receipt_number": null,
            "receipt_url": if paid { json!(receipt) } else { Value::Null }, "refunded": false,
            "review": null, "shipping": null, "source_transfer": null, "statement_descriptor": null,
            "statement_descriptor_suffix": null, "status": if paid { "succeeded" } else { "failed" },
            "transfer_data": null, "transfer_group": null,
        }),
    )
}

/// `POST /v1/charges/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("charge", id, "id")?;
    let mut charge = before.clone();
    params.copy_texts(&mut charge, &["description", "receipt_email"]);
    params.copy_metadata(&mut charge);
    world.put(&charge);
    world.emit_changed("charge.updated", &before, &charge);
    Ok(charge)
}
