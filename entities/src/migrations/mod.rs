//! Migrations of cPanel accounts: analysed, planned, previewed, approved, applied, rolled back.

use crate::audit::Audit;
use crate::db::TenantTx;
use crate::error::{Code, Error};
use crate::hosting;
use crate::ids::{JobId, RowId, ServerId};
use crate::jobs::{self, Kind, NewJob, Run, Stopping};
use crate::servers;
use crate::services;
use crate::tables::{job, migration, migration_approval, migration_conflict, migration_resource};
use crate::{Result, sessions};
use chrono::{DateTime, Duration, Utc};
use cpanel::plan::{Component, Options};
use cpanel::protocol::Preview;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, DeriveActiveEnum, EnumIter, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use values::{AbsPath, Username};

mod record;

pub(crate) use record::{cancelled, requeued};
pub use record::{
    count_losses, load_migration, planned_domains, planned_zones, record_analysis,
    record_conflicts, record_items, record_operations, set_progress, settle,
};

/// How long an approval token lives.
const APPROVAL_MINUTES: i64 = 15;
/// How long after apply a migration can be rolled back.
const ROLLBACK_DAYS: i64 = 30;

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    Queued,
    Analyzing,
    Analyzed,
    Applying,
    Completed,
    CompletedWithLosses,
    Failed,
    RollingBack,
    RolledBack,
    UndoFailed,
    Cancelled,
}

impl State {
    /// As it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Analyzing => "analyzing",
            Self::Analyzed => "analyzed",
            Self::Applying => "applying",
            Self::Completed => "completed",
            Self::CompletedWithLosses => "completed_with_losses",
            Self::Failed => "failed",
            Self::RollingBack => "rolling_back",
            Self::RolledBack => "rolled_back",
            Self::UndoFailed => "undo_failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Queued | Self::Analyzing | Self::Applying | Self::RollingBack)
    }
}

/// What is to be migrated.
#[derive(Debug)]
pub struct NewMigration {
    pub server: ServerId,
    pub path: AbsPath,
    pub target_user: Username,
}

/// Starts a migration with its analysis.
pub async fn start_migration(tx: &TenantTx, new: NewMigration) -> Result<JobId> {
    let server = servers::usable_server(tx, new.server).await?;
    servers::check_backup_path(tx, &server, &new.path)?;
    check_user_name(&new.target_user)?;
    hosting::check_room(tx, new.server, new.target_user.as_str()).await?;
    let id = jobs::create_job(
        tx,
        NewJob {
            kind: Kind::Migration,
            phase: "analyze",
            server: new.server,
            subject: format!("account:{}", new.target_user),
        },
    )
    .await?;
    migration::ActiveModel {
        id: Set(id),
        tenant_id: Set(tx.tenant()),
        source_path: Set(new.path.to_string()),
        target_user: Set(new.target_user.to_string()),
        state: Set(State::Queued),
        current_step: Set(Some("analyze".to_owned())),
        progress: Set(0),
        progress_note: NotSet,
        activate_domains: Set(tx.ctx().is_platform_staff()),
        plan: NotSet,
        options: NotSet,
        plan_digest: NotSet,
        operations: NotSet,
        expanded_bytes: NotSet,
        applied_at: NotSet,
        confirming: NotSet,
    }
    .insert(tx.conn())
    .await?;
    tx.audit(Audit::MigrationAnalysisStarted {
        job: id.to_string(),
        server: new.server.to_string(),
        path: new.path.to_string(),
        target_user: new.target_user.to_string(),
    })
    .await?;
    Ok(id)
}

/// Refuses names that can never be an account's.
pub fn check_user_name(user: &Username) -> Result<()> {
    if user.is_reserved() {
        return Err(Error::refused(
            Code::ReservedUserName,
            format!("{user} is a name of the system. Choose another target_user."),
        ));
    }
    Ok(())
}

/// A migration with its job, when it is this tenant's.
pub async fn find_migration(tx: &TenantTx, id: JobId) -> Result<(job::Model, migration::Model)> {
    let row = tx
        .own_by_id::<migration::Entity>(id)
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("job"))?;
    Ok((jobs::find_job(tx, id).await?, row))
}

/// The newest migrations of the tenant.
pub async fn list_migrations(tx: &TenantTx, limit: u64) -> Result<Vec<migration::Model>> {
    Ok(tx
        .own::<migration::Entity>()
        .order_by_desc(migration::Column::Id)
        .limit(limit)
        .all(tx.conn())
        .await?)
}

/// The migration, when an archive was read for it.
pub async fn find_analyzed(tx: &TenantTx, id: JobId) -> Result<(job::Model, migration::Model)> {
    let (job, row) = find_migration(tx, id).await?;
    if row.plan.is_none() {
        let what = if row.state.is_settled() {
            "has no plan: see its error, and analyze an archive again"
        } else {
            "has no plan yet: wait until its state is analyzed"
        };
        return Err(wrong_state(&row, what));
    }
    Ok((job, row))
}

/// Refuses unless a preview may be made.
pub fn check_previewable(row: &migration::Model) -> Result<()> {
    match row.state {
        State::Analyzed => Ok(()),
        State::Failed if row.plan.is_some() => Ok(()),
        State::Applying => Err(Error::refused(
            Code::AlreadyApplied,
            "This migration is being applied at the moment: follow its status.",
        )),
        State::Completed | State::CompletedWithLosses => Err(already_applied()),
        _ => Err(wrong_state(row, "cannot be previewed: analyze the archive again")),
    }
}

fn already_applied() -> Error {
    Error::refused(
        Code::AlreadyApplied,
        "This migration was applied already. Roll it back, or analyze the archive again for another job.",
    )
}

fn wrong_state(row: &migration::Model, what: &str) -> Error {
    Error::refused(
        Code::JobState,
        format!("This job is {} and {what}.", row.state.as_str().replace('_', " ")),
    )
}

/// A token that permits one apply.
#[derive(Debug)]
pub struct Approval {
    pub token: String,
    pub expires_at: DateTime<Utc>,
}

/// Keeps what a preview showed and makes the token that permits exactly that.
pub async fn approve(
    tx: &TenantTx,
    id: JobId,
    options: &Options,
    preview: &Preview,
) -> Result<Approval> {
    let (job, row) = find_migration(tx, id).await?;
    check_previewable(&row)?;
    hosting::check_room(tx, job.server_id, &row.target_user).await?;
    let mut bytes = [0u8; 32];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut bytes);
    let token = hex::encode(bytes);
    let expires_at = Utc::now() + Duration::minutes(APPROVAL_MINUTES);
    migration_approval::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(tx.tenant()),
        job_id: Set(id),
        user_id: Set(tx.ctx().user()),
        key_id: Set(tx.ctx().key()),
        token_sha256: Set(sessions::hash(&token)),
        plan_digest: Set(preview.digest.clone()),
        options: Set(serde_json::to_value(options)?),
        expanded_bytes: Set(i64::try_from(preview.expanded_bytes).unwrap_or(i64::MAX)),
        expires_at: Set(expires_at),
        used_at: NotSet,
        created_at: Set(Utc::now()),
    }
    .insert(tx.conn())
    .await?;
    store_choices(tx, id, options).await?;
    tx.audit(Audit::MigrationPreviewed { job: id.to_string(), digest: preview.digest.clone() })
        .await?;
    Ok(Approval { token, expires_at })
}

async fn store_choices(tx: &TenantTx, id: JobId, options: &Options) -> Result<()> {
    for (conflict, resolution) in &options.resolutions {
        let row = tx
            .own::<migration_conflict::Entity>()
            .filter(migration_conflict::Column::JobId.eq(id))
            .filter(migration_conflict::Column::ConflictId.eq(conflict.as_str()))
            .one(tx.conn())
            .await?;
        if let Some(row) = row {
            let mut row: migration_conflict::ActiveModel = row.into();
            row.chosen = Set(Some(serde_json::to_value(resolution)?));
            row.update(tx.conn()).await?;
        }
    }
    Ok(())
}

/// What an approval permits, without using it: the options that were previewed and the digest that
/// they gave.
pub async fn peek_approval(tx: &TenantTx, id: JobId, token: &str) -> Result<(Options, String)> {
    let (job, row) = find_migration(tx, id).await?;
    check_previewable(&row)?;
    servers::usable_server(tx, job.server_id).await?;
    let approval = find_approval(tx, id, token).await?;
    check_fresh(&approval)?;
    Ok((serde_json::from_value(approval.options)?, approval.plan_digest))
}

/// The refusal of an apply whose preview no longer holds.
#[must_use]
pub fn plan_changed() -> Error {
    Error::refused(
        Code::PlanChanged,
        "The server is no longer as it was at the preview. Preview again and approve what it shows.",
    )
}

/// Uses an approval and queues the apply. `components`, when given, must be those that were
/// previewed.
pub async fn start_apply(
    tx: &TenantTx,
    id: JobId,
    token: &str,
    components: Option<&BTreeMap<Component, BTreeSet<String>>>,
) -> Result<()> {
    let job = jobs::lock_job(tx, id).await?;
    let (_, row) = find_migration(tx, id).await?;
    check_previewable(&row)?;
    let server = servers::find_server(tx, job.server_id).await?;
    servers::usable_server(tx, server.id).await?;
    // The job's row is locked: of two who show the same token, the second finds it used.
    let approval = find_approval(tx, id, token).await?;
    check_fresh(&approval)?;
    let options: Options = serde_json::from_value(approval.options.clone())?;
    if let Some(wanted) = components {
        let all = Component::ALL.map(|component| (component, BTreeSet::new()));
        let previewed =
            if options.components.is_empty() { all.into() } else { options.components.clone() };
        if *wanted != previewed {
            return Err(Error::refused(
                Code::ComponentsDiffer,
                "These are not the components that were previewed. Preview with exactly these first.",
            ));
        }
    }
    // From here on the account counts: its migration is applying.
    hosting::check_room(tx, job.server_id, &row.target_user).await?;
    let digest = approval.plan_digest.clone();
    let (stored_options, expanded) = (approval.options.clone(), approval.expanded_bytes);
    let mut approval: migration_approval::ActiveModel = approval.into();
    approval.used_at = Set(Some(Utc::now()));
    approval.update(tx.conn()).await?;
    let mut row: migration::ActiveModel = row.into();
    row.state = Set(State::Applying);
    row.current_step = Set(Some("queued".to_owned()));
    row.progress = Set(0);
    row.progress_note = Set(None);
    row.options = Set(Some(stored_options));
    row.plan_digest = Set(Some(digest.clone()));
    row.expanded_bytes = Set(Some(expanded));
    row.update(tx.conn()).await?;
    jobs::requeue(tx, job, "apply", Run::New).await?;
    tx.audit(Audit::MigrationApplyStarted { job: id.to_string(), digest }).await
}

async fn find_approval(tx: &TenantTx, id: JobId, token: &str) -> Result<migration_approval::Model> {
    let row = tx
        .own::<migration_approval::Entity>()
        .filter(migration_approval::Column::TokenSha256.eq(sessions::hash(token)))
        .filter(migration_approval::Column::JobId.eq(id))
        .one(tx.conn())
        .await?;
    let whose = (tx.ctx().user(), tx.ctx().key());
    row.filter(|row| (row.user_id, row.key_id) == whose).ok_or_else(|| {
        Error::refused(
            Code::ApprovalInvalid,
            "This approval token is not for this job and this user. Preview again and use its token.",
        )
    })
}

fn check_fresh(row: &migration_approval::Model) -> Result<()> {
    if row.used_at.is_some() {
        return Err(Error::refused(
            Code::ApprovalUsed,
            "This approval token was used already. Preview again and use the new token.",
        ));
    }
    if row.expires_at < Utc::now() {
        return Err(Error::refused(
            Code::ApprovalExpired,
            "This approval token is older than 15 minutes. Preview again and use the new token.",
        ));
    }
    Ok(())
}

/// Refuses unless there is something to check.
pub fn check_applied(row: &migration::Model) -> Result<()> {
    match row.state {
        State::Completed | State::CompletedWithLosses => Ok(()),
        _ => Err(wrong_state(row, "has nothing to check: preview and apply it first")),
    }
}

/// Refuses unless the migration may be rolled back.
pub fn check_rollback(row: &migration::Model) -> Result<()> {
    match (row.state, row.applied_at) {
        (State::UndoFailed, _) => Ok(()),
        (State::Completed | State::CompletedWithLosses, Some(at)) => {
            if at + Duration::days(ROLLBACK_DAYS) < Utc::now() {
                return Err(Error::refused(
                    Code::RollbackExpired,
                    "This migration was applied more than 30 days ago and can no longer be rolled back.",
                ));
            }
            Ok(())
        }
        _ => Err(wrong_state(row, "leaves nothing to roll back: only an applied migration does")),
    }
}

/// What can be confirmed begins so.
const CONFIRMABLE: &str = "cron:";

/// Queues that disabled things are switched on: those named, or all that can be.
pub async fn start_confirm(
    tx: &TenantTx,
    id: JobId,
    items: Option<BTreeSet<String>>,
) -> Result<()> {
    let job = jobs::lock_job(tx, id).await?;
    let (_, row) = find_migration(tx, id).await?;
    services::refuse_closed(tx.conn(), job.server_id, &row.target_user).await?;
    check_idle(&job)?;
    if !matches!(row.state, State::Completed | State::CompletedWithLosses) {
        return Err(wrong_state(&row, "has nothing that awaits confirmation: apply it first"));
    }
    let resources = list_resources(tx, id).await?;
    let waiting: BTreeSet<String> = resources
        .into_iter()
        .filter(|r| r.outcome == "disabled" && r.operation_id.starts_with(CONFIRMABLE))
        .map(|r| r.operation_id)
        .collect();
    let wanted = items.unwrap_or_else(|| waiting.clone());
    if let Some(unknown) = wanted.iter().find(|item| !waiting.contains(*item)) {
        let rule = format!(
            "names {unknown:?}, which does not await confirmation; see the disabled items of the job's report"
        );
        return Err(Error::field("items", rule));
    }
    if wanted.is_empty() {
        return Err(wrong_state(&row, "has nothing that awaits confirmation"));
    }
    let list: Vec<String> = wanted.into_iter().collect();
    let mut row: migration::ActiveModel = row.into();
    row.confirming = Set(Some(serde_json::to_value(&list)?));
    row.update(tx.conn()).await?;
    jobs::requeue(tx, job, "confirm", Run::Last).await?;
    tx.audit(Audit::MigrationConfirmed { job: id.to_string(), items: list }).await
}

/// Stops an analysis or an apply. One that waits is over at once; of one that runs, its worker takes
/// back what it has done.
pub async fn cancel_migration(tx: &TenantTx, id: JobId) -> Result<()> {
    let job = jobs::lock_job(tx, id).await?;
    let (_, row) = find_migration(tx, id).await?;
    let is_analysis = job.phase == "analyze";
    if !is_analysis && job.phase != "apply" {
        return Err(wrong_state(&row, "cannot be cancelled: only an analysis or an apply can"));
    }
    match jobs::cancel(tx, job).await? {
        None if row.state.is_settled() => {
            return Err(wrong_state(&row, "cannot be cancelled, since it has ended"));
        }
        None => return Err(wrong_state(&row, "is being taken back already: follow its status")),
        Some(Stopping::Asked) => {}
        Some(Stopping::AtOnce) => {
            let mut row: migration::ActiveModel = row.into();
            row.state = Set(if is_analysis { State::Cancelled } else { State::Failed });
            row.current_step = Set(None);
            row.update(tx.conn()).await?;
        }
    }
    tx.audit(Audit::MigrationCancelled { job: id.to_string() }).await
}

/// Refuses while a worker has something to do for the job.
fn check_idle(job: &job::Model) -> Result<()> {
    if ["queued", "running", "unwinding"].contains(&job.state.as_str()) {
        return Err(Error::refused(
            Code::JobState,
            "This job is still at work. Wait until it has ended, and call again.",
        ));
    }
    Ok(())
}

/// Queues the rollback of an applied migration.
pub async fn start_rollback(tx: &TenantTx, id: JobId, forced: bool) -> Result<()> {
    let job = jobs::lock_job(tx, id).await?;
    let (_, row) = find_migration(tx, id).await?;
    services::refuse_closed(tx.conn(), job.server_id, &row.target_user).await?;
    check_rollback(&row)?;
    check_idle(&job)?;
    check_newest(tx, &job, &row).await?;
    let mut row: migration::ActiveModel = row.into();
    row.state = Set(State::RollingBack);
    row.current_step = Set(Some("queued".to_owned()));
    row.progress = Set(0);
    row.update(tx.conn()).await?;
    jobs::requeue(tx, job, "rollback", Run::Last).await?;
    tx.audit(Audit::MigrationRollbackStarted { job: id.to_string(), forced }).await
}

/// Migrations into one account stand on each other: the newest goes first.
async fn check_newest(tx: &TenantTx, job: &job::Model, row: &migration::Model) -> Result<()> {
    let later = tx
        .own::<migration::Entity>()
        .filter(migration::Column::TargetUser.eq(row.target_user.as_str()))
        .filter(migration::Column::State.is_in([State::Completed, State::CompletedWithLosses]))
        .filter(migration::Column::Id.ne(row.id))
        .filter(migration::Column::AppliedAt.gt(row.applied_at))
        .all(tx.conn())
        .await?;
    for other in later {
        if jobs::find_job(tx, other.id).await?.server_id == job.server_id {
            return Err(Error::refused(
                Code::JobState,
                format!(
                    "A later migration into this account, job {}, stands on this one. Roll that one back first.",
                    other.id
                ),
            ));
        }
    }
    Ok(())
}

/// What became of each thing, and the conflicts with what was chosen.
pub async fn list_resources(tx: &TenantTx, id: JobId) -> Result<Vec<migration_resource::Model>> {
    Ok(tx
        .own::<migration_resource::Entity>()
        .filter(migration_resource::Column::JobId.eq(id))
        .order_by_asc(migration_resource::Column::Id)
        .all(tx.conn())
        .await?)
}
