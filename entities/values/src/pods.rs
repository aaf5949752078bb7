//! What names containers, where they lie, and who may log in to them.

use crate::{Invalid, checked_text};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// A guest's number in a cluster: 100 to 999 999 999 (Proxmox VE, `pve-vmid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Vmid(u32);

impl Vmid {
    /// The lowest and the highest that there are.
    pub const BOUNDS: (i64, i64) = (100, 999_999_999);

    /// Reads a number.
    pub fn new(number: i64) -> Result<Self, Invalid> {
        let wrong = Invalid { what: "VMID", rule: "must be 100 to 999999999" };
        if !(Self::BOUNDS.0..=Self::BOUNDS.1).contains(&number) {
            return Err(wrong);
        }
        u32::try_from(number).map(Self).map_err(|_beyond| wrong)
    }
}

impl TryFrom<i64> for Vmid {
    type Error = Invalid;

    fn try_from(number: i64) -> Result<Self, Invalid> {
        Self::new(number)
    }
}

impl From<Vmid> for i64 {
    fn from(vmid: Vmid) -> i64 {
        i64::from(vmid.0)
    }
}

impl std::fmt::Display for Vmid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a text begins with a letter of `first`, goes on with `rest`, and has a length in the bounds.
fn is_word(
    text: &str,
    (least, most): (usize, usize),
    first: fn(u8) -> bool,
    rest: fn(u8) -> bool,
) -> bool {
    (least..=most).contains(&text.len())
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(rest)
}

/// What programs call a plan: 1 to 40 lower-case letters, digits, dots and hyphens, the first a letter or
/// a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanCode(String);

impl PlanCode {
    /// Reads a code.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        match is_word(text, (1, 40), first, rest) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "plan's code",
                rule: "must be 1 to 40 lower-case letters, digits, dots and hyphens, the first a letter or a digit",
            }),
        }
    }
}

/// What a template is called: 1 to 64 lower-case letters, digits, dots, hyphens and underscores, the
/// first a letter, so that its name may stand in a file's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TemplateCode(String);

impl TemplateCode {
    /// Reads a code.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        match is_word(text, (1, 64), |b| b.is_ascii_lowercase(), rest) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "template",
                rule: "must be 1 to 64 lower-case letters, digits, dots, hyphens and underscores, the first a letter",
            }),
        }
    }
}

/// A storage of Proxmox VE (`pve-storage-id`): 2 to 64 letters, digits, dots, hyphens and underscores,
/// beginning with a letter and ending with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StorageId(String);

impl StorageId {
    /// Reads a storage's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let ends = text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric());
        match is_word(text, (2, 64), |b| b.is_ascii_alphabetic(), rest) && ends {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "storage",
                rule: "must be 2 to 64 letters, digits, dots, hyphens and underscores, the first a letter, the last a letter or a digit",
            }),
        }
    }
}

/// A node of a cluster (`pve-node`): one label of a host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// Reads a node's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        match is_word(text, (1, 63), |b| b.is_ascii_alphanumeric(), rest) && !text.ends_with('-') {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "node",
                rule: "must be 1 to 63 letters, digits and hyphens, neither the first nor the last a hyphen",
            }),
        }
    }
}

/// A bridge of a node: 1 to 10 letters, digits and underscores, beginning with a letter, so that names
/// of virtual LANs fit behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BridgeName(String);

impl BridgeName {
    /// Reads a bridge's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match is_word(text, (1, 10), |b| b.is_ascii_alphabetic(), rest) {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "bridge",
                rule: "must be 1 to 10 letters, digits and underscores, the first a letter",
            }),
        }
    }
}

/// A snapshot's name (`pve-configid`, lower case): 2 to 40 lower-case letters, digits, hyphens and
/// underscores, beginning with a letter; `current` is taken by Proxmox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Reads a snapshot's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        let is_free = !["current", "pending", "vzdump"].contains(&text);
        match is_word(text, (2, 40), |b| b.is_ascii_lowercase(), rest) && is_free {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "snapshot's name",
                rule: "must be 2 to 40 lower-case letters, digits, hyphens and underscores, the first a letter, and not current, pending or vzdump",
            }),
        }
    }
}

/// Something in a storage of Proxmox VE, `STORAGE:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

impl VolumeId {
    /// Reads a volume's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = Invalid {
            what: "volume",
            rule: "must be a storage, a colon, and a path of letters, digits, dots, hyphens, underscores, plus signs and slashes",
        };
        let Some((storage, path)) = text.split_once(':') else { return Err(wrong) };
        StorageId::parse(storage)?;
        let rest = |b: u8| b.is_ascii_alphanumeric() || b"._+-/".contains(&b);
        let is_path = is_word(path, (1, 255), |b| b.is_ascii_alphanumeric(), rest);
        match is_path && !path.split('/').any(|part| part == ".." || part.is_empty()) {
            true => Ok(Self(text.to_owned())),
            false => Err(wrong),
        }
    }
}

/// The file name of a template's archive, as `pveam available` prints it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArchiveName(String);

impl ArchiveName {
    /// Reads a file name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        let ends = [".tar.gz", ".tar.xz", ".tar.zst"].iter().any(|end| text.ends_with(end));
        match is_word(text, (8, 120), |b| b.is_ascii_alphanumeric(), rest) && ends {
            true => Ok(Self(text.to_owned())),
            false => Err(Invalid {
                what: "archive",
                rule: "must be a file name of letters, digits, dots, hyphens, underscores and plus signs that ends with .tar.gz, .tar.xz or .tar.zst",
            }),
        }
    }
}

/// A public key that may log in, as a line of `authorized_keys` without options: kind, key and at most
/// one comment (sshd(8), RFC 4253 section 6.6).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SshKey(String);

/// Kinds that OpenSSH of today takes.
const KEY_KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

impl SshKey {
    /// Reads a line.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = |rule| Invalid { what: "SSH key", rule };
        let text = text.trim();
        let mut parts = text.splitn(3, ' ');
        let (kind, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let comment = parts.next().unwrap_or_default().trim();
        if !KEY_KINDS.contains(&kind) {
            return Err(wrong(
                "must begin with its kind, such as ssh-ed25519, and have no options",
            ));
        }
        if key.len() > 4096 || !names_its_kind(key, kind) {
            return Err(wrong("is not a key of its kind: copy the whole line of the .pub file"));
        }
        let plain = |c: char| !c.is_control() && c.is_ascii();
        if comment.len() > 200 || !comment.chars().all(plain) {
            return Err(wrong("has a comment of more than 200 characters, or of other than ASCII"));
        }
        let line = format!("{kind} {key} {comment}");
        Ok(Self(line.trim_end().to_owned()))
    }
}

/// The key begins with its kind as a string with its length before it.
fn names_its_kind(key: &str, kind: &str) -> bool {
    let Ok(bytes) = STANDARD.decode(key) else { return false };
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return false };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    length == kind.len() && rest.starts_with(kind.as_bytes()) && rest.len() > length + 4
}

checked_text!(
    PlanCode,
    TemplateCode,
    StorageId,
    NodeName,
    BridgeName,
    SnapshotName,
    VolumeId,
    ArchiveName,
    SshKey
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lie_in_their_bounds() {
        assert_eq!(Vmid::new(100).map(|v| v.to_string()), Ok("100".to_owned()));
        for wrong in [i64::MIN, -1, 0, 99, 1_000_000_000, i64::MAX] {
            assert!(Vmid::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_that_could_be_an_option_or_lead_elsewhere_is_a_name() {
        for wrong in ["", "-x", "--force", "a b", "a;b", "a\nb", "../a", "a/../b", "$x", "'", "é"]
        {
            assert!(PlanCode::parse(wrong).is_err(), "{wrong}");
            assert!(TemplateCode::parse(wrong).is_err(), "{wrong}");
            assert!(StorageId::parse(wrong).is_err(), "{wrong}");
            assert!(NodeName::parse(wrong).is_err(), "{wrong}");
            assert!(BridgeName::parse(wrong).is_err(), "{wrong}");
            assert!(SnapshotName::parse(wrong).is_err(), "{wrong}");
            assert!(VolumeId::parse(wrong).is_err(), "{wrong}");
            assert!(VolumeId::parse(&format!("local:{wrong}")).is_err(), "{wrong}");
            assert!(ArchiveName::parse(wrong).is_err(), "{wrong}");
            assert!(SshKey::parse(wrong).is_err(), "{wrong}");
        }
        assert!(PlanCode::parse("pod-s").is_ok());
        assert!(StorageId::parse("local-lvm").is_ok());
        assert!(NodeName::parse("pve1").is_ok());
        assert!(BridgeName::parse("vmbr0").is_ok());
        assert!(SnapshotName::parse("before-upgrade").is_ok());
        assert!(VolumeId::parse("local:backup/vzdump-lxc-101-2026_11_23-10_00_00.tar.zst").is_ok());
        assert!(ArchiveName::parse("debian-12-standard_12.7-1_amd64.tar.zst").is_ok());
    }

    #[test]
    fn keys_are_whole_lines_without_options() {
        let key = "AAAAC3NzaC1lZDI1NTE5AAAAIJ5hjCzAbiwq1j2y0+0FtqQYdBtN5nFvGGpKqCyjIa6f";
        let good = format!("ssh-ed25519 {key} me@laptop, work");
        assert_eq!(SshKey::parse(&good).map(String::from), Ok(good.clone()));
        assert_eq!(
            SshKey::parse(&format!("ssh-ed25519 {key}\n")).map(|k| k.as_str().len()),
            Ok(80)
        );
        for wrong in [
            format!("command=\"x\" ssh-ed25519 {key}"),
            format!("ssh-rsa {key}"),
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5".to_owned(),
            format!("ssh-ed25519 {key} a\nssh-ed25519 {key}"),
            "ssh-dss AAAA".to_owned(),
        ] {
            assert!(SshKey::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
