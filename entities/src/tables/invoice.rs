//! An invoice as Stripe wrote it.

use crate::ids::{InvoiceId, OrderId, SubscriptionId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "invoice")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: InvoiceId,
    pub tenant_id: TenantId,
    #[sea_orm(unique)]
    pub stripe_id: String,
    pub subscription_id: Option<SubscriptionId>,
    pub order_id: Option<OrderId>,
    pub number: Option<String>,
    pub status: String,
    /// Why Stripe wrote it: `subscription_cycle`.
    pub reason: Option<String>,
    pub currency: String,
    /// In minor units like the following.
    pub subtotal: i64,
    pub tax: i64,
    pub total: i64,
    pub amount_paid: i64,
    pub amount_remaining: i64,
    pub attempts: i64,
    pub next_attempt_at: Option<DateTimeUtc>,
    /// Whether the customer must do something before it can be paid.
    pub requires_action: bool,
    pub page_url: Option<String>,
    pub pdf_url: Option<String>,
    /// A list of [`crate::billing::invoices::CreditNote`].
    pub credit_notes: Json,
    pub period_start: Option<DateTimeUtc>,
    pub period_end: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
