//! A first look at an archive: whose account it is, from its first members alone.

use crate::archive::{self, Entry, Source};
use crate::error::Error;
use crate::member::shown;
use crate::protocol::Format;
use crate::stream::Limits;

/// What the first members tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The account's name on its source; none when its record did not come among the first members.
    pub user: Option<String>,
    pub format: Option<Format>,
}

/// Members and bytes that are looked at before giving up.
const MEMBERS: u64 = 5000;
const BYTES: u64 = 64 << 20;

/// Ends the reading early.
enum End {
    Enough,
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Reads until the account's record, `cp/USER`, and leaves the rest unread.
pub fn peek(source: Source<'_>) -> Result<Seen, Error> {
    let limits = Limits::default();
    let mut seen = Seen { user: None, format: None };
    let (mut members, mut bytes) = (0_u64, 0_u64);
    let mut untold = |_| Ok(());
    let read = archive::read(source, &limits, &mut untold, |entry: Entry<'_>| {
        members += 1;
        bytes = bytes.saturating_add(entry.size);
        seen.format = Some(entry.format);
        if let Some(name) = entry.path.below("cp").filter(|n| !n.is_root()) {
            seen.user = Some(shown(name.as_bytes()));
            return Err(End::Enough);
        }
        if members > MEMBERS || bytes > BYTES { Err(End::Enough) } else { Ok(()) }
    });
    match read {
        Ok(_) | Err(End::Enough) => Ok(seen),
        Err(End::Failed(error)) => Err(error),
    }
}
