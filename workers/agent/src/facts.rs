//! What the server has now, as far as an account's names touch it.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::inspect::free_bytes;
use crate::layout;
use crate::lines;
use crate::mariadb;
use crate::people;
use cpanel::account::Account;
use cpanel::plan::{Facts, Options, Resolution, UserFact};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use values::{DatabaseName, DatabaseUser, DomainName, MailAddress, Username};

/// Configuration files of ours are smaller.
const FILE_BYTES: u64 = 1 << 20;

/// Gathers the facts for a restore of the account under this user name. Writes nothing.
pub fn gather(account: &Account, user: &Username, options: &Options) -> Result<Facts> {
    let person = people::user(user.as_str())?;
    let fact = |p: people::Person| -> Result<UserFact> {
        Ok(UserFact { uid: p.uid, is_account: people::is_account(&p)? })
    };
    let homes = Beneath::open(layout::HOMES)?;
    let domains: Vec<&DomainName> = account.domains.iter().map(|d| &d.name).collect();
    let mail_domains = mail_domains(&domains)?;
    let sql = Sql::of(account, options)?;
    Ok(Facts {
        user: person.map(fact).transpose()?,
        home_exists: homes.stat(user.as_str())?.is_some(),
        databases: sql.databases,
        database_users: sql.users,
        grants: sql.grants,
        vhosts: vhosts(&domains)?,
        sites: with_file(&domains, layout::site)?,
        pools: pools(user)?,
        wildcards: wildcards(account)?,
        mailboxes: mailboxes(mail_domains.keys())?,
        forwarders: forwarders(mail_domains.keys())?,
        scripts: scripts(mail_domains.keys())?,
        login: login(user)?,
        mail_domains,
        dkim: with_file(&domains, |d| layout::dkim_key(d.as_str()))?,
        certificates: with_file(&domains, |d| layout::tls_pair(d.as_str()))?,
        php_versions: php_versions()?,
        free_bytes: free_bytes()?,
        hostname: hostname()?,
    })
}

/// Names that the plan may ask about: the account's, new ones that were chosen, and those made of the
/// account's with something behind, which are offered instead.
struct Asked {
    names: BTreeSet<String>,
    renamed: BTreeSet<String>,
}

impl Asked {
    fn of<'n>(names: impl Iterator<Item = &'n str>, options: &Options) -> Self {
        let renamed = options.resolutions.values().filter_map(|r| match r {
            Resolution::Rename(name) => Some(name.clone()),
            _ => None,
        });
        Self { names: names.map(ToOwned::to_owned).collect(), renamed: renamed.collect() }
    }

    fn touches(&self, name: &str) -> bool {
        self.renamed.contains(name) || self.names.iter().any(|n| name.starts_with(n.as_str()))
    }
}

/// What MariaDB has of the account's names, asked in one go: its client takes longer to start than
/// the statements take.
#[derive(Default)]
struct Sql {
    databases: BTreeSet<DatabaseName>,
    users: BTreeSet<DatabaseUser>,
    /// Rights that users of the account's names have on databases, each named exactly.
    grants: BTreeSet<(DatabaseUser, DatabaseName)>,
}

impl Sql {
    fn of(account: &Account, options: &Options) -> Result<Self> {
        let mut found = Self::default();
        if account.databases.is_empty() && account.database_users.is_empty() {
            return Ok(found);
        }
        let databases = Asked::of(account.databases.iter().map(|d| d.name.as_str()), options);
        let users = Asked::of(account.database_users.iter().map(|u| u.name.as_str()), options);
        let rows = mariadb::query(
            "SELECT 'd', schema_name, '' FROM information_schema.schemata;\n\
             SELECT DISTINCT 'u', user, '' FROM mysql.global_priv;\n\
             SELECT 'g', user, db FROM mysql.db WHERE host = 'localhost';\n",
        )?;
        for row in &rows {
            let [kind, name, pattern] = row.as_slice() else { continue };
            match kind.as_str() {
                "d" if databases.touches(name) => found.databases.extend(DatabaseName::parse(name)),
                "u" if users.touches(name) => found.users.extend(DatabaseUser::parse(name)),
                "g" if users.touches(name) => found.grants.extend(grant(name, pattern)),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// A right whose pattern names one database exactly.
fn grant(user: &str, pattern: &str) -> Option<(DatabaseUser, DatabaseName)> {
    let database = DatabaseName::parse(&pattern.replace('\\', "")).ok()?;
    let is_exact = mariadb::pattern(&database) == mariadb::name(pattern);
    DatabaseUser::parse(user).ok().filter(|_| is_exact).map(|user| (user, database))
}

/// The sites that answer to one of the domains, by name or alias, with their accounts.
fn vhosts(domains: &[&DomainName]) -> Result<BTreeMap<DomainName, String>> {
    let mut found = BTreeMap::new();
    let path = format!("{}/sites", layout::ETC);
    if !std::fs::exists(&path).map_err(Error::at(&path))? {
        return Ok(found);
    }
    let sites = Beneath::open(&path)?;
    for (name, _) in sites.list()? {
        let bytes = sites.read(Path::new(&name), FILE_BYTES)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let (names, owner) = site(&text);
        for domain in domains.iter().filter(|d| names.contains(d.as_str())) {
            found.insert((*domain).clone(), owner.to_owned());
        }
    }
    Ok(found)
}

/// The names of the account below which a wildcard site answers.
fn wildcards(account: &Account) -> Result<BTreeMap<DomainName, String>> {
    let mut found = BTreeMap::new();
    for wildcard in &account.wildcards {
        let (root, rest) = Beneath::place(&layout::wildcard_site(&wildcard.base))?;
        if let Some(bytes) = root.read(rest, FILE_BYTES)? {
            let text = String::from_utf8_lossy(&bytes);
            found.insert(wildcard.base.clone(), site(&text).1.to_owned());
        }
    }
    Ok(found)
}

/// The names of a virtual host of ours, and the user that it runs as.
pub fn site(text: &str) -> (BTreeSet<&str>, &str) {
    let (mut names, mut owner) = (BTreeSet::new(), "");
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("ServerName" | "ServerAlias") => names.extend(words),
            Some("AssignUserID") => owner = words.next().unwrap_or_default(),
            _ => {}
        }
    }
    (names, owner)
}

fn mail_domains(domains: &[&DomainName]) -> Result<BTreeMap<DomainName, String>> {
    let mut found = BTreeMap::new();
    for domain in domains {
        let (root, rest) = Beneath::place(&layout::mail_owner(domain.as_str()))?;
        if let Some(bytes) = root.read(&rest, FILE_BYTES)? {
            let owner = String::from_utf8_lossy(&bytes).trim().to_owned();
            found.insert((*domain).clone(), owner);
        }
    }
    Ok(found)
}

fn mailboxes<'d>(domains: impl Iterator<Item = &'d DomainName>) -> Result<BTreeSet<MailAddress>> {
    addresses(domains, "passwd")
}

/// Addresses that are sent on; neither the catch-all's sign nor that of a whole domain is one.
fn forwarders<'d>(domains: impl Iterator<Item = &'d DomainName>) -> Result<BTreeSet<MailAddress>> {
    addresses(domains, "aliases")
}

/// The addresses that have a line in this file of their domain.
fn addresses<'d>(
    domains: impl Iterator<Item = &'d DomainName>,
    file: &str,
) -> Result<BTreeSet<MailAddress>> {
    let mut found = BTreeSet::new();
    for domain in domains {
        for line in lines::all(&layout::mail(domain.as_str()).join(file))? {
            let local = line.split(':').next().unwrap_or_default();
            found.extend(MailAddress::parse(&format!("{local}@{domain}")));
        }
    }
    Ok(found)
}

/// Mailboxes with an active script, by where their logins say that they lie.
fn scripts<'d>(domains: impl Iterator<Item = &'d DomainName>) -> Result<BTreeSet<MailAddress>> {
    let mut found = BTreeSet::new();
    for domain in domains {
        for line in lines::all(&layout::mail(domain.as_str()).join("passwd"))? {
            let mut fields = line.split(':');
            let local = fields.next().unwrap_or_default();
            let Some(maildir) = fields.nth(4).filter(|m| !m.is_empty()) else { continue };
            let (root, rest) = Beneath::place(&Path::new(maildir).join("sieve.active"))?;
            if root.stat(&rest)?.is_some() {
                found.extend(MailAddress::parse(&format!("{local}@{domain}")));
            }
        }
    }
    Ok(found)
}

/// The mailbox that the user's bare name opens.
fn login(user: &Username) -> Result<Option<MailAddress>> {
    let line = lines::get(&layout::plain_logins(), user.as_str())?.unwrap_or_default();
    Ok(line.split(":user=").nth(1).and_then(|address| MailAddress::parse(address).ok()))
}

/// The domains that have this file.
fn with_file(
    domains: &[&DomainName],
    file: impl Fn(&DomainName) -> PathBuf,
) -> Result<BTreeSet<DomainName>> {
    let mut found = BTreeSet::new();
    for domain in domains {
        let (root, rest) = Beneath::place(&file(domain))?;
        if root.stat(&rest)?.is_some() {
            found.insert((*domain).clone());
        }
    }
    Ok(found)
}

/// PHP versions that the user has a pool of.
fn pools(user: &Username) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for version in layout::PHP_VERSIONS {
        let (root, rest) = Beneath::place(&layout::pool(user, version))?;
        if root.stat(&rest)?.is_some() {
            found.insert((*version).to_owned());
        }
    }
    Ok(found)
}

fn php_versions() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for version in layout::PHP_VERSIONS {
        let path = format!("/usr/sbin/php-fpm{version}");
        if std::fs::exists(&path).map_err(Error::at(&path))? {
            found.insert((*version).to_owned());
        }
    }
    Ok(found)
}

/// The name that enrolment gave the server; before enrolment, the system's.
fn hostname() -> Result<String> {
    let path = "/etc/exim4/exim4.conf";
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(Error::at(path)(e)),
    };
    let told = text.lines().find_map(|l| l.strip_prefix("primary_hostname").map(str::trim_start));
    if let Some(name) = told.and_then(|l| l.strip_prefix('=')) {
        return Ok(name.trim().to_ascii_lowercase());
    }
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(path).map_err(Error::at(path))?;
    Ok(name.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_owner_of_a_site() {
        let text = include_str!("../../../deploy/target/site.conf");
        let text = text.replace("{{name}}", "a.example").replace("{{user}}", "shop");
        let text = text.replace("{{aliases}}", "    ServerAlias www.a.example\n");
        let (names, owner) = site(&text);
        assert_eq!(owner, "shop");
        assert_eq!(names, BTreeSet::from(["a.example", "www.a.example"]));
    }

    #[test]
    fn names_that_may_be_asked_about() {
        let asked = Asked::of(["shop_wp"].into_iter(), &Options::default());
        assert!(asked.touches("shop_wp") && asked.touches("shop_wp_2"));
        assert!(!asked.touches("other_wp") && !asked.touches("shop"));
    }
}
