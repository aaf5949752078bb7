//! Before a rollback takes things back, what was added or altered since apply is put aside.

use crate::beneath::{Beneath, Owner};
use crate::changes;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::journal::{Effect, Entry};
use crate::layout;
use crate::mariadb;
use crate::steps::dump_to;
use rustix::fs::FileType;
use std::path::{Path, PathBuf};

/// Dumps each database that the entries made, and packs each file of theirs that is new or changed.
/// What is parked already stays as it is. Without a finished apply there is nothing to park.
pub fn park(job: &Job<'_>, entries: &[Entry]) -> Result<()> {
    let Some(baseline) = changes::baseline(job.id)? else { return Ok(()) };
    let dir = layout::parked(job.id);
    let area = Beneath::private_dir(&dir)?;
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        job.check()?;
        match &entry.what {
            Effect::Database { name, .. } if mariadb::has_database(name)? => {
                dump_to(name, &dir.join(format!("{name}.sql")))?;
            }
            Effect::Make { path } | Effect::Replace { path, .. }
                if path.starts_with(layout::HOMES) =>
            {
                files.extend(changes::changed_files(path, &baseline)?);
            }
            _ => {}
        }
    }
    files.sort();
    files.dedup();
    let step = entries.first().map(|e| e.step);
    let name = serde_json::to_value(step)?.as_str().unwrap_or("none").to_owned() + ".tar";
    if files.is_empty() || area.stat(&name)?.is_some() {
        return Ok(());
    }
    pack(job, &area, &name, &files)
}

fn pack(job: &Job<'_>, area: &Beneath, name: &str, files: &[PathBuf]) -> Result<()> {
    let new = format!("{name}.new");
    area.remove(&new)?;
    let mut archive = tar::Builder::new(area.create(&new, Owner::root(0o600))?);
    for path in files {
        job.check()?;
        add(&mut archive, path)?;
    }
    let file = archive.into_inner()?;
    file.sync_all()?;
    area.rename(&new, area, name)
}

fn add(archive: &mut tar::Builder<std::fs::File>, path: &Path) -> Result<()> {
    let (root, rest) = Beneath::place(path)?;
    let Some(stat) = root.stat(&rest)? else { return Ok(()) };
    let mut header = tar::Header::new_gnu();
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mode(stat.st_mode & 0o7777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = root.file(&rest)?;
            // It may grow while it is read: what it had now is what is kept.
            let size = file.metadata()?.len();
            header.set_size(size);
            let body = std::io::Read::take(file, size);
            archive.append_data(&mut header, &rest, body).map_err(Error::at(path))
        }
        FileType::Symlink => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            let target = root.link_target(&rest)?;
            archive.append_link(&mut header, &rest, target).map_err(Error::at(path))
        }
        _ => Ok(()),
    }
}
