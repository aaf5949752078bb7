//! Reading JSON objects by path.

use serde_json::Value;

/// Fields of an object at `a.b.c`; what is not there reads as empty, zero or no.
pub trait Fields {
    /// The value, or null.
    fn at(&self, path: &str) -> &Value;
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
}
