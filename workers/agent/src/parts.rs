//! Split archives: `pkgacct --split` writes `cpmove-USER.tar.gz.part00001`, `…part00002` and so on.
//! Joined in the order of their numbers they are the archive.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The parts, below `dir` and in their order, of the archive that a path names: by any of its parts,
/// by the name before `.part`, or by a directory that holds nothing else. None when it names
/// something else. Fails with `truncated` when one is missing in between.
pub fn of(dir: &Beneath, path: &Path) -> Result<Option<Vec<PathBuf>>> {
    let kind = dir.kind(path)?;
    let (parent, stem) = match (kind, path.file_name().and_then(|n| n.to_str())) {
        (Some(FileType::Directory), _) => (path, None),
        (Some(FileType::RegularFile), Some(name)) => match split(name) {
            Some((stem, _)) => (path.parent().unwrap_or(Path::new("")), Some(stem)),
            None => return Ok(None),
        },
        (None, Some(name)) => (path.parent().unwrap_or(Path::new("")), Some(name)),
        _ => return Ok(None),
    };
    if dir.kind(parent)? != Some(FileType::Directory) {
        return Ok(None);
    }
    let mut parts: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut stems: Vec<String> = Vec::new();
    for (name, _) in dir.dir(parent)?.list()? {
        let found = name.to_str().and_then(split);
        match (found, stem) {
            (Some((of, number)), _) if stem.is_none_or(|s| s == of) => {
                stems.push(of.to_owned());
                parts.insert(number, parent.join(&name));
            }
            // A directory of an unpacked account, or with something else in it.
            (_, None) => return Ok(None),
            _ => {}
        }
    }
    stems.dedup();
    if parts.is_empty() || stems.len() > 1 {
        return Ok(None);
    }
    for (number, wanted) in parts.keys().zip(parts.keys().next().copied().unwrap_or(0).min(1)..) {
        if *number != wanted {
            let text = format!(
                "Part {wanted} of the split archive is missing: copy all its parts into one directory."
            );
            return Err(Error::new("truncated", text));
        }
    }
    Ok(Some(parts.into_values().collect()))
}

/// The name before `.part`, and the number behind it.
fn split(name: &str) -> Option<(&str, u64)> {
    let (stem, number) = name.rsplit_once(".part")?;
    let digits =
        !stem.is_empty() && number.len() <= 9 && number.bytes().all(|b| b.is_ascii_digit());
    Some((stem, number.parse().ok().filter(|_| digits)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path, path: &str) -> Result<Option<Vec<String>>> {
        let dir = Beneath::open(dir.canonicalize().unwrap()).unwrap();
        let found = of(&dir, Path::new(path))?;
        Ok(found.map(|p| p.iter().map(|p| p.display().to_string()).collect()))
    }

    #[test]
    fn parts_are_found_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        std::fs::create_dir(top.join("s")).unwrap();
        for n in 1..=11 {
            std::fs::write(top.join(format!("s/c.tar.gz.part{n:05}")), "x").unwrap();
        }
        let wanted: Vec<String> = (1..=11).map(|n| format!("s/c.tar.gz.part{n:05}")).collect();
        for path in ["s", "s/c.tar.gz", "s/c.tar.gz.part00001", "s/c.tar.gz.part00007"] {
            assert_eq!(names(top, path).unwrap().as_ref(), Some(&wanted), "{path}");
        }
        std::fs::write(top.join("s/other.tar.part00001"), "x").unwrap();
        assert_eq!(names(top, "s/c.tar.gz").unwrap().as_ref(), Some(&wanted));
        assert_eq!(names(top, "s").unwrap(), None);
        std::fs::remove_file(top.join("s/c.tar.gz.part00004")).unwrap();
        assert_eq!(names(top, "s/c.tar.gz").unwrap_err().code(), "truncated");
        std::fs::write(top.join("plain.tar"), "x").unwrap();
        assert_eq!(names(top, "plain.tar").unwrap(), None);
        assert_eq!(names(top, "nothing.tar").unwrap(), None);
    }

    #[test]
    fn the_first_part_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        for n in [2, 3] {
            std::fs::write(dir.path().join(format!("c.part{n}")), "x").unwrap();
        }
        assert_eq!(names(dir.path(), "c.part2").unwrap_err().code(), "truncated");
    }
}
