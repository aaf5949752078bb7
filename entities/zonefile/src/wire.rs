//! Data as they travel.

use crate::kinds::{Kind, Part};
use crate::name::Name;
use crate::params;
use crate::rdata::Value;
use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};

/// Takes one field off the beginning of `rest`.
pub(crate) fn take(part: Part, rest: &mut &[u8]) -> Option<Value> {
    let all = |rest: &mut &[u8]| std::mem::take(rest).to_vec();
    match part {
        Part::U8 => take_array(rest).map(|[n]| Value::U8(n)),
        Part::U16 => take_array(rest).map(|n| Value::U16(u16::from_be_bytes(n))),
        Part::V4 => take_array::<4>(rest).map(|ip| Value::V4(ip.into())),
        Part::V6 => take_array::<16>(rest).map(|ip| Value::V6(ip.into())),
        Part::Name | Part::Host | Part::HostOrRoot => {
            let (name, after) = Name::from_wire(rest)?;
            *rest = after;
            Some(Value::Name(name))
        }
        Part::Text => take_text(rest).map(Value::Text),
        Part::Texts => {
            let mut texts = Vec::new();
            while !rest.is_empty() {
                texts.push(take_text(rest)?);
            }
            (!texts.is_empty()).then_some(Value::Texts(texts))
        }
        Part::Tag => {
            let tag = String::from_utf8(take_text(rest)?).ok()?;
            Some(Value::Tag(tag.to_ascii_lowercase()))
        }
        Part::Octets => Some(Value::Octets(all(rest))),
        Part::Hex => Some(Value::Hex(all(rest))),
        Part::Base64 => Some(Value::Base64(all(rest))),
        Part::Params => params::from_wire(std::mem::take(rest)).map(Value::Params),
    }
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn take_text(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let [length] = take_array(rest)?;
    let (text, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    Some(text.to_vec())
}

pub(crate) fn push_text(wire: &mut Vec<u8>, text: &[u8]) {
    wire.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    wire.extend_from_slice(text);
}

/// Whether the library that reads servers' answers reads these data, so that what is stored can be
/// compared with what is served.
pub(crate) fn is_readable(kind: &Kind, wire: &[u8]) -> bool {
    let Ok(length) = u16::try_from(wire.len()) else { return false };
    let rtype = RecordType::from(kind.code);
    RData::read(&mut BinDecoder::new(wire), rtype, Restrict::new(length)).is_ok()
}
