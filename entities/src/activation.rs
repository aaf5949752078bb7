//! Domains that take no mail until control of them is proven: once it is, a job lets them.

use crate::Result;
use crate::audit::Audit;
use crate::db::{SystemTx, statement};
use crate::ids::{AccountId, JobId, ServerId, TenantId};
use crate::jobs::{self, Claim, Kind, NewJob};
use crate::tables::{domain, migration, service};
use crate::tenancy::TenantCtx;
use chrono::{TimeDelta, Utc};
use cpanel::plan::{Dormant, Operation, Resource};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder,
};
use serde_json::Value;
use std::collections::BTreeSet;
use values::{DomainName, Username};

/// How long until an attempt that failed is made again.
const AGAIN: TimeDelta = TimeDelta::minutes(5);

/// Accounts with sleeping domains whose control was proven, and no job for them.
const DUE: &str = "SELECT DISTINCT a.id, a.tenant_id, a.server_id, a.username FROM domain d
    JOIN hosting_account a ON a.id = d.account_id
    WHERE NOT d.active AND (d.activation_next_at IS NULL OR d.activation_next_at <= now())
      AND EXISTS (SELECT FROM dns_zone z WHERE z.tenant_id = d.tenant_id
            AND z.verified_at IS NOT NULL AND z.state <> 'deleting'
            AND (z.name = d.name OR d.name LIKE '%.' || z.name))
      AND NOT EXISTS (SELECT FROM job j WHERE j.id = d.activation_job_id
            AND j.state IN ('queued', 'running', 'unwinding'))
    LIMIT $1";

/// Queues a job for each account that is due; how many.
pub async fn queue_due(tx: &SystemTx, limit: u32) -> Result<u64> {
    let rows = tx.conn().query_all_raw(statement(DUE, [i64::from(limit).into()])).await?;
    let mut count = 0;
    for row in rows {
        let account: AccountId = row.try_get("", "id")?;
        let tenant: TenantId = row.try_get("", "tenant_id")?;
        let server: ServerId = row.try_get("", "server_id")?;
        let username: String = row.try_get("", "username")?;
        let subject = format!("account:{username}");
        let new = NewJob { kind: Kind::Activation, phase: "activate", server, subject };
        let job = jobs::create_system_job(tx, tenant, new).await?;
        mark(tx, account, job).await?;
        count += 1;
    }
    Ok(count)
}

async fn mark(tx: &SystemTx, account: AccountId, job: JobId) -> Result<()> {
    let sql = "UPDATE domain d SET activation_job_id = $2, activation_next_at = NULL
        WHERE d.account_id = $1 AND NOT d.active
          AND EXISTS (SELECT FROM dns_zone z WHERE z.tenant_id = d.tenant_id
            AND z.verified_at IS NOT NULL AND z.state <> 'deleting'
            AND (z.name = d.name OR d.name LIKE '%.' || z.name))";
    tx.conn().execute_raw(statement(sql, [account.0.into(), job.0.into()])).await?;
    Ok(())
}

/// What a claimed job lets wake up.
#[derive(Debug)]
pub struct Waking {
    pub user: Username,
    /// Those of its domains that take mail from now on; mail of the others goes elsewhere.
    pub mail: BTreeSet<DomainName>,
}

/// What a claimed job is to do; none when there is nothing left.
pub async fn load(tx: &SystemTx, claim: &Claim) -> Result<Option<Waking>> {
    jobs::hold(tx, claim).await?;
    let rows = sleeping(tx, claim.job).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let account = crate::tables::hosting_account::Entity::find_by_id(first.account_id)
        .one(tx.conn())
        .await?
        .ok_or(crate::error::Error::NotFound("account"))?;
    let mut mail = BTreeSet::new();
    for row in &rows {
        let name = DomainName::parse(&row.name)?;
        if waits_for_mail(tx, row, &name).await? {
            mail.insert(name);
        }
    }
    Ok(Some(Waking { user: Username::parse(&account.username)?, mail }))
}

async fn sleeping(tx: &SystemTx, job: JobId) -> Result<Vec<domain::Model>> {
    Ok(domain::Entity::find()
        .filter(domain::Column::ActivationJobId.eq(job))
        .filter(domain::Column::Active.eq(false))
        .order_by_asc(domain::Column::Name)
        .all(tx.conn())
        .await?)
}

/// Whether whoever set the domain up left it without mail only because nobody had proven control of it.
async fn waits_for_mail(tx: &SystemTx, row: &domain::Model, name: &DomainName) -> Result<bool> {
    let made = migration::Entity::find_by_id(row.job_id).one(tx.conn()).await?;
    let operations = match made {
        Some(migration) => migration.operations,
        None => service::Entity::find()
            .filter(service::Column::AccountId.eq(row.account_id))
            .one(tx.conn())
            .await?
            .and_then(|service| service.operations),
    };
    let none = || Value::Array(Vec::new());
    let operations: Vec<Operation> = serde_json::from_value(operations.unwrap_or_else(none))?;
    Ok(operations.iter().any(|operation| match &operation.resource {
        Resource::MailDomain { domain, dormant, .. } => {
            domain == name && *dormant == Some(Dormant::Unverified)
        }
        _ => false,
    }))
}

/// Ends a claimed job: its domains are active, or tried again later.
pub async fn settle(tx: &SystemTx, claim: &Claim, done: bool) -> Result<()> {
    for row in sleeping(tx, claim.job).await? {
        let name = row.name.clone();
        let mut row: domain::ActiveModel = row.into();
        if done {
            row.active = Set(true);
            row.activation_job_id = Set(None);
        } else {
            row.activation_next_at = Set(Utc::now().checked_add_signed(AGAIN));
        }
        row.update(tx.conn()).await?;
        if done {
            let ctx = TenantCtx::system(claim.tenant);
            tx.audit(&ctx, Audit::DomainActivated { domain: name }).await?;
        }
    }
    Ok(())
}

/// Ends a queued job that was cancelled before it began: its domains are tried again later.
pub(crate) async fn cancelled(tx: &SystemTx, job: JobId) -> Result<()> {
    for row in sleeping(tx, job).await? {
        let mut row: domain::ActiveModel = row.into();
        row.activation_next_at = Set(Utc::now().checked_add_signed(AGAIN));
        row.update(tx.conn()).await?;
    }
    Ok(())
}

/// Whether domains still wait for a job that has failed.
pub(crate) async fn is_wanted(tx: &SystemTx, job: JobId) -> Result<bool> {
    Ok(!sleeping(tx, job).await?.is_empty())
}
