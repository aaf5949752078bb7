//! Templates: records with placeholders, of a tenant and of those above it. A placeholder is replaced
//! by text and nothing else; there is no language in it.

use crate::Result;
use crate::audit::Audit;
use crate::db::TenantTx;
use crate::dns::changes::{self, Changed, Edit, Mode, SetChange, Sets, Source, Wanted};
use crate::error::{Error, FieldError};
use crate::ids::TemplateId;
use crate::tables::dns_template::{self, Column};
use chrono::Utc;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ModelTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use values::{DomainName, Hostname, Prose, Title};

/// So many sets a template has at most, and a tenant templates.
const SETS: usize = 200;
const TEMPLATES: u64 = 200;

/// A set of a template; name and records may hold placeholders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSet {
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    /// None: the zone's default.
    pub ttl: Option<u32>,
    pub records: Vec<String>,
}

/// What stands for the placeholders, but for `{domain}`, which is the zone's name.
#[derive(Debug, Clone, Default)]
pub struct Values {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
    pub hostname: Option<Hostname>,
}

impl Values {
    fn map(&self, zone: &DomainName) -> BTreeMap<&'static str, String> {
        let mut map = BTreeMap::from([("domain", zone.to_string())]);
        map.extend(self.ipv4.map(|ip| ("ipv4", ip.to_string())));
        map.extend(self.ipv6.map(|ip| ("ipv6", ip.to_string())));
        map.extend(self.hostname.as_ref().map(|name| ("hostname", name.to_string())));
        map
    }
}

const NAMES: [&str; 4] = ["domain", "ipv4", "ipv6", "hostname"];

/// A text in pieces.
enum Piece<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Only the four names between braces are placeholders; any other brace stands for itself.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(at) = rest.get(from..).and_then(|part| part.find('{')) {
        let open = from.saturating_add(at);
        let inner = rest.get(open.saturating_add(1)..).unwrap_or_default();
        let name = NAMES
            .iter()
            .find(|name| inner.strip_prefix(**name).is_some_and(|after| after.starts_with('}')));
        let Some(name) = name else {
            from = open.saturating_add(1);
            continue;
        };
        pieces.push(Piece::Text(rest.get(..open).unwrap_or_default()));
        pieces.push(Piece::Placeholder(name));
        rest = inner.get(name.len().saturating_add(1)..).unwrap_or_default();
        from = 0;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// The text with values for its placeholders; the name of one that has none.
fn filled(text: &str, values: &BTreeMap<&'static str, String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Placeholder(name) => match values.get(name) {
                Some(value) => out.push_str(value),
                None => return Err(name.to_owned()),
            },
        }
    }
    Ok(out)
}

/// A set that was not made, since a value is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub name: String,
    pub rtype: String,
    pub missing: String,
}

fn changes_of(
    sets: &[TemplateSet],
    values: &BTreeMap<&'static str, String>,
) -> (Vec<SetChange>, Vec<LeftOut>) {
    let (mut changes, mut left_out) = (Vec::new(), Vec::new());
    for (at, set) in sets.iter().enumerate() {
        let name = filled(&set.name, values);
        let records: Result<Vec<String>, String> =
            set.records.iter().map(|record| filled(record, values)).collect();
        match (name, records) {
            (Ok(name), Ok(records)) => changes.push(SetChange {
                name,
                rtype: set.rtype.clone(),
                wanted: Wanted::Put { ttl: set.ttl, records },
                pointer: format!("/records/{at}"),
            }),
            (Err(missing), _) | (_, Err(missing)) => {
                left_out.push(LeftOut { name: set.name.clone(), rtype: set.rtype.clone(), missing })
            }
        }
    }
    (changes, left_out)
}

/// A template as it is to be.
#[derive(Debug)]
pub struct NewTemplate {
    pub name: Title,
    pub description: Prose,
    pub records: Vec<TemplateSet>,
}

/// What changes of a template; none: stays.
#[derive(Debug, Default)]
pub struct Change {
    pub name: Option<Title>,
    pub description: Option<Prose>,
    pub records: Option<Vec<TemplateSet>>,
}

/// Tries the records on a zone that nobody has, so that a template that was taken can be applied.
fn check(sets: &[TemplateSet]) -> Result<()> {
    if sets.is_empty() || sets.len() > SETS {
        return Err(Error::field("records", format!("must have 1 to {SETS} record sets")));
    }
    let zone = DomainName::parse("zone.example")?;
    let sample = Values {
        ipv4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        hostname: Some(Hostname::parse("server.example.net")?),
    };
    let (changes, _) = changes_of(sets, &sample.map(&zone));
    changes::check_alone(&zone, &changes)
}

/// Makes a template of the tenant's own.
pub async fn create_template(tx: &TenantTx, new: NewTemplate) -> Result<dns_template::Model> {
    tx.ctx().refuse_bound()?;
    check(&new.records)?;
    if tx.own::<dns_template::Entity>().count(tx.conn()).await? >= TEMPLATES {
        return Err(Error::field("name", format!("a tenant has at most {TEMPLATES} templates")));
    }
    let row = dns_template::ActiveModel {
        id: Set(TemplateId::new()),
        tenant_id: Set(tx.tenant()),
        name: Set(new.name.to_string()),
        description: Set(new.description.to_string()),
        records: Set(serde_json::to_value(&new.records)?),
        created_at: Set(Utc::now()),
        updated_at: Set(Utc::now()),
    };
    let row = row.insert(tx.conn()).await?;
    tx.audit(Audit::DnsTemplateCreated { template: row.id, name: row.name.clone() }).await?;
    Ok(row)
}

/// A page of the templates that the tenant sees, by name, and how many there are.
pub async fn list_templates(
    tx: &TenantTx,
    offset: u64,
    limit: u64,
) -> Result<(Vec<dns_template::Model>, u64)> {
    let query = tx.seen::<dns_template::Entity>();
    let total = query.clone().count(tx.conn()).await?;
    let query = query.order_by_asc(Column::Name).order_by_asc(Column::Id);
    Ok((query.offset(offset).limit(limit).all(tx.conn()).await?, total))
}

/// A template that the tenant sees.
pub async fn find_template(tx: &TenantTx, id: TemplateId) -> Result<dns_template::Model> {
    let row = tx.seen::<dns_template::Entity>().filter(Column::Id.eq(id)).one(tx.conn()).await?;
    row.ok_or(Error::NotFound("template"))
}

/// The sets of a template's row.
pub fn sets_of(row: &dns_template::Model) -> Result<Vec<TemplateSet>> {
    Ok(serde_json::from_value(row.records.clone())?)
}

fn shown(row: &dns_template::Model) -> Value {
    json!({ "name": row.name, "description": row.description, "records": row.records })
}

async fn lock(tx: &TenantTx, id: TemplateId) -> Result<dns_template::Model> {
    tx.ctx().refuse_bound()?;
    let row = tx.own_by_id::<dns_template::Entity>(id).lock_exclusive().one(tx.conn()).await?;
    row.ok_or(Error::NotFound("template"))
}

/// Changes a template of the tenant's own; zones that it was applied to stay as they are.
pub async fn update_template(
    tx: &TenantTx,
    id: TemplateId,
    change: Change,
) -> Result<dns_template::Model> {
    let before = lock(tx, id).await?;
    let mut active: dns_template::ActiveModel = before.clone().into();
    if let Some(name) = change.name {
        active.name.set_if_not_equals(name.to_string());
    }
    if let Some(description) = change.description {
        active.description.set_if_not_equals(description.to_string());
    }
    if let Some(records) = change.records {
        check(&records)?;
        active.records.set_if_not_equals(serde_json::to_value(&records)?);
    }
    let after = match active.is_changed() {
        true => {
            active.updated_at = Set(Utc::now());
            active.update(tx.conn()).await?
        }
        false => before.clone(),
    };
    let (before, seen) = (shown(&before), shown(&after));
    tx.audit(Audit::DnsTemplateUpdated { template: id, before, after: seen }).await?;
    Ok(after)
}

/// Removes a template of the tenant's own; zones that it was applied to stay as they are.
pub async fn delete_template(tx: &TenantTx, id: TemplateId) -> Result<()> {
    let row = lock(tx, id).await?;
    let name = row.name.clone();
    row.delete(tx.conn()).await?;
    tx.audit(Audit::DnsTemplateDeleted { template: id, name }).await
}

/// Applies a template to a zone. Sets whose placeholders have no value are left out, and told.
pub async fn apply_template(
    tx: &TenantTx,
    edit: &Edit<'_>,
    id: TemplateId,
    (values, mode): (&Values, Mode),
) -> Result<(Changed, Vec<LeftOut>)> {
    tx.ctx().refuse_bound()?;
    let sets = sets_of(&find_template(tx, id).await?)?;
    let editing = changes::begin(tx, edit).await?;
    let (changes, left_out) = changes_of(&sets, &values.map(&editing.name));
    if changes.is_empty() {
        let missing: Vec<FieldError> = left_out
            .iter()
            .map(|l| FieldError {
                path: format!("/{}", l.missing),
                message: "is needed by every set of the template".to_owned(),
            })
            .collect();
        let message = "Nothing of the template can be made: give it its values.".to_owned();
        let code = crate::error::Code::InvalidRequest;
        return Err(Error::Refused { code, message, fields: missing });
    }
    let wanted = changes::checked(&editing, &changes)?;
    let mut after: Sets = match mode {
        Mode::Merge => editing.before.clone(),
        Mode::Replace => changes::servers_of(&editing),
    };
    after.extend(wanted);
    let pointers = changes::pointers(&editing.name, &changes);
    Ok((changes::finish(tx, edit, editing, after, Source::Request(&pointers)).await?, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_text_and_nothing_else() {
        let zone = DomainName::parse("shop.test").unwrap();
        let values =
            Values { ipv4: Some(Ipv4Addr::new(192, 0, 2, 7)), ..Values::default() }.map(&zone);
        for (text, out) in [
            ("{domain}", "shop.test"),
            (
                "v=spf1 ip4:{ipv4} include:{domain} -all",
                "v=spf1 ip4:192.0.2.7 include:shop.test -all",
            ),
            ("{{domain}}", "{shop.test}"),
            ("{ domain }{Domain}{x}{", "{ domain }{Domain}{x}{"),
            ("ünï{ipv4}ö", "ünï192.0.2.7ö"),
        ] {
            assert_eq!(filled(text, &values).unwrap(), out);
        }
        assert_eq!(filled("{ipv6}", &values), Err("ipv6".to_owned()));
    }

    #[test]
    fn a_template_is_tried_before_it_is_kept() {
        let set = |rtype: &str, record: &str| TemplateSet {
            name: "@".to_owned(),
            rtype: rtype.to_owned(),
            ttl: None,
            records: vec![record.to_owned()],
        };
        check(&[set("A", "{ipv4}"), set("MX", "10 mail.{domain}.")]).unwrap();
        for bad in [set("A", "{ipv6}"), set("SOA", "x"), set("CNAME", "{hostname}.")] {
            assert!(check(&[bad]).is_err());
        }
        assert!(check(&[]).is_err());
    }
}
