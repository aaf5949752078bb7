//! Imported certificates: for the web site, and for the mail services by name.

use super::{Done, migrated, web};
use crate::beneath::Owner;
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::layout;
use crate::people;
use crate::program::{Program, run};
use crate::services::{self, Service};
use cpanel::account::Certificate;
use cpanel::protocol::Outcome;
use std::fmt::Write;
use values::DomainName;

/// Installs the certificate of this fingerprint for a domain's site and its mail.
pub fn install(work: &mut Work<'_>, domain: &DomainName, sha256: &str) -> Result<Done> {
    let all = &work.account.certificates;
    let certificate = all
        .iter()
        .find(|c| c.sha256 == sha256)
        .ok_or_else(|| Error::internal(format!("no certificate {sha256} in the account")))?;
    let chain: Vec<&str> = certificate.chain.iter().map(String::as_str).collect();
    if !is_usable(certificate.key.reveal(), &certificate.leaf, &chain)? {
        let text = "OpenSSL of this server does not read it: it cannot be used.";
        return Ok((Outcome::NotTransferred, text.to_owned()));
    }
    let gid = people::group_id("Debian-exim")?;
    let dir = layout::tls(domain.as_str());
    work.make_dir(&dir, Owner { uid: 0, gid, mode: 0o750 })?;
    let blocks: Vec<&String> =
        std::iter::once(&certificate.leaf).chain(&certificate.chain).collect();
    let pair = joined(certificate.key.reveal(), &blocks);
    let owner = Owner { uid: 0, gid, mode: 0o640 };
    let path = layout::tls_pair(domain.as_str());
    // Both read it when they read their configuration, which may stay the same.
    services::will_change(Service::Dovecot, work.job.id)?;
    work.put(&path, pair.as_bytes(), owner, Some(Service::Apache))?;
    mail_names(work, domain, certificate)?;
    let places = [
        (layout::site(domain), layout::tls_site(domain)),
        (layout::wildcard_site(domain), layout::tls_wildcard_site(domain)),
    ];
    let covers_all = certificate.names.contains(&format!("*.{domain}"));
    let mut sites = 0_u32;
    for (plain, tls) in places.into_iter().take(if covers_all { 2 } else { 1 }) {
        let Some(text) = web::tls_site(&plain, domain)? else { continue };
        work.put(&tls, text.as_bytes(), Owner::root(0o600), Some(Service::Apache))?;
        sites += 1;
    }
    if sites == 0 {
        return Ok((Outcome::Adapted, format!("{domain} has no web site here; mail uses it.")));
    }
    Ok(migrated())
}

/// Whether the very library that the services use reads certificate, chain and key, and finds that
/// they fit. One that it does not read would keep every service from starting.
fn is_usable(key: &str, leaf: &str, chain: &[&str]) -> Result<bool> {
    let of_certificate = ["x509", "-noout", "-pubkey"];
    let broken = || Err(Error::internal("a look at a certificate broke off"));
    // Side by side: the program takes longer to start than its work takes.
    let (leaf, key) = std::thread::scope(|scope| {
        let leaf = scope.spawn(|| public_key(&of_certificate, leaf));
        let key = public_key(&["pkey", "-pubout"], key);
        (leaf.join().unwrap_or_else(|_| broken()), key)
    });
    let (leaf, key) = (leaf?, key?);
    for block in chain {
        if public_key(&of_certificate, block)?.is_none() {
            return Ok(false);
        }
    }
    Ok(leaf.is_some() && leaf == key)
}

/// The public key as OpenSSL tells it; none when it does not read the text.
fn public_key(arguments: &[&str], pem: &str) -> Result<Option<Vec<u8>>> {
    let output = run(Program::OpenSsl).args(arguments).stdin(pem.as_bytes()).output()?;
    Ok(output.success().then_some(output.stdout).filter(|text| !text.is_empty()))
}

/// Key, certificate and chain in one file's text, once the services' own library has read them and
/// found that they fit.
pub fn pair_text(key: &str, chain: &[String]) -> Result<String> {
    let blocks: Vec<&String> = chain.iter().collect();
    let rest: Vec<&str> = chain.iter().skip(1).map(String::as_str).collect();
    let usable = match chain.first() {
        Some(leaf) => is_usable(key, leaf, &rest)?,
        None => false,
    };
    match usable {
        true => Ok(joined(key, &blocks)),
        false => {
            let text = "OpenSSL of this server does not read the certificate: it is not installed.";
            Err(Error::new("configuration_refused", text))
        }
    }
}

fn joined(key: &str, blocks: &[&String]) -> String {
    let mut pair = with_newline(key);
    for block in blocks {
        pair.push_str(&with_newline(block));
    }
    pair
}

fn with_newline(pem: &str) -> String {
    format!("{}\n", pem.trim())
}

/// Dovecot shows it to clients that ask for one of its names. A certificate may claim any name: only
/// those of the domain itself and below it are believed.
fn mail_names(work: &mut Work<'_>, domain: &DomainName, certificate: &Certificate) -> Result<()> {
    let mut names: Vec<DomainName> =
        certificate.names.iter().filter_map(|n| DomainName::parse(n).ok()).collect();
    names.push(domain.clone());
    names.sort();
    names.dedup();
    names.retain(|name| name == domain || name.is_below(domain));
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let path = layout::dovecot_tls(domain.as_str());
    let text = mail_blocks(domain, &names)?;
    work.put(&path, text.as_bytes(), Owner::root(0o600), Some(Service::Dovecot))
}

/// What makes Dovecot show the domain's certificate to clients that ask for one of these names.
pub fn mail_blocks(domain: &DomainName, names: &[String]) -> Result<String> {
    let pair = layout::tls_pair(domain.as_str());
    let pair = pair.display();
    let mut text = format!("# {}\n", layout::OURS);
    for name in names {
        let block = format!("local_name {name} {{\n  ssl_cert = <{pair}\n  ssl_key = <{pair}\n}}");
        writeln!(text, "{block}").map_err(Error::internal)?;
    }
    Ok(text)
}
