//! Looking at Stripe's objects: each is fetched anew, and our rows are brought to what was seen. What
//! a message says about an object is not believed: it may be old, and others may have come before.

use crate::client::Answer;
use crate::objects::{
    Charge, CreditNote, Customer, Dispute, Invoice, InvoicePayment, List, MaybeCharge, Metadata,
    Named, PaymentIntent, PaymentMethod, Ref, Refund, Session, Subscription,
};
use crate::{Billing, change};
use chrono::{DateTime, Utc};
use entities::Result;
use entities::billing::checkouts::{self, Settled};
use entities::billing::events::{Handled, Subject};
use entities::billing::repayments::{self, Made, State};
use entities::billing::subscriptions::{self, Recorded, Status};
use entities::billing::{customers, invoices, moment, payments, standing};
use entities::error::{Code, Error};
use entities::ids::{OrderId, RepaymentId};
use serde_json::json;
use std::collections::BTreeSet;

/// How often a subscription is looked at that somebody else makes known at the same moment: the second
/// time it is.
const LOOKS_MAX: usize = 3;

/// Looks at an object and brings our rows to it.
pub async fn at(billing: &Billing, subject: Subject, id: &str) -> Result<Handled> {
    match subject {
        Subject::Session => session(billing, id).await,
        Subject::Subscription => subscription(billing, id).await,
        Subject::Invoice => invoice(billing, id).await,
        Subject::PaymentIntent => intent(billing, id).await,
        Subject::Charge => charge(billing, id).await,
        Subject::Refund => refund(billing, id).await,
        Subject::Dispute => dispute(billing, id).await,
        Subject::CreditNote => credit_note(billing, id).await,
        Subject::Customer => customer(billing, id).await,
        Subject::PaymentMethod => payment_method(billing, id).await,
    }
}

/// What is there; none: there is nothing of that name, or not any more.
fn there<T>(found: Answer<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// An id of ours that we wrote into an object.
fn ours(metadata: &Metadata, name: &str) -> Option<uuid::Uuid> {
    metadata.as_ref()?.get(name)?.parse().ok()
}

fn order_of(metadata: &Metadata) -> Option<OrderId> {
    ours(metadata, "order_id").map(OrderId)
}

fn when(secs: Option<i64>) -> Result<Option<DateTime<Utc>>> {
    secs.map(moment).transpose()
}

fn well(order: Option<OrderId>) -> Handled {
    if order.is_some() { Handled::Well } else { Handled::Foreign }
}

/// Looks at a Checkout Session: the one function that fulfils an order, for whoever heard of the
/// payment.
pub async fn session(billing: &Billing, id: &str) -> Result<Handled> {
    let path = format!("/checkout/sessions/{id}");
    let Some(found) = there(billing.stripe.get::<Session>(&path).await)? else {
        let tx = billing.db.system().await?;
        checkouts::vanish(&tx, id).await?;
        tx.commit().await?;
        return Ok(Handled::Foreign);
    };
    let mut seen = seen_session(&found);
    let tx = billing.db.system().await?;
    let known = checkouts::check(&tx, &seen).await?;
    drop(tx);
    match known {
        checkouts::Checked::Foreign => return Ok(Handled::Foreign),
        checkouts::Checked::Fits if !seen.is_open && !seen.is_expired => {
            collect(billing, &found, &mut seen).await?;
        }
        checkouts::Checked::Fits if seen.is_open => ask_of_open(billing, &found, &mut seen).await?,
        checkouts::Checked::Fits | checkouts::Checked::Differs => {}
    }
    let now = billing.now().await?;
    let tx = billing.db.system().await?;
    let (settled, order) = checkouts::settle(&tx, &seen).await?;
    if let Some(order) = order {
        standing::converge(&tx, order, &billing.config.rules, now).await?;
    }
    tx.commit().await?;
    if let (true, Some(id)) = (seen.intent_failed, &found.subscription) {
        // It waits for money that does not come; the order may be paid for anew.
        change::end(billing, id.id()).await?;
    }
    Ok(match settled {
        Settled::Foreign => Handled::Foreign,
        Settled::Refused(why) => Handled::Refused(why),
        Settled::Well | Settled::Unwanted => Handled::Well,
    })
}

fn seen_session(found: &Session) -> checkouts::Seen {
    let status = found.status.as_deref().unwrap_or_default();
    let attempt = found.metadata.as_ref().and_then(|m| m.get("attempt")?.parse().ok());
    checkouts::Seen {
        stripe_id: found.id.clone(),
        is_open: status == "open",
        is_expired: status == "expired",
        payment_status: found.payment_status.clone(),
        customer: found.customer.as_ref().map(|c| c.id().to_owned()),
        currency: found.currency.clone(),
        subtotal: found.amount_subtotal,
        order: order_of(&found.metadata),
        attempt,
        url: found.url.clone(),
        intents: Vec::new(),
        requires_action: false,
        intent_failed: false,
    }
}

/// Whether the bank asks the buyer for something who is on the page still.
async fn ask_of_open(billing: &Billing, found: &Session, seen: &mut checkouts::Seen) -> Result<()> {
    let Some(id) = &found.payment_intent else { return Ok(()) };
    let path = format!("/payment_intents/{}", id.id());
    let intent = there(billing.stripe.get::<PaymentIntent>(&path).await)?;
    seen.requires_action = intent.is_some_and(|intent| intent.status == "requires_action");
    Ok(())
}

/// What a finished session has made: its subscription, its invoice, its payment. They are looked at
/// first, so that money that nobody can take is known when the order says so.
async fn collect(billing: &Billing, found: &Session, seen: &mut checkouts::Seen) -> Result<()> {
    if let Some(id) = &found.subscription {
        subscription(billing, id.id()).await?;
    }
    if let Some(id) = &found.invoice {
        invoice_alone(billing, id.id()).await?;
        seen.intents = intents_of(billing, id.id()).await?;
    }
    if let Some(id) = &found.payment_intent
        && !seen.intents.iter().any(|known| known == id.id())
    {
        seen.intents.push(id.id().to_owned());
    }
    let Some(order) = seen.order else { return Ok(()) };
    for id in &seen.intents {
        if let Some(intent) = record_intent(billing, id, order, None).await? {
            if intent.status == "succeeded" && seen.payment_status == "unpaid" {
                // It came after the session had ended.
                "paid".clone_into(&mut seen.payment_status);
            }
            seen.requires_action |= intent.status == "requires_action";
            seen.intent_failed |=
                matches!(intent.status.as_str(), "requires_payment_method" | "canceled");
        }
    }
    Ok(())
}

/// Looks at a subscription.
pub async fn subscription(billing: &Billing, id: &str) -> Result<Handled> {
    for _ in 0..LOOKS_MAX {
        let tx = billing.db.system().await?;
        let look = subscriptions::begin_look(&tx, id).await?;
        tx.commit().await?;
        let found: Answer<Subscription> = billing.stripe.get(&format!("/subscriptions/{id}")).await;
        let Some(found) = there(found)? else { return Ok(Handled::Foreign) };
        let Some(seen) = seen_subscription(billing, &found).await? else {
            let text = format!(
                "Stripe calls the subscription {}: nobody knows what that is.",
                found.status
            );
            return Ok(Handled::Refused(text));
        };
        let now = billing.now().await?;
        let tx = billing.db.system().await?;
        match subscriptions::record(&tx, &seen, look, now).await? {
            Recorded::Foreign => return Ok(Handled::Foreign),
            Recorded::Again => {}
            Recorded::Done(order) => {
                standing::converge(&tx, order, &billing.config.rules, now).await?;
                tx.commit().await?;
                return Ok(Handled::Well);
            }
        }
    }
    Err(Error::Unavailable("others make the same subscription known all the time".into()))
}

async fn seen_subscription(
    billing: &Billing,
    found: &Subscription,
) -> Result<Option<subscriptions::Seen>> {
    let paused = found.pause_collection.as_ref().is_some_and(|value| !value.is_null());
    let Some(status) = Status::of_stripe(&found.status, paused) else { return Ok(None) };
    let newest = found.latest_invoice.as_ref().map(Ref::id);
    let waits = matches!(status, Status::PastDue | Status::Unpaid | Status::Incomplete);
    let open: Option<Invoice> = match newest.filter(|_| waits) {
        Some(id) => there(billing.stripe.get(&format!("/invoices/{id}")).await)?,
        None => None,
    };
    let first = found.items.data.first();
    let items = found
        .items
        .data
        .iter()
        .map(|item| (item.id.clone(), item.price.id.clone(), item.quantity.unwrap_or(1)));
    Ok(Some(subscriptions::Seen {
        stripe_id: found.id.clone(),
        customer: found.customer.id().to_owned(),
        order: order_of(&found.metadata),
        status,
        currency: found.currency.clone(),
        items: items.collect(),
        period_start: when(first.and_then(|item| item.current_period_start))?,
        period_end: when(first.and_then(|item| item.current_period_end))?,
        trial_end: when(found.trial_end)?,
        cancel_at: when(found.cancel_at)?,
        cancel_at_period_end: found.cancel_at_period_end,
        started_at: when(found.start_date)?,
        ended_at: when(found.ended_at)?,
        invoice: newest.map(str::to_owned),
        open_since: when(open.as_ref().map(|invoice| invoice.created))?,
        action_url: open.and_then(|invoice| invoice.hosted_invoice_url),
    }))
}

/// Looks at an invoice and at what paid it. When it is the first of an order that waits for its payment,
/// the session is looked at, too, which says nothing of money that came later.
pub async fn invoice(billing: &Billing, id: &str) -> Result<Handled> {
    let (handled, order) = invoice_alone(billing, id).await?;
    let Some(order) = order else { return Ok(handled) };
    let tx = billing.db.system().await?;
    let waiting = checkouts::waiting(&tx, order).await?;
    drop(tx);
    match waiting {
        Some(waiting) => session(billing, &waiting).await,
        None => Ok(handled),
    }
}

async fn invoice_alone(billing: &Billing, id: &str) -> Result<(Handled, Option<OrderId>)> {
    let Some(found) = there(billing.stripe.get::<Invoice>(&format!("/invoices/{id}")).await)?
    else {
        return Ok((Handled::Foreign, None));
    };
    let seen = seen_invoice(billing, &found).await?;
    let Some(seen) = seen else { return Ok((Handled::Foreign, None)) };
    if let Some(parent) = &seen.subscription {
        let tx = billing.db.system().await?;
        let known = subscriptions::by_stripe_id(&tx, parent).await?;
        drop(tx);
        if known.is_none() {
            subscription(billing, parent).await?;
        }
    }
    let now = billing.now().await?;
    let tx = billing.db.system().await?;
    let order = invoices::record(&tx, &seen).await?;
    tx.commit().await?;
    let Some(order) = order else { return Ok((Handled::Foreign, None)) };
    if seen.status == "paid" {
        for intent in intents_of(billing, id).await? {
            record_intent(billing, &intent, order, Some(id.to_owned())).await?;
        }
    }
    let tx = billing.db.system().await?;
    standing::converge(&tx, order, &billing.config.rules, now).await?;
    tx.commit().await?;
    Ok((Handled::Well, Some(order)))
}

async fn seen_invoice(billing: &Billing, found: &Invoice) -> Result<Option<invoices::Seen>> {
    let Some(customer) = &found.customer else { return Ok(None) };
    let details = found.parent.as_ref().and_then(|parent| parent.subscription_details.as_ref());
    let order = order_of(&found.metadata).or_else(|| order_of(&details?.metadata));
    let status = found.status.clone().unwrap_or_else(|| "draft".to_owned());
    let notes = match status.as_str() {
        "paid" | "open" => credit_notes(billing, &found.id).await?,
        _ => Vec::new(),
    };
    let action = status == "open" && needs_action(billing, &found.id).await?;
    Ok(Some(invoices::Seen {
        stripe_id: found.id.clone(),
        customer: customer.id().to_owned(),
        subscription: details.and_then(|d| Some(d.subscription.as_ref()?.id().to_owned())),
        order,
        number: found.number.clone(),
        status,
        reason: found.billing_reason.clone(),
        currency: found.currency.clone(),
        subtotal: found.subtotal,
        tax: found.total_excluding_tax.map_or(0, |net| found.total.saturating_sub(net)),
        total: found.total,
        amount_paid: found.amount_paid,
        amount_remaining: found.amount_remaining,
        attempts: found.attempt_count,
        next_attempt_at: when(found.next_payment_attempt)?,
        requires_action: action,
        page_url: found.hosted_invoice_url.clone(),
        pdf_url: found.invoice_pdf.clone(),
        credit_notes: notes,
        period_start: when(found.period_start)?,
        period_end: when(found.period_end)?,
        created_at: moment(found.created)?,
    }))
}

/// Whether the customer's bank asks for something before an open invoice is paid.
async fn needs_action(billing: &Billing, invoice: &str) -> Result<bool> {
    for id in intents_of(billing, invoice).await? {
        let found: Answer<PaymentIntent> =
            billing.stripe.get(&format!("/payment_intents/{id}")).await;
        if there(found)?.is_some_and(|intent| intent.status == "requires_action") {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn credit_notes(billing: &Billing, invoice: &str) -> Result<Vec<invoices::CreditNote>> {
    let params = json!({ "invoice": invoice, "limit": 100 });
    let found: Answer<List<CreditNote>> = billing.stripe.query("/credit_notes", &params).await;
    let found = there(found)?.map_or_else(Vec::new, |list| list.data);
    Ok(found
        .into_iter()
        .map(|note| invoices::CreditNote {
            stripe_id: note.id,
            number: note.number,
            amount: note.amount,
            pdf_url: note.pdf,
        })
        .collect())
}

/// The PaymentIntents of an invoice.
async fn intents_of(billing: &Billing, invoice: &str) -> Result<Vec<String>> {
    let params = json!({ "invoice": invoice, "limit": 100 });
    let found: Answer<List<InvoicePayment>> =
        billing.stripe.query("/invoice_payments", &params).await;
    let found = there(found)?.map_or_else(Vec::new, |list| list.data);
    let intents = found.into_iter().filter_map(|paid| paid.payment.payment_intent);
    Ok(intents.map(|intent| intent.id().to_owned()).collect())
}

/// Fetches a payment of an order and records it; none: it is not there, or not of that order's tenant.
async fn record_intent(
    billing: &Billing,
    id: &str,
    order: OrderId,
    invoice: Option<String>,
) -> Result<Option<PaymentIntent>> {
    let tx = billing.db.system().await?;
    let look = payments::begin_look(&tx, id).await?;
    tx.commit().await?;
    let path = format!("/payment_intents/{id}");
    let expand = json!({ "expand": ["latest_charge"] });
    let found = there(billing.stripe.query::<PaymentIntent>(&path, &expand).await)?;
    let Some(found) = found else { return Ok(None) };
    let refunded = match &found.latest_charge {
        Some(MaybeCharge::Whole(charge)) => charge.amount_refunded,
        Some(MaybeCharge::Id(id)) => {
            let charge: Answer<Charge> = billing.stripe.get(&format!("/charges/{id}")).await;
            there(charge)?.map_or(0, |charge| charge.amount_refunded)
        }
        None => 0,
    };
    let seen = payments::Seen {
        stripe_id: found.id.clone(),
        customer: found.customer.as_ref().map(|c| c.id().to_owned()),
        order,
        invoice,
        status: found.status.clone(),
        currency: found.currency.clone(),
        amount: if found.status == "succeeded" && found.amount_received == 0 {
            found.amount
        } else {
            found.amount_received
        },
        refunded,
        created_at: moment(found.created)?,
    };
    let now = billing.now().await?;
    let tx = billing.db.system().await?;
    payments::record(&tx, &seen, look, now).await?;
    tx.commit().await?;
    Ok(Some(found))
}

/// Looks at a payment: finds its order by what is known of it, by what we wrote into it, or by the
/// invoice that it paid.
pub async fn intent(billing: &Billing, id: &str) -> Result<Handled> {
    let tx = billing.db.system().await?;
    let known = payments::by_stripe_id(&tx, id).await?;
    drop(tx);
    let order = match known {
        Some(row) => Some(row.order_id),
        None => {
            let path = format!("/payment_intents/{id}");
            let Some(found) = there(billing.stripe.get::<PaymentIntent>(&path).await)? else {
                return Ok(Handled::Foreign);
            };
            order_of(&found.metadata)
        }
    };
    let Some(order) = order else { return by_invoice(billing, id).await };
    let found = record_intent(billing, id, order, None).await?;
    let Some(found) = found else { return Ok(Handled::Foreign) };
    if found.status != "succeeded" {
        let params = json!({ "payment_intent": id, "limit": 10 });
        let sessions: List<Named> = billing.stripe.query("/checkout/sessions", &params).await?;
        for found in sessions.data {
            session(billing, &found.id).await?;
        }
        return Ok(Handled::Well);
    }
    converge(billing, order).await
}

async fn converge(billing: &Billing, order: OrderId) -> Result<Handled> {
    let now = billing.now().await?;
    let tx = billing.db.system().await?;
    match standing::converge(&tx, order, &billing.config.rules, now).await {
        Err(error) if error.code() == Code::NotFound => return Ok(Handled::Foreign),
        done => done?,
    }
    tx.commit().await?;
    Ok(Handled::Well)
}

/// The invoices that a payment paid.
async fn by_invoice(billing: &Billing, intent: &str) -> Result<Handled> {
    let params = json!({
        "payment": { "type": "payment_intent", "payment_intent": intent },
        "limit": 10,
    });
    let found: Answer<List<InvoicePayment>> =
        billing.stripe.query("/invoice_payments", &params).await;
    let found = there(found)?.map_or_else(Vec::new, |list| list.data);
    let invoices: BTreeSet<String> =
        found.iter().map(|paid| paid.invoice.id().to_owned()).collect();
    let mut handled = Handled::Foreign;
    for id in invoices {
        let one = invoice(billing, &id).await?;
        if one != Handled::Foreign {
            handled = one;
        }
    }
    Ok(handled)
}

async fn charge(billing: &Billing, id: &str) -> Result<Handled> {
    let found = there(billing.stripe.get::<Charge>(&format!("/charges/{id}")).await)?;
    match found.and_then(|charge| charge.payment_intent) {
        Some(paid) => intent(billing, paid.id()).await,
        None => Ok(Handled::Foreign),
    }
}

/// What Stripe's word for a refund means here.
pub(crate) fn refund_state(status: Option<&str>) -> State {
    match status {
        Some("succeeded") => State::Succeeded,
        Some("failed" | "canceled") => State::Failed,
        _ => State::Pending,
    }
}

async fn refund(billing: &Billing, id: &str) -> Result<Handled> {
    let Some(found) = there(billing.stripe.get::<Refund>(&format!("/refunds/{id}")).await)? else {
        return Ok(Handled::Foreign);
    };
    let tx = billing.db.system().await?;
    let known = repayments::by_stripe_id(&tx, id).await?.map(|row| row.id);
    let known = known.or_else(|| ours(&found.metadata, "repayment_id").map(RepaymentId));
    if let Some(known) = known {
        let made = Made {
            stripe_id: Some(found.id.clone()),
            state: refund_state(found.status.as_deref()),
            error: found.failure_reason.clone(),
        };
        repayments::record(&tx, known, &made).await?;
    }
    tx.commit().await?;
    match found.payment_intent {
        Some(paid) => intent(billing, paid.id()).await,
        None => Ok(Handled::Foreign),
    }
}

async fn dispute(billing: &Billing, id: &str) -> Result<Handled> {
    let Some(found) = there(billing.stripe.get::<Dispute>(&format!("/disputes/{id}")).await)?
    else {
        return Ok(Handled::Foreign);
    };
    let paid = match (&found.payment_intent, &found.charge) {
        (Some(paid), _) => Some(paid.id().to_owned()),
        (None, Some(of)) => {
            let of: Answer<Charge> = billing.stripe.get(&format!("/charges/{}", of.id())).await;
            there(of)?.and_then(|of| Some(of.payment_intent?.id().to_owned()))
        }
        (None, None) => None,
    };
    let Some(paid) = paid else { return Ok(Handled::Foreign) };
    if intent(billing, &paid).await? == Handled::Foreign {
        return Ok(Handled::Foreign);
    }
    let seen = payments::SeenDispute {
        stripe_id: found.id,
        payment: paid,
        status: found.status,
        reason: found.reason,
        currency: found.currency,
        amount: found.amount,
        created_at: moment(found.created)?,
    };
    let now = billing.now().await?;
    let tx = billing.db.system().await?;
    let order = payments::record_dispute(&tx, &seen, now).await?;
    if let Some(order) = order {
        standing::converge(&tx, order, &billing.config.rules, now).await?;
    }
    tx.commit().await?;
    Ok(well(order))
}

async fn credit_note(billing: &Billing, id: &str) -> Result<Handled> {
    let found = there(billing.stripe.get::<CreditNote>(&format!("/credit_notes/{id}")).await)?;
    match found {
        Some(note) => invoice(billing, note.invoice.id()).await,
        None => Ok(Handled::Foreign),
    }
}

/// Looks at a customer and at the payment method that is charged.
pub async fn customer(billing: &Billing, id: &str) -> Result<Handled> {
    let found = there(billing.stripe.get::<Customer>(&format!("/customers/{id}")).await)?;
    let Some(found) = found.filter(|found| !found.deleted) else { return Ok(Handled::Foreign) };
    let method = match found.invoice_settings.and_then(|s| s.default_payment_method) {
        Some(method) => Some(method.id().to_owned()),
        // Checkout keeps the method with the subscription; the customer's newest is as good a guess.
        None => {
            let path = format!("/customers/{id}/payment_methods");
            let found: Answer<List<Named>> =
                billing.stripe.query(&path, &json!({ "limit": 1 })).await;
            there(found)?.and_then(|list| Some(list.data.into_iter().next()?.id))
        }
    };
    let method: Option<PaymentMethod> = match method {
        Some(id) => there(billing.stripe.get(&format!("/payment_methods/{id}")).await)?,
        None => None,
    };
    let seen = customers::Seen {
        stripe_id: found.id,
        email: found.email,
        card: method.map(card),
        delinquent: found.delinquent.unwrap_or(false),
    };
    let tx = billing.db.system().await?;
    let known = customers::record(&tx, &seen).await?;
    tx.commit().await?;
    Ok(if known { Handled::Well } else { Handled::Foreign })
}

fn card(method: PaymentMethod) -> customers::Card {
    let details = method.card;
    customers::Card {
        kind: method.kind,
        brand: details.as_ref().and_then(|card| card.brand.clone()),
        last4: details.as_ref().and_then(|card| card.last4.clone()),
        expires_month: details.as_ref().and_then(|card| card.exp_month),
        expires_year: details.as_ref().and_then(|card| card.exp_year),
    }
}

async fn payment_method(billing: &Billing, id: &str) -> Result<Handled> {
    let found =
        there(billing.stripe.get::<PaymentMethod>(&format!("/payment_methods/{id}")).await)?;
    match found.and_then(|method| method.customer) {
        Some(owner) => customer(billing, owner.id()).await,
        None => Ok(Handled::Foreign),
    }
}
