//! What holds between the sets of a zone.

use crate::kinds::Kind;
use crate::name::Name;
use crate::rdata::{Data, Scope};
use crate::text::record_tokens;
use crate::{Field, Problem, RecordSet};
use std::collections::{BTreeMap, BTreeSet};
use values::DomainName;

/// The rules that hold between the sets of a zone; each problem with the index of its set. Where two
/// sets exclude each other, both are reported, so that whoever changed one of them finds it.
///
/// - A CNAME stands alone, and never at the apex (RFC 1034 section 3.6.2, RFC 2181 section 10.1).
///   ALIAS stands beside everything but A, AAAA and CNAME, which it answers for.
/// - Nothing lies below a DNAME (RFC 6672 section 2.4), and no wildcard is a delegation or a DNAME.
/// - DS stands beside a delegation's NS, and not at the apex.
/// - A delegation hands a name and all below it to others: only its NS and DS and the addresses of
///   name servers may stand there. A server loads anything else (`named-checkzone` says nothing)
///   and never answers it, so that the zone would say what the world does not hear.
/// - NS, MX and SRV lead to no alias of the zone (RFC 2181 section 10.3, RFC 2782). Whether a target
///   has an address is not asked: a zone is made in steps.
#[must_use]
pub fn check_zone(zone: &DomainName, sets: &[RecordSet]) -> Vec<(usize, Problem)> {
    let apex = Name::apex(zone);
    let mut problems = Vec::new();
    let mut names = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        match owner(&apex, set) {
            Ok(name) => names.push((at, set, name)),
            Err(message) => problems.push((at, Problem::new(Field::Name, message))),
        }
    }
    let tree = Tree::new(apex, &names);
    let mut seen = BTreeSet::new();
    for (at, set, name) in &names {
        let mut found = tree.set_problems(set, name);
        if !seen.insert((name, &set.rtype)) {
            found.push(Problem::new(Field::Type, "is there twice for this name"));
        }
        problems.extend(found.into_iter().map(|problem| (*at, problem)));
    }
    problems.sort_by_key(|(at, _)| *at);
    problems
}

fn owner(apex: &Name, set: &RecordSet) -> Result<Name, String> {
    let name = Name::parse(set.name.as_bytes(), apex)?;
    if !name.is_within(apex) {
        return Err("lies outside the zone".to_owned());
    }
    name.check_owner()?;
    Ok(name)
}

struct Tree<'s> {
    apex: Name,
    types: BTreeMap<&'s Name, BTreeSet<&'s str>>,
    /// Every name with a set, and every name above one.
    standing: BTreeSet<Name>,
}

impl<'s> Tree<'s> {
    fn new(apex: Name, names: &'s [(usize, &'s RecordSet, Name)]) -> Self {
        let mut types: BTreeMap<&Name, BTreeSet<&str>> = BTreeMap::new();
        let mut standing = BTreeSet::new();
        for (_, set, name) in names {
            types.entry(name).or_default().insert(set.rtype.as_str());
            let mut above = Some(name.clone());
            while let Some(name) = above.filter(|n| n.is_within(&apex)) {
                above = name.parent();
                if !standing.insert(name) {
                    break;
                }
            }
        }
        Self { apex, types, standing }
    }

    fn has(&self, name: &Name, rtype: &str) -> bool {
        self.types.get(name).is_some_and(|types| types.contains(rtype))
    }

    /// The nearest name strictly above with a set of this type, below the apex or at it.
    fn above(&self, name: &Name, rtype: &str) -> Option<Name> {
        let mut above = name.parent();
        while let Some(name) = above.filter(|n| n.is_within(&self.apex)) {
            if self.has(&name, rtype) {
                return Some(name);
            }
            above = name.parent();
        }
        None
    }

    fn set_problems(&self, set: &RecordSet, name: &Name) -> Vec<Problem> {
        let rtype = set.rtype.as_str();
        let mut found = Vec::new();
        let mut at_type = |message: String| found.push(Problem::new(Field::Type, message));
        let at_apex = *name == self.apex;
        let delegated = !at_apex && self.has(name, "NS");
        match rtype {
            "CNAME" if at_apex => at_type(
                "cannot stand at the zone's own name, where its NS and SOA are: use ALIAS".into(),
            ),
            "DS" if at_apex => at_type("belongs into the zone above".into()),
            "DS" if !delegated => at_type("stands beside the NS of a delegation only".into()),
            _ => {}
        }
        let excluded: &[&str] = match rtype {
            "CNAME" => crate::TYPES,
            "ALIAS" => &["A", "AAAA", "CNAME"],
            "A" | "AAAA" => &["CNAME", "ALIAS"],
            _ => &["CNAME"],
        };
        let beside: Vec<&str> = excluded
            .iter()
            .filter(|other| **other != rtype && self.has(name, other))
            .copied()
            .collect();
        if !beside.is_empty() {
            at_type(format!("cannot stand beside {} of the same name", beside.join(", ")));
        }
        if delegated && !matches!(rtype, "NS" | "DS" | "A" | "AAAA" | "CNAME") {
            at_type("would never be answered: the NS of this name hand it to others".into());
        }
        found.extend(self.place_problem(rtype, name, delegated));
        found.extend(self.target_problems(set));
        found
    }

    fn place_problem(&self, rtype: &str, name: &Name, delegated: bool) -> Option<Problem> {
        let message = if matches!(rtype, "NS" | "DNAME") && name.first_label() == b"*" {
            format!("cannot be a wildcard's for {rtype}")
        } else if let Some(above) = self.above(name, "DNAME") {
            format!("lies below the DNAME of {}, which leads elsewhere", above.show())
        } else {
            let cut = self.above(name, "NS").filter(|cut| *cut != self.apex)?;
            if matches!(rtype, "A" | "AAAA") && !delegated {
                return None;
            }
            format!("would never be answered: the NS of {} hand it to others", cut.show())
        };
        Some(Problem::new(Field::Name, message))
    }

    fn target_problems(&self, set: &RecordSet) -> Vec<Problem> {
        let Some(kind) = Kind::named(&set.rtype) else { return Vec::new() };
        if !matches!(kind.name, "NS" | "MX" | "SRV") {
            return Vec::new();
        }
        let scope = Scope { origin: &self.apex, draft: false };
        let mut found = Vec::new();
        for (at, record) in set.records.iter().enumerate() {
            let data = record_tokens(record).and_then(|tokens| Data::read(kind, &tokens, scope));
            let message = match &data {
                Ok(data) => match data.host().and_then(|host| self.alias(host)) {
                    Some(alias) => format!("leads to an alias: {alias} of this zone"),
                    None => continue,
                },
                Err(message) => message.clone(),
            };
            found.push(Problem::new(Field::Record(at), message));
        }
        found
    }

    /// What makes a name of the zone an alias, as a server finds it: its own CNAME, a DNAME above it,
    /// or the wildcard that answers for it.
    fn alias(&self, host: &Name) -> Option<String> {
        if !host.is_within(&self.apex) {
            return None;
        }
        let delegated = |name: &Name| *name != self.apex && self.has(name, "NS");
        if delegated(host) || self.above(host, "NS").is_some_and(|cut| delegated(&cut)) {
            return None;
        }
        if let Some(above) = self.above(host, "DNAME") {
            return Some(format!("the DNAME {}", above.show()));
        }
        if self.standing.contains(host) {
            return self.has(host, "CNAME").then(|| format!("the CNAME {}", host.show()));
        }
        let mut encloser = host.parent();
        while let Some(name) = encloser.filter(|n| n.is_within(&self.apex)) {
            if self.standing.contains(&name) {
                let wildcard = Name::parse(b"*", &name).ok()?;
                let is_alias = self.has(&wildcard, "CNAME");
                return is_alias.then(|| format!("the CNAME {}", wildcard.show()));
            }
            encloser = name.parent();
        }
        None
    }
}
