//! The names that a certificate is for.

use crate::Result;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use values::{DomainName, Invalid};

/// How many names a certificate may have: what authorities allow.
pub const NAMES_MAX: usize = 100;

/// A host's name, or `*.` and a domain's for all names one label below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateName {
    /// Without the `*.`.
    base: DomainName,
    wildcard: bool,
}

impl CertificateName {
    /// Reads a name. Underscores are refused: no authority issues for them.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (base, wildcard) = match text.strip_prefix("*.") {
            Some(base) => (base, true),
            None => (text, false),
        };
        let base = DomainName::parse(base)?;
        if base.as_str().contains('_') {
            let rule = "must not hold an underscore in a certificate";
            return Err(Invalid { what: "domain name", rule });
        }
        Ok(Self { base, wildcard })
    }

    /// The name without `*.`: what is validated.
    #[must_use]
    pub fn base(&self) -> &DomainName {
        &self.base
    }

    /// Whether it stands for all names one label below.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether a client that asks for this host takes the certificate (RFC 6125).
    #[must_use]
    pub fn covers(&self, host: &DomainName) -> bool {
        if !self.wildcard {
            return self.base == *host;
        }
        host.as_str().split_once('.').is_some_and(|(_, parent)| parent == self.base.as_str())
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.base)
    }
}

impl std::str::FromStr for CertificateName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CertificateName {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.to_string()
    }
}

/// Checks a list of names: without doubles, and a domain together with what stands for all below it,
/// since they share one site.
pub(super) fn check(mut names: Vec<CertificateName>) -> Result<Vec<CertificateName>> {
    names.sort();
    names.dedup();
    if names.is_empty() || names.len() > NAMES_MAX {
        let text = format!("a certificate has 1 to {NAMES_MAX} names");
        return Err(Error::field("names", text));
    }
    for name in names.iter().filter(|name| name.wildcard) {
        if !names.iter().any(|other| !other.wildcard && other.base == name.base) {
            let text = format!("{name} comes together with {}: add it", name.base);
            return Err(Error::field("names", text));
        }
        let below = |other: &&CertificateName| !other.wildcard && name.covers(&other.base);
        if let Some(other) = names.iter().find(below) {
            let text = format!("{other} is covered by {name} already: leave it out");
            return Err(Error::field("names", text));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CertificateName {
        CertificateName::parse(text).unwrap()
    }

    #[test]
    fn what_a_name_covers() {
        let host = |text: &str| DomainName::parse(text).unwrap();
        assert!(name("*.a.example").covers(&host("www.a.example")));
        assert!(!name("*.a.example").covers(&host("a.example")));
        assert!(!name("*.a.example").covers(&host("x.www.a.example")));
        assert!(!name("*.a.example").covers(&host("www.ba.example")));
        assert!(name("A.example").covers(&host("a.example")));
        assert_eq!(name("*.MÜNCHEN.example").to_string(), "*.xn--mnchen-3ya.example");
        for wrong in ["*", "*.", "*.com", "a.*.example", "**.a.example", "a_b.c.example", "1.2.3.4"]
        {
            assert!(CertificateName::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_that_make_a_certificate() {
        let list = |names: &[&str]| check(names.iter().map(|text| name(text)).collect());
        let sorted = list(&["www.a.example", "a.example", "a.example"]).unwrap();
        assert_eq!(sorted, [name("a.example"), name("www.a.example")]);
        assert!(list(&["a.example", "*.a.example", "x.b.a.example"]).is_ok());
        assert!(list(&[]).is_err());
        assert!(list(&["*.a.example"]).is_err());
        assert!(list(&["a.example", "*.a.example", "www.a.example"]).is_err());
        let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("n{n}.example")).collect();
        assert!(check(many.iter().map(|text| name(text)).collect()).is_err());
    }
}
