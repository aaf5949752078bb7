//! Migrations of cPanel accounts: validate → analyze → plan → preview → apply → validate-complete,
//! and rollback.

use crate::auth::Caller;
use crate::error::ApiError;
use crate::extract::{Answer, Json, Success, accepted, ok};
use crate::routes::servers::Started;
use crate::schema;
use crate::state::State;
use actix_web::{get, post, web};
use chrono::{DateTime, Utc};
use cpanel::plan::{Component, Mode, Options, Resolution, Suspended};
use cpanel::protocol::{Changes, CheckStatus, InspectReport, Preview, Verification};
use entities::asks::{Ask, Question};
use entities::audit::Audit;
use entities::error::{Code, Error, FieldError};
use entities::ids::{JobId, ServerId};
use entities::migrations::{self, NewMigration};
use entities::servers;
use entities::tenancy::Permission;
use entities::values::{AbsPath, RelPath, Username};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;
use validator::Validate;

pub mod status;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(validate_archive)
        .service(analyze_archive)
        .service(view_plan)
        .service(preview_migration)
        .service(apply_migration)
        .service(status::view_status)
        .service(status::view_report)
        .service(status::list_logs)
        .service(validate_complete)
        .service(confirm_items)
        .service(cancel_job)
        .service(rollback_migration)
        .service(selective_restore);
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Source {
    server_id: Uuid,
    /// The archive's absolute path on the server.
    #[validate(length(min = 1, max = 4096))]
    #[schema(schema_with = schema::path)]
    backup_path: String,
    /// The account's user name on the server.
    #[validate(length(min = 1, max = 64))]
    #[schema(schema_with = schema::username)]
    target_user: String,
}

impl TryFrom<Source> for NewMigration {
    type Error = Error;

    fn try_from(source: Source) -> Result<Self, Error> {
        let path = AbsPath::parse(&source.backup_path).map_err(|error| Error::Refused {
            code: Code::PathOutsideBackupDirs,
            message: format!(
                "backup_path: {error}. Give the archive's absolute path on the server."
            ),
            fields: vec![FieldError {
                path: "/backup_path".to_owned(),
                message: error.to_string(),
            }],
        })?;
        let target_user = Username::parse(&source.target_user)
            .map_err(|error| Error::field("target_user", error.to_string()))?;
        Ok(Self { server: ServerId(source.server_id), path, target_user })
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct Checks {
    /// Whether no check failed.
    valid: bool,
    /// One line each: `{name, status: pass | warn | fail, message}`.
    #[schema(value_type = Vec<Object>)]
    checks: Value,
    /// `cpmove`, `uncompressed`, `cpbackup` or `directory`, when it was recognised.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// Checks that an archive can be migrated, without writing anything.
#[utoipa::path(
    tag = "migration",
    request_body = Source,
    responses((status = 200, body = Success<Checks>))
)]
#[post("/api/migration/validate")]
async fn validate_archive(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Source>,
) -> Result<Answer<Checks>, ApiError> {
    caller.0.require(Permission::MigrationsWrite)?;
    let wanted: NewMigration = body.try_into()?;
    let tx = state.db.read(&caller.0, Permission::MigrationsWrite).await?;
    let server = servers::usable_server(&tx, wanted.server).await?;
    servers::check_backup_path(&tx, &server, &wanted.path)?;
    drop(tx);
    let question = Question::Validate {
        server: wanted.server,
        path: wanted.path.clone(),
        target_user: wanted.target_user.clone(),
    };
    let report: InspectReport = state.asker.ask(&Ask::new(&caller.0, question)).await?;
    let valid = report.checks.iter().all(|check| check.status != CheckStatus::Fail);
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    tx.audit(Audit::MigrationValidated {
        server: wanted.server.to_string(),
        path: wanted.path.to_string(),
        target_user: wanted.target_user.to_string(),
        passed: valid,
    })
    .await?;
    tx.commit().await?;
    Ok(ok(Checks {
        valid,
        checks: to_value(&report.checks)?,
        format: report.format.map(|format| to_value(&format)).transpose()?,
        size_bytes: Some(report.size_bytes),
    }))
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, Error> {
    Ok(serde_json::to_value(value)?)
}

/// Starts a migration: reads the archive once, on the server. Nothing is changed there.
#[utoipa::path(
    tag = "migration",
    request_body = Source,
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/migration/analyze")]
async fn analyze_archive(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Source>,
) -> Result<Answer<Started>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    let job = migrations::start_migration(&tx, body.try_into()?).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: job.0 }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PlanQuery {
    job_id: Uuid,
}

/// What the archive holds and what of it can be restored: domains, mailboxes, databases, zones,
/// certificates, warnings, conflicts with their resolutions, and what is not transferable.
#[utoipa::path(
    tag = "migration",
    params(PlanQuery),
    responses((status = 200, body = Success<Object>))
)]
#[get("/api/migration/plan")]
async fn view_plan(
    caller: Caller,
    state: web::Data<State>,
    query: web::Query<PlanQuery>,
) -> Result<Answer<Value>, ApiError> {
    let tx = state.db.read(&caller.0, Permission::MigrationsRead).await?;
    let (_, row) = migrations::find_analyzed(&tx, JobId(query.job_id)).await?;
    let mut plan = row.plan.unwrap_or_default();
    if let Value::Object(plan) = &mut plan {
        plan.insert("job_id".to_owned(), json!(query.job_id));
        plan.insert("target_user".to_owned(), json!(row.target_user));
    }
    Ok(ok(plan))
}

/// Which components: their names, or each with a list of names to restore of it (empty: all of it).
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "components must be a list of files, databases, email, dns and ssl, or an object that has for each a list of names"
)]
enum Components {
    All(Vec<Component>),
    Some(BTreeMap<Component, Option<BTreeSet<String>>>),
}

impl Components {
    /// The selection. One without any component is refused, since it is never meant, and so is a
    /// path that does not lie below the home.
    fn select(self) -> Result<BTreeMap<Component, BTreeSet<String>>, Error> {
        let map: BTreeMap<Component, BTreeSet<String>> = match self {
            Self::All(list) => list.into_iter().map(|c| (c, BTreeSet::new())).collect(),
            Self::Some(map) => map.into_iter().map(|(c, n)| (c, n.unwrap_or_default())).collect(),
        };
        if map.is_empty() {
            let rule = "needs at least one component; leave it out to restore everything";
            return Err(Error::field("components", rule));
        }
        for path in map.get(&Component::Files).into_iter().flatten() {
            if RelPath::parse(path).map_or(true, |path| path.as_str().is_empty()) {
                let rule = format!(
                    "holds {path:?}, which is no path relative to the home, such as public_html/index.php"
                );
                return Err(Error::field("components", rule));
            }
        }
        Ok(map)
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PreviewOptions {
    job_id: Uuid,
    /// `merge` (by default) or `overwrite`.
    #[serde(default)]
    #[schema(schema_with = schema::mode)]
    mode: Mode,
    /// `["files", "email"]`, or `{"databases": ["shop_wp"], "dns": []}` with the names to restore of
    /// each (none: all of it). None: everything.
    #[schema(schema_with = schema::maybe_components)]
    components: Option<Components>,
    /// Conflict id → `"skip"`, `"replace"` or `{"rename": "NAME"}`.
    #[serde(default)]
    #[schema(schema_with = schema::resolutions)]
    resolutions: BTreeMap<String, Resolution>,
    /// For an account that was suspended on the source: `keep` (by default), so that nothing of it can
    /// be used here, or `activate`.
    #[serde(default)]
    #[schema(schema_with = schema::suspended)]
    suspended: Suspended,
}

#[derive(Debug, Serialize, ToSchema)]
struct PreviewView {
    plan_digest: String,
    /// Exactly what apply will do, in its order.
    #[schema(value_type = Vec<Object>)]
    operations: Value,
    #[schema(value_type = Object)]
    totals: Value,
    #[schema(value_type = Vec<Object>)]
    warnings: Value,
    #[schema(value_type = Vec<Object>)]
    not_transferred: Value,
    /// Permits one apply of exactly this, by this user, until `expires_at`.
    approval_token: String,
    expires_at: DateTime<Utc>,
}

/// Shows the exact operations of apply against the server of now, changing nothing.
#[utoipa::path(
    tag = "migration",
    request_body = PreviewOptions,
    responses((status = 200, body = Success<PreviewView>))
)]
#[post("/api/migration/preview")]
async fn preview_migration(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<PreviewOptions>,
) -> Result<Answer<PreviewView>, ApiError> {
    let id = JobId(body.job_id);
    let options = Options {
        mode: body.mode,
        components: body.components.map(Components::select).transpose()?.unwrap_or_default(),
        resolutions: body.resolutions,
        suspended: body.suspended,
    };
    let tx = state.db.read(&caller.0, Permission::MigrationsWrite).await?;
    let (job, row) = migrations::find_analyzed(&tx, id).await?;
    migrations::check_previewable(&row)?;
    servers::usable_server(&tx, job.server_id).await?;
    drop(tx);
    let question = Question::Preview { job: id, options: options.clone() };
    let preview: Preview = state.asker.ask(&Ask::new(&caller.0, question)).await?;
    if !preview.plan.conflicts.is_empty() {
        return Err(unresolved(&preview).into());
    }
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    let approval = migrations::approve(&tx, id, &options, &preview).await?;
    tx.commit().await?;
    Ok(ok(PreviewView {
        plan_digest: preview.digest,
        operations: to_value(&preview.plan.operations)?,
        totals: to_value(&preview.plan.totals)?,
        warnings: to_value(&preview.plan.warnings)?,
        not_transferred: to_value(&preview.plan.not_transferred)?,
        approval_token: approval.token,
        expires_at: approval.expires_at,
    }))
}

fn unresolved(preview: &Preview) -> Error {
    let fields = preview.plan.conflicts.iter().map(|conflict| {
        let ways: Vec<String> = conflict
            .resolutions
            .iter()
            .map(|way| serde_json::to_string(way).unwrap_or_default())
            .collect();
        let ways = match ways.as_slice() {
            [] => "there is no resolution".to_owned(),
            ways => format!("choose one of {}", ways.join(", ")),
        };
        FieldError {
            path: format!("/resolutions/{}", conflict.id),
            message: format!("{} ({ways})", conflict.message),
        }
    });
    Error::Refused {
        code: Code::ConflictsUnresolved,
        message: "Something stands in the way. Preview again with a resolution for each conflict."
            .to_owned(),
        fields: fields.collect(),
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Approved {
    job_id: Uuid,
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    approval_token: String,
}

/// Carries out what was previewed. A failure undoes everything that this job did.
#[utoipa::path(
    tag = "migration",
    request_body = Approved,
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/migration/apply")]
async fn apply_migration(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Approved>,
) -> Result<Answer<Started>, ApiError> {
    let id = JobId(body.job_id);
    check_unchanged(&state, &caller, id, &body.approval_token).await?;
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    migrations::start_apply(&tx, id, &body.approval_token, None).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: body.job_id }))
}

/// Plans once more, so that an apply whose preview no longer holds is refused at once. The job checks
/// again when it begins; with no worker there to ask, that is the only check.
async fn check_unchanged(
    state: &State,
    caller: &Caller,
    id: JobId,
    token: &str,
) -> Result<(), Error> {
    let tx = state.db.read(&caller.0, Permission::MigrationsWrite).await?;
    let (options, digest) = migrations::peek_approval(&tx, id, token).await?;
    drop(tx);
    let ask = Ask::new(&caller.0, Question::Preview { job: id, options });
    match state.asker.ask::<Preview>(&ask).await {
        Ok(preview) if preview.digest == digest => Ok(()),
        Ok(_) => Err(migrations::plan_changed()),
        Err(error) => match error.code() {
            Code::NoWorker | Code::WorkerTimeout | Code::Unavailable | Code::ServerUnreachable => {
                tracing::info!(cause = %error.chain(), "apply.unchecked");
                Ok(())
            }
            _ => Err(error),
        },
    }
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Selected {
    job_id: Uuid,
    #[validate(length(min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    approval_token: String,
    /// Must be the components that were previewed.
    #[schema(schema_with = schema::components)]
    components: Components,
}

/// Carries out a preview of some components only.
#[utoipa::path(
    tag = "migration",
    request_body = Selected,
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/migration/selective-restore")]
async fn selective_restore(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Selected>,
) -> Result<Answer<Started>, ApiError> {
    let (id, wanted) = (JobId(body.job_id), body.components.select()?);
    check_unchanged(&state, &caller, id, &body.approval_token).await?;
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    migrations::start_apply(&tx, id, &body.approval_token, Some(&wanted)).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: body.job_id }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct JobOnly {
    job_id: Uuid,
}

/// Checks the migrated account against the running services.
#[utoipa::path(
    tag = "migration",
    request_body = JobOnly,
    responses((status = 200, body = Success<Checks>))
)]
#[post("/api/migration/validate-complete")]
async fn validate_complete(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<JobOnly>,
) -> Result<Answer<Checks>, ApiError> {
    let id = JobId(body.job_id);
    let tx = state.db.read(&caller.0, Permission::MigrationsWrite).await?;
    let (_, row) = migrations::find_migration(&tx, id).await?;
    migrations::check_applied(&row)?;
    drop(tx);
    let verification: Verification =
        state.asker.ask(&Ask::new(&caller.0, Question::Verify { job: id })).await?;
    let valid = verification.checks.iter().all(|check| check.status != CheckStatus::Fail);
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    tx.audit(Audit::MigrationChecked { job: id.to_string(), passed: valid }).await?;
    tx.commit().await?;
    Ok(ok(Checks {
        valid,
        checks: to_value(&verification.checks)?,
        format: None,
        size_bytes: None,
    }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// Ids of `disabled` items of the job's report, such as `cron:shopco:1`. None: all cron jobs.
    #[validate(length(min = 1, max = 10_000))]
    #[schema(min_items = 1, max_items = 10_000)]
    items: Option<BTreeSet<String>>,
}

/// Switches on what was restored disabled: the account's cron jobs, all or those that are named. A
/// rollback takes them away again.
#[utoipa::path(
    tag = "migration",
    params(("id" = Uuid, Path, description = "the job")),
    request_body = Confirmation,
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/migration/job/{id}/confirm")]
async fn confirm_items(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
    Json(body): Json<Confirmation>,
) -> Result<Answer<Started>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    migrations::start_confirm(&tx, JobId(*id), body.items).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: *id }))
}

/// Stops an analysis or an apply. One that waits ends at once; one that runs stops within seconds, at
/// its next safe point, and what it has done is taken back: an analysis is `cancelled` then, an apply
/// `failed` with the code `cancelled`, to be previewed and applied again.
#[utoipa::path(
    tag = "migration",
    params(("id" = Uuid, Path, description = "the job")),
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/migration/job/{id}/cancel")]
async fn cancel_job(
    caller: Caller,
    state: web::Data<State>,
    id: web::Path<Uuid>,
) -> Result<Answer<Started>, ApiError> {
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    migrations::cancel_migration(&tx, JobId(*id)).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: *id }))
}

#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct Rollback {
    job_id: Uuid,
    /// Roll back although something has changed since: that is kept in a dump on the server.
    #[serde(default)]
    force: bool,
}

/// Takes back an applied migration, within 30 days. What has changed since is shown and needs
/// `force`.
#[utoipa::path(
    tag = "migration",
    request_body = Rollback,
    responses((status = 202, body = Success<Started>))
)]
#[post("/api/migration/rollback")]
async fn rollback_migration(
    caller: Caller,
    state: web::Data<State>,
    Json(body): Json<Rollback>,
) -> Result<Answer<Started>, ApiError> {
    let id = JobId(body.job_id);
    let tx = state.db.read(&caller.0, Permission::MigrationsWrite).await?;
    let (_, row) = migrations::find_migration(&tx, id).await?;
    migrations::check_rollback(&row)?;
    drop(tx);
    let changes: Changes =
        state.asker.ask(&Ask::new(&caller.0, Question::Changes { job: id })).await?;
    if !changes.items.is_empty() {
        if !body.force {
            return Err(changed(changes).into());
        }
        caller.0.require(Permission::MigrationsForce)?;
    }
    let tx = state.db.write(&caller.0, Permission::MigrationsWrite).await?;
    migrations::start_rollback(&tx, id, body.force).await?;
    tx.commit().await?;
    Ok(accepted(Started { job_id: body.job_id }))
}

fn changed(changes: Changes) -> Error {
    Error::Refused {
        code: Code::ChangedSinceApply,
        message: "Something has changed since this migration was applied. Look at `fields`; with `force` it is kept in a dump on the server and taken back.".to_owned(),
        fields: changes
            .items
            .into_iter()
            .map(|change| FieldError { path: change.item, message: change.what })
            .collect(),
    }
}
