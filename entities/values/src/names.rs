//! Names: of hosts, domains, accounts, databases and mailboxes.

use crate::{Invalid, checked_text};
use serde::{Deserialize, Serialize};

/// A domain name in lower-case A-label form without a trailing dot: at least two labels of 1 to 63
/// characters, at most 253 in all (RFC 1035 section 2.3.4, RFC 5890). Underscores are refused:
/// a domain is something that can be registered and served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

impl DomainName {
    /// Reads a domain name; Unicode becomes A-labels, upper case lower, a trailing dot goes.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let name = host_labels(text, "domain name")?;
        if !name.contains('.') {
            return Err(Invalid { what: "domain name", rule: "needs at least two labels" });
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Invalid { what: "domain name", rule: "must not be an address" });
        }
        Ok(Self(name))
    }

    /// Whether this name lies below `parent`, at any depth. A name is not below itself.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }
}

/// The name or IPv4 address of a machine that is connected to: like a [`DomainName`], but one label
/// and an address are allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hostname(String);

impl Hostname {
    /// Reads a host name or an address.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        host_labels(text, "host name").map(Self)
    }
}

fn host_labels(text: &str, what: &'static str) -> Result<String, Invalid> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(Invalid { what, rule: "is empty" });
    }
    if text.len() > 1000 {
        return Err(Invalid { what, rule: "is longer than 253 characters" });
    }
    // No host name has an underscore (RFC 1123, 2.1), but cPanel let customers make such subdomains,
    // and browsers and Apache take them.
    let underscored = text.is_ascii() && text.contains('_');
    let checked = if underscored { text.replace('_', "a") } else { text.to_owned() };
    let Ok(name) = idna::domain_to_ascii_strict(&checked) else {
        return Err(Invalid { what, rule: "has a label that no host name may have" });
    };
    let name = if underscored { text.to_ascii_lowercase() } else { name };
    if name.len() > 253 {
        return Err(Invalid { what, rule: "is longer than 253 characters" });
    }
    let labels = name.split('.').count();
    for (at, label) in name.split('.').enumerate() {
        if label.is_empty() || label.len() > 63 {
            return Err(Invalid { what, rule: "has a label that is empty or over 63 characters" });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(Invalid { what, rule: "has a label that begins or ends with a hyphen" });
        }
        // A subdomain may have one in the middle; a leading one marks records that are no hosts.
        let underscores = at + 2 < labels && !label.starts_with('_');
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !label.bytes().all(|b| known(b) || underscores && b == b'_') {
            return Err(Invalid { what, rule: "may hold letters, digits, hyphens and dots only" });
        }
    }
    Ok(name)
}

/// A hosting account's user name as cPanel allows it: 1 to 16 lower-case letters and digits,
/// beginning with a letter. Names of the system's own users are a [`Username`], too; whether one
/// is free is asked of the server, and [`Username::is_reserved`] tells the ones that never are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Username(String);

/// Names that Debian, its packages or cPanel give to their own users (Debian's `base-passwd`, the
/// packages of the hosting layout, cPanel's list of reserved names).
const RESERVED_USERS: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www",
    "backup",
    "list",
    "irc",
    "gnats",
    "nobody",
    "sshd",
    "mysql",
    "mariadb",
    "postgres",
    "redis",
    "rabbitmq",
    "dovecot",
    "dovenull",
    "exim",
    "debianexim",
    "vmail",
    "pdns",
    "bind",
    "named",
    "apache",
    "httpd",
    "nginx",
    "ftp",
    "admin",
    "administrator",
    "adm",
    "operator",
    "cpanel",
    "whm",
    "toor",
    "sudo",
    "wheel",
    "staff",
    "users",
    "shadow",
    "tty",
    "disk",
    "kmem",
    "messagebus",
    "systemd",
    "polkitd",
    "ntp",
    "chrony",
    "postfix",
    "tomcat",
    "mailman",
    "migrapanel",
    "test",
    "all",
    "virtfs",
    "tmp",
    "public",
    "dev",
    "docker",
    "lxd",
];

impl Username {
    /// Reads a user name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "user name";
        if text.is_empty() || text.len() > 16 {
            return Err(Invalid { what, rule: "must have 1 to 16 characters" });
        }
        if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(Invalid { what, rule: "may hold lower-case letters and digits only" });
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(Invalid { what, rule: "must begin with a letter" });
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the name belongs to the system and can never be an account's.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        RESERVED_USERS.contains(&self.0.as_str())
    }

    /// Where the account lives: `/home/NAME`.
    #[must_use]
    pub fn home(&self) -> String {
        format!("/home/{}", self.0)
    }
}

/// A mail address: a local part of 1 to 64 characters out of letters, digits and `._+=-` (no dot at
/// either end), lower-cased, at a [`DomainName`]. Quoted local parts (RFC 5321 section 4.1.2) are
/// refused: they cannot be a directory's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailAddress(String);

impl MailAddress {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "mail address";
        let Some((local, domain)) = text.rsplit_once('@') else {
            return Err(Invalid { what, rule: "needs an @" });
        };
        let domain = DomainName::parse(domain)?;
        if local.is_empty() || local.len() > 64 {
            return Err(Invalid { what, rule: "needs a local part of 1 to 64 characters" });
        }
        if !local.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+=-".contains(&b)) {
            return Err(Invalid {
                what,
                rule: "has a local part with other than a-z 0-9 . _ + = -",
            });
        }
        if local.starts_with(['.', '-']) || local.ends_with('.') {
            let rule = "has a local part that begins with a dot or a hyphen, or ends with a dot";
            return Err(Invalid { what, rule });
        }
        Ok(Self(format!("{}@{domain}", local.to_ascii_lowercase())))
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    /// The domain as text; it is a valid [`DomainName`].
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

/// A database's name: 1 to 64 characters out of letters, digits and `_ - . $`, not one of the
/// server's own. Quoted with backticks wherever it stands in SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseName(String);

impl DatabaseName {
    /// Reads a database's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "database name";
        database_text(text, what, 64)?;
        let lower = text.to_ascii_lowercase();
        if ["mysql", "sys", "information_schema", "performance_schema"].contains(&lower.as_str()) {
            return Err(Invalid { what, rule: "belongs to the database server" });
        }
        Ok(Self(text.to_owned()))
    }
}

/// A database user's name: 1 to 80 characters (MariaDB's limit) out of letters, digits and
/// `_ - . $`, not one of the server's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatabaseUser(String);

impl DatabaseUser {
    /// Reads a database user's name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "database user name";
        database_text(text, what, 80)?;
        let lower = text.to_ascii_lowercase();
        if ["root", "mysql", "mariadb.sys", "debian-sys-maint", "public"].contains(&lower.as_str())
        {
            return Err(Invalid { what, rule: "belongs to the database server" });
        }
        Ok(Self(text.to_owned()))
    }
}

fn database_text(text: &str, what: &'static str, longest: usize) -> Result<(), Invalid> {
    if text.is_empty() || text.len() > longest {
        return Err(Invalid { what, rule: "is empty or too long" });
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.$".contains(&b)) {
        return Err(Invalid { what, rule: "may hold letters, digits and _ - . $ only" });
    }
    if text.starts_with(['-', '.']) {
        return Err(Invalid { what, rule: "must begin with a letter, a digit or _" });
    }
    Ok(())
}

checked_text!(DomainName, Hostname, Username, MailAddress, DatabaseName, DatabaseUser);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_brought_to_one_form() {
        for (text, name) in [
            ("Example.COM.", "example.com"),
            ("müller.example", "xn--mller-kva.example"),
            ("a.b.c.example", "a.b.c.example"),
        ] {
            assert_eq!(DomainName::parse(text).unwrap().as_str(), name);
        }
        assert!(DomainName::parse("dev_x.Shop.example").is_ok());
        for text in [
            "_dmarc.shop.example",
            "",
            "com",
            "a..b",
            "-a.example",
            "a_b.example",
            "192.0.2.1",
            "a b.example",
        ] {
            assert!(DomainName::parse(text).is_err(), "{text}");
        }
        for text in ["x.example\n", "x.example\0", "x/../y.example", "*.example"] {
            assert!(DomainName::parse(text).is_err(), "{text:?}");
        }
        let parent = DomainName::parse("b.example").unwrap();
        assert!(DomainName::parse("a.b.example").unwrap().is_below(&parent));
        assert!(!DomainName::parse("ab.example").unwrap().is_below(&parent));
        assert!(!parent.is_below(&parent));
    }

    #[test]
    fn user_names_follow_cpanel() {
        assert!(Username::parse("arielstudio01").is_ok());
        for text in ["", "1abc", "UPPER", "a-b", "a_b", "../root", "abcdefghijklmnopq", "a\n"] {
            assert!(Username::parse(text).is_err(), "{text:?}");
        }
        assert!(Username::parse("root").unwrap().is_reserved());
    }

    #[test]
    fn addresses_cannot_become_paths_or_lines() {
        let address = MailAddress::parse("Info+tag@Shop.example").unwrap();
        assert_eq!(
            (address.as_str(), address.local(), address.domain()),
            ("info+tag@shop.example", "info+tag", "shop.example")
        );
        for text in ["a/b@x.example", "..@x.example", "a:b@x.example", "a\n@x.example", "x.example"]
        {
            assert!(MailAddress::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn database_names_never_reach_the_servers_own() {
        assert!(DatabaseName::parse("shop-co.wp_1").is_ok());
        for text in ["mysql", "SYS", "a`b", "-x", "a b", ""] {
            assert!(DatabaseName::parse(text).is_err(), "{text}");
        }
        assert!(DatabaseUser::parse("root").is_err());
    }
}
