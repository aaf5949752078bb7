//! What a restore will do: the operations, computed from the account that was read, the facts of
//! the target and of the control plane, and the options that the user chose.
//!
//! The same planner serves preview and apply. [`Plan::digest`] covers the operations and the facts
//! that they rest on, so that apply can tell whether anything has changed since the preview.
//! Nothing in a plan is secret: hashes and keys stay in the account, which never leaves the target.

use crate::protocol::Outcome;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use values::{AbsPath, DatabaseName, DatabaseUser, DomainName, MailAddress, RelPath, Username};

pub use zonefile::RecordSet;

/// A part of an account that can be restored on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// The home directory without mail, the web sites that it holds, PHP and cron.
    Files,
    /// MariaDB databases, their users and grants.
    Databases,
    /// Mailboxes, forwarders, autoresponders and DKIM keys.
    Email,
    /// Zones.
    Dns,
    /// Certificates of web sites.
    Ssl,
}

impl Component {
    /// All of them, in the order of restore.
    pub const ALL: [Self; 5] = [Self::Files, Self::Databases, Self::Email, Self::Dns, Self::Ssl];
}

/// Whether the archive holds a component: an archive can lack almost anything by design, and
/// "missing" does not mean "the account has none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// The archive has it, with content.
    Present,
    /// The archive says that the account has none.
    Empty,
    /// The archive says nothing of it.
    Absent,
}

/// The sub-steps of apply, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    CreateUser,
    CreateDirectories,
    RestoreHome,
    Databases,
    Mail,
    Dns,
    Certificates,
    PostValidation,
}

/// How existing things on the target are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// What stands stays; only what is missing is added.
    #[default]
    Merge,
    /// What stands is replaced and kept aside for rollback.
    Overwrite,
}

/// What the user chose at preview.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    #[serde(default)]
    pub mode: Mode,
    /// The components to restore, each with the names to restore of it (none: all of it). Names are
    /// database names, mail addresses or mail domains, zone names, domains of certificates, and for
    /// files paths relative to the home. Empty: everything.
    #[serde(default)]
    pub components: BTreeMap<Component, BTreeSet<String>>,
    /// Conflict id → the chosen resolution.
    #[serde(default)]
    pub resolutions: BTreeMap<String, Resolution>,
    /// What becomes of an account that was suspended on the source.
    #[serde(default)]
    pub suspended: Suspended,
}

/// What becomes of an account that was suspended on the source. It may be suspended for what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspended {
    /// All of it comes over and nothing of it can be used: sites answer 503, mail is refused, logins
    /// and database users are locked.
    #[default]
    Keep,
    /// It comes over as any other; logins that are locked in the archive stay so.
    Activate,
}

impl Options {
    /// Whether anything of the component is wanted.
    #[must_use]
    pub fn wants(&self, component: Component) -> bool {
        self.components.is_empty() || self.components.contains_key(&component)
    }

    /// Whether this item of the component is wanted.
    #[must_use]
    pub fn wants_item(&self, component: Component, name: &str) -> bool {
        self.components.is_empty()
            || self.components.get(&component).is_some_and(|n| n.is_empty() || n.contains(name))
    }
}

/// What the target server has now, as far as the account's names touch it. Gathered by the agent.
/// Fields that change by themselves (free space, the clock) are not part of the plan's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The system user of the target name, when it exists.
    pub user: Option<UserFact>,
    /// Whether the home directory exists.
    pub home_exists: bool,
    /// Those of the account's database names that exist, whoever owns them.
    pub databases: BTreeSet<DatabaseName>,
    /// Those of the account's database user names that exist.
    pub database_users: BTreeSet<DatabaseUser>,
    /// On which databases these have rights.
    pub grants: BTreeSet<(DatabaseUser, DatabaseName)>,
    /// Those of the account's domains that have a virtual host, with the user that it belongs to.
    pub vhosts: BTreeMap<DomainName, String>,
    /// Those of them that have a virtual host of their own name.
    pub sites: BTreeSet<DomainName>,
    /// PHP versions that the user has a pool of.
    pub pools: BTreeSet<String>,
    /// Names of the account below which a wildcard site answers, with the user that it belongs to.
    pub wildcards: BTreeMap<DomainName, String>,
    /// Those of the account's domains that take mail here, with the user that they belong to.
    pub mail_domains: BTreeMap<DomainName, String>,
    /// Mailboxes that exist in those domains.
    pub mailboxes: BTreeSet<MailAddress>,
    /// The mailbox that the user's bare name opens.
    pub login: Option<MailAddress>,
    /// Addresses in those domains whose mail is sent on.
    pub forwarders: BTreeSet<MailAddress>,
    /// Those of the mailboxes that have an active filter or automatic answer.
    pub scripts: BTreeSet<MailAddress>,
    /// Those of the domains whose mail is signed.
    pub dkim: BTreeSet<DomainName>,
    /// Domains of the account that have a certificate installed here.
    pub certificates: BTreeSet<DomainName>,
    /// PHP versions that are installed, as `8.2`.
    pub php_versions: BTreeSet<String>,
    /// Free bytes where homes live; not in the digest.
    pub free_bytes: u64,
    /// The server's own host name, which no account may claim.
    pub hostname: String,
}

/// The system user of the target name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFact {
    pub uid: u32,
    /// Whether it is a hosting account that enrolment's layout knows (and not a system user).
    pub is_account: bool,
}

/// What the control plane knows and the target does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFacts {
    /// The address that zones publish for the target.
    pub ipv4: Ipv4Addr,
    pub ipv6: Option<Ipv6Addr>,
    /// Names of our name servers; written into each zone's NS records. At least one.
    pub nameservers: Vec<DomainName>,
    /// Who is asked about the account's names.
    pub ownership: BTreeMap<DomainName, Ownership>,
    /// The account of the target name on the target server.
    pub account: Ownership,
    /// The platform vouches for the domains: they answer DNS and take mail at once.
    pub activate_domains: bool,
    /// The zones are answered at once, whoever vouches for them: who is not asked by the world harms
    /// nobody with an answer.
    #[serde(default)]
    pub answer_zones: bool,
    /// Names whose control was proven: they are as if the platform vouched for them. Others take mail,
    /// which is for others until then, once it is.
    #[serde(default)]
    pub proven: BTreeSet<DomainName>,
}

impl ControlFacts {
    /// Whether the name takes mail at once.
    #[must_use]
    pub fn takes_mail(&self, name: &DomainName) -> bool {
        self.activate_domains || self.proven.contains(name)
    }

    /// Whether the zone is answered at once.
    #[must_use]
    pub fn answers(&self, zone: &DomainName) -> bool {
        self.answer_zones || self.takes_mail(zone)
    }
}

/// Whose a name is in the whole installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ownership {
    Free,
    /// Of the very account that is being restored into.
    Own,
    /// Of another account; of whom is not told.
    Taken,
}

/// Something that stands in the way and needs a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Stable within a plan: `database:shop_wp`, `domain:shop.example`, `user:shop`.
    pub id: String,
    /// What collides and why, for a person.
    pub message: String,
    /// What can be chosen; empty when only another choice of archive or user name helps.
    pub resolutions: Vec<Resolution>,
}

/// A way out of a conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Leave this item out.
    Skip,
    /// Restore it under a new name; the application's configuration is rewritten.
    Rename(String),
    /// Replace what stands; it is kept for rollback.
    Replace,
}

/// What an operation does to the thing that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It does not exist and is made.
    Create,
    /// It exists, is kept aside and replaced.
    Replace,
    /// It exists; what is missing is added.
    Merge,
}

/// One operation of apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the plan: `mailbox:info@shop.example`.
    pub id: String,
    pub step: StepName,
    pub component: Component,
    pub action: Action,
    /// One line for a person: `Create mailbox info@shop.example with 3 messages`.
    pub summary: String,
    /// The thing itself, with all that is not secret.
    pub resource: Resource,
}

/// The thing that an operation makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Resource {
    /// The system user; password hash from the archive's `shadow`, no login shell.
    User { user: Username },
    /// The home directory and what every account has in it.
    Home { user: Username, path: AbsPath },
    /// The files of the home, without mail and without what is left behind. `only` names paths when
    /// a selection was made.
    Files { path: AbsPath, entries: u64, bytes: u64, only: BTreeSet<RelPath> },
    /// A web site: one vhost. `docroot` lies below the home. A `wildcard` answers for the names below
    /// `domain` that have no site of their own.
    Website {
        domain: DomainName,
        wildcard: bool,
        aliases: BTreeSet<DomainName>,
        docroot: AbsPath,
        /// PHP version on the target, `8.2`, and the one that the archive asked for.
        php: String,
        php_source: Option<String>,
        /// It answers 503 and shows nothing of the account.
        #[serde(default)]
        suspended: bool,
    },
    /// The account's PHP-FPM pool of a version.
    PhpPool { user: Username, version: String },
    /// A job of the crontab, disabled until somebody confirms it: the line as it would run here, and
    /// as the archive has it. `settings` are those in force for it (`MAILTO`).
    CronJob { user: Username, line: String, source: String, settings: BTreeMap<String, String> },
    /// A database with its tables.
    Database {
        name: DatabaseName,
        source: DatabaseName,
        charset: Option<String>,
        collation: Option<String>,
        bytes: u64,
    },
    /// A database user at `localhost`.
    DatabaseUser { name: DatabaseUser, source: DatabaseUser, credential: Credential },
    /// Rights of a user on one database: privileges from MariaDB's names in upper case.
    Grant { user: DatabaseUser, database: DatabaseName, privileges: BTreeSet<String> },
    /// A domain that takes mail. `catch_all` is an address, or none: unknown addresses are refused.
    /// What no address of the domain takes goes to the same name at `forwards_to`, if there is one.
    MailDomain {
        domain: DomainName,
        catch_all: Option<CatchAll>,
        forwards_to: Option<DomainName>,
        active: bool,
        /// Why it is not active.
        #[serde(default)]
        dormant: Option<Dormant>,
    },
    /// A mailbox; `maildir` lies below the home. `login_aliases` are further logins of the same box.
    Mailbox {
        address: MailAddress,
        maildir: AbsPath,
        messages: u64,
        bytes: u64,
        quota_bytes: Option<u64>,
        credential: Credential,
        login_aliases: BTreeSet<String>,
    },
    /// Mail to the address goes to each destination, and also stays when `keep_copy`.
    Forwarder { address: MailAddress, destinations: BTreeSet<MailAddress>, keep_copy: bool },
    /// An autoresponder as a Sieve vacation (RFC 5230). The texts may hold cPanel's `%subject%`,
    /// `%from%` and `%email%`. Interval 0: every message is answered. `keep`: the mailbox keeps what
    /// it answers; else it is there for the answers only. `from_name` stands beside the address that
    /// answers; the text may be HTML.
    Vacation {
        address: MailAddress,
        subject: String,
        body: String,
        #[serde(default)]
        from_name: Option<String>,
        #[serde(default)]
        html: bool,
        interval_hours: u32,
        start_unix: Option<i64>,
        stop_unix: Option<i64>,
        keep: bool,
    },
    /// The rules of a mailbox, those of its domain first, as Sieve (RFC 5228).
    Filter { address: MailAddress, rules: Vec<FilterRule> },
    /// The imported DKIM key that Exim signs with.
    Dkim { domain: DomainName, selector: String, bits: u32 },
    /// A zone with all its record sets but SOA, as it will be served.
    Zone { name: DomainName, records: Vec<RecordSet>, active: bool },
    /// A certificate for a web site. `sha256` is of the leaf's DER form, in hex.
    Certificate {
        domain: DomainName,
        names: BTreeSet<String>,
        sha256: String,
        not_after_unix: i64,
        self_signed: bool,
    },
}

/// What a mail filter does with messages that pass one of its alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterRule {
    pub name: String,
    /// Alternatives, each of tests that all must hold; none at all: every message.
    pub tests: Vec<Vec<FilterTest>>,
    /// In their order; at least one.
    pub actions: Vec<FilterAction>,
}

/// One comparison. Case does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterTest {
    pub part: FilterPart,
    pub relation: FilterRelation,
    pub value: String,
    pub negated: bool,
}

/// What a filter looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterPart {
    /// Any of these headers; lower-case names.
    Headers(Vec<String>),
    Body,
}

/// How a filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterRelation {
    Is,
    Contains,
    Begins,
    Ends,
    /// An extended regular expression of POSIX.
    Matches,
    /// As whole numbers.
    Above,
    Below,
}

/// What a filter does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterAction {
    /// Into a folder of the mailbox: `Lists.News`.
    File(String),
    /// Into the inbox.
    Keep,
    Redirect(MailAddress),
    Discard,
    /// Back to the sender, with this text.
    Refuse(String),
    /// No further rule is looked at.
    Stop,
}

/// What a user of an account may be allowed on a database of the account, beside `ALL PRIVILEGES`.
pub const PRIVILEGES: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "INDEX",
    "ALTER",
    "REFERENCES",
    "CREATE TEMPORARY TABLES",
    "LOCK TABLES",
    "EXECUTE",
    "CREATE VIEW",
    "SHOW VIEW",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EVENT",
    "TRIGGER",
    "DELETE HISTORY",
];

/// Why a domain takes no mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dormant {
    /// Nobody has shown yet that the domain is the tenant's.
    Unverified,
    /// Another server takes it, as on the source.
    Elsewhere,
    /// The account is suspended.
    Suspended,
}

/// Where mail for unknown addresses of a domain goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchAll {
    Address(MailAddress),
    /// Accepted and thrown away.
    Blackhole,
}

/// What becomes of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// The old password goes on working: its hash is taken over.
    Kept,
    /// Locked in the archive, locked on the target.
    Locked,
    /// The hash cannot be used here: a new secret is made and put into the applications.
    New,
}

/// Something that was found and that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// Stable, for programs: `php_version_mapped`, `pipe_not_transferred`.
    pub code: String,
    /// The item: an address, a domain, a path. Never secret.
    pub subject: String,
    pub message: String,
}

/// What is not restored, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotTransferred {
    /// `ftp:dev@shop.example`, `pipe:hook@shop.example`.
    pub item: String,
    pub reason: String,
}

/// What there is to say in the report of an item beside what its operation comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// An operation's id, or an item of its own: `docroot:shop.example`.
    pub item: String,
    /// `adapted`, or `disabled` when somebody must do something about it.
    pub outcome: Outcome,
    pub detail: String,
}

/// Sums over the operations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    pub operations: u64,
    pub websites: u64,
    pub files: u64,
    pub file_bytes: u64,
    pub databases: u64,
    pub database_bytes: u64,
    pub mailboxes: u64,
    pub messages: u64,
    pub zones: u64,
    pub records: u64,
    pub certificates: u64,
}

/// The exact operations of apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of apply.
    pub operations: Vec<Operation>,
    pub totals: Totals,
    pub warnings: Vec<Warning>,
    pub not_transferred: Vec<NotTransferred>,
    /// What comes over in another form.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The account was suspended on the source and stays so.
    #[serde(default)]
    pub suspended: bool,
    /// Conflicts that no resolution settles yet. A plan with any cannot be applied.
    pub conflicts: Vec<Conflict>,
}

impl Plan {
    /// SHA-256, in hex, over the operations, the archive and the facts that they rest on: the same
    /// plan on the same target gives the same digest. `free_bytes` and wall-clock time are left out.
    pub fn digest(
        &self,
        archive_sha256: &str,
        facts: &Facts,
        control: &ControlFacts,
    ) -> Result<String, serde_json::Error> {
        let facts = Facts { free_bytes: 0, ..facts.clone() };
        let text = serde_json::to_vec(&(archive_sha256, &self.operations, &facts, control))?;
        Ok(hex::encode(Sha256::digest(&text)))
    }
}
