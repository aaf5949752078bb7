//! Zones and their record sets: Postgres is the truth, the DNS server is made equal to it.

use crate::Result;
use crate::db::{SystemTx, TenantTx};
use crate::error::{Code, Error};
use crate::ids::{RowId, TenantId, ZoneId};
use crate::jobs::{self, Claim};
use crate::tables::{dns_record_set, dns_zone, dns_zone_before};
use chrono::Utc;
use cpanel::plan::{Action, Ownership, RecordSet};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use values::DomainName;

/// A page of a tenant's zones, by name, and how many there are.
pub async fn list_zones(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<dns_zone::Model>, u64)> {
    let query = tx.own::<dns_zone::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_asc(dns_zone::Column::Name);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// Whose the zones of these names are.
pub async fn zone_ownership(
    tx: &SystemTx,
    tenant: TenantId,
    names: &[DomainName],
) -> Result<BTreeMap<DomainName, Ownership>> {
    let rows = dns_zone::Entity::find()
        .filter(dns_zone::Column::Name.is_in(names.iter().map(DomainName::as_str)))
        .all(tx.conn())
        .await?;
    Ok(names
        .iter()
        .map(|name| {
            let ownership = match rows.iter().find(|row| row.name == name.as_str()) {
                None => Ownership::Free,
                Some(row) if row.tenant_id == tenant => Ownership::Own,
                Some(_) => Ownership::Taken,
            };
            (name.clone(), ownership)
        })
        .collect())
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
            Some(row) => Some(record_sets(tx, row.id).await?),
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
    /// Whether the DNS server answers for it.
    pub active: bool,
}

/// Writes a zone for a claimed job. The state is `pending` until the DNS server has it. Answers what
/// the server shall have.
pub async fn write_zone(
    tx: &SystemTx,
    claim: &Claim,
    zone: &WantedZone<'_>,
) -> Result<Vec<RecordSet>> {
    let WantedZone { name, action, records, active } = *zone;
    jobs::hold(tx, claim).await?;
    let row = own_zone(tx, claim.tenant, name).await?;
    let (id, standing) = match row {
        Some(row) => {
            let standing =
                if action == Action::Merge { record_sets(tx, row.id).await? } else { Vec::new() };
            let id = row.id;
            let mut row: dns_zone::ActiveModel = row.into();
            row.state = Set("pending".to_owned());
            row.update(tx.conn()).await?;
            (id, standing)
        }
        None => {
            let id = ZoneId::new();
            dns_zone::ActiveModel {
                id: Set(id),
                tenant_id: Set(claim.tenant),
                name: Set(name.to_string()),
                job_id: Set(claim.job),
                active: Set(active),
                state: Set("pending".to_owned()),
                error: NotSet,
                created_at: Set(Utc::now()),
            }
            .insert(tx.conn())
            .await?;
            (id, Vec::new())
        }
    };
    let mut wanted: Vec<RecordSet> = standing;
    for set in records {
        if !wanted.iter().any(|w| w.name == set.name && w.rtype == set.rtype) {
            wanted.push(set.clone());
        }
    }
    write_records(tx, claim.tenant, id, &wanted).await?;
    Ok(wanted)
}

/// What the DNS server must do so that a zone is as it was.
#[derive(Debug)]
pub enum Restored {
    /// Nothing: the job has not touched it.
    Untouched,
    /// Hold exactly these sets.
    Put(Vec<RecordSet>),
    /// Forget it; then [`forget_zone`].
    Delete,
}

/// Puts a zone back to what it was, in the rows. A zone that is to go stays as `deleting` until the
/// DNS server has forgotten it, so that a death in between loses nothing, and so that a zone which
/// the job never wrote is never removed from the server.
pub async fn restore_zone(tx: &SystemTx, claim: &Claim, before: &ZoneBefore) -> Result<Restored> {
    jobs::hold(tx, claim).await?;
    let Some(row) = own_zone(tx, claim.tenant, &before.name).await? else {
        return Ok(Restored::Untouched);
    };
    if let Some(records) = &before.records {
        write_records(tx, claim.tenant, row.id, records).await?;
        return Ok(Restored::Put(records.clone()));
    }
    let mut row: dns_zone::ActiveModel = row.into();
    row.state = Set("deleting".to_owned());
    row.update(tx.conn()).await?;
    Ok(Restored::Delete)
}

/// Removes the row of a zone that the DNS server has forgotten.
pub async fn forget_zone(tx: &SystemTx, claim: &Claim, name: &DomainName) -> Result<()> {
    jobs::hold(tx, claim).await?;
    dns_zone::Entity::delete_many()
        .filter(dns_zone::Column::TenantId.eq(claim.tenant))
        .filter(dns_zone::Column::Name.eq(name.as_str()))
        .filter(dns_zone::Column::State.eq("deleting"))
        .exec(tx.conn())
        .await?;
    Ok(())
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
            zones.push((name.clone(), record_sets(tx, row.id).await?));
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

/// Records what the DNS server said to a zone: nothing, or an error.
pub async fn record_sync(
    tx: &SystemTx,
    claim: &Claim,
    name: &DomainName,
    error: Option<String>,
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let Some(row) = own_zone(tx, claim.tenant, name).await? else { return Ok(()) };
    let mut row: dns_zone::ActiveModel = row.into();
    row.state = Set(if error.is_none() { "in_sync" } else { "error" }.to_owned());
    row.error = Set(error);
    row.update(tx.conn()).await?;
    Ok(())
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
        Some(row) if row.tenant_id != tenant => Err(Error::refused(
            Code::PlanChanged,
            format!("The zone {name} belongs to another account since the preview. Preview again."),
        )),
        other => Ok(other),
    }
}

async fn record_sets(tx: &SystemTx, zone: ZoneId) -> Result<Vec<RecordSet>> {
    let rows = dns_record_set::Entity::find()
        .filter(dns_record_set::Column::ZoneId.eq(zone))
        .order_by_asc(dns_record_set::Column::Name)
        .order_by_asc(dns_record_set::Column::Rtype)
        .all(tx.conn())
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(RecordSet {
                name: row.name,
                rtype: row.rtype,
                ttl: u32::try_from(row.ttl).unwrap_or_default(),
                records: serde_json::from_value(row.records)?,
            })
        })
        .collect()
}

async fn write_records(
    tx: &SystemTx,
    tenant: TenantId,
    zone: ZoneId,
    sets: &[RecordSet],
) -> Result<()> {
    dns_record_set::Entity::delete_many()
        .filter(dns_record_set::Column::ZoneId.eq(zone))
        .exec(tx.conn())
        .await?;
    let mut rows = Vec::with_capacity(sets.len());
    for set in sets {
        rows.push(dns_record_set::ActiveModel {
            id: Set(RowId::new()),
            tenant_id: Set(tenant),
            zone_id: Set(zone),
            name: Set(set.name.clone()),
            rtype: Set(set.rtype.clone()),
            ttl: Set(i32::try_from(set.ttl).unwrap_or(i32::MAX)),
            records: Set(serde_json::to_value(&set.records)?),
        });
    }
    if !rows.is_empty() {
        dns_record_set::Entity::insert_many(rows).exec_without_returning(tx.conn()).await?;
    }
    Ok(())
}
