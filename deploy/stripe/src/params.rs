//! What a call was sent: form parameters with brackets, held against the parameters that the API
//! version knows.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use crate::error::{Answer, ApiError};
use crate::value::Fields;

/// Every call with its parameters, written by `deploy/stripe/parameters`.
const PARAMETERS: &str = include_str!("parameters.txt");

/// The parameters of a call, or one of its nested parts. Leaves are strings.
#[derive(Debug, Clone)]
pub struct Params {
    value: Value,
    name: String,
}

impl Params {
    /// Reads a query or a body.
    pub fn parse(raw: &str) -> Answer<Self> {
        let mut value = json!({});
        for (name, text) in form_urlencoded::parse(raw.as_bytes()) {
            let path: Vec<&str> = name.split('[').map(|key| key.trim_end_matches(']')).collect();
            if path.len() > 12 || !place(&mut value, &path, &text) {
                return Err(ApiError::param(&name, format!("Invalid parameter: {name}")));
            }
        }
        Ok(Self { value: as_lists(value), name: String::new() })
    }

    /// Parameters that were kept, or put together from others.
    pub fn of(value: Value) -> Self {
        Self { value, name: String::new() }
    }

    /// The parameters as they were understood: the same for each way to write them.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Refuses parameters that the call does not have. `call` is `POST /customers/{}`.
    pub fn check(&self, call: &str) -> Answer<()> {
        match known_calls().get(call) {
            Some(shape) => self.check_shape(&self.value, shape, ""),
            None => Ok(()),
        }
    }

    fn check_shape(&self, value: &Value, shape: &Shape, name: &str) -> Answer<()> {
        match (value, shape) {
            (_, Shape::Anything) => Ok(()),
            (Value::Object(map), Shape::Fields(fields)) => {
                for (key, inner) in map {
                    let name = nested(name, key);
                    let shape = fields.get(key).ok_or_else(|| ApiError::unknown(&name))?;
                    self.check_shape(inner, shape, &name)?;
                }
                Ok(())
            }
            (Value::Array(list), shape) => {
                for (index, inner) in list.iter().enumerate() {
                    self.check_shape(inner, shape, &nested(name, &index.to_string()))?;
                }
                Ok(())
            }
            (Value::Object(_), Shape::Leaf) => {
                Err(ApiError::param(name, format!("Invalid string: {name}")))
            }
            _ => Ok(()),
        }
    }

    /// What stands at `a.b.c`.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.value, |value, key| value.get(key))
    }

    /// Whether the parameter was sent at all, be it empty.
    pub fn has(&self, path: &str) -> bool {
        self.get(path).is_some()
    }

    /// A parameter's text; an empty one is as if it were not there.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// A text that the call needs.
    pub fn required(&self, path: &str) -> Answer<&str> {
        self.text(path).ok_or_else(|| ApiError::missing(&self.full(path)))
    }

    /// A whole number.
    pub fn int(&self, path: &str) -> Answer<Option<i64>> {
        let Some(text) = self.text(path) else { return Ok(None) };
        text.parse().map(Some).map_err(|_not_a_number| {
            ApiError::param(&self.full(path), format!("Invalid integer: {text}"))
                .code("parameter_invalid_integer")
        })
    }

    /// A yes or no.
    pub fn flag(&self, path: &str) -> Answer<Option<bool>> {
        match self.text(path) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => {
                Err(ApiError::param(&self.full(path), format!("Invalid boolean: {text}")))
            }
        }
    }

    /// One of a few words.
    pub fn choice<'a>(&'a self, path: &str, words: &[&str]) -> Answer<Option<&'a str>> {
        match self.text(path) {
            Some(text) if !words.contains(&text) => Err(ApiError::param(
                &self.full(path),
                format!("Invalid {path}: must be one of {}", words.join(", ")),
            )),
            text => Ok(text),
        }
    }

    /// The parts of a list, each with its own parameters.
    pub fn list(&self, path: &str) -> Vec<Params> {
        let parts = self.get(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let full = self.full(path);
        let part = |(index, value): (usize, &Value)| Params {
            value: value.clone(),
            name: nested(&full, &index.to_string()),
        };
        parts.iter().enumerate().map(part).collect()
    }

    /// The nested parameters under `path`; none when they were left out.
    pub fn part(&self, path: &str) -> Params {
        let value = self.get(path).filter(|value| value.is_object()).cloned();
        Params { value: value.unwrap_or_else(|| json!({})), name: self.full(path) }
    }

    /// The texts of a list (or of one that was sent alone).
    pub fn texts(&self, path: &str) -> Vec<String> {
        match self.get(path) {
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(Value::String(text)) if !text.is_empty() => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    /// Writes the named texts into an object; an empty one unsets.
    pub fn copy_texts(&self, into: &mut Value, names: &[&str]) {
        for name in names {
            match self.get(name) {
                Some(Value::String(text)) if text.is_empty() => into.write(name, Value::Null),
                Some(value) => into.write(name, value.clone()),
                None => {}
            }
        }
    }

    /// Writes the named yes-or-noes into an object.
    pub fn copy_flags(&self, into: &mut Value, names: &[&str]) -> Answer<()> {
        for name in names {
            if let Some(flag) = self.flag(name)? {
                into.write(name, json!(flag));
            }
        }
        Ok(())
    }

    /// Merges `metadata` as Stripe does: an empty value removes its key, an empty `metadata` all.
    pub fn copy_metadata(&self, into: &mut Value) {
        let mut metadata = into.at("metadata").as_object().cloned().unwrap_or_default();
        match self.get("metadata") {
            Some(Value::Object(sent)) => {
                for (key, value) in sent {
                    if value.as_str() == Some("") {
                        metadata.remove(key);
                    } else {
                        metadata.insert(key.clone(), value.clone());
                    }
                }
            }
            Some(_) => metadata = Map::new(),
            None => {}
        }
        into.write("metadata", Value::Object(metadata));
    }

    fn full(&self, path: &str) -> String {
        path.split('.').fold(self.name.clone(), |name, key| nested(&name, key))
    }
}

fn nested(name: &str, key: &str) -> String {
    if name.is_empty() { key.to_owned() } else { format!("{name}[{key}]") }
}

/// Puts a text at `a[b][c]`; an empty key takes the next number. Not where a text stands already.
fn place(value: &mut Value, path: &[&str], text: &str) -> bool {
    let Some((key, rest)) = path.split_first() else { return false };
    let Some(map) = value.as_object_mut() else { return false };
    let key = if key.is_empty() { map.len().to_string() } else { (*key).to_owned() };
    if rest.is_empty() {
        map.insert(key, json!(text)).is_none_or(|old| old.is_string())
    } else {
        place(map.entry(key).or_insert_with(|| json!({})), rest, text)
    }
}

/// Objects whose keys are all numbers are lists: `items[0][price]`.
fn as_lists(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let numbers: Option<Vec<usize>> = map.keys().map(|key| key.parse().ok()).collect();
            match numbers {
                Some(numbers) if !numbers.is_empty() => {
                    let mut list: Vec<_> = numbers
                        .into_iter()
                        .zip(map.into_iter().map(|(_, v)| as_lists(v)))
                        .collect();
                    list.sort_by_key(|(number, _)| *number);
                    Value::Array(list.into_iter().map(|(_, value)| value).collect())
                }
                _ => Value::Object(map.into_iter().map(as_lists_below).collect()),
            }
        }
        Value::Array(list) => Value::Array(list.into_iter().map(as_lists).collect()),
        leaf => leaf,
    }
}

/// The keys of `metadata` are the caller's own, numbers too.
fn as_lists_below((key, value): (String, Value)) -> (String, Value) {
    let value = if key == "metadata" { value } else { as_lists(value) };
    (key, value)
}

/// What may stand under a name.
enum Shape {
    Leaf,
    Anything,
    Fields(HashMap<String, Shape>),
}

fn known_calls() -> &'static HashMap<String, Shape> {
    static CALLS: OnceLock<HashMap<String, Shape>> = OnceLock::new();
    CALLS.get_or_init(|| {
        let line = |line: &str| {
            let (call, names) = line.split_once(": ")?;
            Some((call.to_owned(), Shape::Fields(fields(&mut names.chars()))))
        };
        PARAMETERS.lines().filter_map(line).collect()
    })
}

/// Reads `a b* c{d e}` up to the closing brace or the end.
fn fields(rest: &mut std::str::Chars<'_>) -> HashMap<String, Shape> {
    let (mut found, mut name) = (HashMap::new(), String::new());
    loop {
        let next = rest.next();
        match next {
            Some('{') => {
                found.insert(std::mem::take(&mut name), Shape::Fields(fields(rest)));
            }
            Some('*') => {
                found.insert(std::mem::take(&mut name), Shape::Anything);
            }
            Some(letter) if letter != ' ' && letter != '}' => name.push(letter),
            _ => {
                if !name.is_empty() {
                    found.insert(std::mem::take(&mut name), Shape::Leaf);
                }
                if next != Some(' ') {
                    return found;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_become_lists_and_objects() {
        let params = Params::parse("line_items%5B1%5D[price]=b&line_items[0][price]=a&expand[]=x&expand[]=y&metadata[7]=a+b%26c").unwrap();
        assert_eq!(
            params.value(),
            &json!({
                "line_items": [{"price": "a"}, {"price": "b"}],
                "expand": ["x", "y"],
                "metadata": {"7": "a b&c"},
            })
        );
        assert_eq!(params.list("line_items")[1].required("price").unwrap(), "b");
    }

    #[test]
    fn a_name_is_a_text_or_holds_others_and_not_both() {
        for raw in ["a=1&a[b]=2", "a[b]=1&a=2", "a[]=1&a[0][b]=2"] {
            assert!(Params::parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn unknown_parameters_are_named() {
        let check = |call, raw| Params::parse(raw).unwrap().check(call);
        assert!(check("POST /customers", "name=x&metadata[any]=y&address[city]=z").is_ok());
        assert!(check("GET /customers", "created[gte]=1&limit=3").is_ok());
        for (raw, param) in [
            ("nmae=x", "nmae"),
            ("address[town]=x", "address[town]"),
            ("tax_id_data[0][kind]=x", "tax_id_data[0][kind]"),
        ] {
            let error = check("POST /customers", raw).unwrap_err().body();
            assert_eq!(error["error"]["code"], "parameter_unknown");
            assert_eq!(error["error"]["param"], param);
        }
    }
}
