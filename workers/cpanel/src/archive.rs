//! The members of an archive, one after the other, below the account's root.
//!
//! Memory does not grow with the archive: a body is read by the visitor or passed over.

use crate::directory::read_directory;
use crate::error::Error;
use crate::member::MemberPath;
use crate::protocol::Format;
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

fn read_tar<E: From<Error>>(
    mut expanded: Expanded<'_>,
    limits: &Limits,
    visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut root = Root::default();
    let mut members = 0_u64;
    let packing = expanded.packing();
    let cell = Shared(std::cell::RefCell::new(&mut expanded));
    let mut archive = tar::Archive::new(&cell);
    let mut entries = archive.entries().map_err(|e| cell.error(e))?;
    let mut allowance = HEADER_BYTES;
    let mut holes = 0_u64;
    loop {
        cell.0.borrow_mut().allow(allowance);
        let Some(next) = entries.next() else { break };
        let mut entry = next.map_err(|e| cell.error(e))?;
        allowance = HEADER_BYTES;
        cell.0.borrow_mut().allow(u64::MAX);
        if entry.header().entry_type().is_pax_global_extensions() {
            pass_over(&cell, &mut entry)?;
            continue;
        }
        members += 1;
        if members > limits.entries {
            let text = format!("it has more than {} members", limits.entries);
            return Err(Error::TooLarge(text).into());
        }
        let path = MemberPath::parse(&entry.path_bytes())?;
        let size = entry.size();
        let mut left = size;
        if let Some(path) = root.locate(&path)? {
            let kind = kind_of(&mut entry, root.path.as_ref())?;
            let format = root.format(packing);
            let mode = entry.header().mode().unwrap_or(0o600) & 0o777;
            let mtime = entry.header().mtime().unwrap_or(0);
            let mut body = Body { inner: &mut entry, left: &mut left };
            let mut empty = io::empty();
            let body: &mut dyn Read = if kind == Kind::File { &mut body } else { &mut empty };
            let visited = visit(Entry { path, kind, size, mode, mtime, format, body });
            cell.verdict()?;
            visited?;
        }
        if entry.header().entry_type().is_gnu_sparse() {
            // Its holes take no room here but may on the disk. They are not read to be passed over:
            // a header can claim exabytes of them.
            let packed = entry.header().entry_size().unwrap_or(0);
            holes = holes.saturating_add(size.saturating_sub(packed));
            if holes > limits.expanded_bytes {
                return Err(Error::TooLarge("it has files with huge holes".to_owned()).into());
            }
            allowance = HEADER_BYTES.saturating_add(packed);
        } else if pass_over(&cell, &mut entry)? != left {
            return Err(Error::Truncated.into());
        }
    }
    check_end(&cell)?;
    let expanded_bytes = expanded.count().saturating_add(holes);
    if !root.proved {
        return Err(Error::NoAccount.into());
    }
    let (sha256, size_bytes) = expanded.finish()?;
    let format = root.format(packing);
    Ok(Totals { format, sha256, size_bytes, expanded_bytes, members, outside: root.outside })
}

/// Lets the tar reader borrow the stream while we look at its counters.
struct Shared<'s, 'a>(std::cell::RefCell<&'s mut Expanded<'a>>);

impl Read for &Shared<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl Shared<'_, '_> {
    /// After a visit: the visitor sees a broken stream as a failed read; the reason is known here.
    fn verdict(&self) -> Result<(), Error> {
        let mut expanded = self.0.borrow_mut();
        match expanded.take_failure() {
            Some(failure) => Err(failure),
            None if expanded.at_end() => Err(Error::Truncated),
            None => Ok(()),
        }
    }

    /// Our own reason, when we had one; else what the tar reader says.
    fn error(&self, error: io::Error) -> Error {
        let mut expanded = self.0.borrow_mut();
        if let Some(failure) = expanded.take_failure() {
            failure
        } else if expanded.at_end() {
            Error::Truncated
        } else if error.kind() == io::ErrorKind::Other && error.raw_os_error().is_none() {
            Error::Damaged(crate::member::shown(error.to_string().as_bytes()))
        } else {
            Error::Io(error)
        }
    }
}

fn pass_over(cell: &Shared<'_, '_>, entry: &mut impl Read) -> Result<u64, Error> {
    io::copy(entry, &mut io::sink()).map_err(|e| cell.error(e))
}

/// After the first block of zeros the archive must have a second one, and nothing but zeros behind.
fn check_end(cell: &Shared<'_, '_>) -> Result<(), Error> {
    if cell.0.borrow().at_end() {
        return Err(Error::Truncated);
    }
    cell.0.borrow_mut().allow(u64::MAX);
    let mut buffer = vec![0_u8; 64 << 10];
    let mut zeros = 0_u64;
    loop {
        let n = (&mut &*cell).read(&mut buffer).map_err(|e| cell.error(e))?;
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

fn kind_of<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    root: Option<&MemberPath>,
) -> Result<Kind, Error> {
    use tar::EntryType;
    let link = entry.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default();
    let kind = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Symlink(link),
        EntryType::Link => {
            let target = MemberPath::parse(&link).ok();
            Kind::Hardlink(target.and_then(|t| root.map_or(Some(t.clone()), |r| t.strip(r))))
        }
        _ => Kind::Other,
    };
    // PAX's own form of sparse files has a map in front of the data, which the tar reader leaves
    // in the body: such a member would come out wrong.
    let extensions = entry.pax_extensions().map_err(Error::Io)?;
    let sparse = extensions.is_some_and(|mut all| {
        all.any(|x| x.is_ok_and(|x| x.key_bytes().starts_with(b"GNU.sparse")))
    });
    Ok(if sparse { Kind::Other } else { kind })
}
