//! Property strings such as `name=eth0,bridge=vmbr0`, and lists.

use serde_json::{Map, Value};

use crate::formats::{self, Complaint};
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

/// All that is wrong with a property string of this format.
pub fn check(format: &Map<String, Value>, text: &str) -> Vec<Complaint> {
    let Some(parts) = split(format, text) else {
        let why = "value without key, but schema does not define a default key";
        return vec![(text.to_owned(), why.to_owned())];
    };
    let mut complaints = Vec::new();
    for (index, (key, value)) in parts.iter().enumerate() {
        if parts.iter().take(index).any(|(earlier, _)| earlier == key) {
            complaints.push((
                key.clone(),
                format!("duplicate key in comma-separated list property: {key}"),
            ));
        } else if let Some(schema) = format.get(key) {
            complaints.extend(formats::complaint(schema, value).map(|why| (key.clone(), why)));
        } else {
            let why = "property is not defined in schema and the schema does not allow additional properties";
            complaints.push((key.clone(), why.to_owned()));
        }
    }
    for (key, schema) in format {
        if !flag(schema, "optional") && get(&parts, key).is_none() {
            complaints.push((key.clone(), "property is missing and it is not optional".to_owned()));
        }
    }
    complaints.sort();
    complaints
}

fn split(format: &Map<String, Value>, text: &str) -> Option<Parts> {
    let default = default_key(format);
    if default.is_none() && text.split(',').any(|part| !part.is_empty() && !part.contains('=')) {
        return None;
    }
    Some(parse(text, default.unwrap_or_default()))
}

/// Writes a network card as Proxmox does: its name first, then the others in order.
pub fn print_network(parts: &Parts) -> String {
    let mut named: Vec<&(String, String)> = parts.iter().collect();
    named.sort_by_key(|(key, _)| (key != "name", key.clone()));
    let words: Vec<String> = named.iter().map(|(key, value)| format!("{key}={value}")).collect();
    words.join(",")
}
