//! What is done with a CloudPod: each begins a job.

use super::pods::keys;
use super::{CloudpodView, view};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, accepted, field, maybe_whole};
use crate::schema;
use crate::state::State;
use actix_web::{post, put, web};
use entities::cloudpods::{self, Act};
use entities::ids::{CloudpodId, ServerId};
use entities::values::TemplateCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(start_cloudpod)
        .service(stop_cloudpod)
        .service(reboot_cloudpod)
        .service(resize_cloudpod)
        .service(reinstall_cloudpod)
        .service(set_root_keys)
        .service(move_cloudpod);
}

pub(super) async fn act(
    caller: &Caller,
    state: &State,
    id: Uuid,
    what: Act,
) -> Result<Answer<CloudpodView>, ApiError> {
    let row = cloudpods::act(&state.db, &caller.0, CloudpodId(id), what).await?;
    Ok(accepted(view(caller, row)?))
}

/// Starts a CloudPod. One that runs stays so.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/start")]
async fn start_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    act(&caller, &state, *id, Act::Start).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodStop {
    /// At once; by default it is asked to shut down, and stopped after a minute.
    #[serde(default)]
    force: bool,
}

/// Stops a CloudPod. One that is stopped stays so.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = CloudpodStop,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/stop")]
async fn stop_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CloudpodStop>,
) -> Result<Answer<CloudpodView>, ApiError> {
    act(&caller, &state, *id, Act::Stop { force: body.force }).await
}

/// Reboots a CloudPod that runs.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/reboot")]
async fn reboot_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    act(&caller, &state, *id, Act::Reboot).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodResize {
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1, maximum = 512)]
    cpu_cores: Option<u32>,
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 128, maximum = 16_777_216)]
    memory_mib: Option<u32>,
    /// Only more than it has.
    #[serde(default, deserialize_with = "maybe_whole")]
    #[schema(minimum = 1024, maximum = 1_073_741_824)]
    disk_mib: Option<u32>,
}

/// Changes cores and memory both ways, and the disk upwards. One that was sold has the size of its plan.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = CloudpodResize,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/resize")]
async fn resize_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CloudpodResize>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let CloudpodResize { cpu_cores, memory_mib, disk_mib } = body;
    act(&caller, &state, *id, Act::Resize { cpu_cores, memory_mib, disk_mib }).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodReinstall {
    /// By default what it was installed with.
    #[schema(schema_with = schema::maybe_template)]
    template: Option<String>,
    /// By default those that it has.
    #[schema(schema_with = schema::maybe_ssh_keys)]
    ssh_keys: Option<Vec<String>>,
}

/// Installs a CloudPod anew: all that is in it, and its snapshots, are lost. Addresses and names stay.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = CloudpodReinstall,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/reinstall")]
async fn reinstall_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CloudpodReinstall>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let template =
        body.template.map(|code| field::<TemplateCode>("template", &code)).transpose()?;
    let ssh_keys = body.ssh_keys.map(keys).transpose()?;
    act(&caller, &state, *id, Act::Reinstall { template, ssh_keys }).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodKeys {
    /// These, and no others; none: nobody logs in with a key.
    #[schema(schema_with = schema::ssh_keys)]
    ssh_keys: Vec<String>,
}

/// Sets root's keys. One that is stopped is started for that, and stopped again.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = CloudpodKeys,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[put("/api/cloudpods/{id}/root-keys")]
async fn set_root_keys(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CloudpodKeys>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let ssh_keys = keys(body.ssh_keys)?;
    act(&caller, &state, *id, Act::RootKeys { ssh_keys }).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloudpodMove {
    /// By default the least loaded of its cluster.
    server_id: Option<Uuid>,
}

/// Moves a CloudPod of the tenant that is acted in to another node of its cluster, for the platform's
/// people. One that runs is stopped for that, and started again.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = CloudpodMove,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/move")]
async fn move_cloudpod(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<CloudpodMove>,
) -> Result<Answer<CloudpodView>, ApiError> {
    act(&caller, &state, *id, Act::Move { server: body.server_id.map(ServerId) }).await
}
