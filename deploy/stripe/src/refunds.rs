//! Refunds and credit notes.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::invoices::{self, intent_of};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, inner_list, new_id};

/// `POST /v1/refunds`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let charge = match (params.text("charge"), params.text("payment_intent")) {
        (Some(charge), _) => charge.to_owned(),
        (None, Some(intent)) => world
            .get("payment_intent", intent, "payment_intent")?
            .some_text("latest_charge")
            .ok_or_else(|| {
                ApiError::invalid("This PaymentIntent does not have a successful charge to refund.")
            })?,
        (None, None) => return Err(ApiError::missing("payment_intent")),
    };
    params.choice("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
    let refund = refund(world, &charge, params.int("amount")?, params.text("reason"))?;
    let mut refund = refund;
    params.copy_metadata(&mut refund);
    world.put(&refund);
    announce(world, &refund);
    Ok(refund)
}

fn refund(world: &mut World, charge: &str, amount: Option<i64>, reason: Option<&str>) -> Answer {
    let charge = world.get("charge", charge, "charge")?;
    if !charge.flag("paid") {
        return Err(ApiError::invalid("The charge was not paid, so there is nothing to refund."));
    }
    if charge.flag("_lost") {
        return Err(ApiError::invalid("The charge was lost in a dispute.").code("charge_disputed"));
    }
    let left = charge.int("amount") - charge.int("amount_refunded");
    if left == 0 {
        return Err(ApiError::invalid(format!(
            "Charge {} has already been refunded.",
            charge.text("id")
        ))
        .code("charge_already_refunded"));
    }
    let amount = amount.unwrap_or(left);
    if amount < 1 || amount > left {
        return Err(ApiError::param(
            "amount",
            format!(
                "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})."
            ),
        ));
    }
    let refunded = charge.int("amount_refunded") + amount;
    world.set(
        charge.text("id"),
        json!({"amount_refunded": refunded, "refunded": refunded == charge.int("amount")}),
    );
    let fields = json!({
        "amount": amount, "balance_transaction": new_id("txn"), "charge": charge.at("id"),
        "currency": charge.at("currency"),
        "destination_details": {"type": "card", "card": {"reference": "4212345678901234", "reference_status": "available", "reference_type": "acquirer_reference_number", "type": "refund"}},
        "payment_intent": charge.at("payment_intent"), "reason": reason, "receipt_number": null,
        "source_transfer_reversal": null, "status": "succeeded", "transfer_reversal": null,
    });
    let mut refund = world.create("refund", new_id("re"), fields);
    if let Some(refund) = refund.as_object_mut() {
        refund.remove("livemode");
    }
    world.put(&refund);
    Ok(refund)
}

fn announce(world: &mut World, refund: &Value) {
    world.emit("refund.created", refund);
    if let Some(charge) = world.find("charge", refund.text("charge")) {
        world.emit("charge.refunded", &charge);
    }
}

/// `POST /v1/refunds/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("refund", id, "id")?;
    let mut refund = before.clone();
    params.copy_metadata(&mut refund);
    world.put(&refund);
    world.emit_changed("refund.updated", &before, &refund);
    Ok(refund)
}

/// A refund that had succeeded comes back from the bank.
pub fn fail(world: &mut World, id: &str) -> Answer {
    let refund = world.get("refund", id, "id")?;
    if refund.text("status") != "succeeded" {
        return Err(ApiError::invalid("Only a refund that succeeded can fail."));
    }
    if let Some(charge) = world.find("charge", refund.text("charge")) {
        let left = charge.int("amount_refunded") - refund.int("amount");
        world.set(charge.text("id"), json!({"amount_refunded": left, "refunded": false}));
    }
    let refund = world.set(id, json!({"status": "failed", "failure_reason": "expired_or_canceled_card", "failure_balance_transaction": new_id("txn")}));
    world.emit("refund.failed", &refund);
    Ok(refund)
}

/// `POST /v1/credit_notes`: of an open invoice it lowers what is due, of a paid one it is paid
/// back, credited, or settled elsewhere.
pub fn create_credit_note(world: &mut World, params: &Params) -> Answer {
    let invoice = world.get("invoice", params.required("invoice")?, "invoice")?;
    let status = invoice.text("status");
    if !matches!(status, "open" | "paid" | "uncollectible") {
        return Err(ApiError::invalid("A credit note needs an open or paid invoice."));
    }
    params
        .choice("reason", &["duplicate", "fraudulent", "order_change", "product_unsatisfactory"])?;
    let lines = credited_lines(&invoice, params)?;
    let amount: i64 = lines.iter().map(|line| line.int("amount")).sum();
    let credited = invoice.int("pre_payment_credit_notes_amount")
        + invoice.int("post_payment_credit_notes_amount");
    if amount < 1 || amount > invoice.int("total") - credited {
        return Err(ApiError::param(
            "amount",
            "The credit note's amount exceeds what is left of the invoice.",
        ));
    }
    let paid = status == "paid";
    let parts = (
        params.int("refund_amount")?,
        params.int("credit_amount")?,
        params.int("out_of_band_amount")?,
    );
    let sum = parts.0.unwrap_or(0) + parts.1.unwrap_or(0) + parts.2.unwrap_or(0);
    if paid && sum != amount {
        return Err(ApiError::invalid(
            "The sum of credit_amount, refund_amount and out_of_band_amount must equal the credit note amount.",
        ));
    }
    let mut refunds = Vec::new();
    if let Some(back) = parts.0.filter(|back| paid && *back > 0) {
        let intent = intent_of(world, &invoice)
            .ok_or_else(|| ApiError::invalid("The invoice was not paid by a payment intent."))?;
        let refund = refund(world, intent.text("latest_charge"), Some(back), None)?;
        announce(world, &refund);
        refunds.push(json!({"amount_refunded": back, "refund": refund.at("id"), "type": "refund"}));
    }
    if let Some(credit) = parts.1.filter(|credit| paid && *credit > 0) {
        invoices::add_balance(world, invoice.text("customer"), -credit);
    }
    let note = write_note(world, &invoice, params, (lines, amount, refunds));
    world.emit("credit_note.created", &note);
    invoices::credited(world, invoice.text("id"), amount);
    Ok(note)
}

fn credited_lines(invoice: &Value, params: &Params) -> Answer<Vec<Value>> {
    let line = |description: &str, amount: i64, source: Value| {
        json!({
            "id": new_id("cnli"), "object": "credit_note_line_item", "amount": amount,
            "description": description, "discount_amount": 0, "discount_amounts": [],
            "invoice_line_item": source, "livemode": false, "pretax_credit_amounts": [],
            "quantity": 1, "tax_rates": [], "taxes": [],
            "type": if source.is_null() { "custom_line_item" } else { "invoice_line_item" },
            "unit_amount": amount, "unit_amount_decimal": amount.to_string(), "metadata": {},
        })
    };
    if let Some(amount) = params.int("amount")? {
        return Ok(vec![line("Credit", amount, Value::Null)]);
    }
    let mut lines = Vec::new();
    for part in params.list("lines") {
        let source = part.text("invoice_line_item");
        let original =
            invoice.parts("lines.data").iter().find(|line| Some(line.text("id")) == source);
        let amount = match (part.int("amount")?, part.int("unit_amount")?, original) {
            (Some(amount), ..) => amount,
            (None, Some(unit), _) => unit * part.int("quantity")?.unwrap_or(1),
            (None, None, Some(original)) => original.int("amount"),
            _ => return Err(ApiError::missing("lines[0][amount]")),
        };
        let text =
            part.text("description").or_else(|| original.map(|line| line.text("description")));
        lines.push(line(
            text.unwrap_or("Credit"),
            amount,
            original.map_or(Value::Null, |line| line.at("id").clone()),
        ));
    }
    if lines.is_empty() { Err(ApiError::missing("amount")) } else { Ok(lines) }
}

fn write_note(
    world: &mut World,
    invoice: &Value,
    params: &Params,
    parts: (Vec<Value>, i64, Vec<Value>),
) -> Value {
    let (lines, amount, refunds) = parts;
    let number =
        world.all("credit_note").filter(|note| note.at("invoice") == invoice.at("id")).count() + 1;
    let id = new_id("cn");
    let paid = invoice.text("status") == "paid";
    let pdf = format!("{}/credit_notes/{id}/pdf", world.base_url);
    let mut fields = json!({
        "amount": amount, "amount_shipping": 0, "currency": invoice.at("currency"),
        "customer": invoice.at("customer"), "customer_balance_transaction": null,
        "discount_amount": 0, "discount_amounts": [], "effective_at": world.now(),
        "invoice": invoice.at("id"), "lines": inner_list(lines, &format!("/v1/credit_notes/{id}/lines")),
        "memo": null, "number": format!("{}-CN-{number:02}", invoice.text("number")),
        "out_of_band_amount": null, "pdf": pdf, "post_payment_amount": if paid { amount } else { 0 },
        "pre_payment_amount": if paid { 0 } else { amount }, "pretax_credit_amounts": [],
        "reason": null, "refunds": refunds, "shipping_cost": null, "status": "issued",
        "subtotal": amount, "subtotal_excluding_tax": amount, "total": amount,
        "total_excluding_tax": amount, "total_taxes": [],
        "type": if paid { "post_payment" } else { "pre_payment" }, "voided_at": null,
    });
    params.copy_texts(&mut fields, &["memo", "reason"]);
    params.copy_metadata(&mut fields);
    world.create("credit_note", id, fields)
}

/// `POST /v1/credit_notes/{}`
pub fn update_credit_note(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("credit_note", id, "id")?;
    let mut note = before.clone();
    params.copy_texts(&mut note, &["memo"]);
    params.copy_metadata(&mut note);
    world.put(&note);
    world.emit_changed("credit_note.updated", &before, &note);
    Ok(note)
}

/// `POST /v1/credit_notes/{}/void`
pub fn void_credit_note(world: &mut World, id: &str) -> Answer {
    let note = world.get("credit_note", id, "id")?;
    let invoice = world.get("invoice", note.text("invoice"), "invoice")?;
    if note.text("status") == "void" || invoice.text("status") != "open" {
        return Err(ApiError::invalid(
            "Only an issued credit note of an open invoice can be voided.",
        ));
    }
    let now = world.now();
    let note = world.set(id, json!({"status": "void", "voided_at": now}));
    invoices::credited(world, invoice.text("id"), -note.int("amount"));
    world.emit("credit_note.voided", &note);
    Ok(note)
}
