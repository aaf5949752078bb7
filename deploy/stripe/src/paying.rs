//! What a person does on the checkout page; `/_control/checkout/{id}` does the same for programs.

use serde_json::{Value, json};

use crate::cards::{self, Presence, Verdict};
use crate::checkout::{complete, details, total};
use crate::error::{Answer, ApiError};
use crate::invoices::{self, Draft};
use crate::params::Params;
use crate::subscriptions::{self, Start, extra_line};
use crate::value::Fields;
use crate::world::{World, merge};
use crate::{coupons, customers, payments};

/// The buttons of the page.
pub const ACTIONS: &[&str] = &[
    "pay",
    "pay_with_authentication",
    "decline",
    "later_succeeds",
    "later_fails",
    "authenticated",
    "authentication_failed",
];

/// Presses a button.
pub fn act(world: &mut World, id: &str, params: &Params) -> Answer {
    let session = world.get("checkout.session", id, "id")?;
    if session.text("status") != "open" {
        return Err(ApiError::invalid(format!(
            "This Checkout Session is {}.",
            session.text("status")
        )));
    }
    let action = params.choice("action", ACTIONS)?.ok_or_else(|| ApiError::missing("action"))?;
    let token = match action {
        "pay_with_authentication" => "pm_card_authenticationRequired",
        "decline" => "pm_card_chargeDeclined",
        _ => params.text("payment_method").unwrap_or("pm_card_visa"),
    };
    if let Some(well) = match action {
        "authenticated" => Some(true),
        "authentication_failed" => Some(false),
        _ => None,
    } {
        return authenticated(world, &session, well);
    }
    let session = take_down(world, session, params)?;
    let late = match action {
        "later_succeeds" => Some(true),
        "later_fails" => Some(false),
        _ => None,
    };
    if session.text("mode") == "payment" {
        pay_once(world, &session, token, late)
    } else {
        subscribe(world, &session, token, late)
    }
}

/// Writes down what the person typed: address, VAT id, promotion code.
fn take_down(world: &mut World, mut session: Value, params: &Params) -> Answer {
    if let Some(code) = params.text("promotion_code") {
        let found = world
            .all("promotion_code")
            .find(|known| known.flag("active") && known.text("code").eq_ignore_ascii_case(code))
            .map(|known| known.at("id").clone());
        match found.filter(|_| session.flag("allow_promotion_codes")) {
            Some(code) => session.write("_discounts", json!([{"promotion_code": code}])),
            None => return Err(ApiError::param("promotion_code", "This code is invalid.")),
        }
    }
    let guest = session.text("mode") == "payment"
        && session.text("customer_creation") != "always"
        && !session.flag("invoice_creation.enabled");
    let email = session
        .some_text("customer_email")
        .or_else(|| params.text("email").map(str::to_owned))
        .unwrap_or_else(|| "customer@example.test".into());
    let name = params.text("name").unwrap_or("Sandbox Customer");
    let customer = match session.some_text("customer") {
        Some(customer) => Some(customers::living(world, &customer, "customer")?),
        None if guest => None,
        None => {
            let fields = Params::of(json!({"email": email, "name": name}));
            Some(customers::create(world, &fields)?)
        }
    };
    let Some(mut customer) = customer else {
        session.write("customer_details", json!({"address": null, "email": email, "name": name, "phone": null, "tax_exempt": "none", "tax_ids": []}));
        total(world, &mut session)?;
        world.put(&session);
        return Ok(session);
    };
    if let Some(country) = params.text("country") {
        let before = customer.clone();
        customer.write("address", json!({"city": null, "country": country, "line1": null, "line2": null, "postal_code": null, "state": null}));
        world.put(&customer);
        world.emit_changed("customer.updated", &before, &customer);
    }
    if let (Some(value), true) = (params.text("tax_id"), session.flag("tax_id_collection.enabled"))
    {
        let fields = Params::of(
            json!({"type": params.text("tax_id_type").unwrap_or("eu_vat"), "value": value}),
        );
        customers::create_tax_id(world, customer.text("id"), &fields)?;
    }
    session.write("customer", customer.at("id").clone());
    session.write("customer_details", details(world, &customer));
    total(world, &mut session)?;
    world.put(&session);
    Ok(session)
}

fn pay_once(world: &mut World, session: &Value, token: &str, late: Option<bool>) -> Answer {
    let id = session.text("id");
    if session.int("amount_total") == 0 {
        redeem(world, session)?;
        complete(world, id, "no_payment_required");
        return world.get("checkout.session", id, "id");
    }
    let intent = match session.some_text("_intent") {
        Some(intent) => world.get("payment_intent", &intent, "id")?,
        None => new_intent(world, session)?,
    };
    let intent = intent.text("id").to_owned();
    if let Some(well) = late {
        let card = cards::of_token(world, token, "payment_method")?;
        world.set(&intent, json!({"payment_method": card.at("id")}));
        payments::process(world, &intent, well);
        complete(world, id, "unpaid");
        return world.get("checkout.session", id, "id");
    }
    match payments::attempt(world, &intent, Some(token), Presence::There)? {
        Verdict::Declined(code, bank) => Err(payments::refusal(world, &intent, code, bank)),
        Verdict::Authenticate => {
            world.set(id, json!({"_authenticating": token}));
            world.get("checkout.session", id, "id")
        }
        Verdict::Paid => world.get("checkout.session", id, "id"),
    }
}

/// The intent of a session, or that of the invoice which it asks for.
fn new_intent(world: &mut World, session: &Value) -> Answer {
    let data = Params::of(session.at("_payment_intent_data").clone());
    let discounts = redeem(world, session)?;
    let mut fields = json!({
        "amount": session.at("amount_total"), "currency": session.at("currency"),
        "customer": session.at("customer"), "_session": session.at("id"),
    });
    data.copy_texts(
        &mut fields,
        &["description", "receipt_email", "setup_future_usage", "statement_descriptor"],
    );
    data.copy_metadata(&mut fields);
    let mut invoice = Value::Null;
    let intent = if session.flag("invoice_creation.enabled") {
        let lines = session.parts("_line_items").iter();
        let lines = lines
            .map(|item| extra_line(item.at("price"), item.int("quantity"), world.now()))
            .collect();
        let metadata = session.at("invoice_creation.invoice_data.metadata");
        let more = json!({
            "discounts": discounts, "auto_advance": false, "automatic_tax": session.at("automatic_tax"),
            "metadata": if metadata.is_null() { json!({}) } else { metadata.clone() },
        });
        let draft = Draft {
            customer: session.text("customer").to_owned(),
            subscription: None,
            reason: "manual",
            currency: session.text("currency").to_owned(),
            lines,
            more,
        };
        let draft = invoices::draft(world, draft);
        let made = invoices::finalize(world, draft.text("id"))?;
        invoice = made.at("id").clone();
        world.set(made.text("_intent"), fields)
    } else {
        payments::new_intent(world, fields)
    };
    world.set(
        session.text("id"),
        json!({"payment_intent": intent.at("id"), "_intent": intent.at("id"), "invoice": invoice}),
    );
    Ok(intent)
}

fn redeem(world: &mut World, session: &Value) -> Answer<Vec<Value>> {
    let named = Params::of(json!({"discounts": session.at("_discounts")})).list("discounts");
    coupons::redeem(
        world,
        &named,
        &json!({"checkout_session": session.at("id"), "customer": session.at("customer")}),
    )
}

fn subscribe(world: &mut World, session: &Value, token: &str, late: Option<bool>) -> Answer {
    let id = session.text("id");
    let card = cards::of_token(world, token, "payment_method")?;
    match cards::verdict(&card, Presence::There) {
        Verdict::Authenticate => {
            world.set(id, json!({"_authenticating": card.at("id")}));
            return world.get("checkout.session", id, "id");
        }
        Verdict::Declined(code, bank) => return Err(payments::refusal(world, "", code, bank)),
        Verdict::Paid => {}
    }
    begin(world, session, &card, late)
}

/// Makes the subscription and pays its first invoice.
fn begin(world: &mut World, session: &Value, card: &Value, late: Option<bool>) -> Answer {
    let id = session.text("id");
    let customer = session.text("customer");
    cards::attach(world, card.text("id"), customer)?;
    let mut data = session.at("_subscription_data").clone();
    merge(
        &mut data,
        json!({"discounts": session.at("_discounts"), "automatic_tax": {"enabled": session.flag("automatic_tax.enabled").to_string()}}),
    );
    let (mut items, mut extras) = (Vec::new(), Vec::new());
    for item in session.parts("_line_items") {
        let (price, quantity) = (item.at("price").clone(), item.int("quantity"));
        if price.text("type") == "recurring" {
            items.push((price, quantity, None))
        } else {
            extras.push((price, quantity))
        }
    }
    let more = json!({"default_payment_method": card.at("id")});
    let params = Params::of(data);
    let subscription =
        subscriptions::start(world, Start { customer, items, extras, more, params: &params })?;
    let made = world.get("subscription", &subscription, "id")?;
    let invoice = world.get("invoice", made.text("latest_invoice"), "id")?;
    world.set(id, json!({"subscription": subscription, "invoice": invoice.at("id")}));
    let Some(intent) = invoices::intent_of(world, &invoice) else {
        complete(
            world,
            id,
            if session.int("amount_total") == 0 { "no_payment_required" } else { "paid" },
        );
        return world.get("checkout.session", id, "id");
    };
    let intent = intent.text("id").to_owned();
    world.set(&intent, json!({"_session": id, "payment_method": card.at("id")}));
    match late {
        None => payments::succeed(world, &intent),
        Some(well) => {
            payments::process(world, &intent, well);
            world.set(invoice.text("id"), json!({"_collected_later": true}));
            let after = world.set(&subscription, json!({"status": "active"}));
            world.emit_changed("customer.subscription.updated", &made, &after);
            complete(world, id, "unpaid");
        }
    }
    world.get("checkout.session", id, "id")
}

fn authenticated(world: &mut World, session: &Value, well: bool) -> Answer {
    let id = session.text("id");
    let Some(card) = session.some_text("_authenticating") else {
        return Err(ApiError::invalid(
            "This Checkout Session does not wait for an authentication.",
        ));
    };
    world.set(id, json!({"_authenticating": null}));
    if session.text("mode") == "payment" {
        payments::authenticated(world, session.text("_intent"), well)?;
    } else if well {
        let card = world.get("payment_method", &card, "payment_method")?;
        begin(world, session, &card, None)?;
    }
    world.get("checkout.session", id, "id")
}
