//! Billing portal sessions, with a page where a customer ends or keeps a subscription.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id};
use crate::{cards, changes, customers, subscriptions};

/// `POST /v1/billing_portal/sessions`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let customer = customers::living(world, params.required("customer")?, "customer")?;
    let id = new_id("bps");
    let url = format!("{}/p/session/{id}", world.base_url);
    let mut fields = json!({
        "configuration": params.text("configuration").unwrap_or("bpc_sandbox"), "customer": customer.at("id"),
        "customer_account": null, "flow": null, "locale": null, "on_behalf_of": null,
        "return_url": null, "url": url,
    });
    params.copy_texts(&mut fields, &["locale", "return_url"]);
    let session = world.create("billing_portal.session", id, fields);
    world.emit("billing_portal.session.created", &session);
    Ok(session)
}

/// A portal session and the subscriptions of its customer that are not over.
pub fn view(world: &World, id: &str) -> Answer<(Value, Vec<Value>)> {
    let session = world.get("billing_portal.session", id, "id")?;
    let mine = |subscription: &&Value| {
        subscription.at("customer") == session.at("customer")
            && !subscriptions::is_over(subscription)
    };
    let found = world.all("subscription").filter(mine).cloned().collect();
    Ok((session, found))
}

/// Presses a button: `cancel` (at the period's end), `keep`, or `card` with a test card.
pub fn act(world: &mut World, id: &str, params: &Params) -> Answer<()> {
    let (session, subscriptions) = view(world, id)?;
    let customer = session.text("customer");
    if params.text("action") == Some("card") {
        let card = cards::attach(world, params.required("payment_method")?, customer)?;
        let fields =
            Params::of(json!({"invoice_settings": {"default_payment_method": card.at("id")}}));
        customers::update(world, customer, &fields)?;
        for subscription in subscriptions {
            changes::update(
                world,
                subscription.text("id"),
                &Params::of(json!({"default_payment_method": card.at("id")})),
            )?;
        }
        return Ok(());
    }
    let wanted = params.required("subscription")?;
    if !subscriptions.iter().any(|subscription| subscription.text("id") == wanted) {
        return Err(ApiError::no_such("subscription", wanted, "id"));
    }
    let ends = params.choice("action", &["cancel", "keep"])? == Some("cancel");
    changes::update(world, wanted, &Params::of(json!({"cancel_at_period_end": ends.to_string()})))?;
    Ok(())
}
