//! Zones and their record sets: Postgres is the truth, the DNS servers are made equal to it.
//!
//! [`zones`] makes, changes and ends them under the [`names`] that may be had, where neighbours have
//! made [`agreements`]. [`changes`] is the one way to a zone's records, within a [`budget`];
//! [`templates`] and [`reverse`] go through it, and jobs through [`restore`] and [`challenge`].
//! [`sync`] is what a worker needs to make [`servers`] equal to the rows, [`signing`] and
//! [`verification`] what it does beside that.

pub mod agreements;
pub mod budget;
pub mod challenge;
pub mod changes;
pub(crate) mod delegation;
pub mod names;
pub mod restore;
pub mod reverse;
pub mod servers;
pub mod signing;
pub mod sync;
pub mod templates;
pub mod verification;
pub mod zones;

use crate::Result;
use crate::db::TenantTx;
use crate::error::Error;
use crate::ids::{TenantId, ZoneId};
use crate::tables::{dns_record_set, dns_zone};
use crate::tenancy::TenantCtx;
use chrono::{DateTime, Datelike, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use values::DomainName;
use zonefile::{RecordSet, Soa};

/// So many sets a zone has at most.
pub const SETS_MAX: usize = 20_000;

/// The numbers of a zone's SOA, in seconds (RFC 1035 section 3.3.13; the defaults are those that RIPE-203
/// recommends for small zones, with an hour for what is not there).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SoaTimes {
    /// Who is responsible, as a mail address; none: `hostmaster` at the zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostmaster: Option<String>,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    /// How long it is remembered that something is not there.
    pub minimum: u32,
}

impl Default for SoaTimes {
    fn default() -> Self {
        Self { hostmaster: None, refresh: 10_800, retry: 3600, expire: 1_209_600, minimum: 3600 }
    }
}

impl SoaTimes {
    /// Of a zone's row.
    pub fn of(row: &dns_zone::Model) -> Result<Self> {
        Ok(serde_json::from_value(row.soa.clone())?)
    }
}

/// What a secondary server has of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// None: it does not answer for the zone.
    pub serial: Option<u32>,
    pub error: Option<String>,
    pub checked_at: DateTime<Utc>,
}

/// The zone's name.
pub fn name_of(row: &dns_zone::Model) -> Result<DomainName> {
    Ok(DomainName::parse(&row.name)?)
}

/// Seconds for people: how long a zone's SOA is remembered.
const SOA_TTL: u32 = 3600;

/// The SOA as it is served, but for what a signer does to the serial.
pub fn soa(row: &dns_zone::Model, sets: &[RecordSet]) -> Result<Soa> {
    let times = SoaTimes::of(row)?;
    let apex = format!("{}.", row.name);
    let servers = sets.iter().find(|set| set.rtype == "NS" && set.name == apex);
    let primary = servers.and_then(|set| set.records.first().cloned());
    let hostmaster = match times.hostmaster.as_deref().and_then(|mail| mail.split_once('@')) {
        // A dot in the local part would begin another label (RFC 1035 section 8).
        Some((local, domain)) => format!("{}.{domain}.", local.replace('.', "\\.")),
        None => format!("hostmaster.{apex}"),
    };
    Ok(Soa {
        primary: primary.unwrap_or_else(|| format!("ns1.{apex}")),
        hostmaster,
        serial: u32::try_from(row.serial).map_err(Error::internal)?,
        refresh: times.refresh,
        retry: times.retry,
        expire: times.expire,
        minimum: times.minimum,
        ttl: SOA_TTL,
    })
}

/// The serial after this one: the day with two digits as RFC 1912 section 2.2 has it, or one more.
pub(crate) fn next_serial(serial: i64, now: DateTime<Utc>) -> i64 {
    let day = i64::from(now.year()) * 10_000 + i64::from(now.month()) * 100 + i64::from(now.day());
    let next = serial.saturating_add(1).max(day * 100);
    // Serials go round (RFC 1982); 0 has a meaning of its own to some servers.
    if next > i64::from(u32::MAX) { 1 } else { next }
}

/// Which zones are asked for.
#[derive(Debug, Default)]
pub struct Filter {
    /// A part of the name.
    pub name: Option<String>,
    pub state: Option<String>,
}

/// A page of the tenant's zones that the caller may see, by name, and how many there are.
pub async fn list_zones(
    tx: &TenantTx,
    filter: &Filter,
    offset: u64,
    limit: u64,
) -> Result<(Vec<dns_zone::Model>, u64)> {
    let mut query = tx.own::<dns_zone::Entity>();
    if let Some(zones) = tx.ctx().bound_zones() {
        query = query.filter(dns_zone::Column::Id.is_in(zones));
    }
    if let Some(part) = &filter.name {
        query = query.filter(names::holds(dns_zone::Column::Name, &part.to_lowercase()));
    }
    if let Some(state) = &filter.state {
        query = query.filter(dns_zone::Column::State.eq(state.as_str()));
    }
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_asc(dns_zone::Column::Name);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A zone of the tenant that the caller may see.
pub async fn find_zone(tx: &TenantTx, id: ZoneId) -> Result<dns_zone::Model> {
    seen(tx.ctx(), id)?;
    tx.own_by_id::<dns_zone::Entity>(id).one(tx.conn()).await?.ok_or(Error::NotFound("zone"))
}

/// The same, locked until the transaction ends, and not on its way out.
pub(crate) async fn lock_zone(tx: &TenantTx, id: ZoneId) -> Result<dns_zone::Model> {
    seen(tx.ctx(), id)?;
    let row = tx.own_by_id::<dns_zone::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    row.filter(|row| row.state != "deleting").ok_or(Error::NotFound("zone"))
}

/// A key that is bound to zones does not know of others.
fn seen(ctx: &TenantCtx, id: ZoneId) -> Result<()> {
    let others = ctx.bound_zones().is_some_and(|zones| !zones.contains(&id));
    if others { Err(Error::NotFound("zone")) } else { Ok(()) }
}

/// Which record sets are asked for.
#[derive(Debug, Default)]
pub struct SetFilter {
    /// A part of the name.
    pub name: Option<String>,
    pub rtype: Option<String>,
}

/// A page of a zone's record sets, by name and type, and how many there are.
pub async fn list_sets(
    tx: &TenantTx,
    zone: ZoneId,
    filter: &SetFilter,
    (offset, limit): (u64, u64),
) -> Result<(Vec<dns_record_set::Model>, u64)> {
    let mut query = tx
        .own::<dns_record_set::Entity>()
        .filter(dns_record_set::Column::ZoneId.eq(zone))
        .order_by_asc(dns_record_set::Column::Name)
        .order_by_asc(dns_record_set::Column::Rtype);
    if let Some(part) = &filter.name {
        query = query.filter(names::holds(dns_record_set::Column::Name, &part.to_lowercase()));
    }
    if let Some(rtype) = &filter.rtype {
        query = query.filter(dns_record_set::Column::Rtype.eq(rtype.to_uppercase()));
    }
    let total = query.clone().count(tx.conn()).await?;
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// One record set; the name is absolute with its final dot.
pub async fn find_set(
    tx: &TenantTx,
    zone: ZoneId,
    name: &str,
    rtype: &str,
) -> Result<dns_record_set::Model> {
    tx.own::<dns_record_set::Entity>()
        .filter(dns_record_set::Column::ZoneId.eq(zone))
        .filter(dns_record_set::Column::Name.eq(name))
        .filter(dns_record_set::Column::Rtype.eq(rtype))
        .one(tx.conn())
        .await?
        .ok_or(Error::NotFound("record set"))
}

/// A row as a set.
pub fn set_of(row: dns_record_set::Model) -> Result<RecordSet> {
    Ok(RecordSet {
        name: row.name,
        rtype: row.rtype,
        ttl: u32::try_from(row.ttl).unwrap_or_default(),
        records: serde_json::from_value(row.records)?,
    })
}

/// All sets of a zone, by name and type.
pub(crate) async fn all_sets<C: ConnectionTrait>(
    conn: &C,
    tenant: TenantId,
    zone: ZoneId,
) -> Result<Vec<RecordSet>> {
    let rows = dns_record_set::Entity::find()
        .filter(dns_record_set::Column::TenantId.eq(tenant))
        .filter(dns_record_set::Column::ZoneId.eq(zone))
        .order_by_asc(dns_record_set::Column::Name)
        .order_by_asc(dns_record_set::Column::Rtype)
        .all(conn)
        .await?;
    rows.into_iter().map(set_of).collect()
}

/// A zone with all of its sets, of one moment.
pub async fn whole_zone(tx: &TenantTx, id: ZoneId) -> Result<(dns_zone::Model, Vec<RecordSet>)> {
    let row = find_zone(tx, id).await?;
    let sets = all_sets(tx.conn(), tx.tenant(), id).await?;
    Ok((row, sets))
}

/// The zone as a BIND zone file.
pub async fn export_zone(tx: &TenantTx, id: ZoneId) -> Result<String> {
    let (row, sets) = whole_zone(tx, id).await?;
    Ok(zonefile::write(&name_of(&row)?, &soa(&row, &sets)?, &sets))
}

/// The copies that a row holds, by the server's name.
pub fn copies(row: &dns_zone::Model) -> Result<BTreeMap<String, Copy>> {
    Ok(serde_json::from_value(row.copies.clone())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_grow_by_the_day_and_within_it() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let day = at("2026-11-23T10:00:00Z");
        assert_eq!(next_serial(1, day), 2_026_112_300);
        assert_eq!(next_serial(2_026_112_300, day), 2_026_112_301);
        assert_eq!(next_serial(2_026_112_399, day), 2_026_112_400);
        assert_eq!(next_serial(2_026_112_407, at("2026-11-24T00:00:00Z")), 2_026_112_408);
        assert_eq!(next_serial(3_000_000_000, day), 3_000_000_001);
        assert_eq!(next_serial(i64::from(u32::MAX), day), 1);
    }
}
