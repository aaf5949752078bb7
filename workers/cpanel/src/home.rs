//! What a home directory holds, and what becomes of each part of it.

use crate::member::MemberPath;

/// What becomes of a path of the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Restored as it is.
    File,
    /// Belongs to a mailbox.
    Mail,
    /// Read into the account (mail logins, autoresponders, certificates) and written anew.
    Read,
    /// Of cPanel itself or of its server: caches, logs, statistics.
    LeftBehind,
    /// SSH keys that open the account: left out, and listed.
    SshKeys,
}

/// Directories and files in the home that belong to cPanel, its add-ons or its server.
const LEFT_BEHIND: &[&str] = &[
    ".cagefs",
    ".cl.selector",
    ".clwpos",
    ".cpaddons",
    ".cpanel",
    ".cphorde",
    ".cpcpan",
    ".cpcache",
    ".imunify_patch_id",
    ".lastlogin",
    ".softaculous",
    ".sqmaildata",
    ".sqmailattach",
    ".subaccounts",
    ".trash",
    ".wp-toolkit-identifier",
    ".MirrorSearch",
    ".boxtrapper",
    ".cpbackup-exclude.conf",
    ".contactemail",
    ".dns",
    ".ea-php-cli.cache",
    ".ftpquota",
    ".gemrc",
    ".htmltemplates",
    ".razor",
    ".spamassassinboxenable",
    ".spamassassinenable",
    ".statspwd",
    "access-logs",
    "backupinfo",
    "cpanel3-skel",
    "cpbackup-exclude.conf",
    "logs",
    "tmp",
    "lscache",
    ".autossl",
    ".myimunify_id",
    ".rcube",
    ".caldav",
    ".htpasswds.cache",
    ".panel",
];

/// What becomes of a path below the home. The decision rests on the first one or two components.
#[must_use]
pub fn part(path: &MemberPath) -> Part {
    let mut components = path.components();
    let first = components.next().unwrap_or_default();
    let second = components.next();
    match first {
        b"mail" => Part::Mail,
        b"etc" | b".autorespond" | b"ssl" => Part::Read,
        b".ssh" if second.is_some_and(|s| s.starts_with(b"authorized_keys")) => Part::SshKeys,
        _ if LEFT_BEHIND.iter().any(|n| n.as_bytes() == first) => Part::LeftBehind,
        _ => Part::File,
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
}
