//! Making, viewing and ending CloudPods.

use super::{CloudpodView, view};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, accepted, field, ok, page};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, web};
use entities::cloudpods::create::PodName;
use entities::cloudpods::{self, Desired, NewPod, Status, traffic};
use entities::error::Error;
use entities::ids::{CloudpodId, ServerId};
use entities::tenancy::Permission;
use entities::values::{PlanCode, SshKey, TemplateCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_cloudpods)
        .service(create_cloudpod)
        .service(view_cloudpod)
        .service(delete_cloudpod)
        .service(retry_cloudpod)
        .service(suspend_cloudpod)
        .service(unsuspend_cloudpod)
        .service(list_traffic);
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct CloudpodFilter {
    /// The first is 1.
    #[param(minimum = 1, maximum = 100_000)]
    page: Option<u64>,
    /// At most 200, by default 50.
    #[param(minimum = 1, maximum = 200)]
    per_page: Option<u64>,
    /// Those of this status; by default all but the deleted ones.
    #[param(schema_with = schema::cloudpod_status)]
    status: Option<Status>,
}

/// The tenant's CloudPods, newest first.
#[utoipa::path(
    tag = "cloudpods",
    params(CloudpodFilter),
    responses((status = 200, body = Success<Vec<CloudpodView>>))
)]
#[get("/api/cloudpods")]
async fn list_cloudpods(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<CloudpodFilter>,
) -> Result<Answer<Vec<CloudpodView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let tx = state.db.read(&caller.0, Permission::CloudpodsRead).await?;
    let (rows, total) =
        cloudpods::list_pods(&tx, query.status, paging.offset(), paging.per_page).await?;
    let views = rows.into_iter().map(|row| view(&caller, row)).collect::<Result<_, Error>>()?;
    Ok(page(views, paging.meta(total)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodNew {
    /// What the container is called: a host name of one or more labels. Where a zone of the tenant holds
    /// it, the container's addresses are published there.
    #[schema(schema_with = schema::pod_name)]
    hostname: String,
    /// The code of a plan, see `GET /api/products?kind=cloudpod_plan`.
    #[schema(schema_with = schema::plan_code)]
    plan: String,
    /// What it is installed with; by default what the plan says.
    #[schema(schema_with = schema::maybe_template)]
    template: Option<String>,
    /// Only on this server; by default on the best that has room.
    server_id: Option<Uuid>,
    /// Root's keys, as lines of `authorized_keys` without options.
    #[schema(schema_with = schema::maybe_ssh_keys)]
    ssh_keys: Option<Vec<String>>,
}

/// Makes a container of a plan. Its place, number and addresses are taken at once; a job makes it.
#[utoipa::path(
    tag = "cloudpods",
    request_body = CloudpodNew,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods")]
async fn create_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<CloudpodNew>,
) -> Result<Answer<CloudpodView>, ApiError> {
    caller.0.require_write(Permission::CloudpodsWrite)?;
    let new = NewPod {
        hostname: PodName::parse(&body.hostname)?,
        plan: field::<PlanCode>("plan", &body.plan)?,
        template: body.template.map(|code| field::<TemplateCode>("template", &code)).transpose()?,
        server: body.server_id.map(ServerId),
        ssh_keys: keys(body.ssh_keys.unwrap_or_default())?,
    };
    let row = cloudpods::create_pod(&state.db, &caller.0, new).await?;
    Ok(accepted(view(&caller, row)?))
}

/// Each is named in an error by its place.
pub(super) fn keys(lines: Vec<String>) -> Result<Vec<SshKey>, Error> {
    let named = |(nth, line): (usize, String)| {
        SshKey::parse(&line).map_err(|error| Error::field(&format!("ssh_keys/{nth}"), error.rule))
    };
    lines.into_iter().enumerate().map(named).collect()
}

/// A CloudPod.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 200, body = Success<CloudpodView>))
)]
#[get("/api/cloudpods/{id}")]
async fn view_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CloudpodsRead).await?;
    let row = cloudpods::find_pod(&tx, CloudpodId(*id)).await?;
    Ok(ok(view(&caller, row)?))
}

/// Ends a CloudPod with all that belongs to it: container, snapshots, backups, addresses, names. One that
/// is paid for by a subscription ends with that. Repeating it changes nothing.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[delete("/api/cloudpods/{id}")]
async fn delete_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let wanted = (CloudpodId(*id), Desired::Deleted);
    let row = cloudpods::request(&state.db, &caller.0, wanted, None).await?;
    Ok(accepted(view(&caller, row)?))
}

/// Tries anew to make a CloudPod that failed.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/retry")]
async fn retry_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let row = cloudpods::retry(&state.db, &caller.0, CloudpodId(*id)).await?;
    Ok(accepted(view(&caller, row)?))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodReason {
    /// The customer sees why a CloudPod is suspended.
    #[schema(schema_with = schema::title)]
    reason: String,
}

/// Suspends a CloudPod of the tenant that is acted in, for the platform's people: it is stopped, and
/// nobody starts it. Repeating it changes nothing.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = CloudpodReason,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/suspend")]
async fn suspend_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CloudpodReason>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let reason = field("reason", &body.reason)?;
    let wanted = (CloudpodId(*id), Desired::Suspended);
    let row = cloudpods::request(&state.db, &caller.0, wanted, Some(&reason)).await?;
    Ok(accepted(view(&caller, row)?))
}

/// Opens a suspended CloudPod again, for the platform's people. It runs when it ran before.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/unsuspend")]
async fn unsuspend_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let wanted = (CloudpodId(*id), Desired::Active);
    let row = cloudpods::request(&state.db, &caller.0, wanted, None).await?;
    Ok(accepted(view(&caller, row)?))
}

/// The traffic of a month, in bytes, as the container's network counts it.
#[derive(Debug, Serialize, ToSchema)]
struct TrafficView {
    /// `2026-11`.
    month: String,
    bytes_in: i64,
    bytes_out: i64,
}

/// The traffic of a CloudPod, the newest month first, for two years.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 200, body = Success<Vec<TrafficView>>))
)]
#[get("/api/cloudpods/{id}/traffic")]
async fn list_traffic(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Vec<TrafficView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CloudpodsRead).await?;
    let rows = traffic::list_traffic(&tx, CloudpodId(*id)).await?;
    let views = rows.into_iter().map(|row| TrafficView {
        month: row.month.format("%Y-%m").to_string(),
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
    });
    Ok(ok(views.collect()))
}
