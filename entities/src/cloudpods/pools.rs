//! Address pools: what they hold, and giving addresses out of them.
//!
//! An address is held by a place on a server, from the moment room is held for an order on. When a
//! container that had it is gone it rests, so that what still talks to it does not reach the next
//! one. That nobody has it twice is a unique index.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{PlacementId, PoolId, RowId, TenantId};
use crate::tables::ip_address;
use crate::tables::ip_pool::{self, Column};
use crate::tenancy::{Permission, TenantCtx};
use chrono::Utc;
use ipnet::IpNet;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use values::Title;

/// The most addresses that a pool gives out: a /64 has more than anybody counts.
const SIZE_MAX: u128 = 1 << 32;

/// A pool that is to be made.
#[derive(Debug)]
pub struct NewPool {
    pub name: Title,
    pub network: IpNet,
    pub gateway: IpAddr,
    /// By default the first and the last address of the network that a host may have.
    pub first: Option<IpAddr>,
    pub last: Option<IpAddr>,
    pub cluster: Option<String>,
    pub location: Option<String>,
    pub quarantine_secs: u32,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(family: i32, number: u128) -> Option<IpAddr> {
    match family {
        4 => u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        _ => Some(IpAddr::V6(Ipv6Addr::from(number))),
    }
}

/// The first and the last address of a network that a host may have.
fn hosts(network: &IpNet) -> (IpAddr, IpAddr) {
    let (low, high) = (number(network.network()), number(network.broadcast()));
    let is_small = network.max_prefix_len().saturating_sub(network.prefix_len()) < 2;
    let family = if network.addr().is_ipv4() { 4 } else { 6 };
    let (low, high) = match is_small {
        true => (low, high),
        // The first is the network itself, or the routers' anycast address (RFC 4291, 2.6.1).
        false => (low.saturating_add(1), high.saturating_sub(1)),
    };
    let at = |n| address(family, n).unwrap_or(network.addr());
    (at(low), at(high))
}

/// Makes a pool. Errors point at the field: the gateway and the bounds must lie in the network, and
/// no other pool may have any of it.
pub async fn create_pool(db: &Db, ctx: &TenantCtx, new: NewPool) -> Result<ip_pool::Model> {
    ctx.require_write(Permission::ServersWrite)?;
    let tx = db.system_as(ctx).await?;
    let network = new.network.trunc();
    if network != new.network {
        return Err(Error::field("network", format!("has bits behind its length: say {network}")));
    }
    let (low, high) = hosts(&network);
    let (first, last) = (new.first.unwrap_or(low), new.last.unwrap_or(high));
    for (path, address) in [("gateway", new.gateway), ("first", first), ("last", last)] {
        if !network.contains(&address) {
            return Err(Error::field(path, format!("must lie in {network}")));
        }
    }
    if number(first) > number(last) || number(first) < number(low) || number(last) > number(high) {
        let rule = format!(
            "must be the last address that is given, up to {high}, and not before the first, from {low} on"
        );
        return Err(Error::field("last", rule));
    }
    tx.conn()
        .execute_raw(statement("SELECT pg_advisory_xact_lock($1)", [0x6970_706f_i64.into()]))
        .await?;
    for other in ip_pool::Entity::find().all(tx.conn()).await? {
        let taken: IpNet = other.network.parse().map_err(Error::internal)?;
        if taken.contains(&network) || network.contains(&taken) {
            let rule = format!("overlaps the pool {}, which has {taken}", other.name);
            return Err(Error::field("network", rule));
        }
    }
    let row = ip_pool::ActiveModel {
        id: Set(PoolId::new()),
        name: Set(new.name.to_string()),
        family: Set(if network.addr().is_ipv4() { 4 } else { 6 }),
        network: Set(network.to_string()),
        gateway: Set(new.gateway.to_string()),
        first: Set(first.to_string()),
        last: Set(last.to_string()),
        cluster: Set(new.cluster),
        location: Set(new.location),
        quarantine_secs: Set(i32::try_from(new.quarantine_secs).map_err(Error::internal)?),
        closed: Set(false),
        next_offset: Set(0),
        created_at: Set(Utc::now()),
    };
    let row = row.insert(tx.conn()).await?;
    let entry = Audit::IpPoolCreated { pool: row.id, name: row.name.clone() };
    tx.audit(ctx, entry).await?;
    tx.commit().await?;
    Ok(row)
}

/// What changes of a pool; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    pub closed: Option<bool>,
    pub quarantine_secs: Option<u32>,
}

/// Changes a pool. One that is closed gives no more addresses out; those that are held stay.
pub async fn update_pool(
    db: &Db,
    ctx: &TenantCtx,
    id: PoolId,
    change: Change,
) -> Result<ip_pool::Model> {
    ctx.require_write(Permission::ServersWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = locked(&tx, id).await?;
    let seen = |row: &ip_pool::Model| json!({ "closed": row.closed, "quarantine_secs": row.quarantine_secs });
    let before = seen(&row);
    let mut active: ip_pool::ActiveModel = row.into();
    if let Some(closed) = change.closed {
        active.closed = Set(closed);
    }
    if let Some(secs) = change.quarantine_secs {
        active.quarantine_secs = Set(i32::try_from(secs).map_err(Error::internal)?);
    }
    let row = active.update(tx.conn()).await?;
    tx.audit(ctx, Audit::IpPoolUpdated { pool: id, before, after: seen(&row) }).await?;
    tx.commit().await?;
    Ok(row)
}

/// Removes a pool out of which nobody has an address.
pub async fn delete_pool(db: &Db, ctx: &TenantCtx, id: PoolId) -> Result<()> {
    ctx.require_write(Permission::ServersWrite)?;
    let tx = db.system_as(ctx).await?;
    let row = locked(&tx, id).await?;
    let held = ip_address::Entity::find()
        .filter(ip_address::Column::PoolId.eq(id))
        .filter(ip_address::Column::PlacementId.is_not_null())
        .count(tx.conn())
        .await?;
    if held > 0 {
        let text = format!(
            "{held} of its addresses are held: close the pool, and remove it when they are free."
        );
        return Err(Error::refused(Code::Conflict, text));
    }
    ip_address::Entity::delete_many()
        .filter(ip_address::Column::PoolId.eq(id))
        .exec(tx.conn())
        .await?;
    ip_pool::Entity::delete_by_id(id).exec(tx.conn()).await?;
    tx.audit(ctx, Audit::IpPoolDeleted { pool: id, name: row.name }).await?;
    tx.commit().await
}

async fn locked(tx: &SystemTx, id: PoolId) -> Result<ip_pool::Model> {
    let row = ip_pool::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("address pool"))
}

/// A pool, and how full it is.
pub async fn find_pool(db: &Db, ctx: &TenantCtx, id: PoolId) -> Result<(ip_pool::Model, Usage)> {
    ctx.require(Permission::ServersRead)?;
    let tx = db.system().await?;
    let row = ip_pool::Entity::find_by_id(id).one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("address pool"))?;
    let usage = usage(&tx, &row).await?;
    Ok((row, usage))
}

/// A page of the pools with how full they are, by name, and how many there are.
pub async fn list_pools(
    db: &Db,
    ctx: &TenantCtx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<(ip_pool::Model, Usage)>, u64)> {
    ctx.require(Permission::ServersRead)?;
    let tx = db.system().await?;
    let total = ip_pool::Entity::find().count(tx.conn()).await?;
    let query = ip_pool::Entity::find().order_by_asc(Column::Name).offset(offset).limit(limit);
    let mut pools = Vec::new();
    for row in query.all(tx.conn()).await? {
        let usage = usage(&tx, &row).await?;
        pools.push((row, usage));
    }
    Ok((pools, total))
}

/// How full a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Addresses that may be given; at most 2³².
    pub size: u64,
    pub held: u64,
    /// Those that rest after a container is gone.
    pub resting: u64,
}

async fn usage(tx: &SystemTx, row: &ip_pool::Model) -> Result<Usage> {
    let of_pool = ip_address::Entity::find().filter(ip_address::Column::PoolId.eq(row.id));
    let held = ip_address::Column::PlacementId.is_not_null();
    let resting = of_pool
        .clone()
        .filter(ip_address::Column::PlacementId.is_null())
        .filter(ip_address::Column::FreeAt.gt(Utc::now()));
    Ok(Usage {
        size: size_of(row)?,
        held: of_pool.filter(held).count(tx.conn()).await?,
        resting: resting.count(tx.conn()).await?,
    })
}

/// How many addresses a pool may give; at most 2³².
pub fn size_of(row: &ip_pool::Model) -> Result<u64> {
    Ok(u64::try_from(size(row)?).unwrap_or(u64::MAX))
}

fn size(row: &ip_pool::Model) -> Result<u128> {
    let first: IpAddr = row.first.parse().map_err(Error::internal)?;
    let last: IpAddr = row.last.parse().map_err(Error::internal)?;
    let all = number(last).saturating_sub(number(first)).saturating_add(1);
    Ok(all.min(SIZE_MAX))
}

/// The pools of a family that fit a server's cluster and location, with closed ones if `$4`, the fullest
/// first, so that the others stay whole.
const FITTING: &str = "SELECT p.id FROM ip_pool p
    WHERE p.family = $1 AND (NOT p.closed OR $4)
      AND (p.cluster IS NULL OR p.cluster = $2)
      AND (p.location IS NULL OR p.location IS NOT DISTINCT FROM $3)
    ORDER BY p.next_offset DESC, p.id FOR UPDATE";

/// Where an address is to be used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site<'a> {
    pub cluster: &'a str,
    pub location: Option<&'a str>,
}

/// Whether containers at this site get an address of a family: some open pool of it is meant for them. Of
/// IPv4 a closed one says so, too: while all are closed there is no room, for a container that was
/// sold without IPv4 could not be reached by most.
pub(super) async fn is_served(tx: &SystemTx, family: i32, site: Site<'_>) -> Result<bool> {
    let values = [family.into(), site.cluster.into(), site.location.into(), (family == 4).into()];
    Ok(tx.conn().query_one_raw(statement(FITTING, values)).await?.is_some())
}

/// Gives a place an address of a family; none when no pool has one left. The pools stay locked until
/// the transaction ends.
pub(super) async fn take(
    tx: &SystemTx,
    (tenant, placement): (TenantId, PlacementId),
    family: i32,
    site: Site<'_>,
) -> Result<Option<IpAddr>> {
    let values = [family.into(), site.cluster.into(), site.location.into(), false.into()];
    for row in tx.conn().query_all_raw(statement(FITTING, values)).await? {
        let id: PoolId = row.try_get("", "id")?;
        let pool = ip_pool::Entity::find_by_id(id).one(tx.conn()).await?;
        let pool = pool.ok_or(Error::NotFound("address pool"))?;
        if let Some(address) = take_of(tx, (tenant, placement), pool).await? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

async fn take_of(
    tx: &SystemTx,
    (tenant, placement): (TenantId, PlacementId),
    pool: ip_pool::Model,
) -> Result<Option<IpAddr>> {
    let (size, base) = (size(&pool)?, number(pool.first.parse().map_err(Error::internal)?));
    let gateway: IpAddr = pool.gateway.parse().map_err(Error::internal)?;
    let (id, family, mut offset) = (pool.id, pool.family, pool.next_offset);
    // Those that nobody has had are given first: what rests, rests as long as it can.
    let mut found = None;
    while found.is_none() && u128::from(offset.unsigned_abs()) < size {
        let candidate = address(family, base.saturating_add(u128::from(offset.unsigned_abs())));
        offset = offset.saturating_add(1);
        found = candidate.filter(|candidate| *candidate != gateway);
    }
    let mut active: ip_pool::ActiveModel = pool.into();
    active.next_offset = Set(offset);
    active.update(tx.conn()).await?;
    if let Some(address) = found {
        let row = ip_address::ActiveModel {
            id: Set(RowId::new()),
            pool_id: Set(id),
            address: Set(address.to_string()),
            tenant_id: Set(Some(tenant)),
            placement_id: Set(Some(placement)),
            free_at: Set(None),
            taken_at: Set(Utc::now()),
        };
        row.insert(tx.conn()).await?;
        return Ok(Some(address));
    }
    let rested = ip_address::Entity::find()
        .filter(ip_address::Column::PoolId.eq(id))
        .filter(ip_address::Column::PlacementId.is_null())
        .filter(ip_address::Column::FreeAt.lte(Utc::now()))
        .order_by_asc(ip_address::Column::FreeAt)
        .one(tx.conn())
        .await?;
    let Some(row) = rested else { return Ok(None) };
    let address = row.address.parse().map_err(Error::internal)?;
    let mut row: ip_address::ActiveModel = row.into();
    row.tenant_id = Set(Some(tenant));
    row.placement_id = Set(Some(placement));
    row.free_at = Set(None);
    row.taken_at = Set(Utc::now());
    row.update(tx.conn()).await?;
    Ok(Some(address))
}

/// Takes a place's addresses back: `used` ones rest for their pool's time, others are free at once.
pub(super) async fn give_back(tx: &SystemTx, placement: PlacementId, used: bool) -> Result<()> {
    let sql = "UPDATE ip_address a SET placement_id = NULL, tenant_id = NULL,
            free_at = now() + make_interval(secs => CASE WHEN $2 THEN p.quarantine_secs ELSE 0 END)
        FROM ip_pool p WHERE p.id = a.pool_id AND a.placement_id = $1";
    tx.conn().execute_raw(statement(sql, [placement.0.into(), used.into()])).await?;
    Ok(())
}

/// An address with what a container needs to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// With its network's length.
    pub address: IpNet,
    pub gateway: IpAddr,
}

/// The addresses of a place, IPv4 first.
pub async fn held_by(tx: &SystemTx, placement: PlacementId) -> Result<Vec<Held>> {
    let rows = ip_address::Entity::find()
        .filter(ip_address::Column::PlacementId.eq(placement))
        .all(tx.conn())
        .await?;
    let mut held = Vec::with_capacity(rows.len());
    for row in rows {
        let pool = ip_pool::Entity::find_by_id(row.pool_id).one(tx.conn()).await?;
        let pool = pool.ok_or(Error::NotFound("address pool"))?;
        let network: IpNet = pool.network.parse().map_err(Error::internal)?;
        let address: IpAddr = row.address.parse().map_err(Error::internal)?;
        let address = IpNet::new(address, network.prefix_len()).map_err(Error::internal)?;
        held.push(Held { address, gateway: pool.gateway.parse().map_err(Error::internal)? });
    }
    held.sort_by_key(|held| held.address.addr().is_ipv6());
    Ok(held)
}

/// The pod of a tenant that has an address, until it is to be deleted: what is only held for an order is
/// nobody's. Its row is kept as it is until the transaction ends.
const POD_AT: &str = "SELECT p.id FROM cloudpod p JOIN placement l ON l.cloudpod_id = p.id
    JOIN ip_address a ON a.placement_id = l.id
    WHERE a.address = $1 AND p.tenant_id = $2 AND l.released_at IS NULL
      AND p.status IN ('active', 'stopped', 'suspended') AND p.desired <> 'deleted'
    FOR SHARE OF p";

/// Whether a pod of a tenant has an address.
pub(crate) async fn is_held_by(tx: &SystemTx, tenant: TenantId, address: IpAddr) -> Result<bool> {
    let query = statement(POD_AT, [address.to_string().into(), tenant.0.into()]);
    Ok(tx.conn().query_one_raw(query).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_neither_the_network_nor_its_broadcast() {
        let ends = |text: &str| {
            let (low, high) = hosts(&text.parse().unwrap());
            (low.to_string(), high.to_string())
        };
        assert_eq!(ends("192.0.2.0/24"), ("192.0.2.1".into(), "192.0.2.254".into()));
        assert_eq!(ends("192.0.2.4/31"), ("192.0.2.4".into(), "192.0.2.5".into()));
        assert_eq!(ends("192.0.2.4/32"), ("192.0.2.4".into(), "192.0.2.4".into()));
        assert_eq!(ends("2001:db8::/126"), ("2001:db8::1".into(), "2001:db8::2".into()));
    }
}
