//! A dump as MariaDB's client reads it: unpacked if need be, and filtered on the way.

use crate::error::{Error, Result};
use cpanel::sql::DumpFilter;
use cpanel::stream::Gunzip;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::rc::Rc;
use values::DatabaseUser;

/// Where the filter writes to, and the client reads from.
#[derive(Clone, Default)]
struct Tap(Rc<RefCell<Vec<u8>>>);

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A dump that comes out of [`DumpFilter`]. Reading fails when the filter refuses it or the job must
/// stop.
pub struct Filtered<'a> {
    dump: Box<dyn Read>,
    /// None: the dump is at its end.
    filter: Option<DumpFilter<Tap>>,
    tap: Tap,
    ready: io::Cursor<Vec<u8>>,
    chunk: Vec<u8>,
    /// Why the dump cannot be loaded.
    refusal: Option<String>,
    /// Fails when the job must stop.
    check: &'a dyn Fn() -> Result<()>,
}

impl<'a> Filtered<'a> {
    /// Reads the file, through gzip if that is what it is; `definer` becomes everything's definer.
    pub fn open(
        mut file: File,
        definer: &DatabaseUser,
        check: &'a dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let mut magic = [0_u8; 2];
        let packed = file.read(&mut magic)? == 2 && magic == [0x1f, 0x8b];
        file.rewind().map_err(Error::internal)?;
        let file = BufReader::with_capacity(256 << 10, file);
        let dump: Box<dyn Read> = if packed { Box::new(Gunzip::new(file)) } else { Box::new(file) };
        let tap = Tap::default();
        let filter = Some(DumpFilter::new(tap.clone(), definer));
        let ready = io::Cursor::new(Vec::new());
        Ok(Self { dump, filter, tap, ready, chunk: vec![0; 256 << 10], refusal: None, check })
    }

    /// What is wrong with the dump, in plain words, when reading failed because of it.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    fn fill(&mut self) -> io::Result<()> {
        while self.tap.0.borrow().is_empty() {
            (self.check)().map_err(io::Error::other)?;
            let Some(filter) = &mut self.filter else { return Ok(()) };
            let read = self.dump.read(&mut self.chunk);
            let passed = match read {
                Ok(0) => self.filter.take().map_or(Ok(()), |f| f.finish().map(drop)),
                Ok(n) => filter.write_all(self.chunk.get(..n).unwrap_or_default()),
                Err(e) => Err(io::Error::new(e.kind(), format!("it cannot be read ({e})"))),
            };
            if let Err(error) = passed {
                self.refusal = Some(error.to_string());
                return Err(error);
            }
        }
        self.ready = io::Cursor::new(self.tap.0.replace(Vec::new()));
        Ok(())
    }
}

impl Read for Filtered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.ready.read(buffer)?;
        if n > 0 || buffer.is_empty() {
            return Ok(n);
        }
        self.fill()?;
        self.ready.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_why_and_a_stop_is_none() {
        let definer = DatabaseUser::parse("shop.definer").unwrap();
        let read = |dump: &[u8], check: &dyn Fn() -> Result<()>| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(dump).unwrap();
            file.rewind().unwrap();
            let mut filtered = Filtered::open(file, &definer, check).unwrap();
            let read = filtered.read_to_end(&mut Vec::new());
            assert_eq!(read.is_ok(), dump == b"SELECT 1;");
            filtered.refusal().map(str::to_owned)
        };
        assert_eq!(read(b"SELECT 1;", &|| Ok(())), None);
        assert!(read(b"SELECT 1;\n\\! id\n", &|| Ok(())).unwrap().contains("(\\!)"));
        assert!(read(b"\x1f\x8bnonsense", &|| Ok(())).unwrap().contains("cannot be read"));
        assert_eq!(read(b"\\! id\n", &|| Err(Error::stopped())), None);
    }
}
