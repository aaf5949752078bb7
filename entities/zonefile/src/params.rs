//! Parameters of service bindings (RFC 9460), as PowerDNS 4.7 shows them.

use crate::text::{Token, quote};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const V4_HINT: u16 = 4;
const ECH: u16 = 5;
const V6_HINT: u16 = 6;

/// By number. PowerDNS 4.7 knows the last, of RFC 9461, by its number only.
const KEYS: &[&str] =
    &["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint", "dohpath"];

/// The parameters by their keys, each value as it travels.
pub(crate) type Params = BTreeMap<u16, Vec<u8>>;

/// Reads `key=value` tokens; a quoted value is a token of its own behind the `=`.
pub(crate) fn read(tokens: &[Token]) -> Result<Params, String> {
    let mut params = Params::new();
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        let at = token.bytes.iter().position(|b| *b == b'=').unwrap_or(token.bytes.len());
        let (key, value) = token.bytes.split_at(at);
        let mut value = value.strip_prefix(b"=").map(<[u8]>::to_vec);
        if let (Some([]), Some((quoted, after))) = (value.as_deref(), rest.split_first())
            && quoted.quoted
            && quoted.glued
        {
            value = Some(quoted.bytes.clone());
            rest = after;
        }
        let text = String::from_utf8_lossy(key).to_ascii_lowercase();
        let number = number(&text).filter(|_| !token.quoted && token.raw.starts_with(key));
        let number = number.ok_or_else(|| format!("has an unknown parameter {text:?}"))?;
        let wire = encode(&text, number, value.as_deref())
            .ok_or_else(|| format!("has a value of {text} that is out of form"))?;
        if params.insert(number, wire).is_some() {
            return Err(format!("has the parameter {text} twice"));
        }
    }
    check(&params)?;
    Ok(params)
}

fn number(text: &str) -> Option<u16> {
    if let Some(at) = KEYS.iter().position(|key| *key == text) {
        return u16::try_from(at).ok();
    }
    let digits = text.strip_prefix("key").filter(|d| *d == "0" || !d.starts_with('0'))?;
    digits.parse().ok().filter(|n| *n < 65_535 && digits.bytes().all(|b| b.is_ascii_digit()))
}

fn encode(text: &str, key: u16, value: Option<&[u8]>) -> Option<Vec<u8>> {
    if text.starts_with("key") || usize::from(key) + 1 >= KEYS.len() {
        return Some(value.unwrap_or_default().to_vec());
    }
    if key == NO_DEFAULT_ALPN {
        return value.is_none_or(<[u8]>::is_empty).then(Vec::new);
    }
    let value = std::str::from_utf8(value?).ok()?;
    match key {
        PORT => value.parse::<u16>().ok().map(|port| port.to_be_bytes().to_vec()),
        ECH => BASE64.decode(value).ok(),
        _ => {
            let mut wire = Vec::new();
            let mut keys = Vec::new();
            for item in value.split(',') {
                match key {
                    MANDATORY => keys.push(number(item)?),
                    ALPN => {
                        wire.push(u8::try_from(item.len()).ok()?);
                        wire.extend_from_slice(item.as_bytes());
                    }
                    V4_HINT => wire.extend(item.parse::<Ipv4Addr>().ok()?.octets()),
                    _ => wire.extend(item.parse::<Ipv6Addr>().ok()?.octets()),
                }
            }
            keys.sort_unstable();
            wire.extend(keys.iter().flat_map(|k| k.to_be_bytes()));
            Some(wire)
        }
    }
}

/// Reads parameters as they travel.
pub(crate) fn from_wire(mut wire: &[u8]) -> Option<Params> {
    let mut params = Params::new();
    while !wire.is_empty() {
        let (key, rest) = wire.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        let key = u16::from_be_bytes(*key);
        // In strictly ascending order (RFC 9460 section 2.2).
        if params.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return None;
        }
        params.insert(key, value.to_vec());
        wire = rest;
    }
    check(&params).ok()?;
    Some(params)
}

pub(crate) fn wire(params: &Params) -> Vec<u8> {
    let mut wire = Vec::new();
    for (key, value) in params {
        wire.extend(key.to_be_bytes());
        wire.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        wire.extend_from_slice(value);
    }
    wire
}

/// RFC 9460 section 7 and 8, and what PowerDNS can read back.
fn check(params: &Params) -> Result<(), String> {
    for (key, value) in params {
        show_value(*key, value)
            .ok_or_else(|| format!("has a value of {} that is out of form", key_text(*key)))?;
    }
    if params.contains_key(&NO_DEFAULT_ALPN) && !params.contains_key(&ALPN) {
        return Err("has no-default-alpn without alpn".to_owned());
    }
    let listed = params.get(&MANDATORY).map(Vec::as_slice).unwrap_or_default();
    for pair in listed.chunks(2) {
        let key = u16::from_be_bytes(pair.try_into().unwrap_or_default());
        if key == MANDATORY || !params.contains_key(&key) {
            return Err("lists a mandatory parameter that it does not have".to_owned());
        }
    }
    Ok(())
}

fn key_text(key: u16) -> String {
    match KEYS.get(usize::from(key)).filter(|_| key <= V6_HINT) {
        Some(name) => (*name).to_owned(),
        None => format!("key{key}"),
    }
}

/// Every parameter, each behind a space.
pub(crate) fn show(params: &Params) -> String {
    let mut out = String::new();
    for (key, value) in params {
        out.push(' ');
        out.push_str(&key_text(*key));
        let value = show_value(*key, value).unwrap_or_default();
        if *key != NO_DEFAULT_ALPN {
            out.push('=');
            out.push_str(&value);
        }
    }
    out
}

/// The value in presentation form; none when it is not one of this key.
fn show_value(key: u16, value: &[u8]) -> Option<String> {
    // PowerDNS 4.7 ends a value at these, in quotes, too, and cannot read it back.
    let plain = |b: &u8| !b"();".contains(b);
    match key {
        MANDATORY => {
            let (pairs, []) = value.as_chunks::<2>() else { return None };
            let keys: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            let ascending = !keys.is_empty() && keys.is_sorted_by(|a, b| a < b);
            let text: Vec<String> = keys.into_iter().map(key_text).collect();
            ascending.then(|| text.join(","))
        }
        ALPN => {
            let mut ids = Vec::new();
            let mut rest = value;
            while let Some((length, after)) = rest.split_first() {
                let (id, after) = after.split_at_checked(usize::from(*length))?;
                rest = after;
                let known = |b: &u8| b.is_ascii_graphic() && plain(b) && !b"\",\\".contains(b);
                if id.is_empty() || !id.iter().all(known) {
                    return None;
                }
                ids.push(std::str::from_utf8(id).ok()?);
            }
            (!ids.is_empty()).then(|| ids.join(","))
        }
        NO_DEFAULT_ALPN => value.is_empty().then(String::new),
        PORT => Some(u16::from_be_bytes(value.try_into().ok()?).to_string()),
        V4_HINT => {
            let (hints, []) = value.as_chunks::<4>() else { return None };
            let text: Vec<String> = hints.iter().map(|h| Ipv4Addr::from(*h).to_string()).collect();
            (!text.is_empty()).then(|| text.join(","))
        }
        ECH => (!value.is_empty()).then(|| format!("\"{}\"", BASE64.encode(value))),
        V6_HINT => {
            let (hints, []) = value.as_chunks::<16>() else { return None };
            let each = |h: &[u8; 16]| super::rdata::show_v6(Ipv6Addr::from(*h));
            let text = hints.iter().map(each).collect::<Option<Vec<String>>>()?;
            (!text.is_empty()).then(|| text.join(","))
        }
        _ => value.iter().all(plain).then(|| quote(value)),
    }
}
