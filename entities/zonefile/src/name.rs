//! Names: as they are written, and as octets.

use crate::{Field, Problem};
use values::DomainName;

/// A name as a server sees it: labels of octets, in lower case, the root's empty one left away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(Vec<Vec<u8>>);

impl Name {
    pub(crate) fn apex(zone: &DomainName) -> Self {
        Self(zone.as_str().split('.').map(|label| label.as_bytes().to_vec()).collect())
    }

    /// Reads a name with its escapes. `@` is the origin, and a name without a final dot is relative
    /// to it.
    pub(crate) fn parse(raw: &[u8], origin: &Self) -> Result<Self, String> {
        match raw {
            b"" => return Err("is empty".to_owned()),
            b"@" => return Ok(origin.clone()),
            b"." => return Ok(Self(Vec::new())),
            _ => {}
        }
        let mut labels = Vec::new();
        let mut label = Vec::new();
        let mut rest = raw;
        let mut ended = false;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            ended = *byte == b'.';
            match byte {
                b'.' => labels.push(std::mem::take(&mut label)),
                b'\\' => {
                    let (octet, after) = escaped(rest).ok_or("has an escape out of form")?;
                    rest = after;
                    label.push(octet);
                }
                other => label.push(*other),
            }
        }
        if !ended {
            labels.push(label);
            labels.extend(origin.0.iter().cloned());
        }
        Self::checked(labels)
    }

    fn checked(mut labels: Vec<Vec<u8>>) -> Result<Self, String> {
        if labels.iter().any(Vec::is_empty) {
            return Err("has an empty label: two dots in a row, or one at its beginning".to_owned());
        }
        if labels.iter().any(|label| label.len() > 63) {
            return Err("has a label of more than 63 octets".to_owned());
        }
        labels.iter_mut().for_each(|label| label.make_ascii_lowercase());
        let name = Self(labels);
        if name.wire().len() > 255 {
            return Err("is longer than 255 octets".to_owned());
        }
        Ok(name)
    }

    /// Reads an uncompressed name off the beginning of `wire`.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<(Self, &[u8])> {
        let mut labels = Vec::new();
        let mut rest = wire;
        loop {
            let (length, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            if label.is_empty() {
                return Some((Self::checked(labels).ok()?, rest));
            }
            labels.push(label.to_vec());
        }
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        for label in &self.0 {
            wire.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            wire.extend_from_slice(label);
        }
        wire.push(0);
        wire
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is `other` or lies below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.ends_with(&other.0)
    }

    /// Absolute, escaped as PowerDNS does.
    pub(crate) fn show(&self) -> String {
        if self.is_root() {
            return ".".to_owned();
        }
        let mut out = String::new();
        for label in &self.0 {
            for byte in label {
                match byte {
                    b'.' | b'\\' => {
                        out.push('\\');
                        out.push(char::from(*byte));
                    }
                    0x21..=0x7e => out.push(char::from(*byte)),
                    _ => out.push_str(&format!("\\{byte:03}")),
                }
            }
            out.push('.');
        }
        out
    }

    /// Whether it may own records. PowerDNS' API takes letters, digits, `-`, `_`, `/`, and an asterisk
    /// that is the whole first label.
    pub(crate) fn check_owner(&self) -> Result<(), String> {
        let known = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_/".contains(b);
        let labels = self.0.iter().enumerate();
        let valid = |(at, label): (usize, &Vec<u8>)| {
            (at == 0 && label.as_slice() == b"*") || label.iter().all(known)
        };
        if labels.into_iter().all(valid) {
            return Ok(());
        }
        Err("may hold letters, digits, - _ and / only, and * as its whole first label".to_owned())
    }

    /// Whether it may be a host's: letters, digits and hyphens within a label (RFC 1123 section 2.1).
    pub(crate) fn is_host(&self) -> bool {
        let known = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let inner = |label: &Vec<u8>| !label.starts_with(b"-") && !label.ends_with(b"-");
        self.0.iter().all(|label| label.iter().all(known) && inner(label))
    }

    /// Whether it looks like an IPv4 address: its last label is a number, which no top-level domain is.
    pub(crate) fn is_address(&self) -> bool {
        self.0.last().is_some_and(|label| label.iter().all(u8::is_ascii_digit))
    }

    /// Whether an octet in it could be taken for a zone file's own, which PowerDNS does not escape.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.0.iter().flatten().any(|byte| b"\"();".contains(byte))
    }

    pub(crate) fn first_label(&self) -> &[u8] {
        self.0.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// This name, relative to another: possibly longer than a name may be.
    pub(crate) fn joined(&self, origin: &Self) -> Self {
        Self(self.0.iter().chain(&origin.0).cloned().collect())
    }

    /// The name one label up; none above the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        self.0.split_first().map(|(_, rest)| Self(rest.to_vec()))
    }
}

/// The octet that an escape stands for, and what follows it.
fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (first, after) = rest.split_first()?;
    if !first.is_ascii_digit() {
        return Some((*first, after));
    }
    let (digits, after) = rest.split_at_checked(3)?;
    let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((value, after))
}

/// A name with its labels in Unicode turned into A-labels; ASCII ones stay as they are.
pub(crate) fn to_ascii(text: &str) -> Result<String, String> {
    if text.is_ascii() {
        return Ok(text.to_owned());
    }
    let mut out = Vec::new();
    // The full stops that IDNA knows beside the ASCII one (RFC 3490 section 3.1).
    for label in text.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
        if label.is_ascii() {
            out.push(label.to_owned());
            continue;
        }
        match idna::domain_to_ascii_strict(label) {
            Ok(ascii) if !ascii.contains('.') => out.push(ascii),
            _ => return Err("has a label that no international domain name may have".to_owned()),
        }
    }
    Ok(out.join("."))
}

/// A name as somebody writes it (`@`, relative to the zone, or absolute with a final dot; Unicode
/// becomes A-labels) as an absolute one in lower case. It lies in the zone, and PowerDNS takes it:
/// its labels hold letters, digits, `-`, `_` and `/`, and the first may be `*`. One that ends in the
/// zone's name without its final dot is refused: it would lie below the zone twice.
///
/// # Errors
/// The rule that the name breaks, at [`Field::Name`].
pub fn absolute(zone: &DomainName, text: &str) -> Result<String, Problem> {
    let problem = |message| Problem::new(Field::Name, message);
    let apex = Name::apex(zone);
    if text.len() > 4096 {
        return Err(problem("is longer than 255 octets".to_owned()));
    }
    let ascii = to_ascii(text).map_err(problem)?;
    let name = Name::parse(ascii.as_bytes(), &apex).map_err(problem)?;
    if !name.is_within(&apex) {
        return Err(problem(format!("must lie in the zone {zone}")));
    }
    if name.is_within(&apex.joined(&apex)) && !ascii.ends_with('.') {
        let full = ascii.to_ascii_lowercase();
        return Err(problem(format!(
            "ends in the zone's name without its final dot: write {full}."
        )));
    }
    name.check_owner().map_err(problem)?;
    Ok(name.show())
}

/// An absolute name of the zone as people write it: `@` for the apex, `www` for what is below it. A
/// name outside the zone stays as it is.
#[must_use]
pub fn relative<'a>(zone: &DomainName, name: &'a str) -> &'a str {
    let inside = name.strip_suffix('.').and_then(|n| n.strip_suffix(zone.as_str()));
    match inside {
        Some("") => "@",
        Some(rest) => rest.strip_suffix('.').unwrap_or(name),
        None => name,
    }
}
