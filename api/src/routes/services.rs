//! Services: what was made for orders.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, field, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{get, post, web};
use chrono::{DateTime, Utc};
use entities::catalogue::Kind;
use entities::error::Error;
use entities::ids::{OrderId, ServiceId};
use entities::services::{self, Desired, State as ServiceState};
use entities::tables::service;
use entities::tenancy::Permission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_services)
        .service(view_service)
        .service(suspend_service)
        .service(unsuspend_service)
        .service(retry_service);
}

/// One unit of something that was sold.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceView {
    id: Uuid,
    /// The buyer.
    tenant_id: Uuid,
    order_id: Uuid,
    order_item_id: Uuid,
    /// Which of the line's units it is, from 1 on.
    unit: i32,
    #[schema(schema_with = schema::plan_kind)]
    kind: Kind,
    /// The plan's numbers, with those of the order's add-ons.
    #[schema(schema_with = schema::specification)]
    specification: Value,
    /// What it shall be; a job makes it so.
    #[schema(schema_with = schema::service_desired)]
    desired: Desired,
    /// What it is.
    #[schema(schema_with = schema::service_state)]
    state: ServiceState,
    /// Why it is suspended or terminated.
    reason: Option<String>,
    /// Why the last attempt failed.
    error: Option<String>,
    /// Of a hosting account, once it is known.
    domain: Option<String>,
    username: Option<String>,
    account_id: Option<Uuid>,
    /// The job that works on it, or did so last.
    job_id: Option<Uuid>,
    /// Where the last backup of a terminated account lies on its server; shown to the platform's staff.
    backup_path: Option<String>,
    /// When it was made.
    made_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What goes wrong on a server is for its operators; a customer is told what it means for them.
fn shown_error(caller: &Caller, row: &service::Model) -> Option<String> {
    let error = row.error.clone()?;
    if caller.0.is_platform_staff() {
        return Some(error);
    }
    let text = match row.state {
        ServiceState::Failed => "It could not be made. Your provider knows of it.",
        _ => "The last attempt failed. There will be another one by itself.",
    };
    Some(text.to_owned())
}

fn view(caller: &Caller, row: service::Model) -> ServiceView {
    ServiceView {
        error: shown_error(caller, &row),
        id: row.id.0,
        tenant_id: row.tenant_id.0,
        order_id: row.order_id.0,
        order_item_id: row.order_item_id.0,
        unit: row.unit,
        kind: row.kind,
        specification: row.specification,
        desired: row.desired,
        state: row.state,
        reason: row.reason,
        domain: row.domain,
        username: row.username,
        account_id: row.account_id.map(|id| id.0),
        job_id: row.job_id.map(|id| id.0),
        backup_path: row.backup_path.filter(|_| caller.0.is_platform_staff()),
        made_at: row.made_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ServiceFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Those of this order.
    order_id: Option<Uuid>,
}

/// The tenant's services, newest first.
#[utoipa::path(
    tag = "services",
    params(ServiceFilter),
    responses((status = 200, body = Success<Vec<ServiceView>>))
)]
#[get("/api/services")]
async fn list_services(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<ServiceFilter>,
) -> Result<Answer<Vec<ServiceView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let order = query.order_id.map(OrderId);
    let tx = state.db.read(&caller.0, Permission::ServicesRead).await?;
    let (rows, total) =
        services::list_services(&tx, order, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(|row| view(&caller, row)).collect();
    Ok(page(views, paging.meta(total)))
}

/// A service.
#[utoipa::path(
    tag = "services",
    params(("id" = Uuid, Path, description = "the service")),
    responses((status = 200, body = Success<ServiceView>))
)]
#[get("/api/services/{id}")]
async fn view_service(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<ServiceView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::ServicesRead).await?;
    let row = services::find_service(&tx, ServiceId(*id)).await?;
    Ok(ok(view(&caller, row)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Why {
    /// The customer sees why a service is suspended.
    #[schema(schema_with = schema::title)]
    reason: String,
}

/// Suspends a service of any tenant, for the platform's people: sites answer 503, mail waits, logins are
/// refused, and nothing is deleted. Repeating it changes nothing.
#[utoipa::path(
    tag = "services",
    params(("id" = Uuid, Path, description = "the service")),
    request_body = Why,
    responses((status = 200, body = Success<ServiceView>))
)]
#[post("/api/services/{id}/suspend")]
async fn suspend_service(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Why>,
) -> Result<Answer<ServiceView>, ApiError> {
    Ok(request(&caller, &state, (ServiceId(*id), Desired::Suspended), &body).await?)
}

/// Lets a suspended service of any tenant run again, for the platform's people. Repeating it changes
/// nothing.
#[utoipa::path(
    tag = "services",
    params(("id" = Uuid, Path, description = "the service")),
    request_body = Why,
    responses((status = 200, body = Success<ServiceView>))
)]
#[post("/api/services/{id}/unsuspend")]
async fn unsuspend_service(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Why>,
) -> Result<Answer<ServiceView>, ApiError> {
    Ok(request(&caller, &state, (ServiceId(*id), Desired::Active), &body).await?)
}

async fn request(
    caller: &Caller,
    state: &State,
    (id, desired): (ServiceId, Desired),
    body: &Why,
) -> Result<Answer<ServiceView>, Error> {
    let reason = field("reason", &body.reason)?;
    let row = services::request(&state.db, &caller.0, (id, desired), &reason).await?;
    Ok(ok(view(caller, row)))
}

/// Tries anew to make a service of any tenant that could not be made, for the platform's people.
#[utoipa::path(
    tag = "services",
    params(("id" = Uuid, Path, description = "the service")),
    request_body = Why,
    responses((status = 200, body = Success<ServiceView>))
)]
#[post("/api/services/{id}/retry")]
async fn retry_service(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Why>,
) -> Result<Answer<ServiceView>, ApiError> {
    let reason = field("reason", &body.reason)?;
    let row = services::retry(&state.db, &caller.0, ServiceId(*id), &reason).await?;
    Ok(ok(view(&caller, row)))
}
