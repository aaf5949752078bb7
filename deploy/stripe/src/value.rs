//! Reading JSON objects by path.

use serde_json::{Map, Value};

/// Fields of an object at `a.b.c`; what is not there reads as empty, zero or no.
pub trait Fields {
    /// The value, or null.
    fn at(&self, path: &str) -> &Value;
    /// Sets the value; what lies above it becomes an object, if it is none.
    fn write(&mut self, path: &str, value: Value);
    /// The parts of a list, to be changed; none, if there is no list.
    fn parts_mut(&mut self, path: &str) -> &mut [Value];
    /// Adds to a list; nothing happens if there is none.
    fn push(&mut self, path: &str, value: Value);
    /// The text, or an empty one.
    fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_default()
    }
    /// The number, or zero.
    fn int(&self, path: &str) -> i64 {
        self.at(path).as_i64().unwrap_or_default()
    }
    /// The yes or no, or no.
    fn flag(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or_default()
    }
    /// The parts of a list, or none.
    fn parts(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map(Vec::as_slice).unwrap_or_default()
    }
    /// A text that is there and not empty.
    fn some_text(&self, path: &str) -> Option<String> {
        Some(self.text(path)).filter(|text| !text.is_empty()).map(str::to_owned)
    }
    /// A number that is there.
    fn some_int(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }
}

impl Fields for Value {
    fn at(&self, path: &str) -> &Value {
        static NULL: Value = Value::Null;
        path.split('.').try_fold(self, |value, key| value.get(key)).unwrap_or(&NULL)
    }

    fn write(&mut self, path: &str, value: Value) {
        let (key, rest) = path.split_once('.').unwrap_or((path, ""));
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        let Some(map) = self.as_object_mut() else { return };
        if rest.is_empty() {
            map.insert(key.to_owned(), value);
        } else {
            map.entry(key).or_insert(Value::Null).write(rest, value);
        }
    }

    fn parts_mut(&mut self, path: &str) -> &mut [Value] {
        let found = path.split('.').try_fold(self, |value, key| value.get_mut(key));
        found.and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
    }

    fn push(&mut self, path: &str, value: Value) {
        let found = path.split('.').try_fold(self, |inner, key| inner.get_mut(key));
        if let Some(list) = found.and_then(Value::as_array_mut) {
            list.push(value);
        }
    }
}
