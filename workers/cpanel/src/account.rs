//! A cPanel account as an archive describes it, in checked values.
//!
//! It holds secrets (hashes and private keys) and therefore never leaves the target: the agent keeps
//! it in a file that only root can read. What others may see is the [`crate::protocol::Summary`].

use crate::plan::{Component, FilterRule, NotTransferred, Note, Presence, RecordSet, Warning};
use crate::secret::{Password, Secret};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use values::{AbsPath, DatabaseName, DatabaseUser, DomainName, MailAddress, RelPath, Username};

pub use crate::protocol::DomainKind;

/// The whole account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub user: Username,
    pub main_domain: DomainName,
    /// What is known of the server that it comes from.
    pub source: SourceServer,
    /// Of the system user, and so of the default mailbox, too.
    pub password: Password,
    /// None: unlimited or not told.
    pub disk_quota_bytes: Option<u64>,
    pub suspended: bool,
    /// In the order of their names.
    pub domains: Vec<Domain>,
    /// Sites that answer for every name below a domain that has no site of its own, in the order of
    /// these domains.
    pub wildcards: Vec<Wildcard>,
    pub mail: Mail,
    pub databases: Vec<Database>,
    pub database_users: Vec<DatabaseLogin>,
    pub zones: Vec<Zone>,
    pub certificates: Vec<Certificate>,
    pub dkim: Vec<DkimKey>,
    /// Job lines of the crontab, without comments.
    pub cron: Vec<CronJob>,
    pub ftp: Vec<FtpLogin>,
    pub files: Files,
    pub presence: BTreeMap<Component, Presence>,
    pub warnings: Vec<Warning>,
    pub not_transferable: Vec<NotTransferred>,
    #[serde(default)]
    pub notes: Vec<Note>,
}

impl Account {
    /// Takes every login its password, as a suspended account's are.
    pub fn lock_logins(&mut self) {
        self.password = Password::Locked;
        self.mail.mailboxes.iter_mut().for_each(|m| m.password = Password::Locked);
    }
}

/// The server that an archive was made on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceServer {
    pub hostname: Option<String>,
    pub ipv4: BTreeSet<Ipv4Addr>,
    pub ipv6: BTreeSet<Ipv6Addr>,
    /// Every path that the home had there. Paths of the account begin with one of them.
    pub homes: BTreeSet<AbsPath>,
}

impl SourceServer {
    /// The path below the home that an absolute path of the source names; none when it lies elsewhere.
    #[must_use]
    pub fn below_home(&self, path: &AbsPath) -> Option<RelPath> {
        let home =
            self.homes.iter().filter(|h| path.is_within(h)).max_by_key(|h| h.as_str().len())?;
        let rest = path.as_str().strip_prefix(home.as_str())?;
        RelPath::parse(rest.trim_start_matches('/')).ok()
    }
}

/// A domain of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    pub name: DomainName,
    pub kind: DomainKind,
    /// Below the home. None for a parked domain, which shows its target, and for one whose document
    /// root lay outside the home (a warning says so).
    pub docroot: Option<RelPath>,
    /// For a parked domain, the domain that it shows.
    pub target: Option<DomainName>,
    /// For an addon, the subdomain of the main domain that cPanel made for it; its virtual host and
    /// certificate go by this name.
    pub internal: Option<DomainName>,
    /// Further names of the virtual host: host names of the account's own domains.
    pub aliases: BTreeSet<DomainName>,
    /// As the archive has it, `ea-php82`. None: as the main domain.
    pub php: Option<String>,
}

/// A site for `*.BASE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wildcard {
    /// One of the account's domains, or a name below one.
    pub base: DomainName,
    /// Below the home. None: it lay outside, or is not told.
    pub docroot: Option<RelPath>,
    pub php: Option<String>,
}

/// All that concerns mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mail {
    pub domains: BTreeMap<DomainName, MailDomain>,
    /// In the order of their addresses.
    pub mailboxes: Vec<Mailbox>,
    pub forwarders: Vec<Forwarder>,
    pub pipes: Vec<Pipe>,
    pub autoresponders: Vec<Autoresponder>,
    /// Rules of each mailbox that has any, those of its domain first.
    pub filters: BTreeMap<MailAddress, Vec<FilterRule>>,
}

/// A domain that took mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailDomain {
    pub catch_all: CatchAll,
    pub routing: Routing,
    /// Every address goes to the same local part there (`vad/`).
    pub forwards_to: Option<DomainName>,
}

/// Where mail to an unknown address of a domain went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchAll {
    /// Refused.
    Fail,
    /// Accepted and thrown away.
    Blackhole,
    Address(MailAddress),
    /// Into the account's default mailbox.
    DefaultMailbox,
    /// Into a program, which is not taken over.
    Pipe,
}

/// Where a domain's mail was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    Local,
    Remote,
    /// Held for another server.
    Secondary,
    /// The archive leaves it to the zone's MX records.
    Auto,
}

/// How messages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailFormat {
    Maildir,
    /// Dovecot's mdbox, which becomes maildir. How many messages it holds, only Dovecot can tell.
    Mdbox,
}

/// A mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    pub address: MailAddress,
    /// Where it lies in the archive's home: `mail/shop.example/info`, or `mail` for the default one.
    pub path: RelPath,
    pub password: Password,
    /// None: unlimited.
    pub quota_bytes: Option<u64>,
    /// The account's own mailbox, `USER@MAIN`.
    pub default: bool,
    pub format: MailFormat,
    /// Folder → messages; the inbox has the empty name, others their name without the leading dot.
    pub folders: BTreeMap<String, u64>,
    pub bytes: u64,
}

impl Mailbox {
    /// Messages of all folders.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.folders.values().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// Mail to the address goes on to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forwarder {
    pub address: MailAddress,
    pub destinations: BTreeSet<MailAddress>,
}

/// Mail to the address went into a program. Never run by us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    pub address: MailAddress,
    pub command: String,
}

/// An automatic answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autoresponder {
    pub address: MailAddress,
    pub subject: String,
    pub body: String,
    /// The name that the answer came from, beside the address.
    #[serde(default)]
    pub from_name: Option<String>,
    /// The text is HTML.
    #[serde(default)]
    pub html: bool,
    /// The least time between two answers to one sender.
    pub interval_hours: u32,
    pub start_unix: Option<i64>,
    pub stop_unix: Option<i64>,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    pub name: DatabaseName,
    pub charset: Option<String>,
    /// As the archive has it; MariaDB may not know it ([`crate::sql::collation`]).
    pub collation: Option<String>,
    /// The dump below the account's root in the archive: `mysql/shop_wp.sql`. None when there is no
    /// dump at all.
    pub member: Option<RelPath>,
    pub dump: DumpState,
    /// Of the dump, as text.
    pub bytes: u64,
}

/// What a dump holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DumpState {
    Full,
    /// Tables without rows.
    WithoutData,
    /// Neither tables nor rows: made with `--dbbackup=name`, or no dump at all.
    Placeholder,
    /// The line that ends each dump is missing.
    Incomplete,
}

impl DumpState {
    /// As the summary calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::WithoutData => "without_data",
            Self::Placeholder => "placeholder",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A database user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLogin {
    pub name: DatabaseUser,
    pub auth: DatabaseAuth,
    /// Database → privileges, in upper case; `ALL PRIVILEGES` stands alone.
    pub grants: BTreeMap<DatabaseName, BTreeSet<String>>,
    /// Hosts other than the source itself and `localhost`, which are not taken over.
    pub remote_hosts: BTreeSet<String>,
}

/// How a database user proved itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseAuth {
    /// `*` and 40 hex digits, upper case: `mysql_native_password`.
    Native(Secret),
    /// MariaDB cannot verify it; the text says why.
    Unusable(String),
}

/// A zone's records without SOA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    pub name: DomainName,
    pub serial: Option<u32>,
    /// In the order of their names and types.
    pub records: Vec<RecordSet>,
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The virtual host that it was installed for.
    pub domain: DomainName,
    /// PEM, one block.
    pub key: Secret,
    /// PEM, one block.
    pub leaf: String,
    /// PEM, a block each, beginning with the leaf's issuer.
    pub chain: Vec<String>,
    pub names: BTreeSet<String>,
    pub issuer: String,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
    pub self_signed: bool,
    /// Of the leaf's DER form, in hex.
    pub sha256: String,
}

/// The key that a domain's mail was signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimKey {
    pub domain: DomainName,
    pub selector: String,
    pub bits: u32,
    /// PEM, one block.
    pub key: Secret,
}

/// A job of the crontab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronJob {
    /// As it stands there.
    pub line: String,
    /// Settings that stand above the line and are taken over (`MAILTO`), in the order of their names.
    pub settings: BTreeMap<String, String>,
}

/// An FTP login; reported, not taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FtpLogin {
    pub login: String,
    /// Below the home.
    pub directory: String,
}

/// The home's files without mail and without what is left behind ([`crate::home`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Files {
    pub entries: u64,
    pub bytes: u64,
}
