//! `apache_tls/NAME`, and `sslcerts/` with `sslkeys/` of older archives: certificates with their keys.

use crate::account::{Certificate, Domain};
use crate::findings::Findings;
use crate::keys::PublicPart;
use crate::members::Members;
use crate::pem::{Block, blocks};
use crate::secret::Secret;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use values::DomainName;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Reads the certificates in the order of their domains. One that does not fit its key, is for names
/// of others, or has no site, is listed as not taken over.
pub(crate) fn parse(
    members: &Members,
    domains: &[Domain],
    removed: &[DomainName],
    findings: &mut Findings,
) -> Vec<Certificate> {
    let mut places = BTreeMap::new();
    for (name, blocks) in files(members) {
        let item = format!("certificate:{name}");
        let Some((site, is_own)) = site(&name, domains) else {
            findings.lost(&item, "It is for no site of the account.");
            continue;
        };
        match certificate(&site, &blocks) {
            Ok(certificate) => match foreign(&certificate, domains, removed) {
                Some(other) => findings
                    .lost(&item, format!("It is also for {other}, which is not the account's.")),
                None => take(&mut places, Found { item, is_own, certificate }, findings),
            },
            Err(why) => findings.lost(&item, why),
        }
    }
    places.into_values().map(|found| found.certificate).collect()
}

/// What was found for a site.
struct Found {
    item: String,
    /// Whether it was installed for the site itself, not for an alias.
    is_own: bool,
    certificate: Certificate,
}

/// A site has one certificate: its own goes before that of an alias, and then the first.
fn take(places: &mut BTreeMap<DomainName, Found>, found: Found, findings: &mut Findings) {
    let site = found.certificate.domain.clone();
    match places.entry(site.clone()) {
        Entry::Vacant(place) => {
            place.insert(found);
        }
        Entry::Occupied(place) if place.get().certificate.sha256 == found.certificate.sha256 => {}
        Entry::Occupied(mut place) => {
            let left =
                if found.is_own && !place.get().is_own { place.insert(found) } else { found };
            findings.lost(&left.item, format!("{site} has another certificate, which is taken."));
        }
    }
}

/// Blocks by the name of their virtual host; the newer place goes first.
fn files(members: &Members) -> Vec<(String, Vec<Block>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut files: Vec<(String, Vec<Block>)> = members
        .below("apache_tls")
        .map(|(name, bytes)| (name.to_owned(), blocks(&text(bytes))))
        .collect();
    for (file, bytes) in members.below("sslcerts") {
        let Some(name) = file.strip_suffix(".crt") else { continue };
        let mut found = blocks(&text(bytes));
        for path in [format!("sslkeys/{name}.key"), format!("sslcerts/{name}.cabundle")] {
            found.extend(members.text(&path).map(|t| blocks(&t)).unwrap_or_default());
        }
        files.push((name.to_owned(), found));
    }
    files
}

/// The site of a virtual host's name, and whether the name is the site's own and no alias: an addon's
/// is the internal subdomain.
fn site(name: &str, domains: &[Domain]) -> Option<(DomainName, bool)> {
    let name = DomainName::parse(name.strip_prefix("www.").unwrap_or(name)).ok()?;
    let found = domains.iter().find(|d| d.internal.as_ref() == Some(&name) || d.name == name)?;
    Some((found.target.clone().unwrap_or_else(|| found.name.clone()), found.target.is_none()))
}

fn certificate(site: &DomainName, blocks: &[Block]) -> Result<Certificate, &'static str> {
    let keys: Vec<(&Block, PublicPart)> = blocks
        .iter()
        .filter_map(|b| Some((b, PublicPart::of_private(&b.label, &b.der)?)))
        .collect();
    let mut certificates: Vec<(&Block, X509Certificate<'_>)> = Vec::new();
    for block in blocks.iter().filter(|b| b.label.ends_with("CERTIFICATE")) {
        let (_, parsed) =
            X509Certificate::from_der(&block.der).map_err(|_e| "It cannot be read.")?;
        certificates.push((block, parsed));
    }
    if certificates.is_empty() {
        return Err("There is no certificate in its file.");
    }
    if keys.is_empty() {
        return Err("Its private key is missing, encrypted, or of a kind that is not served.");
    }
    let pair = certificates.iter().enumerate().find_map(|(at, (_, cert))| {
        let public = PublicPart::of_certificate(&cert.public_key().parsed().ok()?)?;
        keys.iter().find(|(_, part)| *part == public).map(|(key, _)| (at, *key))
    });
    let Some((at, key)) = pair else {
        return Err("Its private key belongs to another certificate.");
    };
    let (block, leaf) = certificates.remove(at);
    let chain = chain(&leaf, &certificates);
    let served = certificates.iter().filter(|(b, _)| chain.contains(&b.text)).map(|(_, c)| c);
    if served.chain([&leaf]).any(is_weak) {
        return Err("Its key or its signature is too weak: no web server of today starts with it.");
    }
    let names = names(&leaf);
    if names.is_empty() {
        return Err("It names no host.");
    }
    let time = |t: x509_parser::time::ASN1Time| DateTime::<Utc>::from_timestamp(t.timestamp(), 0);
    Ok(Certificate {
        domain: site.clone(),
        key: Secret::new(key.text.clone()),
        leaf: block.text.clone(),
        chain,
        names,
        issuer: crate::member::shown(leaf.issuer().to_string().as_bytes()),
        not_before: time(leaf.validity().not_before).ok_or("Its dates cannot be read.")?,
        not_after: time(leaf.validity().not_after).ok_or("Its dates cannot be read.")?,
        self_signed: leaf.issuer().as_raw() == leaf.subject().as_raw(),
        sha256: hex::encode(Sha256::digest(&block.der)),
    })
}

/// Below what OpenSSL of Debian 12 serves: one such certificate would keep a server from starting,
/// with all its sites. A signature of its own is not looked at, as OpenSSL does.
fn is_weak(cert: &X509Certificate<'_>) -> bool {
    let key = cert.public_key().parsed().ok();
    let part = key.as_ref().and_then(PublicPart::of_certificate);
    let short = part.and_then(|p| p.rsa_bits()).is_some_and(|bits| bits < 2048);
    let own = cert.issuer().as_raw() == cert.subject().as_raw();
    let name = cert.signature_algorithm.algorithm.to_id_string();
    short || !own && WEAK_SIGNATURES.contains(&name.as_str())
}

/// RSA with MD2, MD5 and SHA-1; ECDSA and DSA with SHA-1.
const WEAK_SIGNATURES: &[&str] = &[
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.2.840.10045.4.1",
    "1.2.840.10040.4.3",
];

/// Issuer after issuer, without the self-signed root, which clients have themselves.
fn chain(leaf: &X509Certificate<'_>, others: &[(&Block, X509Certificate<'_>)]) -> Vec<String> {
    let mut chain = Vec::new();
    let mut issuer = leaf.issuer().as_raw();
    while let Some((block, cert)) = others.iter().find(|(_, c)| c.subject().as_raw() == issuer) {
        let self_signed = cert.issuer().as_raw() == issuer;
        if self_signed || chain.contains(&block.text) {
            break;
        }
        chain.push(block.text.clone());
        issuer = cert.issuer().as_raw();
    }
    chain
}

/// The host names of a certificate, lower-case, wildcards with their star.
fn names(cert: &X509Certificate<'_>) -> BTreeSet<String> {
    let clean = |name: &str| {
        let (star, rest) = name.strip_prefix("*.").map_or(("", name), |rest| ("*.", rest));
        DomainName::parse(rest).ok().map(|d| format!("{star}{d}"))
    };
    let mut names = BTreeSet::new();
    if let Ok(Some(extension)) = cert.subject_alternative_name() {
        for name in &extension.value.general_names {
            if let GeneralName::DNSName(name) = name {
                // What is no name of a host, such as `*.com`, stays to be compared with the account's.
                names.insert(clean(name).unwrap_or_else(|| crate::member::shown(name.as_bytes())));
            }
        }
    }
    if names.is_empty() {
        let common = cert.subject().iter_common_name().filter_map(|a| a.as_str().ok());
        names.extend(common.filter_map(clean));
    }
    names
}

/// A name that lies below none of the account's domains, present or removed.
fn foreign(cert: &Certificate, domains: &[Domain], removed: &[DomainName]) -> Option<String> {
    let own: Vec<&DomainName> = domains
        .iter()
        .flat_map(|d| [Some(&d.name), d.internal.as_ref()])
        .flatten()
        .chain(removed)
        .collect();
    let belongs = |name: &str| {
        let name = name.strip_prefix("*.").unwrap_or(name).to_ascii_lowercase();
        let below = |rest: &str| rest.is_empty() || rest.ends_with('.');
        own.iter().any(|d| name.strip_suffix(d.as_str()).is_some_and(below))
    };
    cert.names.iter().find(|n| !belongs(n)).cloned()
}
