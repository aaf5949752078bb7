//! Files with holes as GNU tar writes them into PAX archives (format 1.0): the header tells name and
//! size, and a map of what is stored stands in front of the data. The older forms 0.0 and 0.1 have
//! the map in the header; no tar has written them since 2006, and they are refused.

use crate::error::Error;
use std::io::{self, Read};

/// What the header of such a file tells.
pub(crate) struct PaxSparse {
    name: Option<Vec<u8>>,
    size: u64,
}

/// The longest map that is read, in pieces.
const PIECES_MAX: u64 = 1 << 20;

impl PaxSparse {
    /// None for other members.
    pub(crate) fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Self>, Error> {
        let Some(extensions) = entry.pax_extensions().map_err(Error::Io)? else { return Ok(None) };
        let (mut name, mut size, mut version) = (None, None, [None, None]);
        let mut seen = false;
        let number =
            |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|t| t.parse::<u64>().ok());
        for extension in extensions {
            let extension = extension.map_err(Error::Io)?;
            let value = extension.value_bytes();
            let Some(key) = extension.key_bytes().strip_prefix(b"GNU.sparse.") else { continue };
            seen = true;
            match key {
                b"name" => name = Some(value.to_vec()),
                b"realsize" => size = number(value),
                b"major" => version[0] = number(value),
                b"minor" => version[1] = number(value),
                _ => {}
            }
        }
        match (seen, size, version) {
            (false, ..) => Ok(None),
            (true, Some(size), [Some(1), Some(0)]) => Ok(Some(Self { name, size })),
            _ => Err(Error::UnsafeMember("a sparse file in a form that is not read".to_owned())),
        }
    }

    /// Its own name; the header's is made up for programs that do not know the form.
    pub(crate) fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// With the holes.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The file's content from the stored body.
    pub(crate) fn expand<R: Read>(self, body: R) -> Expand<R> {
        Expand { body, size: self.size, at: 0, pieces: None }
    }
}

/// A sparse file's content.
pub(crate) struct Expand<R> {
    body: R,
    size: u64,
    at: u64,
    /// Offset and length of each stored piece that is still to come, the next one last. None: the
    /// map was not read yet.
    pieces: Option<Vec<(u64, u64)>>,
}

impl<R: Read> Expand<R> {
    /// Decimal numbers, a line each, padded with zeros to whole blocks.
    fn read_map(&mut self) -> io::Result<Vec<(u64, u64)>> {
        let mut used = 0_u64;
        let count = self.number(&mut used)?;
        if count > PIECES_MAX {
            return Err(broken());
        }
        let mut pieces = Vec::new();
        let mut end = 0_u64;
        for _ in 0..count {
            let (offset, length) = (self.number(&mut used)?, self.number(&mut used)?);
            let next = offset.checked_add(length).filter(|n| *n <= self.size && offset >= end);
            end = next.ok_or_else(broken)?;
            pieces.push((offset, length));
        }
        let padding = used.next_multiple_of(512).saturating_sub(used);
        io::copy(&mut self.body.by_ref().take(padding), &mut io::sink())?;
        pieces.reverse();
        Ok(pieces)
    }

    fn number(&mut self, used: &mut u64) -> io::Result<u64> {
        let mut value = 0_u64;
        for digits in 0..20 {
            let mut byte = [0_u8];
            self.body.read_exact(&mut byte)?;
            *used = used.saturating_add(1);
            match byte {
                [b'\n'] if digits > 0 => return Ok(value),
                [digit @ b'0'..=b'9'] => {
                    let digit = u64::from(digit - b'0');
                    value = value
                        .checked_mul(10)
                        .and_then(|v| v.checked_add(digit))
                        .ok_or_else(broken)?;
                }
                _ => return Err(broken()),
            }
        }
        Err(broken())
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the map of a sparse file is broken")
}

impl<R: Read> Read for Expand<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.pieces.is_none() {
            self.pieces = Some(self.read_map()?);
        }
        let Some(pieces) = &mut self.pieces else { return Ok(0) };
        while pieces.last().is_some_and(|(_, length)| *length == 0) {
            pieces.pop();
        }
        let next = pieces.last().map_or(self.size, |(offset, _)| *offset);
        let room = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        let n = if self.at < next {
            let zeros = usize::try_from(room.min(next - self.at)).map_err(io::Error::other)?;
            buffer.get_mut(..zeros).unwrap_or_default().fill(0);
            zeros
        } else {
            let Some((offset, length)) = pieces.last_mut() else { return Ok(0) };
            let stored = usize::try_from(room.min(*length)).map_err(io::Error::other)?;
            let n = self.body.read(buffer.get_mut(..stored).unwrap_or_default())?;
            let n64 = u64::try_from(n).map_err(io::Error::other)?;
            if n == 0 && !buffer.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a sparse file is cut off",
                ));
            }
            *offset = offset.saturating_add(n64);
            *length = length.saturating_sub(n64);
            n
        };
        self.at = self.at.saturating_add(u64::try_from(n).map_err(io::Error::other)?);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(body: &[u8], size: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        PaxSparse { name: None, size }.expand(body).read_to_end(&mut out)?;
        Ok(out)
    }

    fn body(map: &str, data: &[u8]) -> Vec<u8> {
        let mut body = map.as_bytes().to_vec();
        body.resize(body.len().next_multiple_of(512), 0);
        [body.as_slice(), data].concat()
    }

    #[test]
    fn holes_are_zeros() {
        let out = expand(&body("2\n3\n2\n8\n1\n", b"abc"), 10).unwrap();
        assert_eq!(out, b"\0\0\0ab\0\0\0c\0");
        assert_eq!(expand(&body("0\n", b""), 3).unwrap(), [0, 0, 0]);
    }

    #[test]
    fn hostile_maps_are_refused() {
        for map in ["2\n3\n2\n4\n1\n", "1\n9\n5\n", "99999999\n", "x\n", "1\n-1\n2\n", "\n"] {
            assert!(expand(&body(map, b"abcdefghij"), 10).is_err(), "{map:?}");
        }
        assert!(expand(&body("1\n0\n5\n", b"ab"), 10).is_err());
    }
}
