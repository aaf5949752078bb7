//! Address pools, for the platform's people.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Paging, Success, created, field, maybe_whole, ok, page};
use crate::routes::tenants::Pages;
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, patch, post, web};
use chrono::{DateTime, Utc};
use entities::cloudpods::pools::{self, Change, NewPool, Usage};
use entities::error::Error;
use entities::ids::PoolId;
use entities::tables::ip_pool;
use entities::tenancy::Permission;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

/// A day: what talks to an address that has gone gives up in that time.
const QUARANTINE_SECS: u32 = 86_400;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_pools)
        .service(create_pool)
        .service(view_pool)
        .service(update_pool)
        .service(delete_pool);
}

#[derive(Debug, Serialize, ToSchema)]
struct PoolView {
    id: Uuid,
    name: String,
    /// 4 or 6.
    family: i32,
    network: String,
    gateway: String,
    /// The first and the last that are given.
    first: String,
    last: String,
    /// Only on nodes of this cluster.
    cluster: Option<String>,
    /// Only on servers of this location.
    location: Option<String>,
    /// How long an address rests before somebody else has it.
    quarantine_secs: i32,
    /// Nothing more is taken out of it.
    closed: bool,
    /// How many may be given, how many are, and how many rest.
    size: u64,
    held: u64,
    resting: u64,
    created_at: DateTime<Utc>,
}

fn view((row, usage): (ip_pool::Model, Usage)) -> PoolView {
    PoolView {
        id: row.id.0,
        name: row.name,
        family: row.family,
        network: row.network,
        gateway: row.gateway,
        first: row.first,
        last: row.last,
        cluster: row.cluster,
        location: row.location,
        quarantine_secs: row.quarantine_secs,
        closed: row.closed,
        size: usage.size,
        held: usage.held,
        resting: usage.resting,
        created_at: row.created_at,
    }
}

/// The address pools, by name, and how full they are.
#[utoipa::path(
    tag = "servers",
    params(Pages),
    responses((status = 200, body = Success<Vec<PoolView>>))
)]
#[get("/api/ip-pools")]
async fn list_pools(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<Pages>,
) -> Result<Answer<Vec<PoolView>>, ApiError> {
    let paging = Paging::of(query.page, query.per_page)?;
    let (rows, total) =
        pools::list_pools(&state.db, &caller.0, paging.offset(), paging.per_page).await?;
    Ok(page(rows.into_iter().map(view).collect(), paging.meta(total)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PoolNew {
    #[schema(schema_with = schema::title)]
    name: String,
    /// `192.0.2.0/24` or `2001:db8::/64`: the network that the containers are in.
    network: String,
    gateway: String,
    /// By default the first that a host may have; the gateway is never given.
    first: Option<String>,
    /// By default the last that a host may have.
    last: Option<String>,
    /// Only on nodes of this cluster.
    #[validate(length(min = 1, max = 63))]
    #[schema(schema_with = schema::maybe_label)]
    cluster: Option<String>,
    /// Only on servers of this location.
    #[validate(length(min = 1, max = 63))]
    #[schema(schema_with = schema::maybe_label)]
    location: Option<String>,
    /// How long an address rests before somebody else has it; by default a day.
    #[validate(range(max = 31_536_000))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 31_536_000)]
    quarantine_secs: Option<u32>,
}

/// Makes a pool. A container has an address of each family that a pool fits its server for.
#[utoipa::path(
    tag = "servers",
    request_body = PoolNew,
    responses((status = 201, body = Success<PoolView>))
)]
#[post("/api/ip-pools")]
async fn create_pool(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<PoolNew>,
) -> Result<Answer<PoolView>, ApiError> {
    caller.0.require_write(Permission::ServersWrite)?;
    let network: IpNet = body
        .network
        .parse()
        .map_err(|_e| Error::field("network", "must be a network such as 192.0.2.0/24"))?;
    let address = |path: &str, text: &str| {
        text.parse::<IpAddr>().map_err(|_e| Error::field(path, "must be an address"))
    };
    let new = NewPool {
        name: field("name", &body.name)?,
        network,
        gateway: address("gateway", &body.gateway)?,
        first: body.first.map(|text| address("first", &text)).transpose()?,
        last: body.last.map(|text| address("last", &text)).transpose()?,
        cluster: body.cluster,
        location: body.location,
        quarantine_secs: body.quarantine_secs.unwrap_or(QUARANTINE_SECS),
    };
    let row = pools::create_pool(&state.db, &caller.0, new).await?;
    let size = pools::size_of(&row)?;
    Ok(created(view((row, Usage { size, held: 0, resting: 0 }))))
}

/// A pool.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the pool")),
    responses((status = 200, body = Success<PoolView>))
)]
#[get("/api/ip-pools/{id}")]
async fn view_pool(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<PoolView>, ApiError> {
    Ok(ok(view(pools::find_pool(&state.db, &caller.0, PoolId(*id)).await?)))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PoolPatch {
    /// A closed pool gives nothing more out. While all IPv4 pools of a site are closed, no CloudPod is
    /// made there.
    closed: Option<bool>,
    #[validate(range(max = 31_536_000))]
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 0, maximum = 31_536_000)]
    quarantine_secs: Option<u32>,
}

/// Changes a pool.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the pool")),
    request_body = PoolPatch,
    responses((status = 200, body = Success<PoolView>))
)]
#[patch("/api/ip-pools/{id}")]
async fn update_pool(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<PoolPatch>,
) -> Result<Answer<PoolView>, ApiError> {
    let change = Change { closed: body.closed, quarantine_secs: body.quarantine_secs };
    pools::update_pool(&state.db, &caller.0, PoolId(*id), change).await?;
    Ok(ok(view(pools::find_pool(&state.db, &caller.0, PoolId(*id)).await?)))
}

#[derive(Debug, Serialize, ToSchema)]
struct PoolGone {
    id: Uuid,
}

/// Removes a pool out of which nobody has an address.
#[utoipa::path(
    tag = "servers",
    params(("id" = Uuid, Path, description = "the pool")),
    responses((status = 200, body = Success<PoolGone>))
)]
#[delete("/api/ip-pools/{id}")]
async fn delete_pool(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<PoolGone>, ApiError> {
    pools::delete_pool(&state.db, &caller.0, PoolId(*id)).await?;
    Ok(ok(PoolGone { id: *id }))
}
