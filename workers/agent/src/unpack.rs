//! The second pass over the archive: everything that the plan restores is laid out in the job's
//! staging, with the account's ids and without what could do harm, to be renamed into place by the
//! steps. The archive must be the very one that was analyzed.

use crate::appconfig::{self, Rewrites};
use crate::beneath::{Beneath, Owner};
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::htaccess;
use crate::job::{Job, read_json, write_json};
use crate::layout;
use crate::quotes;
use crate::source;
use crate::space;
use crate::template;
use crate::uidlist;
use cpanel::account::{Account, DatabaseAuth, MailFormat};
use cpanel::archive::{self, Entry, Kind};
use cpanel::home::{self, Part};
use cpanel::member::MemberPath;
use cpanel::plan::Resource;
use cpanel::rehome::with_home;
use cpanel::stream::Limits;
use rustix::fs::{FileType, Stat, Timespec, Timestamps};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use uuid::Uuid;
use values::RelPath;

/// What the pass did with the home's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    pub files: u64,
    pub bytes: u64,
    /// Links that led out of the home, and things that are neither file, directory nor link.
    pub dropped_links: u64,
    pub other: u64,
    /// Configuration files of applications that got new names or passwords of databases.
    pub rewritten: u64,
    /// Old name of a database user that got a new password → some of the files that have it now.
    #[serde(default)]
    pub passwords: BTreeMap<String, Vec<String>>,
    /// Files in which the password of a database had its own quotes unescaped.
    #[serde(default)]
    pub mended: u64,
    /// `.htaccess` files in which cPanel's PHP handlers were switched off.
    pub htaccess: u64,
    /// Settings of PHP in `.htaccess` files that were moved to `.user.ini`, and that were not.
    pub php_settings: u64,
    pub php_settings_lost: u64,
    /// Files and directories that nobody may open, as in the archive, and some of their names.
    #[serde(default)]
    pub closed: u64,
    #[serde(default)]
    pub closed_names: Vec<String>,
    /// Links and files that gave way to a directory of the same name.
    #[serde(default)]
    pub displaced: u64,
}

/// How many files of a kind are named in a report.
const FILES_NAMED: usize = 10;

/// Below the job's staging.
pub const HOME: &str = "home";
/// A directory a mailbox, by its address.
pub const MAIL: &str = "mail";
/// A directory a mailbox that has yet to become a maildir, by its address.
pub const MDBOX: &str = "mdbox";
/// A file a database, by its old name.
pub const DUMPS: &str = "dumps";
/// A script an automatic answer, to be checked.
pub const SIEVE: &str = "sieve";

fn marker(job: Uuid) -> PathBuf {
    layout::staging(job).join("unpacked.json")
}

/// Makes the next [`ensure`] unpack afresh.
pub fn forget(job: Uuid) -> Result<()> {
    let (root, rest) = Beneath::place(&marker(job))?;
    root.remove(rest)
}

/// Removes what was unpacked; the account's description stays, for another try.
pub fn discard(job: Uuid) -> Result<()> {
    let (root, rest) = Beneath::place(&layout::staging(job))?;
    for area in [HOME, MAIL, MDBOX, DUMPS, SIEVE, appconfig::PASSWORDS] {
        root.remove(rest.join(area))?;
    }
    Ok(())
}

/// Unpacks what the plan needs, once for the job.
pub fn ensure(work: &Work<'_>) -> Result<Unpacked> {
    let marker = marker(work.job.id);
    if let Some(done) = read_json(&marker)? {
        return Ok(done);
    }
    let staging = Beneath::private_dir(&layout::staging(work.job.id))?;
    for area in [HOME, MAIL, MDBOX, DUMPS] {
        staging.remove(area)?;
        staging.make_dir(area, Owner::root(0o700))?;
    }
    let done = match work.begun.template {
        true => template::lay(work, &staging)?,
        false => writing_back(&staging, || pass(work, &staging))?,
    };
    rustix::fs::syncfs(staging.fd())?;
    write_json(&marker, &done)?;
    Ok(done)
}

fn pass(work: &Work<'_>, staging: &Beneath) -> Result<Unpacked> {
    let begun = work.begun;
    let mut unpacker = Unpacker {
        job: work.job,
        account: work.account,
        sites: home::Sites::of(work.account),
        wanted: Wanted::of(work)?,
        staging,
        owner: work.owner(0o600)?,
        home: work.user().home(),
        made: PathBuf::new(),
        settings: BTreeMap::new(),
        rewrites: Rewrites::of(work.job, &begun.plan)?,
        hashes: native_hashes(work.account),
        buffer: vec![0; 64 << 10],
        done: Unpacked::default(),
    };
    let size = begun.archive.size_bytes;
    let mut progress = |read: u64| {
        let told =
            work.job.check().and_then(|()| space::check()).and_then(|()| {
                work.job.events.progress(read, size.max(read), "Unpacking the archive")
            });
        told.map_err(io::Error::other)
    };
    let limits = Limits::default();
    let source = source::open(&begun.source)?;
    let read = archive::read(source, &limits, &mut progress, |entry| unpacker.member(entry));
    // A stop inside the reader comes back as a failed read, and so does a full disk.
    work.job.check()?;
    space::check()?;
    let totals = read?;
    if totals.sha256 != begun.archive.sha256 {
        let text = "The archive is not the one that was analyzed: analyze it again.";
        return Err(Error::new("archive_changed", text));
    }
    unpacker.write_settings()?;
    Ok(unpacker.done)
}

/// How often what was unpacked is brought to the disk.
const WRITE_BACK_EVERY: Duration = Duration::from_millis(250);

/// Does the work while another thread brings its files to the disk: at the end there is little left
/// to wait for.
fn writing_back<T>(staging: &Beneath, work: impl FnOnce() -> T) -> T {
    let (ended, end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while end.recv_timeout(WRITE_BACK_EVERY) == Err(RecvTimeoutError::Timeout) {
                // The one behind the work tells whether it failed.
                if rustix::fs::syncfs(staging.fd()).is_err() {
                    return;
                }
            }
        });
        let done = work();
        drop(ended);
        done
    })
}

/// What the plan needs of the archive.
#[derive(Default)]
struct Wanted {
    /// None: no files. Empty: all of them.
    files: Option<BTreeSet<RelPath>>,
    /// Where a mailbox lies in the archive's home → its address.
    mailboxes: BTreeMap<Vec<u8>, String>,
    /// Those of them in the form of mdbox.
    mdboxes: BTreeSet<String>,
    /// Member → database.
    dumps: BTreeMap<Vec<u8>, String>,
}

impl Wanted {
    fn of(work: &Work<'_>) -> Result<Self> {
        let mut wanted = Self::default();
        let account = work.account;
        for operation in &work.begun.plan.operations {
            match &operation.resource {
                Resource::Files { only, .. } => wanted.files = Some(only.clone()),
                Resource::Mailbox { address, .. } => {
                    let known = account.mail.mailboxes.iter().find(|m| m.address == *address);
                    if known.is_some_and(|m| m.format == MailFormat::Mdbox) {
                        wanted.mdboxes.insert(address.to_string());
                    }
                    let path = known.map(|m| m.path.as_str().as_bytes().to_vec());
                    wanted.mailboxes.extend(path.map(|p| (p, address.to_string())));
                }
                Resource::Database { source, .. } => {
                    let known = account.databases.iter().find(|d| d.name == *source);
                    let member = known.and_then(|d| d.member.as_ref());
                    let member = member.map(|m| m.as_str().as_bytes().to_vec());
                    wanted.dumps.extend(member.map(|m| (m, source.to_string())));
                }
                _ => {}
            }
        }
        Ok(wanted)
    }

    fn file(&self, path: &MemberPath) -> bool {
        let Some(only) = &self.files else { return false };
        let Some(text) = path.to_str().and_then(|t| RelPath::parse(t).ok()) else {
            return only.is_empty();
        };
        // A directory above a wanted path is made on the way.
        only.is_empty() || only.iter().any(|o| text.is_within(o))
    }

    /// The mailbox that a path below `mail` belongs to, and the path inside it.
    fn mailbox(&self, path: &MemberPath) -> Option<(&str, MemberPath)> {
        let mut inside: Vec<&[u8]> = Vec::new();
        let mut outer: Vec<&[u8]> = path.components().collect();
        while !outer.is_empty() {
            if let Some(address) = self.mailboxes.get(&outer.join(&b'/')) {
                inside.reverse();
                return Some((address, MemberPath::parse(&inside.join(&b'/')).ok()?));
            }
            inside.extend(outer.pop());
        }
        None
    }
}

struct Unpacker<'u> {
    job: &'u Job<'u>,
    account: &'u Account,
    sites: home::Sites,
    wanted: Wanted,
    staging: &'u Beneath,
    /// The account's ids.
    owner: Owner,
    /// The home's path on this server.
    home: String,
    /// The directory that was made last.
    made: PathBuf,
    /// Directory → settings for its `.user.ini`, written when all files are there.
    settings: BTreeMap<PathBuf, Vec<(String, String)>>,
    rewrites: Rewrites,
    /// Of the passwords of the account's database users.
    hashes: BTreeSet<String>,
    /// What is read of a file at once, and the shortest run of zeros that becomes a hole.
    buffer: Vec<u8>,
    done: Unpacked,
}

impl Unpacker<'_> {
    fn member(&mut self, entry: Entry<'_>) -> Result<()> {
        self.job.check()?;
        if let Some(database) = self.wanted.dumps.get(entry.path.as_bytes()).cloned() {
            return self.dump(&database, entry);
        }
        let Some(path) = entry.path.below("homedir").filter(|p| !p.is_root()) else {
            return Ok(());
        };
        match self.sites.part(&path) {
            Part::File if self.wanted.file(&path) => self.file(&path, entry),
            Part::Mail => self.mail(&path, entry),
            _ => Ok(()),
        }
    }

    fn dump(&self, database: &str, entry: Entry<'_>) -> Result<()> {
        let path = Path::new(DUMPS).join(database);
        self.staging.remove(&path)?;
        let mut file = self.staging.create(&path, Owner::root(0o600))?;
        io::copy(entry.body, &mut file).map_err(Error::at(&path)).map(drop)
    }

    fn file(&mut self, path: &MemberPath, entry: Entry<'_>) -> Result<()> {
        let to = Path::new(HOME).join(os(path.as_bytes()));
        match &entry.kind {
            Kind::Directory => {
                self.note_closed(path, entry.mode);
                return self.directory(&to, entry.mode);
            }
            Kind::File => {
                self.note_closed(path, entry.mode);
                self.done.files = self.done.files.saturating_add(1);
                self.done.bytes = self.done.bytes.saturating_add(entry.size);
                let is_config = [&b".htaccess"[..], b".user.ini", b"php.ini"]
                    .contains(&to.file_name().unwrap_or_default().as_bytes());
                if is_config && entry.size <= htaccess::SIZE_MAX {
                    return self.web_config(&to, entry);
                }
                if entry.size <= appconfig::SIZE_MAX && appconfig::is_config(&to) {
                    return self.app_config(&to, entry);
                }
                return self.regular(&to, entry);
            }
            Kind::Symlink(target) => {
                if let Some(target) = self.inside_home(path, target) {
                    self.parents(&to)?;
                    self.clear(&to)?;
                    return self.staging.symlink(os(&target), &to, self.owner);
                }
                self.done.dropped_links = self.done.dropped_links.saturating_add(1);
            }
            Kind::Hardlink(target) => {
                let target = target.as_ref().and_then(|t| t.below("homedir"));
                let target =
                    target.filter(|t| self.sites.part(t) == Part::File && self.wanted.file(t));
                let from = target.map(|t| Path::new(HOME).join(os(t.as_bytes())));
                if !self.link(from, &to)? {
                    self.done.dropped_links = self.done.dropped_links.saturating_add(1);
                }
            }
            Kind::Other => self.done.other = self.done.other.saturating_add(1),
        }
        Ok(())
    }

    /// What nobody may open is named: it may be something harmful that was put out of action.
    fn note_closed(&mut self, path: &MemberPath, mode: u32) {
        if is_closed(mode) {
            self.done.closed = self.done.closed.saturating_add(1);
            if self.done.closed_names.len() < FILES_NAMED {
                self.done.closed_names.push(path.to_string());
            }
        }
    }

    fn link(&mut self, from: Option<PathBuf>, to: &Path) -> Result<bool> {
        let Some(from) = from else { return Ok(false) };
        if self.staging.kind(&from)? != Some(FileType::RegularFile) {
            return Ok(false);
        }
        self.parents(to)?;
        self.clear(to)?;
        self.staging.link(&from, to)?;
        Ok(true)
    }

    /// What of a maildir is kept: messages, folders, and the files by which clients recognise them.
    fn mail(&mut self, path: &MemberPath, entry: Entry<'_>) -> Result<()> {
        let Some((address, inside)) = self.wanted.mailbox(path) else { return Ok(()) };
        let entry = Entry { mode: entry.mode | 0o400, ..entry };
        if self.wanted.mdboxes.contains(address) {
            let to = Path::new(MDBOX).join(address).join(os(inside.as_bytes()));
            return self.mdbox(&to, &inside, entry);
        }
        let base = Path::new(MAIL).join(address);
        let renamed = renamed_folder(&inside);
        let inside = renamed.as_ref().unwrap_or(&inside);
        let parts: Vec<&[u8]> = inside.components().collect();
        let is_box = |p: &[u8]| [&b"cur"[..], b"new", b"tmp"].contains(&p);
        let is_folder = |p: &[u8]| p.starts_with(b".") && p.len() > 1;
        let is_state = |p: &[u8]| {
            [&b"dovecot-keywords"[..], b"subscriptions", b"maildirfolder"].contains(&p)
                || p.starts_with(b"dovecot-uidvalidity")
        };
        let inner = match parts.split_first() {
            Some((first, rest)) if is_folder(first) => rest,
            _ => parts.as_slice(),
        };
        let to = base.join(os(inside.as_bytes()));
        match (inner, &entry.kind) {
            ([], Kind::Directory) => self.directory(&to, 0o700),
            ([one], Kind::Directory) if is_box(one) => self.directory(&to, 0o700),
            // To clients a renamed folder is another one, and it may have met one of this name.
            ([_], Kind::File) if renamed.is_some() => Ok(()),
            ([b"dovecot-uidlist"], Kind::File) => self.uidlist(&to, entry),
            ([one], Kind::File) if is_state(one) => self.regular(&to, entry),
            ([one, _], Kind::File) if is_box(one) && *one != b"tmp" => self.regular(&to, entry),
            ([one, _], Kind::Hardlink(Some(target))) if is_box(one) && *one != b"tmp" => {
                let target = target.below("homedir").filter(|t| home::part(t) == Part::Mail);
                let found = target.as_ref().and_then(|t| self.wanted.mailbox(t));
                let from = found.map(|(a, i)| {
                    let i = renamed_folder(&i).unwrap_or(i);
                    Path::new(MAIL).join(a).join(os(i.as_bytes()))
                });
                self.link(from, &to).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// All of an mdbox: which of its files are needed, only Dovecot knows.
    fn mdbox(&mut self, to: &Path, inside: &MemberPath, entry: Entry<'_>) -> Result<()> {
        let first = inside.components().next().unwrap_or_default();
        let is_part = [&b"storage"[..], b"mailboxes", b"subscriptions"].contains(&first)
            || first.starts_with(b"dovecot");
        match &entry.kind {
            Kind::Directory if is_part => self.directory(to, 0o700),
            Kind::File if is_part => self.regular(to, entry),
            _ => Ok(()),
        }
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        let Some(parent) = path.parent().filter(|p| *p != self.made) else { return Ok(()) };
        let mut made = PathBuf::new();
        for component in parent.components() {
            made.push(component);
            self.make_way(&made)?;
            self.staging.make_dir(&made, Owner { mode: 0o750, ..self.owner })?;
        }
        self.made = parent.to_owned();
        Ok(())
    }

    /// An archive may have a link, or a file, where it has a directory later: nothing is ever laid
    /// out through a link.
    fn make_way(&mut self, path: &Path) -> Result<()> {
        if make_way(self.staging, path)? {
            self.done.displaced = self.done.displaced.saturating_add(1);
        }
        Ok(())
    }

    /// Removes what an earlier member of this name has left.
    fn clear(&mut self, path: &Path) -> Result<()> {
        if self.made.starts_with(path) {
            self.made = PathBuf::new();
        }
        self.staging.remove(path)
    }

    fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        self.parents(path)?;
        self.make_way(path)?;
        let mode = if is_closed(mode) { 0 } else { mode & 0o770 | 0o700 };
        let owner = Owner { mode, ..self.owner };
        if !self.staging.make_dir(path, owner)? {
            self.staging.set_owner(path, owner)?;
        }
        Ok(())
    }

    /// Nobody but the account may read, nobody may become somebody else, and the time stays.
    fn regular(&mut self, path: &Path, entry: Entry<'_>) -> Result<()> {
        self.write(path, entry.mode, entry.mtime, entry.body)
    }

    fn uidlist(&mut self, path: &Path, entry: Entry<'_>) -> Result<()> {
        let mut head = Vec::new();
        entry.body.take(uidlist::HEAD_BYTES).read_to_end(&mut head).map_err(Error::at(path))?;
        if !uidlist::is_sound(&head) {
            return Ok(());
        }
        self.write(path, entry.mode, entry.mtime, &mut head.as_slice().chain(entry.body))
    }

    fn write(&mut self, path: &Path, mode: u32, mtime: u64, body: &mut dyn Read) -> Result<()> {
        self.parents(path)?;
        let mode = if is_closed(mode) { 0 } else { mode & 0o770 | 0o400 };
        let owner = Owner { mode, ..self.owner };
        // Looking first costs as much as making.
        let file = match self.staging.try_create(path, owner)? {
            Some(file) => file,
            None => {
                self.clear(path)?;
                self.staging.create(path, owner)?
            }
        };
        self.copy(body, &file).map_err(Error::at(path))?;
        let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::futimens(&file, &times).map_err(Error::at(path))
    }

    /// Long runs of zeros become holes again: a file that had some may be larger than the disk.
    fn copy(&mut self, body: &mut dyn Read, mut file: &File) -> io::Result<()> {
        let mut length = 0_u64;
        let mut ends_in_hole = false;
        loop {
            let n = read_full(body, &mut self.buffer)?;
            let chunk = self.buffer.get(..n).unwrap_or_default();
            if chunk.is_empty() {
                break;
            }
            length = length.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            ends_in_hole = n == self.buffer.len() && chunk.iter().all(|b| *b == 0);
            if ends_in_hole {
                file.seek(SeekFrom::Start(length))?;
            } else {
                file.write_all(chunk)?;
            }
        }
        if ends_in_hole { file.set_len(length) } else { Ok(()) }
    }

    fn web_config(&mut self, path: &Path, entry: Entry<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        entry.body.read_to_end(&mut bytes).map_err(Error::at(path))?;
        let homes: Vec<&str> = self.account.source.homes.iter().map(|h| h.as_str()).collect();
        let moved = with_home(&bytes, &homes, &self.home);
        let (text, switched_off) = match path.file_name() {
            Some(name) if name == ".htaccess" => {
                self.keep_settings(path, &moved);
                htaccess::without_handlers(&moved)
            }
            _ => (moved, false),
        };
        if switched_off {
            self.done.htaccess = self.done.htaccess.saturating_add(1);
        }
        self.write(path, entry.mode, entry.mtime, &mut text.as_slice())
    }

    fn keep_settings(&mut self, path: &Path, text: &[u8]) {
        let (settings, lost) = htaccess::php_settings(text, &self.home);
        self.done.php_settings_lost = self.done.php_settings_lost.saturating_add(lost);
        if let Some(dir) = path.parent().filter(|_| !settings.is_empty()) {
            self.settings.insert(dir.to_owned(), settings);
        }
    }

    fn write_settings(&mut self) -> Result<()> {
        for (dir, settings) in std::mem::take(&mut self.settings) {
            let path = dir.join(".user.ini");
            // A link or a directory of that name is the site's own affair, and so is a closed file.
            let stat = self.staging.stat(&path)?;
            let is_file = |s: &Stat| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile;
            if stat.is_some_and(|s| !is_file(&s) || is_closed(s.st_mode)) {
                continue;
            }
            let old = self.staging.read(&path, htaccess::SIZE_MAX)?.unwrap_or_default();
            let new = htaccess::with_settings(&old, &settings);
            self.staging.write(&path, &new, Owner { mode: 0o640, ..self.owner })?;
            let count = u64::try_from(settings.len()).unwrap_or(u64::MAX);
            self.done.php_settings = self.done.php_settings.saturating_add(count);
        }
        Ok(())
    }

    fn app_config(&mut self, path: &Path, entry: Entry<'_>) -> Result<()> {
        let mut bytes = Vec::new();
        entry.body.read_to_end(&mut bytes).map_err(Error::at(path))?;
        if let Some(new) = quotes::mended(&bytes, &self.hashes) {
            self.done.mended = self.done.mended.saturating_add(1);
            bytes = new;
        }
        if let Some((new, user)) = self.rewrites.apply(&bytes) {
            self.done.rewritten = self.done.rewritten.saturating_add(1);
            if let Some(user) = user {
                let shown = path.strip_prefix(HOME).unwrap_or(path);
                let shown = cpanel::member::shown(shown.as_os_str().as_bytes());
                let files = self.done.passwords.entry(user.to_owned()).or_default();
                if files.len() < FILES_NAMED {
                    files.push(shown);
                }
            }
            bytes = new;
        }
        self.write(path, entry.mode, entry.mtime, &mut bytes.as_slice())
    }

    /// A link's target as it may stand in the home: relative and not climbing out, or absolute into
    /// the old home, which becomes the new one.
    fn inside_home(&self, path: &MemberPath, target: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(target).ok()?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return None;
        }
        if text.starts_with('/') {
            let target = values::AbsPath::parse(text).ok()?;
            let rest = self.account.source.below_home(&target)?;
            return Some(format!("{}/{rest}", self.home).trim_end_matches('/').as_bytes().to_vec());
        }
        let mut depth = path.components().count().checked_sub(1)?;
        for component in text.split('/') {
            match component {
                "" | "." => {}
                ".." => depth = depth.checked_sub(1)?,
                _ => depth = depth.saturating_add(1),
            }
        }
        Some(target.to_vec())
    }
}

/// The path inside a mailbox under the name that its folder gets; none when it keeps its own.
fn renamed_folder(inside: &MemberPath) -> Option<MemberPath> {
    let text = inside.to_str()?;
    let (folder, rest) = text.split_once('/').unwrap_or((text, ""));
    let name = folder.strip_prefix('.')?;
    let new = home::folder_name(name);
    let path = format!(".{new}/{rest}");
    (new != name).then(|| MemberPath::parse(path.trim_end_matches('/').as_bytes()).ok())?
}

/// Whether not even its owner may open it.
const fn is_closed(mode: u32) -> bool {
    mode & 0o700 == 0
}

/// Fills the buffer as far as there is something to read.
fn read_full(body: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|r| !r.is_empty()) {
        match body.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn native_hashes(account: &Account) -> BTreeSet<String> {
    let users = account.database_users.iter();
    users
        .filter_map(|user| match &user.auth {
            DatabaseAuth::Native(hash) => Some(hash.reveal().to_owned()),
            DatabaseAuth::Unusable(_) => None,
        })
        .collect()
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Removes what stands where a directory is needed, unless it is one. Whether anything stood there.
fn make_way(staging: &Beneath, path: &Path) -> Result<bool> {
    match staging.kind(path)? {
        None | Some(FileType::Directory) => Ok(false),
        Some(_) => staging.remove(path).map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_gives_way_to_a_directory() {
        let outside = tempfile::tempdir().unwrap();
        let top = tempfile::tempdir().unwrap();
        let top = Beneath::open(top.path().canonicalize().unwrap()).unwrap();
        let uid = rustix::process::getuid().as_raw();
        let owner = Owner { uid, gid: rustix::process::getgid().as_raw(), mode: 0o700 };
        top.symlink(outside.path().as_os_str(), "chaindir", owner).unwrap();
        assert!(make_way(&top, Path::new("chaindir")).unwrap());
        assert!(top.make_dir("chaindir", owner).unwrap());
        assert!(!make_way(&top, Path::new("chaindir")).unwrap());
        top.write("chaindir/y", b"y", owner).unwrap();
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
