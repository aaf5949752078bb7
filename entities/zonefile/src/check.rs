//! What a set must keep to.

use crate::kinds::Kind;
use crate::name::{Name, absolute};
use crate::rdata::{Data, Scope};
use crate::text::{Token, record_tokens};
use crate::{Draft, Field, Problem, RECORDS_MAX, RecordSet, TTL_MAX, TTL_MIN, advice};
use std::collections::BTreeSet;
use values::DomainName;

/// The most octets that the records of one set may take in a message: its 65,535, less the question,
/// a signature and what else travels along.
pub(crate) const SET_OCTETS_MAX: usize = 64_000;

/// Checks a set and brings it into canonical form; reports all of its problems at once. Records that
/// are the same in canonical form are one.
///
/// A name in a record's data is absolute with its final dot, `@`, or one label relative to the zone:
/// `mail.example.net` without its dot would mean a name below the zone, which nobody means.
///
/// A TXT record that does not begin with a quote is its text: it becomes one value, in strings of 255
/// octets.
///
/// # Errors
/// Every problem of the set, each at its field.
pub fn check_set(zone: &DomainName, draft: &Draft<'_>) -> Result<RecordSet, Vec<Problem>> {
    let mut problems = Vec::new();
    let name = absolute(zone, draft.name).map_err(|problem| problems.push(problem)).ok();
    let rtype = draft.rtype.to_ascii_uppercase();
    let kind = Kind::named(&rtype);
    if kind.is_none() {
        problems.push(Problem::new(Field::Type, type_message(&rtype)));
    }
    if !(TTL_MIN..=TTL_MAX).contains(&draft.ttl) {
        let message = format!("must be between {TTL_MIN} and {TTL_MAX} seconds");
        problems.push(Problem::new(Field::Ttl, message));
    }
    let mut records = BTreeSet::new();
    if let Some(kind) = kind {
        let owner = name.as_deref().unwrap_or_default();
        owner_problem(kind, owner).into_iter().for_each(|problem| problems.push(problem));
        records = checked_records(zone, kind, draft.records, &mut problems);
    }
    match name {
        Some(name) if problems.is_empty() => Ok(RecordSet { name, rtype, ttl: draft.ttl, records }),
        _ => Err(problems),
    }
}

fn type_message(rtype: &str) -> String {
    match rtype {
        "SPF" => "is out of use (RFC 7208 section 3.1): write the policy as TXT".to_owned(),
        "SOA" => "is the zone's own: its values are set by the server".to_owned(),
        _ => "is not a type of record that can be written".to_owned(),
    }
}

/// RFC 2782: the service and the protocol stand before the domain.
fn owner_problem(kind: &Kind, owner: &str) -> Option<Problem> {
    let mut labels = owner.split('.');
    let first = labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    let second = labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
    let message = "must begin with a service and a protocol, such as _sip._tcp";
    (kind.name == "SRV" && !owner.is_empty() && !(first && second))
        .then(|| Problem::new(Field::Name, message))
}

fn checked_records(
    zone: &DomainName,
    kind: &'static Kind,
    drafts: &[String],
    problems: &mut Vec<Problem>,
) -> BTreeSet<String> {
    let origin = Name::apex(zone);
    let mut records = BTreeSet::new();
    let mut octets = 0;
    if drafts.is_empty() {
        problems.push(Problem::new(Field::Record(0), "must be given: a set has at least one"));
    }
    for (at, text) in drafts.iter().enumerate() {
        let field = Field::Record(at);
        if at >= RECORDS_MAX {
            let message = format!("is one too many: a set has at most {RECORDS_MAX}");
            problems.push(Problem::new(field, message));
            break;
        }
        let read = tokens(kind, text)
            .and_then(|tokens| Data::read(kind, &tokens, Scope { origin: &origin, draft: true }))
            .and_then(|data| advice::check(&data).map(|()| data));
        match read {
            Ok(data) => {
                let length = data.wire().len();
                if records.insert(data.show()) {
                    octets += 12 + length;
                }
            }
            Err(message) => {
                problems.push(Problem::new(field, message));
                continue;
            }
        }
        if octets > SET_OCTETS_MAX {
            problems.push(Problem::new(field, "makes the set larger than an answer can be"));
            break;
        }
        if Kind::is_single(kind.name) && records.len() > 1 {
            let message = format!("is one too many: a name has one {}", kind.name);
            problems.push(Problem::new(field, message));
            break;
        }
        if kind.name == "MX" && records.len() > 1 && records.contains("0 .") {
            let message = "cannot stand beside the null MX, which says that there is no mail";
            problems.push(Problem::new(field, message));
            break;
        }
    }
    records
}

fn tokens(kind: &Kind, text: &str) -> Result<Vec<Token>, String> {
    if kind.name != "TXT" {
        return record_tokens(text.trim());
    }
    if text.is_empty() {
        return Err("is empty: write \"\" for an empty string".to_owned());
    }
    if !text.trim_start().starts_with('"') {
        if text.contains('"') {
            return Err("must be strings in quotes, or text without any quote".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("has a line break or another control character".to_owned());
        }
        let bytes = text.as_bytes().to_vec();
        return Ok(vec![Token { raw: bytes.clone(), bytes, quoted: true, glued: false }]);
    }
    let tokens = record_tokens(text.trim())?;
    if tokens.iter().any(|token| !token.quoted) {
        return Err("must be strings in quotes, or text without any quote".to_owned());
    }
    Ok(tokens)
}
