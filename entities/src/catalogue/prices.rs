//! What products cost. A price is never changed: a change is a new price, and the old one is archived.

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::products::open_product;
use crate::catalogue::{Billing, SyncState, must_sell};
use crate::db::TenantTx;
use crate::error::Error;
use crate::ids::{PriceId, ProductId};
use crate::outbox::Message;
use crate::tables::price::{self, Column};
use crate::tables::product;
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use values::{Currency, Money};

/// The most that can be charged at once: Stripe takes no amount of more than twelve digits.
pub const AMOUNT_MAX: i64 = 999_999_999_999;
/// The longest trial that Stripe gives: two years.
pub const TRIAL_DAYS_MAX: u32 = 730;

/// A price as it is to be.
#[derive(Debug)]
pub struct NewPrice {
    pub product: ProductId,
    pub money: Money,
    pub billing: Billing,
    /// Paid once, with the first payment.
    pub setup_fee: Option<Money>,
    /// Nothing but the set-up fee is paid in these first days.
    pub trial_days: Option<u32>,
}

/// Which prices are wanted; nothing set: all that are on sale.
#[derive(Debug, Default)]
pub struct Filter {
    pub product: Option<ProductId>,
    pub currency: Option<Currency>,
    /// The tenant's own that are archived, too, or whose product is.
    pub archived: bool,
}

/// What is paid each time.
pub fn money(row: &price::Model) -> Result<Money> {
    Ok(Money::new(row.amount, Currency::parse(&row.currency)?))
}

/// What is paid once at the beginning.
pub fn setup_fee(row: &price::Model) -> Result<Option<Money>> {
    let currency = Currency::parse(&row.currency)?;
    Ok(row.setup_fee.map(|fee| Money::new(fee, currency)))
}

fn check_amount(name: &str, money: Money) -> Result<()> {
    let step = money.currency().step();
    if !(0..=AMOUNT_MAX).contains(&money.amount()) {
        return Err(Error::field(name, format!("must be 0 to {AMOUNT_MAX} minor units")));
    }
    if money.amount().checked_rem(step) != Some(0) {
        let currency = money.currency();
        return Err(Error::field(name, format!("must be a multiple of {step} in {currency}")));
    }
    Ok(())
}

fn check(new: &NewPrice) -> Result<Option<i32>> {
    check_amount("money", new.money)?;
    if let Some(fee) = new.setup_fee {
        check_amount("setup_fee", fee)?;
        if fee.currency() != new.money.currency() {
            return Err(Error::field("setup_fee", "must be of the price's currency"));
        }
    }
    let Some(days) = new.trial_days else { return Ok(None) };
    if new.billing == Billing::OneOff {
        return Err(Error::field("trial_days", "belongs to a price that is paid again and again"));
    }
    if !(1..=TRIAL_DAYS_MAX).contains(&days) {
        return Err(Error::field("trial_days", format!("must be 1 to {TRIAL_DAYS_MAX}")));
    }
    Ok(Some(i32::try_from(days).map_err(Error::internal)?))
}

/// Makes a price for a product of the tenant's own.
pub async fn create_price(tx: &TenantTx, new: NewPrice) -> Result<price::Model> {
    must_sell(tx).await?;
    let trial_days = check(&new)?;
    let product = open_product(tx, new.product).await?;
    let row = price::ActiveModel {
        id: Set(PriceId::new()),
        tenant_id: Set(tx.tenant()),
        product_id: Set(product.id),
        currency: Set(new.money.currency().to_string()),
        amount: Set(new.money.amount()),
        billing: Set(new.billing),
        setup_fee: Set(new.setup_fee.map(Money::amount)),
        trial_days: Set(trial_days),
        archived_at: NotSet,
        created_at: Set(Utc::now()),
        stripe_id: NotSet,
        sync_state: NotSet,
        sync_error: NotSet,
        version: NotSet,
        synced_version: NotSet,
    };
    let row = row.insert(tx.conn()).await?;
    let entry = Audit::PriceCreated {
        price: row.id,
        product: product.id,
        money: new.money,
        billing: new.billing,
    };
    tx.audit(entry).await?;
    tx.publish(Message::PriceChanged { price: row.id }).await?;
    Ok(row)
}

/// A page of the prices that the tenant sees, by product, currency and amount, and how many there are.
pub async fn list_prices(
    tx: &TenantTx,
    filter: &Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<price::Model>, u64)> {
    let sold = tx
        .seen::<product::Entity>()
        .filter(product::Column::ArchivedAt.is_null())
        .select_only()
        .column(product::Column::Id)
        .into_query();
    let on_sale =
        Condition::all().add(Column::ArchivedAt.is_null()).add(Column::ProductId.in_subquery(sold));
    let mut shown = Condition::any().add(on_sale);
    if filter.archived {
        shown = shown.add(Column::TenantId.eq(tx.tenant()));
    }
    let mut query = tx.seen::<price::Entity>().filter(shown);
    if let Some(product) = filter.product {
        query = query.filter(Column::ProductId.eq(product));
    }
    if let Some(currency) = filter.currency {
        query = query.filter(Column::Currency.eq(currency.as_str()));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query
        .order_by_asc(Column::ProductId)
        .order_by_asc(Column::Currency)
        .order_by_asc(Column::Amount)
        .order_by_asc(Column::Id)
        .offset(offset)
        .limit(limit);
    Ok((query.all(tx.conn()).await?, total))
}

/// A price that the tenant sees, also one that is archived.
pub async fn find_price(tx: &TenantTx, id: PriceId) -> Result<price::Model> {
    let row = tx.seen::<price::Entity>().filter(Column::Id.eq(id)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("price"))
}

/// Archives a price of the tenant's own: it is sold no more. Repeating it changes nothing.
pub async fn archive_price(tx: &TenantTx, id: PriceId) -> Result<price::Model> {
    let row = tx.own_by_id::<price::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    let mut row = row.ok_or(Error::NotFound("price"))?;
    if row.archived_at.is_none() {
        let version = row.version;
        let mut active: price::ActiveModel = row.into();
        active.archived_at = Set(Some(Utc::now()));
        active.version = Set(version.saturating_add(1));
        active.sync_state = Set(SyncState::Pending);
        active.sync_error = Set(None);
        row = active.update(tx.conn()).await?;
        tx.publish(Message::PriceChanged { price: id }).await?;
    }
    tx.audit(Audit::PriceArchived { price: id, product: row.product_id }).await?;
    Ok(row)
}
