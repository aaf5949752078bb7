//! What one pass over an archive keeps: the metadata's text, and counts of all else.

use crate::account::Files;
use crate::dump::Dump;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The metadata of an account, by path below its root, and what was counted beside it.
#[derive(Debug, Default)]
pub struct Members {
    pub(crate) texts: BTreeMap<String, Vec<u8>>,
    /// First components that were seen, and `homedir/mail` and `homedir/etc`, with the files in them:
    /// says whether a part is in the archive at all.
    pub(crate) tops: BTreeMap<String, u64>,
    /// Dumps by their path, `mysql/shop_wp.sql`.
    pub(crate) dumps: BTreeMap<String, Dump>,
    /// Directories of messages, by path below `mail`: `shop.example/info`, or empty for the default
    /// mailbox.
    pub(crate) maildirs: BTreeMap<String, Maildir>,
    pub(crate) files: Files,
    /// What is left behind unless a site lies there, by directory.
    pub(crate) left: BTreeMap<Vec<u8>, Left>,
    /// Whether the home is in the archive.
    pub(crate) home: bool,
    pub(crate) ssh_keys: bool,
}

/// What was counted in a directory that may be left behind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// With directories and links.
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
}

/// What was counted in a directory of messages.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Maildir {
    /// Folder → messages; the inbox has the empty name.
    pub folders: BTreeMap<String, u64>,
    pub bytes: u64,
    /// Folders whose name on the disk begins with `.INBOX.`, by the name that they get.
    pub renamed: BTreeSet<String>,
    /// Dovecot's mdbox storage was seen.
    pub mdbox: bool,
}

impl Members {
    /// A member's text; what is not UTF-8 is replaced, so that it cannot become a checked value.
    pub(crate) fn text(&self, path: &str) -> Option<Cow<'_, str>> {
        self.texts.get(path).map(|bytes| String::from_utf8_lossy(bytes))
    }

    /// The first line of a member, trimmed; none when it is empty.
    pub(crate) fn line(&self, path: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines().map(str::trim).find(|l| !l.is_empty()).map(str::to_owned)
    }

    /// The files directly below a directory: name and content, in the order of names.
    pub(crate) fn below<'m>(
        &'m self,
        directory: &str,
    ) -> impl Iterator<Item = (&'m str, &'m [u8])> + use<'m> {
        let prefix = format!("{directory}/");
        let start = prefix.clone();
        self.texts
            .range(start..)
            .map_while(move |(path, bytes)| Some((path.strip_prefix(&prefix)?, bytes.as_slice())))
            .filter(|(name, _)| !name.contains('/'))
    }

    /// Whether a top member is in the archive.
    pub(crate) fn has(&self, top: &str) -> bool {
        self.tops.contains_key(top)
    }

    /// Whether files are in a top member.
    pub(crate) fn holds(&self, top: &str) -> bool {
        self.tops.get(top).is_some_and(|n| *n > 0)
    }
}
