//! Texts that must not be seen.

use serde::{Deserialize, Serialize};

/// A password hash or a private key. It shows itself as `[secret]` in logs and errors; its text is
/// taken out with [`Secret::reveal`] alone. Serialised as its text, since the agent keeps the account
/// in a file that only root can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// What an archive says of a login's password, as crypt(3) writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Password {
    /// A hash that crypt(3) of Debian 12 verifies.
    Hash(Secret),
    /// No login: locked in the archive, or nothing that could be verified. Never opened by us.
    Locked,
}

/// The most rounds that an archive may ask of `$5$` and `$6$`: a hash with 999999999 rounds would
/// keep a core busy for minutes at each login.
const ROUNDS_MAX: u32 = 1_000_000;

impl Password {
    /// Reads a field of `shadow`. Only known forms of crypt(3) are let through: a scheme in braces
    /// would let an archive choose how a mail server verifies, and an empty field would let anybody in.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        if is_crypt(text) { Self::Hash(Secret::new(text)) } else { Self::Locked }
    }

    /// Whether the hash is of a form that is guessed in hours today: DES and MD5.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.hash().is_some_and(|h| !h.reveal().starts_with('$') || h.reveal().starts_with("$1$"))
    }

    /// The hash, unless locked.
    #[must_use]
    pub fn hash(&self) -> Option<&Secret> {
        match self {
            Self::Hash(hash) => Some(hash),
            Self::Locked => None,
        }
    }
}

fn is_crypt(text: &str) -> bool {
    let salted = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'/';
    let Some(rest) = text.strip_prefix('$') else {
        return text.len() == 13 && text.bytes().all(salted); // the traditional DES form
    };
    let mut fields: Vec<&str> = rest.split('$').collect();
    let scheme = if fields.is_empty() { "" } else { fields.remove(0) };
    let clean = |parts: &[&str]| {
        parts.iter().all(|p| !p.is_empty() && p.len() <= 200 && p.bytes().all(salted))
    };
    match scheme {
        "1" => fields.len() == 2 && clean(&fields),
        "5" | "6" => {
            if let Some(rounds) = fields.first().and_then(|f| f.strip_prefix("rounds=")) {
                if !rounds.parse::<u32>().is_ok_and(|r| r <= ROUNDS_MAX) {
                    return false;
                }
                fields.remove(0);
            }
            fields.len() == 2 && clean(&fields)
        }
        "2a" | "2b" | "2y" => {
            fields.len() == 2
                && clean(&fields)
                && fields.first().and_then(|c| c.parse::<u32>().ok()).is_some_and(|c| c <= 16)
        }
        "y" => fields.len() == 3 && clean(&fields) && fields.first().is_some_and(|p| is_light(p)),
        _ => false,
    }
}

/// Whether yescrypt's parameters are of the usual form and take at most 64 MiB at each login:
/// flavour `j`, the logarithm of the number of blocks, the blocks' size.
fn is_light(parameters: &str) -> bool {
    let [b'j', count, size] = parameters.as_bytes() else { return false };
    // In the order of crypt's digits: `9` and `T` are the defaults of Debian.
    matches!(count, b'.'..=b'9' | b'A' | b'B') && matches!(size, b'.'..=b'9' | b'A'..=b'T')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let password = Password::parse("$6$salt$hash");
        assert!(!format!("{password:?}").contains("salt"));
        assert_eq!(password.hash().unwrap().reveal(), "$6$salt$hash");
        assert_eq!(serde_json::to_string(&Secret::new("x")).unwrap(), "\"x\"");
    }

    #[test]
    fn only_forms_of_crypt_open_a_login() {
        for text in [
            "$6$rounds=5000$s$h/.A",
            "$1$saltmd5$gjvxYXynJi1T",
            "$y$j9T$abc$def",
            "$2y$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
            "abJnggxhB/yWI",
        ] {
            assert!(Password::parse(text).hash().is_some(), "{text}");
        }
        for text in [
            "",
            "!",
            "!!",
            "*",
            "!$6$s$h",
            "*LOCKED*$6$s$h",
            "{PLAIN}x",
            "$6$s$h:0:0::/:/bin/sh",
            "$6$rounds=999999999$s$h",
            "$6$s$h\nroot::0",
            "$9$a$b",
            "$2y$31$abc",
            "$y$jFT$abc$def",
            "$y$jzz$abc$def",
            "$y$j9T4$abc$def",
        ] {
            assert_eq!(Password::parse(text), Password::Locked, "{text:?}");
        }
    }
}
