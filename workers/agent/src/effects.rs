//! Changes to files that can be taken back: each is in the journal before it is made, and may be
//! made or taken back twice.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::guard;
use crate::job::{Begun, Job};
use crate::journal::{Effect, Journal};
use crate::layout;
use crate::lines;
use crate::people::{self, Person};
use crate::services::{self, Service};
use cpanel::account::Account;
use cpanel::plan::{Action, Operation, StepName};
use rustix::fs::FileType;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use values::Username;

/// A step at work on an operation: what it may read, and the one way in which it changes files.
pub struct Work<'a> {
    pub job: &'a Job<'a>,
    pub begun: &'a Begun,
    pub account: &'a Account,
    step: StepName,
    journal: Journal,
    operation: String,
    action: Action,
}

impl<'a> Work<'a> {
    /// Begins a step, or goes on with it.
    pub fn new(
        job: &'a Job<'a>,
        begun: &'a Begun,
        account: &'a Account,
        step: StepName,
    ) -> Result<Self> {
        let journal = Journal::open(job.id)?;
        let (operation, action) = (String::new(), Action::Create);
        Ok(Self { job, begun, account, step, journal, operation, action })
    }

    /// What follows is done for this operation.
    pub fn begin(&mut self, operation: &Operation) {
        operation.id.clone_into(&mut self.operation);
        self.action = operation.action;
    }

    /// The account's name on this server.
    pub fn user(&self) -> &'a Username {
        &self.begun.source.target_user
    }

    /// The account's user, who must be there.
    pub fn person(&self) -> Result<Person> {
        people::account(self.user())
    }

    /// Files of the account, with this mode.
    pub fn owner(&self, mode: u32) -> Result<Owner> {
        let person = self.person()?;
        Ok(Owner { uid: person.uid, gid: person.gid, mode })
    }

    /// What this job has done so far and still stands.
    pub fn done(&self) -> impl Iterator<Item = &Effect> {
        self.journal.entries().iter().map(|e| &e.what)
    }

    /// Whether this job put something at the path.
    pub fn placed(&self, path: &Path) -> bool {
        self.journal.placed(path).is_some()
    }

    /// Writes an effect down, unless the job did it before.
    pub fn record(&mut self, what: Effect) -> Result<()> {
        let known = match &what {
            Effect::Make { path } => self.journal.placed(path) == Some(&what),
            _ => self.done().any(|e| *e == what),
        };
        if known {
            return Ok(());
        }
        self.journal.record(self.step, &self.operation, what)
    }

    /// Where the next thing that is replaced will be kept: on the same file system.
    fn place_for_kept(&self, path: &Path) -> PathBuf {
        let area = if path.starts_with(layout::HOMES) {
            layout::kept_home(self.job.id)
        } else {
            layout::kept_etc(self.job.id)
        };
        area.join(self.journal.next().to_string())
    }

    /// Writes a file of configuration, keeping the one that stood there aside; by a merge, in its
    /// place. The service that reads it is noted first.
    pub fn put(
        &mut self,
        path: &Path,
        bytes: &[u8],
        owner: Owner,
        service: Option<Service>,
    ) -> Result<()> {
        let (root, rest) = Beneath::place(path)?;
        if root.read(&rest, 16 << 20)?.as_deref() == Some(bytes) {
            return Ok(());
        }
        let stands = root.stat(&rest)?.is_some();
        if self.action == Action::Merge && stands && self.journal.placed(path).is_none() {
            return Ok(());
        }
        if let Some(service) = service {
            services::will_change(service, self.job.id)?;
        }
        match self.journal.placed(path).cloned() {
            Some(Effect::Replace { kept, .. }) => keep(&root, &rest, &kept)?,
            Some(_) => {}
            None if stands => {
                let kept = self.place_for_kept(path);
                self.record(Effect::Replace { path: path.to_owned(), kept: kept.clone() })?;
                keep(&root, &rest, &kept)?;
            }
            None => self.record(Effect::Make { path: path.to_owned() })?,
        }
        let _lock = guard::changing_configuration()?;
        root.write(&rest, bytes, owner)
    }

    /// Makes a directory that only this job's undo removes, with all that is in it then; one that
    /// stands is taken as it is.
    pub fn make_dir(&mut self, path: &Path, owner: Owner) -> Result<()> {
        let (root, rest) = Beneath::place(path)?;
        if root.stat(&rest)?.is_none() {
            self.record(Effect::Make { path: path.to_owned() })?;
        }
        root.make_dir(&rest, owner)?;
        Ok(())
    }

    /// Puts aside what stands at the path.
    pub fn put_aside(&mut self, path: &Path) -> Result<()> {
        let (root, rest) = Beneath::place(path)?;
        let kept = match self.journal.placed(path).cloned() {
            Some(Effect::Replace { kept, .. }) => kept,
            Some(_) => return Ok(()),
            None if root.stat(&rest)?.is_none() => return Ok(()),
            None => {
                let kept = self.place_for_kept(path);
                self.record(Effect::Replace { path: path.to_owned(), kept: kept.clone() })?;
                kept
            }
        };
        let (area, name) = kept_place(&kept)?;
        if area.stat(name)?.is_some() { Ok(()) } else { keep_moved(&root, &rest, &kept) }
    }

    /// Sets the line that begins with `key:` in a file of ours; by a merge, if there is none.
    pub fn set_line(&mut self, file: &Path, key: &str, line: &str) -> Result<()> {
        let ours = self
            .done()
            .any(|e| matches!(e, Effect::Line { file: f, key: k, .. } if f == file && k == key));
        if !ours {
            let old = lines::get(file, key)?;
            if old.as_deref() == Some(line) || old.is_some() && self.action == Action::Merge {
                return Ok(());
            }
            self.record(Effect::Line { file: file.to_owned(), key: key.to_owned(), old })?;
        }
        lines::set(file, key, Some(line))
    }

    /// Removes the line that begins with `key:` from a file of ours, when what stands is replaced.
    pub fn clear_line(&mut self, file: &Path, key: &str) -> Result<()> {
        if self.action != Action::Replace {
            return Ok(());
        }
        if let Some(old) = lines::get(file, key)? {
            self.record(Effect::Line {
                file: file.to_owned(),
                key: key.to_owned(),
                old: Some(old),
            })?;
            lines::set(file, key, None)?;
        }
        Ok(())
    }

    /// Moves a file or tree out of staging to `path`. What stands there is kept aside
    /// ([`Action::Replace`]) or filled up with what is missing, level by level; gives how many things
    /// stayed out because something stood in their place.
    pub fn move_in(
        &mut self,
        from: &Beneath,
        name: &Path,
        path: &Path,
        how: Action,
    ) -> Result<u64> {
        self.job.check()?;
        let Some(kind) = from.kind(name)? else { return Ok(0) };
        let (root, rest) = Beneath::place(path)?;
        let standing = root.kind(&rest)?;
        let placed = self.journal.placed(path).cloned();
        match (standing, placed) {
            (None, Some(_)) => {}
            (None, None) => self.record(Effect::Make { path: path.to_owned() })?,
            // Cut off between keeping the old and moving in the new, or moved in and begun afresh.
            (Some(_), Some(Effect::Replace { kept, .. })) => {
                if Beneath::place(&kept).and_then(|(r, k)| r.stat(k))?.is_some() {
                    root.remove(&rest)?;
                } else {
                    keep_moved(&root, &rest, &kept)?;
                }
            }
            (Some(FileType::Directory), None)
                if kind == FileType::Directory && how != Action::Replace =>
            {
                return self.move_in_below(from, name, path, how);
            }
            (Some(_), Some(_)) => root.remove(&rest)?,
            (Some(_), None) if how == Action::Replace => {
                let kept = self.place_for_kept(path);
                self.record(Effect::Replace { path: path.to_owned(), kept: kept.clone() })?;
                keep_moved(&root, &rest, &kept)?;
            }
            (Some(_), None) => return Ok(1),
        }
        from.rename(name, &root, &rest)?;
        Ok(0)
    }

    fn move_in_below(
        &mut self,
        from: &Beneath,
        name: &Path,
        path: &Path,
        how: Action,
    ) -> Result<u64> {
        let below = from.dir(name)?;
        let mut stayed_out = 0_u64;
        for (child, _) in below.list()? {
            let child = Path::new(&child);
            let out = self.move_in(&below, child, &path.join(child), how)?;
            stayed_out = stayed_out.saturating_add(out);
        }
        Ok(stayed_out)
    }
}

/// Keeps a copy of a file that is about to be overwritten. The copy is there whole or not at all.
fn keep(root: &Beneath, rest: &Path, kept: &Path) -> Result<()> {
    let (area, name) = kept_place(kept)?;
    if area.stat(&name)?.is_some() {
        return Ok(());
    }
    let Some(stat) = root.stat(rest)? else { return Ok(()) };
    let bytes = root.read(rest, 16 << 20)?.unwrap_or_default();
    area.write(
        &name,
        &bytes,
        Owner { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o777 },
    )
}

/// Moves something aside that is about to be replaced.
fn keep_moved(root: &Beneath, rest: &Path, kept: &Path) -> Result<()> {
    let (area, name) = kept_place(kept)?;
    root.rename(rest, &area, &name)
}

fn kept_place(kept: &Path) -> Result<(Beneath, PathBuf)> {
    let parent = kept.parent().ok_or_else(|| Error::internal("a kept thing without a place"))?;
    let area = Beneath::private_dir(parent)?;
    Ok((area, PathBuf::from(kept.file_name().unwrap_or_default())))
}

/// Takes a change to files back. Gives false for effects of another kind.
pub fn undo_files(what: &Effect, job: Uuid) -> Result<bool> {
    match what {
        Effect::Make { path } => {
            before_undo(path, job)?;
            let _lock = guard::changing_configuration()?;
            let (root, rest) = Beneath::place(path)?;
            root.clear(rest)?;
        }
        Effect::Replace { path, kept } => {
            before_undo(path, job)?;
            let (area, name) = kept_place(kept)?;
            let _lock = guard::changing_configuration()?;
            if area.stat(&name)?.is_some() {
                let (root, rest) = Beneath::place(path)?;
                root.clear(&rest)?;
                area.rename(&name, &root, &rest)?;
            }
        }
        Effect::Line { file, key, old } => {
            lines::set(file, key, old.as_deref())?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Notes the services that read a file, by where it lies. Before something of a home goes, services
/// have let go of it: their processes must not write into a tree that is being removed. Before a
/// certificate goes, none names it any longer: one that still reads its old configuration would end.
fn before_undo(path: &Path, job: Uuid) -> Result<()> {
    if path.starts_with(layout::HOMES) {
        return services::apply_changes(job);
    }
    if path.starts_with(layout::TLS) {
        services::apply_changes(job)?;
        services::will_change(Service::Apache, job)?;
        return services::will_change(Service::Dovecot, job);
    }
    let readers: &[(&str, Service)] = &[
        ("/etc/migrapanel/sites", Service::Apache),
        ("/etc/migrapanel/tls-sites", Service::Apache),
        ("/etc/migrapanel/wildcard-sites", Service::Apache),
        ("/etc/migrapanel/tls-wildcard-sites", Service::Apache),
        ("/etc/migrapanel/dovecot-tls", Service::Dovecot),
        ("/etc/php", Service::PhpFpm),
    ];
    match readers.iter().find(|(dir, _)| path.starts_with(dir)) {
        Some((_, service)) => services::will_change(*service, job),
        None => Ok(()),
    }
}
