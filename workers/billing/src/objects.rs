//! Stripe's objects, as far as we use them. Unknown fields and words are let be.

use serde::Deserialize;
use std::collections::HashMap;

/// An object that may stand for itself or by its id.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Ref {
    Id(String),
    Whole { id: String },
}

impl Ref {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Whole { id } => id,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, Deserialize)]
pub struct List<T> {
    pub data: Vec<T>,
    #[serde(default)]
    pub has_more: bool,
}

/// Anything that has an id.
#[derive(Debug, Clone, Deserialize)]
pub struct Named {
    pub id: String,
}

/// What we wrote into an object.
pub type Metadata = Option<HashMap<String, String>>;

/// `checkout.session`
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    pub id: String,
    pub status: Option<String>,
    pub payment_status: String,
    pub customer: Option<Ref>,
    pub currency: Option<String>,
    pub amount_subtotal: Option<i64>,
    pub url: Option<String>,
    pub expires_at: Option<i64>,
    #[serde(default)]
    pub metadata: Metadata,
    pub payment_intent: Option<Ref>,
    pub subscription: Option<Ref>,
    pub invoice: Option<Ref>,
}

/// `payment_intent`, its charge expanded
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentIntent {
    pub id: String,
    pub status: String,
    pub currency: String,
    pub amount: i64,
    #[serde(default)]
    pub amount_received: i64,
    pub customer: Option<Ref>,
    #[serde(default)]
    pub metadata: Metadata,
    pub latest_charge: Option<MaybeCharge>,
    pub created: i64,
}

/// A charge that may not be expanded.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum MaybeCharge {
    Whole(Charge),
    Id(String),
}

/// `charge`
#[derive(Debug, Clone, Deserialize)]
pub struct Charge {
    pub id: String,
    #[serde(default)]
    pub amount_refunded: i64,
    pub payment_intent: Option<Ref>,
}

/// `subscription`
#[derive(Debug, Clone, Deserialize)]
pub struct Subscription {
    pub id: String,
    pub status: String,
    pub customer: Ref,
    pub currency: String,
    #[serde(default)]
    pub metadata: Metadata,
    pub items: List<SubscriptionItem>,
    pub pause_collection: Option<serde_json::Value>,
    pub trial_end: Option<i64>,
    pub cancel_at: Option<i64>,
    #[serde(default)]
    pub cancel_at_period_end: bool,
    pub start_date: Option<i64>,
    pub ended_at: Option<i64>,
    pub latest_invoice: Option<Ref>,
}

/// `subscription_item`; since `2025-03-31.basil` the period stands here
#[derive(Debug, Clone, Deserialize)]
pub struct SubscriptionItem {
    pub id: String,
    pub price: Named,
    pub quantity: Option<i64>,
    pub current_period_start: Option<i64>,
    pub current_period_end: Option<i64>,
}

/// `invoice`
#[derive(Debug, Clone, Deserialize)]
pub struct Invoice {
    pub id: String,
    pub status: Option<String>,
    pub customer: Option<Ref>,
    pub number: Option<String>,
    pub billing_reason: Option<String>,
    pub currency: String,
    #[serde(default)]
    pub subtotal: i64,
    pub total: i64,
    #[serde(default)]
    pub total_excluding_tax: Option<i64>,
    #[serde(default)]
    pub amount_paid: i64,
    #[serde(default)]
    pub amount_remaining: i64,
    #[serde(default)]
    pub amount_due: i64,
    #[serde(default)]
    pub attempt_count: i64,
    pub next_payment_attempt: Option<i64>,
    pub hosted_invoice_url: Option<String>,
    pub invoice_pdf: Option<String>,
    pub period_start: Option<i64>,
    pub period_end: Option<i64>,
    pub created: i64,
    #[serde(default)]
    pub metadata: Metadata,
    pub parent: Option<InvoiceParent>,
    #[serde(default)]
    pub lines: Option<List<InvoiceLine>>,
}

/// What an invoice was written for; since `2025-03-31.basil`
#[derive(Debug, Clone, Deserialize)]
pub struct InvoiceParent {
    pub subscription_details: Option<SubscriptionDetails>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SubscriptionDetails {
    pub subscription: Option<Ref>,
    #[serde(default)]
    pub metadata: Metadata,
}

/// `line_item`
#[derive(Debug, Clone, Deserialize)]
pub struct InvoiceLine {
    pub amount: i64,
    pub description: Option<String>,
    pub period: Option<Period>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Period {
    pub start: i64,
    pub end: i64,
}

/// `invoice_payment`
#[derive(Debug, Clone, Deserialize)]
pub struct InvoicePayment {
    pub invoice: Ref,
    pub payment: PaidBy,
}

#[derive(Debug, Clone, Deserialize)]
pub struct PaidBy {
    pub payment_intent: Option<Ref>,
}

/// `refund`
#[derive(Debug, Clone, Deserialize)]
pub struct Refund {
    pub id: String,
    pub status: Option<String>,
    pub amount: i64,
    pub failure_reason: Option<String>,
    pub payment_intent: Option<Ref>,
    #[serde(default)]
    pub metadata: Metadata,
}

/// `dispute`
#[derive(Debug, Clone, Deserialize)]
pub struct Dispute {
    pub id: String,
    pub status: String,
    pub reason: String,
    pub currency: String,
    pub amount: i64,
    pub payment_intent: Option<Ref>,
    pub charge: Option<Ref>,
    pub created: i64,
}

/// `credit_note`
#[derive(Debug, Clone, Deserialize)]
pub struct CreditNote {
    pub id: String,
    pub number: String,
    pub amount: i64,
    pub pdf: Option<String>,
    pub invoice: Ref,
    #[serde(default)]
    pub refunds: Vec<CreditNoteRefund>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct CreditNoteRefund {
    pub refund: Ref,
}

/// `customer`, its default payment method expanded
#[derive(Debug, Clone, Deserialize)]
pub struct Customer {
    pub id: String,
    #[serde(default)]
    pub deleted: bool,
    pub email: Option<String>,
    #[serde(default)]
    pub delinquent: Option<bool>,
    pub invoice_settings: Option<InvoiceSettings>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct InvoiceSettings {
    pub default_payment_method: Option<Ref>,
}

/// `payment_method`
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentMethod {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub customer: Option<Ref>,
    pub card: Option<CardDetails>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct CardDetails {
    pub brand: Option<String>,
    pub last4: Option<String>,
    pub exp_month: Option<i64>,
    pub exp_year: Option<i64>,
}

/// `event`; what it says of its object is not believed
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub created: i64,
    #[serde(default)]
    pub livemode: bool,
    pub api_version: Option<String>,
    pub data: EventData,
}

#[derive(Debug, Clone, Deserialize)]
pub struct EventData {
    pub object: EventObject,
}

#[derive(Debug, Clone, Deserialize)]
pub struct EventObject {
    pub id: Option<String>,
    pub object: Option<String>,
}

/// A page somewhere else: of the portal.
#[derive(Debug, Clone, Deserialize)]
pub struct Page {
    pub url: String,
}

/// `test_helpers.test_clock`
#[derive(Debug, Clone, Deserialize)]
pub struct TestClock {
    pub frozen_time: i64,
}
