//! Record sets of a DNS zone: how they are written, what they must keep to, and BIND zone files.
//!
//! Pure: text in, record sets out. A [`RecordSet`] that came from [`check_set`] or [`read`] is in
//! canonical form: byte for byte what PowerDNS 4.7's API gives back for it, so that two of them are
//! the same to the world exactly when they are equal.
//!
//! Rules come in two tiers. What no name server can carry (an address that is none, a label of 64
//! octets) is refused everywhere. What somebody who writes a record today should not write (a mail
//! server that is an address, a CAA tag that nobody knows, a TTL of a second) is refused by
//! [`check_set`] and kept by [`read`]: a zone that moves here means what its file says.

mod advice;
mod check;
mod file;
mod kinds;
mod name;
mod params;
mod rdata;
mod read;
mod text;
mod wire;
mod write;
mod zone;

pub use check::check_set;
pub use file::{Broken, File, LeftOut, Soa};
pub use name::{absolute, relative};
pub use read::read;
pub use text::{txt_record, txt_value};
pub use write::write;
pub use zone::check_zone;

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The types of records that a caller may write. The others are a server's own affair (SOA, and all
/// that signing makes), run code in it (LUA), or come back from PowerDNS 4.7 as other data than were
/// written (LOC, whose sizes it rounds).
pub const TYPES: &[&str] = &[
    "A",
    "AAAA",
    "ALIAS",
    "CAA",
    "CNAME",
    "DNAME",
    "DS",
    "HINFO",
    "HTTPS",
    "MX",
    "NAPTR",
    "NS",
    "OPENPGPKEY",
    "PTR",
    "RP",
    "SMIMEA",
    "SRV",
    "SSHFP",
    "SVCB",
    "TLSA",
    "TXT",
    "URI",
];

/// The shortest time to live that [`check_set`] takes: a minute. Anything shorter costs every
/// visitor a query and gains nothing that a minute does not.
pub const TTL_MIN: u32 = 60;

/// The longest time to live that [`check_set`] takes: a week, which is as long as resolvers remember
/// anything (RFC 8767 section 4). A file may say 0 to 2^31-1 seconds (RFC 2181 section 8), and
/// [`read`] keeps what it says.
pub const TTL_MAX: u32 = 604_800;

/// The most records that [`check_set`] takes in one set.
pub const RECORDS_MAX: usize = 100;

/// All records of one name and type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordSet {
    /// Absolute, in lower case, with its final dot.
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub ttl: u32,
    /// In canonical presentation form.
    pub records: BTreeSet<String>,
}

/// A set as somebody writes it, before it is checked.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// `@`, relative to the zone, or absolute with a final dot.
    pub name: &'a str,
    pub rtype: &'a str,
    pub ttl: u32,
    /// In presentation form; TXT may be plain text, too.
    pub records: &'a [String],
}

/// Where in a set a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Name,
    Type,
    Ttl,
    /// One of the records, counted from 0.
    Record(usize),
}

/// What is wrong with a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub field: Field,
    /// A fragment to be read after the field's name: `must be an IPv4 address such as 192.0.2.1`.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(field: Field, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}
