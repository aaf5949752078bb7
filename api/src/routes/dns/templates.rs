//! Templates of records.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, Paging, Success, created, field, maybe_objects, maybe_whole, objects, ok, page,
};
use crate::routes::auth::Nothing;
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::dns::templates::{self, Change, NewTemplate, TemplateSet};
use entities::error::Error;
use entities::ids::TemplateId;
use entities::tables::dns_template;
use entities::tenancy::Permission;
use entities::values::Prose;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_template)
        .service(list_templates)
        .service(view_template)
        .service(update_template)
        .service(delete_template);
}

/// A record set with placeholders: `{domain}`, `{ipv4}`, `{ipv6}` and `{hostname}`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TemplateRecords {
    /// `@`, relative to the zone, or absolute with a final dot.
    #[schema(schema_with = schema::record_name)]
    name: String,
    #[schema(schema_with = schema::record_type)]
    r#type: String,
    /// Seconds; left out: the zone's default.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 60, maximum = 604_800)]
    ttl: Option<u32>,
    #[schema(schema_with = schema::records)]
    records: Vec<String>,
}

impl From<TemplateRecords> for TemplateSet {
    fn from(set: TemplateRecords) -> Self {
        Self { name: set.name, rtype: set.r#type, ttl: set.ttl, records: set.records }
    }
}

impl From<TemplateSet> for TemplateRecords {
    fn from(set: TemplateSet) -> Self {
        Self { name: set.name, r#type: set.rtype, ttl: set.ttl, records: set.records }
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct TemplateNew {
    #[schema(schema_with = schema::title)]
    name: String,
    #[schema(schema_with = schema::maybe_prose)]
    description: Option<String>,
    #[serde(deserialize_with = "objects")]
    #[schema(min_items = 1, max_items = 200)]
    records: Vec<TemplateRecords>,
}

#[derive(Debug, Serialize, ToSchema)]
struct TemplateView {
    id: Uuid,
    /// Whose it is: this tenant's, or one above it.
    tenant_id: Uuid,
    name: String,
    description: String,
    records: Vec<TemplateRecords>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

fn view(row: dns_template::Model) -> Result<TemplateView, Error> {
    let records = templates::sets_of(&row)?.into_iter().map(Into::into).collect();
    Ok(TemplateView {
        id: row.id.0,
        tenant_id: row.tenant_id.0,
        name: row.name,
        description: row.description,
        records,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

/// Makes a template. Tenants below see it and can apply it.
#[utoipa::path(
    tag = "dns",
    request_body = TemplateNew,
    responses((status = 201, body = Success<TemplateView>))
)]
#[post("/api/dns/templates")]
async fn create_template(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<TemplateNew>,
) -> Result<Answer<TemplateView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let new = NewTemplate {
        name: field("name", &body.name)?,
        description: match body.description {
            Some(text) => field("description", &text)?,
            None => Prose::default(),
        },
        records: body.records.into_iter().map(Into::into).collect(),
    };
    let row = templates::create_template(&tx, new).await?;
    tx.commit().await?;
    Ok(created(view(row)?))
}

/// The templates of the tenant and of those above it, by name.
#[utoipa::path(
    tag = "dns",
    params(Pages),
    responses((status = 200, body = Success<Vec<TemplateView>>))
)]
#[get("/api/dns/templates")]
async fn list_templates(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<TemplateView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::ZonesRead).await?;
    let (rows, total) = templates::list_templates(&tx, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(page(views, paging.meta(total)))
}

/// A template.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the template")),
    responses((status = 200, body = Success<TemplateView>))
)]
#[get("/api/dns/templates/{id}")]
async fn view_template(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<TemplateView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::ZonesRead).await?;
    Ok(ok(view(templates::find_template(&tx, TemplateId(*id)).await?)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct TemplateChange {
    #[schema(schema_with = schema::maybe_title)]
    name: Option<String>,
    #[schema(schema_with = schema::maybe_prose)]
    description: Option<String>,
    #[serde(default, deserialize_with = "maybe_objects")]
    #[schema(min_items = 1, max_items = 200)]
    records: Option<Vec<TemplateRecords>>,
}

/// Changes a template of the tenant's own; what is left out stays, and so do zones that it was applied to.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the template")),
    request_body = TemplateChange,
    responses((status = 200, body = Success<TemplateView>))
)]
#[patch("/api/dns/templates/{id}")]
async fn update_template(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<TemplateChange>,
) -> Result<Answer<TemplateView>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    let change = Change {
        name: body.name.map(|text| field("name", &text)).transpose()?,
        description: body.description.map(|text| field("description", &text)).transpose()?,
        records: body.records.map(|sets| sets.into_iter().map(Into::into).collect()),
    };
    let row = templates::update_template(&tx, TemplateId(*id), change).await?;
    tx.commit().await?;
    Ok(ok(view(row)?))
}

/// Removes a template of the tenant's own; zones that it was applied to stay as they are.
#[utoipa::path(
    tag = "dns",
    params(("id" = Uuid, Path, description = "the template")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/dns/templates/{id}")]
async fn delete_template(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::ZonesWrite).await?;
    templates::delete_template(&tx, TemplateId(*id)).await?;
    tx.commit().await?;
    Ok(ok(Nothing {}))
}
