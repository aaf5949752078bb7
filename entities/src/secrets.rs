//! Secrets that are derived instead of stored: refresh tokens, mailed links and devices are
//! HMAC-SHA256 of their ids, so that a copy of the database opens nothing.

use crate::Result;
use crate::error::Error;
use crate::sealing::SealingKeys;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use uuid::Uuid;

/// What a derived secret is for: one of a kind never opens what another one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Refresh,
    Link,
    Device,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Refresh => b"migrapanel refresh",
            Self::Link => b"migrapanel link",
            Self::Device => b"migrapanel device",
        }
    }
}

/// The keys that secrets are derived from: the first derives, all recognise. They seal second
/// factors, too.
#[derive(Clone)]
pub struct SecretKeys {
    macs: Vec<(String, [u8; 32])>,
    sealing: SealingKeys,
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.macs.iter().map(|(id, _)| id)).finish()
    }
}

impl SecretKeys {
    /// Reads `ID:BASE64[,ID:BASE64…]`, each key of 32 bytes, the newest first.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let sealing = SealingKeys::parse(text)?;
        let mut macs = Vec::new();
        for part in text.expose_secret().split(',') {
            let (id, key) = part.trim().split_once(':').unwrap_or_default();
            let key = BASE64.decode(key).map_err(Error::internal)?;
            // Not the key that seals: each has one use.
            macs.push((id.to_owned(), hmac(&key, &[b"migrapanel derived secrets"])?));
        }
        Ok(Self { macs, sealing })
    }

    /// Seals what must be read again, such as the secret of a second factor.
    #[must_use]
    pub fn sealing(&self) -> &SealingKeys {
        &self.sealing
    }

    /// The name of the key that derives now.
    pub fn newest(&self) -> Result<&str> {
        self.macs.first().map(|(id, _)| id.as_str()).ok_or_else(|| Error::internal("no secret key"))
    }

    /// The secret of an id and a number under the named key; none when that key is gone.
    pub fn derive(&self, key: &str, purpose: Purpose, id: Uuid, number: u32) -> Result<Derived> {
        let (_, key) =
            self.macs.iter().find(|(id, _)| id == key).ok_or_else(|| {
                Error::internal(format!("the secret key {key} is not configured"))
            })?;
        let mac = hmac(key, &[purpose.label(), id.as_bytes(), &number.to_be_bytes()])?;
        Ok(Derived { id, number, mac })
    }

    /// The same under the newest key, as text.
    pub fn issue(&self, purpose: Purpose, id: Uuid) -> Result<String> {
        Ok(self.derive(self.newest()?, purpose, id, 0)?.to_text())
    }

    /// The id and number of a secret that one of the keys has derived for this purpose.
    #[must_use]
    pub fn recognise(&self, purpose: Purpose, text: &str) -> Option<(Uuid, u32)> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok()?;
        let (id, rest) = bytes.split_first_chunk::<16>()?;
        let (number, mac) = rest.split_first_chunk::<4>()?;
        let known = self.macs.iter().any(|(_, key)| {
            let Ok(mut state) = Hmac::<Sha256>::new_from_slice(key) else { return false };
            for part in [purpose.label(), id, number] {
                state.update(part);
            }
            state.verify_slice(mac).is_ok()
        });
        known.then(|| (Uuid::from_bytes(*id), u32::from_be_bytes(*number)))
    }
}

/// A derived secret.
pub struct Derived {
    id: Uuid,
    number: u32,
    mac: [u8; 32],
}

impl Derived {
    /// As it is given to its owner: 70 signs that tell nothing.
    #[must_use]
    pub fn to_text(&self) -> String {
        let number = self.number.to_be_bytes();
        URL_SAFE_NO_PAD.encode([self.id.as_bytes().as_slice(), &number, &self.mac].concat())
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<[u8; 32]> {
    let mut state = Hmac::<Sha256>::new_from_slice(key).map_err(Error::internal)?;
    for part in parts {
        state.update(part);
    }
    Ok(state.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SecretKeys {
        SecretKeys::parse(&SecretString::from(text.to_owned())).unwrap()
    }

    #[test]
    fn secrets_open_with_their_key_and_purpose_only() {
        let a = format!("a:{}", BASE64.encode([1u8; 32]));
        let b = format!("b:{}", BASE64.encode([2u8; 32]));
        let id = Uuid::now_v7();
        let text = keys(&a).derive("a", Purpose::Refresh, id, 7).unwrap().to_text();
        assert_eq!(keys(&format!("{b},{a}")).recognise(Purpose::Refresh, &text), Some((id, 7)));
        assert_eq!(keys(&a).recognise(Purpose::Link, &text), None);
        assert_eq!(keys(&b).recognise(Purpose::Refresh, &text), None);
        for at in 0..text.len() {
            let mut changed = text.clone();
            let other = if text.as_bytes()[at] == b'A' { "Q" } else { "A" };
            changed.replace_range(at..=at, other);
            assert_eq!(keys(&a).recognise(Purpose::Refresh, &changed), None, "{at}");
        }
        assert_eq!(keys(&a).recognise(Purpose::Refresh, "x"), None);
    }
}
