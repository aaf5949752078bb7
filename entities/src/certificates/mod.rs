//! Certificates by ACME: a row says which names a certificate is for and how far it is; jobs of workers
//! obtain, install, renew and remove it.
//!
//! [`names`] are what a certificate is for, [`due`] makes jobs, [`record`] is what a worker writes down
//! on the way, [`settle`] ends a job, [`accounts`] are ours at authorities, [`limits`] count orders.

pub mod accounts;
pub mod due;
pub mod limits;
pub mod names;
pub mod record;
pub mod settle;

pub use accounts::{AcmeAccount, keep_account, keep_account_url, reseal};
pub use due::queue_due;
pub use limits::{ORDERS_A_DAY, check_limit};
pub use names::{CertificateName, NAMES_MAX};
pub use record::{
    Answer, Issued, drop_order, hold_off, keep_answers, keep_chain, keep_key, keep_order,
    load_claimed,
};
pub(crate) use settle::lose_account;
pub use settle::{Outcome, renewal_time, settle};

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx};
use crate::dns::{challenge, verification};
use crate::error::{Code, Error};
use crate::ids::{AccountId, CertificateId, RowId, TenantId};
use crate::tables::certificate::{self, Column};
use crate::tables::{certificate_name, domain, hosting_account};
use crate::tenancy::{Permission, TenantCtx};
use crate::{servers, services};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, DeriveActiveEnum, EntityTrait, EnumIter, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::{Deserialize, Serialize};
use values::{DomainName, Username};

/// How an authority is shown that a name is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Challenge {
    /// By a record in the tenant's zone here.
    #[sea_orm(string_value = "dns-01")]
    #[serde(rename = "dns-01")]
    Dns,
    /// By a file that the account's server shows.
    #[sea_orm(string_value = "http-01")]
    #[serde(rename = "http-01")]
    Http,
}

impl Challenge {
    /// The name as it stands in answers and in RFC 8555.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns-01",
            Self::Http => "http-01",
        }
    }
}

/// How far a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits to be obtained.
    #[sea_orm(string_value = "pending")]
    Pending,
    #[sea_orm(string_value = "issuing")]
    Issuing,
    /// It is installed. With an error beside it, the last renewal has failed.
    #[sea_orm(string_value = "active")]
    Active,
    /// It is installed, and the next one is being obtained.
    #[sea_orm(string_value = "renewing")]
    Renewing,
    /// It could not be obtained; it is tried again.
    #[sea_orm(string_value = "failed")]
    Failed,
    /// Its time is over, and its renewal has failed.
    #[sea_orm(string_value = "expired")]
    Expired,
    /// It is being removed.
    #[sea_orm(string_value = "deleting")]
    Deleting,
}

impl State {
    /// The name as it stands in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Issuing => "issuing",
            Self::Active => "active",
            Self::Renewing => "renewing",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Deleting => "deleting",
        }
    }
}

/// Orders a certificate for these names and queues its job. All must lie in the domains of one account
/// of the tenant, which shows it, and must be verified to be the tenant's; those below
/// `accounts_domain` are ours. A name that another certificate has is a `conflict`.
pub async fn create_certificate(
    db: &Db,
    ctx: &TenantCtx,
    wanted: Vec<CertificateName>,
    accounts_domain: &DomainName,
) -> Result<certificate::Model> {
    ctx.require_write(Permission::CertificatesWrite)?;
    let names = names::check(wanted)?;
    let tx = db.system_as(ctx).await?;
    let account = account_of(&tx, ctx.tenant(), &names).await?;
    for name in &names {
        check_verified(&tx, ctx.tenant(), name.base(), accounts_domain).await?;
    }
    let server = servers::load_usable_server(&tx, account.server_id).await?;
    services::refuse_closed(tx.conn(), server.id, &account.username).await?;
    let challenge = choose_challenge(&tx, ctx.tenant(), &names).await?;
    let id = CertificateId::new();
    let row = new_row(id, &account, &names, challenge)?;
    let row = row.insert(tx.conn()).await?;
    take_names(&tx, &row, &names).await?;
    let texts = names.iter().map(ToString::to_string).collect();
    tx.audit(ctx, Audit::CertificateRequested { certificate: id, names: texts }).await?;
    let row = due::go_on(&tx, ctx, row).await?;
    tx.commit().await?;
    Ok(row)
}

fn new_row(
    id: CertificateId,
    account: &hosting_account::Model,
    names: &[CertificateName],
    challenge: Challenge,
) -> Result<certificate::ActiveModel> {
    Ok(certificate::ActiveModel {
        id: Set(id),
        tenant_id: Set(account.tenant_id),
        account_id: Set(Some(account.id)),
        names: Set(serde_json::to_value(names)?),
        challenge: Set(challenge),
        state: Set(State::Pending),
        error_code: NotSet,
        error: NotSet,
        sealed_key: NotSet,
        chain: NotSet,
        serial: NotSet,
        not_before: NotSet,
        not_after: NotSet,
        renew_at: NotSet,
        next_sealed_key: NotSet,
        next_chain: NotSet,
        order_url: NotSet,
        answers: NotSet,
        attempts: Set(0),
        next_at: Set(Utc::now()),
        doomed: Set(false),
        job_id: NotSet,
        created_at: Set(Utc::now()),
        updated_at: Set(Utc::now()),
    })
}

/// The one account of the tenant in whose domains all names lie.
async fn account_of(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[CertificateName],
) -> Result<hosting_account::Model> {
    let domains = domain::Entity::find().filter(domain::Column::TenantId.eq(tenant));
    let domains = domains.all(tx.conn()).await?;
    let mut found: Option<AccountId> = None;
    for name in names {
        let base = name.base().as_str();
        let is_over = |d: &&domain::Model| {
            base.strip_suffix(d.name.as_str()).is_some_and(|r| r.is_empty() || r.ends_with('.'))
        };
        let nearest = domains.iter().filter(is_over).max_by_key(|d| d.name.len());
        let Some(nearest) = nearest else {
            let text = format!("{name} lies in no domain of a hosting account of yours");
            return Err(Error::field("names", text));
        };
        if found.is_some_and(|id| id != nearest.account_id) {
            let text = "the names belong to several accounts: order a certificate for each";
            return Err(Error::field("names", text));
        }
        found = Some(nearest.account_id);
    }
    let id = found.ok_or(Error::NotFound("account"))?;
    let row = hosting_account::Entity::find_by_id(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("account"))
}

/// Refuses a name that the tenant has not shown to be theirs.
pub async fn check_verified(
    tx: &SystemTx,
    tenant: TenantId,
    name: &DomainName,
    accounts_domain: &DomainName,
) -> Result<()> {
    if name.is_below(accounts_domain) || verification::is_verified(tx, tenant, name).await? {
        return Ok(());
    }
    let text =
        format!("The domain {name} is not verified to be yours: verify it, and then try again.");
    Err(Error::refused(Code::DomainUnverified, text))
}

/// By our own DNS when all names lie in zones of the tenant here; otherwise by the account's server.
pub async fn choose_challenge(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[CertificateName],
) -> Result<Challenge> {
    let mut elsewhere = Vec::new();
    for name in names {
        if challenge::zone_for(tx, tenant, name.base()).await?.is_none() {
            elsewhere.push(name);
        }
    }
    if elsewhere.is_empty() {
        return Ok(Challenge::Dns);
    }
    if let Some(wildcard) = names.iter().find(|name| name.is_wildcard()) {
        let text = format!(
            "{wildcard} is validated by DNS, and {} has no zone of yours here that is answered: make one, or name each host",
            elsewhere.first().map_or_else(|| wildcard.to_string(), ToString::to_string)
        );
        return Err(Error::field("names", text));
    }
    Ok(Challenge::Http)
}

/// Makes the names this certificate's, or refuses those that are another's.
async fn take_names(
    tx: &SystemTx,
    row: &certificate::Model,
    names: &[CertificateName],
) -> Result<()> {
    let rows = names.iter().map(|name| certificate_name::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(row.tenant_id),
        certificate_id: Set(row.id),
        name: Set(name.to_string()),
    });
    let inserted = certificate_name::Entity::insert_many(rows);
    match inserted.exec_without_returning(tx.conn()).await.map_err(Error::from) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Code::Conflict => {
            let text = "One of these names has a certificate already: delete that one first, or leave the name out.";
            Err(Error::refused(Code::Conflict, text))
        }
        Err(error) => Err(error),
    }
}

/// Which certificates are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    pub state: Option<State>,
    pub account: Option<AccountId>,
    pub name: Option<&'a str>,
}

/// A page of a tenant's certificates, newest first, and how many there are.
pub async fn list_certificates(
    tx: &TenantTx,
    filter: Filter<'_>,
    offset: u64,
    limit: u64,
) -> Result<(Vec<certificate::Model>, u64)> {
    let mut query = tx.own::<certificate::Entity>();
    if let Some(state) = filter.state {
        query = query.filter(Column::State.eq(state));
    }
    if let Some(account) = filter.account {
        query = query.filter(Column::AccountId.eq(account));
    }
    if let Some(name) = filter.name {
        let named = certificate_name::Entity::find()
            .select_only()
            .column(certificate_name::Column::CertificateId)
            .filter(certificate_name::Column::TenantId.eq(tx.tenant()))
            .filter(certificate_name::Column::Name.eq(name));
        query = query.filter(Column::Id.in_subquery(sea_orm::QueryTrait::into_query(named)));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A certificate of the tenant.
pub async fn find_certificate(tx: &TenantTx, id: CertificateId) -> Result<certificate::Model> {
    let row = tx.own_by_id::<certificate::Entity>(id).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("certificate"))
}

/// Its names.
pub fn names_of(row: &certificate::Model) -> Result<Vec<CertificateName>> {
    Ok(serde_json::from_value(row.names.clone())?)
}

/// The user whose account shows it; none when the account is gone.
pub async fn user_of(tx: &SystemTx, row: &certificate::Model) -> Result<Option<Username>> {
    let Some(id) = row.account_id else { return Ok(None) };
    let account = hosting_account::Entity::find_by_id(id).one(tx.conn()).await?;
    Ok(account.map(|account| Username::parse(&account.username)).transpose()?)
}

fn name_texts(row: &certificate::Model) -> Result<Vec<String>> {
    Ok(serde_json::from_value(row.names.clone())?)
}

/// Obtains a certificate again, now. One that a job works on, or whose account is gone, is refused.
pub async fn renew_certificate(
    db: &Db,
    ctx: &TenantCtx,
    id: CertificateId,
) -> Result<certificate::Model> {
    ctx.require_write(Permission::CertificatesWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock_own(&tx, ctx, id).await?;
    let Some(account) = row.account_id else {
        let text = "The account of this certificate is gone: delete it.";
        return Err(Error::refused(Code::Conflict, text));
    };
    if row.doomed || due::is_at_work(&tx, &row).await? {
        let text = "A job works on this certificate: wait for its end.";
        return Err(Error::refused(Code::JobState, text));
    }
    let account = hosting_account::Entity::find_by_id(account).one(tx.conn()).await?;
    let account = account.ok_or(Error::NotFound("account"))?;
    servers::load_usable_server(&tx, account.server_id).await?;
    services::refuse_closed(tx.conn(), account.server_id, &account.username).await?;
    check_limit(&tx, &names_of(&row)?).await?;
    tx.audit(ctx, Audit::CertificateRenewalRequested { certificate: id }).await?;
    let row = due::go_on(&tx, ctx, row).await?;
    tx.commit().await?;
    Ok(row)
}

/// Lets a certificate go: it is not renewed any more, and a job removes it from its server. None: it
/// was nowhere, and is gone. Repeating it changes nothing.
pub async fn delete_certificate(
    db: &Db,
    ctx: &TenantCtx,
    id: CertificateId,
) -> Result<Option<certificate::Model>> {
    ctx.require_write(Permission::CertificatesWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = lock_own(&tx, ctx, id).await?;
    if row.doomed {
        return Ok(Some(row));
    }
    let names = name_texts(&row)?;
    let asked = Audit::CertificateDeletionRequested { certificate: id, names: names.clone() };
    tx.audit(ctx, asked).await?;
    let at_work = due::is_at_work(&tx, &row).await?;
    if row.account_id.is_none() && !at_work {
        tx.audit(ctx, Audit::CertificateDeleted { certificate: id, names }).await?;
        certificate::Entity::delete_by_id(id).exec(tx.conn()).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let mut active: certificate::ActiveModel = row.into();
    active.doomed = Set(true);
    active.attempts = Set(0);
    active.state = Set(State::Deleting);
    active.next_at = Set(Utc::now());
    active.updated_at = Set(Utc::now());
    let mut row = active.update(tx.conn()).await?;
    if !at_work {
        row = due::go_on(&tx, ctx, row).await?;
    }
    tx.commit().await?;
    Ok(Some(row))
}

/// The tenant's certificate, locked until the transaction ends.
async fn lock_own(tx: &SystemTx, ctx: &TenantCtx, id: CertificateId) -> Result<certificate::Model> {
    let row = certificate::Entity::find_by_id(id)
        .filter(Column::TenantId.eq(ctx.tenant()))
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    row.ok_or(Error::NotFound("certificate"))
}
