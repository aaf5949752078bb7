//! The bytes of an archive file: recognised, hashed, expanded and counted as they flow by.

use crate::error::Error;
use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// How a file is packed, told by its first bytes and never by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Gzip,
    Zstd,
    Tar,
}

/// What limits an archive. The default allows what real accounts need and little more.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub entries: u64,
    /// Of all members together.
    pub expanded_bytes: u64,
    /// Expanded to packed, looked at beyond the first GiB. gzip itself cannot exceed 1032.
    pub ratio: u64,
    /// A member of metadata.
    pub metadata_file_bytes: u64,
    /// All members of metadata together.
    pub metadata_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            expanded_bytes: 2 << 40,
            ratio: 250,
            metadata_file_bytes: 8 << 20,
            metadata_bytes: 64 << 20,
        }
    }
}

/// Called with the packed bytes read so far; an error stops the reading with it. Its kind must not be
/// `Interrupted`, which means "try again".
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> io::Result<()>;

/// The file's raw bytes, hashed and counted.
struct Raw<'a> {
    inner: Box<dyn Read + 'a>,
    hash: Sha256,
    count: u64,
    told: u64,
    progress: Progress<'a>,
}

/// Progress is told each time that this many bytes were read.
const PROGRESS_EVERY: u64 = 1 << 20;

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        self.count = self.count.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        if n == 0 || self.count.saturating_sub(self.told) >= PROGRESS_EVERY {
            self.told = self.count;
            (self.progress)(self.count)?;
        }
        Ok(n)
    }
}

type Head<'a> = BufReader<Chain<Cursor<Vec<u8>>, Raw<'a>>>;

/// Expands what gzip packed as gzip itself does: one member behind the other, and behind the last one
/// nothing but the zeros that a tape or a copy padded it with.
pub struct Gunzip<R> {
    member: GzDecoder<Slot<R>>,
    ended: bool,
}

/// Lets a reader move on from one member's decoder to the next one's.
struct Slot<R>(Option<R>);

impl<R: BufRead> BufRead for Slot<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.as_mut().map_or(Ok(&[]), BufRead::fill_buf)
    }

    fn consume(&mut self, amount: usize) {
        if let Some(reader) = &mut self.0 {
            reader.consume(amount);
        }
    }
}

impl<R: BufRead> Read for Slot<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |reader| reader.read(buffer))
    }
}

impl<R: BufRead> Gunzip<R> {
    /// Expands what `packed` gives.
    pub fn new(packed: R) -> Self {
        Self { member: GzDecoder::new(Slot(Some(packed))), ended: false }
    }

    fn packed(&self) -> Option<&R> {
        self.member.get_ref().0.as_ref()
    }

    fn packed_mut(&mut self) -> Option<&mut R> {
        self.member.get_mut().0.as_mut()
    }

    /// Goes on to the next member, if there is one.
    fn go_on(&mut self) -> io::Result<()> {
        let packed = self.member.get_mut();
        let mut padded = false;
        loop {
            let bytes = packed.fill_buf()?;
            if bytes.is_empty() {
                self.ended = true;
                return Ok(());
            }
            let zeros = bytes.iter().take_while(|b| **b == 0).count();
            if zeros == 0 {
                break;
            }
            padded = true;
            packed.consume(zeros);
        }
        if padded {
            let text = "something stands behind the zeros at its end";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let packed = packed.0.take();
        self.member.reset(Slot(packed));
        Ok(())
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !buffer.is_empty() {
            let n = self.member.read(buffer)?;
            if n > 0 {
                return Ok(n);
            }
            self.go_on()?;
        }
        Ok(0)
    }
}

enum Decoder<'a> {
    Gzip(Box<Gunzip<Head<'a>>>),
    Zstd(zstd::stream::read::Decoder<'static, Head<'a>>),
    Tar(Head<'a>),
}

impl<'a> Decoder<'a> {
    fn head_mut(&mut self) -> Option<&mut Head<'a>> {
        match self {
            Self::Gzip(d) => d.packed_mut(),
            Self::Zstd(d) => Some(d.get_mut()),
            Self::Tar(head) => Some(head),
        }
    }

    fn raw(&self) -> Option<&Raw<'a>> {
        let head = match self {
            Self::Gzip(d) => d.packed(),
            Self::Zstd(d) => Some(d.get_ref()),
            Self::Tar(head) => Some(head),
        };
        head.map(|head| head.get_ref().get_ref().1)
    }
}

/// The expanded bytes of an archive file.
pub(crate) struct Expanded<'a> {
    decoder: Decoder<'a>,
    packing: Packing,
    limits: Limits,
    count: u64,
    /// Bytes that may still be read before the next member must have begun.
    allowance: u64,
    /// What a limit or the decoder said, since the reader in between may swallow it.
    failed: Option<Error>,
    at_end: bool,
}

impl<'a> Expanded<'a> {
    /// Recognises the packing. Fails with [`Error::NotAnArchive`] when it is none.
    pub(crate) fn open(
        inner: Box<dyn Read + 'a>,
        limits: Limits,
        progress: Progress<'a>,
    ) -> Result<Self, Error> {
        let mut raw = Raw { inner, hash: Sha256::new(), count: 0, told: 0, progress };
        let mut first = Vec::with_capacity(512);
        raw.by_ref().take(512).read_to_end(&mut first)?;
        let packing = recognise(&first).ok_or(Error::NotAnArchive)?;
        let head = BufReader::with_capacity(128 << 10, Cursor::new(first).chain(raw));
        let decoder = match packing {
            Packing::Gzip => Decoder::Gzip(Box::new(Gunzip::new(head))),
            Packing::Zstd => Decoder::Zstd(zstd::stream::read::Decoder::with_buffer(head)?),
            Packing::Tar => Decoder::Tar(head),
        };
        let allowance = u64::MAX;
        Ok(Self { decoder, packing, limits, count: 0, allowance, failed: None, at_end: false })
    }

    pub(crate) const fn packing(&self) -> Packing {
        self.packing
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) const fn at_end(&self) -> bool {
        self.at_end
    }

    /// Bytes that may be read until this is called again. The headers between two members are read
    /// into memory whole, so they get a small allowance; bodies get an unlimited one.
    pub(crate) const fn allow(&mut self, bytes: u64) {
        self.allowance = bytes;
    }

    /// The reason of a failed read, when it was one of ours.
    pub(crate) const fn take_failure(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Reads the packed file to its very end, so that the hash is of all of it, and gives hash and
    /// size.
    pub(crate) fn finish(mut self) -> Result<(String, u64), Error> {
        let gone = || Error::Io(io::Error::other("the archive is no longer at hand"));
        let head = self.decoder.head_mut().ok_or_else(gone)?;
        loop {
            let n = head.fill_buf()?.len();
            if n == 0 {
                break;
            }
            head.consume(n);
        }
        let raw = self.decoder.raw().ok_or_else(gone)?;
        Ok((hex::encode(raw.hash.clone().finalize()), raw.count))
    }

    fn refuse(&mut self, error: Error) -> io::Error {
        let text = error.to_string();
        self.failed = Some(error);
        io::Error::other(text)
    }
}

impl Read for Expanded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match &mut self.decoder {
            Decoder::Gzip(d) => d.read(buffer),
            Decoder::Zstd(d) => d.read(buffer),
            Decoder::Tar(d) => d.read(buffer),
        };
        let n = match result {
            Ok(n) => n,
            Err(e) => {
                let error = match (self.packing, e.kind()) {
                    (Packing::Tar, _) => return Err(e),
                    (_, io::ErrorKind::UnexpectedEof) => Error::Truncated,
                    (_, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
                    | (Packing::Zstd, io::ErrorKind::Other) => Error::Damaged(e.to_string()),
                    _ => return Err(e),
                };
                return Err(self.refuse(error));
            }
        };
        if n == 0 && !buffer.is_empty() {
            self.at_end = true;
            return Ok(0);
        }
        let n64 = u64::try_from(n).unwrap_or(u64::MAX);
        self.count = self.count.saturating_add(n64);
        if self.count > self.limits.expanded_bytes {
            let limit = self.limits.expanded_bytes >> 30;
            return Err(
                self.refuse(Error::TooLarge(format!("it expands to more than {limit} GiB")))
            );
        }
        let packed = self.decoder.raw().map_or(1, |raw| raw.count.max(1));
        if self.count > 1 << 30 && self.count / packed > self.limits.ratio {
            let ratio = self.limits.ratio;
            return Err(self.refuse(Error::TooLarge(format!("it expands more than {ratio}-fold"))));
        }
        match self.allowance.checked_sub(n64) {
            Some(rest) => self.allowance = rest,
            None => {
                let error = Error::UnsafeMember("headers of more than a mebibyte".to_owned());
                return Err(self.refuse(error));
            }
        }
        Ok(n)
    }
}

fn recognise(first: &[u8]) -> Option<Packing> {
    if first.starts_with(&[0x1f, 0x8b]) {
        return Some(Packing::Gzip);
    }
    if first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Some(Packing::Zstd);
    }
    is_tar_header(first).then_some(Packing::Tar)
}

/// Whether a block is a tar header: its checksum is right. Old archives have no `ustar` in them.
fn is_tar_header(block: &[u8]) -> bool {
    let Some(field) = block.get(148..156) else { return false };
    let Some(rest) = block.get(156..512) else { return false };
    let digits: String = field
        .iter()
        .skip_while(|b| **b == b' ')
        .take_while(|b| b.is_ascii_digit())
        .map(|b| char::from(*b))
        .collect();
    let Ok(told) = u64::from_str_radix(&digits, 8) else { return false };
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u64, |s, b| s + u64::from(*b));
    told == sum(block.get(..148).unwrap_or_default()) + 8 * 32 + sum(rest)
}
