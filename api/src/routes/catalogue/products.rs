//! Products of the catalogue.

use super::{SyncView, position};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, created, field, maybe_whole, ok, page, said};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::catalogue::products::{self, Change, Filter, NewProduct};
use entities::catalogue::{Kind, Specification};
use entities::error::Error;
use entities::ids::{CategoryId, ProductId, TenantId};
use entities::tables::product;
use entities::tenancy::Permission;
use entities::values::Prose;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_product)
        .service(list_products)
        .service(view_product)
        .service(update_product)
        .service(archive_product);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProductNew {
    #[schema(schema_with = schema::title)]
    name: String,
    #[schema(schema_with = schema::maybe_prose)]
    description: Option<String>,
    /// What programs call it; one of its kind with the seller. A plan of CloudPods is made by its code.
    #[schema(schema_with = schema::maybe_plan_code)]
    code: Option<String>,
    /// A category of the same seller.
    category_id: Option<Uuid>,
    #[serde(deserialize_with = "specification")]
    #[schema(schema_with = schema::specification)]
    specification: Specification,
    /// The lower, the further in front; by default 0.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    position: Option<i32>,
}

/// Reads a specification; `5.0` is a whole number, too, and a list is no object.
fn specification<'de, D: Deserializer<'de>>(from: D) -> Result<Specification, D::Error> {
    let mut fields = Map::<String, Value>::deserialize(from)?;
    for value in fields.values_mut() {
        let text = value.as_f64().map(|_number| value.to_string());
        let digits = text.as_deref().and_then(|text| text.strip_suffix(".0"));
        if let Some(whole) = digits.and_then(|digits| digits.parse::<u32>().ok()) {
            *value = whole.into();
        }
    }
    serde_json::from_value(Value::Object(fields)).map_err(D::Error::custom)
}

#[derive(Debug, Serialize, ToSchema)]
struct ProductView {
    id: Uuid,
    /// The tenant that sells.
    seller_id: Uuid,
    category_id: Option<Uuid>,
    name: String,
    /// What programs call it.
    code: Option<String>,
    description: String,
    #[schema(schema_with = schema::product_kind)]
    kind: Kind,
    #[schema(schema_with = schema::specification)]
    specification: Value,
    position: i32,
    archived_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    sync: Option<SyncView>,
}

/// As a tenant sees it.
fn view(row: product::Model, viewer: TenantId) -> ProductView {
    let sync = (row.tenant_id == viewer).then_some(SyncView {
        state: row.sync_state,
        error: row.sync_error,
        stripe_id: row.stripe_id,
        version: row.version,
        synced_version: row.synced_version,
    });
    ProductView {
        id: row.id.0,
        seller_id: row.tenant_id.0,
        category_id: row.category_id.map(|id| id.0),
        name: row.name,
        code: row.code,
        description: row.description,
        kind: row.kind,
        specification: row.specification,
        position: row.position,
        archived_at: row.archived_at,
        created_at: row.created_at,
        sync,
    }
}

/// Makes a product; of several that are on sale each has a name of its own. What it is never changes:
/// that is another product.
#[utoipa::path(
    tag = "catalogue",
    request_body = ProductNew,
    responses((status = 201, body = Success<ProductView>))
)]
#[post("/api/products")]
async fn create_product(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<ProductNew>,
) -> Result<Answer<ProductView>, ApiError> {
    let new = NewProduct {
        category: body.category_id.map(CategoryId),
        name: field("name", &body.name)?,
        description: match body.description {
            Some(text) => field("description", &text)?,
            None => Prose::default(),
        },
        specification: body.specification,
        code: body.code.map(|code| field("code", &code)).transpose()?,
        position: position(body.position)?.unwrap_or_default(),
    };
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = products::create_product(&tx, new).await?;
    tx.commit().await?;
    Ok(created(view(row, caller.0.tenant())))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ProductFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Those of this category.
    category_id: Option<Uuid>,
    #[param(schema_with = schema::product_kind)]
    kind: Option<String>,
    /// The tenant's own that are archived, too.
    archived: Option<bool>,
}

/// The products of the tenant and of those above it, by position and name.
#[utoipa::path(
    tag = "catalogue",
    params(ProductFilter),
    responses((status = 200, body = Success<Vec<ProductView>>))
)]
#[get("/api/products")]
async fn list_products(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<ProductFilter>,
) -> Result<Answer<Vec<ProductView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let filter = Filter {
        category: query.category_id.map(CategoryId),
        kind: query.kind.as_deref().map(kind).transpose()?,
        archived: query.archived.unwrap_or_default(),
    };
    let tx = state.db.read(&caller.0, Permission::CatalogueRead).await?;
    let (rows, total) =
        products::list_products(&tx, &filter, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(|row| view(row, tx.tenant())).collect();
    Ok(page(views, paging.meta(total)))
}

fn kind(text: &str) -> Result<Kind, Error> {
    serde_json::from_value(Value::from(text))
        .map_err(|_e| Error::field("kind", "must be cloudpod_plan, hosting_plan or addon"))
}

/// A product.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the product")),
    responses((status = 200, body = Success<ProductView>))
)]
#[get("/api/products/{id}")]
async fn view_product(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ProductView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CatalogueRead).await?;
    Ok(ok(view(products::find_product(&tx, ProductId(*id)).await?, tx.tenant())))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ProductChange {
    #[schema(schema_with = schema::maybe_title)]
    name: Option<String>,
    #[schema(schema_with = schema::maybe_prose)]
    description: Option<String>,
    /// A category of the same seller; null takes it out of its category.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Uuid>)]
    category_id: Option<Option<Uuid>>,
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    position: Option<i32>,
}

/// Changes how a product of the tenant's own is shown; what is left out stays.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the product")),
    request_body = ProductChange,
    responses((status = 200, body = Success<ProductView>))
)]
#[patch("/api/products/{id}")]
async fn update_product(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<ProductChange>,
) -> Result<Answer<ProductView>, ApiError> {
    let change = Change {
        category: body.category_id.map(|id| id.map(CategoryId)),
        name: body.name.map(|text| field("name", &text)).transpose()?,
        description: body.description.map(|text| field("description", &text)).transpose()?,
        position: position(body.position)?,
    };
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = products::update_product(&tx, ProductId(*id), change).await?;
    tx.commit().await?;
    Ok(ok(view(row, caller.0.tenant())))
}

/// Archives a product of the tenant's own: it and its prices are sold no more.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the product")),
    responses((status = 200, body = Success<ProductView>))
)]
#[delete("/api/products/{id}")]
async fn archive_product(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ProductView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = products::archive_product(&tx, ProductId(*id)).await?;
    tx.commit().await?;
    Ok(ok(view(row, caller.0.tenant())))
}
