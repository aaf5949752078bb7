//! Zones as jobs write them: what stood in them before is kept for their undo.

use crate::Result;
use crate::db::SystemTx;
use crate::dns::changes::{Difference, bump, by_key, write_diff};
use crate::dns::delegation::{self, Standing};
use crate::dns::{all_sets, names, next_serial, verification};
use crate::error::{Code, Error};
use crate::ids::{RowId, TenantId, ZoneId};
use crate::jobs::{self, Claim};
use crate::outbox::Message;
use crate::tables::{dns_zone, dns_zone_before};
use chrono::Utc;
use cpanel::plan::{Action, Ownership};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use values::DomainName;
use zonefile::RecordSet;

/// Whose the zones of these names are. A name is taken, too, when it lies above or below another
/// tenant's, who has not agreed.
pub async fn zone_ownership(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[DomainName],
) -> Result<BTreeMap<DomainName, Ownership>> {
    let rows = dns_zone::Entity::find()
        .filter(dns_zone::Column::Name.is_in(names.iter().map(DomainName::as_str)))
        .all(tx.conn())
        .await?;
    let mut owners = BTreeMap::new();
    for name in names {
        let ownership = match rows.iter().find(|row| row.name == name.as_str()) {
            Some(row) if row.tenant_id == tenant => Ownership::Own,
            Some(_) => Ownership::Taken,
            None if names::is_free(tx, tenant, name).await? => Ownership::Free,
            None => Ownership::Taken,
        };
        owners.insert(name.clone(), ownership);
    }
    Ok(owners)
}

/// A zone as it stood before a job changed it, for its undo.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneBefore {
    pub name: DomainName,
    /// None: the zone was not there.
    pub records: Option<Vec<RecordSet>>,
}

/// What stood in these zones before this run of the job: looked up and kept at the first call, and
/// answered from what was kept afterwards, so that a repetition never takes the job's own work for
/// what stood before.
pub async fn keep_before(
    tx: &SystemTx,
    claim: &Claim,
    names: &[DomainName],
) -> Result<Vec<ZoneBefore>> {
    jobs::hold(tx, claim).await?;
    let kept = dns_zone_before::Entity::find()
        .filter(dns_zone_before::Column::JobId.eq(claim.job))
        .filter(dns_zone_before::Column::Run.eq(claim.run))
        .one(tx.conn())
        .await?;
    if let Some(row) = kept {
        return Ok(serde_json::from_value(row.zones)?);
    }
    let mut before = Vec::with_capacity(names.len());
    for name in names {
        let records = match own_zone(tx, claim.tenant, name).await? {
            Some(row) => Some(all_sets(tx.conn(), row.tenant_id, row.id).await?),
            None => None,
        };
        before.push(ZoneBefore { name: name.clone(), records });
    }
    let row = dns_zone_before::ActiveModel {
        id: Set(RowId::new()),
        tenant_id: Set(claim.tenant),
        job_id: Set(claim.job),
        run: Set(claim.run),
        zones: Set(serde_json::to_value(&before)?),
    };
    dns_zone_before::Entity::insert(row).exec_without_returning(tx.conn()).await?;
    Ok(before)
}

/// A zone as a claimed job wants it.
#[derive(Debug)]
pub struct WantedZone<'a> {
    pub name: &'a DomainName,
    /// Made, replaced, or completed by the sets that are missing.
    pub action: Action,
    pub records: &'a [RecordSet],
    /// Whether the DNS servers answer for it.
    pub active: bool,
}

/// Writes a zone for a claimed job. The state is `pending` until the DNS servers have it.
pub async fn write_zone(tx: &SystemTx, claim: &Claim, zone: &WantedZone<'_>) -> Result<ZoneId> {
    let WantedZone { name, action, records, active } = *zone;
    jobs::hold(tx, claim).await?;
    names::lock(tx, name).await?;
    let row = match own_zone(tx, claim.tenant, name).await? {
        Some(row) => row,
        None => {
            let row = insert(tx, claim, name, active).await?;
            let apex = format!("{name}.");
            let servers = records.iter().find(|set| set.rtype == "NS" && set.name == apex);
            if let (true, Some(servers)) = (active, servers) {
                delegation::join(tx, &row, &servers.records, Standing::Leave).await?;
            }
            let again = dns_zone::Entity::find_by_id(row.id).one(tx.conn()).await?;
            again.unwrap_or(row)
        }
    };
    let before = all_sets(tx.conn(), claim.tenant, row.id).await?;
    let standing = if action == Action::Merge { before.clone() } else { Vec::new() };
    let mut wanted = by_key(records.to_vec());
    wanted.extend(by_key(standing));
    replace(tx, row, before, wanted.into_values().collect()).await
}

/// Makes the rows hold exactly these sets, as one more version.
async fn replace(
    tx: &SystemTx,
    row: dns_zone::Model,
    before: Vec<RecordSet>,
    after: Vec<RecordSet>,
) -> Result<ZoneId> {
    let (tenant, id) = (row.tenant_id, row.id);
    let (before, after) = (by_key(before), by_key(after));
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let diff: Vec<Difference> = keys
        .into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Difference {
            name: key.0.clone(),
            rtype: key.1.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect();
    write_diff(tx.conn(), (tenant, id), &diff).await?;
    bump(tx.conn(), row, None).await?;
    tx.publish(tenant, Message::ZoneChanged { zone: id }).await?;
    Ok(id)
}

async fn insert(
    tx: &SystemTx,
    claim: &Claim,
    name: &DomainName,
    active: bool,
) -> Result<dns_zone::Model> {
    if !names::is_free(tx, claim.tenant, name).await? {
        return Err(taken(name));
    }
    let now = Utc::now();
    let row = dns_zone::ActiveModel {
        id: Set(ZoneId::new()),
        tenant_id: Set(claim.tenant),
        name: Set(name.to_string()),
        job_id: Set(Some(claim.job)),
        active: Set(active),
        state: Set("pending".to_owned()),
        serial: Set(next_serial(delegation::last_serial(tx, name).await?, now)),
        verification_token: Set(Some(verification::new_token())),
        created_at: Set(now),
        ..Default::default()
    };
    Ok(row.insert(tx.conn()).await?)
}

fn taken(name: &DomainName) -> Error {
    Error::refused(
        Code::PlanChanged,
        format!("The zone {name} belongs to another account since the preview. Preview again."),
    )
}

/// Puts a zone back to what it was, in the rows; the servers follow. One that was not there becomes
/// `deleting`, and goes when the servers have forgotten it. None: the job has not touched it.
pub async fn restore_zone(
    tx: &SystemTx,
    claim: &Claim,
    before: &ZoneBefore,
) -> Result<Option<ZoneId>> {
    jobs::hold(tx, claim).await?;
    let Some(row) = own_zone(tx, claim.tenant, &before.name).await? else { return Ok(None) };
    let id = row.id;
    if let Some(records) = &before.records {
        let standing = all_sets(tx.conn(), claim.tenant, id).await?;
        return replace(tx, row, standing, records.clone()).await.map(Some);
    }
    let mut row: dns_zone::ActiveModel = row.into();
    row.state = Set("deleting".to_owned());
    row.next_at = Set(None);
    row.attempts = Set(0);
    row.update(tx.conn()).await?;
    tx.publish(claim.tenant, Message::ZoneChanged { zone: id }).await?;
    Ok(Some(id))
}

/// The tenant's zones of these names with their record sets, for a worker.
pub async fn load_zones(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[DomainName],
) -> Result<Vec<(DomainName, Vec<RecordSet>)>> {
    let mut zones = Vec::new();
    for name in names {
        if let Some(row) = own_zone(tx, tenant, name).await? {
            zones.push((name.clone(), all_sets(tx.conn(), tenant, row.id).await?));
        }
    }
    Ok(zones)
}

/// Whether there is a row for the zone, whoever owns it.
pub async fn is_known(tx: &SystemTx, name: &DomainName) -> Result<bool> {
    let row = dns_zone::Entity::find()
        .filter(dns_zone::Column::Name.eq(name.as_str()))
        .one(tx.conn())
        .await?;
    Ok(row.is_some())
}

async fn own_zone(
    tx: &SystemTx,
    tenant: TenantId,
    name: &DomainName,
) -> Result<Option<dns_zone::Model>> {
    let row = dns_zone::Entity::find()
        .filter(dns_zone::Column::Name.eq(name.as_str()))
        .one(tx.conn())
        .await?;
    match row {
        Some(row) if row.tenant_id != tenant => Err(taken(name)),
        other => Ok(other),
    }
}
