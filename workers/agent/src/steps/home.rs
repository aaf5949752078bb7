//! The home directory: made, and filled from staging by renames.

use super::{Done, migrated};
use crate::beneath::{Beneath, Owner};
use crate::effects::Work;
use crate::error::Result;
use crate::layout;
use crate::unpack;
use cpanel::plan::Action;
use cpanel::protocol::Outcome;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use values::RelPath;

/// Makes the home, closed to other accounts, and the account's own place for temporary files.
pub fn create(work: &mut Work<'_>, action: Action) -> Result<Done> {
    let home = PathBuf::from(work.user().home());
    let owner = work.owner(0o711)?;
    if action == Action::Replace {
        work.put_aside(&home)?;
    }
    work.make_dir(&home, owner)?;
    for name in ["tmp", "mail"] {
        work.make_dir(&home.join(name), Owner { mode: 0o700, ..owner })?;
    }
    Ok(migrated())
}

/// Fills the home with the archive's files.
pub fn restore(work: &mut Work<'_>, action: Action, only: &BTreeSet<RelPath>) -> Result<Done> {
    let unpacked = unpack::ensure(work)?;
    let staging = Beneath::open(layout::staging(work.job.id))?.dir(unpack::HOME)?;
    let home = PathBuf::from(work.user().home());
    let mut stayed_out = 0_u64;
    let mut paths: Vec<PathBuf> = only.iter().map(|p| PathBuf::from(p.as_str())).collect();
    if only.is_empty() {
        paths = staging.list()?.into_iter().map(|(name, _)| PathBuf::from(name)).collect();
    }
    for path in paths {
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut above = home.clone();
        for part in parent.components() {
            above.push(part);
            work.make_dir(&above, work.owner(0o750)?)?;
        }
        let out = work.move_in(&staging, &path, &home.join(&path), action)?;
        stayed_out = stayed_out.saturating_add(out);
    }
    let mut notes = Vec::new();
    let mut note = |count: u64, text: &str| {
        if count > 0 {
            notes.push(format!("{count} {text}"));
        }
    };
    note(stayed_out, "files stayed as they were on the server");
    note(unpacked.dropped_links, "links that led out of the home were left out");
    let names = unpacked.closed_names.join(", ");
    note(
        unpacked.closed,
        &format!("files or directories that nobody may open stay closed ({names})"),
    );
    note(unpacked.displaced, "links or files gave way to a directory of the same name");
    note(unpacked.other, "special files were left out");
    note(unpacked.htaccess, ".htaccess files had cPanel's PHP handlers switched off");
    note(unpacked.php_settings, "PHP settings moved from .htaccess to .user.ini");
    note(unpacked.php_settings_lost, "PHP settings in .htaccess files have no effect here");
    note(unpacked.mended, "configuration files had the quotes of a database's password mended");
    note(unpacked.rewritten, "configuration files got new names or passwords of databases");
    if notes.is_empty() {
        return Ok(migrated());
    }
    Ok((Outcome::Adapted, format!("{}.", notes.join("; "))))
}
