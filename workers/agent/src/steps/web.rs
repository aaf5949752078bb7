//! Web sites: a virtual host that runs as the account, and the account's PHP-FPM pool.

use super::{Done, migrated};
use crate::beneath::{Beneath, Owner};
use crate::config::{fill, quotable};
use crate::effects::{self, Work};
use crate::error::{Error, Result};
use crate::journal::{Effect, Entry};
use crate::layout;
use crate::services::Service;
use cpanel::plan::Resource;
use cpanel::protocol::Outcome;
use std::path::Path;
use uuid::Uuid;
use values::{AbsPath, DomainName};

const SITE: &str = include_str!("../../../../deploy/target/site.conf");
const SUSPENDED: &str = include_str!("../../../../deploy/target/suspended.conf");
const POOL: &str = include_str!("../../../../deploy/target/pool.conf");

/// Makes the account's pool of a PHP version.
pub fn pool(work: &mut Work<'_>, version: &str) -> Result<Done> {
    let version = known_version(version)?;
    let user = work.user();
    let socket = layout::pool_socket(user, version);
    let values = [
        ("ours", layout::OURS),
        ("user", user.as_str()),
        ("home", &user.home()),
        ("socket", &socket.to_string_lossy()),
    ];
    let text = fill(POOL, &values);
    let path = layout::pool(user, version);
    work.put(&path, text.as_bytes(), Owner::root(0o600), Some(Service::PhpFpm))?;
    Ok(migrated())
}

fn known_version(version: &str) -> Result<&'static str> {
    layout::PHP_VERSIONS.iter().copied().find(|v| *v == version).ok_or_else(|| {
        Error::new("php_missing", format!("PHP {version} is not installed on the server."))
    })
}

/// Makes a virtual host.
pub fn site(work: &mut Work<'_>, resource: &Resource) -> Result<Done> {
    let Resource::Website { domain, wildcard, aliases, docroot, php, suspended, .. } = resource
    else {
        return Err(Error::internal("not a web site"));
    };
    let version = known_version(php)?;
    make_docroot(work, docroot)?;
    let mut names = String::new();
    for alias in aliases {
        names.push_str(&format!("    ServerAlias {alias}\n"));
    }
    // A name that nobody can have: what counts is the pattern.
    let mut name = domain.to_string();
    let mut path = layout::site(domain);
    if *wildcard {
        names = format!("    ServerAlias *.{domain}\n");
        name = format!("_wildcard_.{domain}");
        path = layout::wildcard_site(domain);
    }
    let user = work.user();
    let socket = layout::pool_socket(user, version);
    let values = [
        ("ours", layout::OURS),
        ("port", "80"),
        ("name", &name),
        ("log", domain.as_str()),
        ("aliases", &names),
        ("docroot", quotable(docroot.as_str())?),
        ("user", user.as_str()),
        ("socket", &socket.to_string_lossy()),
        ("tls", ""),
    ];
    let text = fill(if *suspended { SUSPENDED } else { SITE }, &values);
    for log in layout::site_logs(domain) {
        let (root, rest) = Beneath::place(&log)?;
        if root.stat(rest)?.is_none() {
            work.record(Effect::Make { path: log })?;
        }
    }
    work.put(&path, text.as_bytes(), Owner::root(0o600), Some(Service::Apache))?;
    // What answers over TLS stays the same site.
    let tls = if *wildcard { layout::tls_wildcard_site(domain) } else { layout::tls_site(domain) };
    let (root, rest) = Beneath::place(&tls)?;
    if root.stat(rest)?.is_some()
        && let Some(text) = tls_site(&path, domain)?
    {
        work.put(&tls, text.as_bytes(), Owner::root(0o600), Some(Service::Apache))?;
    }
    if *suspended {
        let text = "It answers 503 and shows nothing, since the account is suspended.";
        return Ok((Outcome::Disabled, text.to_owned()));
    }
    Ok(migrated())
}

/// The virtual host in this file over TLS, with the certificate that was installed for the domain;
/// none when there is no such file.
pub fn tls_site(plain: &Path, domain: &DomainName) -> Result<Option<String>> {
    let (root, rest) = Beneath::place(plain)?;
    let Some(bytes) = root.read(rest, 1 << 20)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(Error::internal)?;
    Ok(Some(with_certificate(&text, domain)))
}

/// The virtual host of this text over TLS, with the certificate that was installed for the domain.
pub fn with_certificate(plain: &str, domain: &DomainName) -> String {
    let pair = layout::tls_pair(domain.as_str());
    let lines =
        format!("    SSLEngine on\n    SSLCertificateFile {}\n    <Directory", pair.display());
    plain.replacen("*:80>", "*:443>", 1).replacen("    <Directory", &lines, 1)
}

/// The virtual host of this text as it answers while its account is suspended; none when it does so
/// already.
pub fn suspended_site(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim);
    // The second as older layouts wrote it.
    if lines().any(|line| line.starts_with("RedirectMatch 503 ") || line == "Redirect 503 /") {
        return None;
    }
    let after = |word: &str| lines().find_map(|line| line.strip_prefix(word)).unwrap_or_default();
    let port = if text.contains("<VirtualHost *:443>") { "443" } else { "80" };
    let log = after("ErrorLog ${APACHE_LOG_DIR}/");
    let kept = |words: &[&str]| -> String {
        let kept = lines().filter(|line| words.iter().any(|word| line.starts_with(word)));
        kept.map(|line| format!("    {line}\n")).collect()
    };
    let values = [
        ("ours", layout::OURS),
        ("port", port),
        ("name", after("ServerName ")),
        ("log", log.strip_suffix(".error.log").unwrap_or(log)),
        ("aliases", &kept(&["ServerAlias "])),
        ("user", after("AssignUserID ").split(' ').next().unwrap_or_default()),
        ("tls", &kept(&["SSLEngine ", "SSLCertificateFile "])),
    ];
    Some(fill(SUSPENDED, &values))
}

/// Removes the logs of sites that were taken back once more: a reload for another job may have found a
/// site that was about to go, and opened them again. Called when Apache has read that it went.
pub fn remove_logs(entries: &[Entry], job: Uuid) -> Result<()> {
    for entry in entries {
        let Effect::Make { path } = &entry.what else { continue };
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let domain = [".access.log", ".error.log"].iter().find_map(|end| name.strip_suffix(end));
        let Some(Ok(domain)) = domain.map(str::parse::<DomainName>) else { continue };
        if !layout::site_logs(&domain).contains(path) {
            continue;
        }
        let mut stands = false;
        for site in [layout::site(&domain), layout::wildcard_site(&domain)] {
            let (root, rest) = Beneath::place(&site)?;
            stands |= root.stat(rest)?.is_some();
        }
        if !stands {
            effects::undo_files(&entry.what, job)?;
        }
    }
    Ok(())
}

/// A site may have lost its directory on the way: Apache then shows an empty one.
fn make_docroot(work: &mut Work<'_>, docroot: &AbsPath) -> Result<()> {
    let home = work.user().home();
    let inside = docroot.as_str().strip_prefix(&home).and_then(|rest| rest.strip_prefix('/'));
    let Some(inside) = inside else {
        return if docroot.as_str() == home { Ok(()) } else { Err(outside(docroot)) };
    };
    let owner = work.owner(0o750)?;
    let mut path = Path::new(&home).to_owned();
    for part in inside.split('/') {
        path.push(part);
        work.make_dir(&path, owner)?;
    }
    Ok(())
}

fn outside(docroot: &AbsPath) -> Error {
    Error::internal(format!("the document root {docroot} lies outside the home"))
}
