//! Mail: domains, mailboxes with their logins, forwarders, automatic answers and DKIM keys.

use super::{Done, migrated};
use crate::beneath::{Beneath, Owner};
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::program::{Program, run};
use crate::{layout, mdbox, people, sieve, unpack};
use cpanel::account::MailFormat;
use cpanel::plan::{Action, CatchAll, Dormant, Operation, Resource};
use cpanel::protocol::Outcome;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use values::{DomainName, MailAddress};

/// Files that Exim reads, and nobody else but root.
fn for_exim() -> Result<Owner> {
    Ok(Owner { uid: 0, gid: people::group_id("Debian-exim")?, mode: 0o640 })
}

/// Makes a mail domain; a dormant one has everything but Exim's permission to take mail for it.
pub fn domain(work: &mut Work<'_>, resource: &Resource) -> Result<Done> {
    let Resource::MailDomain { domain, catch_all, forwards_to, active, dormant } = resource else {
        return Err(Error::internal("not a mail domain"));
    };
    let name = domain.as_str();
    work.make_dir(&layout::mail(name), Owner::root(0o755))?;
    let owner_line = format!("{}\n", work.user());
    let readable = Owner::root(0o644);
    work.put(&layout::mail_owner(name), owner_line.as_bytes(), readable, None)?;
    let to = match catch_all {
        Some(CatchAll::Address(address)) => Some(address.to_string()),
        Some(CatchAll::Blackhole) => Some(":blackhole:".to_owned()),
        None => None,
    };
    // The second is a sign that no address can have as its local part.
    for (sign, to) in [("*", to), ("@", forwards_to.as_ref().map(ToString::to_string))] {
        let file = layout::mail(name).join("aliases");
        match to {
            Some(to) => work.set_line(&file, sign, &format!("{sign}: {to}"))?,
            None => work.clear_line(&file, sign)?,
        }
    }
    if !active {
        let (outcome, text) = match dormant {
            Some(Dormant::Elsewhere) => {
                (Outcome::Migrated, "Another server takes its mail, as on the source.")
            }
            Some(Dormant::Suspended) => {
                (Outcome::Disabled, "It takes no mail, since the account is suspended.")
            }
            Some(Dormant::Unverified) | None => {
                (Outcome::Disabled, "It takes no mail until the domain is verified.")
            }
        };
        return Ok((outcome, text.to_owned()));
    }
    work.put(&layout::mail_active(name), owner_line.as_bytes(), readable, None)?;
    Ok(migrated())
}

/// Makes a mailbox with its messages and logins.
pub fn mailbox(work: &mut Work<'_>, operation: &Operation) -> Result<Done> {
    let Resource::Mailbox { address, maildir, quota_bytes, login_aliases, .. } =
        &operation.resource
    else {
        return Err(Error::internal("not a mailbox"));
    };
    unpack::ensure(work)?;
    let maildir = Path::new(maildir.as_str());
    let known = work.account.mail.mailboxes.iter().find(|m| m.address == *address);
    let is_mdbox = known.is_some_and(|m| m.format == MailFormat::Mdbox);
    let broken = if is_mdbox { mdbox::convert(work, address)? } else { None };
    let stayed_out = messages(work, address, maildir, operation.action)?;
    let hash = known.and_then(|m| m.password.hash());
    let person = work.person()?;
    let shown = maildir.to_string_lossy();
    if shown.contains(':') {
        return Err(Error::internal("a mailbox whose path has a colon"));
    }
    let quota = quota_bytes.map(|q| format!("userdb_quota_rule=*:bytes={q}")).unwrap_or_default();
    // `!` is no hash: nothing matches it.
    let password = hash.map_or("!", |h| h.reveal());
    let (uid, gid) = (person.uid, person.gid);
    let local = address.local();
    let line = format!("{local}:{{CRYPT}}{password}:{uid}:{gid}::{shown}::{quota}");
    let dir = layout::mail(address.domain());
    work.set_line(&dir.join("passwd"), local, &line)?;
    work.set_line(&dir.join("boxes"), local, &format!("{local}:"))?;
    for alias in login_aliases {
        login(work, alias, address, password)?;
    }
    if let Some(why) = broken {
        let text = format!("It is there, but its messages could not be converted: {why}");
        return Ok((Outcome::Failed, text));
    }
    Ok(match (hash, stayed_out) {
        (None, _) if work.begun.plan.suspended => {
            (Outcome::Disabled, "Its login is locked, since the account is suspended.".into())
        }
        (None, _) => (
            Outcome::Adapted,
            "It has no usable password in the archive: its login is locked.".into(),
        ),
        (_, 0) if is_mdbox => (Outcome::Adapted, "Converted from mdbox to maildir.".into()),
        (_, 0) => migrated(),
        (_, n) => (Outcome::Adapted, format!("{n} messages were there already.")),
    })
}

/// Another login of a mailbox: with a domain, or a bare name.
fn login(work: &mut Work<'_>, alias: &str, address: &MailAddress, password: &str) -> Result<()> {
    let (file, key) = match alias.parse::<MailAddress>() {
        Ok(a) if a == *address => return Ok(()),
        Ok(a) => (layout::mail(a.domain()).join("passwd"), a.local().to_owned()),
        Err(_) => {
            let name: values::Username = alias.parse()?;
            (layout::plain_logins(), name.to_string())
        }
    };
    let line = format!("{key}:{{CRYPT}}{password}::::::user={address}");
    work.set_line(&file, &key, &line)
}

/// Moves the messages in. A message that is there already, whatever its flags, is not doubled.
fn messages(
    work: &mut Work<'_>,
    address: &MailAddress,
    maildir: &Path,
    action: Action,
) -> Result<u64> {
    let owner = work.owner(0o700)?;
    let staging = Beneath::open(layout::staging(work.job.id))?.dir(unpack::MAIL)?;
    // A mailbox without messages has no directory in the archive.
    let name = Path::new(address.as_str());
    let placed = Beneath::place(maildir).and_then(|(r, rest)| r.stat(rest))?.is_some();
    if staging.stat(name)?.is_none() && !placed {
        staging.make_dir(name, owner)?;
    }
    if staging.stat(name)?.is_some() {
        for part in ["cur", "new", "tmp"] {
            staging.make_dir(name.join(part), owner)?;
        }
    }
    let home = PathBuf::from(work.user().home());
    let mut parent = home.clone();
    let between = maildir.parent().and_then(|p| p.strip_prefix(&home).ok());
    for part in between.ok_or_else(|| Error::internal("a mailbox outside the home"))?.components() {
        parent.push(part);
        work.make_dir(&parent, owner)?;
    }
    if action == Action::Merge && placed {
        drop_known(&staging, name, maildir)?;
    }
    work.move_in(&staging, name, maildir, action)
}

/// Removes from staging the messages that the mailbox has under other flags, and the lists by which
/// clients know messages, since the mailbox has lists of its own.
fn drop_known(staging: &Beneath, name: &Path, maildir: &Path) -> Result<()> {
    let Some(new) = staging.kind(name)?.map(|_| staging.dir(name)).transpose()? else {
        return Ok(());
    };
    let (root, rest) = Beneath::place(maildir)?;
    let mut folders = vec![PathBuf::new()];
    for (child, _) in new.list()? {
        if child.as_encoded_bytes().starts_with(b".") {
            folders.push(PathBuf::from(child));
        }
    }
    for folder in folders {
        let there = rest.join(&folder);
        if root.stat(&there)?.is_none() {
            continue;
        }
        let known: Vec<Vec<u8>> =
            names(&root, &there)?.into_iter().map(|(_, n)| unflagged(&n).to_vec()).collect();
        for (part, message) in names(&new, &folder)? {
            if known.iter().any(|k| k == unflagged(&message)) {
                new.remove(folder.join(part).join(&message))?;
            }
        }
        let lists = new.dir(&folder)?;
        for (list, _) in lists.list()? {
            if list.as_encoded_bytes().starts_with(b"dovecot-uid") {
                lists.remove(Path::new(&list))?;
            }
        }
    }
    Ok(())
}

fn names(dir: &Beneath, folder: &Path) -> Result<Vec<(&'static str, std::ffi::OsString)>> {
    let mut all = Vec::new();
    for part in ["cur", "new"] {
        let path = folder.join(part);
        if dir.stat(&path)?.is_some() {
            all.extend(dir.dir(&path)?.list()?.into_iter().map(|(name, _)| (part, name)));
        }
    }
    Ok(all)
}

fn unflagged(name: &OsStr) -> &[u8] {
    let bytes = name.as_encoded_bytes();
    bytes.split(|b| *b == b':').next().unwrap_or(bytes)
}

/// Sends mail for an address on.
pub fn forwarder(work: &mut Work<'_>, resource: &Resource) -> Result<Done> {
    let Resource::Forwarder { address, destinations, keep_copy } = resource else {
        return Err(Error::internal("not a forwarder"));
    };
    let mut to: Vec<&str> = destinations.iter().map(MailAddress::as_str).collect();
    if *keep_copy && !destinations.contains(address) {
        to.push(address.as_str());
    }
    let local = address.local();
    let line = format!("{local}: {}", to.join(", "));
    work.set_line(&layout::mail(address.domain()).join("aliases"), local, &line)?;
    Ok(migrated())
}

/// Makes automatic answers and filters: one Sieve script of the mailbox, checked by the server's own
/// compiler. A script that is active there already stays, unless it is to be replaced.
pub fn script(work: &mut Work<'_>, address: &MailAddress, action: Action) -> Result<Done> {
    let operations = &work.begun.plan.operations;
    let vacation = operations
        .iter()
        .map(|o| &o.resource)
        .find(|r| matches!(r, Resource::Vacation { address: of, .. } if of == address));
    let rules = operations.iter().find_map(|o| match &o.resource {
        Resource::Filter { address: of, rules } if of == address => Some(rules.as_slice()),
        _ => None,
    });
    let script = sieve::script(vacation, rules.unwrap_or_default())?;
    let maildir = maildir_of(work, address)?;
    let owner = work.owner(0o600)?;
    let staging = Beneath::open(layout::staging(work.job.id))?;
    staging.make_dir(unpack::SIEVE, Owner::root(0o700))?;
    let file = Path::new(unpack::SIEVE).join(format!("{address}.sieve"));
    staging.write(&file, script.as_bytes(), Owner::root(0o600))?;
    let compiled = run(Program::Sievec).arg(layout::staging(work.job.id).join(&file)).output()?;
    if !compiled.success() {
        let text = format!("The server's Sieve does not take it: {}", compiled.complaint());
        return Ok((Outcome::NotTransferred, cpanel::member::shown(text.as_bytes())));
    }
    let active = maildir.join("sieve.active");
    let (root, rest) = Beneath::place(&active)?;
    let ours = work.placed(&active);
    if root.stat(&rest)?.is_some() && !ours && action != Action::Replace {
        let text = "The mailbox has an active filter of its own, which stays.";
        return Ok((Outcome::NotTransferred, text.to_owned()));
    }
    work.make_dir(&maildir.join("sieve"), Owner { mode: 0o700, ..owner })?;
    let path = maildir.join("sieve").join("imported.sieve");
    work.put(&path, script.as_bytes(), owner, None)?;
    if action == Action::Replace {
        work.put_aside(&active)?;
    }
    if !work.placed(&active) {
        work.record(crate::journal::Effect::Make { path: active })?;
    }
    root.remove(&rest)?;
    root.symlink(OsStr::new("sieve/imported.sieve"), &rest, owner)?;
    Ok(migrated())
}

/// Where the mailbox lies: by the plan, or by the login that stands.
fn maildir_of(work: &Work<'_>, address: &MailAddress) -> Result<PathBuf> {
    let planned = work.begun.plan.operations.iter().find_map(|o| match &o.resource {
        Resource::Mailbox { address: a, maildir, .. } if a == address => Some(maildir.to_string()),
        _ => None,
    });
    let standing =
        crate::lines::get(&layout::mail(address.domain()).join("passwd"), address.local())?;
    let standing = standing.and_then(|line| line.split(':').nth(5).map(ToOwned::to_owned));
    planned
        .or(standing)
        .map(PathBuf::from)
        .ok_or_else(|| Error::new("no_mailbox", format!("{address} has no mailbox on the server.")))
}

/// Whether a domain of another account is signed for with this very key.
fn is_anothers(work: &Work<'_>, key: &str) -> Result<bool> {
    let all = PathBuf::from(format!("{}/dkim", layout::ETC));
    let (root, rest) = Beneath::place(&all)?;
    if root.stat(&rest)?.is_none() {
        return Ok(false);
    }
    let keys = root.dir(&rest)?;
    for (file, _) in keys.list()? {
        let Some(domain) = file.to_str().and_then(|f| f.strip_suffix(".key")) else { continue };
        let (etc, owner) = Beneath::place(&layout::mail_owner(domain))?;
        let owner = etc.read(owner, 1 << 10)?.unwrap_or_default();
        let own = owner.trim_ascii() == work.user().as_str().as_bytes();
        if !own && keys.read(&file, 1 << 16)?.as_deref() == Some(key.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Installs the key that the domain's mail goes on to be signed with.
pub fn dkim(work: &mut Work<'_>, domain: &DomainName, selector: &str) -> Result<Done> {
    let all = &work.account.dkim;
    let known = all
        .iter()
        .find(|k| k.domain == *domain && k.selector == selector)
        .ok_or_else(|| Error::internal(format!("no DKIM key of {domain} in the account")))?;
    let clean = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if selector.is_empty() || !selector.bytes().all(clean) {
        return Err(Error::internal("a DKIM selector that is none"));
    }
    let owner = for_exim()?;
    let key = format!("{}\n", known.key.reveal().trim());
    if is_anothers(work, &key)? {
        let text = "The same key signs mail of another account here: make a new one.";
        return Ok((Outcome::NotTransferred, text.to_owned()));
    }
    work.put(&layout::dkim_selector(domain.as_str()), selector.as_bytes(), owner, None)?;
    work.put(&layout::dkim_key(domain.as_str()), key.as_bytes(), owner, None)?;
    Ok(migrated())
}
