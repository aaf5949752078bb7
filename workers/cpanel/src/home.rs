//! What a home directory holds, and what becomes of each part of it.

use crate::account::{Account, Domain, Wildcard};
use crate::member::MemberPath;
use std::collections::BTreeSet;
use values::RelPath;

/// What becomes of a path of the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Restored as it is.
    File,
    /// Belongs to a mailbox.
    Mail,
    /// Read into the account (mail logins, autoresponders) and written anew.
    Read,
    /// Of cPanel itself or of its server: caches, logs, statistics. Restored only where a site lies.
    LeftBehind,
    /// SSH keys that open the account: left out, and listed.
    SshKeys,
}

/// Directories and files in the home that mean something to the source's panel alone, or that are
/// installed from elsewhere in the archive (`ssl`).
const OF_PANEL: &[&str] = &[
    ".MirrorSearch",
    ".autossl",
    ".cagefs",
    ".cl.selector",
    ".clwpos",
    ".contactemail",
    ".cpaddons",
    ".cpanel",
    ".cpbackup-exclude.conf",
    ".cpcache",
    ".cpcpan",
    ".cphorde",
    ".dns",
    ".ea-php-cli.cache",
    ".ftpquota",
    ".gemrc",
    ".htmltemplates",
    ".htpasswds.cache",
    ".imunify_patch_id",
    ".lastlogin",
    ".myimunify_id",
    ".panel",
    ".rcube",
    ".softaculous",
    ".statspwd",
    ".subaccounts",
    ".wp-toolkit-identifier",
    "access-logs",
    "cpanel3-skel",
    "cpbackup-exclude.conf",
    "ssl",
];

/// Those that may hold something of the customer's, with the reason why they stay behind.
const LEFT_BEHIND: &[(&str, &str)] = &[
    (".boxtrapper", "BoxTrapper is not taken over"),
    (".caldav", "calendars are not taken over"),
    (".razor", "Razor does not filter mail here"),
    (".spamassassinboxenable", "SpamAssassin was switched on and does not filter mail here"),
    (".spamassassinenable", "SpamAssassin was switched on and does not filter mail here"),
    (".sqmailattach", "SquirrelMail is not taken over"),
    (".sqmaildata", "SquirrelMail is not taken over"),
    (".trash", "these are files that were deleted"),
    ("backupinfo", "these are the source's notes about backups"),
    ("logs", "these are logs of the source"),
    ("lscache", "this is a cache of LiteSpeed"),
    ("tmp", "these are temporary files and statistics of the source"),
];

/// Directories in which nothing may be published.
const PRIVATE: &[&str] = &[
    ".autorespond",
    ".aws",
    ".cagefs",
    ".config",
    ".cpanel",
    ".cphorde",
    ".gnupg",
    ".htpasswds",
    ".pki",
    ".rcube",
    ".spamassassin",
    ".ssh",
    ".subaccounts",
    ".trash",
    "etc",
    "mail",
    "ssl",
];

/// Whether a document root there would show visitors mail, keys or passwords; `tmp` itself holds
/// sessions, but a site below it is one.
pub(crate) fn is_private(docroot: &RelPath) -> bool {
    let first = docroot.as_str().split('/').next().unwrap_or_default();
    PRIVATE.contains(&first) || docroot.as_str() == "tmp"
}

/// Why what stands under this name of the home stays behind; none when it is the panel's alone.
pub(crate) fn why_left_behind(name: &str) -> Option<&'static str> {
    LEFT_BEHIND.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// What becomes of a path below the home, apart from document roots. The decision rests on the first
/// one or two components.
#[must_use]
pub fn part(path: &MemberPath) -> Part {
    let mut components = path.components();
    let first = components.next().unwrap_or_default();
    let second = components.next();
    let is = |name: &str| name.as_bytes() == first;
    match first {
        b"mail" => Part::Mail,
        b"etc" | b".autorespond" => Part::Read,
        b".ssh" if second.is_some_and(|s| s.starts_with(b"authorized_keys")) => Part::SshKeys,
        _ if OF_PANEL.iter().any(|n| is(n)) || LEFT_BEHIND.iter().any(|(n, _)| is(n)) => {
            Part::LeftBehind
        }
        _ => Part::File,
    }
}

/// Document roots: a site is restored wherever it lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites(BTreeSet<Vec<u8>>);

impl Sites {
    /// Those of the account.
    #[must_use]
    pub fn of(account: &Account) -> Self {
        Self::at(&account.domains, &account.wildcards)
    }

    pub(crate) fn at(domains: &[Domain], wildcards: &[Wildcard]) -> Self {
        let roots = domains.iter().filter_map(|d| d.docroot.as_ref());
        let roots = roots.chain(wildcards.iter().filter_map(|w| w.docroot.as_ref()));
        Self(roots.map(|root| root.as_str().as_bytes().to_vec()).collect())
    }

    /// Whether a path lies in one.
    pub(crate) fn hold(&self, path: &[u8]) -> bool {
        self.0.iter().any(|root| {
            path.strip_prefix(root.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }

    /// What becomes of a path below the home.
    #[must_use]
    pub fn part(&self, path: &MemberPath) -> Part {
        match part(path) {
            Part::LeftBehind if self.hold(path.as_bytes()) => Part::File,
            part => part,
        }
    }
}

/// The name of a mailbox's folder, from its directory's without the leading dot. Some programs took
/// the name that clients see for that of the directory: `.INBOX.Old` was `Old` to others, and here it
/// would be a folder that no client can open.
#[must_use]
pub fn folder_name(directory: &str) -> &str {
    match directory.split_once('.') {
        Some((first, rest)) if first.eq_ignore_ascii_case("INBOX") && !rest.is_empty() => rest,
        _ => directory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (path, expected) in [
            ("public_html/index.php", Part::File),
            ("public_html/mail/x", Part::File),
            ("www", Part::File),
            (".htpasswds/a/passwd", Part::File),
            ("mail/shop.example/info/cur/1", Part::Mail),
            ("etc/shop.example/shadow", Part::Read),
            (".ssh/id_rsa", Part::File),
            (".ssh/authorized_keys2", Part::SshKeys),
            ("tmp/awstats/x", Part::LeftBehind),
            ("access-logs", Part::LeftBehind),
        ] {
            assert_eq!(part(&MemberPath::parse(path.as_bytes()).unwrap()), expected, "{path}");
        }
    }

    #[test]
    fn a_site_wins_over_what_is_left_behind() {
        let sites = Sites(BTreeSet::from([b"tmp/site".to_vec(), b"logs".to_vec()]));
        for (path, expected) in [
            ("tmp/site", Part::File),
            ("tmp/site/a/b.php", Part::File),
            ("tmp/sites/a", Part::LeftBehind),
            ("tmp/x", Part::LeftBehind),
            ("logs/index.html", Part::File),
            ("mail/x", Part::Mail),
        ] {
            assert_eq!(
                sites.part(&MemberPath::parse(path.as_bytes()).unwrap()),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn no_site_publishes_mail_or_keys() {
        for (path, private) in [
            ("mail", true),
            ("mail/shop.example", true),
            (".ssh", true),
            (".htpasswds/public_html", true),
            ("etc/x", true),
            ("tmp", true),
            ("tmp/site", false),
            ("logs", false),
            ("public_html/mail", false),
            ("mailer", false),
        ] {
            assert_eq!(is_private(&RelPath::parse(path).unwrap()), private, "{path}");
        }
    }
}
