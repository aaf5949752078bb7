//! What a zone file holds.

use crate::RecordSet;

/// What a zone file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// None when the file has no SOA record, as an extract of a zone.
    pub soa: Option<Soa>,
    /// Ordered by name and type; one set each.
    pub sets: Vec<RecordSet>,
    /// Lines that are not carried over, in the file's order.
    pub left_out: Vec<LeftOut>,
}

/// A line of a zone file that is not carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Counted from 1; where the entry begins.
    pub line: usize,
    /// The entry, shortened and without control characters.
    pub text: String,
    /// A fragment: `its data must be an IPv4 address such as 192.0.2.1`.
    pub why: String,
}

/// What is said of records that signing makes.
pub(crate) const BELONGS_TO_SIGNING: &str =
    "it belongs to the zone's signing, which ends with the move and begins anew here";

impl LeftOut {
    /// Whether the line is one of those that signing makes (RRSIG, DNSKEY, NSEC …): no loss, since
    /// they are made anew when the zone is signed here.
    #[must_use]
    pub fn is_signing(&self) -> bool {
        self.why == BELONGS_TO_SIGNING
    }
}

/// Why a zone file as a whole cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// Counted from 1.
    pub line: usize,
    pub why: String,
}

/// The start of authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Soa {
    /// Absolute with its final dot, as every name here.
    pub primary: String,
    /// A mailbox as a name: `hostmaster.example.com.`; a dot in its local part is `\.`.
    pub hostmaster: String,
    pub serial: u32,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    pub minimum: u32,
    pub ttl: u32,
}
