//! Secrets at rest: AES-256-GCM under a key from the environment, named by an id so that it can be
//! replaced. A sealed text is `ID.base64(nonce ‖ ciphertext)`.

use crate::Result;
use crate::error::Error;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};

/// The keys that seal: the first seals, all open.
#[derive(Clone)]
pub struct SealingKeys(Vec<(String, Aes256Gcm)>);

impl std::fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl SealingKeys {
    /// Reads `ID:BASE64[,ID:BASE64…]`, each key of 32 bytes, the newest first.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let wrong = || {
            Error::internal(
                "sealing keys must be ID:BASE64 with 32 bytes each, separated by commas, newest first, \
                 each ID another one without dots",
            )
        };
        let mut keys: Vec<(String, Aes256Gcm)> = Vec::new();
        for part in text.expose_secret().split(',') {
            let (id, key) = part.trim().split_once(':').ok_or_else(wrong)?;
            if id.is_empty() || id.contains('.') || keys.iter().any(|(known, _)| known == id) {
                return Err(wrong());
            }
            let bytes = BASE64.decode(key).map_err(Error::internal)?;
            let key = Key::<Aes256Gcm>::try_from(bytes.as_slice()).map_err(|_e| wrong())?;
            keys.push((id.to_owned(), Aes256Gcm::new(&key)));
        }
        if keys.is_empty() { Err(wrong()) } else { Ok(Self(keys)) }
    }

    /// The name of the key that seals now.
    pub fn newest(&self) -> Result<&str> {
        self.0.first().map(|(id, _)| id.as_str()).ok_or_else(|| Error::internal("no sealing key"))
    }

    /// The same secret under the newest key; none when that is the one that it is under.
    pub fn reseal(&self, sealed: &str) -> Result<Option<String>> {
        match sealed.split_once('.') {
            Some((id, _)) if id == self.newest()? => Ok(None),
            _ => Ok(Some(self.seal(&self.open(sealed)?)?)),
        }
    }

    /// Whether the key that a secret is under is among these.
    #[must_use]
    pub fn has_key_of(&self, sealed: &str) -> bool {
        let key = sealed.split_once('.').map(|(id, _)| id);
        self.0.iter().any(|(id, _)| Some(id.as_str()) == key)
    }

    /// Seals a secret.
    pub fn seal(&self, secret: &SecretString) -> Result<String> {
        let (id, cipher) = self.0.first().ok_or_else(|| Error::internal("no sealing key"))?;
        let mut nonce = [0u8; 12];
        rand::rng().fill_bytes(&mut nonce);
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), secret.expose_secret().as_bytes())
            .map_err(|e| Error::internal(e.to_string()))?;
        Ok(format!("{id}.{}", BASE64.encode([nonce.as_slice(), &sealed].concat())))
    }

    /// Opens a sealed secret; fails when its key is not among these or a byte was changed.
    pub fn open(&self, sealed: &str) -> Result<SecretString> {
        let wrong = || Error::internal("a sealed secret has not the form ID.BASE64");
        let (id, data) = sealed.split_once('.').ok_or_else(wrong)?;
        let (_, cipher) = self.0.iter().find(|(k, _)| k == id).ok_or_else(|| {
            Error::internal(format!("the sealing key {id} is not among the configured ones"))
        })?;
        let data = BASE64.decode(data).map_err(Error::internal)?;
        let (nonce, text) = data.split_at_checked(12).ok_or_else(wrong)?;
        let nonce = <[u8; 12]>::try_from(nonce).map_err(Error::internal)?;
        let opened = cipher
            .decrypt(&Nonce::from(nonce), text)
            .map_err(|_e| Error::internal("a sealed secret does not open with its key"))?;
        Ok(SecretString::from(String::from_utf8(opened).map_err(Error::internal)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> SealingKeys {
        SealingKeys::parse(&SecretString::from(text.to_owned())).unwrap()
    }

    #[test]
    fn secrets_open_with_old_keys_and_never_when_changed() {
        let a = format!("a:{}", BASE64.encode([1u8; 32]));
        let b = format!("b:{}", BASE64.encode([2u8; 32]));
        let sealed = keys(&a).seal(&SecretString::from("top")).unwrap();
        assert_eq!(keys(&format!("{b},{a}")).open(&sealed).unwrap().expose_secret(), "top");
        assert!(keys(&b).open(&sealed).is_err());
        assert!(keys(&a).has_key_of(&sealed) && !keys(&b).has_key_of(&sealed));
        assert_eq!(keys(&a).reseal(&sealed).unwrap(), None);
        let anew = keys(&format!("{b},{a}")).reseal(&sealed).unwrap().unwrap();
        assert_eq!(keys(&b).open(&anew).unwrap().expose_secret(), "top");
        assert!(keys(&b).reseal(&sealed).is_err());
        for wrong in [format!("{a},{a}"), a.replace("a:", "a.a:"), a.replace("a:", ":")] {
            assert!(SealingKeys::parse(&SecretString::from(wrong)).is_err());
        }
        let mut broken = sealed.clone();
        broken.replace_range(5..6, if sealed.as_bytes()[5] == b'A' { "B" } else { "A" });
        assert!(keys(&a).open(&broken).is_err());
        assert!(SealingKeys::parse(&SecretString::from("a:short")).is_err());
    }
}
