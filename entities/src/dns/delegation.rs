//! Zones within zones of this installation: the one above says that the one below answers for itself, so
//! that nobody writes records there that are never answered, and validators find their way down.

use crate::Result;
use crate::audit::Audit;
use crate::db::{SystemTx, statement};
use crate::dns::changes::{Difference, bump, write_diff};
use crate::dns::{all_sets, name_of};
use crate::error::{Code, Error};
use crate::ids::TenantId;
use crate::outbox::Message;
use crate::tables::dns_zone;
use crate::tenancy::TenantCtx;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::json;
use std::collections::BTreeSet;
use values::DomainName;
use zonefile::RecordSet;

/// Seconds.
const TTL: u32 = 3600;

/// The last serial of a zone of this name that is gone; 0: there was none.
pub(crate) async fn last_serial(tx: &SystemTx, name: &DomainName) -> Result<i64> {
    let sql = "SELECT serial FROM dns_serial WHERE name = $1";
    let row = tx.conn().query_one_raw(statement(sql, [name.as_str().into()])).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get_by_index(0))?)
}

/// The name servers at a zone's apex.
pub(crate) async fn servers_of(tx: &SystemTx, zone: &dns_zone::Model) -> Result<BTreeSet<String>> {
    let apex = format!("{}.", zone.name);
    let sets = all_sets(tx.conn(), zone.tenant_id, zone.id).await?;
    let servers = sets.into_iter().find(|set| set.rtype == "NS" && set.name == apex);
    Ok(servers.map(|set| set.records).unwrap_or_default())
}

/// The zone that answers for a name now, locked; whoever has it.
async fn above(tx: &SystemTx, name: &str) -> Result<Option<dns_zone::Model>> {
    let mut names = Vec::new();
    let mut rest = name;
    while let Some((_, parent)) = rest.split_once('.') {
        names.push(parent);
        rest = parent;
    }
    let rows = dns_zone::Entity::find()
        .filter(dns_zone::Column::Name.is_in(names))
        .filter(dns_zone::Column::State.ne("deleting"))
        .lock_exclusive()
        .all(tx.conn())
        .await?;
    Ok(rows.into_iter().max_by_key(|row| row.name.len()))
}

/// What a zone above does with records that it has where a new zone begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They would not be answered any more: the new zone is refused.
    Refuse,
    /// A job brings both as they were.
    Leave,
}

/// Lets the zone above delegate a new one, and the new one those below it.
pub(crate) async fn join(
    tx: &SystemTx,
    zone: &dns_zone::Model,
    servers: &BTreeSet<String>,
    standing: Standing,
) -> Result<()> {
    let name = name_of(zone)?;
    if let Some(parent) = above(tx, name.as_str()).await? {
        delegate(tx, parent, &name, servers, standing).await?;
    }
    let below = format!(".{name}");
    let children = dns_zone::Entity::find()
        .filter(crate::dns::names::ends(dns_zone::Column::Name, &below))
        .filter(dns_zone::Column::State.ne("deleting"))
        .all(tx.conn())
        .await?;
    for child in &children {
        let child_name = name_of(child)?;
        let nearer = |other: &&dns_zone::Model| {
            other.id != child.id && child.name.ends_with(&format!(".{}", other.name))
        };
        if children.iter().any(|other| nearer(&other)) {
            continue;
        }
        let servers = servers_of(tx, child).await?;
        let row = dns_zone::Entity::find_by_id(zone.id).lock_exclusive().one(tx.conn()).await?;
        if let Some(row) = row {
            delegate(tx, row, &child_name, &servers, Standing::Leave).await?;
        }
    }
    Ok(())
}

async fn delegate(
    tx: &SystemTx,
    parent: dns_zone::Model,
    name: &DomainName,
    servers: &BTreeSet<String>,
    standing: Standing,
) -> Result<()> {
    let absolute = format!("{name}.");
    let below = format!(".{absolute}");
    let sets = all_sets(tx.conn(), parent.tenant_id, parent.id).await?;
    let is_there = |set: &&RecordSet| set.name == absolute || set.name.ends_with(&below);
    let there: Vec<&RecordSet> = sets.iter().filter(is_there).collect();
    if there.iter().any(|set| set.rtype == "NS" && set.name == absolute) {
        return Ok(());
    }
    if let Some(first) = there.first() {
        if standing == Standing::Leave {
            return Ok(());
        }
        let text = format!(
            "The zone {} has records there, such as {} {}, which would not be answered any more. \
             Remove them first.",
            parent.name, first.name, first.rtype
        );
        return Err(Error::refused(Code::Conflict, text));
    }
    let set = RecordSet {
        name: absolute.clone(),
        rtype: "NS".to_owned(),
        ttl: TTL,
        records: servers.clone(),
    };
    let after =
        json!({ "name": set.name, "type": set.rtype, "ttl": set.ttl, "records": set.records });
    let diff =
        Difference { name: absolute, rtype: "NS".to_owned(), before: None, after: Some(set) };
    write(tx, parent, diff, |zone, name| Audit::DnsRecordCreated { zone, name, after }).await
}

/// Takes the delegation of a zone that is gone away, if it is still the one that was made for it.
pub(crate) async fn part(tx: &SystemTx, name: &str, servers: &BTreeSet<String>) -> Result<()> {
    let Some(parent) = above(tx, name).await? else { return Ok(()) };
    let absolute = format!("{name}.");
    let sets = all_sets(tx.conn(), parent.tenant_id, parent.id).await?;
    let made = sets
        .into_iter()
        .find(|set| set.name == absolute && set.rtype == "NS" && set.records == *servers);
    let Some(set) = made else { return Ok(()) };
    let before =
        json!({ "name": set.name, "type": set.rtype, "ttl": set.ttl, "records": set.records });
    let diff =
        Difference { name: absolute, rtype: "NS".to_owned(), before: Some(set), after: None };
    write(tx, parent, diff, |zone, name| Audit::DnsRecordDeleted { zone, name, before }).await
}

async fn write(
    tx: &SystemTx,
    zone: dns_zone::Model,
    diff: Difference,
    entry: impl FnOnce(crate::ids::ZoneId, String) -> Audit,
) -> Result<()> {
    let (tenant, id, name): (TenantId, _, _) = (zone.tenant_id, zone.id, zone.name.clone());
    write_diff(tx.conn(), (tenant, id), &[diff]).await?;
    bump(tx.conn(), zone, None).await?;
    tx.audit(&TenantCtx::system(tenant), entry(id, name)).await?;
    tx.publish(tenant, Message::ZoneChanged { zone: id }).await
}
