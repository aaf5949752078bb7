//! API keys, and acting as somebody else.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{
    Answer, Json, Paging, Success, created, maybe_objects, moment, ok, page, readable, whole,
};
use crate::routes::auth::Nothing;
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, web};
use chrono::{DateTime, Utc};
use entities::ids::{KeyId, SessionId, TenantId, UserId, ZoneId};
use entities::impersonation;
use entities::keys::{self, New};
use entities::tables::api_key;
use entities::tenancy::{Binding, Permission, Role};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(create_key)
        .service(list_keys)
        .service(view_key)
        .service(revoke_key)
        .service(impersonate)
        .service(end_impersonation);
}

/// Record sets of a zone.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DnsBinding {
    zone_id: Uuid,
    /// `@`, relative to the zone, or absolute with a final dot; left out: any.
    #[schema(schema_with = schema::maybe_record_name)]
    name: Option<String>,
    /// Left out: any.
    #[schema(schema_with = schema::maybe_record_type)]
    r#type: Option<String>,
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyNew {
    #[validate(length(min = 1, max = 100), custom(function = readable))]
    #[schema(schema_with = schema::name_100)]
    name: String,
    /// `OWNER`, `ADMIN`, `BILLING`, `MEMBER` or `VIEWER`; at most one's own, now and later.
    #[schema(schema_with = schema::role)]
    role: Role,
    /// What it may be used for, such as `migrations:write`; left out: all that its role may.
    #[serde(default)]
    #[validate(length(max = 50))]
    #[schema(max_items = 50)]
    scopes: BTreeSet<String>,
    /// Addresses and networks that it may be used from; left out: anywhere.
    #[serde(default)]
    #[validate(length(max = 100))]
    #[schema(max_items = 100)]
    addresses: Vec<String>,
    /// Record sets that it may change, and nothing else, as an ACME client needs; left out: whatever its
    /// scopes say. Its scopes must be `dns:read`, `dns:write` or both.
    #[serde(default, deserialize_with = "maybe_objects")]
    #[schema(max_items = 100)]
    dns: Option<Vec<DnsBinding>>,
    /// Left out: never.
    #[validate(custom(function = moment))]
    #[schema(schema_with = schema::maybe_moment)]
    expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
struct KeyView {
    id: Uuid,
    name: String,
    /// How the key's text begins.
    prefix: String,
    role: String,
    #[schema(value_type = Vec<String>)]
    scopes: serde_json::Value,
    #[schema(value_type = Vec<String>)]
    addresses: serde_json::Value,
    /// Record sets that it may change, and nothing else; none: whatever its scopes say.
    dns: Option<Vec<DnsBinding>>,
    expires_at: Option<DateTime<Utc>>,
    /// To the minute.
    last_used_at: Option<DateTime<Utc>>,
    created_by: Option<Uuid>,
    created_at: DateTime<Utc>,
}

impl From<DnsBinding> for Binding {
    fn from(binding: DnsBinding) -> Self {
        Self { zone_id: ZoneId(binding.zone_id), name: binding.name, rtype: binding.r#type }
    }
}

impl From<api_key::Model> for KeyView {
    fn from(row: api_key::Model) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            prefix: format!("{}{}", keys::PREFIX, row.id.0.simple()),
            role: row.role.to_string(),
            scopes: row.scopes,
            addresses: row.addresses,
            dns: row.dns.and_then(|dns| serde_json::from_value(dns).ok()),
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            created_by: row.created_by.map(|id| id.0),
            created_at: row.created_at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct KeyMade {
    /// For the header `Authorization: Bearer KEY`. Shown this once.
    key: String,
    #[serde(flatten)]
    about: KeyView,
}

/// Makes an API key of the tenant that is acted in.
#[utoipa::path(
    tag = "keys",
    request_body = KeyNew,
    responses((status = 201, body = Success<KeyMade>))
)]
#[post("/api/api-keys")]
async fn create_key(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<KeyNew>,
) -> Result<Answer<KeyMade>, ApiError> {
    let new = New {
        name: body.name,
        role: body.role,
        scopes: body.scopes,
        addresses: body.addresses,
        dns: body.dns.unwrap_or_default().into_iter().map(Into::into).collect(),
        expires_at: body.expires_at,
    };
    let (row, key) = keys::create_key(&state.db, &caller.0, new).await?;
    Ok(created(KeyMade { key: key.expose_secret().to_owned(), about: row.into() }))
}

/// The API keys of the tenant that is acted in, newest first.
#[utoipa::path(
    tag = "keys",
    params(Pages),
    responses((status = 200, body = Success<Vec<KeyView>>))
)]
#[get("/api/api-keys")]
async fn list_keys(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<KeyView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::KeysRead).await?;
    let (rows, total) = keys::list_keys(&tx, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(Into::into).collect(), paging.meta(total)))
}

/// One API key.
#[utoipa::path(
    tag = "keys",
    params(("id" = Uuid, Path, description = "the key")),
    responses((status = 200, body = Success<KeyView>))
)]
#[get("/api/api-keys/{id}")]
async fn view_key(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<KeyView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::KeysRead).await?;
    Ok(ok(keys::find_key(&tx, KeyId(*id)).await?.into()))
}

/// Makes an API key worthless, at once.
#[utoipa::path(
    tag = "keys",
    params(("id" = Uuid, Path, description = "the key")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/api-keys/{id}")]
async fn revoke_key(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::KeysRevoke).await?;
    keys::revoke_key(&tx, KeyId(*id)).await?;
    tx.commit().await?;
    Ok(ok(Nothing {}))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImpersonationNew {
    tenant_id: Uuid,
    user_id: Uuid,
    /// 1 to 60.
    #[validate(range(min = 1, max = 60))]
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 60)]
    minutes: u8,
    /// Stands in the tenant's audit trail.
    #[validate(length(min = 5, max = 500), custom(function = readable))]
    #[schema(schema_with = schema::long_reason)]
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct ImpersonationView {
    id: Uuid,
    /// Cannot be renewed.
    access_token: String,
    /// Seconds.
    expires_in: i64,
    email: String,
    tenant: crate::routes::auth::TenantOut,
}

/// Acts as a member of a tenant for some minutes; for the platform's staff. Whatever is done is
/// recorded with both names.
#[utoipa::path(
    tag = "keys",
    request_body = ImpersonationNew,
    responses((status = 201, body = Success<ImpersonationView>))
)]
#[post("/api/impersonations")]
async fn impersonate(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<ImpersonationNew>,
) -> Result<Answer<ImpersonationView>, ApiError> {
    let (tenant, user) = (TenantId(body.tenant_id), UserId(body.user_id));
    let wanted = impersonation::Wanted { tenant, user, minutes: body.minutes, reason: body.reason };
    let begun = impersonation::begin(&state.db, &caller.0, wanted).await?;
    Ok(created(ImpersonationView {
        id: begun.session.0,
        access_token: state.tokens.issue(&begun.claims, begun.secs)?,
        expires_in: begun.secs,
        email: begun.email,
        tenant: crate::routes::auth::TenantOut { id: tenant.0, name: begun.tenant_name },
    }))
}

/// Ends an impersonation that one has begun.
#[utoipa::path(
    tag = "keys",
    params(("id" = Uuid, Path, description = "the impersonation")),
    responses((status = 200, body = Success<Nothing>))
)]
#[delete("/api/impersonations/{id}")]
async fn end_impersonation(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Nothing>, ApiError> {
    impersonation::end(&state.db, &caller.0, SessionId(*id)).await?;
    state.ends.settle(&state.db).await?;
    Ok(ok(Nothing {}))
}
