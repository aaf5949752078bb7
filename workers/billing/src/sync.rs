//! The catalogue at Stripe: a product and a price there for each of ours. It may be repeated at any
//! point: a product has the id that we give it, a price is found by its lookup key.

use crate::Billing;
use crate::client::{Answer, Failure};
use crate::objects::{List, Named};
use entities::Result;
use entities::catalogue::Billing as Interval;
use entities::catalogue::sync;
use entities::error::Error;
use entities::ids::{PriceId, ProductId};
use entities::tables::{price, product};
use serde_json::{Value, json};

/// Brings a product to Stripe as it is now; answers its id there.
pub async fn product(billing: &Billing, id: ProductId) -> Result<String> {
    let tx = billing.db.system().await?;
    let row = sync::product(&tx, id).await?;
    drop(tx);
    if let Some(known) = row.stripe_id.clone().filter(|_| row.synced_version == row.version) {
        return Ok(known);
    }
    let told = put_product(billing, &row).await;
    record(billing, told, async |tx, outcome| {
        sync::record_product(tx, id, row.version, outcome).await
    })
    .await
}

async fn put_product(billing: &Billing, row: &product::Model) -> Answer<String> {
    let mut params = json!({
        "name": row.name,
        "active": row.archived_at.is_none(),
        "metadata": { "product_id": row.id, "seller_id": row.tenant_id },
    });
    let how = if row.stripe_id.is_some() { "set" } else { "make" };
    let key = format!("product/{}/{}/{how}", row.id, row.version);
    let key = key_of(key, row.sync_error.is_some());
    if let Some(known) = &row.stripe_id {
        // An empty description takes one away.
        set(&mut params, "description", json!(row.description));
        let path = format!("/products/{known}");
        let told: Named = billing.stripe.post(&path, &key, &params).await?;
        return Ok(told.id);
    }
    let wanted = format!("mp_{}", row.id.0.simple());
    set(&mut params, "id", json!(wanted));
    if !row.description.is_empty() {
        set(&mut params, "description", json!(row.description));
    }
    let told: Answer<Named> = billing.stripe.post("/products", &key, &params).await;
    match told {
        Ok(made) => Ok(made.id),
        // It was made, and the process died before that was kept.
        Err(failure) if failure.is("resource_already_exists") || is_broken(&failure) => {
            let known = product::Model { stripe_id: Some(wanted), ..row.clone() };
            Box::pin(put_product(billing, &known)).await
        }
        Err(failure) => Err(failure),
    }
}

/// Whether Stripe broke: what it has made is there under the id that we gave it.
fn is_broken(failure: &Failure) -> bool {
    matches!(failure, Failure::Broken(_))
}

/// A key for what is tried anew: after a failure Stripe says the same for a day under the first one, and
/// what it may have made is looked for before.
fn key_of(key: String, failed: bool) -> String {
    if failed { format!("{key}/{}", uuid::Uuid::now_v7()) } else { key }
}

fn set(params: &mut Value, name: &str, value: Value) {
    if let Some(fields) = params.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

/// Brings a price to Stripe as it is now, and its product before it; answers its id there.
pub async fn price(billing: &Billing, id: PriceId) -> Result<String> {
    let tx = billing.db.system().await?;
    let row = sync::price(&tx, id).await?;
    drop(tx);
    if let Some(known) = row.stripe_id.clone().filter(|_| row.synced_version == row.version) {
        return Ok(known);
    }
    let product = product(billing, row.product_id).await?;
    let told = put_price(billing, &row, &product).await;
    record(billing, told, async |tx, outcome| {
        sync::record_price(tx, id, row.version, outcome).await
    })
    .await
}

async fn put_price(billing: &Billing, row: &price::Model, product: &str) -> Answer<String> {
    let active = row.archived_at.is_none();
    let known = match &row.stripe_id {
        Some(known) => Some(known.clone()),
        None => {
            let by_key = json!({ "lookup_keys": [row.id], "limit": 1 });
            let found: List<Named> = billing.stripe.query("/prices", &by_key).await?;
            found.data.into_iter().next().map(|found| found.id)
        }
    };
    let how = if known.is_some() { "set" } else { "make" };
    let key = format!("price/{}/{}/{how}", row.id, row.version);
    let key = key_of(key, row.sync_error.is_some());
    if let Some(known) = known {
        let path = format!("/prices/{known}");
        let told: Named = billing.stripe.post(&path, &key, &json!({ "active": active })).await?;
        return Ok(told.id);
    }
    let mut params = json!({
        "product": product,
        "currency": row.currency,
        "unit_amount": row.amount,
        "active": active,
        "lookup_key": row.id,
        "tax_behavior": "exclusive",
        "metadata": { "price_id": row.id, "seller_id": row.tenant_id },
    });
    let interval = match row.billing {
        Interval::OneOff => None,
        Interval::Month => Some("month"),
        Interval::Year => Some("year"),
    };
    if let Some(interval) = interval {
        set(&mut params, "recurring", json!({ "interval": interval }));
    }
    let made: Named = billing.stripe.post("/prices", &key, &params).await?;
    Ok(made.id)
}

/// Records what Stripe said; a refusal is shown with the row.
async fn record(
    billing: &Billing,
    told: Answer<String>,
    keep: impl AsyncFnOnce(&entities::db::SystemTx, sync::Outcome<'_>) -> Result<()>,
) -> Result<String> {
    let why = told.as_ref().err().map(ToString::to_string);
    let outcome = match (&told, &why) {
        (Ok(id), _) => Ok(id.as_str()),
        (Err(_), why) => Err(why.as_deref().unwrap_or_default()),
    };
    let tx = billing.db.system().await?;
    keep(&tx, outcome).await?;
    tx.commit().await?;
    told.map_err(Error::from)
}

/// Brings what is due there; how much was tried. One that fails does not keep the others.
pub async fn due(billing: &Billing, which: sync::Due, limit: u64) -> Result<usize> {
    let tx = billing.db.system().await?;
    let products = sync::products(&tx, which, limit).await?;
    let prices = sync::prices(&tx, which, limit).await?;
    drop(tx);
    let tried = products.len().saturating_add(prices.len());
    for row in products {
        note(product(billing, row.id).await, "product", row.id.0);
    }
    for row in prices {
        note(price(billing, row.id).await, "price", row.id.0);
    }
    Ok(tried)
}

fn note(told: Result<String>, what: &str, id: uuid::Uuid) {
    match told {
        Ok(stripe_id) => tracing::info!(what, %id, stripe_id, "catalogue.synced"),
        Err(error) => tracing::warn!(what, %id, cause = %error.chain(), "catalogue.not_synced"),
    }
}
