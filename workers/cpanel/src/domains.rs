//! `userdata/`, and the legacy lists beside it: domains, document roots, aliases, PHP versions.

use crate::account::{Domain, DomainKind, SourceServer, Wildcard};
use crate::domain_names::{Names, names};
use crate::error::Error;
use crate::findings::Findings;
use crate::home;
use crate::members::Members;
use crate::record::Record;
use crate::yaml::{self, Node};
use std::collections::{BTreeMap, BTreeSet};
use values::{AbsPath, DomainName, RelPath};

/// A line of `userdata/cache.json`: type, parent, document root, PHP version.
#[derive(Debug, Clone)]
struct Cached {
    parent: String,
    docroot: String,
    php: String,
}

/// The account's names and their sites.
#[derive(Debug)]
pub struct Sites {
    pub main: DomainName,
    /// In the order of their names.
    pub domains: Vec<Domain>,
    pub wildcards: Vec<Wildcard>,
}

/// More than the largest real accounts have: each is a virtual host or an alias of one.
const DOMAINS_MAX: usize = 5_000;

/// Reads every domain of the account. None when the archive does not even tell the main domain.
pub fn parse(
    members: &Members,
    record: &Record,
    source: &SourceServer,
    findings: &mut Findings,
) -> Result<Option<Sites>, Error> {
    let names = names(members, record, findings);
    let Some(main) = names.main.clone() else { return Ok(None) };
    let own = names.own(&main);
    if own.len() > DOMAINS_MAX {
        return Err(Error::TooLarge(format!("it has {} domains", own.len())));
    }
    let cache = cache(members);
    let reader = Reader { members, source, names: &names, own: &own, cache: &cache };
    let mut domains = vec![reader.site(&main, DomainKind::Main, None, findings)];
    for (name, internal) in &names.addons {
        domains.push(reader.site(name, DomainKind::Addon, internal.clone(), findings));
    }
    for name in &names.subs {
        domains.push(reader.site(name, DomainKind::Subdomain, None, findings));
    }
    for name in &names.parked {
        let target = reader.parked_on(name).unwrap_or_else(|| main.clone());
        domains.push(Domain {
            name: name.clone(),
            kind: DomainKind::Parked,
            docroot: None,
            target: Some(target),
            internal: None,
            aliases: DomainName::parse(&format!("www.{name}")).into_iter().collect(),
            php: None,
        });
    }
    domains.sort_by(|a, b| a.name.cmp(&b.name));
    domains.dedup_by(|a, b| a.name == b.name);
    let wildcards = reader.wildcards(&domains, findings);
    Ok(Some(Sites { main, domains, wildcards }))
}

fn cache(members: &Members) -> BTreeMap<String, Cached> {
    let bytes = members.texts.get("userdata/cache.json").map(Vec::as_slice).unwrap_or_default();
    let Ok(serde_json::Value::Object(entries)) = serde_json::from_slice(bytes) else {
        return BTreeMap::new();
    };
    let field = |value: &serde_json::Value, at: usize| {
        value.get(at).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    entries
        .iter()
        .map(|(name, v)| {
            (name.clone(), Cached { parent: field(v, 3), docroot: field(v, 4), php: field(v, 9) })
        })
        .collect()
}

struct Reader<'r> {
    members: &'r Members,
    source: &'r SourceServer,
    names: &'r Names,
    own: &'r BTreeSet<DomainName>,
    cache: &'r BTreeMap<String, Cached>,
}

impl Reader<'_> {
    fn vhost(&self, file: &str, findings: &mut Findings) -> Option<Node> {
        let path = format!("userdata/{file}");
        let text = self.members.text(&path)?;
        match yaml::parse(&text) {
            Ok(node) => Some(node),
            Err(why) => {
                let text = format!("The site's settings are not read ({why}).");
                findings.lost(&format!("userdata:{file}"), text);
                None
            }
        }
    }

    fn site(
        &self,
        name: &DomainName,
        kind: DomainKind,
        internal: Option<DomainName>,
        findings: &mut Findings,
    ) -> Domain {
        let file = internal.as_ref().unwrap_or(name);
        let vhost = self.vhost(file.as_str(), findings);
        let text = |key: &str| vhost.as_ref().and_then(|n| n.text(key)).map(str::to_owned);
        let cached = self.cache.get(name.as_str());
        let root = text("documentroot")
            .or_else(|| cached.map(|c| c.docroot.clone()).filter(|d| !d.is_empty()))
            .or_else(|| self.names.roots.get(file).cloned());
        let docroot = self.docroot(name, kind, root, findings);
        let php = text("phpversion").or_else(|| cached.map(|c| c.php.clone()));
        let mut aliases = self.aliases(name, &text("serveralias").unwrap_or_default(), findings);
        if matches!(kind, DomainKind::Main | DomainKind::Addon) {
            aliases.extend(DomainName::parse(&format!("www.{name}")));
        }
        aliases.extend(internal.clone());
        let php = php.filter(|p| is_php_id(p));
        Domain { name: name.clone(), kind, docroot, target: None, internal, aliases, php }
    }

    /// A document root must lie below the home; cPanel writes absolute paths of the source, the legacy
    /// list relative ones.
    fn docroot(
        &self,
        name: &DomainName,
        kind: DomainKind,
        root: Option<String>,
        findings: &mut Findings,
    ) -> Option<RelPath> {
        let Some(root) = root else {
            if kind == DomainKind::Main {
                return RelPath::parse("public_html").ok();
            }
            let message = "The archive does not tell its document root.";
            findings.adapt("docroot_unknown", "docroot", name.as_str(), message);
            return None;
        };
        let below = if root.starts_with('/') {
            AbsPath::parse(&root).ok().and_then(|path| self.source.below_home(&path))
        } else {
            RelPath::parse(&root).ok()
        };
        // The home itself as a document root would publish mail and keys.
        let below = below.filter(|path| !path.as_str().is_empty());
        if below.is_none() {
            let message = "Its document root lies outside the home and is replaced by a default.";
            findings.lost(&format!("docroot:{name}"), message);
        }
        if let Some(private) = below.as_ref().filter(|path| home::is_private(path)) {
            let text = format!(
                "Its document root {private} holds mail, keys or passwords of the account, which it \
                 would publish: it is replaced by a default."
            );
            findings.lost(&format!("docroot:{name}"), text);
            return None;
        }
        // Signs that Apache reads in the middle of a quoted path.
        let odd = |path: &RelPath| path.as_str().contains(['"', '\\', '$', '%']);
        if below.as_ref().is_some_and(odd) {
            let message = "No web server can serve its document root, which has one of \" \\ $ % in \
                           its name: it is replaced by a default.";
            findings.lost(&format!("docroot:{name}"), message);
            return None;
        }
        below
    }

    /// Aliases that belong to one of the account's domains and are no site of their own.
    /// Patterns are no aliases: they have sites of their own.
    fn aliases(
        &self,
        site: &DomainName,
        text: &str,
        findings: &mut Findings,
    ) -> BTreeSet<DomainName> {
        let mut aliases = BTreeSet::new();
        for word in text.split_whitespace() {
            let pattern = word.strip_prefix("*.");
            let Ok(name) = DomainName::parse(pattern.unwrap_or(word)) else {
                let text = format!("It is no host name that an alias of {site} could be.");
                findings.lost(&format!("alias:{word}"), text);
                continue;
            };
            if pattern.is_some() || self.own.contains(&name) {
                continue;
            }
            // `www.` of a parked domain goes with the parked domain.
            let of_parked = self.names.parked.iter().any(|p| name == *p || name.is_below(p));
            let belongs = self.own.iter().any(|d| name == *d || name.is_below(d));
            if belongs && !of_parked {
                aliases.insert(name);
            } else if !belongs {
                let text =
                    format!("It was an alias of {site} but lies below no domain of the account.");
                findings.lost(&format!("alias:{name}"), text);
            }
        }
        aliases
    }

    /// Which site a parked domain shows: the cache tells, or the site whose aliases hold it.
    fn parked_on(&self, parked: &DomainName) -> Option<DomainName> {
        let site = |file: &str| {
            let name = DomainName::parse(file).ok()?;
            let addon = self.names.addons.iter().find(|(_, i)| i.as_ref() == Some(&name));
            let name = addon.map_or(name, |(addon, _)| addon.clone());
            (self.own.contains(&name) && !self.names.parked.contains(&name)).then_some(name)
        };
        if let Some(target) = self.cache.get(parked.as_str()).and_then(|c| site(&c.parent)) {
            return Some(target);
        }
        self.members.below("userdata").find_map(|(file, bytes)| {
            let name = site(file)?;
            let node = yaml::parse(&String::from_utf8_lossy(bytes)).ok()?;
            let aliases = node.text("serveralias")?.to_owned();
            aliases
                .split_whitespace()
                .any(|a| a.eq_ignore_ascii_case(parked.as_str()))
                .then_some(name)
        })
    }

    /// Wildcard subdomains, and patterns among the aliases of sites.
    fn wildcards(&self, domains: &[Domain], findings: &mut Findings) -> Vec<Wildcard> {
        let mut found: BTreeMap<DomainName, Wildcard> = BTreeMap::new();
        for (pattern, file) in &self.names.wildcards {
            let Some(base) = self.base(pattern) else {
                let item = format!("subdomain:{pattern}");
                findings.lost(&item, "Its names lie below no domain of the account.");
                continue;
            };
            let vhost = self.vhost(file, findings).or_else(|| self.vhost(pattern, findings));
            let text = |key: &str| vhost.as_ref().and_then(|n| n.text(key)).map(str::to_owned);
            let site = domains.iter().find(|d| d.name == base);
            let docroot = match text("documentroot") {
                None => site.and_then(|s| s.docroot.clone()),
                root => self.docroot(&base, DomainKind::Subdomain, root, findings),
            };
            let php = text("phpversion").filter(|p| is_php_id(p));
            found.insert(base.clone(), Wildcard { base, docroot, php });
        }
        for domain in domains {
            let file = domain.internal.as_ref().unwrap_or(&domain.name);
            let vhost = self.vhost(file.as_str(), findings);
            let aliases = vhost.as_ref().and_then(|n| n.text("serveralias")).unwrap_or_default();
            for base in aliases.split_whitespace().filter_map(|alias| self.base(alias)) {
                let (docroot, php) = (domain.docroot.clone(), domain.php.clone());
                found.entry(base.clone()).or_insert(Wildcard { base, docroot, php });
            }
        }
        found.into_values().collect()
    }

    /// The name below which a pattern is, when it is one of the account's or below one.
    fn base(&self, pattern: &str) -> Option<DomainName> {
        let base = DomainName::parse(pattern.strip_prefix("*.")?).ok()?;
        self.own.iter().any(|d| base == *d || base.is_below(d)).then_some(base)
    }
}

fn is_php_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 32
        && text != "inherit"
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)], home: &str) -> (Sites, Findings) {
        let mut members = Members::default();
        for (path, text) in files {
            members.texts.insert((*path).to_owned(), text.as_bytes().to_vec());
        }
        let homes = BTreeSet::from([AbsPath::parse(home).unwrap()]);
        let source = SourceServer { homes, ..SourceServer::default() };
        let mut findings = Findings::default();
        let record =
            Record { main_domain: DomainName::parse("legacy.example").ok(), ..Record::default() };
        let sites = parse(&members, &record, &source, &mut findings).unwrap().unwrap();
        (sites, findings)
    }

    fn shape(domains: &[Domain]) -> Vec<(String, DomainKind, Option<String>)> {
        domains
            .iter()
            .map(|d| (d.name.to_string(), d.kind, d.docroot.as_ref().map(ToString::to_string)))
            .collect()
    }

    #[test]
    fn an_addon_hides_its_internal_subdomain() {
        let main = include_str!("../tests/fixtures/metadata/c_addon/userdata/main");
        let addon =
            include_str!("../tests/fixtures/metadata/c_addon/userdata/addonthree.fxthree.example");
        let files = [("userdata/main", main), ("userdata/addonthree.fxthree.example", addon)];
        let (Sites { domains, .. }, findings) = read(&files, "/home4/fxthreeusr");
        assert_eq!(
            shape(&domains),
            [
                (
                    "addonthree.example".into(),
                    DomainKind::Addon,
                    Some("public_html/addonthree.example".into())
                ),
                ("fxthree.example".into(), DomainKind::Main, Some("public_html".into())),
            ]
        );
        assert!(domains[0].aliases.iter().any(|a| a.as_str() == "addonthree.fxthree.example"));
        assert!(domains[0].aliases.iter().any(|a| a.as_str() == "mail.addonthree.example"));
        assert!(findings.warnings.is_empty(), "{findings:?}");
    }

    #[test]
    fn a_subdomain_of_an_addon_and_php_of_the_cache() {
        let files = [
            (
                "userdata/main",
                include_str!("../tests/fixtures/metadata/d_addon_tempmain/userdata/main"),
            ),
            (
                "userdata/cache.json",
                include_str!("../tests/fixtures/metadata/d_addon_tempmain/userdata/cache.json"),
            ),
            (
                "userdata/shop.fxfour.example",
                include_str!(
                    "../tests/fixtures/metadata/d_addon_tempmain/userdata/shop.fxfour.example"
                ),
            ),
        ];
        let (Sites { domains, .. }, findings) = read(&files, "/home3/fxfour");
        let names: Vec<&str> = domains.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "fxfour.example",
                "shop.fxfour.example",
                "siteowner1700000000000.0870194.tempname.example"
            ]
        );
        assert_eq!(domains[0].docroot.as_ref().unwrap().as_str(), "fxfour.example");
        assert_eq!(domains[2].php.as_deref(), Some("ea-php83"));
        assert!(findings.warnings.is_empty(), "{findings:?}");
    }

    #[test]
    fn legacy_lists_when_userdata_is_missing() {
        let files = [
            ("addons", include_str!("../tests/fixtures/metadata/c_addon/addons")),
            ("sds2", include_str!("../tests/fixtures/metadata/c_addon/sds2")),
            ("pds", "alias.example\n"),
        ];
        let (Sites { domains, .. }, _) = read(&files, "/home/x");
        assert_eq!(domains.len(), 3);
        assert_eq!(domains[0].docroot.as_ref().unwrap().as_str(), "public_html/addonthree.example");
        assert_eq!(domains[1].target.as_ref().unwrap().as_str(), "legacy.example");
    }

    #[test]
    fn hostile_roots_and_aliases_are_left_out() {
        let files = [
            ("userdata/main", "--- \nmain_domain: x.example\nsub_domains: \n  - a.x.example\n"),
            (
                "userdata/x.example",
                "--- \ndocumentroot: /home/x/../../etc\nserveralias: bank.example a;b.x.example www.x.example\n",
            ),
            ("userdata/a.x.example", "--- \ndocumentroot: /\n"),
        ];
        let (Sites { domains, .. }, findings) = read(&files, "/home/x");
        assert!(domains.iter().all(|d| d.docroot.is_none()));
        let main = domains.iter().find(|d| d.kind == DomainKind::Main).unwrap();
        let aliases: Vec<&str> = main.aliases.iter().map(DomainName::as_str).collect();
        assert_eq!(aliases, ["www.x.example"]);
        assert_eq!(findings.not_transferable.len(), 4, "{findings:?}");
    }

    #[test]
    fn wildcards_are_sites_of_their_own() {
        let files = [
            (
                "userdata/main",
                "--- \nmain_domain: x.example\nsub_domains: \n  - '*.x.example'\n  - a.x.example\n",
            ),
            ("userdata/x.example", "--- \ndocumentroot: /home/x/public_html\n"),
            (
                "userdata/a.x.example",
                "--- \ndocumentroot: /home/x/a\nserveralias: '*.a.x.example *.bank.example'\n",
            ),
            (
                "userdata/_wildcard_.x.example",
                "--- \ndocumentroot: /home/x/w\nphpversion: ea-php81\n",
            ),
        ];
        let (sites, _) = read(&files, "/home/x");
        let shown: Vec<(&str, &str)> = sites
            .wildcards
            .iter()
            .map(|w| (w.base.as_str(), w.docroot.as_ref().unwrap().as_str()))
            .collect();
        assert_eq!(shown, [("a.x.example", "a"), ("x.example", "w")]);
        assert_eq!(sites.domains.len(), 2);
    }
}
