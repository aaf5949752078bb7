//! Categories of the catalogue.

use super::position;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, created, field, maybe_whole, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::catalogue::categories::{self, Change, NewCategory};
use entities::ids::CategoryId;
use entities::tables::category;
use entities::tenancy::Permission;
use entities::values::Prose;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_category)
        .service(list_categories)
        .service(view_category)
        .service(update_category)
        .service(archive_category);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CategoryNew {
    #[schema(schema_with = schema::title)]
    name: String,
    #[schema(schema_with = schema::maybe_prose)]
    description: Option<String>,
    /// The lower, the further in front; by default 0.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    position: Option<i32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct CategoryView {
    id: Uuid,
    /// The tenant that sells.
    seller_id: Uuid,
    name: String,
    description: String,
    position: i32,
    archived_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<category::Model> for CategoryView {
    fn from(row: category::Model) -> Self {
        Self {
            id: row.id.0,
            seller_id: row.tenant_id.0,
            name: row.name,
            description: row.description,
            position: row.position,
            archived_at: row.archived_at,
            created_at: row.created_at,
        }
    }
}

/// Makes a category; of several that are in use each has a name of its own.
#[utoipa::path(
    tag = "catalogue",
    request_body = CategoryNew,
    responses((status = 201, body = Success<CategoryView>))
)]
#[post("/api/categories")]
async fn create_category(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<CategoryNew>,
) -> Result<Answer<CategoryView>, ApiError> {
    let new = NewCategory {
        name: field("name", &body.name)?,
        description: match body.description {
            Some(text) => field("description", &text)?,
            None => Prose::default(),
        },
        position: position(body.position)?.unwrap_or_default(),
    };
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = categories::create_category(&tx, new).await?;
    tx.commit().await?;
    Ok(created(row.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct CategoryFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// The tenant's own that are archived, too.
    archived: Option<bool>,
}

/// The categories of the tenant and of those above it, by position and name.
#[utoipa::path(
    tag = "catalogue",
    params(CategoryFilter),
    responses((status = 200, body = Success<Vec<CategoryView>>))
)]
#[get("/api/categories")]
async fn list_categories(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<CategoryFilter>,
) -> Result<Answer<Vec<CategoryView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::CatalogueRead).await?;
    let archived = query.archived.unwrap_or_default();
    let (rows, total) =
        categories::list_categories(&tx, archived, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// A category.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the category")),
    responses((status = 200, body = Success<CategoryView>))
)]
#[get("/api/categories/{id}")]
async fn view_category(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CategoryView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CatalogueRead).await?;
    Ok(ok(categories::find_category(&tx, CategoryId(*id)).await?.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CategoryChange {
    #[schema(schema_with = schema::maybe_title)]
    name: Option<String>,
    #[schema(schema_with = schema::maybe_prose)]
    description: Option<String>,
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    position: Option<i32>,
}

/// Changes a category of the tenant's own; what is left out stays.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the category")),
    request_body = CategoryChange,
    responses((status = 200, body = Success<CategoryView>))
)]
#[patch("/api/categories/{id}")]
async fn update_category(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CategoryChange>,
) -> Result<Answer<CategoryView>, ApiError> {
    let change = Change {
        name: body.name.map(|text| field("name", &text)).transpose()?,
        description: body.description.map(|text| field("description", &text)).transpose()?,
        position: position(body.position)?,
    };
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = categories::update_category(&tx, CategoryId(*id), change).await?;
    tx.commit().await?;
    Ok(ok(row.into()))
}

/// Archives a category of the tenant's own. Its products stay on sale.
#[utoipa::path(
    tag = "catalogue",
    params(("id" = Uuid, Path, description = "the category")),
    responses((status = 200, body = Success<CategoryView>))
)]
#[delete("/api/categories/{id}")]
async fn archive_category(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CategoryView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::CatalogueWrite).await?;
    let row = categories::archive_category(&tx, CategoryId(*id)).await?;
    tx.commit().await?;
    Ok(ok(row.into()))
}
