//! Private keys: the public part that is inside each of them.

use x509_parser::der_parser::asn1_rs::{Oid, oid};
use x509_parser::der_parser::ber::BerObject;
use x509_parser::der_parser::der::parse_der;
use x509_parser::public_key::PublicKey;

/// The public half of a key pair, comparable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicPart {
    /// Modulus and exponent without leading zeros.
    Rsa(Vec<u8>, Vec<u8>),
    /// The point as it stands in certificates.
    Ec(Vec<u8>),
}

impl PublicPart {
    /// Of a certificate's key; none for kinds that no web server here serves.
    pub(crate) fn of_certificate(key: &PublicKey<'_>) -> Option<Self> {
        match key {
            PublicKey::RSA(rsa) => Some(Self::Rsa(stripped(rsa.modulus), stripped(rsa.exponent))),
            PublicKey::EC(point) => Some(Self::Ec(point.data().to_vec())),
            _ => None,
        }
    }

    /// Of a private key: the block's label and its DER form. None for an encrypted key, a kind that
    /// is not known, or an EC key without its public half (no program of cPanel writes one).
    pub(crate) fn of_private(label: &str, der: &[u8]) -> Option<Self> {
        match label {
            "RSA PRIVATE KEY" => pkcs1(der),
            "EC PRIVATE KEY" => sec1(der),
            "PRIVATE KEY" => pkcs8(der),
            _ => None,
        }
    }

    /// The length of an RSA modulus.
    pub(crate) fn rsa_bits(&self) -> Option<u32> {
        let Self::Rsa(modulus, _) = self else { return None };
        let zeros = modulus.first().map_or(0, |b| b.leading_zeros());
        u32::try_from(modulus.len()).ok()?.checked_mul(8)?.checked_sub(zeros)
    }
}

const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const EC: Oid<'static> = oid!(1.2.840.10045.2.1);

fn sequence(der: &[u8]) -> Option<Vec<BerObject<'_>>> {
    let (rest, object) = parse_der(der).ok()?;
    let items = object.as_sequence().ok()?.to_vec();
    rest.is_empty().then_some(items)
}

/// RFC 5208: version, algorithm, the key in its own form.
fn pkcs8(der: &[u8]) -> Option<PublicPart> {
    let items = sequence(der)?;
    let algorithm = items.get(1)?.as_sequence().ok()?;
    let name = algorithm.first()?.as_oid().ok()?;
    let inner = items.get(2)?.as_slice().ok()?;
    if *name == RSA {
        pkcs1(inner)
    } else if *name == EC {
        sec1(inner)
    } else {
        None
    }
}

/// RFC 8017 appendix A.1.2: version, modulus, public exponent, and the private parts.
fn pkcs1(der: &[u8]) -> Option<PublicPart> {
    let items = sequence(der)?;
    let number = |at: usize| items.get(at)?.as_slice().ok().map(stripped);
    Some(PublicPart::Rsa(number(1)?, number(2)?))
}

/// RFC 5915: version, private key, [0] curve, [1] public key.
fn sec1(der: &[u8]) -> Option<PublicPart> {
    let items = sequence(der)?;
    items.iter().skip(2).find_map(|item| {
        (item.header.tag().0 == 1).then_some(())?;
        let (_, inner) = parse_der(item.as_slice().ok()?).ok()?;
        Some(PublicPart::Ec(inner.as_bitstring().ok()?.data.to_vec()))
    })
}

fn stripped(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().skip_while(|b| *b == 0).collect()
}
