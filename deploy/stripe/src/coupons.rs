//! Coupons, promotion codes, and the discounts that come of them.

use serde_json::{Value, json};

use crate::error::{Answer, ApiError};
use crate::params::Params;
use crate::value::Fields;
use crate::world::{World, new_id, random};

/// `POST /v1/coupons`
pub fn create_coupon(world: &mut World, params: &Params) -> Answer {
    let id = params.text("id").map_or_else(|| random(8), str::to_owned);
    if world.any(&id).is_some() {
        return Err(ApiError::param("id", "Coupon already exists.").code("resource_already_exists"));
    }
    let percent = match params.text("percent_off").map(str::parse::<f64>) {
        None => None,
        Some(Ok(percent)) if percent > 0.0 && percent <= 100.0 => Some(percent),
        Some(_) => {
            return Err(ApiError::param(
                "percent_off",
                "Invalid percent_off: must be between 0 and 100",
            ));
        }
    };
    let amount = params.int("amount_off")?;
    if percent.is_some() == amount.is_some() {
        return Err(ApiError::invalid("Must provide either percent_off or amount_off."));
    }
    let duration = params.choice("duration", &["once", "forever", "repeating"])?.unwrap_or("once");
    let months = params.int("duration_in_months")?;
    if (duration == "repeating") != months.is_some() {
        return Err(ApiError::param(
            "duration_in_months",
            "duration_in_months goes with duration=repeating, and only with it.",
        ));
    }
    let currency =
        if amount.is_some() { Some(params.required("currency")?.to_lowercase()) } else { None };
    let mut fields = json!({
        "amount_off": amount, "currency": currency, "duration": duration,
        "duration_in_months": months, "max_redemptions": params.int("max_redemptions")?,
        "name": params.text("name"), "percent_off": percent, "redeem_by": params.int("redeem_by")?,
        "times_redeemed": 0, "valid": true,
    });
    params.copy_metadata(&mut fields);
    let coupon = world.create("coupon", id, fields);
    world.emit("coupon.created", &coupon);
    Ok(coupon)
}

/// `POST /v1/coupons/{}`
pub fn update_coupon(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("coupon", id, "id")?;
    let mut coupon = before.clone();
    params.copy_texts(&mut coupon, &["name"]);
    params.copy_metadata(&mut coupon);
    world.put(&coupon);
    world.emit_changed("coupon.updated", &before, &coupon);
    Ok(coupon)
}

/// `DELETE /v1/coupons/{}`: who has the discount keeps it.
pub fn delete_coupon(world: &mut World, id: &str) -> Answer {
    let mut coupon = world.get("coupon", id, "id")?;
    coupon.write("valid", json!(false));
    world.put(&coupon);
    world.emit("coupon.deleted", &coupon);
    Ok(json!({"id": id, "object": "coupon", "deleted": true}))
}

/// `POST /v1/promotion_codes`
pub fn create_promotion_code(world: &mut World, params: &Params) -> Answer {
    let coupon = world.get("coupon", params.required("promotion.coupon")?, "promotion[coupon]")?;
    let code = params.text("code").map_or_else(|| random(8).to_uppercase(), str::to_owned);
    let same =
        |other: &Value| other.flag("active") && other.text("code").eq_ignore_ascii_case(&code);
    if world.all("promotion_code").any(same) {
        return Err(ApiError::param(
            "code",
            "An active promotion code with this code already exists.",
        ));
    }
    let mut fields = json!({
        "active": true, "code": code, "customer": params.text("customer"),
        "expires_at": params.int("expires_at")?, "max_redemptions": params.int("max_redemptions")?,
        "promotion": {"type": "coupon", "coupon": coupon.at("id")},
        "restrictions": {
            "first_time_transaction": params.flag("restrictions.first_time_transaction")?.unwrap_or(false),
            "minimum_amount": params.int("restrictions.minimum_amount")?,
            "minimum_amount_currency": params.text("restrictions.minimum_amount_currency"),
        },
        "times_redeemed": 0,
    });
    params.copy_flags(&mut fields, &["active"])?;
    params.copy_metadata(&mut fields);
    let code = world.create("promotion_code", new_id("promo"), fields);
    world.emit("promotion_code.created", &code);
    Ok(code)
}

/// `POST /v1/promotion_codes/{}`
pub fn update_promotion_code(world: &mut World, id: &str, params: &Params) -> Answer {
    let before = world.get("promotion_code", id, "id")?;
    let mut code = before.clone();
    params.copy_flags(&mut code, &["active"])?;
    params.copy_metadata(&mut code);
    world.put(&code);
    world.emit_changed("promotion_code.updated", &before, &code);
    Ok(code)
}

/// Redeems what `discounts[]` names, for the owner that `fields` tells (`{"subscription": id}`):
/// the ids of the new discounts.
pub fn redeem(world: &mut World, named: &[Params], fields: &Value) -> Answer<Vec<Value>> {
    let mut discounts = Vec::new();
    for one in named {
        if let Some(id) = one.text("discount") {
            discounts.push(world.get("discount", id, "discounts")?.at("id").clone());
            continue;
        }
        let (coupon, code) = match one.text("promotion_code") {
            Some(id) => {
                let code = world.get("promotion_code", id, "discounts")?;
                (code.text("promotion.coupon").to_owned(), Some(code))
            }
            None => (one.required("coupon")?.to_owned(), None),
        };
        let coupon = usable(world, &coupon, code.as_ref())?;
        discounts.push(discount(world, &coupon, code.as_ref(), fields));
    }
    Ok(discounts)
}

fn usable(world: &World, id: &str, code: Option<&Value>) -> Answer {
    let coupon = world.get("coupon", id, "discounts")?;
    let spent = |object: &Value| {
        object.some_int("max_redemptions").is_some_and(|most| object.int("times_redeemed") >= most)
    };
    let over =
        |object: &Value, field: &str| object.some_int(field).is_some_and(|end| end <= world.now());
    if !coupon.flag("valid") || spent(&coupon) || over(&coupon, "redeem_by") {
        return Err(
            ApiError::param("discounts", format!("Coupon expired: {id}")).code("coupon_expired")
        );
    }
    if code.is_some_and(|code| !code.flag("active") || spent(code) || over(code, "expires_at")) {
        return Err(ApiError::param("discounts", "This promotion code is no longer valid.")
            .code("promotion_code_expired"));
    }
    Ok(coupon)
}

fn discount(world: &mut World, coupon: &Value, code: Option<&Value>, fields: &Value) -> Value {
    let start = world.now();
    let end = coupon
        .some_int("duration_in_months")
        .map(|months| crate::clock::add_interval(start, "month", months));
    for object in [Some(coupon), code].into_iter().flatten() {
        let times = object.int("times_redeemed") + 1;
        world.set(object.text("id"), json!({"times_redeemed": times}));
    }
    let mut discount = json!({
        "checkout_session": null, "customer": null, "end": end, "invoice": null,
        "invoice_item": null, "promotion_code": code.map(|code| code.at("id").clone()),
        "source": {"type": "coupon", "coupon": coupon.at("id")}, "start": start,
        "subscription": null, "subscription_item": null,
    });
    crate::world::merge(&mut discount, fields.clone());
    let discount = world.create("discount", new_id("di"), discount);
    discount.at("id").clone()
}

/// What a discount takes from an amount.
pub fn amount_off(world: &World, discount: &str, amount: i64) -> i64 {
    let Some(discount) = world.find("discount", discount) else { return 0 };
    let Some(coupon) = world.find("coupon", discount.text("source.coupon")) else { return 0 };
    match coupon.at("percent_off").as_f64() {
        Some(percent) => {
            let hundredths: i64 = format!("{:.0}", percent * 100.0).parse().unwrap_or_default();
            share(amount, hundredths, 10_000)
        }
        None => coupon.int("amount_off").min(amount.max(0)),
    }
}

/// `amount · part / whole`, rounded half away from zero.
pub fn share(amount: i64, part: i64, whole: i64) -> i64 {
    let whole = i128::from(whole.max(1));
    let product = i128::from(amount) * i128::from(part);
    let rounded = (product.abs() * 2 + whole) / (2 * whole) * product.signum();
    i64::try_from(rounded).unwrap_or_default()
}

/// Whether a discount still counts at a moment: one of a coupon for once is spent by an invoice.
pub fn lasts(world: &World, discount: &str, moment: i64) -> bool {
    let Some(discount) = world.find("discount", discount) else { return false };
    !discount.flag("_spent") && discount.some_int("end").is_none_or(|end| end > moment)
}

/// Marks a discount as used by an invoice.
pub fn spend(world: &mut World, discount: &str) {
    let coupon =
        world.find("discount", discount).map(|found| found.text("source.coupon").to_owned());
    let once = coupon
        .and_then(|coupon| world.find("coupon", &coupon))
        .is_some_and(|coupon| coupon.text("duration") == "once");
    if once {
        world.set(discount, json!({"_spent": true}));
    }
}
