//! The members of an unpacked account.

use crate::archive::{Count, Entry, Kind, Root, Totals};
use crate::error::Error;
use crate::member::MemberPath;
use crate::nested::{NESTED_HOME, read_nested_home};
use crate::protocol::Format;
use crate::stream::{Limits, Progress};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Reads all members below `top`, in the order of their names.
pub(crate) fn read_directory<E: From<Error>>(
    top: &std::path::Path,
    limits: &Limits,
    progress: Progress<'_>,
    visit: &mut impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Totals, E> {
    let mut root = Root::default();
    let (mut members, mut bytes) = (0_u64, 0_u64);
    let mut hash = Sha256::new();
    let mut nested = Count::default();
    let mut pending: Vec<Vec<u8>> = list(top)?;
    while let Some(name) = pending.pop() {
        members += 1;
        if members > limits.entries {
            let text = format!("it has more than {} members", limits.entries);
            return Err(Error::TooLarge(text).into());
        }
        let full = top.join(OsStr::from_bytes(&name));
        let meta = fs::symlink_metadata(&full).map_err(Error::Io)?;
        let path = MemberPath::parse(&name)?;
        if meta.is_dir() {
            for child in list(&full)? {
                pending.push([name.as_slice(), b"/", child.as_slice()].concat());
            }
        }
        let kind = match meta.file_type() {
            t if t.is_dir() => Kind::Directory,
            t if t.is_file() => Kind::File,
            t if t.is_symlink() => Kind::Symlink(
                fs::read_link(&full).map_err(Error::Io)?.as_os_str().as_bytes().to_vec(),
            ),
            _ => Kind::Other,
        };
        let size = if kind == Kind::File { meta.len() } else { 0 };
        hash.update(&name);
        hash.update([0]);
        hash.update(size.to_le_bytes());
        bytes = bytes.saturating_add(size);
        if bytes > limits.expanded_bytes {
            return Err(Error::TooLarge("its files".to_owned()).into());
        }
        progress(bytes).map_err(Error::Io)?;
        let mut body = open_same(&full, &meta, &kind, &mut hash)?;
        if let Some(path) = root.locate(&path)? {
            if path.as_bytes() == NESTED_HOME && kind == Kind::File {
                read_nested_home(&mut body, Format::Directory, limits, &mut nested, visit)?;
                io::copy(&mut body, &mut io::sink()).map_err(Error::Io)?;
                continue;
            }
            let mode = meta.permissions().mode() & 0o777;
            let mtime = u64::try_from(meta.mtime()).unwrap_or(0);
            visit(Entry {
                path,
                kind,
                size,
                mode,
                mtime,
                format: Format::Directory,
                body: &mut body,
            })?;
        }
        io::copy(&mut body, &mut io::sink()).map_err(Error::Io)?;
    }
    if !root.proved {
        return Err(Error::NoAccount.into());
    }
    let (format, sha256) = (Format::Directory, hex::encode(hash.finalize()));
    let outside = root.outside.saturating_add(nested.outside);
    let expanded_bytes = bytes.saturating_add(nested.holes);
    members = members.saturating_add(nested.members);
    Ok(Totals { format, sha256, size_bytes: bytes, expanded_bytes, members, outside })
}

/// Names in a directory, last first, so that popping from the end gives them in order.
fn list(directory: &std::path::Path) -> Result<Vec<Vec<u8>>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        names.push(entry?.file_name().as_bytes().to_vec());
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

struct HashedFile<'h> {
    file: Option<File>,
    hash: &'h mut Sha256,
}

impl Read for HashedFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let n = file.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// Opens a file and makes sure that it is the one that was looked at.
fn open_same<'h>(
    path: &std::path::Path,
    meta: &fs::Metadata,
    kind: &Kind,
    hash: &'h mut Sha256,
) -> Result<HashedFile<'h>, Error> {
    if *kind != Kind::File {
        return Ok(HashedFile { file: None, hash });
    }
    let file = File::open(path)?;
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (meta.dev(), meta.ino()) {
        return Err(Error::UnsafeMember("a file that is exchanged while it is read".to_owned()));
    }
    Ok(HashedFile { file: Some(file), hash })
}
