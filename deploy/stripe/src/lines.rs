//! Lines of invoices, and what they add up to.

use serde_json::{Value, json};

use crate::coupons::{self, share};
use crate::value::Fields;
use crate::world::{World, new_id};

/// What a line is made of.
pub struct Line<'a> {
    /// The sentence on the invoice.
    pub text: String,
    /// The price, and how many of it.
    pub price: (&'a Value, i64),
    /// The whole line's amount.
    pub amount: i64,
    /// From when to when.
    pub period: (i64, i64),
    /// The subscription item and its subscription, if the line is of one.
    pub item: Option<(&'a str, &'a str)>,
    /// Whether it is a part of a period, after a change.
    pub proration: bool,
}

/// A line as invoices show it.
pub fn line(line: Line<'_>) -> Value {
    let (price, quantity) = line.price;
    let parent = line.item.map(|(item, subscription)| {
        json!({
            "type": "subscription_item_details", "invoice_item_details": null,
            "subscription_item_details": {
                "invoice_item": null, "proration": line.proration,
                "proration_details": {"credited_items": null}, "subscription": subscription,
                "subscription_item": item,
            },
        })
    });
    json!({
        "id": new_id("il"), "object": "line_item", "amount": line.amount,
        "currency": price.at("currency"), "description": line.text, "discount_amounts": [],
        "discountable": !line.proration, "discounts": [], "invoice": null, "livemode": false,
        "metadata": {}, "parent": parent, "period": {"start": line.period.0, "end": line.period.1},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": price.at("id"), "product": price.at("product")},
            "unit_amount_decimal": price.at("unit_amount_decimal"),
        },
        "quantity": quantity, "quantity_decimal": quantity.to_string(),
        "subscription": line.item.map(|(_, subscription)| subscription), "subtotal": line.amount,
        "taxes": [],
    })
}

/// The line of a pending invoice item.
pub fn line_of_item(item: &Value) -> Value {
    let subscription = item.at("parent.subscription_details.subscription");
    json!({
        "id": new_id("il"), "object": "line_item", "amount": item.at("amount"),
        "currency": item.at("currency"), "description": item.at("description"), "discount_amounts": [],
        "discountable": item.at("discountable"), "discounts": [], "invoice": null, "livemode": false,
        "metadata": item.at("metadata"),
        "parent": {
            "type": "invoice_item_details", "subscription_item_details": null,
            "invoice_item_details": {
                "invoice_item": item.at("id"), "proration": item.at("proration"),
                "proration_details": {"credited_items": null}, "subscription": subscription,
            },
        },
        "period": item.at("period"), "pretax_credit_amounts": [], "pricing": item.at("pricing"),
        "quantity": item.at("quantity"), "quantity_decimal": item.at("quantity_decimal"),
        "subscription": subscription, "subtotal": item.at("amount"), "taxes": [],
    })
}

/// Writes an invoice's amounts from its lines, discounts and taxes.
pub fn total(world: &World, invoice: &mut Value) {
    let mut lines = invoice.parts("lines.data").to_vec();
    let subtotal: i64 = lines.iter().map(|line| line.int("amount")).sum();
    let discounts: Vec<String> =
        invoice.parts("discounts").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let discounted = discount(world, &mut lines, &discounts);
    let (taxes, status) = tax(world, invoice, &mut lines);
    let off: i64 = discounted.iter().map(|part| part.int("amount")).sum();
    let tax: i64 = taxes.iter().map(|part| part.int("amount")).sum();
    let total = subtotal - off + tax;
    invoice.write("lines.data", json!(lines));
    invoice.write("lines.total_count", json!(lines.len()));
    for (name, value) in [
        ("subtotal", json!(subtotal)),
        ("subtotal_excluding_tax", json!(subtotal)),
        ("total", json!(total)),
        ("total_excluding_tax", json!(total - tax)),
        ("total_discount_amounts", json!(discounted)),
        ("total_taxes", json!(taxes)),
        ("amount_due", json!(total.max(0))),
        ("amount_remaining", json!(total.max(0))),
    ] {
        invoice.write(name, value);
    }
    invoice.write("automatic_tax.status", status);
}

/// Takes each discount from the lines that allow it, in proportion; the last takes the rest.
fn discount(world: &World, lines: &mut [Value], discounts: &[String]) -> Vec<Value> {
    let mut all = Vec::new();
    for discount in discounts {
        let allowed = |line: &Value| line.flag("discountable") && line.int("amount") > 0;
        let base: i64 = lines.iter().filter(|line| allowed(line)).map(net).sum();
        let off = coupons::amount_off(world, discount, base).clamp(0, base.max(0));
        let count = lines.iter().filter(|line| allowed(line)).count();
        let mut left = off;
        for (place, line) in lines.iter_mut().filter(|line| allowed(line)).enumerate() {
            let part = if place + 1 == count { left } else { share(off, net(line), base) };
            left -= part;
            line.push("discount_amounts", json!({"amount": part, "discount": discount}));
        }
        all.push(json!({"amount": off, "discount": discount}));
    }
    all
}

fn net(line: &Value) -> i64 {
    let off: i64 = line.parts("discount_amounts").iter().map(|part| part.int("amount")).sum();
    line.int("amount") - off
}

/// Tax on top of each line, by the customer's country; none for a business with a VAT id abroad.
fn tax(world: &World, invoice: &Value, lines: &mut [Value]) -> (Vec<Value>, Value) {
    if !invoice.flag("automatic_tax.enabled") {
        return (Vec::new(), Value::Null);
    }
    let customer = world.find("customer", invoice.text("customer")).unwrap_or_default();
    let country = customer.text("address.country");
    if country.is_empty() {
        return (Vec::new(), json!("requires_location_inputs"));
    }
    let abroad =
        country != "DE" && !crate::customers::tax_ids(world, customer.text("id")).is_empty();
    let free = abroad || customer.text("tax_exempt") != "none";
    let percent =
        if free { 0 } else { world.settings.tax_percent.get(country).copied().unwrap_or(0) };
    let reason = if abroad { "reverse_charge" } else { "standard_rated" };
    let rate = format!("txr_sandbox_{}", country.to_lowercase());
    let part = |amount: i64, taxable: i64| {
        json!({
            "amount": amount, "tax_behavior": "exclusive", "taxability_reason": reason,
            "taxable_amount": taxable, "type": "tax_rate_details", "tax_rate_details": {"tax_rate": rate},
        })
    };
    let (mut sum, mut base) = (0, 0);
    for line in lines {
        let taxable = net(line);
        let amount = share(taxable, percent, 100);
        line.write("taxes", json!([part(amount, taxable)]));
        sum += amount;
        base += taxable;
    }
    (vec![part(sum, base)], json!("complete"))
}
