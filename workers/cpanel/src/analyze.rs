//! One pass over an archive: hash, counts and metadata, and from these the account.

use crate::account::Account;
use crate::archive::{self, Entry, Kind, Source, Totals};
use crate::assemble::assemble;
use crate::dump::Dump;
use crate::error::Error;
use crate::home::{self, Part};
use crate::member::MemberPath;
use crate::members::Members;
use crate::stream::{Limits, Progress};
use std::io::Read;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    pub account: Account,
    pub totals: Totals,
}

/// Reads an archive once, from its first byte to its last. Nothing is written; memory holds the
/// metadata and counts, not contents.
pub fn read_account<'a>(
    source: Source<'a>,
    limits: &'a Limits,
    progress: Progress<'a>,
) -> Result<Parsed, Error> {
    let mut collector = Collector { members: Members::default(), limits, kept: 0 };
    let totals = archive::read(source, limits, progress, |entry| collector.visit(entry))?;
    let account = assemble(&collector.members, &totals)?;
    Ok(Parsed { account, totals })
}

/// Distinct mailboxes and folders that are counted.
const MAILDIRS_MAX: usize = 100_000;
const TOPS_MAX: usize = 1000;
/// Directories that may be left behind and are told apart.
const LEFT_MAX: usize = 100_000;

struct Collector<'l> {
    members: Members,
    limits: &'l Limits,
    /// Bytes of metadata that are kept.
    kept: u64,
}

impl Collector<'_> {
    fn visit(&mut self, entry: Entry<'_>) -> Result<(), Error> {
        self.note_top(&entry);
        let text = entry.path.to_str().map(str::to_owned);
        if let Some(path) = entry.path.below("homedir") {
            self.members.home = true;
            if !path.is_root() {
                self.visit_home(&path, &entry)?;
            }
        }
        let (Some(path), Kind::File) = (text, &entry.kind) else { return Ok(()) };
        if is_dump(&path) {
            let dump = Dump::scan(entry.body, path.ends_with(".gz"))?;
            return match self.members.dumps.insert(path, dump) {
                None => Ok(()),
                Some(_) => Err(twice(&entry.path)),
            };
        }
        if is_metadata(&path) {
            return self.keep(path, entry);
        }
        Ok(())
    }

    fn note_top(&mut self, entry: &Entry<'_>) {
        let mut components = entry.path.components().map(String::from_utf8_lossy);
        let Some(mut top) = components.next().map(std::borrow::Cow::into_owned) else { return };
        if top == "homedir" {
            match components.next().as_deref() {
                Some(second @ ("mail" | "etc")) => top = format!("homedir/{second}"),
                _ => return,
            }
        }
        if self.members.tops.len() < TOPS_MAX || self.members.tops.contains_key(&top) {
            *self.members.tops.entry(top).or_default() += u64::from(entry.kind == Kind::File);
        }
    }

    fn visit_home(&mut self, path: &MemberPath, entry: &Entry<'_>) -> Result<(), Error> {
        match home::part(path) {
            Part::File if entry.kind != Kind::Other => {
                let files = &mut self.members.files;
                files.entries = files.entries.saturating_add(1);
                files.bytes = files.bytes.saturating_add(entry.size);
            }
            Part::LeftBehind if entry.kind != Kind::Other => self.count_left(path, entry),
            Part::SshKeys => self.members.ssh_keys = true,
            Part::Mail => self.visit_mail(path, entry)?,
            _ => {}
        }
        Ok(())
    }

    fn count_left(&mut self, path: &MemberPath, entry: &Entry<'_>) {
        let full = path.as_bytes();
        let (directory, is_file) = match &entry.kind {
            Kind::Directory => (full, 0),
            kind => {
                let is_file = matches!(kind, Kind::File | Kind::Hardlink(_));
                let above = full.iter().rposition(|b| *b == b'/');
                (above.and_then(|at| full.get(..at)).unwrap_or(full), u64::from(is_file))
            }
        };
        let left = &mut self.members.left;
        let room = left.len() < LEFT_MAX || left.contains_key(directory);
        // Beyond that, nobody has sites there.
        let top = path.components().next().unwrap_or_default();
        let count = left.entry(if room { directory } else { top }.to_vec()).or_default();
        count.entries = count.entries.saturating_add(1);
        count.files = count.files.saturating_add(is_file);
        count.bytes = count.bytes.saturating_add(entry.size);
    }

    /// Counts messages: files in `cur` and `new` of a box or of one of its folders.
    fn visit_mail(&mut self, path: &MemberPath, entry: &Entry<'_>) -> Result<(), Error> {
        let parts: Vec<_> = path.components().skip(1).map(String::from_utf8_lossy).collect();
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let (directory, is_message) = match (parts.as_slice(), &entry.kind) {
            ([directory @ .., "cur" | "new", _], Kind::File) => (directory, true),
            ([directory @ .., "cur"], Kind::Directory) => (directory, false),
            ([directory @ .., "storage", _], Kind::File) => {
                if let Some((key, "")) = box_and_folder(directory) {
                    let found = self.members.maildirs.entry(key).or_default();
                    found.mdbox = true;
                    found.bytes = found.bytes.saturating_add(entry.size);
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        let Some((key, folder)) = box_and_folder(directory) else { return Ok(()) };
        if self.members.maildirs.len() > MAILDIRS_MAX {
            return Err(Error::TooLarge("it has too many mailboxes".to_owned()));
        }
        let maildir = self.members.maildirs.entry(key).or_default();
        if maildir.folders.len() > MAILDIRS_MAX {
            return Err(Error::TooLarge("a mailbox has too many folders".to_owned()));
        }
        let name = home::folder_name(folder);
        if name != folder {
            maildir.renamed.insert(name.to_owned());
        }
        let count = maildir.folders.entry(name.to_owned()).or_default();
        if is_message {
            *count = count.saturating_add(1);
            maildir.bytes = maildir.bytes.saturating_add(entry.size);
        }
        Ok(())
    }

    fn keep(&mut self, path: String, entry: Entry<'_>) -> Result<(), Error> {
        self.kept = self.kept.saturating_add(entry.size).saturating_add(256);
        let file_max = self.limits.metadata_file_bytes;
        if entry.size > file_max || self.kept > self.limits.metadata_bytes {
            let text = format!("its metadata ({}) is over the limit", entry.path);
            return Err(Error::TooLarge(text));
        }
        let mut bytes = Vec::new();
        entry.body.take(file_max).read_to_end(&mut bytes)?;
        match self.members.texts.insert(path, bytes) {
            None => Ok(()),
            Some(_) => Err(twice(&entry.path)),
        }
    }
}

fn twice(path: &MemberPath) -> Error {
    Error::Twice(path.to_string())
}

/// The mailbox that a directory of messages belongs to, and the folder of it: `D/L` and `Sent`.
fn box_and_folder<'p>(directory: &[&'p str]) -> Option<(String, &'p str)> {
    let folder = |name: &'p str| name.strip_prefix('.').filter(|rest| !rest.is_empty());
    match directory {
        [] => Some((String::new(), "")),
        [name] => Some((String::new(), folder(name)?)),
        [domain, local] if !domain.starts_with('.') => Some((format!("{domain}/{local}"), "")),
        [domain, local, name] if !domain.starts_with('.') => {
            Some((format!("{domain}/{local}"), folder(name)?))
        }
        _ => None,
    }
}

fn is_dump(path: &str) -> bool {
    path.strip_prefix("mysql/").is_some_and(|file| {
        !file.contains('/') && (file.ends_with(".sql") || file.ends_with(".sql.gz"))
    })
}

/// Members whose text is kept.
fn is_metadata(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [file] => [
            "addons",
            "homedir_paths",
            "mysql.sql",
            "mysql.sql-auth.json",
            "pds",
            "proftpdpasswd",
            "quota",
            "sds",
            "sds2",
            "shadow",
            "shell",
            "ssldomain",
            "version",
        ]
        .contains(file),
        ["userdata", file] => {
            !file.ends_with(".cache") && !file.contains(".php-fpm.") && *file != "cache"
        }
        [
            "apache_tls" | "cp" | "cron" | "dnszones" | "ips" | "meta" | "sslcerts" | "sslkeys"
            | "va" | "vad" | "vf",
            _,
        ]
        | ["domainkeys", "private", _]
        | ["homedir", "etc", _, "passwd" | "quota" | "shadow"]
        | ["homedir", "etc", _, _, "filter" | "filter.yaml"]
        | ["homedir", ".cpanel", "filter.yaml"]
        | ["homedir", ".autorespond", _] => true,
        ["mysql", file] => file.ends_with(".create"),
        ["homedir", "mail", .., "mailbox_format.cpanel"] => parts.len() <= 5,
        _ => false,
    }
}
