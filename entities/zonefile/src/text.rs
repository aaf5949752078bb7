//! Character strings in presentation form.

/// The octets of a TXT record's strings, joined: what a resolver's user sees. None when `text` is
/// not in presentation form.
#[must_use]
pub fn txt_value(text: &str) -> Option<Vec<u8>> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\" \"", "").into_bytes())
}

/// The presentation form of a TXT record with these octets: strings of 255 each.
#[must_use]
pub fn txt_record(value: &[u8]) -> String {
    if value.is_empty() {
        return quote(value);
    }
    value.chunks(255).map(quote).collect::<Vec<_>>().join(" ")
}

/// A string in quotes, with `"`, `\` and everything that is not printable ASCII escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out.push('"');
    out
}
