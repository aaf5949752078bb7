//! The archive as a thing on the disk: whether it may be read, and whether it is still the same.

use crate::error::{Error, Result};
use crate::parts;
use crate::source::place;
use cpanel::protocol::Source;
use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

/// Tells one state of a file from another without reading it. The device is no part of it: a server
/// may number its disks anew whenever it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    size: i64,
    /// Seconds and nanoseconds; the second cannot be set by anybody.
    modified: (i64, u64),
    changed: (i64, u64),
    /// Of a split archive, the further parts.
    #[serde(default)]
    parts: Vec<Stamp>,
}

impl Stamp {
    /// The stamp of an archive that may be read: inside a backup directory and reached without a
    /// link, a file or a directory, root's alone to change.
    pub fn of(source: &Source) -> Result<Self> {
        let (dir, rest) = place(source)?;
        let Some(parts) = parts::of(&dir, &rest)? else {
            return Self::of_one(&stat(source)?, source.path.as_str());
        };
        let mut stamps = Vec::new();
        for part in parts {
            let stat = dir.stat(&part)?.ok_or_else(|| Error::internal("a part that is gone"))?;
            let name = part.file_name().unwrap_or_default().to_string_lossy();
            stamps.push(Self::of_one(&stat, &name)?);
        }
        let mut stamps = stamps.into_iter();
        let first = stamps.next().ok_or_else(|| Error::internal("an archive of no parts"))?;
        Ok(Self { parts: stamps.collect(), ..first })
    }

    fn of_one(stat: &Stat, name: &str) -> Result<Self> {
        if let Some(why) = weakness(stat) {
            let text = format!("{name} {why}: nobody but root may be able to change it.");
            return Err(Error::new("archive_unsafe", text));
        }
        Ok(Self {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            parts: Vec::new(),
        })
    }

    /// Fails with `archive_changed` unless the archive is still in this state.
    pub fn check(&self, source: &Source) -> Result<()> {
        if Self::of(source)? == *self {
            return Ok(());
        }
        let text = "The archive has changed since it was analyzed: analyze it again.";
        Err(Error::new("archive_changed", text))
    }

    /// Bytes of the file, or of all parts.
    pub fn size(&self) -> u64 {
        let own = u64::try_from(self.size).unwrap_or(0);
        self.parts.iter().fold(own, |sum, part| sum.saturating_add(part.size()))
    }
}

/// What stands at the archive's path.
pub fn stat(source: &Source) -> Result<Stat> {
    let (dir, rest) = place(source)?;
    let stat = dir.stat(&rest)?.ok_or_else(|| {
        let text =
            format!("There is nothing at {} on the server: copy the archive there.", source.path);
        Error::new("archive_not_found", text)
    })?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => Ok(stat),
        FileType::Symlink => {
            let text = format!("{} is a symbolic link: name the archive itself.", source.path);
            Err(Error::new("archive_unsafe", text))
        }
        _ => {
            let text = format!("{} is neither a file nor a directory.", source.path);
            Err(Error::new("not_an_archive", text))
        }
    }
}

/// Why somebody other than root could change it; none when nobody can.
fn weakness(stat: &Stat) -> Option<&'static str> {
    if stat.st_uid != 0 {
        Some("does not belong to root")
    } else if stat.st_mode & 0o022 != 0 {
        Some("can be written by others")
    } else {
        None
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use values::{AbsPath, Username};

    /// An archive of this name in a backup directory.
    pub fn source(dir: &Path, name: &str) -> Source {
        let dir = dir.canonicalize().unwrap();
        Source {
            path: AbsPath::parse(dir.join(name).to_str().unwrap()).unwrap(),
            target_user: Username::parse("shop").unwrap(),
            backup_dirs: vec![AbsPath::parse(dir.to_str().unwrap()).unwrap()],
        }
    }

    #[test]
    fn only_what_root_alone_can_change() {
        if !rustix::process::getuid().is_root() {
            return; // ownership by root cannot be shown
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        let code =
            |name: &str| Stamp::of(&source(dir.path(), name)).map_or_else(|e| e.code(), |_| "ok");
        assert_eq!(code("a.tar"), "archive_not_found");
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(code("a.tar"), "ok");
        let stamp = Stamp::of(&source(dir.path(), "a.tar")).unwrap();
        std::fs::write(&path, "y").unwrap();
        assert_eq!(
            stamp.check(&source(dir.path(), "a.tar")).unwrap_err().code(),
            "archive_changed"
        );
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
        assert_eq!(code("a.tar"), "archive_unsafe");
        symlink(&path, dir.path().join("link.tar")).unwrap();
        assert_eq!(code("link.tar"), "archive_unsafe");
        let mut outside = source(dir.path(), "a.tar");
        outside.path = AbsPath::parse("/etc/passwd").unwrap();
        assert_eq!(Stamp::of(&outside).unwrap_err().code(), "path_outside_backup_dirs");
    }
}
