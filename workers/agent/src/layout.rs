//! Where everything lies on a hosting server: the one place for paths.

use std::path::PathBuf;
use uuid::Uuid;
use values::{DomainName, Username};

/// Home directories.
pub const HOMES: &str = "/home";
/// What is unpacked, and what was replaced, on the file system of the homes. Root only.
pub const STAGING: &str = "/home/.migrapanel";
/// Configuration that we write.
pub const ETC: &str = "/etc/migrapanel";
/// Certificates and their keys, a directory a domain.
pub const TLS: &str = "/etc/migrapanel/tls";
/// What answers `/.well-known/acme-challenge/` for every site.
pub const CHALLENGES: &str = "/etc/migrapanel/acme-challenge";
/// The agent's memory. Root only.
pub const STATE: &str = "/var/lib/migrapanel";
/// Where the agent lies.
pub const AGENT: &str = "/usr/local/lib/migrapanel/migrapanel-agent";
/// The group that every hosting account is in: what tells it from a system user.
pub const ACCOUNT_GROUP: &str = "mpaccount";
/// PHP versions that the layout serves.
pub const PHP_VERSIONS: &[&str] = &["8.2"];
/// The address space of accounts' users.
pub const ACCOUNT_UIDS: std::ops::RangeInclusive<u32> = 2000..=59999;
/// The first line of each configuration file of ours, after its comment sign.
pub const OURS: &str = "Written by migrapanel; changes are lost.";

/// The directory that a path's effects are confined to, and what is left of the path.
pub const ROOTS: &[&str] =
    &[STATE, HOMES, "/etc", "/var/backups", "/var/log/apache2", "/usr/local/lib"];

/// A job's journal, fence, plan and baseline. Stays after the job.
pub fn job(id: Uuid) -> PathBuf {
    PathBuf::from(format!("{STATE}/jobs/{id}"))
}

/// What a job unpacks: the account's description with its secrets, and the home. Removed after it.
pub fn staging(id: Uuid) -> PathBuf {
    PathBuf::from(format!("{STAGING}/{id}"))
}

/// The account as analysis read it, with its secrets. Root only.
pub fn account(id: Uuid) -> PathBuf {
    staging(id).join("account.json")
}

/// What analysis answered, with the source that it read.
pub fn analysis(id: Uuid) -> PathBuf {
    staging(id).join("analysis.json")
}

/// The plan that apply carries out.
pub fn plan(id: Uuid) -> PathBuf {
    job(id).join("plan.json")
}

/// What a job replaced below the homes.
pub fn kept_home(id: Uuid) -> PathBuf {
    PathBuf::from(format!("{STAGING}/kept/{id}"))
}

/// What a job replaced of configuration.
pub fn kept_etc(id: Uuid) -> PathBuf {
    PathBuf::from(format!("{ETC}/kept/{id}"))
}

/// Dumps of databases that a job replaced.
pub fn kept_dumps(id: Uuid) -> PathBuf {
    job(id).join("kept")
}

/// What a rollback parked before it took things back.
pub fn parked(id: Uuid) -> PathBuf {
    PathBuf::from(format!("{STATE}/parked/{id}"))
}

/// Taken for the time of a call that acts on the account.
pub fn account_lock(user: &Username) -> PathBuf {
    PathBuf::from(format!("{STATE}/locks/{user}"))
}

/// A web site's virtual host.
pub fn site(domain: &DomainName) -> PathBuf {
    PathBuf::from(format!("{ETC}/sites/{domain}.conf"))
}

/// The site for the names below a domain that have none of their own. Apache takes the first that
/// fits: the longer the domain, the earlier its file.
pub fn wildcard_site(domain: &DomainName) -> PathBuf {
    let rank = 99_usize.saturating_sub(domain.as_str().matches('.').count());
    PathBuf::from(format!("{ETC}/wildcard-sites/{rank:02}-{domain}.conf"))
}

/// The same over TLS.
pub fn tls_wildcard_site(domain: &DomainName) -> PathBuf {
    let rank = 99_usize.saturating_sub(domain.as_str().matches('.').count());
    PathBuf::from(format!("{ETC}/tls-wildcard-sites/{rank:02}-{domain}.conf"))
}

/// What Apache logs of a site: visits and errors.
pub fn site_logs(domain: &DomainName) -> [PathBuf; 2] {
    ["access", "error"].map(|kind| PathBuf::from(format!("/var/log/apache2/{domain}.{kind}.log")))
}

/// A web site over TLS.
pub fn tls_site(domain: &DomainName) -> PathBuf {
    PathBuf::from(format!("{ETC}/tls-sites/{domain}.conf"))
}

/// An account's PHP-FPM pool of a version.
pub fn pool(user: &Username, version: &str) -> PathBuf {
    PathBuf::from(format!("/etc/php/{version}/fpm/pool.d/{user}.conf"))
}

/// The socket of that pool.
pub fn pool_socket(user: &Username, version: &str) -> PathBuf {
    PathBuf::from(format!("/run/php/{user}-{version}.sock"))
}

/// A mail domain: `passwd` for Dovecot, `aliases` for Exim.
pub fn mail(domain: &str) -> PathBuf {
    PathBuf::from(format!("{ETC}/mail/{domain}"))
}

/// Logins without a domain.
pub fn plain_logins() -> PathBuf {
    PathBuf::from(format!("{ETC}/mail/passwd"))
}

/// Stands when the domain takes mail; holds the owner's name.
pub fn mail_active(domain: &str) -> PathBuf {
    PathBuf::from(format!("{ETC}/mail-domains/{domain}"))
}

/// Stands while the domain's mail has to wait, since its account is suspended; holds the owner's name.
pub fn mail_suspended(domain: &str) -> PathBuf {
    PathBuf::from(format!("{ETC}/mail-suspended/{domain}"))
}

/// What of a suspended account is out of use.
pub fn suspended(user: &Username) -> PathBuf {
    PathBuf::from(format!("{STATE}/suspended/{user}"))
}

/// What of an account is still to be removed, of which there is a last backup.
pub fn doomed(service: Uuid) -> PathBuf {
    PathBuf::from(format!("{STATE}/terminated/{service}"))
}

/// Stands for every mail domain, dormant ones too; holds the owner's name.
pub fn mail_owner(domain: &str) -> PathBuf {
    mail(domain).join("owner")
}

/// The key that Exim signs a domain's mail with, and its selector beside it.
pub fn dkim_key(domain: &str) -> PathBuf {
    PathBuf::from(format!("{ETC}/dkim/{domain}.key"))
}

/// The selector of that key.
pub fn dkim_selector(domain: &str) -> PathBuf {
    PathBuf::from(format!("{ETC}/dkim/{domain}.selector"))
}

/// What a domain shows over TLS.
pub fn tls(domain: &str) -> PathBuf {
    PathBuf::from(format!("{TLS}/{domain}"))
}

/// Its key, certificate and chain, in one file: whoever reads it while it is being replaced reads two
/// that fit. Apache ends when they do not.
pub fn tls_pair(domain: &str) -> PathBuf {
    tls(domain).join("pair.pem")
}

/// Which certificate of the control plane lies in a directory of [`tls`]; none for an imported one.
pub fn tls_certificate(domain: &str) -> PathBuf {
    tls(domain).join("certificate")
}

/// Dovecot's choice of certificate for a name.
pub fn dovecot_tls(domain: &str) -> PathBuf {
    PathBuf::from(format!("{ETC}/dovecot-tls/{domain}.conf"))
}

/// The crontab that a job imported and nobody has confirmed.
pub fn cron(user: &Username, job: Uuid) -> PathBuf {
    PathBuf::from(format!("{STATE}/cron/{user}.{job}"))
}
