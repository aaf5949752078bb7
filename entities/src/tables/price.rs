//! What a product costs. Only whether it is on sale ever changes.

use crate::catalogue::{Billing, SyncState};
use crate::ids::{PriceId, ProductId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "price")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PriceId,
    /// The seller.
    pub tenant_id: TenantId,
    pub product_id: ProductId,
    pub currency: String,
    /// In minor units of the currency, like the set-up fee.
    pub amount: i64,
    pub billing: Billing,
    pub setup_fee: Option<i64>,
    pub trial_days: Option<i32>,
    pub archived_at: Option<DateTimeUtc>,
    pub created_at: DateTimeUtc,
    #[sea_orm(unique)]
    pub stripe_id: Option<String>,
    pub sync_state: SyncState,
    pub sync_error: Option<String>,
    /// Counts the changes of this row.
    pub version: i64,
    /// The version that Stripe has.
    pub synced_version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
