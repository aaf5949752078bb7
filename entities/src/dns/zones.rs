//! Zones: made, changed, given to another tenant, ended.

use crate::Result;
use crate::audit::Audit;
use crate::db::{Db, SystemTx, TenantTx};
use crate::dns::budget::{self, Limits};
use crate::dns::changes::{self, Difference};
use crate::dns::delegation::{self, Standing};
use crate::dns::names::{self, Asker, Rules};
use crate::dns::{SoaTimes, lock_zone, name_of, next_serial, verification};
use crate::error::{Code, Error};
use crate::ids::{TenantId, ZoneId};
use crate::outbox::Message;
use crate::sessions;
use crate::tables::dns_zone;
use crate::tenancy::{Permission, TenantCtx};
use crate::tenants;
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QuerySelect,
};
use serde_json::{Value, json};
use values::{DomainName, MailAddress};
use zonefile::RecordSet;

/// Seconds that others may remember our name servers.
const NS_TTL: u32 = 86_400;

/// A zone as it is to be.
#[derive(Debug)]
pub struct NewZone {
    pub name: DomainName,
    pub change: Change,
}

/// What changes of a zone; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    /// Seconds.
    pub default_ttl: Option<u32>,
    pub hostmaster: Option<MailAddress>,
    pub refresh: Option<u32>,
    pub retry: Option<u32>,
    pub expire: Option<u32>,
    pub minimum: Option<u32>,
}

impl Change {
    /// The numbers with this change, checked against each other.
    fn times(&self, mut times: SoaTimes) -> Result<SoaTimes> {
        if let Some(hostmaster) = &self.hostmaster {
            times.hostmaster = Some(hostmaster.to_string());
        }
        times.refresh = self.refresh.unwrap_or(times.refresh);
        times.retry = self.retry.unwrap_or(times.retry);
        times.expire = self.expire.unwrap_or(times.expire);
        times.minimum = self.minimum.unwrap_or(times.minimum);
        if times.retry > times.refresh {
            return Err(Error::field("retry", "must not be longer than refresh (RFC 1912, 2.2)"));
        }
        if times.expire < times.refresh.saturating_add(times.retry) {
            let why = "must be longer than refresh and retry together (RFC 1912, 2.2)";
            return Err(Error::field("expire", why));
        }
        Ok(times)
    }
}

/// Makes a zone with our name servers. It is answered as soon as the servers have it, and is no
/// proof of anything: certificates and mail wait for the verification.
pub async fn create_zone(
    db: &Db,
    ctx: &TenantCtx,
    new: NewZone,
    (rules, limits): (&Rules, &Limits),
) -> Result<dns_zone::Model> {
    ctx.require_write(Permission::ZonesWrite)?;
    ctx.refuse_bound()?;
    let is_platform = ctx.is_platform_staff() && ctx.home() == ctx.tenant();
    let asker = if is_platform { Asker::Platform } else { Asker::Tenant };
    names::check_name(&new.name, rules, asker)?;
    let tx = db.system_as(ctx).await?;
    names::lock(&tx, &new.name).await?;
    refuse_same(&tx, ctx, &new.name).await?;
    names::check_neighbours(&tx, ctx.tenant(), &new.name, None).await?;
    tenants::reserve(
        tx.conn(),
        ctx.tenant(),
        |l| l.zones,
        "zones",
        async |conn| {
            let own = dns_zone::Entity::find().filter(dns_zone::Column::TenantId.eq(ctx.tenant()));
            Ok(own.count(conn).await?)
        },
    )
    .await?;
    budget::take_of_tenant(tx.conn(), ctx.tenant(), limits).await?;
    let verified = verification::is_verified(&tx, ctx.tenant(), &new.name).await? || is_platform;
    let row = insert(&tx, ctx.tenant(), &new, verified).await?;
    let servers = RecordSet {
        name: format!("{}.", new.name),
        rtype: "NS".to_owned(),
        ttl: NS_TTL,
        records: rules.nameservers.iter().map(|name| format!("{name}.")).collect(),
    };
    let diff = Difference {
        name: servers.name.clone(),
        rtype: servers.rtype.clone(),
        before: None,
        after: Some(servers),
    };
    let ns = diff.after.iter().flat_map(|set| set.records.clone()).collect();
    changes::write_diff(tx.conn(), (ctx.tenant(), row.id), &[diff]).await?;
    delegation::join(&tx, &row, &ns, Standing::Refuse).await?;
    tx.audit(ctx, Audit::DnsDomainCreated { zone: row.id, name: row.name.clone() }).await?;
    tx.publish(ctx.tenant(), Message::ZoneChanged { zone: row.id }).await?;
    tx.commit().await?;
    Ok(row)
}

async fn refuse_same(tx: &SystemTx, ctx: &TenantCtx, name: &DomainName) -> Result<()> {
    let row = dns_zone::Entity::find()
        .filter(dns_zone::Column::TenantId.eq(ctx.tenant()))
        .filter(dns_zone::Column::Name.eq(name.as_str()))
        .one(tx.conn())
        .await?;
    match row {
        None => Ok(()),
        Some(row) if row.state == "deleting" => Err(Error::later(
            Code::Conflict,
            format!("The zone {name} is still being deleted. Make it again in a moment."),
            5,
        )),
        Some(row) => Err(Error::refused(
            Code::Conflict,
            format!("This tenant has the zone {name} already; its id is {}.", row.id),
        )),
    }
}

async fn insert(
    tx: &SystemTx,
    tenant: TenantId,
    new: &NewZone,
    verified: bool,
) -> Result<dns_zone::Model> {
    let now = Utc::now();
    let times = new.change.times(SoaTimes::default())?;
    let ttl = new.change.default_ttl.unwrap_or(3600);
    let row = dns_zone::ActiveModel {
        id: Set(ZoneId::new()),
        tenant_id: Set(tenant),
        name: Set(new.name.to_string()),
        active: Set(true),
        state: Set("pending".to_owned()),
        serial: Set(next_serial(delegation::last_serial(tx, &new.name).await?, now)),
        default_ttl: Set(i32::try_from(ttl).map_err(Error::internal)?),
        soa: Set(serde_json::to_value(times)?),
        verification_token: Set(Some(verification::new_token())),
        verified_at: Set(verified.then_some(now)),
        created_at: Set(now),
        ..Default::default()
    };
    Ok(row.insert(tx.conn()).await?)
}

fn shown(row: &dns_zone::Model) -> Value {
    json!({ "default_ttl": row.default_ttl, "soa": row.soa })
}

/// Changes what holds of the whole zone.
pub async fn update_zone(
    tx: &TenantTx,
    id: ZoneId,
    change: &Change,
    limits: &Limits,
) -> Result<dns_zone::Model> {
    tx.ctx().refuse_bound()?;
    let row = lock_zone(tx, id).await?;
    let before = shown(&row);
    let times = serde_json::to_value(change.times(SoaTimes::of(&row)?)?)?;
    let ttl = match change.default_ttl {
        Some(ttl) => i32::try_from(ttl).map_err(Error::internal)?,
        None => row.default_ttl,
    };
    let after = json!({ "default_ttl": ttl, "soa": times });
    let row = if before == after {
        row
    } else {
        let budget = budget::take_change(tx, &row, limits).await?;
        let row = changes::bump(tx.conn(), row, Some(budget)).await?;
        let mut row: dns_zone::ActiveModel = row.into();
        row.default_ttl = Set(ttl);
        row.soa = Set(times);
        let row = row.update(tx.conn()).await?;
        tx.publish(Message::ZoneChanged { zone: id }).await?;
        row
    };
    tx.audit(Audit::DnsZoneUpdated { zone: id, name: row.name.clone(), before, after }).await?;
    Ok(row)
}

/// Ends a zone: the servers forget it, then its rows go. Repeating it changes nothing.
pub async fn delete_zone(tx: &TenantTx, id: ZoneId) -> Result<dns_zone::Model> {
    tx.ctx().refuse_bound()?;
    let row = tx.own_by_id::<dns_zone::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("zone"))?;
    tx.audit(Audit::DnsDomainDeleted { zone: id, name: row.name.clone() }).await?;
    if row.state == "deleting" {
        return Ok(row);
    }
    let mut row: dns_zone::ActiveModel = row.into();
    row.state = Set("deleting".to_owned());
    row.error = Set(None);
    row.attempts = Set(0);
    row.next_at = Set(None);
    row.updated_at = Set(Utc::now());
    let row = row.update(tx.conn()).await?;
    tx.publish(Message::ZoneChanged { zone: id }).await?;
    Ok(row)
}

/// Brings the zone to its servers at once, instead of after the pause that failures bring.
pub async fn hurry(tx: &TenantTx, id: ZoneId, limits: &Limits) -> Result<dns_zone::Model> {
    tx.ctx().refuse_bound()?;
    let row = tx.own_by_id::<dns_zone::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    let row = row.ok_or(Error::NotFound("zone"))?;
    let is_synced = row.state == "in_sync";
    let budget = budget::take_change(tx, &row, limits).await?;
    tx.audit(Audit::DnsZoneSyncRequested { zone: id, name: row.name.clone() }).await?;
    let mut row: dns_zone::ActiveModel = row.into();
    row.attempts = Set(0);
    row.next_at = Set(None);
    row.budget = Set(budget);
    row.copies_next_at = Set(Some(Utc::now()));
    if is_synced {
        row.state = Set("pending".to_owned());
    }
    let row = row.update(tx.conn()).await?;
    tx.publish(Message::ZoneChanged { zone: id }).await?;
    Ok(row)
}

/// Gives a zone to another tenant that the caller may act in with the right to write zones. Its records,
/// keys and verification go with it; its agreements end.
pub async fn transfer_zone(
    db: &Db,
    ctx: &TenantCtx,
    id: ZoneId,
    to: TenantId,
) -> Result<dns_zone::Model> {
    ctx.require_write(Permission::ZonesDelete)?;
    ctx.refuse_bound()?;
    let tx = db.system_as(ctx).await?;
    let row = dns_zone::Entity::find_by_id(id)
        .filter(dns_zone::Column::TenantId.eq(ctx.tenant()))
        .lock_exclusive()
        .one(tx.conn())
        .await?
        .filter(|row| row.state != "deleting")
        .ok_or(Error::NotFound("zone"))?;
    let there = sessions::act_in(db, ctx, to).await.map_err(|error| match error {
        Error::NotFound(_) => Error::field(
            "tenant_id",
            "is no tenant at or below this one, or not one that you may act in",
        ),
        other => other,
    })?;
    there.require_write(Permission::ZonesWrite)?;
    if to == ctx.tenant() {
        return Err(Error::field("tenant_id", "is this tenant; the zone is here already"));
    }
    let name = name_of(&row)?;
    names::lock(&tx, &name).await?;
    names::check_neighbours(&tx, to, &name, Some(id)).await?;
    tenants::reserve(
        tx.conn(),
        to,
        |l| l.zones,
        "zones",
        async |conn| {
            let own = dns_zone::Entity::find().filter(dns_zone::Column::TenantId.eq(to));
            Ok(own.count(conn).await?)
        },
    )
    .await?;
    crate::tables::dns_agreement::Entity::delete_many()
        .filter(crate::tables::dns_agreement::Column::ZoneId.eq(id))
        .exec(tx.conn())
        .await?;
    let mut row: dns_zone::ActiveModel = row.into();
    row.tenant_id = Set(to);
    row.job_id = Set(None);
    row.updated_at = Set(Utc::now());
    let row = row.update(tx.conn()).await?;
    let entry =
        || Audit::DnsZoneTransferred { zone: id, name: name.to_string(), from: ctx.tenant(), to };
    tx.audit(ctx, entry()).await?;
    tx.audit(&there, entry()).await?;
    tx.commit().await?;
    Ok(row)
}
