//! Checkout sessions: made by a caller, paid by a person on the page (see `page.rs`).

use serde_json::{Value, json};

use crate::catalogue::line_price;
use crate::coupons;
use crate::customers;
use crate::error::{Answer, ApiError};
use crate::lines;
use crate::params::Params;
use crate::subscriptions::extra_line;
use crate::value::Fields;
use crate::world::{World, new_id};

const MODES: &[&str] = &["payment", "subscription"];
const PAGES: &[&str] = &["hosted", "hosted_page"];

/// `POST /v1/checkout/sessions`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let mode = params.choice("mode", MODES)?.ok_or_else(|| ApiError::missing("mode"))?;
    params.choice("ui_mode", PAGES)?;
    let success = params.required("success_url")?;
    let now = world.now();
    let expires = params.int("expires_at")?.unwrap_or(now + 86_400);
    if !(now + 1800 - 5..=now + 86_400 + 5).contains(&expires) {
        return Err(ApiError::param(
            "expires_at",
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.",
        ));
    }
    let customer = match params.text("customer") {
        Some(id) => Some(customers::living(world, id, "customer")?),
        None => None,
    };
    if customer.is_some() && params.has("customer_email") {
        return Err(ApiError::invalid(
            "You may only specify one of these parameters: customer, customer_email.",
        ));
    }
    if params.has("discounts") && params.flag("allow_promotion_codes")? == Some(true) {
        return Err(ApiError::invalid(
            "You may only specify one of these parameters: allow_promotion_codes, discounts.",
        ));
    }
    if mode == "payment" && params.has("subscription_data") {
        return Err(ApiError::param(
            "subscription_data",
            "You can not pass `subscription_data` in `payment` mode.",
        ));
    }
    if mode == "subscription" && params.has("payment_intent_data") {
        return Err(ApiError::param(
            "payment_intent_data",
            "You can not pass `payment_intent_data` in `subscription` mode.",
        ));
    }
    let items = read_items(world, params, mode)?;
    let id = new_id("cs_test");
    let mut fields = usual(world, params, customer.as_ref())?;
    fields.write("currency", items.first().map_or(Value::Null, |item| item.at("currency").clone()));
    for (name, value) in [
        ("_line_items", json!(items)),
        ("_subscription_data", params.part("subscription_data").value().clone()),
        ("_payment_intent_data", params.part("payment_intent_data").value().clone()),
        ("_discounts", params.get("discounts").cloned().unwrap_or_else(|| json!([]))),
        ("mode", json!(mode)),
        ("expires_at", json!(expires)),
        ("success_url", json!(success)),
        ("url", json!(format!("{}/c/pay/{id}", world.base_url))),
    ] {
        fields.write(name, value);
    }
    total(world, &mut fields)?;
    Ok(world.create("checkout.session", id, fields))
}

fn read_items(world: &mut World, params: &Params, mode: &str) -> Answer<Vec<Value>> {
    let mut items: Vec<Value> = Vec::new();
    for item in params.list("line_items") {
        let price = line_price(world, &item, params.text("currency").unwrap_or_default())?;
        let quantity = item.int("quantity")?.unwrap_or(1);
        if quantity < 1 {
            return Err(ApiError::param("line_items[0][quantity]", "Invalid quantity"));
        }
        if items.first().is_some_and(|first| first.at("currency") != price.at("currency")) {
            return Err(ApiError::invalid(
                "All prices of a Checkout Session must have the same currency.",
            ));
        }
        if mode == "payment" && price.text("type") == "recurring" {
            return Err(ApiError::invalid(
                "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use only one-time prices.",
            ));
        }
        let product = world.find("product", price.text("product")).unwrap_or_default();
        items.push(json!({
            "id": new_id("li"), "object": "item", "adjustable_quantity": null, "currency": price.at("currency"),
            "description": product.at("name"), "price": price, "quantity": quantity, "metadata": {},
        }));
    }
    if items.is_empty() {
        return Err(ApiError::missing("line_items"));
    }
    if mode == "subscription" && !items.iter().any(|item| item.text("price.type") == "recurring") {
        return Err(ApiError::invalid(
            "You must provide at least one recurring price in `subscription` mode.",
        ));
    }
    Ok(items)
}

fn usual(world: &World, params: &Params, customer: Option<&Value>) -> Answer {
    let mut fields = json!({
        "adaptive_pricing": null, "after_expiration": null,
        "allow_promotion_codes": params.flag("allow_promotion_codes")?,
        "automatic_tax": {"enabled": params.flag("automatic_tax.enabled")?.unwrap_or(false), "liability": null, "provider": null, "status": null},
        "billing_address_collection": null, "cancel_url": null, "client_reference_id": null,
        "client_secret": null, "collected_information": null, "consent": null,
        "consent_collection": null, "currency_conversion": null, "custom_fields": [],
        "custom_text": {"after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null},
        "customer": customer.map(|customer| customer.at("id").clone()), "customer_creation": null,
        "customer_details": customer.map(|customer| details(world, customer)),
        "customer_email": null, "discounts": [], "invoice": null, "invoice_creation": null,
        "locale": null, "payment_intent": null, "payment_link": null,
        "payment_method_collection": "always", "payment_method_configuration_details": null,
        "payment_method_options": {}, "payment_method_types": ["card"], "payment_status": "unpaid",
        "permissions": null, "phone_number_collection": {"enabled": false}, "recovered_from": null,
        "saved_payment_method_options": null, "setup_intent": null,
        "shipping_address_collection": null, "shipping_cost": null, "shipping_options": [],
        "status": "open", "submit_type": null, "subscription": null, "ui_mode": "hosted_page",
        "wallet_options": null,
    });
    params.copy_texts(
        &mut fields,
        &[
            "billing_address_collection",
            "cancel_url",
            "client_reference_id",
            "customer_creation",
            "customer_email",
            "locale",
            "payment_method_collection",
            "submit_type",
        ],
    );
    params.copy_metadata(&mut fields);
    if fields.at("customer_details").is_null() && params.has("customer_email") {
        fields.write("customer_details", json!({"address": null, "email": params.text("customer_email"), "name": null, "phone": null, "tax_exempt": "none", "tax_ids": []}));
    }
    if params.flag("tax_id_collection.enabled")? == Some(true) {
        fields.write("tax_id_collection", json!({"enabled": true, "required": params.text("tax_id_collection.required").unwrap_or("never")}));
    }
    if params.flag("invoice_creation.enabled")? == Some(true) {
        fields.write("invoice_creation", json!({"enabled": true, "invoice_data": {"metadata": params.get("invoice_creation.invoice_data.metadata")}}));
    }
    Ok(fields)
}

/// What a session says about its customer.
pub fn details(world: &World, customer: &Value) -> Value {
    json!({
        "address": customer.at("address"), "email": customer.at("email"), "name": customer.at("name"),
        "phone": customer.at("phone"), "tax_exempt": customer.at("tax_exempt"),
        "tax_ids": customers::tax_ids(world, customer.text("id")),
    })
}

/// Writes the amounts that are to be paid now. Discounts are tried on a copy of the world, since
/// they are redeemed when the session is paid.
pub fn total(world: &World, session: &mut Value) -> Answer<()> {
    let mut trial = world.trial();
    let named = Params::of(json!({"discounts": session.at("_discounts")})).list("discounts");
    let discounts = coupons::redeem(&mut trial, &named, &json!({}))?;
    let later = has_trial(session);
    let lines: Vec<Value> = session
        .parts("_line_items")
        .iter()
        .map(|item| {
            let mut line = extra_line(item.at("price"), item.int("quantity"), 0);
            if later && item.text("price.type") == "recurring" {
                line.write("amount", json!(0));
            }
            line
        })
        .collect();
    let mut bill = json!({
        "lines": {"data": lines}, "discounts": discounts, "automatic_tax": session.at("automatic_tax"),
        "customer": session.at("customer"),
    });
    lines::total(&trial, &mut bill);
    let sum = |name: &str| -> i64 { bill.parts(name).iter().map(|part| part.int("amount")).sum() };
    let of = |line: &Value, name: &str| -> i64 {
        line.parts(name).iter().map(|part| part.int("amount")).sum()
    };
    for (item, line) in session.parts_mut("_line_items").iter_mut().zip(bill.parts("lines.data")) {
        let (amount, off, tax) =
            (line.int("amount"), of(line, "discount_amounts"), of(line, "taxes"));
        item.write("amount_subtotal", json!(amount));
        item.write("amount_discount", json!(off));
        item.write("amount_tax", json!(tax));
        item.write("amount_total", json!(amount - off + tax));
    }
    session.write("amount_subtotal", bill.at("subtotal").clone());
    session.write("amount_total", bill.at("total").clone());
    session.write("automatic_tax.status", bill.at("automatic_tax.status").clone());
    session.write("total_details", json!({"amount_discount": sum("total_discount_amounts"), "amount_shipping": 0, "amount_tax": sum("total_taxes")}));
    session.write("discounts", named
        .iter()
        .map(|one| json!({"coupon": one.text("coupon"), "promotion_code": one.text("promotion_code")}))
        .collect());
    Ok(())
}

fn has_trial(session: &Value) -> bool {
    session
        .some_text("_subscription_data.trial_period_days")
        .or_else(|| session.some_text("_subscription_data.trial_end"))
        .is_some()
}

/// `POST /v1/checkout/sessions/{}`
pub fn update(world: &mut World, id: &str, params: &Params) -> Answer {
    let mut session = world.get("checkout.session", id, "id")?;
    params.copy_metadata(&mut session);
    world.put(&session);
    Ok(session)
}

/// `POST /v1/checkout/sessions/{}/expire`
pub fn expire(world: &mut World, id: &str) -> Answer {
    let session = world.get("checkout.session", id, "id")?;
    if session.text("status") != "open" {
        return Err(ApiError::invalid(format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of {}.",
            session.text("status")
        )));
    }
    expired(world, id);
    world.get("checkout.session", id, "id")
}

/// Nobody can pay it any more.
pub fn expired(world: &mut World, id: &str) {
    let session = world.set(id, json!({"status": "expired", "url": null}));
    world.emit("checkout.session.expired", &session);
    if let Some(intent) = world.find("payment_intent", session.text("_intent"))
        && !matches!(intent.text("status"), "succeeded" | "canceled")
    {
        crate::payments::end(world, intent.text("id"), Some("automatic"));
    }
}

/// Its payment came: now, or after the session was complete.
pub fn paid(world: &mut World, id: &str) {
    let Some(session) = world.find("checkout.session", id) else { return };
    if session.text("status") == "open" {
        complete(world, id, "paid");
    } else {
        let session = world.set(id, json!({"payment_status": "paid"}));
        world.emit("checkout.session.async_payment_succeeded", &session);
    }
}

/// Its payment, which was to come later, failed.
pub fn failed_late(world: &mut World, id: &str) {
    if let Some(session) = world.find("checkout.session", id) {
        world.emit("checkout.session.async_payment_failed", &session);
    }
}

/// The person is done.
pub fn complete(world: &mut World, id: &str, payment_status: &str) {
    let session =
        world.set(id, json!({"status": "complete", "payment_status": payment_status, "url": null}));
    world.emit("checkout.session.completed", &session);
}
