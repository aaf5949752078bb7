//! A record's data: read from presentation form or from octets, shown in canonical form.

use crate::kinds::{Kind, Part};
use crate::name::{Name, to_ascii};
use crate::params::{self, Params};
use crate::text::{Token, quote};
use crate::wire::{self, push_text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest data that a message can carry, and the longest text that PowerDNS' schema holds.
const LONGEST: usize = 65_535;

/// One field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    U8(u8),
    U16(u16),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Name(Name),
    Text(Vec<u8>),
    Texts(Vec<Vec<u8>>),
    Tag(String),
    Octets(Vec<u8>),
    Hex(Vec<u8>),
    Base64(Vec<u8>),
    Params(Params),
}

/// How names in the data are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    /// What a relative name is relative to.
    pub origin: &'a Name,
    /// Written by a caller: Unicode becomes A-labels, and a name of several labels without a final
    /// dot is refused, since it could mean two names.
    pub draft: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Data {
    pub kind: &'static Kind,
    pub values: Vec<Value>,
}

impl Data {
    /// Reads data in presentation form, or in the form of unknown types (RFC 3597 section 5).
    pub(crate) fn read(
        kind: &'static Kind,
        tokens: &[Token],
        scope: Scope<'_>,
    ) -> Result<Self, String> {
        if let Some((first, rest)) = tokens.split_first()
            && !first.quoted
            && first.raw == b"\\#"
        {
            let wire = generic(rest).ok_or("has octets that are not as many as it says")?;
            return Self::from_wire(kind, &wire).ok_or_else(|| kind.form.to_owned())?.checked();
        }
        let mut rest = tokens;
        let mut values = Vec::new();
        for part in kind.parts {
            values.push(take(*part, &mut rest, scope).map_err(|why| why.text(kind))?);
        }
        if !rest.is_empty() {
            return Err(kind.form.to_owned());
        }
        Self { kind, values }.checked()
    }

    /// Reads data as they travel.
    fn from_wire(kind: &'static Kind, wire: &[u8]) -> Option<Self> {
        let mut rest = wire;
        let values = kind.parts.iter().map(|part| wire::take(*part, &mut rest));
        let values = values.collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self { kind, values })
    }

    /// What no server can carry, and what PowerDNS cannot give back.
    fn checked(self) -> Result<Self, String> {
        for (part, value) in self.kind.parts.iter().zip(&self.values) {
            check_value(*part, value)?;
        }
        match (self.kind.name, self.values.as_slice()) {
            ("SSHFP", [_, Value::U8(hash), Value::Hex(bytes)]) => {
                check_length(
                    bytes,
                    match hash {
                        1 => 20,
                        2 => 32,
                        _ => 0,
                    },
                )?;
            }
            ("DS", [_, _, Value::U8(digest), Value::Hex(bytes)]) => {
                check_length(
                    bytes,
                    match digest {
                        1 => 20,
                        2 | 3 => 32,
                        4 => 48,
                        _ => 0,
                    },
                )?;
            }
            ("SVCB" | "HTTPS", [Value::U16(0), _, Value::Params(params)]) if !params.is_empty() => {
                return Err("must have no parameters with priority 0".to_owned());
            }
            _ => {}
        }
        let wire = self.wire();
        if wire.len() > LONGEST || self.show().len() > LONGEST {
            return Err("is longer than a server can hold".to_owned());
        }
        if !wire::is_readable(self.kind, &wire) {
            return Err(self.kind.form.to_owned());
        }
        Ok(self)
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut wire = Vec::new();
        for value in &self.values {
            match value {
                Value::U8(n) => wire.push(*n),
                Value::U16(n) => wire.extend(n.to_be_bytes()),
                Value::V4(ip) => wire.extend(ip.octets()),
                Value::V6(ip) => wire.extend(ip.octets()),
                Value::Name(name) => wire.extend(name.wire()),
                Value::Text(text) => push_text(&mut wire, text),
                Value::Texts(texts) => texts.iter().for_each(|text| push_text(&mut wire, text)),
                Value::Tag(tag) => push_text(&mut wire, tag.as_bytes()),
                Value::Octets(bytes) | Value::Hex(bytes) | Value::Base64(bytes) => {
                    wire.extend_from_slice(bytes);
                }
                Value::Params(params) => wire.extend(params::wire(params)),
            }
        }
        wire
    }

    /// Canonical: byte for byte what PowerDNS' API gives back.
    pub(crate) fn show(&self) -> String {
        let mut out = String::new();
        for value in &self.values {
            // Parameters bring their own space, and there may be none.
            if !out.is_empty() && !matches!(value, Value::Params(_)) {
                out.push(' ');
            }
            match value {
                Value::U8(n) => out.push_str(&n.to_string()),
                Value::U16(n) => out.push_str(&n.to_string()),
                Value::V4(ip) => out.push_str(&ip.to_string()),
                Value::V6(ip) => out.push_str(&ip.to_string()),
                Value::Name(name) => out.push_str(&name.show()),
                Value::Text(bytes) | Value::Octets(bytes) => out.push_str(&quote(bytes)),
                Value::Texts(texts) => {
                    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
                    out.push_str(&quoted.join(" "));
                }
                Value::Tag(tag) => out.push_str(tag),
                Value::Hex(bytes) => out.push_str(&hex::encode(bytes)),
                Value::Base64(bytes) => out.push_str(&BASE64.encode(bytes)),
                Value::Params(params) => out.push_str(&params::show(params)),
            }
        }
        out
    }

    /// The host that it leads to, which must not be an alias: of MX, NS and SRV.
    pub(crate) fn host(&self) -> Option<&Name> {
        match (self.kind.name, self.values.last()) {
            ("MX" | "NS" | "SRV", Some(Value::Name(name))) => Some(name),
            _ => None,
        }
    }
}

/// Why a field could not be read.
enum Why {
    /// The form as a whole is not the type's.
    Form,
    Said(String),
}

impl Why {
    fn text(self, kind: &Kind) -> String {
        match self {
            Self::Form => kind.form.to_owned(),
            Self::Said(text) => text,
        }
    }
}

fn take(part: Part, rest: &mut &[Token], scope: Scope<'_>) -> Result<Value, Why> {
    match part {
        Part::Texts if !rest.is_empty() => return Ok(Value::Texts(texts(std::mem::take(rest)))),
        Part::Hex | Part::Base64 => {
            let all = std::mem::take(rest);
            let text: Option<String> = all.iter().map(Token::plain).collect();
            let text = text.filter(|t| !t.is_empty()).ok_or(Why::Form)?;
            let value = match part {
                Part::Hex => hex::decode(&text).ok().map(Value::Hex),
                _ => BASE64.decode(&text).ok().map(Value::Base64),
            };
            return value.ok_or(Why::Form);
        }
        Part::Params => {
            return params::read(std::mem::take(rest)).map(Value::Params).map_err(Why::Said);
        }
        _ => {}
    }
    let (token, after) = rest.split_first().ok_or(Why::Form)?;
    *rest = after;
    let plain = || token.plain().ok_or(Why::Form);
    let value = match part {
        Part::U8 => number(plain()?).map(Value::U8),
        Part::U16 => number(plain()?).map(Value::U16),
        Part::V4 => plain()?.parse().ok().map(Value::V4),
        Part::V6 => plain()?.parse().ok().map(Value::V6),
        Part::Tag => Some(Value::Tag(plain()?.to_ascii_lowercase())),
        Part::Text => {
            if token.bytes.len() > 255 {
                return Err(Why::Said("has a string of more than 255 octets".to_owned()));
            }
            Some(Value::Text(token.bytes.clone()))
        }
        Part::Octets => Some(Value::Octets(token.bytes.clone())),
        _ => return name(token, scope).map(Value::Name),
    };
    value.ok_or(Why::Form)
}

/// Digits only: `+1` is no number of a record.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn name(token: &Token, scope: Scope<'_>) -> Result<Name, Why> {
    if token.quoted {
        return Err(Why::Form);
    }
    let said = |why: String| Why::Said(format!("has a name that {why}"));
    if !scope.draft {
        return Name::parse(&token.raw, scope.origin).map_err(said);
    }
    let text = std::str::from_utf8(&token.raw).unwrap_or_default();
    let text = to_ascii(text).map_err(said)?;
    if text.contains(':') {
        return Err(Why::Said("must lead to a name, not to an address".to_owned()));
    }
    if text.contains('.') && !text.ends_with('.') {
        let why = match text.parse::<Ipv4Addr>() {
            Ok(_) => "must lead to a name, not to an address".to_owned(),
            Err(_) => format!("has a name without its final dot: write {text}."),
        };
        return Err(Why::Said(why));
    }
    Name::parse(text.as_bytes(), scope.origin).map_err(said)
}

/// Strings keep their borders; only one over 255 octets, which no message can carry, is split.
fn texts(tokens: &[Token]) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    for token in tokens {
        if token.bytes.is_empty() {
            texts.push(Vec::new());
        }
        texts.extend(token.bytes.chunks(255).map(<[u8]>::to_vec));
    }
    texts
}

/// The octets of `\# LENGTH HEX`.
fn generic(tokens: &[Token]) -> Option<Vec<u8>> {
    let (length, rest) = tokens.split_first()?;
    let length: usize = number::<u16>(length.plain()?)?.into();
    let text: String = rest.iter().map(Token::plain).collect::<Option<_>>()?;
    hex::decode(text).ok().filter(|wire| wire.len() == length)
}

fn check_value(part: Part, value: &Value) -> Result<(), String> {
    let said = |why: &str| Err(why.to_owned());
    match (part, value) {
        (_, Value::V6(ip)) if show_v6(*ip).is_none() => {
            said("must not hold an IPv4 address: that is an A record's")
        }
        (Part::Host, Value::Name(name)) if name.is_root() => said("must name a host"),
        (Part::Host | Part::HostOrRoot, Value::Name(name)) if !name.is_host() => {
            said("must lead to a host, whose name holds letters, digits and hyphens only")
        }
        (_, Value::Name(name)) if name.is_ambiguous() => {
            said("has a name with a quote, a parenthesis or a semicolon")
        }
        (_, Value::Tag(tag)) => {
            let known = tag.bytes().all(|b| b.is_ascii_alphanumeric());
            if known && (1..=15).contains(&tag.len()) {
                return Ok(());
            }
            said("has a tag that is not made of 1 to 15 letters and digits")
        }
        (_, Value::Hex(bytes) | Value::Base64(bytes)) if bytes.is_empty() => said("has no data"),
        _ => Ok(()),
    }
}

/// `length` 0: that of a hash which nobody knows.
fn check_length(bytes: &[u8], length: usize) -> Result<(), String> {
    if length == 0 || bytes.len() == length {
        return Ok(());
    }
    Err(format!("has a hash of {} octets instead of {length}", bytes.len()))
}

/// None for an address of IPv4 in IPv6's form (RFC 4291 section 2.5.5): no such address is reachable,
/// and PowerDNS shows it in a form that it does not read.
pub(crate) fn show_v6(ip: Ipv6Addr) -> Option<String> {
    let [a, b, c, d, e, f, g, _] = ip.segments();
    let mapped = [a, b, c, d, e] == [0; 5] && (f == 0xffff || f == 0 && g != 0);
    (!mapped).then(|| ip.to_string())
}
