//! A pod's names in the DNS: address records in the tenant's zone, and PTR records in the platform's.
//!
//! A record that stood there before is the customer's and stays as it is; what was made for a pod goes
//! with it, unless somebody has changed it since.

use super::create::PodName;
use super::{load_claimed, lock};
use crate::Result;
use crate::audit::Audit;
use crate::db::SystemTx;
use crate::dns::changes::{Difference, bump, by_key, write_diff};
use crate::dns::{all_sets, challenge, name_of, reverse};
use crate::error::{Code, Error};
use crate::ids::{TenantId, ZoneId};
use crate::jobs::{self, Claim};
use crate::outbox::Message;
use crate::tables::{cloudpod, dns_zone};
use crate::tenancy::TenantCtx;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QuerySelect,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use values::DomainName;
use zonefile::{RecordSet, check_zone};

/// Seconds.
const TTL: u32 = 300;

/// A record set that was made for a pod, or the name of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Made {
    Address { zone: ZoneId, name: String, rtype: String, record: String },
    Reverse { address: IpAddr },
}

/// Makes the records of a claimed pod; what was done, and what was left out and why, in sentences. May
/// be repeated.
pub async fn publish(tx: &SystemTx, claim: &Claim) -> Result<Vec<String>> {
    let row = lock(tx, load_claimed(tx, claim).await?.id).await?;
    jobs::hold(tx, claim).await?;
    let mut made: Vec<Made> = serde_json::from_value(row.dns.clone())?;
    let mut notes = Vec::new();
    let name = PodName::parse(&row.hostname)?.domain();
    let addresses = addresses_of(&row);
    match &name {
        None => notes
            .push(format!("{} has no domain: its names in the DNS were skipped.", row.hostname)),
        Some(name) => {
            put_addresses(tx, (claim.tenant, name), &addresses, (&mut made, &mut notes)).await?;
            put_reverse(tx, claim, name, &addresses, (&mut made, &mut notes)).await?;
        }
    }
    let mut row: cloudpod::ActiveModel = row.into();
    row.dns = Set(serde_json::to_value(&made)?);
    row.dns_note = Set(Some(notes.join(" ")));
    row.update(tx.conn()).await?;
    Ok(notes)
}

fn addresses_of(row: &cloudpod::Model) -> Vec<IpAddr> {
    [&row.ipv4, &row.ipv6].into_iter().flatten().filter_map(|a| a.parse().ok()).collect()
}

fn record_of(name: &DomainName, address: &IpAddr) -> RecordSet {
    RecordSet {
        name: format!("{name}."),
        rtype: if address.is_ipv4() { "A" } else { "AAAA" }.to_owned(),
        ttl: TTL,
        records: BTreeSet::from([address.to_string()]),
    }
}

type Report<'a> = (&'a mut Vec<Made>, &'a mut Vec<String>);

async fn put_addresses(
    tx: &SystemTx,
    (tenant, name): (TenantId, &DomainName),
    addresses: &[IpAddr],
    (made, notes): Report<'_>,
) -> Result<()> {
    let Some(zone) = challenge::zone_for(tx, tenant, name).await? else {
        notes.push(format!("No zone of yours holds {name}: its address records were skipped."));
        return Ok(());
    };
    let row = dns_zone::Entity::find_by_id(zone).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("zone"))?;
    let apex = name_of(&row)?;
    let mut diff = Vec::new();
    let mut sets = by_key(all_sets(tx.conn(), tenant, zone).await?);
    for address in addresses {
        let wanted = record_of(name, address);
        let key = (wanted.name.clone(), wanted.rtype.clone());
        if let Some(standing) = sets.get(&key) {
            let is_ours = standing.records == wanted.records;
            let what = if is_ours { "stands already" } else { "is something else and stays so" };
            notes.push(format!("{} {} {what}.", wanted.name, wanted.rtype));
            continue;
        }
        let mut after = sets.clone();
        after.insert(key, wanted.clone());
        let whole: Vec<RecordSet> = after.values().cloned().collect();
        let problems = check_zone(&apex, &whole);
        let of_ours = problems.iter().find(|(at, _)| whole.get(*at) == Some(&wanted));
        if let Some((_, problem)) = of_ours {
            let (name, rtype) = (&wanted.name, &wanted.rtype);
            notes.push(format!("{name} {rtype} was skipped: it {}.", problem.message));
            continue;
        }
        sets = after;
        let record = address.to_string();
        made.push(Made::Address {
            zone,
            name: wanted.name.clone(),
            rtype: wanted.rtype.clone(),
            record: record.clone(),
        });
        notes.push(format!("{} {} is {record}.", wanted.name, wanted.rtype));
        let (name, rtype) = (wanted.name.clone(), wanted.rtype.clone());
        diff.push(Difference { name, rtype, before: None, after: Some(wanted) });
    }
    write(tx, row, &diff).await
}

async fn write(tx: &SystemTx, zone: dns_zone::Model, diff: &[Difference]) -> Result<()> {
    if diff.is_empty() {
        return Ok(());
    }
    let (tenant, id) = (zone.tenant_id, zone.id);
    write_diff(tx.conn(), (tenant, id), diff).await?;
    bump(tx.conn(), zone, None).await?;
    let ctx = TenantCtx::system(tenant);
    for change in diff {
        let entry = match (&change.before, &change.after) {
            (_, Some(after)) => Audit::DnsRecordCreated {
                zone: id,
                name: change.name.clone(),
                after: serde_json::json!({ "type": after.rtype, "ttl": after.ttl, "records": after.records }),
            },
            (before, None) => Audit::DnsRecordDeleted {
                zone: id,
                name: change.name.clone(),
                before: serde_json::json!({ "type": change.rtype, "records": before.as_ref().map(|b| &b.records) }),
            },
        };
        tx.audit(&ctx, entry).await?;
    }
    tx.publish(tenant, Message::ZoneChanged { zone: id }).await
}

/// PTR records are for names of the tenant's own zones, so that nobody is called after others.
async fn put_reverse(
    tx: &SystemTx,
    claim: &Claim,
    name: &DomainName,
    addresses: &[IpAddr],
    (made, notes): Report<'_>,
) -> Result<()> {
    if challenge::zone_for(tx, claim.tenant, name).await?.is_none() {
        notes.push("Reverse names are for names of your own zones: they were skipped.".to_owned());
        return Ok(());
    }
    for address in addresses {
        match reverse::put_name(tx, *address, Some(name)).await {
            Ok(_) => {
                let made_now = Made::Reverse { address: *address };
                if !made.contains(&made_now) {
                    made.push(made_now);
                }
                notes.push(format!("{address} is called {name}."));
            }
            Err(error) if error.code() == Code::Conflict => {
                notes.push(format!("{address} has no reverse zone here: its name was skipped."));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes back the records that were made for a claimed pod, and whatever its addresses are called: the next
/// who has them is somebody else. Address records that somebody has changed since stay. May be repeated.
pub async fn withdraw(tx: &SystemTx, claim: &Claim) -> Result<Vec<String>> {
    let row = lock(tx, load_claimed(tx, claim).await?.id).await?;
    jobs::hold(tx, claim).await?;
    let made: Vec<Made> = serde_json::from_value(row.dns.clone())?;
    let mut notes = Vec::new();
    for one in made {
        match one {
            Made::Address { zone, name, rtype, record } => {
                let gone = remove_address(tx, zone, (&name, &rtype), &record).await?;
                let what = if gone { "was removed" } else { "is something else by now and stays" };
                notes.push(format!("{name} {rtype} {what}."));
            }
            // Below, with those that the customer gave.
            Made::Reverse { .. } => {}
        }
    }
    for address in addresses_of(&row) {
        match reverse::put_name(tx, address, None).await {
            Ok(_) => notes.push(format!("{address} has no name any more.")),
            Err(error) if error.code() == Code::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    let mut row: cloudpod::ActiveModel = row.into();
    row.dns = Set(serde_json::json!([]));
    row.dns_note = Set(None);
    row.update(tx.conn()).await?;
    Ok(notes)
}

async fn remove_address(
    tx: &SystemTx,
    zone: ZoneId,
    (name, rtype): (&str, &str),
    record: &str,
) -> Result<bool> {
    let row = dns_zone::Entity::find_by_id(zone)
        .filter(dns_zone::Column::State.ne("deleting"))
        .lock_exclusive()
        .one(tx.conn())
        .await?;
    let Some(row) = row else { return Ok(false) };
    let mut sets = by_key(all_sets(tx.conn(), row.tenant_id, zone).await?);
    let standing = sets.remove(&(name.to_owned(), rtype.to_owned()));
    let Some(set) = standing.filter(|set| set.records.iter().eq([record])) else {
        return Ok(false);
    };
    let diff = Difference {
        name: name.to_owned(),
        rtype: rtype.to_owned(),
        before: Some(set),
        after: None,
    };
    write(tx, row, &[diff]).await?;
    Ok(true)
}
