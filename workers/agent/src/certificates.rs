//! Certificates of the control plane: what an authority asks for before it issues one, and what an
//! account's sites and mail show. An imported certificate that is replaced is kept beside it and comes
//! back when ours goes.

use crate::belongings::{self, FILE_BYTES, Site};
use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::services::{self, Service};
use crate::steps::{mail_blocks, pair_text, suspended_site, with_certificate};
use crate::{facts, guard, layout, people, suspend};
use cpanel::protocol::{ChallengeToken, Installation, Installed};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use values::{DomainName, Username};

/// What an imported certificate was, in the directory of its domain.
const IMPORTED: &str = "imported.pem";
/// The names that Dovecot showed it for.
const IMPORTED_NAMES: &str = "imported.conf";

/// Lets every site answer with a challenge's content.
pub fn put_challenge(token: &ChallengeToken, content: &str) -> Result<()> {
    if content.len() > 1024 || !content.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::new("bad_request", "A challenge's content is a line of text."));
    }
    challenges()?.write(token.as_str(), content.as_bytes(), Owner::root(0o644))
}

/// Takes [`put_challenge`] back.
pub fn remove_challenge(token: &ChallengeToken) -> Result<()> {
    challenges()?.clear(token.as_str())
}

fn challenges() -> Result<Beneath> {
    if !std::fs::exists(layout::CHALLENGES).map_err(Error::at(layout::CHALLENGES))? {
        let text = "The server's layout cannot answer challenges yet: enrol it again.";
        return Err(Error::new("layout_missing", text));
    }
    Beneath::open(layout::CHALLENGES)
}

/// Lets the account's sites and mail show a certificate.
pub fn install(job: &Job<'_>, wanted: &Installation) -> Result<Installed> {
    let user = &wanted.user;
    let _lock = job.lock(user)?;
    people::account(user)?;
    let pair = pair_text(wanted.key.reveal(), &wanted.chain)?;
    let place = Place::of(user)?;
    let mut installed = Installed::default();
    services::will_change(Service::Apache, job.id)?;
    services::will_change(Service::Dovecot, job.id)?;
    for domain in place.domains() {
        job.check()?;
        if !takes(&place, wanted, &domain)? {
            continue;
        }
        put_pair(&domain, wanted.certificate, &pair)?;
        show_by_mail(&place, wanted, &domain, &mut installed)?;
        show_by_web(&place, wanted, &domain, &mut installed)?;
    }
    services::apply_changes(job.id)?;
    Ok(installed)
}

/// Lets go of a certificate.
pub fn uninstall(job: &Job<'_>, user: &Username, certificate: Uuid) -> Result<()> {
    let _lock = job.lock(user)?;
    if people::user(user.as_str())?.is_none() {
        return Ok(());
    }
    let place = Place::of(user)?;
    let mut shown: Vec<DomainName> = Vec::new();
    for domain in place.domains() {
        if shows(&domain)? == Some(certificate) {
            shown.push(domain);
        }
    }
    if shown.is_empty() {
        return services::apply_changes(job.id);
    }
    services::will_change(Service::Apache, job.id)?;
    services::will_change(Service::Dovecot, job.id)?;
    let mut bare = Vec::new();
    for domain in shown {
        job.check()?;
        if bring_back(&domain)? {
            continue;
        }
        for path in [layout::tls_site(&domain), layout::tls_wildcard_site(&domain)] {
            clear(&path)?;
            suspend::forget_site(user, &path)?;
        }
        clear(&layout::dovecot_tls(domain.as_str()))?;
        bare.push(domain);
    }
    services::apply_changes(job.id)?;
    // Nothing names it any longer: a service that still did would end.
    bare.iter().try_for_each(|domain| clear(&layout::tls(domain.as_str())))
}

/// What of an account a certificate can be shown by.
struct Place {
    user: Username,
    /// Without TLS, open ones and those that are closed.
    sites: Vec<Site>,
    /// Those that are closed, as they were, by where they lie.
    closed: BTreeMap<PathBuf, String>,
    mail: BTreeSet<DomainName>,
}

impl Place {
    fn of(user: &Username) -> Result<Self> {
        let mut sites = belongings::sites(user)?;
        sites.retain(|site| !site.dir.starts_with("tls-"));
        let mail = belongings::mail_domains(user)?.into_iter().collect();
        Ok(Self { user: user.clone(), sites, closed: suspend::kept_sites(user)?, mail })
    }

    fn domains(&self) -> BTreeSet<DomainName> {
        let of_sites = self.sites.iter().filter_map(Site::domain);
        of_sites.chain(self.mail.iter().cloned()).collect()
    }

    /// The domain of the account that a name is at or below.
    fn nearest(&self, name: &DomainName) -> Option<DomainName> {
        let domains = self.domains().into_iter();
        domains.filter(|d| d == name || name.is_below(d)).max_by_key(|d| d.as_str().len())
    }
}

/// Whether a client that asks for the host takes the certificate.
fn covers(wanted: &Installation, host: &DomainName) -> bool {
    let above = host.as_str().split_once('.').map(|(_, parent)| format!("*.{parent}"));
    wanted.names.contains(host.as_str()) || above.is_some_and(|name| wanted.names.contains(&name))
}

/// The names of the certificate that are this domain's and no other's of the account.
fn names_at(place: &Place, wanted: &Installation, domain: &DomainName) -> Vec<String> {
    let is_here = |name: &&String| {
        let base = DomainName::parse(name.trim_start_matches("*."));
        base.is_ok_and(|base| place.nearest(&base).as_ref() == Some(domain))
    };
    wanted.names.iter().filter(is_here).cloned().collect()
}

/// Whether the domain shows this certificate from now on: when it is for the domain itself, or for a
/// name below while there is no other.
fn takes(place: &Place, wanted: &Installation, domain: &DomainName) -> Result<bool> {
    if covers(wanted, domain) {
        return Ok(true);
    }
    if names_at(place, wanted, domain).is_empty() {
        return Ok(false);
    }
    let (root, rest) = Beneath::place(&layout::tls_pair(domain.as_str()))?;
    Ok(root.stat(rest)?.is_none() || shows(domain)? == Some(wanted.certificate))
}

/// Which of ours a domain shows.
fn shows(domain: &DomainName) -> Result<Option<Uuid>> {
    let (root, rest) = Beneath::place(&layout::tls_certificate(domain.as_str()))?;
    let bytes = root.read(rest, FILE_BYTES)?.unwrap_or_default();
    Ok(Uuid::try_parse_ascii(bytes.trim_ascii()).ok())
}

fn put_pair(domain: &DomainName, certificate: Uuid, pair: &str) -> Result<()> {
    let gid = people::group_id("Debian-exim")?;
    let dir = layout::tls(domain.as_str());
    let (root, rest) = Beneath::place(&dir)?;
    root.make_dir(&rest, Owner { uid: 0, gid, mode: 0o750 })?;
    if shows(domain)?.is_none() {
        keep_imported(domain)?;
    }
    let _lock = guard::changing_configuration()?;
    let id = format!("{certificate}\n");
    root.write(rest.join("certificate"), id.as_bytes(), Owner::root(0o600))?;
    root.write(rest.join("pair.pem"), pair.as_bytes(), Owner { uid: 0, gid, mode: 0o640 })
}

fn keep_imported(domain: &DomainName) -> Result<()> {
    let dir = layout::tls(domain.as_str());
    let from = [layout::tls_pair(domain.as_str()), layout::dovecot_tls(domain.as_str())];
    for (from, to) in from.iter().zip([IMPORTED, IMPORTED_NAMES]) {
        let (root, rest) = Beneath::place(from)?;
        if let Some(bytes) = root.read(rest, FILE_BYTES)? {
            let (root, rest) = Beneath::place(&dir.join(to))?;
            root.write(rest, &bytes, Owner::root(0o600))?;
        }
    }
    Ok(())
}

/// Shows an imported certificate again; false when there was none.
fn bring_back(domain: &DomainName) -> Result<bool> {
    let dir = layout::tls(domain.as_str());
    let (root, rest) = Beneath::place(&dir)?;
    let Some(pair) = root.read(rest.join(IMPORTED), FILE_BYTES)? else { return Ok(false) };
    let gid = people::group_id("Debian-exim")?;
    let names = root.read(rest.join(IMPORTED_NAMES), FILE_BYTES)?;
    let _lock = guard::changing_configuration()?;
    root.write(rest.join("pair.pem"), &pair, Owner { uid: 0, gid, mode: 0o640 })?;
    if let Some(names) = names {
        let (etc, file) = Beneath::place(&layout::dovecot_tls(domain.as_str()))?;
        etc.write(file, &names, Owner::root(0o600))?;
    }
    for name in ["certificate", IMPORTED, IMPORTED_NAMES] {
        root.clear(rest.join(name))?;
    }
    Ok(true)
}

fn show_by_mail(
    place: &Place,
    wanted: &Installation,
    domain: &DomainName,
    installed: &mut Installed,
) -> Result<()> {
    let names = names_at(place, wanted, domain);
    let path = layout::dovecot_tls(domain.as_str());
    put(&path, mail_blocks(domain, &names)?.as_bytes())?;
    if place.mail.contains(domain) {
        installed.mail.extend(names.iter().filter_map(|name| DomainName::parse(name).ok()));
    }
    Ok(())
}

fn show_by_web(
    place: &Place,
    wanted: &Installation,
    domain: &DomainName,
    installed: &mut Installed,
) -> Result<()> {
    for site in place.sites.iter().filter(|site| site.domain().as_ref() == Some(domain)) {
        let is_wildcard = site.dir.starts_with("wildcard");
        if is_wildcard && !wanted.names.contains(&format!("*.{domain}")) {
            continue;
        }
        let tls = match is_wildcard {
            true => layout::tls_wildcard_site(domain),
            false => layout::tls_site(domain),
        };
        match place.closed.get(&site.path()) {
            None => put(&tls, with_certificate(&site.text, domain).as_bytes())?,
            Some(open) => {
                let open = with_certificate(open, domain);
                suspend::keep_site(&place.user, &tls, &open)?;
                let closed = suspended_site(&open).unwrap_or(open);
                put(&tls, closed.as_bytes())?;
            }
        }
        let (names, _) = facts::site(&site.text);
        let hosts = names.into_iter().filter_map(|name| DomainName::parse(name).ok());
        installed.web.extend(hosts.filter(|host| covers(wanted, host)));
    }
    Ok(())
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let _lock = guard::changing_configuration()?;
    let (root, rest) = Beneath::place(path)?;
    root.write(rest, bytes, Owner::root(0o600))
}

fn clear(path: &Path) -> Result<()> {
    let _lock = guard::changing_configuration()?;
    let (root, rest) = Beneath::place(path)?;
    root.clear(rest)
}
