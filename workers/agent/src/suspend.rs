//! Suspending an account and opening it again. What is taken out of use lies in a directory of its own
//! meanwhile, each thing there before it goes and gone from there after it is back, so that both may
//! be repeated after a death at any point. Nothing of the account itself is touched.

use crate::belongings::{self, FILE_BYTES, Site};
use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::lines;
use crate::people;
use crate::services::{self, Service};
use crate::steps::{crontab, end_processes, restore_crontab, suspended_site};
use crate::{guard, layout};
use cpanel::protocol::{ItemReport, Outcome, StepReport};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use values::{DomainName, Username};

/// The crontab, in the account's directory of what is out of use.
pub const CRONTAB: &str = "crontab";
/// Between the directory and the name of a site's file.
const APART: &str = "~";

/// Takes the account out of use.
pub fn suspend(job: &Job<'_>, user: &Username) -> Result<StepReport> {
    let _lock = job.lock(user)?;
    take_out(job, user)
}

/// The same under the lock of the account.
pub fn take_out(job: &Job<'_>, user: &Username) -> Result<StepReport> {
    let person = people::account(user)?;
    can_mail_wait()?;
    let kept = Beneath::private_dir(&layout::suspended(user))?;
    let mut report = StepReport::default();
    for site in belongings::sites(user)? {
        close_site(job, &kept, &site)?;
        note(&mut report, format!("website:{}", site.file), "answers 503");
    }
    for domain in belongings::mail_domains(user)? {
        job.check()?;
        hold_mail(user, &domain)?;
        turn_logins(&domain, locked)?;
        note(&mut report, format!("mail_domain:{domain}"), "its mail waits, logins are refused");
    }
    turn_plain_login(user, locked)?;
    for version in layout::PHP_VERSIONS {
        close_pool(job, &kept, user, version)?;
    }
    services::apply_changes(job.id)?;
    if let Some(text) = crontab(user)? {
        kept.write(CRONTAB, text.as_bytes(), Owner::root(0o600))?;
        restore_crontab(user, None)?;
        note(&mut report, format!("cron:{user}"), "stands still");
    }
    end_processes(person.uid)?;
    Ok(report)
}

/// Puts the account back into use.
pub fn unsuspend(job: &Job<'_>, user: &Username) -> Result<StepReport> {
    let _lock = job.lock(user)?;
    people::account(user)?;
    let kept = Beneath::private_dir(&layout::suspended(user))?;
    let mut report = StepReport::default();
    for (name, _) in kept.list()? {
        job.check()?;
        let Some(name) = name.to_str() else { continue };
        if let Some((dir, file)) = name.split_once(APART) {
            open_site(job, &kept, (dir, file))?;
            note(&mut report, format!("website:{file}"), "is open again");
        }
    }
    for version in layout::PHP_VERSIONS {
        open_pool(job, &kept, user, version)?;
    }
    services::apply_changes(job.id)?;
    for domain in belongings::mail_domains(user)? {
        turn_logins(&domain, unlocked)?;
        let (root, rest) = Beneath::place(&layout::mail_suspended(domain.as_str()))?;
        root.remove(rest)?;
        note(&mut report, format!("mail_domain:{domain}"), "takes mail and logins again");
    }
    turn_plain_login(user, unlocked)?;
    if let Some(bytes) = kept.read(CRONTAB, FILE_BYTES)? {
        // Where there is one again, somebody has made it since.
        if crontab(user)?.is_none() {
            let text = String::from_utf8(bytes).map_err(Error::internal)?;
            restore_crontab(user, Some(&text))?;
        }
        kept.remove(CRONTAB)?;
        note(&mut report, format!("cron:{user}"), "runs again");
    }
    forget(user)?;
    Ok(report)
}

/// The virtual hosts that were closed, as they were, by where they lie.
pub fn kept_sites(user: &Username) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let kept = Beneath::private_dir(&layout::suspended(user))?;
    for (name, _) in kept.list()? {
        let Some((dir, file)) = name.to_str().and_then(|name| name.split_once(APART)) else {
            continue;
        };
        let bytes = kept.read(&name, FILE_BYTES)?.unwrap_or_default();
        let text = String::from_utf8(bytes).map_err(Error::internal)?;
        found.insert(PathBuf::from(layout::ETC).join(dir).join(file), text);
    }
    Ok(found)
}

/// Keeps a virtual host of a suspended account that it is to have once it is open again.
pub fn keep_site(user: &Username, path: &Path, text: &str) -> Result<()> {
    let kept = Beneath::private_dir(&layout::suspended(user))?;
    kept.write(kept_name(path)?, text.as_bytes(), Owner::root(0o600))
}

/// Forgets a virtual host of a suspended account.
pub fn forget_site(user: &Username, path: &Path) -> Result<()> {
    let (root, rest) = Beneath::place(&layout::suspended(user))?;
    match root.stat(&rest)? {
        Some(_) => root.clear(rest.join(kept_name(path)?)),
        None => Ok(()),
    }
}

/// What a virtual host's file is called among what is out of use.
fn kept_name(path: &Path) -> Result<String> {
    let file = path.file_name().and_then(|name| name.to_str());
    let dir = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let (dir, file) = dir.zip(file).ok_or_else(|| Error::internal("a site without a place"))?;
    Ok(format!("{dir}{APART}{file}"))
}

/// Removes what stands for an account's being out of use.
pub fn forget(user: &Username) -> Result<()> {
    let (root, rest) = Beneath::place(&layout::suspended(user))?;
    root.remove(rest)
}

fn note(report: &mut StepReport, id: String, detail: &str) {
    report.items.push(ItemReport { id, outcome: Outcome::Adapted, detail: detail.to_owned() });
}

/// Exim of an older layout would take the mail.
fn can_mail_wait() -> Result<()> {
    let path = "/etc/exim4/exim4.conf";
    let text = std::fs::read_to_string(path).map_err(Error::at(path))?;
    if text.contains("/etc/migrapanel/mail-suspended") {
        return Ok(());
    }
    let text = "The server's layout cannot suspend accounts yet: enrol it again.";
    Err(Error::new("layout_missing", text))
}

/// Mail of a domain that takes none is refused as before.
fn hold_mail(user: &Username, domain: &DomainName) -> Result<()> {
    let (root, active) = Beneath::place(&layout::mail_active(domain.as_str()))?;
    if root.stat(active)?.is_none() {
        return Ok(());
    }
    let (root, rest) = Beneath::place(&layout::mail_suspended(domain.as_str()))?;
    root.write(rest, format!("{user}\n").as_bytes(), Owner::root(0o644))
}

fn close_site(job: &Job<'_>, kept: &Beneath, site: &Site) -> Result<()> {
    job.check()?;
    // What is closed already was kept, or was never open.
    let Some(closed) = suspended_site(&site.text) else { return Ok(()) };
    let name = format!("{}{APART}{}", site.dir, site.file);
    kept.write(&name, site.text.as_bytes(), Owner::root(0o600))?;
    change(job, &site.path(), closed.as_bytes(), Service::Apache)
}

fn open_site(job: &Job<'_>, kept: &Beneath, (dir, file): (&str, &str)) -> Result<()> {
    let name = format!("{dir}{APART}{file}");
    let known = belongings::SITE_DIRS.contains(&dir);
    let path = PathBuf::from(layout::ETC).join(dir).join(file);
    let open = kept.read(&name, FILE_BYTES)?.unwrap_or_default();
    let (root, rest) = Beneath::place(&path)?;
    let stands = root.read(&rest, FILE_BYTES)?.unwrap_or_default();
    let stands = String::from_utf8_lossy(&stands).into_owned();
    let was_open = String::from_utf8_lossy(&open).into_owned();
    // Only over what was put there: a site that went, or was made anew, is somebody's later work.
    if known && suspended_site(&was_open).as_deref() == Some(stands.as_str()) {
        change(job, &path, &open, Service::Apache)?;
    }
    kept.remove(&name)
}

fn change(job: &Job<'_>, path: &Path, bytes: &[u8], service: Service) -> Result<()> {
    services::will_change(service, job.id)?;
    let _lock = guard::changing_configuration()?;
    let (root, rest) = Beneath::place(path)?;
    root.write(rest, bytes, Owner::root(0o600))
}

fn close_pool(job: &Job<'_>, kept: &Beneath, user: &Username, version: &str) -> Result<()> {
    let (root, rest) = Beneath::place(&layout::pool(user, version))?;
    let Some(text) = root.read(&rest, FILE_BYTES)? else { return Ok(()) };
    kept.write(format!("pool-{version}"), &text, Owner::root(0o600))?;
    services::will_change(Service::PhpFpm, job.id)?;
    let _lock = guard::changing_configuration()?;
    root.remove(rest)
}

fn open_pool(job: &Job<'_>, kept: &Beneath, user: &Username, version: &str) -> Result<()> {
    let name = format!("pool-{version}");
    let Some(text) = kept.read(&name, FILE_BYTES)? else { return Ok(()) };
    let path = layout::pool(user, version);
    let (root, rest) = Beneath::place(&path)?;
    if root.stat(rest)?.is_none() {
        change(job, &path, &text, Service::PhpFpm)?;
    }
    kept.remove(&name)
}

/// Before a hash: nothing matches it. Alone it is what stands for no password at all.
const LOCK: &str = "{CRYPT}!";

/// A login's line with its password taken out of use.
fn locked(line: &str) -> Option<String> {
    let (key, rest) = line.split_once(':')?;
    let hash = rest.strip_prefix("{CRYPT}")?;
    let is_locked = hash.starts_with('!') && !hash.starts_with("!:");
    (!is_locked).then(|| format!("{key}:{LOCK}{hash}"))
}

/// A login's line with its password in use again.
pub fn unlocked(line: &str) -> Option<String> {
    let (key, rest) = line.split_once(':')?;
    let hash = rest.strip_prefix(LOCK)?;
    (!hash.starts_with(':')).then(|| format!("{key}:{{CRYPT}}{hash}"))
}

type Turn = fn(&str) -> Option<String>;

fn turn_logins(domain: &DomainName, turn: Turn) -> Result<()> {
    let file = layout::mail(domain.as_str()).join("passwd");
    lines::all(&file)?.iter().try_for_each(|line| turn_line(&file, line, turn))
}

fn turn_plain_login(user: &Username, turn: Turn) -> Result<()> {
    let file = layout::plain_logins();
    match lines::get(&file, user.as_str())? {
        Some(line) => turn_line(&file, &line, turn),
        None => Ok(()),
    }
}

fn turn_line(file: &Path, line: &str, turn: Turn) -> Result<()> {
    let key = line.split(':').next().unwrap_or_default();
    match turn(line) {
        Some(turned) => lines::set(file, key, Some(&turned)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_comes_back_as_it_was() {
        for line in [
            "info:{CRYPT}$6$salt$hash:2000:2000::/home/shop/mail/shop.example/info::",
            "shop:{CRYPT}!:2000:2000::/home/shop/mail/shop.example/shop::",
            "shop:{CRYPT}$6$a$b::::::user=shop@shop.example",
        ] {
            let closed = locked(line).unwrap();
            assert!(closed.contains(LOCK));
            assert_eq!(locked(&closed), None, "twice is once");
            assert_eq!(unlocked(&closed).as_deref(), Some(line));
            assert_eq!(unlocked(line), None);
        }
    }
}
