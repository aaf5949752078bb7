//! Money that goes back: to the card, or as a credit for what comes.

use crate::billing::repayments::{Kind, State};
use crate::ids::{OrderId, PaymentId, RepaymentId, TenantId};
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "repayment")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RepaymentId,
    pub tenant_id: TenantId,
    pub order_id: OrderId,
    pub payment_id: Option<PaymentId>,
    /// Why it is, once in the installation: `order/…/failed`.
    #[sea_orm(unique)]
    pub reference: String,
    pub kind: Kind,
    pub currency: String,
    /// In minor units.
    pub amount: i64,
    pub cause: String,
    /// A [`crate::tenancy::Actor`].
    pub actor: Json,
    pub state: State,
    #[sea_orm(unique)]
    pub stripe_id: Option<String>,
    pub error: Option<String>,
    pub attempts: i32,
    pub next_at: DateTimeUtc,
    pub created_at: DateTimeUtc,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
