//! Paths as values: texts that name a place without being able to leave it.

use crate::{Invalid, checked_text};
use serde::{Deserialize, Serialize};

/// A relative path of ordinary components: none is empty, `.` or `..`, and there is no control
/// character. At most 4,096 bytes. May be empty, which names the directory itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

impl RelPath {
    /// Reads a relative path. Slashes at the end and `.` components are dropped.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.starts_with('/') {
            return Err(Invalid { what: "path", rule: "must be relative" });
        }
        components(text).map(|parts| Self(parts.join("/")))
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.0.is_empty()
            || self.0.strip_prefix(&other.0).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }
}

/// An absolute path of ordinary components, in one form: no `.`, `..`, doubled or trailing slash,
/// no control character. At most 4,096 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsPath(String);

impl AbsPath {
    /// Reads an absolute path. `..` is refused, never resolved.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Invalid { what: "path", rule: "must be absolute" });
        };
        components(rest).map(|parts| Self(format!("/{}", parts.join("/"))))
    }

    /// Whether this is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.0 == "/"
            || self.0.strip_prefix(&other.0).is_some_and(|r| r.is_empty() || r.starts_with('/'))
    }
}

fn components(text: &str) -> Result<Vec<&str>, Invalid> {
    let what = "path";
    if text.len() > 4096 {
        return Err(Invalid { what, rule: "is longer than 4096 bytes" });
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid { what, rule: "must not hold control characters" });
    }
    let parts: Vec<&str> = text.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    if parts.contains(&"..") {
        return Err(Invalid { what, rule: "must not climb upwards" });
    }
    Ok(parts)
}

checked_text!(RelPath, AbsPath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form_and_never_climb() {
        assert_eq!(RelPath::parse("./a//b/").unwrap().as_str(), "a/b");
        assert_eq!(AbsPath::parse("/a/./b//c/").unwrap().as_str(), "/a/b/c");
        for text in ["../a", "a/../b", "a\nb", "/a"] {
            assert!(RelPath::parse(text).is_err(), "{text:?}");
        }
        for text in ["a", "/a/../b", "/..", "/a\0"] {
            assert!(AbsPath::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn within_goes_by_components() {
        let dir = AbsPath::parse("/var/backups").unwrap();
        assert!(AbsPath::parse("/var/backups/x.tar").unwrap().is_within(&dir));
        assert!(dir.is_within(&dir));
        assert!(!AbsPath::parse("/var/backups2/x").unwrap().is_within(&dir));
    }
}
