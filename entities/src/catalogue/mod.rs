//! What is sold: categories, products and their prices. The platform and resellers sell; a tenant sees
//! what it sells itself and what those above it sell, and nobody else's. Nothing is deleted: what is
//! archived is sold no more, and orders still show it.
//!
//! [`specification`] says what a product is; [`categories`], [`products`] and [`prices`] are the rules.

pub mod categories;
pub mod prices;
pub mod products;
pub mod specification;
pub mod sync;

pub use specification::{Limit, Specification};

use crate::Result;
use crate::db::TenantTx;
use crate::error::{Code, Error};
use crate::tenancy::TenantKind;
use crate::tenants;
use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

/// What kind of thing a product is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A container of one's own.
    #[sea_orm(string_value = "cloudpod_plan")]
    CloudpodPlan,
    /// A hosting account.
    #[sea_orm(string_value = "hosting_plan")]
    HostingPlan,
    /// More of something that a plan has.
    #[sea_orm(string_value = "addon")]
    Addon,
}

/// How often a price is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Billing {
    #[sea_orm(string_value = "one_off")]
    OneOff,
    #[sea_orm(string_value = "month")]
    Month,
    #[sea_orm(string_value = "year")]
    Year,
}

/// Whether Stripe has what stands in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// The newest version is still to be carried there.
    #[sea_orm(string_value = "pending")]
    Pending,
    #[sea_orm(string_value = "synced")]
    Synced,
    /// Stripe refused it; the error says why.
    #[sea_orm(string_value = "failed")]
    Failed,
}

/// Refuses a tenant that sells nothing.
async fn must_sell(tx: &TenantTx) -> Result<()> {
    if tenants::find_tenant(tx).await?.kind == TenantKind::Customer {
        let text =
            "A customer has no catalogue: the platform and resellers sell. Act in one of them.";
        return Err(Error::refused(Code::NotASeller, text));
    }
    Ok(())
}
