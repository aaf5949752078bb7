//! The catalogue: categories, products and prices.

mod categories;
mod prices;
mod products;

use crate::error::ApiError;
use crate::extract::whole;
use crate::schema;
use entities::catalogue::SyncState;
use entities::error::Error;
use entities::values::{Currency, Money};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    categories::routes(config);
    products::routes(config);
    prices::routes(config);
}

/// An amount in the minor units of its currency: 1999 is 19.99 EUR, 1999 JPY or 1.999 KWD.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MoneyView {
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 0, maximum = 999_999_999_999_i64)]
    amount: i64,
    #[schema(schema_with = schema::currency)]
    currency: String,
}

impl From<Money> for MoneyView {
    fn from(money: Money) -> Self {
        Self { amount: money.amount(), currency: money.currency().to_string() }
    }
}

impl MoneyView {
    /// The value, or what is wrong with the field that holds it.
    fn read(&self, path: &str) -> Result<Money, Error> {
        let currency = Currency::parse(&self.currency)
            .map_err(|error| Error::field(&format!("{path}/currency"), error.to_string()))?;
        Ok(Money::new(self.amount, currency))
    }
}

/// What Stripe has of it; told to the seller only.
#[derive(Debug, Serialize, ToSchema)]
struct SyncView {
    /// `pending`, `synced` or `failed`.
    #[schema(value_type = String)]
    state: SyncState,
    /// Why Stripe refused it.
    error: Option<String>,
    stripe_id: Option<String>,
    /// Counts the changes made here.
    version: i64,
    /// The version that Stripe has.
    synced_version: i64,
}

/// A place in a list: the lower, the further in front.
const POSITION_MAX: i32 = 1_000_000;

fn position(wanted: Option<i32>) -> Result<Option<i32>, ApiError> {
    match wanted {
        Some(position) if position > POSITION_MAX => {
            Err(Error::field("position", format!("must be 0 to {POSITION_MAX}")).into())
        }
        other => Ok(other),
    }
}
