//! Customers and their tax ids.

use serde_json::{Value, json};

use crate::cards;
use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::renewals;
use crate::subscriptions;
use crate::value::Fields;
use crate::world::{World, new_id, random};

/// Kinds of tax ids, with what they look like: letters stand for themselves, `#` for a digit or a
/// letter. Kinds that are not listed are taken as they come.
const TAX_ID_FORMS: &[(&str, &[&str])] = &[
    (
        "eu_vat",
        &[
            "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "EL", "ES", "FI", "FR", "HR", "HU",
            "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "XI",
        ],
    ),
    ("gb_vat", &["GB"]),
    ("ch_vat", &["CHE"]),
];

/// `POST /v1/customers`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let mut fields = json!({
        "address": null, "balance": params.int("balance")?.unwrap_or(0), "currency": null,
        "default_source": null, "delinquent": false, "description": null, "discount": null,
        "email": null, "invoice_prefix": random(8).to_uppercase(),
        "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null},
        "name": null, "next_invoice_sequence": 1, "phone": null, "preferred_locales": [],
        "shipping": null, "tax_exempt": "none", "test_clock": null,
    });
    copy(params, &mut fields);
    let mut customer = world.create("customer", new_id("cus"), fields);
    let id = customer.text("id").to_owned();
    for tax_id in params.list("tax_id_data") {
        create_tax_id(world, &id, &tax_id)?;
    }
    if let Some(card) = params.text("payment_method") {
        cards::attach(world, card, &id)?;
    }
    if let Some(card) = params.text("invoice_settings.default_payment_method") {
        let card = cards::attach(world, card, &id)?;
        customer.write("invoice_settings.default_payment_method", card.at("id").clone());
        world.put(&customer);
    }
    world.emit("customer.created", &customer);
    Ok(customer)
}

fn copy(params: &Params, into: &mut Value) {
    params.copy_texts(
        into,
        &[
            "address",
            "description",
            "email",
            "name",
            "phone",
            "preferred_locales",
            "shipping",
            "tax_exempt",
            "business_name",
            "individual_name",
        ],
    );
    params.copy_metadata(into);
}

/// `POST /v1/customers/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = living(world, id, "id")?;
    let mut customer = before.clone();
    copy(params, &mut customer);
    if let Some(balance) = params.int("balance")? {
        customer.write("balance", json!(balance));
    }
    if let Some(card) = params.text("invoice_settings.default_payment_method") {
        let card = world.get("payment_method", card, "invoice_settings[default_payment_method]")?;
        if card.text("customer") != id {
            return Err(ApiError::invalid(
                "The customer does not have a payment method with this ID. Attach it first.",
            ));
        }
        customer.write("invoice_settings.default_payment_method", card.at("id").clone());
    }
    world.put(&customer);
    world.emit_changed("customer.updated", &before, &customer);
    Ok(customer)
}

/// A customer who was not deleted.
pub fn living(world: &World, id: &str, param: &str) -> Answer {
    let customer = world.get("customer", id, param)?;
    if customer.flag("deleted") {
        Err(ApiError::no_such("customer", id, param))
    } else {
        Ok(customer)
    }
}

/// `DELETE /v1/customers/{}`: cancels the subscriptions, too.
pub fn delete(world: &mut World, id: &str) -> Answer {
    let customer = living(world, id, "id")?;
    let open: Vec<String> = world
        .all("subscription")
        .filter(|subscription| {
            subscription.text("customer") == id && !subscriptions::is_over(subscription)
        })
        .map(|subscription| subscription.text("id").to_owned())
        .collect();
    for subscription in open {
        renewals::cancel_now(world, &subscription, "cancellation_requested");
    }
    world.put(&json!({"id": id, "object": "customer", "deleted": true}));
    world.emit("customer.deleted", &customer);
    Ok(json!({"id": id, "object": "customer", "deleted": true}))
}

/// `POST /v1/customers/{}/tax_ids`
pub fn create_tax_id(world: &mut World, customer: &str, params: &Params) -> Answer {
    let (kind, value) = (params.required("type")?, params.required("value")?);
    let form = TAX_ID_FORMS.iter().find(|(known, _)| *known == kind);
    let country = match form {
        None => None,
        Some((_, starts)) => {
            let start = starts.iter().find(|start| value.starts_with(**start));
            let rest = start.and_then(|start| value.strip_prefix(start)).unwrap_or_default();
            let fits =
                (8..=13).contains(&rest.len()) && rest.chars().all(|c| c.is_ascii_alphanumeric());
            if !fits {
                return Err(ApiError::param("value", format!("Invalid value for {kind}."))
                    .code("tax_id_invalid"));
            }
            start.and_then(|start| start.get(..2))
        }
    };
    let customer = living(world, customer, "id")?;
    let fields = json!({
        "country": country, "customer": customer.at("id"),
        "owner": {"type": "customer", "customer": customer.at("id")}, "type": kind, "value": value,
        "verification": {"status": "pending", "verified_address": null, "verified_name": null},
    });
    let tax_id = world.create("tax_id", new_id("txi"), fields);
    world.emit("customer.tax_id.created", &tax_id);
    Ok(tax_id)
}

/// `DELETE /v1/customers/{}/tax_ids/{}`
pub fn delete_tax_id(world: &mut World, id: &str) -> Answer {
    let tax_id = world.get("tax_id", id, "id")?;
    world.remove("tax_id", id);
    world.emit("customer.tax_id.deleted", &tax_id);
    Ok(json!({"id": id, "object": "tax_id", "deleted": true}))
}

/// The tax ids of a customer, as invoices and sessions repeat them.
pub fn tax_ids(world: &World, customer: &str) -> Vec<Value> {
    world
        .all("tax_id")
        .filter(|tax_id| tax_id.text("customer") == customer)
        .map(|tax_id| json!({"type": tax_id.at("type"), "value": tax_id.at("value")}))
        .collect()
}
