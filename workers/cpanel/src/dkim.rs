//! `domainkeys/private/DOMAIN`: the keys that mail was signed with.

use crate::account::{DkimKey, Domain};
use crate::findings::Findings;
use crate::keys::PublicPart;
use crate::members::Members;
use crate::pem::blocks;
use crate::secret::Secret;

/// cPanel's only selector.
const SELECTOR: &str = "default";

/// Reads the keys in the order of their domains. Keys under 1024 bits are refused: they can be
/// factored, and mail signed with them is worth nothing.
pub(crate) fn parse(
    members: &Members,
    domains: &[Domain],
    findings: &mut Findings,
) -> Vec<DkimKey> {
    let mut keys = Vec::new();
    for (name, bytes) in members.below("domainkeys/private") {
        let item = format!("dkim:{name}");
        let Some(domain) = domains.iter().find(|d| d.name.as_str() == name) else {
            findings.lost(&item, "It is for no domain of the account.");
            continue;
        };
        let found = blocks(&String::from_utf8_lossy(bytes)).into_iter().find_map(|block| {
            let bits = PublicPart::of_private(&block.label, &block.der)?.rsa_bits()?;
            Some((block, bits))
        });
        match found {
            None => findings.lost(&item, "It is no RSA key that can be read."),
            Some((_, bits)) if bits < 1024 => {
                findings.lost(
                    &item,
                    format!("It has {bits} bits, which is no protection: make a new one."),
                );
            }
            Some((block, bits)) => {
                if bits < 2048 {
                    let message = format!("Its DKIM key has {bits} bits; 2048 are usual today.");
                    findings.warn("dkim_short", name, message);
                }
                let key = Secret::new(block.text);
                keys.push(DkimKey {
                    domain: domain.name.clone(),
                    selector: SELECTOR.to_owned(),
                    bits,
                    key,
                });
            }
        }
    }
    keys
}
