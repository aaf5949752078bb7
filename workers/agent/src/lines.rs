//! Files of ours with one line a key, `key:value`: logins, aliases, mailboxes. Several accounts may
//! share one, so that it is changed a line at a time under a lock.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::layout;
use crate::people;
use rustix::fs::{FlockOperation, flock};
use std::path::{Path, PathBuf};

const FILE_BYTES: u64 = 64 << 20;

/// The line of this key.
pub fn get(file: &Path, key: &str) -> Result<Option<String>> {
    Ok(read(file)?.lines().find(|l| has_key(l, key)).map(ToOwned::to_owned))
}

/// Every line of the file.
pub fn all(file: &Path) -> Result<Vec<String>> {
    Ok(read(file)?.lines().map(ToOwned::to_owned).collect())
}

/// Sets the line of this key, or removes it. A file that has become empty is removed, and a new one
/// is read by the service that it is for.
pub fn set(file: &Path, key: &str, line: Option<&str>) -> Result<()> {
    if line.is_some_and(|l| l.contains(['\n', '\r', '\0']) || !has_key(l, key)) {
        return Err(Error::internal("a line that is none"));
    }
    let _lock = lock()?;
    let (root, rest) = Beneath::place(file)?;
    let Some(parent) = rest.parent() else { return Err(Error::internal("a file without a place")) };
    if line.is_none() && root.stat(parent)?.is_none() {
        return Ok(());
    }
    let text = read(file)?;
    let mut all: Vec<&str> = text.lines().filter(|l| !has_key(l, key)).collect();
    all.extend(line);
    if all.is_empty() {
        return root.clear(&rest);
    }
    let owner = match root.stat(&rest)? {
        Some(s) => Owner { uid: s.st_uid, gid: s.st_gid, mode: s.st_mode & 0o777 },
        None => owner(file)?,
    };
    root.write(&rest, (all.join("\n") + "\n").as_bytes(), owner)
}

/// Logins are Dovecot's to read, all else is Exim's, and nobody else's but root's.
fn owner(file: &Path) -> Result<Owner> {
    let logins = file.file_name().is_some_and(|name| name == "passwd");
    let gid = people::group_id(if logins { "dovecot" } else { "Debian-exim" })?;
    Ok(Owner { uid: 0, gid, mode: 0o640 })
}

fn has_key(line: &str, key: &str) -> bool {
    line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':'))
}

fn read(file: &Path) -> Result<String> {
    let (root, rest) = Beneath::place(file)?;
    let bytes = root.read(&rest, FILE_BYTES)?.unwrap_or_default();
    String::from_utf8(bytes).map_err(Error::at(file))
}

fn lock() -> Result<std::fs::File> {
    let path = PathBuf::from(layout::STATE).join("locks/.lines");
    let file = crate::guard::open_lock(&path)?;
    flock(&file, FlockOperation::LockExclusive).map_err(Error::at(&path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole() {
        assert!(has_key("info: a", "info") && has_key("*: x", "*"));
        assert!(!has_key("info2: a", "info") && !has_key("# info: a", "info"));
    }
}
