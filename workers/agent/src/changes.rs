//! What was added or altered since apply: what a rollback would lose.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::job::{Begun, Job, read_json, write_json};
use crate::journal::{Effect, Journal};
use crate::layout;
use crate::mariadb::{self, TableSum};
use cpanel::plan::{Component, Resource};
use cpanel::protocol::{Change, Changes};
use rustix::fs::{AtFlags, FileType, StatxFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;
use values::{DatabaseName, MailAddress};

/// The server as apply left it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baseline {
    /// Nanoseconds since 1970.
    pub at: i128,
    tables: BTreeMap<DatabaseName, Vec<TableSum>>,
    /// Symbolic link → target, both in hexadecimal: neither need be text. A link that was moved away
    /// and back has a new time and is the same.
    #[serde(default)]
    links: BTreeMap<String, String>,
}

/// At most so many changed files are named.
const NAMED_MAX: usize = 200;

fn path(job: Uuid) -> PathBuf {
    layout::job(job).join("baseline.json")
}

/// What [`remember`] wrote; none when apply never came to its end.
pub fn baseline(job: Uuid) -> Result<Option<Baseline>> {
    read_json(&path(job))
}

/// Remembers how things are, at the end of apply.
pub fn remember(
    job: &Job<'_>,
    begun: &Begun,
    tables: BTreeMap<DatabaseName, Vec<TableSum>>,
) -> Result<()> {
    let home = PathBuf::from(begun.source.target_user.home());
    let mut links = BTreeMap::new();
    for place in placed(&Journal::open(job.id)?) {
        if place.starts_with(&home) && !place.starts_with(home.join("mail")) {
            job.check()?;
            remember_links(&place, &mut links)?;
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Error::internal)?;
    let at = i128::try_from(since.as_nanos()).map_err(Error::internal)?;
    write_json(&path(job.id), &Baseline { at, tables, links })
}

/// Compares with what was remembered. Without a finished apply there is nothing to lose.
pub fn changes(job: &Job<'_>) -> Result<Changes> {
    let (Some(begun), Some(baseline)) = (job.begun_if()?, baseline(job.id)?) else {
        return Ok(Changes::default());
    };
    let mut items = Vec::new();
    files(job, &begun, &baseline, &mut items)?;
    for operation in &begun.plan.operations {
        job.check()?;
        match &operation.resource {
            Resource::Database { name, .. } => {
                let old = baseline.tables.get(name).map(Vec::as_slice).unwrap_or_default();
                items.extend(database(name, old)?);
            }
            Resource::Mailbox { address, maildir, .. } => {
                items.extend(mailbox(address, Path::new(maildir.as_str()), baseline.at)?);
            }
            _ => {}
        }
    }
    Ok(Changes { items })
}

fn files(job: &Job<'_>, begun: &Begun, baseline: &Baseline, items: &mut Vec<Change>) -> Result<()> {
    let home = PathBuf::from(begun.source.target_user.home());
    let mut changed = Vec::new();
    for place in placed(&Journal::open(job.id)?) {
        let is_mail = place.starts_with(home.join("mail"));
        if place.starts_with(&home) && !is_mail {
            job.check()?;
            changed.extend(changed_files(&place, baseline)?);
        }
    }
    changed.retain(|p| !p.starts_with(home.join("mail")) && !p.starts_with(home.join("tmp")));
    changed.sort();
    changed.dedup();
    for path in changed.iter().take(NAMED_MAX) {
        let rest = path.strip_prefix(&home).unwrap_or(path);
        let shown = cpanel::member::shown(rest.as_os_str().as_encoded_bytes());
        items.push(Change {
            component: Component::Files,
            item: format!("file:{shown}"),
            what: "new or changed".to_owned(),
        });
    }
    if let Some(more) = changed.len().checked_sub(NAMED_MAX).filter(|n| *n > 0) {
        let what = format!("{more} further files, new or changed");
        items.push(Change { component: Component::Files, item: "files".to_owned(), what });
    }
    Ok(())
}

/// Paths at which the job put something.
pub fn placed(journal: &Journal) -> Vec<PathBuf> {
    let all = journal.entries().iter().filter_map(|e| match &e.what {
        Effect::Make { path } | Effect::Replace { path, .. } => Some(path.clone()),
        _ => None,
    });
    all.collect()
}

/// Files at or below the path whose content or rights changed since, and links that point elsewhere.
pub fn changed_files(path: &Path, baseline: &Baseline) -> Result<Vec<PathBuf>> {
    let (root, rest) = Beneath::place(path)?;
    let mut found = Vec::new();
    visit(&root, &rest, path, &mut |dir, name, at, kind| {
        if is_changed(dir, name, at, kind, baseline)? {
            found.push(at.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

fn remember_links(path: &Path, links: &mut BTreeMap<String, String>) -> Result<()> {
    let (root, rest) = Beneath::place(path)?;
    visit(&root, &rest, path, &mut |dir, name, at, kind| {
        if kind == FileType::Symlink {
            links.insert(hexed(at.as_os_str()), hexed(&dir.link_target(name)?));
        }
        Ok(())
    })
}

fn hexed(text: &OsStr) -> String {
    hex::encode(text.as_encoded_bytes())
}

/// A directory, a name in it, the whole path, and what stands there.
type Visitor<'v> = dyn FnMut(&Beneath, &Path, &Path, FileType) -> Result<()> + 'v;

/// Shows the visitor each thing at or below `name`, except directories.
fn visit(dir: &Beneath, name: &Path, at: &Path, visitor: &mut Visitor<'_>) -> Result<()> {
    match dir.kind(name)? {
        None => Ok(()),
        Some(FileType::Directory) => {
            let inner = dir.dir(name)?;
            inner.list()?.iter().try_for_each(|(entry, _)| {
                visit(&inner, Path::new(entry), &at.join(entry), visitor)
            })
        }
        Some(kind) => visitor(dir, name, at, kind),
    }
}

fn is_changed(
    dir: &Beneath,
    name: &Path,
    at: &Path,
    kind: FileType,
    baseline: &Baseline,
) -> Result<bool> {
    let later = || Ok(altered(dir, name)?.is_some_and(|t| t > baseline.at));
    match kind {
        FileType::RegularFile => later(),
        FileType::Symlink => match baseline.links.get(&hexed(at.as_os_str())) {
            Some(target) => Ok(*target != hexed(&dir.link_target(name)?)),
            None => later(),
        },
        _ => Ok(false),
    }
}

fn altered(dir: &Beneath, path: &Path) -> Result<Option<i128>> {
    let Some(stat) = dir.stat(path)? else { return Ok(None) };
    Ok(Some(nanos(stat.st_ctime.into(), stat.st_ctime_nsec.into())))
}

fn nanos(seconds: i128, nanos: i128) -> i128 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

fn database(name: &DatabaseName, old: &[(String, u64, String)]) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    if !mariadb::has_database(name)? {
        return Ok(changes);
    }
    let now = mariadb::table_sums(std::slice::from_ref(name))?;
    for (table, rows, sum) in now.into_values().flatten() {
        let before = old.iter().find(|(t, _, _)| *t == table);
        let what = match before {
            None => format!("a new table with {rows} rows"),
            Some((_, count, _)) if *count != rows => {
                format!("{rows} rows, {count} at the migration")
            }
            Some((_, _, old_sum)) if *old_sum != sum => "changed rows".to_owned(),
            Some(_) => continue,
        };
        let shown = cpanel::member::shown(table.as_bytes());
        changes.push(Change {
            component: Component::Databases,
            item: format!("database:{name}"),
            what: format!("table {shown}: {what}"),
        });
    }
    Ok(changes)
}

/// Messages that came into being after the time, or all; a change of flags makes none.
pub fn count_messages(maildir: &Path, after: Option<i128>) -> Result<u64> {
    let (root, rest) = Beneath::place(maildir)?;
    if root.kind(&rest)? != Some(FileType::Directory) {
        return Ok(0);
    }
    let top = root.dir(&rest)?;
    let mut count = messages(&top, after)?;
    for (folder, kind) in top.list()? {
        if kind == FileType::Directory && folder.as_encoded_bytes().starts_with(b".") {
            count = count.saturating_add(messages(&top.dir(&folder)?, after)?);
        }
    }
    Ok(count)
}

/// What came into a mailbox since.
fn mailbox(address: &MailAddress, maildir: &Path, after: i128) -> Result<Option<Change>> {
    let new = count_messages(maildir, Some(after))?;
    Ok((new > 0).then(|| Change {
        component: Component::Email,
        item: format!("mailbox:{address}"),
        what: format!("{new} new messages"),
    }))
}

fn messages(folder: &Beneath, after: Option<i128>) -> Result<u64> {
    let mut count = 0_u64;
    for part in ["cur", "new"] {
        if folder.kind(part)? != Some(FileType::Directory) {
            continue;
        }
        let dir = folder.dir(part)?;
        for (name, _) in dir.list()? {
            let counts = match after {
                Some(after) => born(&dir, &name)?.is_some_and(|t| t > after),
                None => true,
            };
            if counts {
                count = count.saturating_add(1);
            }
        }
    }
    Ok(count)
}

/// When the file came into being, or, where the file system does not know, when it was altered.
fn born(dir: &Beneath, name: &OsStr) -> Result<Option<i128>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let wanted = StatxFlags::BTIME | StatxFlags::CTIME;
    let stat = match rustix::fs::statx(dir.fd(), name, flags, wanted) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let time = if known { stat.stx_btime } else { stat.stx_ctime };
    Ok(Some(nanos(time.tv_sec.into(), time.tv_nsec.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_its_target() {
        let top = tempfile::tempdir().unwrap();
        let home = top.path().canonicalize().unwrap();
        for name in ["same", "other"] {
            std::os::unix::fs::symlink("public_html", home.join(name)).unwrap();
        }
        let same = (hexed(home.join("same").as_os_str()), hexed(OsStr::new("public_html")));
        let other = (hexed(home.join("other").as_os_str()), hexed(OsStr::new("elsewhere")));
        let links = BTreeMap::from([same, other]);
        // Everything here is younger than the baseline.
        let baseline = Baseline { at: 0, tables: BTreeMap::new(), links };
        std::os::unix::fs::symlink("public_html", home.join("new")).unwrap();
        let dir = Beneath::open(&home).unwrap();
        let changed = |name: &str| {
            let name = Path::new(name);
            is_changed(&dir, name, &home.join(name), FileType::Symlink, &baseline).unwrap()
        };
        assert_eq!(["same", "other", "new"].map(changed), [false, true, true]);
    }
}
