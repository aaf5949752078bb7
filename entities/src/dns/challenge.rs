//! Answers to certificate authorities: TXT records that a claimed job puts beside what stands at their
//! name, and takes away again.

use crate::Result;
use crate::db::SystemTx;
use crate::dns::changes::{Difference, bump, write_diff};
use crate::dns::{name_of, set_of};
use crate::error::Error;
use crate::ids::{TenantId, ZoneId};
use crate::jobs::{self, Claim};
use crate::outbox::Message;
use crate::tables::{dns_record_set, dns_zone};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use values::DomainName;
use zonefile::{RecordSet, txt_record};

/// Seconds: a challenge is looked at once.
const TTL: u32 = 60;

/// The tenant's zone that answers for the name; none when its DNS is elsewhere.
pub async fn zone_for(
    tx: &SystemTx,
    tenant: TenantId,
    name: &DomainName,
) -> Result<Option<ZoneId>> {
    let mut names = vec![name.as_str()];
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        names.push(parent);
        rest = parent;
    }
    let rows = dns_zone::Entity::find()
        .filter(dns_zone::Column::Name.is_in(names))
        .filter(dns_zone::Column::Active.eq(true))
        .filter(dns_zone::Column::State.ne("deleting"))
        .all(tx.conn())
        .await?;
    // The longest one answers, whoever has it.
    let longest = rows.into_iter().max_by_key(|row| row.name.len());
    Ok(longest.filter(|row| row.tenant_id == tenant).map(|row| row.id))
}

/// Adds a value at a name of a zone; the name is absolute with its final dot. May be repeated.
pub async fn put(
    tx: &SystemTx,
    claim: &Claim,
    zone: ZoneId,
    name: &str,
    value: &str,
) -> Result<()> {
    change(tx, claim, zone, name, |set| {
        set.records.insert(txt_record(value.as_bytes()));
    })
    .await
}

/// Takes a value away again; other values at the name stay. May be repeated, also when the zone is gone.
pub async fn remove(
    tx: &SystemTx,
    claim: &Claim,
    zone: ZoneId,
    name: &str,
    value: &str,
) -> Result<()> {
    let gone = |error: &Error| matches!(error, Error::NotFound(_));
    let removed = change(tx, claim, zone, name, |set| {
        set.records.remove(&txt_record(value.as_bytes()));
    });
    match removed.await {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

async fn change(
    tx: &SystemTx,
    claim: &Claim,
    zone: ZoneId,
    name: &str,
    how: impl FnOnce(&mut RecordSet),
) -> Result<()> {
    jobs::hold(tx, claim).await?;
    let row = dns_zone::Entity::find_by_id(zone)
        .filter(dns_zone::Column::TenantId.eq(claim.tenant))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .filter(|row| row.state != "deleting")
        .ok_or(Error::NotFound("zone"))?;
    let apex = format!("{}.", name_of(&row)?);
    if !name.strip_suffix(&apex).is_some_and(|rest| rest.ends_with('.')) {
        return Err(Error::internal(format!("{name} does not lie in the zone {apex}")));
    }
    let standing = dns_record_set::Entity::find()
        .filter(dns_record_set::Column::ZoneId.eq(zone))
        .filter(dns_record_set::Column::Name.eq(name))
        .filter(dns_record_set::Column::Rtype.eq("TXT"))
        .one(tx.conn())
        .await?;
    let before = standing.map(set_of).transpose()?;
    let mut after = before.clone().unwrap_or_else(|| RecordSet {
        name: name.to_owned(),
        rtype: "TXT".to_owned(),
        ttl: TTL,
        records: std::collections::BTreeSet::new(),
    });
    how(&mut after);
    let after = Some(after).filter(|set| !set.records.is_empty());
    if before == after {
        return Ok(());
    }
    let diff = Difference { name: name.to_owned(), rtype: "TXT".to_owned(), before, after };
    write_diff(tx.conn(), (claim.tenant, zone), &[diff]).await?;
    bump(tx.conn(), row, None).await?;
    tx.publish(claim.tenant, Message::ZoneChanged { zone }).await
}

/// Whether the DNS servers have all changes of a zone; why not, as an error, when they cannot.
pub async fn is_served(tx: &SystemTx, zone: ZoneId) -> Result<bool> {
    let row = dns_zone::Entity::find_by_id(zone).one(tx.conn()).await?;
    Ok(row.is_some_and(|row| row.state == "in_sync" && row.applied_version == Some(row.version)))
}
