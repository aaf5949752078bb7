//! Invoice items: what waits for the next invoice.

use serde_json::{Value, json};

use crate::catalogue::line_price;
use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id};
use crate::{customers, lines};

/// `POST /v1/invoiceitems`
pub fn create(world: &mut World, params: &Params) -> Answer {
    let customer = customers::living(world, params.required("customer")?, "customer")?;
    let quantity = params.int("quantity")?.unwrap_or(1);
    let (price, amount) = if params.has("pricing.price") || params.has("price_data") {
        let mut named = params.value().clone();
        named.write("price", params.get("pricing.price").cloned().unwrap_or_default());
        let price =
            line_price(world, &Params::of(named), params.text("currency").unwrap_or_default())?;
        let amount = price.int("unit_amount") * quantity;
        (price, amount)
    } else {
        let amount = params.int("amount")?.ok_or_else(|| ApiError::missing("amount"))?;
        (json!({"currency": params.required("currency")?.to_lowercase()}), amount)
    };
    let now = world.now();
    let item = new(
        world,
        Item {
            customer: customer.text("id"),
            subscription: params.text("subscription"),
            text: params.text("description").unwrap_or("Item").to_owned(),
            price: (&price, quantity),
            amount,
            period: (
                params.int("period.start")?.unwrap_or(now),
                params.int("period.end")?.unwrap_or(now),
            ),
            proration: false,
        },
    );
    let mut item = item;
    params.copy_metadata(&mut item);
    if let Some(id) = params.text("invoice") {
        let mut invoice = world.get("invoice", id, "invoice")?;
        if invoice.text("status") != "draft" {
            return Err(ApiError::param("invoice", "The invoice is no longer editable."));
        }
        item.write("invoice", json!(id));
        let mut line = lines::line_of_item(&item);
        line.write("invoice", json!(id));
        invoice.push("lines.data", line);
        invoice.write("currency", item.at("currency").clone());
        lines::total(world, &mut invoice);
        world.put(&invoice);
    }
    world.put(&item);
    world.emit("invoiceitem.created", &item);
    Ok(item)
}

/// What a new invoice item is made of.
pub struct Item<'a> {
    /// Who pays.
    pub customer: &'a str,
    /// With which subscription's invoice, if with one's.
    pub subscription: Option<&'a str>,
    /// The sentence on the invoice.
    pub text: String,
    /// The price (or only its currency), and how many of it.
    pub price: (&'a Value, i64),
    /// The whole amount.
    pub amount: i64,
    /// From when to when.
    pub period: (i64, i64),
    /// Whether it is a part of a period, after a change.
    pub proration: bool,
}

/// Makes an item that waits for the next invoice. Nothing is announced.
pub fn new(world: &mut World, item: Item<'_>) -> Value {
    let (price, quantity) = item.price;
    let parent = item.subscription.map(|subscription| {
        json!({"type": "subscription_details", "subscription_details": {"subscription": subscription, "subscription_item": null}})
    });
    let pricing = price.some_text("id").map(|id| {
        json!({
            "type": "price_details", "unit_amount_decimal": price.at("unit_amount_decimal"),
            "price_details": {"price": id, "product": price.at("product")},
        })
    });
    let fields = json!({
        "amount": item.amount, "currency": price.at("currency"), "customer": item.customer,
        "date": world.now(), "description": item.text, "discountable": !item.proration,
        "discounts": [], "invoice": null, "net_amount": item.amount, "parent": parent,
        "period": {"start": item.period.0, "end": item.period.1}, "pricing": pricing,
        "proration": item.proration, "quantity": quantity,
        "quantity_decimal": quantity.to_string(), "tax_rates": [], "test_clock": null,
    });
    let mut item = world.create("invoiceitem", new_id("ii"), fields);
    if let Some(map) = item.as_object_mut() {
        map.remove("created");
    }
    world.put(&item);
    item
}

/// `DELETE /v1/invoiceitems/{}`: while it waits.
pub fn delete(world: &mut World, id: &str) -> Answer {
    let item = world.get("invoiceitem", id, "id")?;
    if !item.at("invoice").is_null() {
        return Err(ApiError::invalid(
            "Can't delete an invoice item that is attached to an invoice that is no longer editable",
        ));
    }
    world.remove("invoiceitem", id);
    world.emit("invoiceitem.deleted", &item);
    Ok(json!({"id": id, "object": "invoiceitem", "deleted": true}))
}
