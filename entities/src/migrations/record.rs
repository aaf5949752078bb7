//! What a worker that holds a migration's job writes down.

use super::State;
use crate::Result;
use crate::audit::Audit;
use crate::db::SystemTx;
use crate::error::Error;
use crate::ids::{JobId, RowId};
use crate::jobs::{self, Claim};
use crate::tables::{
    job, job_step, migration, migration_backup, migration_conflict, migration_resource,
};
use chrono::Utc;
use cpanel::plan::{Component, Conflict, Operation};
use cpanel::protocol::{Analysis, ItemReport, Preview};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use values::DomainName;

/// The migration, for a worker that holds its job.
pub async fn load_migration(tx: &SystemTx, id: JobId) -> Result<migration::Model> {
    migration::Entity::find_by_id(id).one(tx.conn()).await?.ok_or(Error::NotFound("job"))
}

#[derive(Deserialize)]
struct Named {
    name: DomainName,
}

/// The names that a plan has lists of.
#[derive(Default, Deserialize)]
struct Names {
    domains: Vec<Named>,
    zones: Vec<Named>,
}

fn names(row: &migration::Model) -> Result<Names> {
    Ok(row.plan.clone().map(serde_json::from_value).transpose()?.unwrap_or_default())
}

/// The domains that the plan of a migration names.
pub fn planned_domains(row: &migration::Model) -> Result<Vec<DomainName>> {
    let Names { domains, zones } = names(row)?;
    let all: BTreeSet<DomainName> = domains.into_iter().chain(zones).map(|n| n.name).collect();
    Ok(all.into_iter().collect())
}

/// The zones that the plan of a migration names.
pub fn planned_zones(row: &migration::Model) -> Result<Vec<DomainName>> {
    Ok(names(row)?.zones.into_iter().map(|zone| zone.name).collect())
}

/// Moves a claimed migration on. None leaves a value as it is.
pub async fn set_progress(
    tx: &SystemTx,
    claim: &Claim,
    state: Option<State>,
    step: Option<&str>,
    progress: Option<(i32, &str)>,
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let mut row: migration::ActiveModel = load_migration(tx, claim.job).await?.into();
    if let Some(state) = state {
        row.state = Set(state);
    }
    if let Some(step) = step {
        row.current_step = Set(Some(step.to_owned()));
    }
    if let Some((percent, note)) = progress {
        row.progress = Set(percent.clamp(0, 100));
        row.progress_note = Set(Some(note.chars().take(500).collect()));
    }
    row.update(tx.conn()).await?;
    Ok(())
}

/// Keeps what the analysis found.
pub async fn record_analysis(tx: &SystemTx, claim: &Claim, analysis: &Analysis) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let archive = &analysis.archive;
    migration_backup::Entity::delete_many()
        .filter(migration_backup::Column::JobId.eq(claim.job))
        .exec(tx.conn())
        .await?;
    let format = serde_json::to_value(archive.format)?;
    migration_backup::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(claim.tenant),
        job_id: Set(claim.job),
        path: Set(archive.path.to_string()),
        format: Set(format.as_str().unwrap_or_default().to_owned()),
        sha256: Set(archive.sha256.clone()),
        size_bytes: Set(i64::try_from(archive.size_bytes).unwrap_or(i64::MAX)),
        seen_at: Set(Utc::now()),
    }
    .insert(tx.conn())
    .await?;
    let mut plan = serde_json::to_value(&analysis.summary)?;
    if let Value::Object(plan) = &mut plan {
        plan.insert("archive".to_owned(), serde_json::to_value(archive)?);
    }
    let mut row: migration::ActiveModel = load_migration(tx, claim.job).await?.into();
    row.plan = Set(Some(plan));
    row.expanded_bytes = Set(Some(i64::try_from(archive.expanded_bytes).unwrap_or(i64::MAX)));
    row.update(tx.conn()).await?;
    tx.audit(
        &claim.ctx(),
        Audit::MigrationAnalyzed { job: claim.job.to_string(), sha256: archive.sha256.clone() },
    )
    .await
}

/// Keeps what stands in the way, and the default plan's warnings with the plan.
pub async fn record_conflicts(tx: &SystemTx, claim: &Claim, preview: &Preview) -> Result<()> {
    jobs::hold(tx, claim).await?;
    migration_conflict::Entity::delete_many()
        .filter(migration_conflict::Column::JobId.eq(claim.job))
        .exec(tx.conn())
        .await?;
    for Conflict { id, message, resolutions } in &preview.plan.conflicts {
        migration_conflict::ActiveModel {
            id: Set(RowId::new()),
            tenant_id: Set(claim.tenant),
            job_id: Set(claim.job),
            conflict_id: Set(id.clone()),
            message: Set(message.clone()),
            resolutions: Set(serde_json::to_value(resolutions)?),
            chosen: NotSet,
            recorded_at: Set(Utc::now()),
        }
        .insert(tx.conn())
        .await?;
    }
    let row = load_migration(tx, claim.job).await?;
    let mut plan = row.plan.clone().unwrap_or_default();
    if let Value::Object(plan) = &mut plan {
        let conflicts = serde_json::to_value(&preview.plan.conflicts)?;
        plan.insert("conflicts".to_owned(), conflicts);
        plan.insert("warnings".to_owned(), serde_json::to_value(&preview.plan.warnings)?);
        plan.insert("totals".to_owned(), serde_json::to_value(&preview.plan.totals)?);
    }
    let mut row: migration::ActiveModel = row.into();
    row.plan = Set(Some(plan));
    row.update(tx.conn()).await?;
    Ok(())
}

/// Keeps the operations that are about to be carried out.
pub async fn record_operations(
    tx: &SystemTx,
    claim: &Claim,
    operations: &[Operation],
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let mut row: migration::ActiveModel = load_migration(tx, claim.job).await?.into();
    row.operations = Set(Some(serde_json::to_value(operations)?));
    row.update(tx.conn()).await?;
    migration_resource::Entity::delete_many()
        .filter(migration_resource::Column::JobId.eq(claim.job))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Keeps what became of the things that a step was to make.
pub async fn record_items(
    tx: &SystemTx,
    claim: &Claim,
    operations: &[Operation],
    items: &[ItemReport],
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    for item in items {
        let operation = operations.iter().find(|o| o.id == item.id);
        let text = |value: Option<Value>| {
            value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let component = operation.map_or_else(|| component_of(&item.id), |o| o.component);
        let action = operation.map(|o| serde_json::to_value(o.action)).transpose()?;
        let row = migration_resource::ActiveModel {
            id: Set(RowId::new()),
            tenant_id: Set(claim.tenant),
            job_id: Set(claim.job),
            operation_id: Set(item.id.clone()),
            component: Set(text(Some(serde_json::to_value(component)?))),
            action: Set(text(action)),
            summary: Set(operation.map(|o| o.summary.clone()).unwrap_or_default()),
            outcome: Set(text(Some(serde_json::to_value(item.outcome)?))),
            detail: Set(item.detail.clone()),
            recorded_at: Set(Utc::now()),
        };
        let newest = sea_orm::sea_query::OnConflict::columns([
            migration_resource::Column::JobId,
            migration_resource::Column::OperationId,
        ])
        .update_columns([
            migration_resource::Column::Outcome,
            migration_resource::Column::Detail,
            migration_resource::Column::RecordedAt,
        ])
        .to_owned();
        migration_resource::Entity::insert(row)
            .on_conflict(newest)
            .exec_without_returning(tx.conn())
            .await?;
    }
    Ok(())
}

/// The part of the account that something belongs to which no operation stands for: by what kind of
/// thing it is.
fn component_of(item: &str) -> Component {
    match item.split(':').next().unwrap_or_default() {
        "database" | "database_host" | "database_user" | "grant" | "postgresql" | "statements" => {
            Component::Databases
        }
        "autoresponder"
        | "calendars"
        | "catch_all"
        | "dkim"
        | "filter"
        | "folder"
        | "forward"
        | "forwarder"
        | "mail_domain"
        | "mailbox"
        | "mailing_lists"
        | "mailing_list_archives"
        | "pipe"
        | "vacation" => Component::Email,
        "dnssec_keys" | "dynamic_dns" | "record" | "zone" => Component::Dns,
        "certificate" => Component::Ssl,
        _ => Component::Files,
    }
}

/// How many things were left behind.
pub async fn count_losses(tx: &SystemTx, id: JobId) -> Result<u64> {
    Ok(migration_resource::Entity::find()
        .filter(migration_resource::Column::JobId.eq(id))
        .filter(migration_resource::Column::Outcome.is_in(["not_transferred", "failed"]))
        .count(tx.conn())
        .await?)
}

/// Says where a migration stands whose queued job was cancelled before it began.
pub(crate) async fn cancelled(tx: &SystemTx, job: &job::Model) -> Result<()> {
    let row = load_migration(tx, job.id).await?;
    let state = match job.phase.as_str() {
        "analyze" => State::Cancelled,
        "apply" => State::Failed,
        "rollback" => before_rollback(tx, job, &row).await?,
        // A confirmation that fails leaves the migration as it is.
        _ => return Ok(()),
    };
    let mut row: migration::ActiveModel = row.into();
    row.state = Set(state);
    row.current_step = Set(None);
    row.update(tx.conn()).await?;
    Ok(())
}

/// What a migration was when its rollback was queued: applied, unless an undo has failed before.
async fn before_rollback(tx: &SystemTx, job: &job::Model, row: &migration::Model) -> Result<State> {
    let begun = job_step::Entity::find()
        .filter(job_step::Column::JobId.eq(job.id))
        .filter(job_step::Column::Run.eq(job.run))
        .filter(job_step::Column::State.ne("done"))
        .count(tx.conn())
        .await?;
    Ok(match (row.applied_at, begun, count_losses(tx, job.id).await?) {
        (None, ..) | (_, 1.., _) => State::UndoFailed,
        (Some(_), 0, 0) => State::Completed,
        (Some(_), 0, _) => State::CompletedWithLosses,
    })
}

/// Brings a migration whose analysis has failed, or was cancelled, back to its beginning.
pub(crate) async fn requeued(tx: &SystemTx, id: JobId) -> Result<()> {
    let mut row: migration::ActiveModel = load_migration(tx, id).await?.into();
    row.state = Set(State::Queued);
    row.current_step = Set(Some("analyze".to_owned()));
    row.progress = Set(0);
    row.progress_note = Set(None);
    row.update(tx.conn()).await?;
    Ok(())
}

/// Ends a run: where the migration stands now, with its entry in the audit trail.
pub async fn settle(
    tx: &SystemTx,
    claim: &Claim,
    state: State,
    entry: Option<Audit>,
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let mut row: migration::ActiveModel = load_migration(tx, claim.job).await?.into();
    row.state = Set(state);
    row.current_step = Set(None);
    if matches!(
        state,
        State::Analyzed | State::Completed | State::CompletedWithLosses | State::RolledBack
    ) {
        row.progress = Set(100);
        row.progress_note = Set(None);
    }
    if matches!(state, State::Completed | State::CompletedWithLosses) {
        row.applied_at = Set(Some(Utc::now()));
    }
    row.update(tx.conn()).await?;
    match entry {
        Some(entry) => tx.audit(&claim.system_ctx(), entry).await,
        None => Ok(()),
    }
}
