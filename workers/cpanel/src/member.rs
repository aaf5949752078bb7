//! Names of members: bytes that cannot leave the account's root.

use crate::error::Error;

/// A member's path below the account's root, as bytes (names in a home need not be UTF-8). No
/// component is empty, `.`, `..` or over 255 bytes, none holds a NUL. Empty: the root itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberPath(Vec<u8>);

/// The deepest nesting of directories that is read.
const DEPTH_MAX: usize = 128;

impl MemberPath {
    /// Reads a member's name. A leading `./` and slashes at the end go; what climbs or is absolute is
    /// refused, since no cPanel backup has such a member.
    pub fn parse(name: &[u8]) -> Result<Self, Error> {
        let refuse = |why: &str| Err(Error::UnsafeMember(format!("{why}: {}", shown(name))));
        if name.len() > 4096 {
            return refuse("a name over 4096 bytes");
        }
        if name.first() == Some(&b'/') {
            return refuse("an absolute name");
        }
        if name.contains(&0) {
            return refuse("a name with a NUL");
        }
        let parts: Vec<&[u8]> =
            name.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
        if parts.iter().any(|p| *p == b"..") {
            return refuse("a name that climbs");
        }
        if parts.iter().any(|p| p.len() > 255) || parts.len() > DEPTH_MAX {
            return refuse("a name too long or too deep");
        }
        Ok(Self(parts.join(&b'/')))
    }

    /// The path as bytes, components joined by `/`.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as text, if it is UTF-8.
    #[must_use]
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Whether this names the root itself.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, from the root on.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|p| !p.is_empty())
    }

    /// What follows `prefix`, when this is `prefix` or lies below it.
    #[must_use]
    pub fn strip(&self, prefix: &Self) -> Option<Self> {
        if prefix.is_root() {
            return Some(self.clone());
        }
        let rest = self.0.strip_prefix(prefix.as_bytes())?;
        match rest.split_first() {
            None => Some(Self::default()),
            Some((b'/', rest)) => Some(Self(rest.to_vec())),
            Some(_) => None,
        }
    }

    /// The path below this one that `rest` names.
    #[must_use]
    pub(crate) fn join(&self, rest: &Self) -> Self {
        let parts: Vec<&[u8]> = self.components().chain(rest.components()).collect();
        Self(parts.join(&b'/'))
    }

    /// What follows the first component, when that is `first`: `homedir/a/b` → `a/b`.
    #[must_use]
    pub fn below(&self, first: &str) -> Option<Self> {
        self.strip(&Self(first.as_bytes().to_vec()))
    }

    /// The first `count` components.
    #[must_use]
    pub(crate) fn prefix(&self, count: usize) -> Self {
        Self(self.components().take(count).collect::<Vec<_>>().join(&b'/'))
    }
}

impl std::fmt::Display for MemberPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Bytes as text for a person: control characters and what is not UTF-8 are replaced, 200
/// characters at most, so that a name can neither forge a log line nor flood it.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out: String =
        text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(200).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_cannot_climb() {
        assert_eq!(MemberPath::parse(b"./a//b/./c/").unwrap().as_bytes(), b"a/b/c");
        for name in [&b"/etc/passwd"[..], b"a/../../b", b"..", b"a\0b"] {
            assert!(MemberPath::parse(name).is_err());
        }
        let path = MemberPath::parse(b"homedir/mail/cur").unwrap();
        assert_eq!(path.below("homedir").unwrap().as_bytes(), b"mail/cur");
        assert!(path.below("home").is_none());
        assert!(
            path.below("homedir").unwrap().below("mail").unwrap().below("cur").unwrap().is_root()
        );
    }

    proptest! {
        #[test]
        fn any_bytes(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(path) = MemberPath::parse(&name) {
                prop_assert!(!path.as_bytes().starts_with(b"/"));
                prop_assert!(path.components().all(|c| c != b".." && c != b"." && !c.is_empty()));
                prop_assert_eq!(MemberPath::parse(path.as_bytes()).unwrap(), path);
            }
        }
    }
}
