//! Room on nodes: found, held for an order until it is paid, taken by a pod, and given back.
//!
//! A place is a row with what it takes of its server and the addresses that go with it. Places are
//! chosen one after another under a lock, so that of two who choose at once the second sees what the
//! first has taken; a VMID is given once in a cluster, by a unique index, and never again.

use super::Size;
use super::pools::{self, Site};
use crate::Result;
use crate::catalogue::specification::{Apart, Policy, Siting};
use crate::db::{SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{CloudpodId, OrderId, OrderItemId, PlacementId, ServerId, TenantId};
use crate::tables::placement::{self, Column};
use crate::tables::{cloudpod, node, server, service};
use chrono::{DateTime, Utc};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::json;
use values::Vmid;

/// The advisory lock under which places are chosen.
const PLACE_LOCK: i64 = 0x6d69_6770;
/// The first VMID that we give: those below are for what people make by hand.
const FIRST_VMID: i64 = 10_000;

/// Servers that a tenant may use (by a grant to it or to a tenant above it; the platform all), that are
/// well and not going away, and on which so much more has room; with how full each would be.
/// A server whose size is not known has none. What was said of its health an hour ago is not
/// believed.
const SUITABLE: &str = "WITH taken AS (
        SELECT p.server_id, sum(p.cpu_cores) AS cpu, sum(p.memory_mib) AS memory,
            sum(p.disk_mib) AS disk,
            count(*) FILTER (WHERE p.tenant_id = $1) AS of_tenant,
            count(*) FILTER (WHERE coalesce(v.order_id, i.order_id) = $7) AS of_order
        FROM placement p LEFT JOIN order_item i ON i.id = p.order_item_id
            LEFT JOIN cloudpod c ON c.id = p.cloudpod_id LEFT JOIN service v ON v.id = c.service_id
        WHERE p.released_at IS NULL
            AND (p.expires_at IS NULL OR p.expires_at > clock_timestamp())
        GROUP BY p.server_id)
    SELECT s.id, n.cluster, s.location,
        coalesce(t.of_tenant, 0) AS of_tenant, coalesce(t.of_order, 0) AS of_order,
        greatest((coalesce(t.cpu, 0) + $2) / (s.cpu_cores * s.cpu_factor),
            (coalesce(t.memory, 0) + $3) / (s.memory_mib * s.memory_factor),
            (coalesce(t.disk, 0) + $4) / (s.disk_mib * s.disk_factor))::double precision AS load
    FROM server s JOIN node n ON n.server_id = s.id LEFT JOIN taken t ON t.server_id = s.id
    WHERE s.kind = 'proxmox' AND s.state = 'enrolled' AND NOT s.maintenance AND NOT s.draining
      AND s.last_error IS NULL AND s.health_at > now() - interval '1 hour'
      AND s.labels @> $5::jsonb AND ($6::text IS NULL OR s.location = $6)
      AND coalesce(t.cpu, 0) + $2 <= s.cpu_cores * s.cpu_factor
      AND coalesce(t.memory, 0) + $3 <= s.memory_mib * s.memory_factor
      AND coalesce(t.disk, 0) + $4 <= s.disk_mib * s.disk_factor
      AND (EXISTS (SELECT FROM server_grant g
              JOIN tenant_ancestry a ON a.ancestor_id = g.tenant_id
              WHERE g.server_id = s.id AND a.descendant_id = $1)
          OR EXISTS (SELECT FROM tenant x WHERE x.id = $1 AND x.kind = 'platform'))
      AND NOT EXISTS (SELECT FROM placement h JOIN ip_address a ON a.placement_id = h.id
          JOIN ip_pool o ON o.id = a.pool_id
          WHERE h.cloudpod_id = $8 AND h.released_at IS NULL
            AND o.location IS NOT NULL AND o.location IS DISTINCT FROM s.location)";

/// For what room is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub tenant: TenantId,
    pub size: &'a Size,
    pub siting: &'a Siting,
    /// Only there.
    pub server: Option<ServerId>,
    /// Anywhere but there, when there is another.
    pub avoid: Option<ServerId>,
    /// The pod that moves: only to another server of its cluster, and only where its addresses, which
    /// it takes along, are used.
    pub moves: Option<&'a cloudpod::Model>,
    pub order: Option<OrderId>,
}

struct Candidate {
    server: ServerId,
    cluster: String,
    location: Option<String>,
    load: f64,
    together: i64,
}

/// Lets nobody else choose until the transaction ends.
pub(super) async fn lock(tx: &SystemTx) -> Result<()> {
    let lock = statement("SELECT pg_advisory_xact_lock($1)", [PLACE_LOCK.into()]);
    tx.conn().execute_raw(lock).await?;
    Ok(())
}

async fn candidates(tx: &SystemTx, wanted: &Wanted<'_>) -> Result<Vec<Candidate>> {
    let size = wanted.size;
    let values = [
        wanted.tenant.0.into(),
        i64::from(size.cpu_cores).into(),
        i64::from(size.memory_mib).into(),
        i64::from(size.disk_mib).into(),
        json!(wanted.siting.labels).into(),
        wanted.siting.location.clone().into(),
        wanted.order.map(|order| order.0).into(),
        wanted.moves.map(|pod| pod.id.0).into(),
    ];
    let mut found = Vec::new();
    for row in tx.conn().query_all_raw(statement(SUITABLE, values)).await? {
        let together = match wanted.siting.apart {
            Apart::No => 0,
            Apart::Tenant => row.try_get("", "of_tenant")?,
            Apart::Order => row.try_get("", "of_order")?,
        };
        let candidate = Candidate {
            server: row.try_get("", "id")?,
            cluster: row.try_get("", "cluster")?,
            location: row.try_get("", "location")?,
            load: row.try_get("", "load")?,
            together,
        };
        let is_asked = wanted.server.is_none_or(|server| server == candidate.server);
        let is_reached = wanted.moves.is_none_or(|pod| {
            pod.cluster.as_ref() == Some(&candidate.cluster)
                && pod.server_id != Some(candidate.server)
        });
        if is_asked && is_reached {
            found.push(candidate);
        }
    }
    // Those that are to be apart are together only where there is no other server.
    found.sort_by(|a, b| {
        let avoided = |c: &Candidate| wanted.avoid == Some(c.server);
        let load = a.load.total_cmp(&b.load);
        let load = if wanted.siting.policy == Policy::Pack { load.reverse() } else { load };
        (avoided(a), a.together)
            .cmp(&(avoided(b), b.together))
            .then(load)
            .then(a.server.cmp(&b.server))
    });
    Ok(found)
}

/// The order that a pod was made for.
pub(super) async fn order_of(tx: &SystemTx, pod: &cloudpod::Model) -> Result<Option<OrderId>> {
    let Some(service) = pod.service_id else { return Ok(None) };
    let service = service::Entity::find_by_id(service).one(tx.conn()).await?;
    Ok(service.map(|service| service.order_id))
}

/// Whether the server of a pod is where a plan wants it to be.
pub(super) async fn is_sited(
    tx: &SystemTx,
    pod: &cloudpod::Model,
    siting: &Siting,
) -> Result<bool> {
    let sql = "SELECT FROM server s WHERE s.id = $1 AND s.labels @> $2::jsonb
        AND ($3::text IS NULL OR s.location = $3)";
    let server = pod.server_id.map(|server| server.0).into();
    let values = [server, json!(siting.labels).into(), siting.location.clone().into()];
    Ok(tx.conn().query_one_raw(statement(sql, values)).await?.is_some())
}

/// Whether something new may begin on a server: it is well, and is to stay.
pub(super) async fn is_open(tx: &SystemTx, server: ServerId) -> Result<bool> {
    let row = server::Entity::find_by_id(server).one(tx.conn()).await?;
    Ok(row.is_some_and(|row| !row.maintenance && !row.draining && row.last_error.is_none()))
}

/// Whether some server has room.
pub(super) async fn has_room(tx: &SystemTx, wanted: &Wanted<'_>) -> Result<bool> {
    Ok(!candidates(tx, wanted).await?.is_empty())
}

/// For whom a place is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder {
    /// A unit of an order's line; until then, when it is not paid yet.
    Unit {
        item: OrderItemId,
        unit: i32,
        until: Option<DateTime<Utc>>,
    },
    Pod(CloudpodId),
}

/// Takes a place with its addresses; none when no server has room. The lock is held.
pub(super) async fn take(
    tx: &SystemTx,
    wanted: &Wanted<'_>,
    holder: Holder,
) -> Result<Option<placement::Model>> {
    for candidate in candidates(tx, wanted).await? {
        let (item, unit, until, pod) = match holder {
            Holder::Unit { item, unit, until } => (Some(item), Some(unit), until, None),
            Holder::Pod(pod) => (None, None, None, Some(pod)),
        };
        let row = placement::ActiveModel {
            id: Set(PlacementId::new()),
            tenant_id: Set(wanted.tenant),
            server_id: Set(candidate.server),
            cluster: Set(candidate.cluster.clone()),
            vmid: Set(None),
            cpu_cores: Set(i32::try_from(wanted.size.cpu_cores).map_err(Error::internal)?),
            memory_mib: Set(i64::from(wanted.size.memory_mib)),
            disk_mib: Set(i64::from(wanted.size.disk_mib)),
            order_item_id: Set(item),
            unit: Set(unit),
            cloudpod_id: Set(pod),
            expires_at: Set(until),
            grown_until: Set(None),
            released_at: Set(None),
            created_at: Set(Utc::now()),
        };
        let row = row.insert(tx.conn()).await?;
        // A move takes its addresses along.
        if wanted.moves.is_some() || take_addresses(tx, &row, &candidate).await? {
            return Ok(Some(row));
        }
        pools::give_back(tx, row.id, false).await?;
        placement::Entity::delete_by_id(row.id).exec(tx.conn()).await?;
    }
    Ok(None)
}

/// Gives a place an address of each family that its site has pools for; whether there was one of each,
/// and one at all.
async fn take_addresses(
    tx: &SystemTx,
    place: &placement::Model,
    candidate: &Candidate,
) -> Result<bool> {
    let site = Site { cluster: &candidate.cluster, location: candidate.location.as_deref() };
    let mut any = false;
    for family in [4, 6] {
        if !pools::is_served(tx, family, site).await? {
            continue;
        }
        if pools::take(tx, (place.tenant_id, place.id), family, site).await?.is_none() {
            return Ok(false);
        }
        any = true;
    }
    Ok(any)
}

/// Why nobody can have what there is no room for.
pub(super) fn no_room(name: &str) -> Error {
    let text = format!(
        "There is no room for {name} at the moment: no server that is well has so much left, or its addresses are used up. Choose a smaller plan, or try again later."
    );
    Error::refused(Code::NoCapacity, text)
}

/// The places that are held for a line of an order, by unit.
pub(super) async fn of_item(tx: &SystemTx, item: OrderItemId) -> Result<Vec<placement::Model>> {
    Ok(placement::Entity::find()
        .filter(Column::OrderItemId.eq(item))
        .filter(Column::CloudpodId.is_null())
        .filter(Column::ReleasedAt.is_null())
        .order_by_asc(Column::Unit)
        .lock_exclusive()
        .all(tx.conn())
        .await?)
}

/// The place of a pod: the one that has its VMID and its addresses.
pub async fn of_pod(tx: &SystemTx, pod: CloudpodId) -> Result<Option<placement::Model>> {
    Ok(placement::Entity::find()
        .filter(Column::CloudpodId.eq(pod))
        .filter(Column::ReleasedAt.is_null())
        .order_by_asc(Column::CreatedAt)
        .one(tx.conn())
        .await?)
}

/// What a pod takes of its server: more than it has while it is about to grow.
pub(super) async fn held_size(tx: &SystemTx, pod: &cloudpod::Model) -> Result<Size> {
    let place = of_pod(tx, pod.id).await?;
    let place = place.ok_or_else(|| Error::internal("a pod without a place"))?;
    Ok(Size {
        cpu_cores: place.cpu_cores.unsigned_abs(),
        memory_mib: u32::try_from(place.memory_mib).map_err(Error::internal)?,
        disk_mib: u32::try_from(place.disk_mib).map_err(Error::internal)?,
        ..Size::of(pod)?
    })
}

/// Gives a place to a pod, with a VMID that nobody in the cluster has or had.
pub(super) async fn attach(
    tx: &SystemTx,
    place: placement::Model,
    pod: CloudpodId,
) -> Result<placement::Model> {
    lock(tx).await?;
    let vmid = free_vmid(tx, &place.cluster).await?;
    let mut active: placement::ActiveModel = place.into();
    active.cloudpod_id = Set(Some(pod));
    active.expires_at = Set(None);
    active.vmid = Set(Some(vmid.into()));
    Ok(active.update(tx.conn()).await?)
}

/// The next VMID of a cluster that was never ours and that no guest has that was seen there.
async fn free_vmid(tx: &SystemTx, cluster: &str) -> Result<Vmid> {
    let sql = "WITH RECURSIVE next(vmid) AS (
            SELECT greatest(coalesce(max(vmid) + 1, $2), $2) FROM placement WHERE cluster = $1
            UNION ALL
            SELECT next.vmid + 1 FROM next
                JOIN guest g ON g.cluster = $1 AND g.vmid = next.vmid)
        SELECT max(vmid) AS vmid FROM next";
    let row = tx.conn().query_one_raw(statement(sql, [cluster.into(), FIRST_VMID.into()])).await?;
    let row = row.ok_or_else(|| Error::internal("no VMID"))?;
    Ok(Vmid::new(row.try_get("", "vmid")?)?)
}

/// Gives places of a pod back. `used`: its addresses were in use and rest for a while.
pub(super) async fn release_pod(tx: &SystemTx, pod: CloudpodId, used: bool) -> Result<()> {
    let places = placement::Entity::find()
        .filter(Column::CloudpodId.eq(pod))
        .filter(Column::ReleasedAt.is_null())
        .all(tx.conn())
        .await?;
    for place in places {
        release(tx, place.id, used).await?;
    }
    Ok(())
}

pub(super) async fn release(tx: &SystemTx, id: PlacementId, used: bool) -> Result<()> {
    pools::give_back(tx, id, used).await?;
    placement::Entity::update_many()
        .col_expr(Column::ReleasedAt, Expr::current_timestamp())
        .filter(Column::Id.eq(id))
        .filter(Column::ReleasedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Places without a pod that were held for too long, or whose order comes to nothing.
const IDLE: &str = "SELECT p.id FROM placement p
        LEFT JOIN order_item i ON i.id = p.order_item_id LEFT JOIN orders o ON o.id = i.order_id
    WHERE p.released_at IS NULL AND p.cloudpod_id IS NULL
      AND (p.expires_at <= now()
        OR o.status IN ('active', 'failed', 'cancelled', 'refunded', 'expired'))
    LIMIT $1 FOR UPDATE OF p SKIP LOCKED";

/// Gives places back that nobody will use, up to `limit`; how many there were. Called every few
/// seconds.
pub async fn release_idle(tx: &SystemTx, limit: u64) -> Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut count = 0;
    for row in tx.conn().query_all_raw(statement(IDLE, [limit.into()])).await? {
        release(tx, row.try_get("", "id")?, false).await?;
        count += 1;
    }
    Ok(count)
}

/// Changes what a pod's place takes of its server. Growing needs room there: refused with
/// `no_capacity`.
pub(super) async fn resize(
    tx: &SystemTx,
    place: placement::Model,
    size: &Size,
    name: &str,
) -> Result<()> {
    lock(tx).await?;
    let (cpu, memory, disk) =
        (i32::try_from(size.cpu_cores), i64::from(size.memory_mib), i64::from(size.disk_mib));
    let cpu = cpu.map_err(Error::internal)?;
    let grows = cpu > place.cpu_cores || memory > place.memory_mib || disk > place.disk_mib;
    if grows {
        let load = load_of(tx, place.server_id).await?;
        let fits = |taken: i64, before: i64, after: i64, limit: f64| {
            after <= before || taken.saturating_sub(before).saturating_add(after) <= whole(limit)
        };
        let (c, m, d) = (i64::from(place.cpu_cores), place.memory_mib, place.disk_mib);
        if !(fits(load.cpu_cores, c, i64::from(cpu), load.cpu_limit)
            && fits(load.memory_mib, m, memory, load.memory_limit)
            && fits(load.disk_mib, d, disk, load.disk_limit))
        {
            return Err(no_room(name));
        }
    }
    let mut active: placement::ActiveModel = place.into();
    active.cpu_cores = Set(cpu);
    active.memory_mib = Set(memory);
    active.disk_mib = Set(disk);
    active.update(tx.conn()).await?;
    Ok(())
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "saturates")]
fn whole(number: f64) -> i64 {
    number.floor() as i64
}

/// What is given away of a server, and how much there is to give.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Containers, and places that are held for some.
    pub pods: i64,
    pub cpu_cores: i64,
    pub memory_mib: i64,
    pub disk_mib: i64,
    pub cpu_limit: f64,
    pub memory_limit: f64,
    pub disk_limit: f64,
}

/// How full a server is.
pub async fn load_of(tx: &SystemTx, id: ServerId) -> Result<Load> {
    let row = server::Entity::find_by_id(id).one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("server"))?;
    let sql = "SELECT count(*) AS pods, coalesce(sum(cpu_cores), 0)::bigint AS cpu,
            coalesce(sum(memory_mib), 0)::bigint AS memory,
            coalesce(sum(disk_mib), 0)::bigint AS disk
        FROM placement WHERE server_id = $1 AND released_at IS NULL
            AND (expires_at IS NULL OR expires_at > clock_timestamp())";
    let taken = tx.conn().query_one_raw(statement(sql, [id.0.into()])).await?;
    let taken = taken.ok_or_else(|| Error::internal("an aggregate without a row"))?;
    let limit = |has: Option<i64>, factor: f64| has.map_or(0.0, |has| number(has) * factor);
    Ok(Load {
        pods: taken.try_get("", "pods")?,
        cpu_cores: taken.try_get("", "cpu")?,
        memory_mib: taken.try_get("", "memory")?,
        disk_mib: taken.try_get("", "disk")?,
        cpu_limit: limit(row.cpu_cores.map(i64::from), row.cpu_factor),
        memory_limit: limit(row.memory_mib, row.memory_factor),
        disk_limit: limit(row.disk_mib, row.disk_factor),
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "mebibytes fit")]
fn number(whole: i64) -> f64 {
    whole as f64
}

/// The node that a server is.
pub async fn node_of(tx: &SystemTx, server: ServerId) -> Result<node::Model> {
    let row = node::Entity::find_by_id(server).one(tx.conn()).await?;
    row.ok_or_else(|| Error::internal("a server of pods that is no node"))
}
