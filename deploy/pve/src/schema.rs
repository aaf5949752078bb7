//! Which calls Proxmox' API has, and what each of their parameters may be: names, types, ranges and
//! formats, as its published schema states them, in `schema.json`.

use serde_json::{Map, Value};

use crate::error::{Result, failure};

/// The parameters of one call, by name; `net[n]` stands for `net0`, `net1` and so on.
pub type Properties = Map<String, Value>;

/// How many of each indexed option there are.
const INDEXED: &[(&str, usize)] = &[("net", 32), ("mp", 256), ("unused", 256), ("dev", 256)];

/// All calls, by "METHOD /path/{with}/{places}".
pub struct Schema {
    calls: Map<String, Value>,
}

/// A call that an address leads to.
pub struct Call {
    /// Its key, "GET /nodes/{node}/lxc".
    pub key: String,
    /// What stood in the address at the places of the path.
    pub places: Vec<(String, String)>,
}

impl Schema {
    /// The schema that is compiled in.
    pub fn load() -> Result<Schema> {
        match serde_json::from_str(include_str!("schema.json"))? {
            Value::Object(calls) => Ok(Schema { calls }),
            _ => Err(failure("the schema is no object")),
        }
    }

    /// The parameters of this call, if there is one.
    pub fn properties(&self, key: &str) -> Option<&Properties> {
        self.calls.get(key)?.as_object()
    }

    /// The keys of all calls.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.calls.keys()
    }

    /// The call that a method and an address lead to; literal words go before places.
    pub fn find(&self, method: &str, address: &str) -> Option<Call> {
        let words: Vec<&str> = address.split('/').filter(|word| !word.is_empty()).collect();
        self.keys()
            .filter_map(|key| {
                let (known, path) = key.split_once(' ')?;
                (known == method)
                    .then(|| places_of(path, &words))?
                    .map(|places| Call { key: key.clone(), places })
            })
            .min_by_key(|call| call.places.len())
    }

    /// The next words below an address, as `pvesh ls` shows them.
    pub fn below(&self, address: &str) -> Vec<String> {
        let words: Vec<&str> = address.split('/').filter(|word| !word.is_empty()).collect();
        let mut found: Vec<String> = self
            .keys()
            .filter_map(|key| {
                let parts: Vec<&str> = key.split_once(' ')?.1.split('/').skip(1).collect();
                let (head, tail) = parts.split_at_checked(words.len())?;
                let fits = head
                    .iter()
                    .zip(&words)
                    .all(|(part, word)| part == word || part.starts_with('{'));
                fits.then(|| tail.first().map(|part| (*part).to_owned()))?
            })
            .filter(|part| !part.is_empty() && !part.starts_with('{'))
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

fn places_of(path: &str, words: &[&str]) -> Option<Vec<(String, String)>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() != words.len() {
        // A volume's name may hold a slash: it is the last place and takes the rest.
        return volume_with_slash(&parts, words);
    }
    let mut places = Vec::new();
    for (part, word) in parts.iter().zip(words) {
        match part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => places.push((name.to_owned(), (*word).to_owned())),
            None if part == word => {}
            None => return None,
        }
    }
    Some(places)
}

fn volume_with_slash(parts: &[&str], words: &[&str]) -> Option<Vec<(String, String)>> {
    if parts.last() != Some(&"{volume}") || words.len() <= parts.len() {
        return None;
    }
    let (head, tail) = words.split_at_checked(parts.len() - 1)?;
    let mut joined = head.to_vec();
    let volume = tail.join("/");
    joined.push(&volume);
    places_of(&parts.join("/"), &joined)
}

/// What is known of a parameter, an indexed one included: `net3` finds `net[n]`.
pub fn property<'a>(properties: &'a Properties, name: &str) -> Option<&'a Value> {
    properties.get(name).or_else(|| {
        let (stem, count) = INDEXED.iter().find(|(stem, _)| name.starts_with(stem))?;
        let digits = name.strip_prefix(stem)?;
        let index: usize = digits.parse().ok()?;
        (index < *count && digits == index.to_string())
            .then(|| properties.get(&format!("{stem}[n]")))?
    })
}

/// All names that options may have, indexed ones written out.
pub fn names(properties: &Properties) -> Vec<String> {
    let mut names = Vec::new();
    for name in properties.keys() {
        match name.strip_suffix("[n]") {
            Some(stem) => {
                let count = INDEXED.iter().find(|(known, _)| *known == stem);
                names.extend(
                    (0..count.map_or(0, |(_, count)| *count)).map(|i| format!("{stem}{i}")),
                );
            }
            None => names.push(name.clone()),
        }
    }
    names
}

/// A word of a parameter's schema, such as its type or format; empty when it has none.
pub fn word<'a>(property: &'a Value, key: &str) -> &'a str {
    property.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a flag of a parameter's schema is set.
pub fn flag(property: &Value, key: &str) -> bool {
    matches!(property.get(key), Some(Value::Bool(true)))
        || property.get(key).and_then(Value::as_i64) == Some(1)
}
