//! Changes of a zone's records: checked as a whole, shown as a difference, and written all or not at
//! all. Each that changes something is one more version of the zone, and one message to the worker.

use crate::Result;
use crate::audit::Audit;
use crate::db::TenantTx;
use crate::dns::budget::{self, Limits};
use crate::dns::{SETS_MAX, all_sets, find_zone, lock_zone, name_of, next_serial};
use crate::error::{Code, Error, FieldError};
use crate::ids::{RowId, TenantId, ZoneId};
use crate::outbox::Message;
use crate::tables::{dns_record_set, dns_zone};
use crate::tenants;
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use values::DomainName;
use zonefile::{Draft, Field, Problem, RecordSet, check_set, check_zone};

/// Beyond so many sets in one change, the audit trail has their number instead of each.
const AUDITED_SINGLY: usize = 200;
/// How many rows one statement inserts: Postgres takes 65 535 values.
const ROWS: usize = 2000;

/// What shall become of one set.
#[derive(Debug, Clone)]
pub struct SetChange {
    /// `@`, relative to the zone, or absolute with a final dot.
    pub name: String,
    pub rtype: String,
    pub wanted: Wanted,
    /// Where it stands in the request, as a JSON pointer: errors point there.
    pub pointer: String,
}

/// What a set shall be.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// These records; there must be no such set yet.
    New { ttl: Option<u32>, records: Vec<String> },
    /// These records, whatever stood there.
    Put { ttl: Option<u32>, records: Vec<String> },
    /// Nothing; there must be such a set.
    Gone,
    /// Nothing, whatever stood there.
    Absent,
}

/// How a zone is to be changed.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    pub zone: ZoneId,
    /// The version that the editor saw; another one is refused.
    pub expected: Option<i64>,
    /// None: it is our own job's doing.
    pub limits: Option<&'a Limits>,
    /// Only say what would change.
    pub preview: bool,
}

/// A set before and after; none: there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub name: String,
    pub rtype: String,
    pub before: Option<RecordSet>,
    pub after: Option<RecordSet>,
}

/// What a change came to, or would.
#[derive(Debug)]
pub struct Changed {
    /// As it is now; of a preview, as it is before.
    pub zone: dns_zone::Model,
    pub diff: Vec<Difference>,
}

/// What becomes of the sets that a file or a template does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They stay.
    Merge,
    /// They go, but for the name servers of the zone.
    Replace,
}

/// Sets by name and type.
pub type Sets = BTreeMap<(String, String), RecordSet>;

/// Sets as a map.
#[must_use]
pub fn by_key(sets: Vec<RecordSet>) -> Sets {
    sets.into_iter().map(|set| ((set.name.clone(), set.rtype.clone()), set)).collect()
}

/// A zone that is being edited: its row, locked unless this is a preview, and what stands in it.
#[derive(Debug)]
pub struct Editing {
    pub zone: dns_zone::Model,
    pub name: DomainName,
    pub before: Sets,
}

/// Begins an edit: finds the zone and compares the version that the editor saw.
pub async fn begin(tx: &TenantTx, edit: &Edit<'_>) -> Result<Editing> {
    let zone = match edit.preview {
        true => find_zone(tx, edit.zone).await?,
        false => lock_zone(tx, edit.zone).await?,
    };
    if let Some(expected) = edit.expected
        && expected != zone.version
    {
        return Err(Error::refused(
            Code::VersionChanged,
            format!(
                "The zone was changed meanwhile: it has version {} now, not {expected}. Look at it again, and send the change with the new version.",
                zone.version
            ),
        ));
    }
    let before = by_key(all_sets(tx.conn(), tx.tenant(), zone.id).await?);
    Ok(Editing { name: name_of(&zone)?, zone, before })
}

/// Changes single sets of a zone, all or none.
pub async fn change_sets(tx: &TenantTx, edit: &Edit<'_>, changes: &[SetChange]) -> Result<Changed> {
    let editing = begin(tx, edit).await?;
    let after = planned(&editing, changes)?;
    let pointers = pointers(&editing.name, changes);
    finish(tx, edit, editing, after, Source::Request(&pointers)).await
}

/// Where each set stands in the request.
pub type Pointers = BTreeMap<(String, String), String>;

pub(crate) fn pointers(zone: &DomainName, changes: &[SetChange]) -> Pointers {
    let named = changes.iter().filter_map(|change| {
        let name = zonefile::absolute(zone, &change.name).ok()?;
        Some(((name, change.rtype.to_uppercase()), change.pointer.clone()))
    });
    named.collect()
}

/// The sets that these changes put, for an edit of another kind.
pub(crate) fn checked(editing: &Editing, changes: &[SetChange]) -> Result<Sets> {
    let zone = editing.zone.clone();
    let empty = Editing { zone, name: editing.name.clone(), before: Sets::new() };
    planned(&empty, changes)
}

/// Checks changes that stand in no zone yet.
pub(crate) fn check_alone(name: &DomainName, changes: &[SetChange]) -> Result<()> {
    let after = put(name, Sets::new(), changes, zonefile::TTL_MIN)?;
    let list: Vec<RecordSet> = after.values().cloned().collect();
    let pointers = pointers(name, changes);
    let fields = check_zone(name, &list).into_iter().filter_map(|(at, problem)| {
        let set = list.get(at)?;
        let pointer = pointers.get(&(set.name.clone(), set.rtype.clone()))?;
        Some(field_of(pointer, &problem))
    });
    refuse_fields(fields.collect())
}

/// The zone's own name servers, which stay whatever else goes.
pub(crate) fn servers_of(editing: &Editing) -> Sets {
    let apex = (format!("{}.", editing.name), "NS".to_owned());
    editing.before.get_key_value(&apex).map(|(k, v)| (k.clone(), v.clone())).into_iter().collect()
}

/// What the zone would hold; refuses with every field that is wrong.
fn planned(editing: &Editing, changes: &[SetChange]) -> Result<Sets> {
    let ttl = u32::try_from(editing.zone.default_ttl).unwrap_or(3600);
    put(&editing.name, editing.before.clone(), changes, ttl)
}

fn put(
    zone: &DomainName,
    mut after: Sets,
    changes: &[SetChange],
    default_ttl: u32,
) -> Result<Sets> {
    let mut fields = Vec::new();
    let mut touched = BTreeSet::new();
    for change in changes {
        let key = match key_of(zone, change) {
            Ok(key) => key,
            Err(problems) => {
                fields.extend(problems.iter().map(|p| field_of(&change.pointer, p)));
                continue;
            }
        };
        if !touched.insert(key.clone()) {
            let message = format!("stands twice among the changes: {} {}", key.0, key.1);
            fields.push(FieldError { path: format!("{}/name", change.pointer), message });
            continue;
        }
        let there = after.contains_key(&key);
        let (ttl, records) = match &change.wanted {
            Wanted::Gone if !there => return Err(Error::NotFound("record set")),
            Wanted::Gone | Wanted::Absent => {
                after.remove(&key);
                continue;
            }
            Wanted::New { .. } if there => return Err(taken(&key)),
            Wanted::New { ttl, records } | Wanted::Put { ttl, records } => (ttl, records),
        };
        let ttl = ttl.unwrap_or(default_ttl);
        let draft = Draft { name: &change.name, rtype: &key.1, ttl, records };
        match check_set(zone, &draft) {
            Ok(set) if leads_to_itself(&set) => {
                let message = "leads to itself, and so nowhere".to_owned();
                fields.push(FieldError { path: format!("{}/records/0", change.pointer), message });
            }
            Ok(set) => {
                after.insert(key, set);
            }
            Err(problems) => {
                fields.extend(problems.iter().map(|p| field_of(&change.pointer, p)));
            }
        }
    }
    refuse_fields(fields)?;
    Ok(after)
}

fn leads_to_itself(set: &RecordSet) -> bool {
    ["CNAME", "ALIAS", "DNAME"].contains(&set.rtype.as_str()) && set.records.contains(&set.name)
}

fn key_of(zone: &DomainName, change: &SetChange) -> Result<(String, String), Vec<Problem>> {
    let rtype = change.rtype.to_uppercase();
    if !zonefile::TYPES.contains(&rtype.as_str()) {
        let message = match rtype.as_str() {
            "SOA" => "is kept by us; change its numbers with PATCH of the zone".to_owned(),
            _ => format!("must be one of {}", zonefile::TYPES.join(", ")),
        };
        return Err(vec![Problem { field: Field::Type, message }]);
    }
    match zonefile::absolute(zone, &change.name) {
        Ok(name) => Ok((name, rtype)),
        Err(problem) => Err(vec![problem]),
    }
}

fn taken((name, rtype): &(String, String)) -> Error {
    let text = format!("There is a set {name} {rtype} already. Replace it with PUT.");
    Error::refused(Code::Conflict, text)
}

fn field_of(pointer: &str, problem: &Problem) -> FieldError {
    let path = match problem.field {
        Field::Name => format!("{pointer}/name"),
        Field::Type => format!("{pointer}/type"),
        Field::Ttl => format!("{pointer}/ttl"),
        Field::Record(at) => format!("{pointer}/records/{at}"),
    };
    FieldError { path, message: problem.message.clone() }
}

fn refuse_fields(fields: Vec<FieldError>) -> Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    let named: Vec<String> =
        fields.iter().take(10).map(|f| format!("{} {}", f.path, f.message)).collect();
    let more = fields.len().saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::Refused {
        code: Code::InvalidRequest,
        message: format!("Some records are not as they should be: {}{more}.", named.join("; ")),
        fields,
    })
}

/// Where sets come from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// From a request, where each stands somewhere.
    Request(&'a Pointers),
    /// From a zone file: what it says was checked, and is taken as it is, such as a mail server that is
    /// an alias.
    File,
}

/// Makes the zone hold `after`: checks it as a whole, and writes it unless this is a preview.
pub async fn finish(
    tx: &TenantTx,
    edit: &Edit<'_>,
    editing: Editing,
    after: Sets,
    source: Source<'_>,
) -> Result<Changed> {
    let Editing { zone, name, before } = editing;
    let diff = difference(&before, &after);
    for difference in &diff {
        tx.ctx().require_set(zone.id, &name, &difference.name, &difference.rtype)?;
    }
    if let Source::Request(pointers) = source {
        check_whole(&name, &before, &after, pointers)?;
    }
    if after.len() > before.len() {
        check_room(tx, after.len()).await?;
    }
    if diff.is_empty() || edit.preview {
        return Ok(Changed { zone, diff });
    }
    let budget = match edit.limits {
        Some(limits) => Some(budget::take_change(tx, &zone, limits).await?),
        None => None,
    };
    write_diff(tx.conn(), (tx.tenant(), zone.id), &diff).await?;
    let zone = bump(tx.conn(), zone, budget).await?;
    audit(tx, &zone, &diff).await?;
    tx.publish(Message::ZoneChanged { zone: zone.id }).await?;
    Ok(Changed { zone, diff })
}

fn difference(before: &Sets, after: &Sets) -> Vec<Difference> {
    let keys: BTreeSet<&(String, String)> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| Difference {
            name: key.0.clone(),
            rtype: key.1.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

/// Refuses what breaks a rule between sets; what was broken before, as an account brought it, stays.
fn check_whole(name: &DomainName, before: &Sets, after: &Sets, pointers: &Pointers) -> Result<()> {
    let apex = format!("{name}.");
    if !after.contains_key(&(apex.clone(), "NS".to_owned())) {
        let pointer = pointers.get(&(apex, "NS".to_owned())).cloned().unwrap_or_default();
        let message = "must stay: a zone has its name servers at its apex".to_owned();
        return refuse_fields(vec![FieldError { path: format!("{pointer}/type"), message }]);
    }
    let problems = |sets: &Sets| -> Vec<((String, String), Problem)> {
        let list: Vec<RecordSet> = sets.values().cloned().collect();
        let found = check_zone(name, &list);
        found
            .into_iter()
            .filter_map(|(at, problem)| {
                let set = list.get(at)?;
                Some(((set.name.clone(), set.rtype.clone()), problem))
            })
            .collect()
    };
    let known = problems(before);
    let mut fields = Vec::new();
    for (key, problem) in problems(after) {
        let was = known.iter().any(|(k, p)| *k == key && p.message == problem.message);
        if was && before.get(&key) == after.get(&key) {
            continue;
        }
        let pointer = pointers.get(&key).cloned();
        let mut field = field_of(pointer.as_deref().unwrap_or_default(), &problem);
        if pointer.is_none() {
            field.message = format!("{} {}: {}", key.0, key.1, field.message);
        }
        fields.push(field);
    }
    refuse_fields(fields)
}

async fn check_room(tx: &TenantTx, sets: usize) -> Result<()> {
    let limit = tenants::limits_of(tx).await?.records;
    let most = limit.map_or(SETS_MAX, |l| usize::try_from(l).unwrap_or(SETS_MAX).min(SETS_MAX));
    if sets <= most {
        return Ok(());
    }
    let text = format!(
        "The limit of {most} record sets in a zone is reached: remove some, or ask your provider for more."
    );
    Err(Error::refused(Code::QuotaExceeded, text))
}

/// Writes the sets that differ.
pub(crate) async fn write_diff(
    conn: &DatabaseTransaction,
    (tenant, zone): (TenantId, ZoneId),
    diff: &[Difference],
) -> Result<()> {
    for part in diff.chunks(ROWS) {
        let mut any = sea_orm::Condition::any();
        for gone in part.iter().filter(|d| d.before.is_some()) {
            any = any.add(
                sea_orm::Condition::all()
                    .add(dns_record_set::Column::Name.eq(gone.name.as_str()))
                    .add(dns_record_set::Column::Rtype.eq(gone.rtype.as_str())),
            );
        }
        if !any.is_empty() {
            dns_record_set::Entity::delete_many()
                .filter(dns_record_set::Column::TenantId.eq(tenant))
                .filter(dns_record_set::Column::ZoneId.eq(zone))
                .filter(any)
                .exec(conn)
                .await?;
        }
        let now = Utc::now();
        let mut rows = Vec::new();
        for set in part.iter().filter_map(|d| d.after.as_ref()) {
            rows.push(dns_record_set::ActiveModel {
                id: Set(RowId::new()),
                tenant_id: Set(tenant),
                zone_id: Set(zone),
                name: Set(set.name.clone()),
                rtype: Set(set.rtype.clone()),
                ttl: Set(i32::try_from(set.ttl).unwrap_or(i32::MAX)),
                records: Set(serde_json::to_value(&set.records)?),
                updated_at: Set(now),
            });
        }
        if !rows.is_empty() {
            dns_record_set::Entity::insert_many(rows).exec_without_returning(conn).await?;
        }
    }
    Ok(())
}

/// One more version of the zone, which the servers do not have yet.
pub(crate) async fn bump(
    conn: &DatabaseTransaction,
    zone: dns_zone::Model,
    budget: Option<Value>,
) -> Result<dns_zone::Model> {
    let now = Utc::now();
    let (version, serial) = (zone.version.saturating_add(1), next_serial(zone.serial, now));
    let mut row: dns_zone::ActiveModel = zone.into();
    row.version = Set(version);
    row.serial = Set(serial);
    row.state = Set("pending".to_owned());
    row.error = Set(None);
    row.attempts = Set(0);
    row.next_at = Set(None);
    row.updated_at = Set(now);
    if let Some(budget) = budget {
        row.budget = Set(budget);
    }
    Ok(row.update(conn).await?)
}

fn shown(set: &RecordSet) -> Value {
    json!({ "name": set.name, "type": set.rtype, "ttl": set.ttl, "records": set.records })
}

async fn audit(tx: &TenantTx, zone: &dns_zone::Model, diff: &[Difference]) -> Result<()> {
    let (id, name) = (zone.id, &zone.name);
    if diff.len() > AUDITED_SINGLY {
        let count = |which: fn(&Difference) -> bool| diff.iter().filter(|d| which(d)).count();
        return tx
            .audit(Audit::DnsZoneChanged {
                zone: id,
                name: name.clone(),
                version: zone.version,
                created: count(|d| d.before.is_none()),
                updated: count(|d| d.before.is_some() && d.after.is_some()),
                deleted: count(|d| d.after.is_none()),
            })
            .await;
    }
    for d in diff {
        let entry = match (&d.before, &d.after) {
            (None, Some(after)) => {
                Audit::DnsRecordCreated { zone: id, name: name.clone(), after: shown(after) }
            }
            (Some(before), Some(after)) => Audit::DnsRecordUpdated {
                zone: id,
                name: name.clone(),
                before: shown(before),
                after: shown(after),
            },
            (Some(before), None) => {
                Audit::DnsRecordDeleted { zone: id, name: name.clone(), before: shown(before) }
            }
            (None, None) => continue,
        };
        tx.audit(entry).await?;
    }
    Ok(())
}

/// How a zone file is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import {
    pub mode: Mode,
    /// Whether the name servers at the apex become those of the file instead of staying.
    pub servers: bool,
    /// Whether what cannot be read is left out instead of refusing the file.
    pub leave_out: bool,
}

/// Makes a zone hold what a BIND zone file says. Answers what was left out of it beside the change.
pub async fn import_file(
    tx: &TenantTx,
    edit: &Edit<'_>,
    bytes: &[u8],
    import: Import,
) -> Result<(Changed, Vec<zonefile::LeftOut>)> {
    tx.ctx().refuse_bound()?;
    let editing = begin(tx, edit).await?;
    let file = zonefile::read(&editing.name, bytes)
        .map_err(|broken| broken_file(&format!("line {}: {}", broken.line, broken.why)))?;
    let unread: Vec<&zonefile::LeftOut> =
        file.left_out.iter().filter(|l| !l.is_signing()).collect();
    if !unread.is_empty() && !import.leave_out {
        return Err(unreadable(&unread));
    }
    if file.sets.is_empty() {
        return Err(broken_file("it has no record"));
    }
    let mut after = match import.mode {
        Mode::Merge => editing.before.clone(),
        Mode::Replace => Sets::new(),
    };
    after.extend(by_key(file.sets));
    if !import.servers || !after.contains_key(&(format!("{}.", editing.name), "NS".to_owned())) {
        after.extend(servers_of(&editing));
    }
    let mut left_out = file.left_out;
    left_out.extend(leave_contradictions(&editing, &mut after, import)?);
    Ok((finish(tx, edit, editing, after, Source::File).await?, left_out))
}

/// Sets of a file that cannot stand beside each other: they go and are told, or the file is refused.
fn leave_contradictions(
    editing: &Editing,
    after: &mut Sets,
    import: Import,
) -> Result<Vec<zonefile::LeftOut>> {
    let mut left_out = Vec::new();
    // What goes may be what another one could not stand beside.
    while let Some((set, problem)) = contradiction(&editing.name, &editing.before, after) {
        let what = format!("{} {}", set.name, set.rtype);
        if !import.leave_out {
            return Err(broken_file(&format!("{what} {}", problem.message)));
        }
        after.remove(&(set.name, set.rtype));
        left_out.push(zonefile::LeftOut { line: 0, text: what, why: problem.message });
    }
    Ok(left_out)
}

/// The first set that no server would answer beside the others; a CNAME first.
fn contradiction(name: &DomainName, before: &Sets, sets: &Sets) -> Option<(RecordSet, Problem)> {
    let list: Vec<RecordSet> = sets.values().cloned().collect();
    let kept = (format!("{name}."), "NS".to_owned());
    let mut found: Vec<(RecordSet, Problem)> = check_zone(name, &list)
        .into_iter()
        .filter(|(_, problem)| !matches!(problem.field, Field::Record(_)))
        .filter_map(|(at, problem)| Some((list.get(at)?.clone(), problem)))
        .filter(|(set, _)| {
            let key = (set.name.clone(), set.rtype.clone());
            key != kept && before.get(&key) != Some(set)
        })
        .collect();
    found.sort_by_key(|(set, _)| set.rtype != "CNAME");
    found.into_iter().next()
}

fn broken_file(why: &str) -> Error {
    let message = why.to_owned();
    Error::Refused {
        code: Code::InvalidRequest,
        message: format!("The zone file cannot be read, and nothing of it was taken: {message}."),
        fields: vec![FieldError { path: "/zone_file".to_owned(), message }],
    }
}

fn unreadable(lines: &[&zonefile::LeftOut]) -> Error {
    let fields: Vec<FieldError> = lines
        .iter()
        .take(100)
        .map(|l| FieldError {
            path: "/zone_file".to_owned(),
            message: format!("line {}: {}: {}", l.line, l.why, l.text),
        })
        .collect();
    let first: Vec<&str> = fields.iter().take(3).map(|f| f.message.as_str()).collect();
    let text = format!(
        "{} records of the zone file cannot be taken, and nothing was changed: {}. Mend them, or \
         send leave_out=true to take the rest.",
        lines.len(),
        first.join("; ")
    );
    Error::Refused { code: Code::InvalidRequest, message: text, fields }
}
