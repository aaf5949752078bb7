//! What a record should not say, though servers carry it: registries, and the rules of those who
//! read the records. For what is written here; a zone that moves here keeps what it has.

use crate::name::Name;
use crate::rdata::{Data, Value};

/// CAA properties that somebody reads: RFC 8659, RFC 9495, and the CA/Browser Forum's.
const CAA_TAGS: &[&str] =
    &["issue", "issuewild", "iodef", "contactemail", "contactphone", "issuemail", "issuevmc"];

/// Algorithms of DNSSEC that a DS record may name (IANA).
const DS_ALGORITHMS: &[u8] = &[5, 7, 8, 10, 12, 13, 14, 15, 16, 17, 23];

pub(crate) fn check(data: &Data) -> Result<(), String> {
    match (data.kind.name, data.values.as_slice()) {
        (
            rtype @ ("MX" | "NS" | "SRV" | "CNAME" | "DNAME" | "ALIAS" | "SVCB" | "HTTPS"),
            values,
        ) => {
            let names = values.iter().filter_map(|value| match value {
                Value::Name(name) => Some(name),
                _ => None,
            });
            names.into_iter().try_for_each(|name| target(rtype, name))?;
            match values {
                [Value::U16(preference), Value::Name(name)] if rtype == "MX" && name.is_root() => {
                    rule(*preference == 0, "must be 0 . when it says that there is no mail")
                }
                _ => Ok(()),
            }
        }
        ("CAA", [Value::U8(flags), Value::Tag(tag), Value::Octets(value)]) => {
            caa(*flags, tag, value)
        }
        ("SSHFP", [Value::U8(algorithm), Value::U8(hash), _]) => {
            let known = matches!(algorithm, 1 | 2 | 3 | 4 | 6);
            rule(known, "has an algorithm other than 1, 2, 3, 4 and 6")?;
            rule(matches!(hash, 1 | 2), "has a hash other than 1 (SHA-1) and 2 (SHA-256)")
        }
        (
            "TLSA" | "SMIMEA",
            [Value::U8(usage), Value::U8(selector), Value::U8(matching), Value::Hex(bytes)],
        ) => {
            rule(*usage <= 3, "has a usage other than 0, 1, 2 and 3")?;
            rule(*selector <= 1, "has a selector other than 0 and 1")?;
            match matching {
                0 => Ok(()),
                1 => rule(bytes.len() == 32, "must have 64 hexadecimal digits for SHA-256"),
                2 => rule(bytes.len() == 64, "must have 128 hexadecimal digits for SHA-512"),
                _ => Err("has a matching type other than 0, 1 and 2".to_owned()),
            }
        }
        ("DS", [_, Value::U8(algorithm), Value::U8(digest), _]) => {
            let known = DS_ALGORITHMS.contains(algorithm);
            rule(known, "has an algorithm that no key of a zone has")?;
            rule(matches!(digest, 1 | 2 | 4), "has a digest other than 1, 2 and 4")
        }
        (
            "NAPTR",
            [_, _, Value::Text(flags), _, Value::Text(expression), Value::Name(replacement)],
        ) => {
            let known = flags.iter().all(u8::is_ascii_alphanumeric);
            rule(known, "has flags other than letters and digits")?;
            let one = expression.is_empty() || replacement.is_root();
            rule(one, "must have a regular expression or a replacement, not both")
        }
        ("URI", [_, _, Value::Octets(address)]) => rule(!address.is_empty(), "has no address"),
        _ => Ok(()),
    }
}

fn rule(kept: bool, message: &str) -> Result<(), String> {
    if kept { Ok(()) } else { Err(message.to_owned()) }
}

/// A name that a client goes on to.
fn target(rtype: &str, name: &Name) -> Result<(), String> {
    rule(!name.is_address(), "must lead to a name, not to an address")?;
    let rootless = matches!(rtype, "CNAME" | "DNAME" | "ALIAS") && name.is_root();
    rule(!rootless, "must lead to a name, not to the root")?;
    name.check_owner().map_err(|why| format!("has a name that {why}"))
}

fn caa(flags: u8, tag: &str, value: &[u8]) -> Result<(), String> {
    rule(matches!(flags, 0 | 128), "must have the flags 0, or 128 for critical")?;
    if !CAA_TAGS.contains(&tag) {
        return Err(format!("has a tag other than {}", CAA_TAGS.join(", ")));
    }
    let text = std::str::from_utf8(value).unwrap_or("\0");
    match tag {
        "iodef" => {
            let rest = ["mailto:", "https://", "http://"].iter().find_map(|s| text.strip_prefix(s));
            let known = rest.is_some_and(|rest| !rest.is_empty() && is_graphic(rest));
            rule(known, "must have a mailto:, https:// or http:// address as its value")
        }
        "contactemail" => {
            let known = text.split_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && is_graphic(text)
            });
            rule(known, "must have a mail address as its value")
        }
        "contactphone" => {
            let known = text.bytes().any(|b| b.is_ascii_digit())
                && text.bytes().all(|b| b.is_ascii_digit() || b" +-().;=ext".contains(&b));
            rule(known, "must have a telephone number as its value, such as +49 30 123456")
        }
        _ => rule(
            is_issuer(text),
            "must have a certificate authority's domain as its value, or ; for none, such as letsencrypt.org; validationmethods=dns-01",
        ),
    }
}

fn is_graphic(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

/// RFC 8659 section 4.2: a domain or nothing, then parameters behind semicolons.
fn is_issuer(text: &str) -> bool {
    let space = |c: char| c == ' ' || c == '\t';
    let mut fields = text.split(';').map(|field| field.trim_matches(space));
    let domain = fields.next().unwrap_or_default();
    let dotted = domain.is_empty() || domain.split('.').all(is_word);
    let mut parameters: Vec<&str> = fields.collect();
    // Nothing need follow the last semicolon.
    if parameters.last().is_some_and(|last| last.is_empty()) {
        parameters.pop();
    }
    dotted
        && parameters.iter().all(|parameter| {
            parameter.split_once('=').is_some_and(|(tag, value)| {
                is_word(tag.trim_end_matches(space)) && is_graphic(value.trim_start_matches(space))
            })
        })
}

/// Letters, digits, and hyphens within.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
