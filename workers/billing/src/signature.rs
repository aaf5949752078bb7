//! Whether a body comes from Stripe: the header `Stripe-Signature` (docs.stripe.com/webhooks,
//! "Verify manually"). `async-stripe` takes one secret, and parses the body at once; while a secret is
//! rolled two are valid, and what cannot be parsed is to be kept.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// How far the moment of signing may be from now, in either direction.
const TOLERANCE_SECS: u64 = 300;

/// Why a body is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The header is not of the form `t=…,v1=…`.
    Malformed,
    /// It was signed too long ago, or will be.
    OutOfTime,
    /// No signature fits any secret.
    Wrong,
}

/// Checks every signature of the header against every secret, each in constant time.
pub fn verify(
    header: &str,
    body: &[u8],
    secrets: &[SecretString],
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let mut stamp = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", value)) => stamp = Some(value),
            Some(("v1", value)) => signatures.push(value),
            Some(_) => {}
            None => return Err(Refusal::Malformed),
        }
    }
    let stamp = stamp.filter(|_| !signatures.is_empty()).ok_or(Refusal::Malformed)?;
    // No sign, no blank: what is signed is the text, and there is one way to write a number.
    let digits = !stamp.is_empty() && stamp.bytes().all(|b| b.is_ascii_digit());
    let at: i64 = stamp.parse().ok().filter(|_| digits).ok_or(Refusal::Malformed)?;
    if now.timestamp().abs_diff(at) > TOLERANCE_SECS {
        return Err(Refusal::OutOfTime);
    }
    let signatures: Vec<Vec<u8>> =
        signatures.into_iter().filter_map(|text| hex::decode(text).ok()).collect();
    let mut fits = false;
    for secret in secrets.iter().map(ExposeSecret::expose_secret).filter(|text| !text.is_empty()) {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { continue };
        let mac = mac.chain_update(stamp).chain_update(".").chain_update(body);
        for signature in &signatures {
            // All are tried, so that the time tells nothing of which one fits.
            fits |= mac.clone().verify_slice(signature).is_ok();
        }
    }
    if fits { Ok(()) } else { Err(Refusal::Wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn sign(secret: &str, at: i64, body: &[u8]) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        let mac = mac.chain_update(at.to_string()).chain_update(".").chain_update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    fn check(header: &str, secrets: &[&str]) -> Result<(), Refusal> {
        let secrets: Vec<SecretString> = secrets.iter().map(|text| (*text).into()).collect();
        verify(header, BODY, &secrets, DateTime::from_timestamp(1_800_000_000, 0).unwrap())
    }

    #[test]
    fn any_signature_may_fit_any_secret() {
        let at = 1_800_000_000;
        let (old, new) = (sign("whsec_old", at, BODY), sign("whsec_new", at, BODY));
        let other = sign("whsec_other", at, BODY);
        for (header, secrets, wanted) in [
            (format!("t={at},v1={new}"), vec!["whsec_new"], Ok(())),
            (format!("t={at},v1={old},v1={new}"), vec!["whsec_new"], Ok(())),
            (format!("t={at},v1={new},v1={old}"), vec!["whsec_new"], Ok(())),
            (format!("t={at},v1={old}"), vec!["whsec_new", "whsec_old"], Ok(())),
            (format!("t={at}, v1={old}, v0=6ffb"), vec!["whsec_old"], Ok(())),
            (format!("v1={old},t={at}"), vec!["whsec_old"], Ok(())),
            (format!("t={at},v1={other}"), vec!["whsec_new", "whsec_old"], Err(Refusal::Wrong)),
            (format!("t={at},v0={new}"), vec!["whsec_new"], Err(Refusal::Malformed)),
            (format!("t={at},v1="), vec!["whsec_new"], Err(Refusal::Wrong)),
            (format!("t={at},v1=zz"), vec!["whsec_new"], Err(Refusal::Wrong)),
            (format!("t={at},v1={new}"), vec![""], Err(Refusal::Wrong)),
            (format!("t={at},v1={new}"), vec![], Err(Refusal::Wrong)),
            (format!("t={at},v1={}", sign("", at, BODY)), vec![""], Err(Refusal::Wrong)),
            (format!("t=+{at},v1={new}"), vec!["whsec_new"], Err(Refusal::Malformed)),
            (format!("t= {at},v1={new}"), vec!["whsec_new"], Err(Refusal::Malformed)),
            ("".to_owned(), vec!["whsec_new"], Err(Refusal::Malformed)),
            ("nonsense".to_owned(), vec!["whsec_new"], Err(Refusal::Malformed)),
            (format!("v1={new}"), vec!["whsec_new"], Err(Refusal::Malformed)),
            (
                format!("t=99999999999999999999,v1={new}"),
                vec!["whsec_new"],
                Err(Refusal::Malformed),
            ),
        ] {
            assert_eq!(check(&header, &secrets), wanted, "{header} {secrets:?}");
        }
    }

    #[test]
    fn what_was_signed_is_the_body_and_the_time() {
        let now = 1_800_000_000i64;
        for (away, wanted) in [
            (0, Ok(())),
            (300, Ok(())),
            (-300, Ok(())),
            (301, Err(Refusal::OutOfTime)),
            (-301, Err(Refusal::OutOfTime)),
            (i64::MAX - now, Err(Refusal::OutOfTime)),
        ] {
            let at = now + away;
            let header = format!("t={at},v1={}", sign("whsec_1", at, BODY));
            assert_eq!(check(&header, &["whsec_1"]), wanted, "{away}");
        }
        let changed = format!("t={now},v1={}", sign("whsec_1", now, b"{}"));
        assert_eq!(check(&changed, &["whsec_1"]), Err(Refusal::Wrong));
        let moved = format!("t={},v1={}", now + 1, sign("whsec_1", now, BODY));
        assert_eq!(check(&moved, &["whsec_1"]), Err(Refusal::Wrong));
    }
}
