//! CloudPods: containers of tenants on Proxmox nodes.
//!
//! A row says what a pod shall be (`desired`, `wanted`) and what it is (`status`); jobs make the two
//! equal ([`converge`]), and [`settle`] writes down what each came to. [`create`] makes pods for
//! whoever asks, [`sold`] those that were paid for. [`placement`] finds room and holds it, [`pools`]
//! gives addresses out, [`actions`] are what people do with a pod, [`backups`] and [`draining`] what is
//! done by the clock, [`hostnames`] who is called what, [`consoles`] who works in one, [`names`] its records in the DNS, [`record`] what
//! workers write down, and [`findings`] what
//! differs between the nodes and these rows.

pub mod actions;
pub mod backups;
pub mod consoles;
pub mod converge;
pub mod create;
pub mod draining;
pub mod findings;
pub mod hostnames;
pub mod names;
pub mod placement;
pub mod pools;
pub mod record;
pub mod settle;
pub mod sold;
pub mod templates;
pub mod traffic;

pub use actions::{Act, act};
pub use converge::{converge_due, request, retry};
pub use create::{NewPod, create_pod};
pub use settle::{Outcome, settle};

use crate::Result;
use crate::audit::Audit;
use crate::catalogue::Specification;
use crate::db::{SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::ids::{CloudpodId, JobId};
use crate::jobs::Claim;
use crate::services;
use crate::tables::cloudpod::{self, Column};
use crate::tables::job;
use crate::tenancy::TenantCtx;
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DeriveActiveEnum, EntityTrait, EnumIter,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use values::{TemplateCode, Vmid};

/// What a pod shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    #[sea_orm(string_value = "active")]
    Active,
    /// It is stopped and cannot be started; nothing is deleted.
    #[sea_orm(string_value = "suspended")]
    Suspended,
    /// Gone with all that belongs to it. Final.
    #[sea_orm(string_value = "deleted")]
    Deleted,
}

/// What a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It waits for a server with room, or for another attempt.
    #[sea_orm(string_value = "pending")]
    Pending,
    /// It is being made, or what a failed attempt has left is being taken back.
    #[sea_orm(string_value = "provisioning")]
    Provisioning,
    /// It runs.
    #[sea_orm(string_value = "active")]
    Active,
    #[sea_orm(string_value = "stopped")]
    Stopped,
    #[sea_orm(string_value = "suspended")]
    Suspended,
    /// It could not be made, and is not tried again by itself.
    #[sea_orm(string_value = "failed")]
    Failed,
    #[sea_orm(string_value = "deleting")]
    Deleting,
    #[sea_orm(string_value = "deleted")]
    Deleted,
}

impl Desired {
    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }
}

impl Status {
    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Provisioning => "provisioning",
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
        }
    }

    /// Whether there is a container.
    #[must_use]
    pub fn is_made(self) -> bool {
        matches!(self, Self::Active | Self::Stopped | Self::Suspended)
    }
}

/// How large a pod is, and what it was installed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub cpu_cores: u32,
    pub memory_mib: u32,
    pub disk_mib: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_gib: Option<u32>,
    pub template: TemplateCode,
}

impl Size {
    /// Of a plan; nothing else has one.
    pub fn of_plan(plan: &Specification) -> Result<Self> {
        let Specification::CloudpodPlan {
            cpu_cores,
            memory_mib,
            disk_mib,
            traffic_gib,
            template,
            ..
        } = plan
        else {
            return Err(Error::internal("a pod of what is no plan of pods"));
        };
        Ok(Self {
            cpu_cores: *cpu_cores,
            memory_mib: *memory_mib,
            disk_mib: *disk_mib,
            traffic_gib: *traffic_gib,
            template: TemplateCode::parse(template)?,
        })
    }

    /// Of a pod's row.
    pub fn of(row: &cloudpod::Model) -> Result<Self> {
        Ok(serde_json::from_value(row.specification.clone())?)
    }
}

/// The phases of a pod's jobs that are taken back when they fail.
pub const SAGAS: [&str; 6] = ["provision", "take_back", "resize", "snapshot", "backup", "move"];

/// What a pod's limit is called.
pub(crate) const LIMIT: &str = "CloudPods";

/// The pod, locked until the transaction ends; when it was sold, after its order and its service:
/// always in this order.
pub(super) async fn lock(tx: &SystemTx, id: CloudpodId) -> Result<cloudpod::Model> {
    let row = load_pod(tx, id).await?;
    if let Some(service) = row.service_id {
        services::lock(tx, service).await?;
    }
    let row = cloudpod::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("CloudPod"))
}

/// The pod, for whoever acts on news of it.
pub async fn load_pod(tx: &SystemTx, id: CloudpodId) -> Result<cloudpod::Model> {
    let row = cloudpod::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("CloudPod"))
}

/// The pod that a claimed job works on.
pub async fn load_claimed(tx: &SystemTx, claim: &Claim) -> Result<cloudpod::Model> {
    let row = cloudpod::Entity::find().filter(Column::JobId.eq(claim.job)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("CloudPod"))
}

/// The number of a pod's container.
pub fn vmid(row: &cloudpod::Model) -> Result<Vmid> {
    let missing = || Error::internal("a pod that is worked on without a VMID");
    Ok(Vmid::new(row.vmid.ok_or_else(missing)?)?)
}

/// A page of a tenant's pods, newest first, and how many there are. Those that are deleted are shown
/// when they are asked for.
pub async fn list_pods(
    tx: &TenantTx,
    status: Option<Status>,
    offset: u64,
    limit: u64,
) -> Result<(Vec<cloudpod::Model>, u64)> {
    let shown = match status {
        Some(status) => Column::Status.eq(status),
        None => Column::Status.ne(Status::Deleted),
    };
    let query = tx.own::<cloudpod::Entity>().filter(shown);
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A pod of the tenant.
pub async fn find_pod(tx: &TenantTx, id: CloudpodId) -> Result<cloudpod::Model> {
    let row = tx.own_by_id::<cloudpod::Entity>(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("CloudPod"))
}

/// A pod of the tenant that `ctx` acts in, locked.
pub(super) async fn lock_own(
    tx: &SystemTx,
    ctx: &TenantCtx,
    id: CloudpodId,
) -> Result<cloudpod::Model> {
    let is_own = cloudpod::Entity::find_by_id(id)
        .filter(Column::TenantId.eq(ctx.tenant()))
        .count(tx.conn())
        .await?;
    if is_own == 0 {
        return Err(Error::NotFound("CloudPod"));
    }
    lock(tx, id).await
}

/// Whether a job waits or runs.
pub(crate) async fn is_working(tx: &SystemTx, job: Option<JobId>) -> Result<bool> {
    let Some(id) = job else { return Ok(false) };
    let job = job::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(job.is_some_and(|job| ["queued", "running", "unwinding"].contains(&job.state.as_str())))
}

/// Writes a pod's new status down.
async fn become_status(
    tx: &SystemTx,
    mut row: cloudpod::ActiveModel,
    status: Status,
    entry: Option<Audit>,
) -> Result<cloudpod::Model> {
    row.status = Set(status);
    row.updated_at = Set(Utc::now());
    let row = row.update(tx.conn()).await?;
    if let Some(entry) = entry {
        tx.audit(&TenantCtx::system(row.tenant_id), entry).await?;
    }
    Ok(row)
}

/// Why something cannot be done with a pod.
fn refusal(row: &cloudpod::Model, rule: &str) -> Error {
    let text = format!("This CloudPod is {}: {rule}.", row.status.as_str());
    Error::refused(Code::CloudpodState, text)
}
