//! Disputes: `/_control/dispute` opens and closes them, as a bank would.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id};

/// The bank takes a charge back.
pub fn open(world: &mut World, charge: &str, amount: Option<i64>, reason: Option<&str>) -> Answer {
    let charge = world.get("charge", charge, "charge")?;
    if !charge.flag("paid") || charge.flag("disputed") {
        return Err(ApiError::invalid("Only a paid charge can be disputed, and only once."));
    }
    let amount = amount.unwrap_or_else(|| charge.int("amount") - charge.int("amount_refunded"));
    let fields = json!({
        "amount": amount, "balance_transactions": [], "charge": charge.at("id"),
        "currency": charge.at("currency"), "enhanced_eligibility_types": [],
        "evidence": {"enhanced_evidence": {}, "uncategorized_text": null},
        "evidence_details": {"due_by": world.now() + 7 * 86_400, "enhanced_eligibility": {}, "has_evidence": false, "past_due": false, "submission_count": 0},
        "is_charge_refundable": false, "payment_intent": charge.at("payment_intent"),
        "payment_method_details": {"type": "card", "card": {"brand": charge.at("payment_method_details.card.brand"), "network": charge.at("payment_method_details.card.network"), "case_type": "chargeback", "network_reason_code": "10.4"}},
        "reason": reason.unwrap_or("fraudulent"), "status": "needs_response",
    });
    let dispute = world.create("dispute", new_id("du"), fields);
    let after = world.set(charge.text("id"), json!({"disputed": true}));
    world.emit("charge.dispute.created", &dispute);
    world.emit_changed("charge.updated", &charge, &after);
    world.emit("charge.dispute.funds_withdrawn", &dispute);
    Ok(dispute)
}

/// The bank decides.
pub fn close(world: &mut World, id: &str, won: bool) -> Answer {
    let dispute = world.get("dispute", id, "id")?;
    if matches!(dispute.text("status"), "won" | "lost") {
        return Err(ApiError::invalid("This dispute is already closed."));
    }
    let dispute = world.set(id, json!({"status": if won { "won" } else { "lost" }}));
    world.set(dispute.text("charge"), json!({"_lost": !won}));
    world.emit("charge.dispute.closed", &dispute);
    if won {
        world.emit("charge.dispute.funds_reinstated", &dispute);
    }
    Ok(dispute)
}

/// `POST /v1/disputes/{}`: evidence, which `submit` hands to the bank.
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("dispute", id, "id")?;
    let mut dispute = before.clone();
    for (name, value) in params.get("evidence").and_then(Value::as_object).into_iter().flatten() {
        dispute.write(&format!("evidence.{name}"), value.clone());
        dispute.write("evidence_details.has_evidence", json!(true));
    }
    if params.flag("submit")? != Some(false) && dispute.flag("evidence_details.has_evidence") {
        dispute.write("status", json!("under_review"));
        dispute.write(
            "evidence_details.submission_count",
            json!(before.int("evidence_details.submission_count") + 1),
        );
    }
    params.copy_metadata(&mut dispute);
    world.put(&dispute);
    world.emit_changed("charge.dispute.updated", &before, &dispute);
    Ok(dispute)
}
