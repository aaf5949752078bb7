//! Dumps, looked at while they flow by.

use crate::account::DumpState;
use crate::sql::{DumpFilter, Seen};
use crate::stream::Gunzip;
use std::io::{self, BufReader, Read, Write};
use values::DatabaseUser;

/// What was seen of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Dump {
    /// As text, expanded.
    pub bytes: u64,
    pub seen: Seen,
    /// It cannot be read to its end as SQL.
    pub broken: bool,
}

impl Dump {
    /// Reads a dump without keeping it.
    pub(crate) fn scan(body: &mut dyn Read, gzip: bool) -> io::Result<Self> {
        if gzip {
            let mut decoder = Gunzip::new(BufReader::new(body));
            return Self::scan_text(&mut decoder);
        }
        Self::scan_text(body)
    }

    fn scan_text(body: &mut dyn Read) -> io::Result<Self> {
        let Ok(nobody) = DatabaseUser::parse("nobody") else { return Ok(Self::default()) };
        let mut filter = Some(DumpFilter::new(io::sink(), &nobody));
        let mut dump = Self::default();
        let mut buffer = vec![0_u8; 64 << 10];
        loop {
            let n = body.read(&mut buffer)?;
            let Some(chunk) = buffer.get(..n).filter(|c| !c.is_empty()) else { break };
            dump.bytes = dump.bytes.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            if let Some(writer) = &mut filter
                && writer.write_all(chunk).is_err()
            {
                filter = None; // the rest is only counted
            }
        }
        match filter.map(DumpFilter::finish) {
            Some(Ok((_, seen))) => dump.seen = seen,
            _ => dump.broken = true,
        }
        Ok(dump)
    }

    /// What the dump holds.
    pub(crate) const fn state(&self) -> DumpState {
        if self.broken || !self.seen.completed && (self.seen.tables || self.seen.rows) {
            DumpState::Incomplete
        } else if self.seen.rows {
            DumpState::Full
        } else if self.seen.tables {
            DumpState::WithoutData
        } else {
            DumpState::Placeholder
        }
    }
}
