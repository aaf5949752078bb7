//! Doors to the private parsers for the fuzz targets in `fuzz/`, which check what each promises. In
//! the crate only with the feature `fuzzing`.

use crate::account::{Database, DumpState};
use crate::findings::Findings;
use crate::members::Members;
use crate::{aliases, grants, record, yaml};
use std::collections::BTreeSet;
use values::{DatabaseName, DomainName, MailAddress, Username};

/// Reads YAML; how deep it is nested.
#[must_use]
pub fn yaml_depth(text: &str) -> Option<usize> {
    fn depth(node: &yaml::Node) -> usize {
        match node {
            yaml::Node::Text(_) => 0,
            yaml::Node::List(items) => items.iter().map(depth).max().unwrap_or(0) + 1,
            yaml::Node::Map(pairs) => pairs.iter().map(|(_, n)| depth(n)).max().unwrap_or(0) + 1,
        }
    }
    yaml::parse(text).ok().map(|node| depth(&node))
}

/// Reads an alias file of `shop.example`: each forwarder with its destinations.
#[must_use]
pub fn forwards(text: &str) -> Vec<(MailAddress, BTreeSet<MailAddress>)> {
    let Ok(domain) = DomainName::parse("shop.example") else { return Vec::new() };
    let Ok(default) = MailAddress::parse("shop@shop.example") else { return Vec::new() };
    let forward = aliases::domain_forward(&domain, text);
    let found = aliases::parse(&domain, text, "shop", &default, &mut Findings::default());
    if forward.is_some_and(|d| d == domain) { Vec::new() } else { found.forwards }
}

/// Reads the statements and the JSON of database users; every privilege that came out.
#[must_use]
pub fn privileges(sql: &[u8], json: &[u8]) -> Vec<(String, String)> {
    let mut members = Members::default();
    members.texts.insert("mysql.sql".to_owned(), sql.to_vec());
    members.texts.insert("mysql.sql-auth.json".to_owned(), json.to_vec());
    let names = ["shop_wp", "shop-a.b"].iter().filter_map(|n| DatabaseName::parse(n).ok());
    let databases: Vec<Database> = names
        .map(|name| Database {
            name,
            charset: None,
            collation: None,
            member: None,
            dump: DumpState::Full,
            bytes: 0,
        })
        .collect();
    let Ok(user) = Username::parse("shop") else { return Vec::new() };
    let hosts = BTreeSet::from(["localhost".to_owned()]);
    let logins = grants::parse(&members, &user, &hosts, &databases, &mut Findings::default());
    let each = |login: crate::account::DatabaseLogin| {
        let name = login.name.to_string();
        let all = login.grants.into_values().flatten().collect::<Vec<_>>();
        all.into_iter().map(move |p| (name.clone(), p))
    };
    logins.into_iter().flat_map(each).collect()
}

/// Reads `cp/USER`; how many domains it names.
#[must_use]
pub fn record_domains(text: &str) -> usize {
    let record = record::parse(text, &mut Findings::default());
    record.domains.len() + record.removed.len() + usize::from(record.main_domain.is_some())
}
