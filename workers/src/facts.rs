//! What the control plane knows about a migration's names, for the planner.

use crate::error::Result;
use crate::world::World;
use cpanel::plan::{ControlFacts, Ownership};
use entities::error::Error;
use entities::ids::TenantId;
use entities::tables::{migration, server};
use entities::values::Username;
use entities::{dns, hosting, migrations};

/// Gathers the facts for a migration as they are now.
pub async fn control_facts(
    world: &World,
    tenant: TenantId,
    row: &migration::Model,
    server: &server::Model,
) -> Result<ControlFacts> {
    let tx = world.db.system().await?;
    let user = Username::parse(&row.target_user)?;
    let names = migrations::planned_domains(row)?;
    let (ownership, account) = hosting::account_ownership(&tx, tenant, server.id, &user).await?;
    let mut owners = hosting::domain_ownership(&tx, tenant, account, &names).await?;
    for (name, zone) in dns::zone_ownership(&tx, tenant, &names).await? {
        let owner = owners.entry(name).or_insert(Ownership::Free);
        *owner = match (*owner, zone) {
            (Ownership::Taken, _) | (_, Ownership::Taken) => Ownership::Taken,
            (Ownership::Own, _) => Ownership::Own,
            (Ownership::Free, zone) => zone,
        };
    }
    let mut unknown = Vec::new();
    for name in migrations::planned_zones(row)? {
        if !dns::is_known(&tx, &name).await? {
            unknown.push(name);
        }
    }
    drop(tx);
    for name in unknown {
        if world.powerdns.has_zone(&name).await? {
            owners.insert(name, Ownership::Taken);
        }
    }
    Ok(ControlFacts {
        ipv4: server.ipv4.parse().map_err(Error::internal)?,
        ipv6: server.ipv6.as_deref().map(str::parse).transpose().map_err(Error::internal)?,
        nameservers: world.config.nameservers.clone(),
        ownership: owners,
        account: ownership,
        activate_domains: row.activate_domains,
    })
}
