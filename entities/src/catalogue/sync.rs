//! What of the catalogue is at Stripe. A row counts its changes in `version`; what Stripe has is
//! `synced_version`.

use crate::Result;
use crate::catalogue::SyncState;
use crate::db::{SystemTx, statement};
use crate::error::Error;
use crate::ids::{PriceId, ProductId};
use crate::tables::{price, product};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

/// Which rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those that changed.
    Changed,
    /// Those, too, that Stripe did not take the last time.
    Failed,
}

impl Due {
    fn states(self) -> &'static [SyncState] {
        match self {
            Self::Changed => &[SyncState::Pending],
            Self::Failed => &[SyncState::Pending, SyncState::Failed],
        }
    }
}

/// Products that Stripe does not have as they are.
pub async fn products(tx: &SystemTx, due: Due, limit: u64) -> Result<Vec<product::Model>> {
    Ok(product::Entity::find()
        .filter(product::Column::SyncState.is_in(due.states().iter().copied()))
        .order_by_asc(product::Column::Id)
        .limit(limit)
        .all(tx.conn())
        .await?)
}

/// Prices that Stripe does not have as they are.
pub async fn prices(tx: &SystemTx, due: Due, limit: u64) -> Result<Vec<price::Model>> {
    Ok(price::Entity::find()
        .filter(price::Column::SyncState.is_in(due.states().iter().copied()))
        .order_by_asc(price::Column::Id)
        .limit(limit)
        .all(tx.conn())
        .await?)
}

/// A product, whosever it is.
pub async fn product(tx: &SystemTx, id: ProductId) -> Result<product::Model> {
    let row = product::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("product"))
}

/// A price, whosever it is.
pub async fn price(tx: &SystemTx, id: PriceId) -> Result<price::Model> {
    let row = price::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("price"))
}

/// What came of bringing a row of this version to Stripe: its id there, or why not.
pub type Outcome<'a> = std::result::Result<&'a str, &'a str>;

/// Records what came of bringing a product to Stripe. One that changed meanwhile stays due.
pub async fn record_product(
    tx: &SystemTx,
    id: ProductId,
    version: i64,
    outcome: Outcome<'_>,
) -> Result<()> {
    record(tx, "product", id.0, version, outcome).await
}

/// The same of a price.
pub async fn record_price(
    tx: &SystemTx,
    id: PriceId,
    version: i64,
    outcome: Outcome<'_>,
) -> Result<()> {
    record(tx, "price", id.0, version, outcome).await
}

async fn record(
    tx: &SystemTx,
    table: &str,
    id: uuid::Uuid,
    version: i64,
    outcome: Outcome<'_>,
) -> Result<()> {
    let (stripe_id, error) = (outcome.ok(), outcome.err());
    let sql = format!(
        "UPDATE {table} SET stripe_id = coalesce($3, stripe_id), sync_error = $4,
            synced_version = CASE WHEN $4::text IS NULL THEN greatest(synced_version, $2)
                ELSE synced_version END,
            sync_state = CASE WHEN $4::text IS NOT NULL THEN 'failed'
                WHEN version > $2 THEN 'pending' ELSE 'synced' END
        WHERE id = $1"
    );
    let values = [id.into(), version.into(), stripe_id.into(), error.into()];
    tx.conn().execute_raw(statement(&sql, values)).await?;
    Ok(())
}

/// Forgets what a price is called at Stripe, where it is not any more, and its product with it when that
/// is gone, too: they are carried there anew.
pub async fn forget(tx: &SystemTx, price: &price::Model, with_product: bool) -> Result<()> {
    let gone = "SET stripe_id = NULL, synced_version = 0, sync_state = 'pending' WHERE id = $1";
    let sql = format!("UPDATE price {gone}");
    tx.conn().execute_raw(statement(&sql, [price.id.0.into()])).await?;
    if with_product {
        let sql = format!("UPDATE product {gone}");
        tx.conn().execute_raw(statement(&sql, [price.product_id.0.into()])).await?;
    }
    Ok(())
}
