//! Property strings such as `name=eth0,bridge=vmbr0`, and lists.

use serde_json::{Map, Value};

use crate::formats;
use crate::schema::flag;

/// A property string taken apart, in its order.
pub type Parts = Vec<(String, String)>;

/// The items of a list, which commas, semicolons, NULs or blanks keep apart.
pub fn list(text: &str) -> Vec<&str> {
    text.split([',', ';', ' ', '\t', '\n', '\0']).filter(|item| !item.is_empty()).collect()
}

/// Takes a property string apart; what has no `=` belongs to the default key.
pub fn parse(text: &str, default_key: &str) -> Parts {
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| match part.trim().split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (default_key.to_owned(), part.trim().to_owned()),
        })
        .collect()
}

/// The value of a key.
pub fn get<'a>(parts: &'a Parts, key: &str) -> Option<&'a str> {
    parts.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

/// Sets a key, at its place if it has one.
pub fn set(parts: &mut Parts, key: &str, value: &str) {
    match parts.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => value.clone_into(old),
        None => parts.push((key.to_owned(), value.to_owned())),
    }
}

/// Writes it as Proxmox does: the default key's value first and bare, the others by name.
pub fn print(parts: &Parts, default_key: &str) -> String {
    let mut named: Vec<String> = parts
        .iter()
        .filter(|(key, _)| key != default_key)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    named.sort();
    let bare = get(parts, default_key).map(str::to_owned);
    bare.into_iter().chain(named).collect::<Vec<_>>().join(",")
}

/// The key whose name may be left out.
pub fn default_key(parts: &Map<String, Value>) -> Option<&str> {
    parts.iter().find(|(_, schema)| flag(schema, "default_key")).map(|(key, _)| key.as_str())
}

/// What is wrong with a property string of this format, in Proxmox' words; `path` is the name that it
/// has itself.
pub fn complaint(format: &Map<String, Value>, text: &str, path: &str) -> Option<String> {
    let parts = match split(format, text) {
        Ok(parts) => parts,
        Err(words) => return Some(words),
    };
    let mut complaints = Vec::new();
    for (key, schema) in format {
        let place = format!("{path}.{key}");
        match get(&parts, key) {
            Some(value) => {
                complaints.extend(formats::complaint(schema, value, &place).map(|why| (place, why)))
            }
            None if !flag(schema, "optional") => {
                complaints.push((place, "property is missing and it is not optional".to_owned()));
            }
            None => {}
        }
    }
    complaints.sort();
    let lines: Vec<String> =
        complaints.iter().map(|(place, why)| format!("{place}: {why}\n")).collect();
    (!lines.is_empty()).then(|| format!("format error\n{}", lines.concat()))
}

/// Takes it apart as far as its keys are known and each is there once.
fn split(format: &Map<String, Value>, text: &str) -> Result<Parts, String> {
    const LIST: &str = "in comma-separated list property";
    let mut parts = Parts::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => (key, value),
            Some(_) => return Err(format!("missing key {LIST}\n")),
            None => match default_key(format) {
                Some(key) => (key, part),
                None => {
                    return Err(
                        "value without key, but schema does not define a default key\n".to_owned()
                    );
                }
            },
        };
        if get(&parts, key).is_some() {
            return Err(format!("duplicate key {LIST}: {key}\n"));
        }
        if !format.contains_key(key) {
            return Err(format!("invalid key {LIST}: {key}\n"));
        }
        parts.push((key.to_owned(), value.to_owned()));
    }
    Ok(parts)
}

/// Writes a network card as Proxmox does: its name first, then the others in order.
pub fn print_network(parts: &Parts) -> String {
    let mut named: Vec<&(String, String)> = parts.iter().collect();
    named.sort_by_key(|(key, _)| (key != "name", key.clone()));
    let words: Vec<String> = named.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.join(",")
}
