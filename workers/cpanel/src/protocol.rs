//! What the worker asks the agent, and what it answers.
//!
//! One SSH channel carries one request. The agent writes a [`Hello`] line first; the worker answers
//! with one [`Request`] line; the agent writes [`Event`] lines, of which the last is `Done` or
//! `Failed`. All lines are JSON, ended by `\n`, at most [`LINE_BYTES_MAX`] long. When the worker
//! closes its side, the agent stops at the next safe point.

use crate::plan::{
    Component, ControlFacts, NotTransferred, Options, Plan, Presence, RecordSet, StepName, Warning,
};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use values::{AbsPath, DomainName, Invalid, Username};

/// Raised with every change that an older partner would misread. Worker and agent must agree; the
/// worker replaces an agent that differs.
pub const PROTOCOL: u32 = 3;

/// The longest line that either side accepts.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// The agent's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub version: String,
    /// SHA-256 of the agent's own binary, in hex.
    pub sha256: String,
}

/// What the worker asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The job and the fence of its claim, for calls that act on a job. The agent refuses a fence
    /// lower than the highest that it has seen for the job.
    pub job: Option<JobRef>,
    /// W3C trace context, for the agent's log.
    pub traceparent: Option<String>,
    pub call: Call,
}

/// A job and the claim under which the worker acts for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRef {
    pub id: Uuid,
    pub fence: i64,
}

/// The verbs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Call {
    /// Is the archive there and usable? Writes nothing. Answers [`InspectReport`].
    Inspect(Source),
    /// One pass over the archive: hash, index, metadata. Writes only into the job's staging.
    /// Answers [`Analysis`]. Repeating it starts afresh.
    Analyze(Source),
    /// The operations of apply against the facts of now. Writes nothing. Answers [`Preview`].
    Preview { control: ControlFacts, options: Options },
    /// Plans again, refuses with `plan_changed` when the digest is another, `archive_changed` when
    /// the archive is, and keeps the plan for the steps. Answers [`Preview`].
    Begin { control: ControlFacts, options: Options, digest: String },
    /// Plans a new account with this domain and keeps the plan for the steps; there is no archive.
    /// Repeating it answers the same plan. Answers [`Preview`].
    Prepare { user: Username, domain: DomainName, control: ControlFacts },
    /// Carries out a step's operations. May be repeated after any death. Answers [`StepReport`].
    Apply { step: StepName },
    /// Takes back what this job's step made and puts back what it replaced; may be repeated, also
    /// when the step never ran. With `park`, what was added since is dumped first. Answers
    /// [`StepReport`].
    Undo { step: StepName, park: bool },
    /// Switches on those of the job's disabled things that these operations name: cron jobs. May be
    /// repeated. Answers [`StepReport`].
    Confirm { items: BTreeSet<String> },
    /// What has changed since apply in the things that this job made. Answers [`Changes`].
    Changes,
    /// Real checks against the running services. Answers [`Verification`].
    Verify { ipv4: std::net::Ipv4Addr },
    /// Lets the account's sites answer 503 and its mail wait, refuses its logins, and ends its
    /// processes and cron jobs; nothing is deleted. May be repeated. Answers [`StepReport`].
    Suspend { user: Username },
    /// Takes [`Call::Suspend`] back. May be repeated. Answers [`StepReport`].
    Unsuspend { user: Username },
    /// Makes a last backup of an account and removes everything of it. May be repeated after any death.
    /// Answers [`Terminated`].
    Terminate(Termination),
    /// Lets domains of an account take mail that slept until control of them was proven. May be repeated.
    /// Answers [`StepReport`].
    ActivateMail { user: Username, domains: BTreeSet<DomainName> },
    /// Lets every site of the server answer `/.well-known/acme-challenge/TOKEN` with this content,
    /// suspended ones too. May be repeated. Answers `null`.
    PutChallenge { token: ChallengeToken, content: String },
    /// Takes [`Call::PutChallenge`] back; may be repeated. Answers `null`.
    RemoveChallenge { token: ChallengeToken },
    /// Lets an account's sites and mail show a certificate, in place of what they showed for its names.
    /// May be repeated. Answers [`Installed`].
    InstallCertificate(Installation),
    /// Takes back what [`Call::InstallCertificate`] made for this certificate and still stands; may be
    /// repeated. Answers `null`.
    UninstallCertificate { user: Username, certificate: Uuid },
    /// Removes the job's staging; the journal stays. Answers `null`.
    Cleanup,
    /// Makes the hosting layout and binds the worker's key to the agent. Answers [`EnrollReport`].
    Enroll(Enroll),
    /// What runs and what is free. Answers [`Health`].
    Health,
    /// Replaces the agent: exactly `size` raw bytes follow the request line. Answers `null`; the new
    /// agent answers from the next channel on.
    Upgrade { sha256: String, size: u64 },
}

impl Call {
    /// The verb's name, for logs and traces.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Inspect(_) => "inspect",
            Self::Analyze(_) => "analyze",
            Self::Preview { .. } => "preview",
            Self::Begin { .. } => "begin",
            Self::Prepare { .. } => "prepare",
            Self::Apply { .. } => "apply",
            Self::Undo { .. } => "undo",
            Self::Confirm { .. } => "confirm",
            Self::Changes => "changes",
            Self::Verify { .. } => "verify",
            Self::Suspend { .. } => "suspend",
            Self::Unsuspend { .. } => "unsuspend",
            Self::Terminate(_) => "terminate",
            Self::ActivateMail { .. } => "activate_mail",
            Self::PutChallenge { .. } => "put_challenge",
            Self::RemoveChallenge { .. } => "remove_challenge",
            Self::InstallCertificate(_) => "install_certificate",
            Self::UninstallCertificate { .. } => "uninstall_certificate",
            Self::Cleanup => "cleanup",
            Self::Enroll(_) => "enroll",
            Self::Health => "health",
            Self::Upgrade { .. } => "upgrade",
        }
    }
}

/// A challenge's token: base64url (RFC 8555, section 8.3), so that it is the name of a file and
/// nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChallengeToken(String);

impl ChallengeToken {
    /// Reads a token.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > 200 || !text.bytes().all(is_token) {
            return Err(Invalid { what: "challenge's token", rule: "must be base64url" });
        }
        Ok(Self(text.to_owned()))
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ChallengeToken {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<ChallengeToken> for String {
    fn from(token: ChallengeToken) -> Self {
        token.0
    }
}

/// A certificate that an account is to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    pub user: Username,
    /// The control plane's id of it.
    pub certificate: Uuid,
    /// Host names, and `*.` before a domain.
    pub names: BTreeSet<String>,
    /// PEM, one block.
    pub key: Secret,
    /// PEM, a block each, the certificate itself first.
    pub chain: Vec<String>,
}

/// The answer to [`Call::InstallCertificate`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Installed {
    /// Hosts whose web site shows it.
    pub web: BTreeSet<DomainName>,
    /// Hosts whose mail services show it.
    pub mail: BTreeSet<DomainName>,
}

/// An archive and whose account it is to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub path: AbsPath,
    pub target_user: Username,
    /// The directories that archives may lie in.
    pub backup_dirs: Vec<AbsPath>,
}

/// An account that is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    pub user: Username,
    /// Stands in the backup's name: the name of the user may be another's one day.
    pub service: Uuid,
    /// The account's main domain.
    pub domain: DomainName,
    /// Where zones lead that are in the backup.
    pub ipv4: std::net::Ipv4Addr,
    /// Its zones, which the control plane knows.
    pub zones: Vec<(DomainName, Vec<RecordSet>)>,
    /// The backup lies in `terminated` below it.
    pub backup_dir: AbsPath,
}

/// The answer to [`Call::Terminate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    pub backup: AbsPath,
}

/// What enrolment needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// The worker's public key as an OpenSSH line without options: `ssh-ed25519 AAAA… comment`.
    pub public_key: String,
    pub backup_dirs: Vec<AbsPath>,
    /// The server's public name, for certificates, mail greetings and HELO.
    pub hostname: String,
}

/// What the agent says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// How far: `done` of `total` units (bytes or items); at most some per second.
    Progress { done: u64, total: u64, message: String },
    /// A line for the job's log.
    Log { level: Level, message: String },
    /// The end, well.
    Done { result: serde_json::Value },
    /// The end, badly. `code` is stable (`archive_changed`, `plan_changed`, `stale_fence`,
    /// `not_an_archive`, …); `message` says what to do; `cause` is for the log and holds no secret.
    Failed { code: String, message: String, cause: Option<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// One line of a validation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable: `archive_exists`, `magic`, `structure`, `user_name`, `disk_space`, `service_mariadb`,
    /// `http:shop.example`.
    pub name: String,
    pub status: CheckStatus,
    /// What was seen and, unless it passed, what to do.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    Pass,
    Warn,
    Fail,
}

/// The answer to [`Call::Inspect`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectReport {
    pub checks: Vec<Check>,
    /// When it was recognised.
    pub format: Option<Format>,
    pub size_bytes: u64,
}

/// What kind of archive it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `pkgacct`'s `cpmove-USER.tar.gz`.
    Cpmove,
    /// `cpmove-USER.tar`, or a full backup without compression.
    Uncompressed,
    /// A customer's full backup, `backup-M.D.YYYY_…`.
    Cpbackup,
    /// An unpacked account.
    Directory,
}

/// The answer to [`Call::Analyze`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Analysis {
    pub archive: ArchiveIdentity,
    pub summary: Summary,
}

/// The archive as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveIdentity {
    pub path: AbsPath,
    pub format: Format,
    /// Of the file as it lies there, in hex; for a directory over names, sizes and contents.
    pub sha256: String,
    pub size_bytes: u64,
    pub expanded_bytes: u64,
    pub members: u64,
}

/// The account without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub source_user: Username,
    pub main_domain: DomainName,
    pub components: BTreeMap<Component, Presence>,
    pub domains: Vec<DomainSummary>,
    pub mailboxes: Vec<MailboxSummary>,
    pub forwarders: Vec<ForwarderSummary>,
    pub filters: Vec<FilterSummary>,
    pub databases: Vec<DatabaseSummary>,
    pub database_users: Vec<DatabaseUserSummary>,
    pub zones: Vec<ZoneSummary>,
    pub certificates: Vec<CertificateSummary>,
    pub dkim: Vec<DkimSummary>,
    /// Lines of the crontab.
    pub cron: Vec<String>,
    pub ftp: Vec<FtpSummary>,
    pub warnings: Vec<Warning>,
    pub not_transferable: Vec<NotTransferred>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DomainKind {
    Main,
    Addon,
    Parked,
    Subdomain,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainSummary {
    pub name: DomainName,
    #[serde(rename = "type")]
    pub kind: DomainKind,
    /// Relative to the home; none for a parked domain.
    pub docroot: Option<String>,
    /// For a parked domain, the domain that it shows.
    pub target: Option<DomainName>,
    /// As the archive has it, `ea-php82`.
    pub php: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxSummary {
    pub address: String,
    pub messages: u64,
    pub bytes: u64,
    /// None: unlimited.
    pub quota_bytes: Option<u64>,
    pub locked: bool,
    /// The account's own mailbox, `USER@MAIN`.
    pub default: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwarderSummary {
    pub address: String,
    pub destinations: Vec<String>,
    /// `forward`, `autorespond`, `pipe`, `catch_all`.
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSummary {
    pub address: String,
    /// Names of the rules, in their order.
    pub rules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSummary {
    pub name: String,
    pub bytes: u64,
    /// `full`, `without_data`, `placeholder` or `incomplete`.
    pub dump: String,
    pub users: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseUserSummary {
    pub name: String,
    /// Database → privileges.
    pub grants: BTreeMap<String, BTreeSet<String>>,
    pub password_kept: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneSummary {
    pub name: DomainName,
    pub records: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    pub domain: String,
    pub names: BTreeSet<String>,
    pub issuer: String,
    pub not_before: chrono::DateTime<chrono::Utc>,
    pub not_after: chrono::DateTime<chrono::Utc>,
    pub self_signed: bool,
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DkimSummary {
    pub domain: DomainName,
    pub selector: String,
    pub bits: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FtpSummary {
    pub login: String,
    /// As the archive has it.
    pub directory: String,
}

/// The answer to [`Call::Preview`] and [`Call::Begin`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    pub plan: Plan,
    pub digest: String,
    /// Bytes that the archive expands to; sets the time that apply may take.
    pub expanded_bytes: u64,
}

/// What a step did, an item at a time, by operation id.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepReport {
    pub items: Vec<ItemReport>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReport {
    /// The operation's id.
    pub id: String,
    pub outcome: Outcome,
    /// What was changed on the way, or why not; empty when there is nothing to say.
    pub detail: String,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Migrated,
    /// With a change that `detail` names.
    Adapted,
    /// There, but off until somebody confirms it.
    Disabled,
    NotTransferred,
    Failed,
    /// By an undo: taken back.
    Undone,
}

/// The answer to [`Call::Changes`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    pub items: Vec<Change>,
}

/// Something that was added or altered since apply and that a rollback would lose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub component: Component,
    /// `mailbox:info@shop.example`, `database:shop_wp`, `file:public_html/new.php`.
    pub item: String,
    /// `2 new messages`.
    pub what: String,
}

/// The answer to [`Call::Verify`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verification {
    pub checks: Vec<Check>,
}

/// The answer to [`Call::Enroll`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollReport {
    /// What was changed, one line each; empty when all was as it should be.
    pub changes: Vec<String>,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    pub hostname: String,
    pub php_versions: Vec<String>,
}

/// The answer to [`Call::Health`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Service → whether it runs.
    pub services: BTreeMap<String, bool>,
    pub home_free_bytes: u64,
    pub home_total_bytes: u64,
    /// Over one minute, in hundredths.
    pub load_percent: u64,
}
