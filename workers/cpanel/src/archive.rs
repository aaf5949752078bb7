//! The members of an archive, one after the other, below the account's root.
//!
//! Memory does not grow with the archive: a body is read by the visitor or passed over.

use crate::directory::read_directory;
use crate::error::Error;
use crate::member::MemberPath;
use crate::nested::{NESTED_HOME, read_nested_home};
use crate::protocol::Format;
use crate::sparse::PaxSparse;
use crate::stream::{Expanded, Limits, Packing, Progress};
use std::io::{self, Read};
use std::path::PathBuf;

/// Where an archive comes from.
pub enum Source<'a> {
    /// A file's bytes, from its beginning.
    File(Box<dyn Read + 'a>),
    /// An unpacked account. Symbolic links below it are reported, never followed.
    Directory(PathBuf),
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    /// Points to these bytes, which nobody has checked.
    Symlink(Vec<u8>),
    /// Another name of the member at this path; of none when the archive names something outside.
    Hardlink(Option<MemberPath>),
    /// A device, a FIFO, or a form that is not read.
    Other,
}

/// One member.
pub struct Entry<'e> {
    /// Below the account's root.
    pub path: MemberPath,
    pub kind: Kind,
    /// Bytes of the body.
    pub size: u64,
    /// Permission bits, without set-id and sticky.
    pub mode: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// Of the whole archive.
    pub format: Format,
    /// The body of a file; empty for all else. What is left unread is passed over.
    pub body: &'e mut dyn Read,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    pub format: Format,
    /// Of the file as it lies there, in hex; for a directory over names, sizes and contents.
    pub sha256: String,
    pub size_bytes: u64,
    pub expanded_bytes: u64,
    pub members: u64,
    /// Members beside the account's root; they were not visited.
    pub outside: u64,
}

/// Reads all members, in the archive's order, and gives each one below the account's root to `visit`.
///
/// Succeeds only if the archive has its end mark and, when packed, an intact trailer. Fails with the
/// visitor's error as soon as it returns one.
pub fn read<'a, E: From<Error>>(
    source: Source<'a>,
    limits: &'a Limits,
    progress: Progress<'a>,
    mut visit: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Totals, E> {
    match source {
        Source::File(inner) => {
            let expanded = Expanded::open(inner, *limits, progress)?;
            read_tar(expanded, limits, &mut visit)
        }
        Source::Directory(path) => read_directory(&path, limits, progress, &mut visit),
    }
}

/// Members of an account by which its root is recognised.
const ROOT_MEMBERS: &[&[u8]] = &[
    b"addons",
    b"apache_tls",
    b"autossl.json",
    b"bandwidth",
    b"cp",
    b"cron",
    b"dnszones",
    b"domainkeys",
    b"homedir",
    b"homedir.tar",
    b"homedir_paths",
    b"httpfiles",
    b"locale",
    b"logs",
    b"meta",
    b"mm",
    b"mma",
    b"mysql",
    b"mysql.sql",
    b"pds",
    b"proftpdpasswd",
    b"psql",
    b"quota",
    b"resellerconfig",
    b"sds",
    b"sds2",
    b"shadow",
    b"shell",
    b"ssl",
    b"sslcerts",
    b"sslkeys",
    b"suspended",
    b"userconfig",
    b"userdata",
    b"va",
    b"vad",
    b"version",
    b"vf",
];

/// Directories that JetBackup 5 puts below `backup/`.
const JETBACKUP: &[&[u8]] =
    &[b"config", b"database", b"database_user", b"email", b"jetbackup.configs"];

/// The account's root inside the archive, found from the members' names.
#[derive(Default)]
pub(crate) struct Root {
    path: Option<MemberPath>,
    pub(crate) proved: bool,
    pub(crate) outside: u64,
}

impl Root {
    /// The member's path below the root; none for what lies beside it or comes before it is known.
    pub(crate) fn locate(&mut self, path: &MemberPath) -> Result<Option<MemberPath>, Error> {
        let mut first = path.components();
        if first.next() == Some(b"backup") && first.next().is_some_and(|c| JETBACKUP.contains(&c)) {
            return Err(Error::JetbackupLayout);
        }
        if path.components().take(3).any(|c| c == b"jetbackup.configs") {
            return Err(Error::JetbackupLayout);
        }
        if self.path.is_none() {
            self.path = path
                .components()
                .take(3)
                .position(|c| ROOT_MEMBERS.contains(&c))
                .map(|depth| path.prefix(depth));
        }
        let Some(root) = &self.path else { return Ok(None) };
        let inner = path.strip(root);
        match &inner {
            None => self.outside = self.outside.saturating_add(1),
            Some(inner) => {
                let mut parts = inner.components();
                let (a, b, c) = (parts.next(), parts.next(), parts.next());
                self.proved |= a == Some(b"cp") && b.is_some() && c.is_none()
                    || a == Some(b"userdata") && b == Some(b"main") && c.is_none();
            }
        }
        Ok(inner.filter(|p| !p.is_root()))
    }

    fn format(&self, packing: Packing) -> Format {
        let wrapper = self.path.as_ref().map(MemberPath::as_bytes).unwrap_or_default();
        let wrapper = wrapper.rsplit(|b| *b == b'/').next().unwrap_or_default();
        match packing {
            Packing::Tar => Format::Uncompressed,
            _ if wrapper.starts_with(b"backup-") => Format::Cpbackup,
            _ => Format::Cpmove,
        }
    }
}

/// Headers of a member, extension headers included, may take so much.
const HEADER_BYTES: u64 = 1 << 20;

/// What was counted over all tar files that were read.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) members: u64,
    /// Bytes that sparse files claim and that are not in the archive.
    pub(crate) holes: u64,
    pub(crate) outside: u64,
}

impl Count {
    fn add_holes(&mut self, bytes: u64, limits: &Limits) -> Result<(), Error> {
        self.holes = self.holes.saturating_add(bytes);
        if self.holes > limits.expanded_bytes {
            return Err(Error::TooLarge("it has files with huge holes".to_owned()));
        }
        Ok(())
    }
}

/// What a tar file's bytes come from.
pub(crate) trait Stream {
    /// Bytes that may be read until this is called again: the headers between two members are read
    /// into memory whole.
    fn allow(&self, bytes: u64);
    fn at_end(&self) -> bool;
    /// Our own reason for a failed read, when there was one; else what the tar reader says.
    fn error(&self, error: io::Error) -> Error;
    /// After a visit: the visitor sees a broken stream as a failed read; the reason is known here.
    fn verdict(&self) -> Result<(), Error>;
}

fn read_tar<E: From<Error>>(
    mut expanded: Expanded<'_>,
    limits: &Limits,
    visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut root = Root::default();
    let mut count = Count::default();
    let mut nested = Count::default();
    let packing = expanded.packing();
    let stream = Shared(std::cell::RefCell::new(&mut expanded));
    walk(&stream, limits, &mut count, |mut member, body| {
        let Some(path) = root.locate(&member.path)? else { return Ok(()) };
        let base = root.path.clone().unwrap_or_default();
        member.kind = member.kind.relative_to(&base);
        member.path = path;
        let format = root.format(packing);
        if member.path.as_bytes() == NESTED_HOME && member.kind == Kind::File {
            return read_nested_home(body, format, limits, &mut nested, visit);
        }
        visit_member(member, format, body, visit)
    })?;
    let expanded_bytes = expanded.count().saturating_add(count.holes).saturating_add(nested.holes);
    if !root.proved {
        return Err(Error::NoAccount.into());
    }
    let (sha256, size_bytes) = expanded.finish()?;
    let format = root.format(packing);
    let members = count.members.saturating_add(nested.members);
    let outside = root.outside.saturating_add(nested.outside);
    Ok(Totals { format, sha256, size_bytes, expanded_bytes, members, outside })
}

/// A member without its body.
pub(crate) struct Head {
    pub(crate) path: MemberPath,
    /// A hard link's target is told as it stands in the tar file.
    pub(crate) kind: Kind,
    size: u64,
    mode: u32,
    mtime: u64,
}

impl Kind {
    /// A hard link's target below `base`; none when it lies elsewhere.
    pub(crate) fn relative_to(self, base: &MemberPath) -> Self {
        match self {
            Self::Hardlink(target) => Self::Hardlink(target.and_then(|t| t.strip(base))),
            other => other,
        }
    }
}

pub(crate) fn visit_member<E: From<Error>>(
    member: Head,
    format: Format,
    body: &mut dyn Read,
    visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let Head { path, kind, size, mode, mtime } = member;
    let mut empty = io::empty();
    let body: &mut dyn Read = if kind == Kind::File { body } else { &mut empty };
    visit(Entry { path, kind, size, mode, mtime, format, body })
}

/// Gives each member of a tar file with its body to `member`, and checks the file's end.
pub(crate) fn walk<'s, S, E>(
    stream: &'s S,
    limits: &Limits,
    count: &mut Count,
    mut member: impl FnMut(Head, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E>
where
    S: Stream,
    &'s S: Read,
    E: From<Error>,
{
    let mut archive = tar::Archive::new(stream);
    let mut entries = archive.entries().map_err(|e| stream.error(e))?;
    let mut allowance = HEADER_BYTES;
    loop {
        stream.allow(allowance);
        let Some(next) = entries.next() else { break };
        let mut entry = next.map_err(|e| stream.error(e))?;
        allowance = HEADER_BYTES;
        stream.allow(u64::MAX);
        if entry.header().entry_type().is_pax_global_extensions() {
            pass_over(stream, &mut entry)?;
            continue;
        }
        count.members += 1;
        if count.members > limits.entries {
            let text = format!("it has more than {} members", limits.entries);
            return Err(Error::TooLarge(text).into());
        }
        let sparse = PaxSparse::of(&mut entry)?;
        let head = head_of(&mut entry, sparse.as_ref())?;
        let packed = entry.size();
        let mut left = packed;
        let mut body = Body { inner: &mut entry, left: &mut left };
        let visited = match sparse {
            Some(sparse) => {
                count.add_holes(sparse.size().saturating_sub(packed), limits)?;
                member(head, &mut sparse.expand(&mut body))
            }
            None => member(head, &mut body),
        };
        stream.verdict()?;
        visited?;
        if entry.header().entry_type().is_gnu_sparse() {
            // Its holes take no room here but may on the disk. They are not read to be passed over:
            // a header can claim exabytes of them.
            let stored = entry.header().entry_size().unwrap_or(0);
            count.add_holes(packed.saturating_sub(stored), limits)?;
            allowance = HEADER_BYTES.saturating_add(stored);
        } else if pass_over(stream, &mut entry)? != left {
            return Err(Error::Truncated.into());
        }
    }
    check_end(stream).map_err(E::from)
}

/// Lets the tar reader borrow the stream while we look at its counters.
struct Shared<'s, 'a>(std::cell::RefCell<&'s mut Expanded<'a>>);

impl Read for &Shared<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Stream for Shared<'_, '_> {
    fn allow(&self, bytes: u64) {
        self.0.borrow_mut().allow(bytes);
    }

    fn at_end(&self) -> bool {
        self.0.borrow().at_end()
    }

    fn verdict(&self) -> Result<(), Error> {
        let mut expanded = self.0.borrow_mut();
        match expanded.take_failure() {
            Some(failure) => Err(failure),
            None if expanded.at_end() => Err(Error::Truncated),
            None => Ok(()),
        }
    }

    fn error(&self, error: io::Error) -> Error {
        let mut expanded = self.0.borrow_mut();
        match expanded.take_failure() {
            Some(failure) => failure,
            None => explained(error, expanded.at_end()),
        }
    }
}

/// What a failed read of the tar reader means.
pub(crate) fn explained(error: io::Error, at_end: bool) -> Error {
    if at_end {
        Error::Truncated
    } else if error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none() {
        Error::Damaged(crate::member::shown(error.to_string().as_bytes()))
    } else {
        Error::Io(error)
    }
}

fn pass_over<S: Stream>(stream: &S, entry: &mut impl Read) -> Result<u64, Error> {
    io::copy(entry, &mut io::sink()).map_err(|e| stream.error(e))
}

/// After the first block of zeros the archive must have a second one, and nothing but zeros behind.
fn check_end<'s, S: Stream>(stream: &'s S) -> Result<(), Error>
where
    &'s S: Read,
{
    if stream.at_end() {
        return Err(Error::Truncated);
    }
    stream.allow(u64::MAX);
    let mut buffer = vec![0_u8; 64 << 10];
    let mut zeros = 0_u64;
    loop {
        let mut reader = stream;
        let n = reader.read(&mut buffer).map_err(|e| stream.error(e))?;
        let Some(chunk) = buffer.get(..n).filter(|c| !c.is_empty()) else { break };
        if chunk.iter().any(|b| *b != 0) {
            return Err(Error::UnsafeMember("data behind the archive's end mark".to_owned()));
        }
        zeros = zeros.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
    if zeros < 512 { Err(Error::Truncated) } else { Ok(()) }
}

struct Body<'b, R> {
    inner: &'b mut R,
    left: &'b mut u64,
}

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        *self.left = self.left.saturating_sub(u64::try_from(n).unwrap_or(u64::MAX));
        if n == 0 && *self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off"));
        }
        Ok(n)
    }
}

fn head_of<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    sparse: Option<&PaxSparse>,
) -> Result<Head, Error> {
    use tar::EntryType;
    let path = match sparse.and_then(PaxSparse::name) {
        Some(name) => MemberPath::parse(name)?,
        None => MemberPath::parse(&entry.path_bytes())?,
    };
    let link = entry.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default();
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link),
        EntryType::Link => Kind::Hardlink(MemberPath::parse(&link).ok()),
        _ => Kind::Other,
    };
    Ok(Head {
        path,
        kind,
        size: sparse.map_or_else(|| entry.size(), PaxSparse::size),
        mode: entry.header().mode().unwrap_or(0o600) & 0o777,
        mtime: entry.header().mtime().unwrap_or(0),
    })
}
