//! Prices of products.

use super::{MoneyView, SyncView};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, Paging, Success, created, field, maybe_whole, object, ok, one_object, page,
};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, web};
use chrono::{DateTime, Utc};
use entities::catalogue::Billing;
use entities::catalogue::prices::{self, Filter, NewPrice};
use entities::error::Error;
use entities::ids::{PriceId, ProductId, TenantId};
use entities::tables::price;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(create_price).service(list_prices).service(view_price).service(archive_price);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceNew {
    /// A product of the tenant's own.
    product_id: Uuid,
    /// What is paid each time.
    #[serde(deserialize_with = "one_object")]
    money: MoneyView,
    #[schema(schema_with = schema::billing)]
    interval: Billing,
    /// Paid once, with the first payment; in the same currency.
    #[serde(default, deserialize_with = "object")]
    setup_fee: Option<MoneyView>,
    /// Nothing but the set-up fee is paid in these first days; not for `one_off`.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1, maximum = 730)]
    trial_days: Option<u32>,
}

impl TryFrom<PriceNew> for NewPrice {
    type Error = Error;

    fn try_from(new: PriceNew) -> Result<Self, Error> {
        Ok(Self {
            product: ProductId(new.product_id),
            money: new.money.read("money")?,
            billing: new.interval,
            setup_fee: new.setup_fee.map(|fee| fee.read("setup_fee")).transpose()?,
            trial_days: new.trial_days,
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct PriceView {
    id: Uuid,
    /// The tenant that sells.
    seller_id: Uuid,
    product_id: Uuid,
    money: MoneyView,
    #[schema(schema_with = schema::billing)]
    interval: Billing,
    setup_fee: Option<MoneyView>,
    trial_days: Option<i32>,
    archived_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    sync: Option<SyncView>,
}

/// As a tenant sees it.
fn view(row: price::Model, viewer: TenantId) -> Result<PriceView, Error> {
    let money = prices::money(&row)?;
    let setup_fee = prices::setup_fee(&row)?;
    let sync = (row.tenant_id == viewer).then_some(SyncView {
        state: row.sync_state,
        error: row.sync_error,
        stripe_id: row.stripe_id,
        version: row.version,
        synced_version: row.synced_version,
    });
    Ok(PriceView {
        id: row.id.0,
        seller_id: row.tenant_id.0,
        product_id: row.product_id.0,
        money: money.into(),
        interval: row.billing,
        setup_fee: setup_fee.map(Into::into),
        trial_days: row.trial_days,
        archived_at: row.archived_at,
        created_at: row.created_at,
        sync,
    })
}

/// Makes a price for a product. It never changes: to change it, make another and archive this one.
#[utoipa::path(
    tag = "catalogue",
    request_body = PriceNew,
    responses((status = 201, body = Success<PriceView>))
)]
#[post("/api/prices")]
async fn create_price(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<PriceNew>,
) -> Result<Answer<PriceView>, ApiError> {
    let new = body.try_into()?;
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = prices::create_price(&tx, new).await?;
    tx.commit().await?;
    Ok(created(view(row, caller.0.tenant())?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PriceFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Those of this product.
    product_id: Option<Uuid>,
    #[param(schema_with = schema::currency)]
    currency: Option<String>,
    /// The tenant's own that are archived, too, or whose product is.
    archived: Option<bool>,
}

/// The prices of the products of the tenant and of those above it, by product, currency and amount.
#[utoipa::path(
    tag = "catalogue",
    params(PriceFilter),
    responses((status = 200, body = Success<Vec<PriceView>>))
)]
#[get("/api/prices")]
async fn list_prices(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<PriceFilter>,
) -> Result<Answer<Vec<PriceView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let filter = Filter {
        product: query.product_id.map(ProductId),
        currency: query.currency.as_deref().map(|text| field("currency", text)).transpose()?,
        archived: query.archived.unwrap_or_default(),
    };
    let tx = state.db.read(&caller.0, Permission::CatalogueRead).await?;
    let (rows, total) = prices::list_prices(&tx, &filter, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(|row| view(row, tx.tenant())).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

/// A price.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the price")),
    responses((status = 200, body = Success<PriceView>))
)]
#[get("/api/prices/{id}")]
async fn view_price(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<PriceView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CatalogueRead).await?;
    Ok(ok(view(prices::find_price(&tx, PriceId(*id)).await?, tx.tenant())?))
}

/// Archives a price of the tenant's own: it is sold no more.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the price")),
    responses((status = 200, body = Success<PriceView>))
)]
#[delete("/api/prices/{id}")]
async fn archive_price(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<PriceView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = prices::archive_price(&tx, PriceId(*id)).await?;
    tx.commit().await?;
    Ok(ok(view(row, caller.0.tenant())?))
}
