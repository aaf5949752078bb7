//! Tenants and their members.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, created, ok, printable};
use crate::state::State;
use actix_web::{get, post, web};
use chrono::{DateTime, Utc};
use entities::accounts;
use entities::error::Error;
use entities::tables::tenant;
use entities::tenancy::{Permission, Role, TenantKind};
use entities::values::MailAddress;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(create_tenant).service(list_tenants).service(add_member);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantNew {
    #[validate(length(min = 1, max = 200), custom(function = printable))]
    name: String,
    /// `reseller` or `customer`.
    #[schema(value_type = String)]
    kind: TenantKind,
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
    created_at: DateTime<Utc>,
}

impl From<tenant::Model> for TenantView {
    fn from(row: tenant::Model) -> Self {
        Self {
            id: row.id.0,
            parent_id: row.parent_id.map(|id| id.0),
            kind: row.kind,
            name: row.name,
            created_at: row.created_at,
        }
    }
}

/// Makes a tenant below the one that is acted in.
#[utoipa::path(
    tag = "tenants",
    request_body = TenantNew,
    responses((status = 201, body = Success<TenantView>), (status = "4XX", body = crate::error::Failure))
)]
#[post("/api/tenants")]
async fn create_tenant(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<TenantNew>,
) -> Result<Answer<TenantView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::TenantWrite).await?;
    let id = accounts::create_tenant(&state.db, &tx, body.kind, &body.name).await?;
    let tenants = accounts::list_tenants(&state.db, &tx).await?;
    let row = tenants.into_iter().find(|row| row.id == id).ok_or(Error::NotFound("tenant"))?;
    Ok(created(row.into()))
}

/// The tenant that is acted in and all below it.
#[utoipa::path(
    tag = "tenants",
    responses((status = 200, body = Success<Vec<TenantView>>), (status = "4XX", body = crate::error::Failure))
)]
#[get("/api/tenants")]
async fn list_tenants(
    caller: Caller,
    state: web::Data<State>,
) -> Result<Answer<Vec<TenantView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::TenantRead).await?;
    let rows = accounts::list_tenants(&state.db, &tx).await?;
    Ok(ok(rows.into_iter().map(Into::into).collect()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberNew {
    #[validate(length(min = 3, max = 320))]
    email: String,
    /// 8 to 72 bytes.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
    /// `OWNER`, `ADMIN`, `BILLING`, `MEMBER` or `VIEWER`; at most one's own.
    #[schema(value_type = String)]
    role: Role,
}

#[derive(Debug, Serialize, ToSchema)]
struct MemberView {
    user_id: Uuid,
    email: String,
    role: String,
}

/// Makes a new person a member of a tenant: the one that is acted in, or one below it.
#[utoipa::path(
    tag = "tenants",
    params(("id" = Uuid, Path, description = "the tenant")),
    request_body = MemberNew,
    responses((status = 201, body = Success<MemberView>), (status = "4XX", body = crate::error::Failure))
)]
#[post("/api/tenants/{id}/members")]
async fn add_member(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<MemberNew>,
) -> Result<Answer<MemberView>, ApiError> {
    let email =
        MailAddress::parse(&body.email).map_err(|e| Error::field("email", e.to_string()))?;
    let ctx = accounts::act_in(&state.db, &caller.0, entities::ids::TenantId(*id)).await?;
    ctx.require(Permission::MembersWrite)?;
    let hash = state.passwords.hash(&body.password).await?;
    let user = accounts::add_member(&state.db, &ctx, email.as_str(), hash, body.role).await?;
    Ok(created(MemberView {
        user_id: user.0,
        email: email.to_string(),
        role: body.role.to_string(),
    }))
}
