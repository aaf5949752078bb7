//! Checked values: one that exists is valid, wherever it came from.
//!
//! Each is parsed once, where it enters (a request's body, an archive's metadata, a database row),
//! and is trusted afterwards. No name and no path can hold a control character, a path separator out
//! of place, or begin with `-`, so that each may stand as an argument of a program and as a line of a
//! file. A [`Title`] and a [`Prose`] are for people to read, and stand in neither.

mod money;
mod names;
mod paths;
mod pods;
mod tax;
mod text;

pub use money::{Currency, Money};
pub use names::{DatabaseName, DatabaseUser, DomainName, Hostname, MailAddress, Username};
pub use paths::{AbsPath, RelPath};
pub use pods::{
    ArchiveName, BridgeName, NodeName, PlanCode, SnapshotName, SshKey, StorageId, TemplateCode,
    Vmid, VolumeId,
};
pub use tax::{Country, VatId};
pub use text::{Prose, Title, is_blank, is_hidden};

/// Why a text is not the value it should be. The sentence names the rule and never repeats the
/// whole input, which may be hostile or secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}")]
pub struct Invalid {
    /// What the value was to be, as a user calls it: `domain name`, `user name`.
    pub what: &'static str,
    /// The rule that it breaks, to be read after `what`: `is longer than 253 characters`.
    pub rule: &'static str,
}

/// Implements what every checked text shares: parsing from and showing as text, serde through the
/// same parser, and ordering by text.
macro_rules! checked_text {
    ($($name:ident),+) => {$(
        impl $name {
            /// The value as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::Invalid;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $crate::Invalid;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )+};
}
pub(crate) use checked_text;
