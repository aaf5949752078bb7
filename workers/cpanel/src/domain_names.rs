//! `userdata/main` and the legacy lists beside it: which domains the account has.

use crate::findings::Findings;
use crate::members::Members;
use crate::record::{Record, domain};
use crate::yaml::{self, Node};
use std::collections::{BTreeMap, BTreeSet};
use values::DomainName;

/// The account's names before their virtual hosts are looked at.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub main: Option<DomainName>,
    /// Addon → internal subdomain.
    pub addons: BTreeMap<DomainName, Option<DomainName>>,
    pub parked: BTreeSet<DomainName>,
    pub subs: BTreeSet<DomainName>,
    /// `*.x.example` of wildcard subdomains, and the file that describes it.
    pub wildcards: BTreeMap<String, String>,
    /// Document roots of the legacy list, by subdomain, relative to the home.
    pub roots: BTreeMap<DomainName, String>,
}

impl Names {
    /// All names that have a virtual host or an alias of their own.
    pub(crate) fn own(&self, main: &DomainName) -> BTreeSet<DomainName> {
        let mut own: BTreeSet<DomainName> = self.addons.keys().cloned().collect();
        own.extend(self.parked.iter().cloned());
        own.extend(self.subs.iter().cloned());
        own.insert(main.clone());
        own
    }
}

/// Reads the names: from `userdata/main`, else from the legacy lists.
pub(crate) fn names(members: &Members, record: &Record, findings: &mut Findings) -> Names {
    let Some(text) = members.text("userdata/main") else {
        return legacy(members, record, findings);
    };
    match yaml::parse(&text) {
        Ok(node) => from_main(&node, record, findings),
        Err(why) => {
            let message = format!("It is not read ({why}); the legacy lists are used instead.");
            findings.lost("userdata:main", message);
            legacy(members, record, findings)
        }
    }
}

fn from_main(node: &Node, record: &Record, findings: &mut Findings) -> Names {
    let main = node.text("main_domain").and_then(|t| domain(t, findings));
    let mut names = Names { main: main.or_else(|| record.main_domain.clone()), ..Names::default() };
    let mut internals = BTreeSet::new();
    for (addon, internal) in node.pairs("addon_domains") {
        let internal = domain(internal, findings);
        internals.extend(internal.clone());
        if let Some(addon) = domain(addon, findings) {
            names.addons.insert(addon, internal);
        }
    }
    names
        .parked
        .extend(node.texts("parked_domains").into_iter().filter_map(|t| domain(t, findings)));
    for text in node.texts("sub_domains") {
        if let Some(below) = text.strip_prefix("*.") {
            names.wildcards.insert(text.to_ascii_lowercase(), format!("_wildcard_.{below}"));
        }
        names.subs.extend(domain(text, findings).filter(|d| !internals.contains(d)));
    }
    names
}

/// `addons`, `sds2`, `sds` and `pds`: `_` stands for the first dot of an internal subdomain.
fn legacy(members: &Members, record: &Record, findings: &mut Findings) -> Names {
    let mut names = Names { main: record.main_domain.clone(), ..Names::default() };
    let lines = |path: &str| {
        let text = members.text(path).unwrap_or_default().into_owned();
        text.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>()
    };
    let dotted = |text: &str| text.replacen('_', ".", 1);
    let mut internals = BTreeSet::new();
    for line in lines("addons") {
        let (addon, internal) = line.split_once('=').unwrap_or((&line, ""));
        let internal = DomainName::parse(&dotted(internal)).ok();
        internals.extend(internal.clone());
        if let Some(addon) = domain(addon, findings) {
            names.addons.insert(addon, internal);
        }
    }
    for line in lines("sds2").into_iter().chain(lines("sds")) {
        let (sub, root) = line.split_once('=').unwrap_or((&line, ""));
        let Some(sub) = domain(&dotted(sub), findings) else { continue };
        if !root.is_empty() {
            names.roots.insert(sub.clone(), root.to_owned());
        }
        if !internals.contains(&sub) {
            names.subs.insert(sub);
        }
    }
    for line in lines("pds") {
        let first = line.split_whitespace().next().unwrap_or_default().to_owned();
        names.parked.extend(domain(&first, findings));
    }
    names
}
