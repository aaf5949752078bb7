//! Products and prices.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id};

/// `POST /v1/products`
pub fn create_product(world: &mut World, params: &Params) -> Answer {
    let id = params.text("id").map_or_else(|| new_id("prod"), str::to_owned);
    if world.any(&id).is_some() {
        return Err(
            ApiError::param("id", "Product already exists.").code("resource_already_exists")
        );
    }
    let mut fields = json!({
        "active": true, "default_price": null, "description": null, "images": [],
        "marketing_features": [], "name": params.required("name")?, "package_dimensions": null,
        "shippable": null, "statement_descriptor": null, "tax_code": null, "type": "service",
        "unit_label": null, "updated": world.now(), "url": null,
    });
    copy_product(params, &mut fields)?;
    let mut product = world.create("product", id, fields);
    if params.has("default_price_data") {
        let price = price_of(world, &params.part("default_price_data"), product.text("id"), "")?;
        product = world.set(product.text("id"), json!({"default_price": price.at("id")}));
    }
    world.emit("product.created", &product);
    Ok(product)
}

fn copy_product(params: &Params, into: &mut Value) -> Answer<()> {
    params.copy_texts(
        into,
        &[
            "name",
            "description",
            "statement_descriptor",
            "tax_code",
            "unit_label",
            "url",
            "images",
            "marketing_features",
        ],
    );
    params.copy_flags(into, &["active", "shippable"])?;
    params.copy_metadata(into);
    Ok(())
}

/// `POST /v1/products/{}`
pub fn update_product(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("product", id, "id")?;
    let mut product = before.clone();
    copy_product(params, &mut product)?;
    if let Some(price) = params.text("default_price") {
        product
            .write("default_price", world.get("price", price, "default_price")?.at("id").clone());
    }
    changed(world, "product", &before, product)
}

fn changed(world: &mut World, kind: &str, before: &Value, mut after: Value) -> Answer {
    if kind == "product" && after != *before {
        after.write("updated", json!(world.now()));
    }
    world.put(&after);
    world.emit_changed(&format!("{kind}.updated"), before, &after);
    Ok(after)
}

/// `DELETE /v1/products/{}`
pub fn delete_product(world: &mut World, id: &str) -> Answer {
    let product = world.get("product", id, "id")?;
    if world.all("price").any(|price| price.text("product") == id) {
        return Err(ApiError::invalid(
            "This product cannot be deleted because it has one or more user-created prices.",
        ));
    }
    world.remove("product", id);
    world.emit("product.deleted", &product);
    Ok(json!({"id": id, "object": "product", "deleted": true}))
}

/// `POST /v1/prices`
pub fn create_price(world: &mut World, params: &Params) -> Answer {
    let product = match params.text("product") {
        Some(id) => world.get("product", id, "product")?,
        None if params.has("product_data") => create_product(world, &params.part("product_data"))?,
        None => return Err(ApiError::missing("product")),
    };
    if !product.flag("active") {
        return Err(ApiError::param(
            "product",
            "The product is not active, so no price can be made for it.",
        ));
    }
    let price = price_of(world, params, product.text("id"), "")?;
    world.emit("price.created", &price);
    Ok(price)
}

/// A price from its parameters, or from `price_data` inside another call (then in `currency`,
/// unless it names its own). Nothing is announced.
pub fn price_of(world: &mut World, params: &Params, product: &str, currency: &str) -> Answer {
    let currency = match params.text("currency") {
        None if !currency.is_empty() => currency.to_owned(),
        _ => params.required("currency")?.to_lowercase(),
    };
    let amount = match (params.int("unit_amount")?, params.text("unit_amount_decimal")) {
        (Some(amount), _) if amount >= 0 => json!(amount),
        (Some(_), _) => {
            return Err(ApiError::param("unit_amount", "Invalid non-negative integer")
                .code("parameter_invalid_integer"));
        }
        (None, Some(decimal)) => decimal.parse::<i64>().map_or(Value::Null, |amount| json!(amount)),
        (None, None) => return Err(ApiError::missing("unit_amount")),
    };
    let decimal =
        params.text("unit_amount_decimal").map_or_else(|| amount.to_string(), str::to_owned);
    let recurring = recurring(params)?;
    let mut fields = json!({
        "active": true, "billing_scheme": "per_unit", "currency": currency,
        "custom_unit_amount": null, "lookup_key": null, "nickname": null, "product": product,
        "type": if recurring.is_null() { "one_time" } else { "recurring" }, "recurring": recurring,
        "tax_behavior": "unspecified", "tiers_mode": null, "transform_quantity": null,
        "unit_amount": amount, "unit_amount_decimal": decimal,
    });
    params.copy_texts(&mut fields, &["lookup_key", "nickname", "tax_behavior"]);
    params.copy_flags(&mut fields, &["active"])?;
    params.copy_metadata(&mut fields);
    check_lookup_key(world, params, "")?;
    Ok(world.create("price", new_id("price"), fields))
}

fn recurring(params: &Params) -> Answer {
    let part = params.part("recurring");
    let Some(interval) = part.choice("interval", &["day", "week", "month", "year"])? else {
        return if params.has("recurring") {
            Err(ApiError::missing("recurring[interval]"))
        } else {
            Ok(Value::Null)
        };
    };
    let count = part.int("interval_count")?.unwrap_or(1);
    if !(1..=1095).contains(&count) {
        return Err(ApiError::param("recurring[interval_count]", "Invalid interval_count"));
    }
    Ok(json!({
        "interval": interval, "interval_count": count, "meter": null, "usage_type": "licensed",
        "trial_period_days": null,
    }))
}

/// A lookup key leads to one price: it moves only when that is asked for.
fn check_lookup_key(world: &mut World, params: &Params, except: &str) -> Answer<()> {
    let Some(key) = params.text("lookup_key") else { return Ok(()) };
    let holder = world
        .all("price")
        .find(|price| price.text("lookup_key") == key && price.text("id") != except)
        .map(|price| price.text("id").to_owned());
    match holder {
        Some(holder) if params.flag("transfer_lookup_key")? == Some(true) => {
            world.set(&holder, json!({"lookup_key": null}));
            Ok(())
        }
        Some(_) => Err(ApiError::param(
            "lookup_key",
            format!("A price already uses the lookup key `{key}`."),
        )),
        None => Ok(()),
    }
}

/// `POST /v1/prices/{}`: what a price costs never changes.
pub fn update_price(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("price", id, "id")?;
    check_lookup_key(world, params, id)?;
    let mut price = before.clone();
    params.copy_texts(&mut price, &["lookup_key", "nickname", "tax_behavior"]);
    params.copy_flags(&mut price, &["active"])?;
    params.copy_metadata(&mut price);
    changed(world, "price", &before, price)
}

/// The price that a line names by `price` or describes by `price_data`.
pub fn line_price(world: &mut World, line: &Params, currency: &str) -> Answer {
    if let Some(id) = line.text("price") {
        let price = world.get("price", id, "price")?;
        return if price.flag("active") {
            Ok(price)
        } else {
            Err(ApiError::param(
                "price",
                "The price specified is inactive. This field only accepts active prices.",
            ))
        };
    }
    if !line.has("price_data") {
        return Err(ApiError::missing("price"));
    }
    let data = line.part("price_data");
    let product = match data.text("product") {
        Some(id) => world.get("product", id, "product")?,
        None => create_product(world, &data.part("product_data"))?,
    };
    let price = price_of(world, &data, product.text("id"), currency)?;
    Ok(world.set(price.text("id"), json!({"active": false})))
}

/// The old plan object that subscription items still carry beside their price.
pub fn plan_of(price: &Value) -> Value {
    json!({
        "id": price.at("id"), "object": "plan", "active": price.at("active"),
        "amount": price.at("unit_amount"), "amount_decimal": price.at("unit_amount_decimal"),
        "billing_scheme": "per_unit", "created": price.at("created"), "currency": price.at("currency"),
        "interval": price.at("recurring.interval"),
        "interval_count": price.at("recurring.interval_count"), "livemode": false,
        "metadata": price.at("metadata"), "meter": null, "nickname": price.at("nickname"),
        "product": price.at("product"), "tiers_mode": null, "transform_usage": null,
        "trial_period_days": null, "usage_type": "licensed",
    })
}
