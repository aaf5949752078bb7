//! What the control plane knows about an account's names, for the planner.

use crate::error::Result;
use crate::world::World;
use cpanel::plan::{ControlFacts, Ownership};
use entities::db::SystemTx;
use entities::dns::{restore, verification};
use entities::error::Error;
use entities::ids::TenantId;
use entities::tables::{migration, server, service};
use entities::values::{DomainName, Username};
use entities::{hosting, migrations, services};
use std::collections::BTreeSet;

/// Who an account is on its server, and the names that it wants.
#[derive(Debug)]
pub struct Named {
    pub user: Username,
    /// Those of its zones, too.
    pub domains: Vec<DomainName>,
    pub zones: Vec<DomainName>,
    /// Whether the platform vouches for its domains: they take mail and answer DNS at once.
    pub vouched: bool,
    /// Whether its zones are answered at once all the same.
    pub answers: bool,
}

impl Named {
    /// Of the account that a migration makes, or fills.
    pub fn of_migration(row: &migration::Model) -> Result<Self> {
        Ok(Self {
            user: Username::parse(&row.target_user)?,
            domains: migrations::planned_domains(row)?,
            zones: migrations::planned_zones(row)?,
            vouched: row.activate_domains,
            answers: row.activate_domains,
        })
    }

    /// Of the account of a service, which was paid for: its domain answers at once, and takes mail when
    /// it is the buyer's. Without one of its own it gets a name below `ours`.
    pub fn of_service(row: &service::Model, ours: &DomainName) -> Result<Self> {
        let user = services::username(row)?;
        let domain = match &row.domain {
            Some(name) => DomainName::parse(name)?,
            None => DomainName::parse(&format!("{user}.{ours}"))?,
        };
        let domains = vec![domain];
        let vouched = domains.iter().all(|name| name.is_below(ours));
        Ok(Self { user, zones: domains.clone(), domains, vouched, answers: true })
    }
}

/// Those of the names whose control the tenant has proven.
pub async fn proven(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[DomainName],
) -> Result<BTreeSet<DomainName>> {
    let mut proven = BTreeSet::new();
    for name in names {
        if verification::is_verified(tx, tenant, name).await? {
            proven.insert(name.clone());
        }
    }
    Ok(proven)
}

/// Gathers the facts for an account as they are now.
pub async fn control_facts(
    world: &World,
    tenant: TenantId,
    named: &Named,
    server: &server::Model,
) -> Result<ControlFacts> {
    let tx = world.db.system().await?;
    let (ownership, account) =
        hosting::account_ownership(&tx, tenant, server.id, &named.user).await?;
    let mut owners = hosting::domain_ownership(&tx, tenant, account, &named.domains).await?;
    for (name, zone) in restore::zone_ownership(&tx, tenant, &named.domains).await? {
        let owner = owners.entry(name).or_insert(Ownership::Free);
        *owner = match (*owner, zone) {
            (Ownership::Taken, _) | (_, Ownership::Taken) => Ownership::Taken,
            (Ownership::Own, _) => Ownership::Own,
            (Ownership::Free, zone) => zone,
        };
    }
    let proven = proven(&tx, tenant, &named.domains).await?;
    let mut unknown = Vec::new();
    for name in &named.zones {
        if !restore::is_known(&tx, name).await? {
            unknown.push(name.clone());
        }
    }
    drop(tx);
    for name in unknown {
        if world.dns.primary.api.has_zone(&name).await? {
            owners.insert(name, Ownership::Taken);
        }
    }
    Ok(ControlFacts {
        ipv4: server.ipv4.parse().map_err(Error::internal)?,
        ipv6: server.ipv6.as_deref().map(str::parse).transpose().map_err(Error::internal)?,
        nameservers: world.config.nameservers.clone(),
        ownership: owners,
        account: ownership,
        activate_domains: named.vouched,
        answer_zones: named.answers,
        proven,
    })
}
