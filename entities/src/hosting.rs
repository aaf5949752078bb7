//! Hosting accounts and the domains that they own. A domain has one owner in the whole installation.

use crate::Result;
use crate::certificates;
use crate::db::{SystemTx, TenantTx, statement};
use crate::dns::names;
use crate::error::{Code, Error};
use crate::ids::{AccountId, JobId, RowId, ServerId, TenantId};
use crate::jobs::{self, Claim};
use crate::orders::reservations::{self, ACCOUNTS};
use crate::services;
use crate::tables::{domain, hosting_account};
use crate::tenants;
use chrono::Utc;
use cpanel::plan::Ownership;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use values::{DomainName, Username};

/// A page of a tenant's accounts, by name, and how many there are.
pub async fn list_accounts(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<hosting_account::Model>, u64)> {
    let query = tx.own::<hosting_account::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let rows = query
        .order_by_asc(hosting_account::Column::Username)
        .order_by_asc(hosting_account::Column::Id)
        .offset(offset)
        .limit(limit)
        .all(tx.conn())
        .await?;
    Ok((rows, total))
}

/// The domains of a tenant's accounts, by name.
pub async fn list_domains(tx: &TenantTx, accounts: &[AccountId]) -> Result<Vec<domain::Model>> {
    Ok(tx
        .own::<domain::Entity>()
        .filter(domain::Column::AccountId.is_in(accounts.iter().copied()))
        .order_by_asc(domain::Column::Name)
        .all(tx.conn())
        .await?)
}

/// Whose the account of this name on this server is, as this tenant may know it.
pub async fn account_ownership(
    tx: &SystemTx,
    tenant: TenantId,
    server: ServerId,
    user: &Username,
) -> Result<(Ownership, Option<AccountId>)> {
    let row = hosting_account::Entity::find()
        .filter(hosting_account::Column::ServerId.eq(server))
        .filter(hosting_account::Column::Username.eq(user.as_str()))
        .one(tx.conn())
        .await?;
    Ok(match row {
        None => (Ownership::Free, None),
        Some(row) if row.tenant_id == tenant => (Ownership::Own, Some(row.id)),
        Some(_) => (Ownership::Taken, None),
    })
}

/// Whose these domains are. A name is taken, too, when it lies below or above another tenant's.
pub async fn domain_ownership(
    tx: &SystemTx,
    tenant: TenantId,
    account: Option<AccountId>,
    names: &[DomainName],
) -> Result<BTreeMap<DomainName, Ownership>> {
    let mut asked: Vec<String> = Vec::new();
    for name in names {
        let mut rest = name.as_str();
        asked.push(rest.to_owned());
        while let Some((_, parent)) = rest.split_once('.') {
            if parent.contains('.') {
                asked.push(parent.to_owned());
            }
            rest = parent;
        }
    }
    let mut related =
        domain::Entity::find().filter(domain::Column::Name.is_in(asked)).all(tx.conn()).await?;
    for name in names {
        let below = domain::Entity::find()
            .filter(domain::Column::TenantId.ne(tenant))
            .filter(names::ends(domain::Column::Name, &format!(".{name}")))
            .one(tx.conn())
            .await?;
        related.extend(below);
    }
    let mut owners = BTreeMap::new();
    for name in names {
        let mut ownership = Ownership::Free;
        for row in &related {
            let Ok(known) = DomainName::parse(&row.name) else { continue };
            if known == *name {
                let own = row.tenant_id == tenant && Some(row.account_id) == account;
                ownership = if own { Ownership::Own } else { Ownership::Taken };
                break;
            }
            if row.tenant_id != tenant && (known.is_below(name) || name.is_below(&known)) {
                ownership = Ownership::Taken;
            }
        }
        owners.insert(name.clone(), ownership);
    }
    Ok(owners)
}

/// Refuses what would change a suspended account, and an account more than the tenant may have: those count that it has, those that are being
/// made, and those that are ordered. A migration into an account that is there already needs no more room.
pub(crate) async fn check_room(tx: &TenantTx, server: ServerId, user: &str) -> Result<()> {
    let there = tx
        .own::<hosting_account::Entity>()
        .filter(hosting_account::Column::ServerId.eq(server))
        .filter(hosting_account::Column::Username.eq(user))
        .count(tx.conn())
        .await?;
    if there > 0 {
        return services::refuse_closed(tx.conn(), server, user).await;
    }
    let tenant = tx.tenant();
    tenants::reserve(
        tx.conn(),
        tenant,
        |l| l.accounts,
        ACCOUNTS,
        async |conn| {
            let taken = count_taken(conn, tenant, Some((server, user))).await?;
            Ok(taken.saturating_add(reservations::count_held(conn, tenant).await?))
        },
    )
    .await
}

/// How many accounts a tenant has, and how many are being made but for this one.
pub(crate) async fn count_taken<C: ConnectionTrait>(
    conn: &C,
    tenant: TenantId,
    but: Option<(ServerId, &str)>,
) -> Result<u64> {
    let (server, user) = but.unwrap_or((ServerId(Uuid::nil()), ""));
    let coming = statement(COMING, [tenant.0.into(), server.0.into(), user.into()]);
    let coming = conn.query_one_raw(coming).await?;
    let coming: i64 = coming.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    Ok(count_accounts(conn, tenant).await?.saturating_add(coming.unsigned_abs()))
}

/// How many accounts a tenant has, or has ordered and paid for.
async fn count_accounts<C: ConnectionTrait>(conn: &C, tenant: TenantId) -> Result<u64> {
    let there = hosting_account::Entity::find();
    let there = there.filter(hosting_account::Column::TenantId.eq(tenant)).count(conn).await?;
    Ok(there.saturating_add(services::count_unmade(conn, tenant).await?))
}

/// How many other accounts are being made.
const COMING: &str = "SELECT count(DISTINCT (job.server_id, migration.target_user))
    FROM migration JOIN job ON job.id = migration.id
    WHERE migration.tenant_id = $1 AND migration.state = 'applying'
      AND (job.server_id, migration.target_user) <> ($2, $3)
      AND NOT EXISTS (SELECT FROM hosting_account a
            WHERE a.server_id = job.server_id AND a.username = migration.target_user)";

/// What a claimed job takes into possession.
#[derive(Debug)]
pub struct Possession<'a> {
    pub user: &'a Username,
    pub domains: &'a [DomainName],
    /// Those that take mail at once.
    pub active: &'a BTreeSet<DomainName>,
}

/// Makes the account and its domains the job's tenant's; what is theirs already stays. Somebody
/// else's is a refusal `plan_changed`, an account too many `quota_exceeded`. Answers the names of the domains that are new.
pub async fn take(tx: &SystemTx, claim: &Claim, wanted: &Possession<'_>) -> Result<Vec<String>> {
    jobs::hold(tx, claim).await?;
    let changed = |what: &str| {
        Error::refused(
            Code::PlanChanged,
            format!("{what} belongs to another account since the preview. Preview again."),
        )
    };
    let (ownership, account) =
        account_ownership(tx, claim.tenant, claim.server, wanted.user).await?;
    if claim.kind != jobs::Kind::Hosting.as_str() {
        services::refuse_closed(tx.conn(), claim.server, wanted.user.as_str()).await?;
    }
    let account = match (ownership, account) {
        (Ownership::Taken, _) => return Err(changed(wanted.user.as_str())),
        (_, Some(id)) => id,
        (_, None) => {
            // What was paid for has been counted since.
            if claim.kind != jobs::Kind::Hosting.as_str() {
                check_limit(tx, claim.tenant).await?;
            }
            let id = AccountId::new();
            hosting_account::ActiveModel {
                id: Set(id),
                tenant_id: Set(claim.tenant),
                server_id: Set(claim.server),
                username: Set(wanted.user.to_string()),
                job_id: Set(claim.job),
                created_at: Set(Utc::now()),
            }
            .insert(tx.conn())
            .await?;
            id
        }
    };
    let owners = domain_ownership(tx, claim.tenant, Some(account), wanted.domains).await?;
    let mut added = Vec::new();
    for (name, ownership) in owners {
        match ownership {
            Ownership::Own => {}
            Ownership::Taken => return Err(changed(name.as_str())),
            Ownership::Free => {
                let active = wanted.active.contains(&name);
                domain::ActiveModel {
                    id: Set(RowId::new()),
                    tenant_id: Set(claim.tenant),
                    name: Set(name.to_string()),
                    account_id: Set(account),
                    job_id: Set(claim.job),
                    active: Set(active),
                    activation_job_id: NotSet,
                    activation_next_at: NotSet,
                    created_at: Set(Utc::now()),
                }
                .insert(tx.conn())
                .await?;
                added.push(name.to_string());
            }
        }
    }
    Ok(added)
}

/// There was room when the apply was queued; the limit may be lower by now.
async fn check_limit(tx: &SystemTx, tenant: TenantId) -> Result<()> {
    tenants::reserve(
        tx.conn(),
        tenant,
        |l| l.accounts,
        ACCOUNTS,
        async |conn| {
            let there = count_accounts(conn, tenant).await?;
            Ok(there.saturating_add(reservations::count_held(conn, tenant).await?))
        },
    )
    .await
}

/// Gives up what the job took; what others hold on to stays. May be repeated.
pub async fn give_up(tx: &SystemTx, claim: &Claim) -> Result<()> {
    jobs::hold(tx, claim).await?;
    give_up_of(tx, claim.job).await
}

async fn give_up_of(tx: &SystemTx, job: JobId) -> Result<()> {
    domain::Entity::delete_many().filter(domain::Column::JobId.eq(job)).exec(tx.conn()).await?;
    let accounts = hosting_account::Entity::find()
        .filter(hosting_account::Column::JobId.eq(job))
        .all(tx.conn())
        .await?;
    for account in accounts {
        let others = domain::Entity::find()
            .filter(domain::Column::AccountId.eq(account.id))
            .one(tx.conn())
            .await?;
        if others.is_none() {
            remove(tx, account.id).await?;
        }
    }
    Ok(())
}

/// Removes an account and its domains, for a claimed job that has removed them from the server.
pub async fn remove_account(tx: &SystemTx, claim: &Claim, id: AccountId) -> Result<()> {
    jobs::hold(tx, claim).await?;
    domain::Entity::delete_many().filter(domain::Column::AccountId.eq(id)).exec(tx.conn()).await?;
    remove(tx, id).await
}

async fn remove(tx: &SystemTx, id: AccountId) -> Result<()> {
    services::lose_account(tx, id).await?;
    certificates::lose_account(tx, id).await?;
    hosting_account::Entity::delete_by_id(id).exec(tx.conn()).await?;
    Ok(())
}

/// The domains of an account, by name, for a worker.
pub async fn load_domains(tx: &SystemTx, account: AccountId) -> Result<Vec<DomainName>> {
    let rows = domain::Entity::find()
        .filter(domain::Column::AccountId.eq(account))
        .order_by_asc(domain::Column::Name)
        .all(tx.conn())
        .await?;
    rows.iter().map(|row| Ok(DomainName::parse(&row.name)?)).collect()
}
