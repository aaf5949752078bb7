//! A home that lies in the archive as a tar file of its own, `homedir.tar`: its members are given as
//! if they lay in `homedir/`. It is read by the same rules, and one level deep.

use crate::archive::{Count, Entry, Kind, Stream, explained, visit_member, walk};
use crate::error::Error;
use crate::member::MemberPath;
use crate::protocol::Format;
use crate::stream::Limits;
use std::cell::{Cell, RefCell};
use std::io::{self, Read};

/// The member's name.
pub(crate) const NESTED_HOME: &[u8] = b"homedir.tar";

/// Reads the tar file in `body` and gives its members to `visit`.
pub(crate) fn read_nested_home<E: From<Error>>(
    body: &mut dyn Read,
    format: Format,
    limits: &Limits,
    count: &mut Count,
    visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let stream = Inner {
        body: RefCell::new(body),
        allowance: Cell::new(u64::MAX),
        at_end: Cell::new(false),
        failed: RefCell::new(None),
    };
    let homedir = MemberPath::parse(b"homedir")?;
    let mut base: Option<MemberPath> = None;
    let mut outside = 0_u64;
    walk(&stream, limits, count, |mut member, body| {
        if member.path.is_root() {
            return Ok(());
        }
        let base = base.get_or_insert_with(|| wrapper(&member.path));
        let Some(path) = member.path.strip(base) else {
            outside = outside.saturating_add(1);
            return Ok(());
        };
        member.path = homedir.join(&path);
        member.kind = match member.kind.relative_to(base) {
            Kind::Hardlink(target) => Kind::Hardlink(target.map(|t| homedir.join(&t))),
            other => other,
        };
        visit_member(member, format, body, visit)
    })?;
    count.outside = count.outside.saturating_add(outside);
    Ok(())
}

/// Members are named from the home on, or, by other packers, from `homedir/` or `home/USER/` on: the
/// first one tells.
fn wrapper(first: &MemberPath) -> MemberPath {
    match first.components().next() {
        Some(b"homedir") => first.prefix(1),
        Some(top) if top.starts_with(b"home") && top.iter().skip(4).all(u8::is_ascii_digit) => {
            first.prefix(2)
        }
        _ => MemberPath::default(),
    }
}

struct Inner<'b> {
    body: RefCell<&'b mut dyn Read>,
    allowance: Cell<u64>,
    at_end: Cell<bool>,
    failed: RefCell<Option<Error>>,
}

impl Read for &Inner<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.body.borrow_mut().read(buffer)?;
        self.at_end.set(n == 0 && !buffer.is_empty());
        match self.allowance.get().checked_sub(u64::try_from(n).unwrap_or(u64::MAX)) {
            Some(rest) => self.allowance.set(rest),
            None => {
                let error = Error::UnsafeMember("headers of more than a mebibyte".to_owned());
                let text = error.to_string();
                self.failed.replace(Some(error));
                return Err(io::Error::other(text));
            }
        }
        Ok(n)
    }
}

impl Stream for Inner<'_> {
    fn allow(&self, bytes: u64) {
        self.allowance.set(bytes);
    }

    fn at_end(&self) -> bool {
        self.at_end.get()
    }

    fn error(&self, error: io::Error) -> Error {
        match self.failed.take() {
            Some(failure) => failure,
            None => explained(error, self.at_end.get()),
        }
    }

    fn verdict(&self) -> Result<(), Error> {
        match self.failed.take() {
            Some(failure) => Err(failure),
            None if self.at_end.get() => Err(Error::Truncated),
            None => Ok(()),
        }
    }
}
