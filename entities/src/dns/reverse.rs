//! Names of addresses: PTR records in the reverse zones of the platform.

use crate::Result;
use crate::audit::Audit;
use crate::cloudpods::pools;
use crate::db::SystemTx;
use crate::dns::changes::{Difference, bump, write_diff};
use crate::dns::set_of;
use crate::error::{Code, Error};
use crate::ids::TenantId;
use crate::outbox::Message;
use crate::tables::{dns_record_set, dns_zone};
use crate::tenancy::{Permission, TenantCtx};
use crate::tenants;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use std::collections::BTreeSet;
use std::net::IpAddr;
use values::DomainName;
use zonefile::RecordSet;

/// Seconds.
const TTL: u32 = 3600;

/// The name below which an address has its PTR record, without a final dot (RFC 1035 section 3.5,
/// RFC 3596 section 2.5).
#[must_use]
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|o| [o & 15, o >> 4]);
            let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

/// An address and what it is called.
#[derive(Debug)]
pub struct Named {
    pub address: IpAddr,
    pub zone: dns_zone::Model,
    /// None: it has no name.
    pub set: Option<RecordSet>,
}

/// Refuses an address that is not the caller's: the platform's staff has all, a tenant those that were
/// allocated to it.
async fn may_name(tx: &SystemTx, ctx: &TenantCtx, address: IpAddr) -> Result<()> {
    if ctx.is_platform_staff() || pools::is_held_by(tx, ctx.tenant(), address).await? {
        return Ok(());
    }
    Err(Error::NotFound("address"))
}

/// The longest reverse zone of the platform that holds the address.
async fn zone_of(tx: &SystemTx, address: IpAddr) -> Result<dns_zone::Model> {
    let platform = tenants::platform(tx).await?.ok_or(Error::NotFound("tenant"))?;
    let name = reverse_name(address);
    let mut names = vec![name.as_str()];
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        names.push(parent);
        rest = parent;
    }
    let rows = dns_zone::Entity::find()
        .filter(dns_zone::Column::TenantId.eq(platform))
        .filter(dns_zone::Column::Name.is_in(names))
        .filter(dns_zone::Column::State.ne("deleting"))
        .lock_exclusive()
        .all(tx.conn())
        .await?;
    rows.into_iter().max_by_key(|row| row.name.len()).ok_or_else(|| {
        Error::refused(
            Code::Conflict,
            format!("There is no reverse zone for {address}. Make one first, for its network."),
        )
    })
}

async fn set_at(tx: &SystemTx, zone: &dns_zone::Model, name: &str) -> Result<Option<RecordSet>> {
    let row = dns_record_set::Entity::find()
        .filter(dns_record_set::Column::ZoneId.eq(zone.id))
        .filter(dns_record_set::Column::Name.eq(name))
        .filter(dns_record_set::Column::Rtype.eq("PTR"))
        .one(tx.conn())
        .await?;
    row.map(set_of).transpose()
}

/// What an address is called.
pub async fn find_name(tx: &SystemTx, ctx: &TenantCtx, address: IpAddr) -> Result<Named> {
    ctx.require(Permission::ZonesRead)?;
    ctx.refuse_bound()?;
    may_name(tx, ctx, address).await?;
    let zone = zone_of(tx, address).await?;
    let set = set_at(tx, &zone, &format!("{}.", reverse_name(address))).await?;
    Ok(Named { address, zone, set })
}

/// Gives an address a name, or takes it away. Repeating it changes nothing.
pub async fn set_name(
    tx: &SystemTx,
    ctx: &TenantCtx,
    address: IpAddr,
    hostname: Option<&DomainName>,
) -> Result<Named> {
    ctx.require_write(Permission::ZonesWrite)?;
    ctx.refuse_bound()?;
    may_name(tx, ctx, address).await?;
    let named = put_name(tx, address, hostname).await?;
    let entry = Audit::DnsReverseSet {
        address: address.to_string(),
        hostname: hostname.map(ToString::to_string),
    };
    tx.audit(ctx, entry).await?;
    Ok(named)
}

/// The same for our own jobs, as an address is allocated or released.
pub async fn put_name(
    tx: &SystemTx,
    address: IpAddr,
    hostname: Option<&DomainName>,
) -> Result<Named> {
    let zone = zone_of(tx, address).await?;
    let name = format!("{}.", reverse_name(address));
    let before = set_at(tx, &zone, &name).await?;
    let after = hostname.map(|hostname| RecordSet {
        name: name.clone(),
        rtype: "PTR".to_owned(),
        ttl: before.as_ref().map_or(TTL, |set| set.ttl),
        records: BTreeSet::from([format!("{hostname}.")]),
    });
    if before == after {
        return Ok(Named { address, zone, set: after });
    }
    let (tenant, id): (TenantId, _) = (zone.tenant_id, zone.id);
    let diff = Difference { name, rtype: "PTR".to_owned(), before, after: after.clone() };
    write_diff(tx.conn(), (tenant, id), &[diff]).await?;
    let zone = bump(tx.conn(), zone, None).await?;
    tx.publish(tenant, Message::ZoneChanged { zone: id }).await?;
    Ok(Named { address, zone, set: after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_turned_around() {
        let name = |text: &str| reverse_name(text.parse().unwrap());
        assert_eq!(name("192.0.2.17"), "17.2.0.192.in-addr.arpa");
        assert_eq!(
            name("2001:db8::567:89ab"),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
