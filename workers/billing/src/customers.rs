//! Tenants at Stripe: each is one customer there.

use crate::Billing;
use crate::client::{Answer, Failure};
use crate::objects::{List, Named, Page};
use entities::Result;
use entities::audit::Audit;
use entities::billing::customers;
use entities::ids::TenantId;
use entities::orders::TaxData;
use entities::tenancy::{Permission, TenantCtx};
use serde::Deserialize;
use serde_json::{Value, json};

/// What Stripe calls a tenant; it is introduced there the first time.
pub async fn ensure(billing: &Billing, tenant: TenantId) -> Result<String> {
    let tx = billing.db.system().await?;
    if let Some(known) = customers::customer_of(&tx, tenant).await? {
        return Ok(known);
    }
    let who = customers::introduction(&tx, tenant).await?;
    drop(tx);
    let mut params = json!({ "name": who.name, "metadata": { "tenant_id": tenant } });
    if let (Some(email), Some(fields)) = (who.email, params.as_object_mut()) {
        fields.insert("email".to_owned(), Value::String(email));
    }
    let key = format!("tenant/{tenant}/customer");
    let made: Named = match billing.stripe.post("/customers", &key, &params).await {
        // The name or the address changed since somebody died right here.
        Err(failure) if failure.is("idempotency_key_in_use") => return Err(failure.into()),
        Err(failure) if is_other_request(&failure) => {
            let key = format!("{key}/{}", who.name);
            billing.stripe.post("/customers", &key, &params).await?
        }
        // Under the first key it says the same for a day. Of two customers there the one that is kept
        // here counts.
        Err(Failure::Broken(_)) => {
            let key = format!("{key}/{}", uuid::Uuid::now_v7());
            billing.stripe.post("/customers", &key, &params).await?
        }
        made => made?,
    };
    let tx = billing.db.system().await?;
    let kept = customers::keep(&tx, tenant, &made.id).await?;
    tx.commit().await?;
    Ok(kept)
}

fn is_other_request(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { message, .. } if message.contains("dempotent"))
}

#[derive(Deserialize)]
struct TaxId {
    value: String,
}

/// Tells Stripe for whom invoices are written.
pub async fn set_tax(billing: &Billing, customer: &str, tax: &TaxData) -> Result<()> {
    let person = tax.company.as_ref().or(tax.name.as_ref());
    let mut address = json!({ "country": tax.country.as_str() });
    let lines = [
        ("line1", &tax.street),
        ("postal_code", &tax.postal_code),
        ("city", &tax.city),
        ("state", &tax.state),
    ];
    if let Some(fields) = address.as_object_mut() {
        for (name, line) in lines {
            if let Some(line) = line {
                fields.insert(name.to_owned(), json!(line.as_str()));
            }
        }
    }
    let mut params = json!({ "address": address });
    if let (Some(person), Some(fields)) = (person, params.as_object_mut()) {
        fields.insert("name".to_owned(), json!(person.as_str()));
    }
    let path = format!("/customers/{customer}");
    let key = format!("{customer}/tax/{}", uuid::Uuid::now_v7());
    let told: Answer<Named> = billing.stripe.post(&path, &key, &params).await;
    told?;
    let Some(vat) = &tax.vat_id else { return Ok(()) };
    let Some(kind) = vat_kind(vat.as_str()) else { return Ok(()) };
    let path = format!("/customers/{customer}/tax_ids");
    let known: List<TaxId> = billing.stripe.query(&path, &json!({ "limit": 100 })).await?;
    if known.data.iter().any(|id| id.value.replace(' ', "") == vat.as_str()) {
        return Ok(());
    }
    let params = json!({ "type": kind, "value": vat.as_str() });
    let key = format!("{customer}/vat/{vat}");
    let told: Answer<Named> = billing.stripe.post(&path, &key, &params).await;
    told?;
    Ok(())
}

/// What Stripe calls a VAT id of this country (docs.stripe.com/billing/customer/tax-ids).
fn vat_kind(id: &str) -> Option<&'static str> {
    Some(match id.get(..2)? {
        "GB" => "gb_vat",
        "CH" => "ch_vat",
        "NO" => "no_vat",
        _ => "eu_vat",
    })
}

/// A page of Stripe's on which a customer looks after cards and subscriptions.
pub async fn portal(billing: &Billing, ctx: &TenantCtx, return_url: &str) -> Result<String> {
    ctx.require_write(Permission::BillingWrite)?;
    let tx = billing.db.system().await?;
    tx.audit(ctx, Audit::BillingPortalOpened {}).await?;
    tx.commit().await?;
    let customer = ensure(billing, ctx.tenant()).await?;
    let params = json!({ "customer": customer, "return_url": return_url });
    let key = format!("portal/{}", uuid::Uuid::now_v7());
    let page: Page = billing.stripe.post("/billing_portal/sessions", &key, &params).await?;
    Ok(page.url)
}
