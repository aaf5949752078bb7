//! What a job did to the server, written down before it was done: what undo and the 30-day rollback
//! read. A line a fact, appended and forced to the disk; a torn last line is one that never was.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::layout;
use cpanel::plan::StepName;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use values::{DatabaseName, DatabaseUser, Username};

/// One change to the server, with all that undoing it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Nothing stands at the path; the job puts a file, a link or a tree there.
    Make { path: PathBuf },
    /// What stands at the path is moved to `kept` first.
    Replace { path: PathBuf, kept: PathBuf },
    /// The line that begins with `key` and a colon in a file of ours; `old` is the one before.
    Line { file: PathBuf, key: String, old: Option<String> },
    /// A system user that does not exist.
    User { user: Username },
    /// The password's hash of a system user that stands.
    Password { user: Username, old: String },
    /// The user's crontab; `old` is the one before.
    Crontab { user: Username, old: Option<String> },
    /// A database that does not exist, or whose content was dumped to `kept` first.
    Database { name: DatabaseName, kept: Option<PathBuf> },
    /// A database user at `localhost`; `old` are the statements that make the one before again.
    DatabaseUser { name: DatabaseUser, old: Option<Vec<String>> },
    /// Rights of a user on a database; `old` are the statements that give the ones before.
    Grants { user: DatabaseUser, database: DatabaseName, old: Vec<String> },
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An effect of a step, about to happen.
    Did { step: StepName, operation: String, what: Effect },
    /// All effects of the step so far are taken back.
    Undone { step: StepName },
}

/// An effect that stands, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub step: StepName,
    pub operation: String,
    pub what: Effect,
}

/// A job's journal, open.
pub struct Journal {
    file: File,
    entries: Vec<Entry>,
    /// Path → the entry that put something there. A merge puts thousands of files.
    places: HashMap<PathBuf, usize>,
    path: PathBuf,
}

impl Journal {
    /// Opens the job's journal, a new one if there is none.
    pub fn open(job: Uuid) -> Result<Self> {
        let dir = layout::job(job);
        let parent = Beneath::private_dir(&dir)?;
        let journal = Self::open_file(&dir.join("journal"))?;
        parent.sync()?;
        Ok(journal)
    }

    fn open_file(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Error::at(path))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(Error::at(path))?;
        // A line without its end was never forced to the disk, so its effect never happened.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let mut entries = Vec::new();
        for line in bytes.get(..whole).unwrap_or_default().split(|b| *b == b'\n') {
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(Line::Did { step, operation, what }) => {
                    entries.push(Entry { step, operation, what })
                }
                Ok(Line::Undone { step }) => entries.retain(|e| e.step != step),
                Err(e) => return Err(Error::at(path)(e)),
            }
        }
        let end = u64::try_from(whole).map_err(Error::internal)?;
        file.set_len(end).map_err(Error::at(path))?;
        file.seek(SeekFrom::Start(end)).map_err(Error::at(path))?;
        let mut journal = Self { file, entries, places: HashMap::new(), path: path.to_owned() };
        journal.index();
        Ok(journal)
    }

    fn index(&mut self) {
        self.places.clear();
        for (at, entry) in self.entries.iter().enumerate() {
            if let Effect::Make { path } | Effect::Replace { path, .. } = &entry.what {
                self.places.entry(path.clone()).or_insert(at);
            }
        }
    }

    /// Writes down what is about to be done. When this returns, it is on the disk.
    pub fn record(&mut self, step: StepName, operation: &str, what: Effect) -> Result<()> {
        let operation = operation.to_owned();
        let line = Line::Did { step, operation: operation.clone(), what: what.clone() };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        self.append(&text)?;
        if let Effect::Make { path } | Effect::Replace { path, .. } = &what {
            self.places.entry(path.clone()).or_insert(self.entries.len());
        }
        self.entries.push(Entry { step, operation, what });
        Ok(())
    }

    /// Writes down that nothing of the step stands any longer.
    pub fn undone(&mut self, step: StepName) -> Result<()> {
        if !self.entries.iter().any(|e| e.step == step) {
            return Ok(());
        }
        let mut text = serde_json::to_vec(&Line::Undone { step })?;
        text.push(b'\n');
        self.append(&text)?;
        self.entries.retain(|e| e.step != step);
        self.index();
        Ok(())
    }

    fn append(&mut self, text: &[u8]) -> Result<()> {
        self.file.write_all(text).map_err(Error::at(&self.path))?;
        self.file.sync_data().map_err(Error::at(&self.path))
    }

    /// What stands, in the order in which it was done.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The effects of a step that stand, the last first.
    pub fn backwards(&self, step: StepName) -> Vec<Entry> {
        self.entries.iter().rev().filter(|e| e.step == step).cloned().collect()
    }

    /// How the job first put something at this path; none when it did not.
    pub fn placed(&self, path: &Path) -> Option<&Effect> {
        self.places.get(path).and_then(|at| self.entries.get(*at)).map(|e| &e.what)
    }

    /// A number that no earlier effect used, for names of things that are kept.
    pub fn next(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_never_was_and_undone_steps_are_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let make = |p: &str| Effect::Make { path: PathBuf::from(p) };
        {
            let mut journal = Journal::open_file(&path).unwrap();
            journal.record(StepName::CreateUser, "user:x", make("/home/x")).unwrap();
            journal.record(StepName::Mail, "mail:x", make("/etc/x")).unwrap();
        }
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"did\":{\"step\":\"mail\",\"oper");
        std::fs::write(&path, bytes).unwrap();
        let mut journal = Journal::open_file(&path).unwrap();
        assert_eq!(journal.entries().len(), 2);
        assert!(journal.placed(Path::new("/home/x")).is_some());
        journal.undone(StepName::CreateUser).unwrap();
        journal.record(StepName::CreateUser, "user:x", make("/home/y")).unwrap();
        let journal = Journal::open_file(&path).unwrap();
        assert!(journal.placed(Path::new("/home/x")).is_none());
        assert_eq!(journal.backwards(StepName::CreateUser).len(), 1);
    }
}
