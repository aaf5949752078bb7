//! What of the server's configuration belongs to an account, whoever made it.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::facts;
use crate::layout;
use std::path::{Path, PathBuf};
use values::{DomainName, Username};

/// Configuration files of ours are smaller.
pub const FILE_BYTES: u64 = 1 << 20;

/// Where virtual hosts lie, below [`layout::ETC`].
pub const SITE_DIRS: [&str; 4] = ["sites", "tls-sites", "wildcard-sites", "tls-wildcard-sites"];

/// A virtual host that runs as the account.
#[derive(Debug)]
pub struct Site {
    /// One of [`SITE_DIRS`].
    pub dir: &'static str,
    pub file: String,
    pub text: String,
}

impl Site {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        Path::new(layout::ETC).join(self.dir).join(&self.file)
    }

    /// The domain that it is called after: `shop.example.conf`, or `97-shop.example.conf` of a wildcard.
    pub fn domain(&self) -> Option<DomainName> {
        let name = self.file.strip_suffix(".conf")?;
        let name = match self.dir.contains("wildcard") {
            true => name.split_once('-')?.1,
            false => name,
        };
        DomainName::parse(name).ok()
    }
}

/// The account's virtual hosts.
pub fn sites(user: &Username) -> Result<Vec<Site>> {
    let mut found = Vec::new();
    for dir in SITE_DIRS {
        let Some(place) = below_etc(dir)? else { continue };
        for (name, _) in place.list()? {
            let Some(file) = name.to_str().filter(|name| name.ends_with(".conf")) else { continue };
            let bytes = place.read(file, FILE_BYTES)?.unwrap_or_default();
            let text = String::from_utf8(bytes).map_err(Error::internal)?;
            if facts::site(&text).1 == user.as_str() {
                found.push(Site { dir, file: file.to_owned(), text });
            }
        }
    }
    Ok(found)
}

/// The account's mail domains, dormant ones too.
pub fn mail_domains(user: &Username) -> Result<Vec<DomainName>> {
    let mut found = Vec::new();
    let Some(place) = below_etc("mail")? else { return Ok(found) };
    for (name, _) in place.list()? {
        let Some(domain) = name.to_str().and_then(|name| DomainName::parse(name).ok()) else {
            continue;
        };
        let owner = place.read(Path::new(&name).join("owner"), FILE_BYTES)?.unwrap_or_default();
        if owner.trim_ascii() == user.as_str().as_bytes() {
            found.push(domain);
        }
    }
    Ok(found)
}

fn below_etc(dir: &str) -> Result<Option<Beneath>> {
    let path = Path::new(layout::ETC).join(dir);
    match std::fs::exists(&path).map_err(Error::at(&path))? {
        true => Beneath::open(&path).map(Some),
        false => Ok(None),
    }
}
