//! Space on the server's disks: a floor beneath which no step goes on, since MariaDB and mail must
//! live on, and a reserve from which undoing lives.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::layout;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::io::Write;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Less free space than this is a full disk.
pub const FLOOR: u64 = 16 << 20;
/// Kept for undoing: lines of small files, the users' files, MariaDB's and the journal's lines.
pub const RESERVE: u64 = 8 << 20;

/// Where steps write.
const PLACES: [&str; 4] = [layout::HOMES, layout::STATE, "/etc", "/var/lib/mysql"];

/// Fails with `disk_full` when a disk that steps write on is full.
pub fn check() -> Result<()> {
    match fullest() {
        Some((place, free)) if free < FLOOR => Err(disk_full(place, free)),
        _ => Ok(()),
    }
}

fn fullest() -> Option<(&'static str, u64)> {
    let free = |place: &'static str| {
        let stat = statvfs(place).ok()?;
        Some((place, stat.f_bavail.saturating_mul(stat.f_frsize)))
    };
    PLACES.iter().filter_map(|place| free(place)).min_by_key(|(_, free)| *free)
}

fn disk_full(place: &str, free: u64) -> Error {
    let text = format!(
        "The server's disk is full: {place} has {} KiB left, and {} MiB must stay free. Free some space on the server and try again.",
        free >> 10,
        FLOOR >> 20
    );
    Error::new("disk_full", text)
}

/// What a failure is due to, where a disk is full: programs and services tell that in many ways.
pub fn diagnosed(error: Error) -> Error {
    if ["stopped", "stale_fence", "disk_full"].contains(&error.code()) {
        return error;
    }
    let said = format!("{error} {}", error.cause().unwrap_or_default());
    match fullest() {
        Some((place, free)) if free < FLOOR || said.contains("No space left on device") => {
            disk_full(place, free).because(said)
        }
        _ => error,
    }
}

fn reserves(job: Uuid) -> [PathBuf; 3] {
    [
        layout::job(job).join("reserve"),
        layout::staging(job).join("reserve"),
        PathBuf::from(format!("{}/kept/{job}.reserve", layout::ETC)),
    ]
}

/// Sets space aside for undoing this job, once on each disk.
pub fn reserve(job: Uuid) -> Result<()> {
    let mut disks = Vec::new();
    for path in reserves(job) {
        let (root, rest) = Beneath::place(&path)?;
        let disk = root.stat("")?.map(|stat| stat.st_dev);
        if disks.contains(&disk) {
            continue;
        }
        disks.push(disk);
        root.remove(&rest)?;
        fill(&root, &rest)?;
    }
    Ok(())
}

fn fill(root: &Beneath, rest: &Path) -> Result<()> {
    let mut file = root.create(rest, Owner::root(0o600))?;
    match fallocate(&file, FallocateFlags::empty(), 0, RESERVE) {
        Ok(()) => {}
        // A file system that cannot set space aside takes bytes.
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0_u8; usize::try_from(RESERVE).unwrap_or(0)];
            file.write_all(&zeros).map_err(Error::at(rest))?;
        }
        Err(error) => return Err(Error::at(rest)(error)),
    }
    Ok(())
}

/// Gives the reserve up: what follows undoes the job, or nothing is left to undo.
pub fn release(job: Uuid) -> Result<()> {
    for path in reserves(job) {
        let (root, rest) = Beneath::place(&path)?;
        root.remove(rest)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_whatever_was_said() {
        let said = Error::new("dump_refused", "x").because("No space left on device (os error 28)");
        assert_eq!(diagnosed(said).code(), "disk_full");
        assert_eq!(diagnosed(Error::stopped()).code(), "stopped");
        let text = disk_full("/home", 12 << 10).to_string();
        assert!(text.contains("/home has 12 KiB left") && text.contains("Free some space"));
    }

    #[test]
    fn the_reserve_is_really_taken() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let top = Beneath::open(dir.path().canonicalize().unwrap()).unwrap();
        fill(&top, Path::new("reserve")).unwrap();
        let taken = std::fs::metadata(dir.path().join("reserve")).unwrap();
        assert!(taken.blocks() * 512 >= RESERVE);
    }
}
