//! CloudPods: containers of tenants.

mod actions;
mod backups;
mod console;
mod findings;
mod pods;
mod pools;
mod templates;

use crate::auth::Caller;
use crate::schema;
use chrono::{DateTime, Utc};
use entities::cloudpods::{Desired, Size, Status};
use entities::error::Error;
use entities::tables::cloudpod;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    pods::routes(config);
    actions::routes(config);
    backups::routes(config);
    console::routes(config);
    pools::routes(config);
    templates::routes(config);
    findings::routes(config);
}

/// A container of a tenant.
#[derive(Debug, Serialize, ToSchema)]
struct CloudpodView {
    id: Uuid,
    tenant_id: Uuid,
    hostname: String,
    /// The code of its plan.
    plan: Option<String>,
    /// What was sold, when it was.
    service_id: Option<Uuid>,
    template: String,
    cpu_cores: u32,
    memory_mib: u32,
    disk_mib: u32,
    traffic_gib: Option<u32>,
    /// What it is.
    #[schema(schema_with = schema::cloudpod_status)]
    status: Status,
    /// What it shall be; a job makes it so.
    #[schema(schema_with = schema::cloudpod_desired)]
    desired: Desired,
    /// Why it is suspended or goes.
    reason: Option<String>,
    /// What its job does, while one is at work.
    action: Option<String>,
    /// Why the last thing failed.
    error: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    /// What was done about its names in the DNS, and what was left out and why.
    dns: Option<String>,
    /// Root's keys.
    #[schema(value_type = Vec<String>)]
    ssh_keys: Value,
    server_id: Option<Uuid>,
    /// The number of its container; shown to the platform's staff.
    vmid: Option<i64>,
    /// The job that works on it, or did so last: follow it at `/api/jobs/{id}`.
    job_id: Option<Uuid>,
    /// Hours between two backups by the clock, and how many of them are kept.
    backup_every_hours: Option<i32>,
    backups_kept: Option<i32>,
    backup_next_at: Option<DateTime<Utc>>,
    /// What its node said of it last, and when.
    #[schema(value_type = Option<Object>)]
    seen: Option<Value>,
    seen_at: Option<DateTime<Utc>>,
    made_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// What goes wrong on a node is for its operators; a customer is told what it means for them.
fn shown_error(caller: &Caller, row: &cloudpod::Model) -> Option<String> {
    let error = row.error.clone()?;
    if caller.0.is_platform_staff() {
        return Some(error);
    }
    let text = match row.status {
        Status::Pending | Status::Provisioning => {
            "It could not be made at once. It is tried again by itself."
        }
        Status::Failed => "It could not be made. Your provider knows of it.",
        Status::Deleting => "It could not be removed at once. It is tried again by itself.",
        _ => {
            "The last thing that was asked for did not work. See its status, and try it again, or ask your provider."
        }
    };
    Some(text.to_owned())
}

fn view(caller: &Caller, row: cloudpod::Model) -> Result<CloudpodView, Error> {
    let size = Size::of(&row)?;
    let is_staff = caller.0.is_platform_staff();
    Ok(CloudpodView {
        error: shown_error(caller, &row),
        id: row.id.0,
        tenant_id: row.tenant_id.0,
        hostname: row.hostname,
        plan: row.plan,
        service_id: row.service_id.map(|id| id.0),
        template: size.template.to_string(),
        cpu_cores: size.cpu_cores,
        memory_mib: size.memory_mib,
        disk_mib: size.disk_mib,
        traffic_gib: size.traffic_gib,
        status: row.status,
        desired: row.desired,
        reason: row.reason,
        action: row.action,
        ipv4: row.ipv4,
        ipv6: row.ipv6,
        dns: row.dns_note,
        ssh_keys: row.ssh_keys,
        server_id: row.server_id.map(|id| id.0),
        vmid: row.vmid.filter(|_| is_staff),
        job_id: row.job_id.map(|id| id.0),
        backup_every_hours: row.backup_every_hours,
        backups_kept: row.backups_kept,
        backup_next_at: row.backup_next_at,
        seen: row.seen,
        seen_at: row.seen_at,
        made_at: row.made_at,
        deleted_at: row.deleted_at,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}
