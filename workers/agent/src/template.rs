//! A new account, described as an archive would: the planner and the steps of a migration make it.

use crate::beneath::Beneath;
use crate::config::fill;
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::facts;
use crate::job::{Begun, Job, write_json};
use crate::layout;
use crate::leftovers;
use crate::program::{Program, run};
use crate::space;
use crate::unpack::{self, Unpacked};
use cpanel::account::{
    Account, CatchAll, DkimKey, Domain, Files, Forwarder, Mail, MailDomain, MailFormat, Mailbox,
    Routing, SourceServer, Zone,
};
use cpanel::plan::{ControlFacts, Facts, Options, Plan, RecordSet};
use cpanel::planner::{Input, plan};
use cpanel::protocol::{ArchiveIdentity, DomainKind, Format, Preview, Source};
use cpanel::secret::{Password, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use values::{AbsPath, DomainName, MailAddress, RelPath, Username};
use zonefile::txt_record;

const WELCOME: &str = include_str!("../../../deploy/target/welcome.html");
/// Where a site's pages lie, below the home.
const DOCROOT: &str = "public_html";
/// The name that a new account's mail is signed under.
const SELECTOR: &str = "default";
const DKIM_BITS: u32 = 2048;
/// Seconds that others may remember a record of a new zone.
const TTL: u32 = 14_400;

/// Plans a new account with one domain and keeps the plan for the steps. A repetition answers with what
/// was kept. Fails with `user_taken`, `conflicts_unresolved` or `disk_full` when it cannot be made here.
pub fn prepare(
    job: &Job<'_>,
    user: &Username,
    domain: &DomainName,
    control: &ControlFacts,
) -> Result<Preview> {
    let _lock = job.lock(user)?;
    if let Some(kept) = job.begun_if()? {
        return Ok(Preview { plan: kept.plan, digest: kept.digest, expanded_bytes: 0 });
    }
    Beneath::private_dir(Path::new(layout::STAGING))?.remove(job.id.to_string())?;
    leftovers::sweep(job.id)?;
    Beneath::private_dir(&layout::staging(job.id))?;
    let account = account(user, domain, control, &Dkim::make()?)?;
    let options = Options::default();
    let facts = facts::gather(&account, user, &options)?;
    let now = chrono::Utc::now();
    let input = Input {
        account: &account,
        target_user: user,
        facts: &facts,
        control,
        options: &options,
        now,
    };
    let plan = plan(&input);
    refuse_conflicts(user, &facts, &plan)?;
    let source = AbsPath::parse(&layout::staging(job.id).to_string_lossy())?;
    let archive = ArchiveIdentity {
        path: source.clone(),
        format: Format::Directory,
        sha256: String::new(),
        size_bytes: 0,
        expanded_bytes: 0,
        members: 0,
    };
    let begun = Begun {
        source: Source { path: source, target_user: user.clone(), backup_dirs: Vec::new() },
        digest: plan.digest("", &facts, control)?,
        archive,
        options,
        ipv4: control.ipv4,
        plan,
        template: true,
    };
    space::reserve(job.id)?;
    write_json(&layout::account(job.id), &account)?;
    write_json(&layout::plan(job.id), &begun)?;
    Ok(Preview { plan: begun.plan, digest: begun.digest, expanded_bytes: 0 })
}

fn refuse_conflicts(user: &Username, facts: &Facts, plan: &Plan) -> Result<()> {
    if facts.free_bytes < space::FLOOR + space::RESERVE {
        return Err(Error::new("disk_full", "The server has no space for another account."));
    }
    let Some(conflict) = plan.conflicts.first() else { return Ok(()) };
    let of_user = [format!("user:{user}"), format!("home:{user}")].contains(&conflict.id);
    let code = if of_user { "user_taken" } else { "conflicts_unresolved" };
    Err(Error::new(code, conflict.message.as_str()))
}

/// A fresh key that mail is signed with.
struct Dkim {
    private: Secret,
    /// As the zone publishes it.
    record: String,
}

impl Dkim {
    fn make() -> Result<Self> {
        let bits = DKIM_BITS.to_string();
        let private = run(Program::OpenSsl).args(["genrsa", "-traditional", &bits]).ok()?.text();
        let public = run(Program::OpenSsl).args(["rsa", "-pubout"]);
        let public = public.stdin(private.as_bytes()).ok()?.text();
        // What stands between the two lines of dashes is what a record holds.
        let key: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        let record = format!("v=DKIM1; k=rsa; p={key}");
        Ok(Self { private: Secret::new(private), record })
    }
}

fn account(
    user: &Username,
    domain: &DomainName,
    control: &ControlFacts,
    dkim: &Dkim,
) -> Result<Account> {
    let alias = |label: &str| DomainName::parse(&format!("{label}.{domain}"));
    let docroot = RelPath::parse(DOCROOT)?;
    Ok(Account {
        user: user.clone(),
        main_domain: domain.clone(),
        source: SourceServer { ipv4: BTreeSet::from([control.ipv4]), ..SourceServer::default() },
        password: Password::Locked,
        disk_quota_bytes: None,
        suspended: false,
        domains: vec![Domain {
            name: domain.clone(),
            kind: DomainKind::Main,
            docroot: Some(docroot),
            target: None,
            internal: None,
            aliases: BTreeSet::from([alias("www")?]),
            php: None,
        }],
        wildcards: Vec::new(),
        mail: mail(user, domain)?,
        databases: Vec::new(),
        database_users: Vec::new(),
        zones: vec![zone(domain, control, dkim)],
        certificates: Vec::new(),
        dkim: vec![DkimKey {
            domain: domain.clone(),
            selector: SELECTOR.to_owned(),
            bits: DKIM_BITS,
            key: dkim.private.clone(),
        }],
        cron: Vec::new(),
        ftp: Vec::new(),
        files: Files { entries: 2, bytes: u64::try_from(WELCOME.len()).unwrap_or(0) },
        presence: BTreeMap::new(),
        warnings: Vec::new(),
        not_transferable: Vec::new(),
        notes: Vec::new(),
    })
}

/// The account's own mailbox, which nobody can log in to before it is given a password, and the
/// address that every domain must have (RFC 5321 section 4.5.1) leading there.
fn mail(user: &Username, domain: &DomainName) -> Result<Mail> {
    let own = MailAddress::parse(&format!("{user}@{domain}"))?;
    let postmaster = MailAddress::parse(&format!("postmaster@{domain}"))?;
    let box_of_its_own = Mailbox {
        address: own.clone(),
        path: RelPath::parse("mail")?,
        password: Password::Locked,
        quota_bytes: None,
        default: true,
        format: MailFormat::Maildir,
        folders: BTreeMap::new(),
        bytes: 0,
    };
    let forwarder = Forwarder { address: postmaster, destinations: BTreeSet::from([own]) };
    let taken =
        MailDomain { catch_all: CatchAll::Fail, routing: Routing::Local, forwards_to: None };
    Ok(Mail {
        domains: BTreeMap::from([(domain.clone(), taken)]),
        mailboxes: vec![box_of_its_own],
        forwarders: vec![forwarder],
        ..Mail::default()
    })
}

/// The records of a new zone; the planner adds our name servers.
fn zone(domain: &DomainName, control: &ControlFacts, dkim: &Dkim) -> Zone {
    let apex = format!("{domain}.");
    let (www, mail) = (format!("www.{apex}"), format!("mail.{apex}"));
    let mut records = Vec::new();
    let mut add = |name: &str, rtype: &str, record: String| {
        let (name, rtype) = (name.to_owned(), rtype.to_owned());
        records.push(RecordSet { name, rtype, ttl: TTL, records: BTreeSet::from([record]) });
    };
    let mut spf = format!("v=spf1 a mx ip4:{}", control.ipv4);
    for host in [&apex, &www, &mail] {
        add(host, "A", control.ipv4.to_string());
        if let Some(ipv6) = control.ipv6 {
            add(host, "AAAA", ipv6.to_string());
        }
    }
    if let Some(ipv6) = control.ipv6 {
        spf = format!("{spf} ip6:{ipv6}");
    }
    add(&apex, "MX", format!("10 {mail}"));
    add(&apex, "TXT", txt_record(format!("{spf} ~all").as_bytes()));
    add(&format!("{SELECTOR}._domainkey.{apex}"), "TXT", txt_record(dkim.record.as_bytes()));
    Zone { name: domain.clone(), serial: None, records }
}

/// Lays the files of a new home where those of an archive would have been unpacked to.
pub fn lay(work: &Work<'_>, staging: &Beneath) -> Result<Unpacked> {
    let domain = &work.account.main_domain;
    let page = fill(WELCOME, &[("domain", domain.as_str())]);
    let docroot = Path::new(unpack::HOME).join(DOCROOT);
    staging.make_dir(&docroot, work.owner(0o750)?)?;
    staging.write(docroot.join("index.html"), page.as_bytes(), work.owner(0o644)?)?;
    let bytes = u64::try_from(page.len()).unwrap_or(0);
    Ok(Unpacked { files: 1, bytes, ..Unpacked::default() })
}
