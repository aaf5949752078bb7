//! Checkout Sessions: opened for an order, closed when nobody waits for the payment any more.

use crate::client::{Answer, Failure};
use crate::objects::{List, Named, Session};
use crate::{Billing, customers, look, sync};
use entities::Result;
use entities::billing::checkouts::{self, Basket, Bought, Opened};
use entities::billing::customers as stored;
use entities::billing::moment;
use entities::catalogue::Billing as Interval;
use entities::catalogue::sync as catalogue;
use entities::error::{Code, Error};
use entities::ids::OrderId;
use entities::orders::TaxData;
use entities::tables::checkout;
use entities::tenancy::{Permission, TenantCtx};
use serde_json::{Map, Value, json};

/// Opens a session for an order of the tenant, or answers the one that is open. However many ask at
/// once, there is one session: its key is made of the order and the attempt.
pub async fn open(
    billing: &Billing,
    ctx: &TenantCtx,
    order: OrderId,
    promotion_code: Option<String>,
) -> Result<checkout::Model> {
    let row = checkouts::begin(&billing.db, ctx, order, promotion_code.clone()).await?;
    if row.state == checkouts::State::Open {
        return Ok(row);
    }
    match try_opening(billing, &row).await {
        // Another attempt asks with what is there.
        Err(error) if error.code() == Code::PaymentRefused && heal(billing, &row).await? => {
            let row = checkouts::begin(&billing.db, ctx, order, promotion_code).await?;
            try_opening(billing, &row).await
        }
        opened => opened,
    }
}

/// Carries to Stripe anew what is gone there: products and prices that somebody has deleted, or all of
/// it when the account is another. Whether anything was.
async fn heal(billing: &Billing, row: &checkout::Model) -> Result<bool> {
    let is_gone = async |path: String| match billing.stripe.get::<Gone>(&path).await {
        Ok(found) => Ok(found.deleted),
        Err(failure) if failure.is_missing() => Ok(true),
        Err(failure) => Err(Error::from(failure)),
    };
    let tx = billing.db.system().await?;
    let basket = checkouts::basket(&tx, row.order_id).await?;
    let customer = stored::customer_of(&tx, row.tenant_id).await?;
    drop(tx);
    let mut healed = false;
    if let Some(customer) = customer
        && is_gone(format!("/customers/{customer}")).await?
    {
        let tx = billing.db.system().await?;
        stored::forget(&tx, &customer).await?;
        tx.commit().await?;
        healed = true;
    }
    for bought in basket.lines {
        let tx = billing.db.system().await?;
        let price = catalogue::price(&tx, bought.price.id).await?;
        let product = catalogue::product(&tx, bought.product.id).await?;
        drop(tx);
        let Some(known) = &price.stripe_id else { continue };
        if is_gone(format!("/prices/{known}")).await? {
            let with_product = match &product.stripe_id {
                Some(product) => is_gone(format!("/products/{product}")).await?,
                None => false,
            };
            let tx = billing.db.system().await?;
            catalogue::forget(&tx, &price, with_product).await?;
            tx.commit().await?;
            healed = true;
        }
    }
    Ok(healed)
}

/// Something that may have been deleted.
#[derive(serde::Deserialize)]
struct Gone {
    #[serde(default)]
    deleted: bool,
}

async fn try_opening(billing: &Billing, row: &checkout::Model) -> Result<checkout::Model> {
    let request = fixed(billing, row).await;
    let asked = match &request {
        Ok(request) => ask(billing, row, request).await.map_err(Some),
        // What it is made of could not be had; the attempt stands for whoever asks again.
        Err(error) if error.code() == Code::Unavailable => {
            return request.map(|_| row.clone());
        }
        Err(_) => Err(None),
    };
    match asked {
        Ok(session) => keep(billing, row, &session).await,
        Err(Some(Failure::Unknown(why))) => Err(Error::Unavailable(why.into())),
        // Under this key there is no other answer: whoever asks again begins another attempt.
        Err(failure) => {
            let error = match failure {
                Some(failure) => Error::from(failure),
                None => request.err().unwrap_or(Error::NotFound("checkout")),
            };
            let tx = billing.db.system().await?;
            checkouts::not_opened(&tx, row.id, &error.to_string()).await?;
            tx.commit().await?;
            Err(error)
        }
    }
}

/// What Stripe is asked for, the same each time.
async fn fixed(billing: &Billing, row: &checkout::Model) -> Result<Value> {
    if !row.request.is_null() {
        return Ok(row.request.clone());
    }
    let tx = billing.db.system().await?;
    let basket = checkouts::basket(&tx, row.order_id).await?;
    drop(tx);
    let request = draw(billing, row, &basket).await?;
    let tx = billing.db.system().await?;
    let fixed = checkouts::fix_request(&tx, row, request).await?;
    tx.commit().await?;
    Ok(fixed)
}

/// Asks for the session of an attempt; whoever asks again gets the same.
async fn ask(billing: &Billing, row: &checkout::Model, request: &Value) -> Answer<Session> {
    let key = format!("order/{}/checkout/{}", row.order_id, row.attempt);
    billing.stripe.post("/checkout/sessions", &key, request).await
}

async fn keep(
    billing: &Billing,
    row: &checkout::Model,
    session: &Session,
) -> Result<checkout::Model> {
    let tx = billing.db.system().await?;
    let expires_at = session.expires_at.map(moment).transpose()?;
    let opened = Opened { stripe_id: &session.id, url: session.url.as_deref(), expires_at };
    let kept = checkouts::opened(&tx, row.id, &opened).await?;
    tx.commit().await?;
    match kept {
        Some(row) => Ok(row),
        None => {
            close(billing, &session.id).await?;
            let text = "The order was cancelled while its checkout was being opened.";
            Err(Error::refused(Code::OrderState, text))
        }
    }
}

/// What Stripe is asked for.
async fn draw(billing: &Billing, row: &checkout::Model, basket: &Basket) -> Result<Value> {
    let order = &basket.order;
    let customer = customers::ensure(billing, order.tenant_id).await?;
    if let Some(tax) = &order.tax {
        let tax: TaxData = serde_json::from_value(tax.clone())?;
        customers::set_tax(billing, &customer, &tax).await?;
    }
    let mut lines = Vec::new();
    for bought in &basket.lines {
        lines.extend(line_items(billing, bought, &order.currency).await?);
    }
    let ours = json!({ "order_id": order.id, "order": order.number, "attempt": row.attempt });
    let back = &billing.config.public_url;
    let dashboard = &billing.config.dashboard_url;
    let mut request = Map::new();
    let mut set = |name: &str, value: Value| request.insert(name.to_owned(), value);
    set("customer", json!(customer));
    set("client_reference_id", json!(order.id));
    set("line_items", Value::Array(lines));
    set("metadata", ours.clone());
    let url = format!("{back}/api/checkout/return?session_id={{CHECKOUT_SESSION_ID}}");
    set("success_url", json!(url));
    set("cancel_url", json!(format!("{dashboard}/orders/{}", order.id)));
    let recurring: Vec<&Bought> =
        basket.lines.iter().filter(|line| line.item.billing != Interval::OneOff).collect();
    match recurring.first() {
        Some(first) => {
            let mut subscription = json!({ "metadata": ours });
            if let (Some(days), Some(fields)) =
                (first.item.trial_days, subscription.as_object_mut())
            {
                fields.insert("trial_period_days".to_owned(), json!(days));
            }
            set("mode", json!("subscription"));
            set("subscription_data", subscription);
        }
        None => {
            set("mode", json!("payment"));
            set("payment_intent_data", json!({ "metadata": ours }));
            let invoice = json!({ "enabled": true, "invoice_data": { "metadata": ours } });
            set("invoice_creation", invoice);
        }
    }
    match &row.promotion_code {
        Some(code) => {
            let id = promotion(billing, code).await?;
            set("discounts", json!([{ "promotion_code": id }]));
        }
        None => {
            set("allow_promotion_codes", json!(true));
        }
    }
    if billing.config.tax {
        set("automatic_tax", json!({ "enabled": true }));
        set("tax_id_collection", json!({ "enabled": true }));
        set("billing_address_collection", json!("required"));
        set("customer_update", json!({ "address": "auto", "name": "auto" }));
    }
    Ok(Value::Object(request))
}

/// A line of the order, and its set-up fee as a line of its own.
async fn line_items(billing: &Billing, bought: &Bought, currency: &str) -> Result<Vec<Value>> {
    let quantity = bought.item.quantity;
    let is_sold = bought.price.archived_at.is_none() && bought.product.archived_at.is_none();
    let mut lines = match is_sold {
        true => {
            let price = sync::price(billing, bought.price.id).await?;
            vec![json!({ "price": price, "quantity": quantity })]
        }
        // What was ordered holds, though nobody else may order it any more.
        false => vec![json!({ "price_data": as_ordered(bought, currency), "quantity": quantity })],
    };
    if let Some(fee) = bought.item.setup_fee.filter(|fee| *fee > 0) {
        lines.push(json!({
            "quantity": quantity,
            "price_data": {
                "currency": currency,
                "unit_amount": fee,
                "tax_behavior": "exclusive",
                "product_data": { "name": format!("Set-up: {}", bought.item.name) },
            },
        }));
    }
    Ok(lines)
}

/// A price that is not sold any more, as it was when it was ordered.
fn as_ordered(bought: &Bought, currency: &str) -> Value {
    let mut price = json!({
        "currency": currency,
        "unit_amount": bought.item.amount,
        "tax_behavior": "exclusive",
        "product_data": { "name": bought.item.name },
    });
    let interval = match bought.item.billing {
        Interval::OneOff => return price,
        Interval::Month => "month",
        Interval::Year => "year",
    };
    if let Some(fields) = price.as_object_mut() {
        fields.insert("recurring".to_owned(), json!({ "interval": interval }));
    }
    price
}

async fn promotion(billing: &Billing, code: &str) -> Result<String> {
    let params = json!({ "code": code, "active": true, "limit": 1 });
    let found: List<Named> = billing.stripe.query("/promotion_codes", &params).await?;
    let found = found.data.into_iter().next().map(|found| found.id);
    found.ok_or_else(|| Error::field("promotion_code", "is not known, or over"))
}

/// Lets nobody pay by this session any more. When somebody just has, that counts.
pub async fn close(billing: &Billing, session: &str) -> Result<()> {
    let path = format!("/checkout/sessions/{session}/expire");
    let key = format!("{session}/expire");
    let told: Answer<Session> = billing.stripe.post(&path, &key, &json!({})).await;
    match told {
        Ok(_) | Err(Failure::Refused { .. }) => {}
        Err(failure) => return Err(failure.into()),
    }
    look::session(billing, session).await?;
    Ok(())
}

/// Closes the page that is open for an order of the tenant; the attempt as it is then.
pub async fn give_up(
    billing: &Billing,
    ctx: &TenantCtx,
    order: OrderId,
) -> Result<checkout::Model> {
    let row = checkouts::give_up(&billing.db, ctx, order).await?;
    match &row.stripe_id {
        Some(id) => close(billing, id).await?,
        None => {
            close_unwanted(billing, 20).await?;
        }
    }
    let tx = billing.db.read(ctx, Permission::BillingRead).await?;
    checkouts::find_newest(&tx, order).await
}

/// Closes what nobody waits for; how many. One that cannot be closed is tried again after a while, and
/// keeps no other.
pub async fn close_unwanted(billing: &Billing, limit: u64) -> Result<usize> {
    let tx = billing.db.system().await?;
    let rows = checkouts::to_close(&tx, limit).await?;
    drop(tx);
    let mut closed = 0usize;
    for row in rows {
        match close_one(billing, &row).await {
            Ok(()) => closed = closed.saturating_add(1),
            Err(error) => {
                tracing::warn!(checkout = %row.id, cause = %error.chain(), "checkout.not_closed");
                checkouts::postpone(&billing.db, row.id).await?;
            }
        }
    }
    Ok(closed)
}

async fn close_one(billing: &Billing, row: &checkout::Model) -> Result<()> {
    let session = match row.stripe_id.clone() {
        Some(id) => Some(id),
        // Somebody may have died between asking and keeping: the same key finds it.
        None if row.request.is_null() => None,
        None => match ask(billing, row, &row.request).await {
            Ok(session) => Some(session.id),
            Err(unknown @ Failure::Unknown(_)) => return Err(unknown.into()),
            Err(_said_no) => None,
        },
    };
    let tx = billing.db.system().await?;
    match &session {
        Some(id) => {
            let opened = Opened { stripe_id: id, url: None, expires_at: None };
            checkouts::opened(&tx, row.id, &opened).await?;
        }
        None => checkouts::not_opened(&tx, row.id, "Nobody ended to open it.").await?,
    }
    tx.commit().await?;
    match session {
        Some(id) => close(billing, &id).await,
        None => Ok(()),
    }
}
