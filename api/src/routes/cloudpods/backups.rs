//! Snapshots and backups of CloudPods.

use super::actions::act;
use super::{CloudpodView, view};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, field, ok, whole};
use crate::schema;
use crate::state::State;
use actix_web::{delete, get, post, put, web};
use chrono::{DateTime, Utc};
use entities::cloudpods::Act;
use entities::cloudpods::backups::{self, Schedule};
use entities::error::Error;
use entities::ids::{BackupId, CloudpodId};
use entities::tenancy::Permission;
use entities::values::SnapshotName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_snapshots)
        .service(create_snapshot)
        .service(roll_back_snapshot)
        .service(delete_snapshot)
        .service(list_backups)
        .service(create_backup)
        .service(set_schedule)
        .service(remove_schedule)
        .service(restore_backup)
        .service(delete_backup);
}

#[derive(Debug, Serialize, ToSchema)]
struct SnapshotView {
    name: String,
    description: String,
    /// `making`, `ready` or `deleting`.
    state: String,
    created_at: DateTime<Utc>,
}

/// The snapshots of a CloudPod, newest first.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 200, body = Success<Vec<SnapshotView>>))
)]
#[get("/api/cloudpods/{id}/snapshots")]
async fn list_snapshots(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Vec<SnapshotView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CloudpodsRead).await?;
    let rows = backups::list_snapshots(&tx, CloudpodId(*id)).await?;
    let views = rows.into_iter().map(|row| SnapshotView {
        name: row.name,
        description: row.description,
        state: row.state,
        created_at: row.created_at,
    });
    Ok(ok(views.collect()))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct SnapshotNew {
    #[schema(schema_with = schema::snapshot_name)]
    name: String,
    #[schema(schema_with = schema::maybe_title)]
    description: Option<String>,
}

/// Makes a snapshot, at most ten.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = SnapshotNew,
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/snapshots")]
async fn create_snapshot(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<SnapshotNew>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let name = field::<SnapshotName>("name", &body.name)?;
    let description = body.description.map(|text| field("description", &text)).transpose()?;
    act(&caller, &state, *id, Act::Snapshot { name, description }).await
}

/// What cannot be the name of a snapshot is the name of none.
fn in_path(name: &str) -> Result<SnapshotName, ApiError> {
    Ok(SnapshotName::parse(name).map_err(|_invalid| Error::NotFound("snapshot"))?)
}

/// Goes back to a snapshot: what was changed since is lost.
#[utoipa::path(
    tag = "cloudpods",
    params(
        ("id" = Uuid, Path, description = "the CloudPod"),
        ("name" = String, Path, description = "the snapshot")
    ),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/snapshots/{name}/rollback")]
async fn roll_back_snapshot(
    caller: Caller,
    state: web::Data<State>,
    path: web::Path<(Uuid, String)>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let (id, name) = path.into_inner();
    let name = in_path(&name)?;
    act(&caller, &state, id, Act::Rollback { name }).await
}

/// Removes a snapshot.
#[utoipa::path(
    tag = "cloudpods",
    params(
        ("id" = Uuid, Path, description = "the CloudPod"),
        ("name" = String, Path, description = "the snapshot")
    ),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[delete("/api/cloudpods/{id}/snapshots/{name}")]
async fn delete_snapshot(
    caller: Caller,
    state: web::Data<State>,
    path: web::Path<(Uuid, String)>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let (id, name) = path.into_inner();
    let name = in_path(&name)?;
    act(&caller, &state, id, Act::DeleteSnapshot { name }).await
}

#[derive(Debug, Serialize, ToSchema)]
struct PodBackupView {
    id: Uuid,
    /// `making`, `ready` or `deleting`.
    state: String,
    /// Whether it was made by the clock, and goes by it.
    scheduled: bool,
    bytes: Option<i64>,
    created_at: DateTime<Utc>,
}

/// The backups of a CloudPod, newest first.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 200, body = Success<Vec<PodBackupView>>))
)]
#[get("/api/cloudpods/{id}/backups")]
async fn list_backups(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Vec<PodBackupView>>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::CloudpodsRead).await?;
    let rows = backups::list_backups(&tx, CloudpodId(*id)).await?;
    let views = rows.into_iter().map(|row| PodBackupView {
        id: row.id.0,
        state: row.state,
        scheduled: row.scheduled,
        bytes: row.bytes,
        created_at: row.created_at,
    });
    Ok(ok(views.collect()))
}

/// Makes a backup now, which stays until somebody removes it.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/backups")]
async fn create_backup(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    act(&caller, &state, *id, Act::Backup { scheduled: false }).await
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct BackupSchedule {
    #[validate(range(min = 1, max = 8760))]
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 8760)]
    every_hours: u32,
    /// The oldest beyond goes.
    #[validate(range(min = 1, max = 100))]
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 100)]
    keep: u32,
}

/// Lets a CloudPod be backed up by the clock.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    request_body = BackupSchedule,
    responses((status = 200, body = Success<CloudpodView>))
)]
#[put("/api/cloudpods/{id}/backup-schedule")]
async fn set_schedule(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<BackupSchedule>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let schedule = Some(Schedule { every_hours: body.every_hours, keep: body.keep });
    let row = backups::set_schedule(&state.db, &caller.0, CloudpodId(*id), schedule).await?;
    Ok(ok(view(&caller, row)?))
}

/// Makes no more backups by the clock; those that there are stay.
#[utoipa::path(
    tag = "cloudpods",
    params(("id" = Uuid, Path, description = "the CloudPod")),
    responses((status = 200, body = Success<CloudpodView>))
)]
#[delete("/api/cloudpods/{id}/backup-schedule")]
async fn remove_schedule(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let row = backups::set_schedule(&state.db, &caller.0, CloudpodId(*id), None).await?;
    Ok(ok(view(&caller, row)?))
}

/// Replaces all that is in a CloudPod by what a backup holds. Its size, addresses and names stay, its
/// snapshots go.
#[utoipa::path(
    tag = "cloudpods",
    params(
        ("id" = Uuid, Path, description = "the CloudPod"),
        ("backup_id" = Uuid, Path, description = "the backup")
    ),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[post("/api/cloudpods/{id}/backups/{backup_id}/restore")]
async fn restore_backup(
    caller: Caller,
    state: web::Data<State>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let (id, backup) = path.into_inner();
    act(&caller, &state, id, Act::Restore { backup: BackupId(backup) }).await
}

/// Removes a backup.
#[utoipa::path(
    tag = "cloudpods",
    params(
        ("id" = Uuid, Path, description = "the CloudPod"),
        ("backup_id" = Uuid, Path, description = "the backup")
    ),
    responses((status = 202, body = Success<CloudpodView>))
)]
#[delete("/api/cloudpods/{id}/backups/{backup_id}")]
async fn delete_backup(
    caller: Caller,
    state: web::Data<State>,
    path: web::Path<(Uuid, Uuid)>,
) -> Result<Answer<CloudpodView>, ApiError> {
    let (id, backup) = path.into_inner();
    act(&caller, &state, id, Act::DeleteBackup { backup: BackupId(backup) }).await
}
