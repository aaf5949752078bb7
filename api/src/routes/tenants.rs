//! Tenants: the tree below the one that is acted in.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, NoBody, Paging, Success, created, maybe_whole, object, ok, page, readable,
};
use crate::schema;
use crate::state::State;
use actix_web::{get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::ids::TenantId;
use entities::tables::tenant;
use entities::tenancy::TenantKind;
use entities::tenants::{self, Change, Limits};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_tenant)
        .service(list_tenants)
        .service(view_tenant)
        .service(update_tenant)
        .service(suspend_tenant)
        .service(resume_tenant);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantNew {
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::name_200)]
    name: String,
    #[schema(schema_with = schema::tenant_kind)]
    kind: TenantKind,
}

/// How much a tenant may have; what is left out is not limited.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsView {
    /// Members, open invitations included.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    members: Option<u32>,
    /// Tenants directly below.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    tenants: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    api_keys: Option<u32>,
    /// Hosting accounts.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    accounts: Option<u32>,
    /// `CloudPods`, those that are ordered included; and of those without an order as many at and below the
    /// tenant.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    cloudpods: Option<u32>,
    /// Zones.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    zones: Option<u32>,
    /// Record sets in each zone.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    records: Option<u32>,
    /// Requests in 15 minutes, of all its people and keys together.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "maybe_whole")]
    #[schema(maximum = 4_294_967_295_u32)]
    requests: Option<u32>,
}

impl From<Limits> for LimitsView {
    fn from(l: Limits) -> Self {
        let Limits { members, tenants, api_keys, accounts, cloudpods, zones, records, requests } =
            l;
        Self { members, tenants, api_keys, accounts, cloudpods, zones, records, requests }
    }
}

impl From<LimitsView> for Limits {
    fn from(l: LimitsView) -> Self {
        let LimitsView {
            members,
            tenants,
            api_keys,
            accounts,
            cloudpods,
            zones,
            records,
            requests,
        } = l;
        Self { members, tenants, api_keys, accounts, cloudpods, zones, records, requests }
    }
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantView {
    id: Uuid,
    parent_id: Option<Uuid>,
    /// `platform`, `reseller` or `customer`.
    #[schema(value_type = String)]
    kind: TenantKind,
    name: String,
    suspended_at: Option<DateTime<Utc>>,
    suspended_reason: Option<String>,
    /// It, or one above it, is suspended: its people can look, and change nothing.
    frozen: bool,
    /// Its members must have a second factor.
    require_mfa: bool,
    limits: LimitsView,
    created_at: DateTime<Utc>,
}

impl From<tenant::Model> for TenantView {
    fn from(row: tenant::Model) -> Self {
        Self {
            limits: Limits::of(&row).unwrap_or_default().into(),
            id: row.id.0,
            parent_id: row.parent_id.map(|id| id.0),
            kind: row.kind,
            name: row.name,
            suspended_at: row.suspended_at,
            suspended_reason: row.suspended_reason,
            frozen: row.frozen,
            require_mfa: row.require_mfa,
            created_at: row.created_at,
        }
    }
}

/// Makes a tenant below the one that is acted in.
#[utoipa::path(
    tag = "tenants",
    request_body = TenantNew,
    responses((status = 201, body = Success<TenantView>))
)]
#[post("/api/tenants")]
async fn create_tenant(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<TenantNew>,
) -> Result<Answer<TenantView>, ApiError> {
    let row = tenants::create_tenant(&state.db, &caller.0, body.kind, &body.name).await?;
    Ok(created(row.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Pages {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    pub(super) page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    pub(super) per_page: Option<u64>,
}

/// The tenant that is acted in and all below it, by name.
#[utoipa::path(
    tag = "tenants",
    params(Pages),
    responses((status = 200, body = Success<Vec<TenantView>>))
)]
#[get("/api/tenants")]
async fn list_tenants(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<TenantView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let (rows, total) =
        tenants::list_tenants(&state.db, &caller.0, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// One tenant: the one that is acted in, or one below it.
#[utoipa::path(
    tag = "tenants",
    params(("id" = Uuid, Path, description = "the tenant")),
    responses((status = 200, body = Success<TenantView>))
)]
#[get("/api/tenants/{id}")]
async fn view_tenant(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<TenantView>, ApiError> {
    Ok(ok(tenants::find_below(&state.db, &caller.0, TenantId(*id)).await?.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantChange {
    #[validate(length(min = 1, max = 200), custom(function = readable))]
    #[schema(schema_with = schema::maybe_name_200)]
    name: Option<String>,
    require_mfa: Option<bool>,
    /// All limits as they shall be; set by whoever is above the tenant.
    #[serde(default, deserialize_with = "object")]
    limits: Option<LimitsView>,
}

/// Changes a tenant; what is left out stays.
#[utoipa::path(
    tag = "tenants",
    params(("id" = Uuid, Path, description = "the tenant")),
    request_body = TenantChange,
    responses((status = 200, body = Success<TenantView>))
)]
#[patch("/api/tenants/{id}")]
async fn update_tenant(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<TenantChange>,
) -> Result<Answer<TenantView>, ApiError> {
    let change = Change {
        name: body.name,
        require_mfa: body.require_mfa,
        limits: body.limits.map(Into::into),
    };
    let row = tenants::update_tenant(&state.db, &caller.0, TenantId(*id), change).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(row.into()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[validate(length(min = 1, max = 500), custom(function = readable))]
    #[schema(schema_with = schema::reason)]
    reason: String,
}

/// Suspends a tenant below one's own, with all below it: its people can look, and change nothing.
#[utoipa::path(
    tag = "tenants",
    params(("id" = Uuid, Path, description = "the tenant")),
    request_body = Reason,
    responses((status = 200, body = Success<TenantView>))
)]
#[post("/api/tenants/{id}/suspend")]
async fn suspend_tenant(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Reason>,
) -> Result<Answer<TenantView>, ApiError> {
    let id = TenantId(*id);
    let row = tenants::suspend_tenant(&state.db, &caller.0, id, &body.reason).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(row.into()))
}

/// Lets a suspended tenant go on.
#[utoipa::path(
    tag = "tenants",
    params(("id" = Uuid, Path, description = "the tenant")),
    responses((status = 200, body = Success<TenantView>))
)]
#[post("/api/tenants/{id}/resume")]
async fn resume_tenant(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    _: NoBody,
) -> Result<Answer<TenantView>, ApiError> {
    let row = tenants::resume_tenant(&state.db, &caller.0, TenantId(*id)).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(row.into()))
}
