//! The user, the home, its files, web sites, PHP and cron.

use crate::account::{Domain, DomainKind, Wildcard};
use crate::plan::{Action, Component, Ownership, Resolution, Resource, StepName};
use crate::planner::Draft;
use crate::rehome::with_home;
use crate::{crontab, member};
use std::collections::{BTreeMap, BTreeSet};
use values::{DomainName, RelPath};

const USER: (StepName, Component) = (StepName::CreateUser, Component::Files);
const HOME: (StepName, Component) = (StepName::CreateDirectories, Component::Files);
const FILES: (StepName, Component) = (StepName::RestoreHome, Component::Files);

/// Every plan has the user and the home, since all else belongs to them.
pub(crate) fn plan(draft: &mut Draft<'_>) {
    user(draft);
    home(draft);
    if !draft.wants(Component::Files) && !draft.input.options.wants(Component::Files) {
        return;
    }
    let only = selected(draft);
    files(draft, &only);
    if only.is_empty() {
        sites(draft);
        cron(draft);
    }
}

fn user(draft: &mut Draft<'_>) {
    let user = draft.input.target_user.clone();
    let taken = |why: &str| format!("The user name {user} {why}: choose another target user.");
    let id = format!("user:{user}");
    let own = draft.is_own();
    if user.is_reserved() {
        draft.oppose(id.clone(), taken("belongs to the system"), Vec::new());
    } else if draft.input.control.account == Ownership::Taken {
        draft.oppose(id.clone(), taken("belongs to another account"), Vec::new());
    } else if draft.input.facts.user.is_some() && !own {
        draft.oppose(id.clone(), taken("exists on the server"), Vec::new());
    }
    // A live account's password is touched only when all of it is replaced, and by a usable one.
    let whole = draft.input.options.components.is_empty();
    let action = match draft.action(own) {
        Action::Replace if !whole || !draft.has_password() => Action::Merge,
        action => action,
    };
    let summary = match action {
        Action::Create => format!("Create the system user {user}"),
        Action::Replace => format!("Give the system user {user} the archive's password"),
        Action::Merge => format!("Keep the system user {user}"),
    };
    draft.add(id, USER, action, (summary, Resource::User { user }));
}

fn home(draft: &mut Draft<'_>) {
    let user = draft.input.target_user.clone();
    let Some(path) = draft.home(None) else { return };
    let mut action = Action::Create;
    if draft.is_own() {
        // A home is never put aside whole: mailboxes that the archive does not know lie in it.
        action = Action::Merge;
    } else if draft.input.facts.home_exists && draft.input.facts.user.is_none() {
        let message = format!(
            "The directory {path} exists, but no user of that name: replace it (it is kept aside), or choose another target user."
        );
        draft.settle(format!("home:{user}"), message, vec![Resolution::Replace]);
        action = Action::Replace;
    }
    let summary = match action {
        Action::Create => format!("Create the home directory {path}"),
        Action::Replace => format!("Put {path} aside and create it anew"),
        Action::Merge => format!("Keep the home directory {path}"),
    };
    draft.add(format!("home:{user}"), HOME, action, (summary, Resource::Home { user, path }));
}

/// Paths that were selected of the files; empty: all.
fn selected(draft: &mut Draft<'_>) -> BTreeSet<RelPath> {
    let names = draft.input.options.components.get(&Component::Files);
    let mut only = BTreeSet::new();
    for name in names.into_iter().flatten() {
        match RelPath::parse(name) {
            Ok(path) if is_mail(&path) => draft.oppose(
                format!("selection:{name}"),
                format!("{name} belongs to the account's mail: select it in the component email."),
                Vec::new(),
            ),
            Ok(path) if !path.as_str().is_empty() => {
                only.insert(path);
            }
            _ => draft.oppose(
                format!("selection:{name}"),
                format!("{name:?} is no path below the home: write it as public_html/index.php."),
                Vec::new(),
            ),
        }
    }
    only
}

/// Whether a path of the home holds mailboxes or their logins.
fn is_mail(path: &RelPath) -> bool {
    let first = path.as_str().split('/').next().unwrap_or_default();
    matches!(first, "mail" | "etc")
}

fn files(draft: &mut Draft<'_>, only: &BTreeSet<RelPath>) {
    let files = draft.input.account.files;
    let Some(path) = draft.home(None).filter(|_| files.entries > 0) else { return };
    let action = draft.action(draft.is_own());
    let summary = if only.is_empty() {
        format!("Restore {} files and directories, {} bytes", files.entries, files.bytes)
    } else {
        format!("Restore {} selected paths of the home", only.len())
    };
    let (entries, bytes) = (files.entries, files.bytes);
    let resource = Resource::Files { path, entries, bytes, only: only.clone() };
    draft.add("files:home".to_owned(), FILES, action, (summary, resource));
}

fn sites(draft: &mut Draft<'_>) {
    let account = draft.input.account;
    let main_php = account.domains.iter().find(|d| d.name == account.main_domain);
    let main_php = main_php.and_then(|d| d.php.clone());
    let mut versions = BTreeSet::new();
    let mut sites = Vec::new();
    for domain in account.domains.iter().filter(|d| d.kind != DomainKind::Parked) {
        if !draft.restores(domain.name.as_str()) {
            continue;
        }
        if is_alias_there(draft, &domain.name) {
            let why = "It is another name of a site that stands on the server: take it away there, and restore it again.";
            draft.lose(format!("website:{}", domain.name), why);
            continue;
        }
        let wanted = domain.php.clone().or_else(|| main_php.clone());
        let Some(php) = php(draft, domain.name.as_str(), wanted.as_deref()) else { continue };
        versions.insert(php.clone());
        sites.push((domain, php, wanted));
    }
    let mut wildcards = Vec::new();
    for wildcard in &account.wildcards {
        let restored = |d: &Domain| {
            (wildcard.base == d.name || wildcard.base.is_below(&d.name))
                && draft.restores(d.name.as_str())
        };
        if !account.domains.iter().any(restored) || draft.skipped.contains(&wildcard.base) {
            continue;
        }
        let wanted = wildcard.php.clone().or_else(|| main_php.clone());
        let name = format!("*.{}", wildcard.base);
        let owner = draft.input.facts.wildcards.get(&wildcard.base);
        if owner.is_some_and(|o| o != draft.input.target_user.as_str() || !draft.is_own()) {
            draft
                .lose(format!("website:{name}"), "It is a site of another account on this server.");
            continue;
        }
        let Some(php) = php(draft, &name, wanted.as_deref()) else { continue };
        versions.insert(php.clone());
        wildcards.push((wildcard, php, wanted));
    }
    let user = draft.input.target_user.clone();
    for version in versions {
        // A pool is written from its name alone: one that stands is the same.
        let stands = draft.input.facts.pools.contains(&version);
        let action = if stands { Action::Merge } else { Action::Create };
        let summary = format!("Set up PHP {version} for {user}");
        let resource = Resource::PhpPool { user: user.clone(), version: version.clone() };
        draft.add(format!("php_pool:{version}"), FILES, action, (summary, resource));
    }
    for (domain, php, wanted) in sites {
        site(draft, domain, php, wanted);
    }
    for (wildcard, php, wanted) in wildcards {
        wildcard_site(draft, wildcard, php, wanted);
    }
    for parked in account.domains.iter().filter(|d| d.kind == DomainKind::Parked) {
        let shown = parked.target.as_ref().is_some_and(|t| draft.restores(t.as_str()));
        if !shown && draft.restores(parked.name.as_str()) {
            draft.lose(format!("domain:{}", parked.name), "The site that it shows is left out.");
        }
    }
}

fn site(draft: &mut Draft<'_>, domain: &Domain, php: String, php_source: Option<String>) {
    let name = domain.name.clone();
    let fallback = RelPath::parse("public_html").ok();
    let Some(docroot) = draft.home(domain.docroot.as_ref().or(fallback.as_ref())) else { return };
    let account = draft.input.account;
    let mut aliases = domain.aliases.clone();
    for parked in account.domains.iter().filter(|d| d.target.as_ref() == Some(&name)) {
        if draft.restores(parked.name.as_str()) {
            if has_site(draft, &parked.name) {
                let why = "It has a site of its own, which stays, and does not show another one.";
                draft.lose(format!("domain:{}", parked.name), why);
                continue;
            }
            aliases.insert(parked.name.clone());
            aliases.extend(parked.aliases.iter().cloned());
        }
    }
    let foreign = |alias: &DomainName| {
        draft.skipped.iter().any(|s| alias == s || alias.is_below(s))
            || alias.as_str() == draft.input.facts.hostname
    };
    aliases.retain(|alias| !foreign(alias) && (*alias == name || !has_site(draft, alias)));
    let action = draft.action(draft.input.facts.sites.contains(&name));
    let summary = format!("Set up the site {name} at {docroot} with PHP {php}");
    let resource = Resource::Website {
        domain: name.clone(),
        wildcard: false,
        aliases,
        docroot,
        php,
        php_source,
        suspended: draft.suspended,
    };
    draft.add(format!("website:{name}"), FILES, action, (summary, resource));
}

/// Whether a name has a site of its own, in the archive or on the server. Apache would serve it by
/// whichever of two files comes first.
fn has_site(draft: &Draft<'_>, name: &DomainName) -> bool {
    let account = draft.input.account;
    let mut sites = account.domains.iter().filter(|d| d.kind != DomainKind::Parked);
    sites.any(|d| d.name == *name && draft.restores(name.as_str()))
        || draft.input.facts.sites.contains(name)
}

/// Whether a site of the account that stands on the server has this for another name.
pub(crate) fn is_alias_there(draft: &Draft<'_>, name: &DomainName) -> bool {
    let facts = draft.input.facts;
    facts.vhosts.contains_key(name) && !facts.sites.contains(name)
}

fn wildcard_site(
    draft: &mut Draft<'_>,
    wildcard: &Wildcard,
    php: String,
    php_source: Option<String>,
) {
    let domain = wildcard.base.clone();
    let fallback = RelPath::parse("public_html").ok();
    let docroot = draft.home(wildcard.docroot.as_ref().or(fallback.as_ref()));
    let Some(docroot) = docroot else { return };
    let action = draft.action(draft.input.facts.wildcards.contains_key(&domain));
    let summary =
        format!("Set up a site for every other name below {domain} at {docroot} with PHP {php}");
    let id = format!("website:*.{domain}");
    let aliases = BTreeSet::new();
    let suspended = draft.suspended;
    let resource =
        Resource::Website { domain, wildcard: true, aliases, docroot, php, php_source, suspended };
    draft.add(id, FILES, action, (summary, resource));
}

/// The installed version that comes closest to the one that a site asks for.
fn php(draft: &mut Draft<'_>, site: &str, wanted: Option<&str>) -> Option<String> {
    let installed: Vec<(u32, &String)> =
        draft.input.facts.php_versions.iter().filter_map(|v| Some((rank(v)?, v))).collect();
    let newest = installed.iter().max_by_key(|(rank, _)| *rank).map(|(_, v)| (*v).clone());
    let Some(newest) = newest else {
        let message = "No PHP is installed on the server: enrol it again.".to_owned();
        draft.oppose("php:none".to_owned(), message, Vec::new());
        return None;
    };
    let Some(asked) = wanted.and_then(version_of) else { return Some(newest) };
    let want = rank(&asked)?;
    // The newer one of two that are equally far: old programs break less on it than on no security.
    let nearest = installed
        .iter()
        .min_by_key(|(rank, _)| (rank.abs_diff(want), *rank < want))
        .map_or(newest, |(_, v)| (*v).clone());
    if nearest != asked {
        let message =
            format!("The site used PHP {asked}, which is not installed; it gets PHP {nearest}.");
        draft.warn("php_version_mapped", site, message);
    }
    Some(nearest)
}

/// `8.2` as a number that orders versions.
fn rank(version: &str) -> Option<u32> {
    let (major, minor) = version.split_once('.')?;
    major.parse::<u32>().ok()?.checked_mul(10)?.checked_add(minor.parse().ok()?)
}

/// `ea-php82` and `alt-php82` → `8.2`.
fn version_of(id: &str) -> Option<String> {
    let digits = id.rsplit_once("php").map_or(id, |(_, rest)| rest).replace('.', "");
    let minor =
        digits.get(1..).filter(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit()))?;
    let major = digits.get(..1).filter(|m| m.bytes().all(|b| b.is_ascii_digit()))?;
    Some(format!("{major}.{minor}"))
}

fn cron(draft: &mut Draft<'_>) {
    let account = draft.input.account;
    let homes: Vec<&str> = account.source.homes.iter().map(|h| h.as_str()).collect();
    let user = draft.input.target_user.clone();
    let php = draft.input.facts.php_versions.iter().max_by_key(|v| rank(v)).cloned();
    let php = php.unwrap_or_default();
    for (number, job) in (1_u32..).zip(&account.cron) {
        let source = &job.line;
        let id = format!("cron:{user}:{number}");
        let Some(line) = crontab::adapted(source, &homes, &user.home(), &php) else {
            let reason = format!("It runs a program of cPanel's: {source}");
            draft.lose(id, member::shown(reason.as_bytes()));
            continue;
        };
        let summary = format!("Keep a cron job, disabled until it is confirmed: {line}");
        let summary = member::shown(summary.as_bytes());
        let resource = Resource::CronJob {
            user: user.clone(),
            line,
            source: source.clone(),
            settings: moved_settings(&job.settings, &homes, &user.home()),
        };
        draft.add(id, FILES, Action::Create, (summary, resource));
    }
}

/// A search path, too, leads into the home.
fn moved_settings(
    settings: &BTreeMap<String, String>,
    homes: &[&str],
    home: &str,
) -> BTreeMap<String, String> {
    let moved = |value: &String| {
        String::from_utf8_lossy(&with_home(value.as_bytes(), homes, home)).into_owned()
    };
    settings.iter().map(|(name, value)| (name.clone(), moved(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn php_ids() {
        assert_eq!(version_of("ea-php82").as_deref(), Some("8.2"));
        assert_eq!(version_of("alt-php74").as_deref(), Some("7.4"));
        assert_eq!(version_of("8.1").as_deref(), Some("8.1"));
        assert_eq!(version_of("ea-php"), None);
        assert_eq!(version_of("phpé2"), None);
    }
}
