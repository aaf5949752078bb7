//! Enrolment: makes the hosting layout on a Debian 12 server and binds the worker's key to the agent.
//! Everything is looked at first; what is as it should be is left alone.

use crate::beneath::{Beneath, Owner};
use crate::config;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::guard::Stop;
use crate::layout;
use crate::people;
use crate::program::{Program, run};
use crate::services::{self, Service};
use cpanel::protocol::{Enroll, EnrollReport, Level};
use std::path::Path;
use std::time::Duration;
use values::{AbsPath, Hostname};

const PACKAGES: &str = include_str!("../../../deploy/target/packages");

/// Makes the layout; answers what was changed. May be repeated, also after it was cut off.
pub fn enroll(request: &Enroll, events: &Events, stop: &Stop) -> Result<EnrollReport> {
    let hostname = Hostname::parse(&request.hostname)?.to_string();
    let key = PublicKey::parse(&request.public_key)?;
    let os = supported_os()?;
    let mut changes = Changes { list: Vec::new(), events };
    packages(&mut changes)?;
    stop.check()?;
    own_binary(&mut changes)?;
    account_group(&mut changes)?;
    directories(&request.backup_dirs, &mut changes)?;
    server_certificate(&hostname, &mut changes)?;
    stop.check()?;
    apache_modules(&mut changes)?;
    config::write_all(&hostname, &mut changes)?;
    services::apply_changes(services::ENROLMENT)?;
    bind_key(&key, &mut changes)?;
    Ok(EnrollReport {
        changes: changes.list,
        os,
        hostname,
        php_versions: layout::PHP_VERSIONS.iter().map(|v| (*v).to_owned()).collect(),
    })
}

/// What enrolment changed, told as it happens.
pub struct Changes<'a> {
    list: Vec<String>,
    events: &'a Events,
}

impl Changes<'_> {
    /// Says what is being done.
    pub fn doing(&self, text: &str) -> Result<()> {
        self.events.log(Level::Info, text)
    }

    /// Notes that something was changed.
    pub fn add(&mut self, text: impl Into<String>) -> Result<()> {
        let text = text.into();
        self.events.log(Level::Info, text.as_str())?;
        self.list.push(text);
        Ok(())
    }
}

fn supported_os() -> Result<String> {
    let path = "/etc/os-release";
    let text = std::fs::read_to_string(path).map_err(Error::at(path))?;
    let field = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    if (field("ID").as_str(), field("VERSION_ID").as_str()) != ("debian", "12") {
        let text =
            format!("A hosting server must run Debian 12; this one runs {}.", field("PRETTY_NAME"));
        return Err(Error::new("unsupported_os", text));
    }
    Ok(field("PRETTY_NAME"))
}

fn packages(changes: &mut Changes<'_>) -> Result<()> {
    let wanted: Vec<&str> = PACKAGES.lines().filter(|l| !l.starts_with('#')).collect();
    let query = run(Program::DpkgQuery).args(["-W", "-f", "${Package} ${db:Status-Status}\\n"]);
    let known = query.args(&wanted).output()?.text();
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|p| !known.lines().any(|l| l == format!("{p} installed")))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    changes.doing(&format!("Installing {}.", missing.join(" ")))?;
    // An installation that was cut off, ours or another, is brought to its end first.
    run(Program::Dpkg)
        .args(["--configure", "-a", "--force-confold"])
        .limit(Duration::from_secs(1200))
        .ok()?;
    let apt = |arguments: &[&str]| {
        run(Program::AptGet).args(arguments).limit(Duration::from_secs(1200)).ok().map(drop)
    };
    apt(&["update", "-o", "DPkg::Lock::Timeout=300"])?;
    let options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"];
    let install = ["install", "-y", "--no-install-recommends"];
    apt(&[&install[..], &options[..], &missing].concat())?;
    changes.add(format!("Installed {}.", missing.join(" ")))
}

/// The agent lies where the worker's key is bound to it.
fn own_binary(changes: &mut Changes<'_>) -> Result<()> {
    let path = "/proc/self/exe";
    let own = std::fs::read_link(path).map_err(Error::at(path))?;
    if own == Path::new(layout::AGENT) || std::fs::exists(layout::AGENT)? {
        return Ok(());
    }
    crate::upgrade::install(&std::fs::read(path).map_err(Error::at(path))?)?;
    changes.add(format!("Put the agent at {}.", layout::AGENT))
}

fn account_group(changes: &mut Changes<'_>) -> Result<()> {
    if people::group(layout::ACCOUNT_GROUP)?.is_some() {
        return Ok(());
    }
    run(Program::GroupAdd).args(["--system", layout::ACCOUNT_GROUP]).ok()?;
    changes.add(format!("Made the group {} of hosting accounts.", layout::ACCOUNT_GROUP))
}

/// The layout's directories: path, group (none: root), mode.
const DIRECTORIES: &[(&str, &str, u32)] = &[
    (layout::ETC, "root", 0o755),
    ("/etc/migrapanel/sites", "root", 0o700),
    ("/etc/migrapanel/tls-sites", "root", 0o700),
    ("/etc/migrapanel/wildcard-sites", "root", 0o700),
    ("/etc/migrapanel/tls-wildcard-sites", "root", 0o700),
    ("/etc/migrapanel/mail", "root", 0o755),
    ("/etc/migrapanel/mail-domains", "root", 0o755),
    ("/etc/migrapanel/mail-suspended", "root", 0o755),
    ("/etc/migrapanel/dkim", "Debian-exim", 0o750),
    ("/etc/migrapanel/tls", "Debian-exim", 0o750),
    ("/etc/migrapanel/dovecot-tls", "root", 0o700),
    // Read by Apache's children as whatever account, who need not know what else is there.
    (layout::CHALLENGES, "root", 0o711),
    ("/etc/migrapanel/kept", "root", 0o700),
    (layout::STATE, "root", 0o700),
    ("/var/lib/migrapanel/jobs", "root", 0o700),
    ("/var/lib/migrapanel/locks", "root", 0o700),
    ("/var/lib/migrapanel/cron", "root", 0o700),
    ("/var/lib/migrapanel/parked", "root", 0o700),
    ("/var/lib/migrapanel/suspended", "root", 0o700),
    ("/var/lib/migrapanel/terminated", "root", 0o700),
    (layout::STAGING, "root", 0o700),
    ("/home/.migrapanel/kept", "root", 0o700),
];

fn directories(backup_dirs: &[AbsPath], changes: &mut Changes<'_>) -> Result<()> {
    for (path, group, mode) in DIRECTORIES {
        directory(Path::new(path), people::group_id(group)?, *mode, changes)?;
    }
    for path in backup_dirs {
        let path = Path::new(path.as_str());
        if !std::fs::exists(path).map_err(Error::at(path))? {
            Beneath::private_dir(path)?;
            changes.add(format!("Made {}.", path.display()))?;
        }
        directory(path, 0, 0o700, changes)?;
    }
    Ok(())
}

fn directory(path: &Path, gid: u32, mode: u32, changes: &mut Changes<'_>) -> Result<()> {
    let parent = Beneath::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = Path::new(path.file_name().unwrap_or_default());
    let owner = Owner { uid: 0, gid, mode };
    if parent.make_dir(name, owner)? {
        return changes.add(format!("Made {}.", path.display()));
    }
    let stands = parent.stat(name)?;
    if stands.is_some_and(|s| (s.st_uid, s.st_gid, s.st_mode & 0o777) != (0, gid, mode)) {
        parent.set_owner(name, owner)?;
        changes.add(format!("Set owner and mode of {}.", path.display()))?;
    }
    Ok(())
}

/// What the server shows when a client names no domain, or one without a certificate.
fn server_certificate(hostname: &str, changes: &mut Changes<'_>) -> Result<()> {
    let etc = Beneath::open(layout::ETC)?;
    if etc.stat("server.pem")?.is_some() && etc.stat("server.key")?.is_some() {
        return Ok(());
    }
    let made = run(Program::OpenSsl)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "3650", "-keyout", "-", "-out", "-", "-subj"])
        .arg(format!("/CN={hostname}"))
        .ok()?
        .text();
    let (key, certificate) = made
        .split_once("-----END PRIVATE KEY-----\n")
        .ok_or_else(|| Error::internal("openssl made no certificate"))?;
    let key = format!("{key}-----END PRIVATE KEY-----\n");
    for service in [Service::Apache, Service::Dovecot, Service::Exim] {
        services::will_change(service, services::ENROLMENT)?;
    }
    let gid = people::group_id("Debian-exim")?;
    etc.write("server.key", key.as_bytes(), Owner { uid: 0, gid, mode: 0o640 })?;
    etc.write("server.pem", certificate.as_bytes(), Owner::root(0o644))?;
    changes.add(format!("Made a self-signed certificate for {hostname}."))
}

/// Modules that virtual hosts and customers' `.htaccess` files need.
const MODULES: &[&str] = &[
    "mpm_prefork",
    "mpm_itk",
    "proxy",
    "proxy_fcgi",
    "setenvif",
    "rewrite",
    "ssl",
    "headers",
    "expires",
    "actions",
    "include",
    "socache_shmcb",
];

fn apache_modules(changes: &mut Changes<'_>) -> Result<()> {
    let enabled = Path::new("/etc/apache2/mods-enabled");
    let is_missing = |m: &&&str| !enabled.join(format!("{m}.load")).exists();
    let missing: Vec<&&str> = MODULES.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    services::will_change(Service::Apache, services::ENROLMENT)?;
    run(Program::A2EnMod).arg("--quiet").args(&missing).ok()?;
    let names: Vec<&str> = missing.into_iter().copied().collect();
    changes.add(format!("Switched on Apache's modules {}.", names.join(" ")))
}

/// A public key of a known kind, taken apart, so that nothing else gets into `authorized_keys`.
struct PublicKey {
    kind: String,
    blob: String,
    comment: String,
}

impl PublicKey {
    fn parse(line: &str) -> Result<Self> {
        let refuse = || Error::new("bad_key", "This is not an OpenSSH public key without options.");
        let mut words = line.split_whitespace();
        let (kind, blob) = (words.next().ok_or_else(refuse)?, words.next().ok_or_else(refuse)?);
        let known = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"].contains(&kind);
        let clean = blob.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if !known || !clean || blob.len() < 40 {
            return Err(refuse());
        }
        let comment = words.collect::<Vec<_>>().join(" ");
        let comment = comment.chars().filter(|c| c.is_ascii_alphanumeric() || "@._- ".contains(*c));
        Ok(Self { kind: kind.to_owned(), blob: blob.to_owned(), comment: comment.collect() })
    }

    /// The key opens the agent and nothing else.
    fn line(&self) -> String {
        let Self { kind, blob, comment } = self;
        let line = format!("restrict,command=\"{} serve\" {kind} {blob} {comment}", layout::AGENT);
        line.trim_end().to_owned()
    }
}

fn bind_key(key: &PublicKey, changes: &mut Changes<'_>) -> Result<()> {
    let root = Beneath::open("/root")?;
    root.make_dir(".ssh", Owner::root(0o700))?;
    let path = Path::new(".ssh/authorized_keys");
    let old = String::from_utf8_lossy(&root.read(path, 1 << 20)?.unwrap_or_default()).into_owned();
    let new = with_bound_key(&old, key);
    if new == old {
        return Ok(());
    }
    root.write(path, new.as_bytes(), Owner::root(0o600))?;
    changes.add("Bound the worker's key to the agent.")
}

/// Each line of this very key becomes one restricted line; all other lines stay as they are.
fn with_bound_key(text: &str, key: &PublicKey) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut bound = false;
    for line in text.lines() {
        if !line.trim_start().starts_with('#') && line.split_whitespace().any(|w| w == key.blob) {
            if !bound {
                lines.push(key.line());
            }
            bound = true;
        } else {
            lines.push(line.to_owned());
        }
    }
    if !bound {
        lines.push(key.line());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIHq4m4NqkSx1Yn5gZ3c5o0Cq1nYvXv3m8uC0q8l7vZk1";

    #[test]
    fn a_key_is_bound_once_and_others_stay() {
        let key = PublicKey::parse(&format!("ssh-ed25519 {BLOB} worker@panel")).unwrap();
        let admin = "ssh-ed25519 AAAAOTHER admin";
        let old = format!("# keys\n{admin}\nssh-ed25519 {BLOB} worker@panel\n");
        let new = with_bound_key(&old, &key);
        assert_eq!(new.lines().count(), 3);
        assert!(new.contains(admin) && new.contains("restrict,command="));
        assert_eq!(with_bound_key(&new, &key), new);
        assert_eq!(with_bound_key("", &key).lines().count(), 1);
    }

    #[test]
    fn options_and_other_texts_are_no_keys() {
        for line in ["", "ssh-ed25519", "command=\"x\" ssh-ed25519 AAAA", "ssh-ed25519 AA\"A"] {
            assert!(PublicKey::parse(line).is_err(), "{line}");
        }
        let key = PublicKey::parse(&format!("ssh-ed25519 {BLOB} a\"b\nssh-rsa x")).unwrap();
        assert!(!key.line().contains('\n') && !key.comment.contains('"'));
    }
}
