//! The archive file itself: opened once, inside a backup directory, and never by way of a link.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::parts;
use cpanel::archive;
use cpanel::protocol::Source;
use rustix::fs::FileType;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Opens the archive for one pass. Fails when it lies in no backup directory.
pub fn open(source: &Source) -> Result<archive::Source<'static>> {
    let (dir, rest) = place(source)?;
    if let Some(parts) = parts::of(&dir, &rest)? {
        let mut whole: Box<dyn Read> = Box::new(std::io::empty());
        for part in parts {
            whole = Box::new(whole.chain(dir.file(part)?));
        }
        return Ok(archive::Source::File(whole));
    }
    match dir.kind(&rest)? {
        Some(FileType::RegularFile) => Ok(archive::Source::File(Box::new(dir.file(&rest)?))),
        Some(FileType::Directory) => {
            // Opened here to be sure of the way to it; nobody but root can change the way.
            dir.dir(&rest)?;
            Ok(archive::Source::Directory(PathBuf::from(source.path.as_str())))
        }
        Some(_) => Err(Error::new("not_an_archive", "The path is neither a file nor a directory.")),
        None => {
            Err(Error::new("archive_not_found", "There is no archive at this path on the server."))
        }
    }
}

/// The backup directory that the archive lies in, and the path below it.
pub fn place(source: &Source) -> Result<(Beneath, PathBuf)> {
    for dir in &source.backup_dirs {
        if source.path.is_within(dir) && source.path != *dir {
            let rest = Path::new(source.path.as_str()).strip_prefix(dir.as_str());
            let rest = rest.map_err(Error::internal)?;
            return Ok((Beneath::open(dir.as_str())?, rest.to_owned()));
        }
    }
    Err(Error::new(
        "path_outside_backup_dirs",
        "The archive must lie in one of the server's backup directories.",
    ))
}
