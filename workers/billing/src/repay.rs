//! Money back at Stripe. A payment that an invoice asked for is given back by a credit note, so that
//! the books are right; any other by a plain refund.

use crate::Billing;
use crate::client::{Answer, Failure};
use crate::look;
use crate::objects::{CreditNote, List, Metadata, Named, Refund};
use entities::Result;
use entities::billing::repayments::{self, Kind, Made, State};
use entities::billing::{customers, payments};
use entities::tables::repayment;
use serde::Deserialize;
use serde_json::json;

/// Carries out what is due; how many.
pub async fn due(billing: &Billing) -> Result<usize> {
    let rows = repayments::take(&billing.db, 20).await?;
    let count = rows.len();
    for row in rows {
        let told = match row.kind {
            Kind::Refund => refund(billing, &row).await,
            Kind::Credit => credit(billing, &row).await,
        };
        // It is due again after its time.
        if let Err(error) = record(billing, &row, told).await {
            tracing::error!(repayment = %row.id, cause = %error.chain(), "repayment.not_recorded");
        }
    }
    Ok(count)
}

async fn record(billing: &Billing, row: &repayment::Model, told: Answer<Made>) -> Result<()> {
    let tx = billing.db.system().await?;
    match told {
        Ok(made) => {
            repayments::record(&tx, row.id, &made).await?;
        }
        Err(Failure::Unknown(why) | Failure::Broken(why)) => {
            tracing::warn!(repayment = %row.id, why, "repayment.postponed");
            repayments::postpone(&tx, row, &why).await?;
        }
        Err(refused @ Failure::Refused { .. }) => {
            tracing::error!(repayment = %row.id, why = %refused, "repayment.refused");
            let error = Some(refused.to_string());
            let made = Made { stripe_id: None, state: State::Failed, error };
            repayments::record(&tx, row.id, &made).await?;
        }
    }
    tx.commit().await?;
    Ok(())
}

/// What a payment is called at Stripe, and the invoice that it paid.
async fn paid(
    billing: &Billing,
    row: &repayment::Model,
) -> Answer<(Option<String>, Option<String>)> {
    let found = async {
        let tx = billing.db.system().await?;
        let of = payments::of_order(&tx, row.order_id).await?;
        let own = |payment: &&entities::tables::payment::Model| match row.payment_id {
            Some(id) => payment.id == id,
            None => payment.amount > 0,
        };
        let found = of.iter().find(own);
        Ok::<_, entities::error::Error>(found.map(|p| (p.stripe_id.clone(), p.invoice.clone())))
    };
    let found = found.await.map_err(|error| Failure::Unknown(error.to_string()))?;
    Ok(found.map_or((None, None), |(intent, invoice)| (Some(intent), invoice)))
}

async fn refund(billing: &Billing, row: &repayment::Model) -> Answer<Made> {
    let (Some(intent), invoice) = paid(billing, row).await? else {
        return Err(nothing("the payment is not known"));
    };
    if row.attempts > 1
        && let Some(made) = made_before(billing, row, &intent, invoice.as_deref()).await?
    {
        return Ok(made);
    }
    if let Some(invoice) = invoice {
        match note(billing, row, &invoice, "refund_amount").await {
            Ok(note) => {
                let refund = note.refunds.first().map(|refund| refund.refund.id().to_owned());
                return match refund {
                    Some(id) => seen(billing, &id).await,
                    None => Ok(Made { stripe_id: None, state: State::Pending, error: None }),
                };
            }
            // A credit note cannot take it: the money goes back without one.
            Err(Failure::Refused { message, .. }) => {
                tracing::warn!(repayment = %row.id, message, "repayment.without_credit_note");
            }
            Err(unknown) => return Err(unknown),
        }
    }
    let params = json!({
        "payment_intent": intent,
        "amount": row.amount,
        "reason": "requested_by_customer",
        "metadata": { "repayment_id": row.id, "order_id": row.order_id },
    });
    let key = format!("repayment/{}", row.id);
    let made: Refund = billing.stripe.post("/refunds", &key, &params).await?;
    Ok(of_refund(&made))
}

fn of_refund(made: &Refund) -> Made {
    Made {
        stripe_id: Some(made.id.clone()),
        state: look::refund_state(made.status.as_deref()),
        error: made.failure_reason.clone(),
    }
}

async fn seen(billing: &Billing, id: &str) -> Answer<Made> {
    let found: Refund = billing.stripe.get(&format!("/refunds/{id}")).await?;
    Ok(of_refund(&found))
}

fn nothing(message: &str) -> Failure {
    Failure::Refused { status: 0, code: None, message: message.to_owned() }
}

/// A credit note over the amount; `way` is how it is settled.
async fn note(
    billing: &Billing,
    row: &repayment::Model,
    invoice: &str,
    way: &str,
) -> Answer<CreditNote> {
    let mut params = json!({
        "invoice": invoice,
        "amount": row.amount,
        "reason": "order_change",
        "memo": row.cause,
        "metadata": { "repayment_id": row.id, "order_id": row.order_id },
    });
    if let Some(fields) = params.as_object_mut() {
        fields.insert(way.to_owned(), json!(row.amount));
    }
    let key = format!("repayment/{}/note", row.id);
    billing.stripe.post("/credit_notes", &key, &params).await
}

#[derive(Deserialize)]
struct Marked {
    id: String,
    #[serde(default)]
    metadata: Metadata,
}

/// What an earlier try has made: keys are forgotten after a day, and money must not go twice.
async fn made_before(
    billing: &Billing,
    row: &repayment::Model,
    intent: &str,
    invoice: Option<&str>,
) -> Answer<Option<Made>> {
    let wanted = row.id.to_string();
    let is_ours = |metadata: &Metadata| {
        metadata.as_ref().and_then(|m| m.get("repayment_id")) == Some(&wanted)
    };
    if let Some(invoice) = invoice {
        let params = json!({ "invoice": invoice, "limit": 100 });
        let found: Answer<List<Marked>> = billing.stripe.query("/credit_notes", &params).await;
        let found = match found {
            Ok(list) => list.data,
            Err(failure) if failure.is_missing() => Vec::new(),
            Err(failure) => return Err(failure),
        };
        if let Some(note) = found.into_iter().find(|note| is_ours(&note.metadata)) {
            let note: CreditNote =
                billing.stripe.get(&format!("/credit_notes/{}", note.id)).await?;
            if let Some(refund) = note.refunds.first() {
                return Ok(Some(seen(billing, refund.refund.id()).await?));
            }
        }
    }
    let params = json!({ "payment_intent": intent, "limit": 100 });
    let found: List<Refund> = billing.stripe.query("/refunds", &params).await?;
    let known = found.data.into_iter().find(|refund| is_ours(&refund.metadata));
    Ok(known.map(|refund| of_refund(&refund)))
}

/// A credit for what is billed next: by a credit note of the first invoice, or to the customer's
/// balance.
async fn credit(billing: &Billing, row: &repayment::Model) -> Answer<Made> {
    let (_, invoice) = paid(billing, row).await?;
    if let Some(invoice) = invoice {
        match note(billing, row, &invoice, "credit_amount").await {
            Ok(note) => return Ok(done(note.id)),
            Err(Failure::Refused { message, .. }) => {
                tracing::warn!(repayment = %row.id, message, "credit.without_credit_note");
            }
            Err(unknown) => return Err(unknown),
        }
    }
    let customer = async {
        let tx = billing.db.system().await?;
        customers::customer_of(&tx, row.tenant_id).await
    };
    let customer = customer.await.map_err(|error| Failure::Unknown(error.to_string()))?;
    let customer = customer.ok_or_else(|| nothing("the customer is not known"))?;
    // Below zero: it is ours to give.
    let params = json!({
        "amount": row.amount.saturating_neg(),
        "currency": row.currency,
        "description": row.cause,
        "metadata": { "repayment_id": row.id },
    });
    let path = format!("/customers/{customer}/balance_transactions");
    let key = format!("repayment/{}", row.id);
    let made: Named = billing.stripe.post(&path, &key, &params).await?;
    Ok(done(made.id))
}

fn done(stripe_id: String) -> Made {
    Made { stripe_id: Some(stripe_id), state: State::Succeeded, error: None }
}
