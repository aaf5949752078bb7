//! Which names may be zones, and for whom: never a public suffix, no name with a special use unless
//! the installation allows it, and none that lies above or below another tenant's without its word.

use crate::Result;
use crate::db::{SystemTx, statement};
use crate::error::{Code, Error};
use crate::ids::{TenantId, ZoneId};
use crate::tables::{dns_agreement, dns_zone, domain};
use sea_orm::sea_query::{LikeExpr, SimpleExpr};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use std::collections::BTreeSet;
use values::DomainName;

/// Names that are for no zone in public (IANA, "Special-Use Domain Names"; `internal` is ICANN's
/// resolution 2024.07.29.06).
const SPECIAL: &[&str] = &[
    "alt",
    "example",
    "example.com",
    "example.net",
    "example.org",
    "home.arpa",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
    "test",
];

/// What the installation decides.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Names with a special use that are allowed nevertheless, such as `example`.
    pub special: BTreeSet<String>,
    /// Our name servers, which every zone gets as NS. Nobody else has their names, nor what lies above.
    pub nameservers: Vec<DomainName>,
    /// Accounts that were ordered without a domain get their names below it.
    pub accounts_domain: DomainName,
}

impl Rules {
    fn is_ours(&self, name: &DomainName) -> bool {
        let below = &self.accounts_domain;
        let owns = |own: &DomainName| own == name || own.is_below(name);
        let beside = |own: &DomainName| is_within(name.as_str(), root(own));
        name.is_below(below)
            || owns(below)
            || self.nameservers.iter().any(|own| owns(own) || beside(own))
    }
}

/// A text in which `%` and `_` stand for themselves.
fn literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// The rows whose column ends so.
pub(crate) fn ends<C: ColumnTrait>(column: C, text: &str) -> SimpleExpr {
    column.like(LikeExpr::new(format!("%{}", literal(text))).escape('\\'))
}

/// The rows whose column holds this text.
pub(crate) fn holds<C: ColumnTrait>(column: C, text: &str) -> SimpleExpr {
    column.like(LikeExpr::new(format!("%{}%", literal(text))).escape('\\'))
}

/// Who asks for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    Tenant,
    /// The platform's staff, in the platform: reverse zones and our own names are theirs.
    Platform,
}

/// Whether a zone may have this name at all.
pub fn check_name(name: &DomainName, rules: &Rules, asker: Asker) -> Result<()> {
    let text = name.as_str();
    if asker == Asker::Tenant && rules.is_ours(name) {
        return Err(Error::field("name", "belongs to this installation; choose another"));
    }
    if is_within(text, "in-addr.arpa") || is_within(text, "ip6.arpa") {
        return check_reverse(text, asker);
    }
    if is_within(text, "arpa") {
        return Err(Error::field("name", "lies below arpa, where only reverse zones are made"));
    }
    let special = SPECIAL.iter().find(|special| is_within(text, special));
    if let Some(special) = special {
        if rules.special.contains(*special) && text != *special {
            return Ok(());
        }
        let why = format!("has a special use: no zone is made at or below {special} here");
        return Err(Error::field("name", why));
    }
    let Some(suffix) = psl::suffix(text.as_bytes()) else {
        return Err(Error::field("name", "is not a name that can be registered"));
    };
    if suffix.as_bytes() == text.as_bytes() {
        return Err(Error::field(
            "name",
            "is a public suffix, below which others register names; name a domain below it",
        ));
    }
    if !suffix.is_known() {
        let top = text.rsplit('.').next().unwrap_or_default();
        let why = format!("lies in {top}, which no registry has; check the spelling");
        return Err(Error::field("name", why));
    }
    Ok(())
}

fn is_within(name: &str, parent: &str) -> bool {
    name == parent || name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
}

/// Whoever has a reverse zone says what others' addresses are called.
fn check_reverse(name: &str, asker: Asker) -> Result<()> {
    if asker == Asker::Tenant {
        return Err(Error::field(
            "name",
            "is a reverse zone, which the provider keeps; set the name of an address instead",
        ));
    }
    let labels = name.strip_suffix(".in-addr.arpa").map(|l| (l, false));
    let labels = labels.or_else(|| name.strip_suffix(".ip6.arpa").map(|l| (l, true)));
    let valid = labels.is_some_and(|(labels, six)| {
        let count = labels.split('.').count();
        let is_octet = |l: &str| l.parse::<u8>().is_ok_and(|n| n.to_string() == l);
        let is_nibble = |l: &str| l.len() == 1 && l.bytes().all(|b| b.is_ascii_hexdigit());
        match six {
            true => count <= 31 && labels.split('.').all(is_nibble),
            // The last octet may be a part of a network (RFC 2317).
            false => count <= 4 && labels.split('.').skip(usize::from(count == 4)).all(is_octet),
        }
    });
    if valid {
        return Ok(());
    }
    let why = "is no reverse zone; one for 192.0.2.0/24 is called 2.0.192.in-addr.arpa";
    Err(Error::field("name", why))
}

/// Related names share everything from the registrable domain on; without one, the last two labels.
fn root(name: &DomainName) -> &str {
    psl::domain_str(name.as_str()).unwrap_or_else(|| {
        let mut dots = name.as_str().rmatch_indices('.').map(|(at, _)| at);
        let at = dots.nth(1).map_or(0, |at| at.saturating_add(1));
        name.as_str().get(at..).unwrap_or_default()
    })
}

/// Lets nobody else take a name that is related to this one until the end of the transaction.
pub(crate) async fn lock(tx: &SystemTx, name: &DomainName) -> Result<()> {
    let root = root(name);
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('zone ' || $1, 0))";
    tx.conn().execute_raw(statement(sql, [root.into()])).await?;
    Ok(())
}

/// Refuses a name that another tenant has, and one above or below it that its owner has not agreed to.
/// `but` is a zone that does not count.
pub(crate) async fn check_neighbours(
    tx: &SystemTx,
    tenant: TenantId,
    name: &DomainName,
    but: Option<ZoneId>,
) -> Result<()> {
    let Some(same) = others(tx, tenant, name, but).await? else { return Ok(()) };
    if same {
        let text = format!("The name {name} is taken in this installation. Choose another.");
        return Err(Error::Refused {
            code: Code::Conflict,
            message: text,
            fields: vec![crate::error::FieldError {
                path: "/name".to_owned(),
                message: "is taken".to_owned(),
            }],
        });
    }
    Err(Error::refused(
        Code::ZoneTaken,
        format!(
            "The name {name} lies above or below a name of another tenant. Its owner can agree: \
             POST /api/dns/zones/{{id}}/agreements with this name and your tenant's id."
        ),
    ))
}

/// Whether another tenant has the name (`Some(true)`), or one above or below it without agreement.
async fn others(
    tx: &SystemTx,
    tenant: TenantId,
    name: &DomainName,
    but: Option<ZoneId>,
) -> Result<Option<bool>> {
    let mut above: Vec<&str> = Vec::new();
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        above.push(parent);
        rest = parent;
    }
    let below = format!(".{name}");
    let zones = dns_zone::Entity::find().filter(dns_zone::Column::TenantId.ne(tenant)).filter(
        Condition::any()
            .add(dns_zone::Column::Name.eq(name.as_str()))
            .add(dns_zone::Column::Name.is_in(above.iter().copied()))
            .add(ends(dns_zone::Column::Name, &below)),
    );
    let mut owners = BTreeSet::new();
    for zone in zones.all(tx.conn()).await?.into_iter().filter(|zone| Some(zone.id) != but) {
        if zone.name == name.as_str() {
            return Ok(Some(true));
        }
        owners.insert(zone.tenant_id);
    }
    let domains = domain::Entity::find().filter(domain::Column::TenantId.ne(tenant)).filter(
        Condition::any()
            .add(domain::Column::Name.eq(name.as_str()))
            .add(domain::Column::Name.is_in(above.iter().copied()))
            .add(ends(domain::Column::Name, &below)),
    );
    for row in domains.all(tx.conn()).await? {
        if row.name == name.as_str() && but.is_none() {
            return Ok(Some(true));
        }
        owners.insert(row.tenant_id);
    }
    for owner in owners {
        let agreed = dns_agreement::Entity::find()
            .filter(dns_agreement::Column::TenantId.eq(owner))
            .filter(dns_agreement::Column::Name.eq(name.as_str()))
            .filter(dns_agreement::Column::GranteeId.eq(tenant))
            .one(tx.conn())
            .await?;
        if agreed.is_none() {
            return Ok(Some(false));
        }
    }
    Ok(None)
}

/// Whether the tenant could have a zone of this name, as far as others are concerned.
pub(crate) async fn is_free(tx: &SystemTx, tenant: TenantId, name: &DomainName) -> Result<bool> {
    Ok(others(tx, tenant, name, None).await?.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, asker: Asker) -> Result<()> {
        let rules = Rules {
            special: ["test".to_owned()].into(),
            nameservers: vec![DomainName::parse("ns1.hosting.test").unwrap()],
            accounts_domain: DomainName::parse("customers.provider.de").unwrap(),
        };
        check_name(&DomainName::parse(name).unwrap(), &rules, asker)
    }

    #[test]
    fn names_that_nobody_may_have() {
        for name in [
            "co.uk",
            "github.io",
            "com.au",
            "a.invalid",
            "shop.example",
            "example.com",
            "www.example.org",
            "x.home.arpa",
            "e164.arpa",
            "shop.corp",
            "hosting.test",
            "panel.hosting.test",
            "ns1.hosting.test",
            "provider.de",
            "me.customers.provider.de",
            "2.0.192.in-addr.arpa",
        ] {
            assert!(check(name, Asker::Tenant).is_err(), "{name}");
        }
        for name in ["shop.co.uk", "a.b.c.de", "shop.test", "x.github.io", "münchen.de"] {
            check(name, Asker::Tenant).unwrap();
        }
    }

    #[test]
    fn reverse_zones_are_the_platforms() {
        for name in [
            "2.0.192.in-addr.arpa",
            "10.in-addr.arpa",
            "0-25.2.0.192.in-addr.arpa",
            "8.b.d.0.1.0.0.2.ip6.arpa",
            "hosting.test",
        ] {
            check(name, Asker::Platform).unwrap();
        }
        for name in ["300.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "10.ip6.arpa", "02.in-addr.arpa"]
        {
            assert!(check(name, Asker::Platform).is_err(), "{name}");
        }
    }
}
