//! From what a pass kept to the account.

use crate::account::Domain;
use crate::account::{Account, CronJob, Files, SourceServer, Zone};
use crate::archive::Totals;
use crate::crontab;
use crate::error::Error;
use crate::findings::Findings;
use crate::member::shown;
use crate::members::Members;
use crate::plan::{Component, Presence};
use crate::record::{self, Record};
use crate::secret::Password;
use crate::{certificates, databases, dkim, domains, ftp, grants, home, mail, yaml, zone};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use values::{AbsPath, DomainName, Username};

/// What the largest real accounts have, and some. More would keep a server busy for hours with
/// things that cost an archive a line each.
const MAILBOXES_MAX: usize = 10_000;
const DATABASES_MAX: usize = 2_000;
const RECORDS_MAX: usize = 50_000;

/// Makes the account. Fails only when it cannot be told whose account it is.
pub(crate) fn assemble(members: &Members, totals: &Totals) -> Result<Account, Error> {
    let mut findings = Findings::default();
    let (user, record) = user(members, &mut findings)?;
    let source = source(members, &record, &user);
    let domains::Sites { main: main_domain, domains, wildcards } =
        domains::parse(members, &record, &source, &mut findings)?.ok_or_else(|| {
            Error::Metadata {
                what: "main domain".to_owned(),
                why: "neither userdata/main nor cp/USER names one".to_owned(),
            }
        })?;
    let password = Password::parse(&members.text("shadow").unwrap_or_default());
    let context = mail::Context {
        members,
        record: &record,
        user: &user,
        main: &main_domain,
        domains: &domains,
        password: &password,
    };
    let mail = mail::parse(&context, &mut findings);
    let databases = databases::parse(members, &mut findings);
    let hosts = local_hosts(&source);
    let database_users = grants::parse(members, &user, &hosts, &databases, &mut findings);
    let zones = zones(members, &domains, &mut findings);
    let source = with_public_address(source, &main_domain, &zones);
    let certificates = certificates::parse(members, &domains, &record.removed, &mut findings);
    let dkim = dkim::parse(members, &domains, &mut findings);
    let jobs = cron(members, &user, &mut findings);
    let logins = members.text("proftpdpasswd").unwrap_or_default();
    let ftp = ftp::parse(&logins, &user, &source, &mut findings);
    losses(members, totals, &record, &domains, &mut findings);
    let files = files(members, &home::Sites::at(&domains, &wildcards), &mut findings);
    let mut account = Account {
        user,
        main_domain,
        source,
        password,
        disk_quota_bytes: record.disk_quota_bytes,
        suspended: record.suspended,
        domains,
        wildcards,
        mail,
        databases,
        database_users,
        zones,
        certificates,
        dkim,
        cron: jobs,
        ftp,
        files,
        presence: BTreeMap::new(),
        warnings: findings.warnings,
        not_transferable: findings.not_transferable,
        notes: findings.notes,
    };
    account.presence = presence(members, &account);
    check_counts(&account)?;
    Ok(account)
}

/// Fails for an account with more of something than any real one has.
fn check_counts(account: &Account) -> Result<(), Error> {
    let records = account.zones.iter().map(|z| z.records.len()).sum();
    for (what, count, most) in [
        ("mailboxes", account.mail.mailboxes.len(), MAILBOXES_MAX),
        ("forwarders", account.mail.forwarders.len(), MAILBOXES_MAX),
        ("databases", account.databases.len(), DATABASES_MAX),
        ("database users", account.database_users.len(), DATABASES_MAX),
        ("names in DNS", records, RECORDS_MAX),
    ] {
        if count > most {
            return Err(Error::TooLarge(format!("it has {count} {what}")));
        }
    }
    Ok(())
}

/// The file's name in `cp/` is the user's name; there is one account in an archive.
fn user(members: &Members, findings: &mut Findings) -> Result<(Username, Record), Error> {
    let files: Vec<(&str, &[u8])> = members.below("cp").collect();
    if files.len() > 1 {
        return Err(Error::UnsafeMember("records of two accounts in cp/".to_owned()));
    }
    let (name, record) = match files.first() {
        Some((name, bytes)) => {
            let record = record::parse(&String::from_utf8_lossy(bytes), findings);
            ((*name).to_owned(), record)
        }
        None => {
            let home = members.line("homedir_paths").or_else(|| members.line("meta/homedir_paths"));
            let home = home.ok_or(Error::NoAccount)?;
            (home.rsplit('/').next().unwrap_or_default().to_owned(), Record::default())
        }
    };
    let user = Username::parse(&name).map_err(|invalid| Error::Metadata {
        what: format!("user name {}", shown(name.as_bytes())),
        why: invalid.to_string(),
    })?;
    if record.user.as_deref().is_some_and(|told| told != user.as_str()) {
        let message =
            "The record in cp/ tells another user name than its file; the file's is taken.";
        findings.warn("user_name_differs", user.as_str(), message);
    }
    Ok((user, record))
}

fn source(members: &Members, record: &Record, user: &Username) -> SourceServer {
    let mut source = SourceServer { hostname: members.line("meta/hostname"), ..Default::default() };
    source.ipv4.extend(record.ip);
    let mut homes = vec![user.home()];
    for path in ["homedir_paths", "meta/homedir_paths"] {
        homes.extend(members.text(path).unwrap_or_default().lines().map(str::to_owned));
    }
    for (_, bytes) in members.below("userdata") {
        let Ok(node) = yaml::parse(&String::from_utf8_lossy(bytes)) else { continue };
        homes.extend(node.text("homedir").map(str::to_owned));
        source.ipv4.extend(node.text("ip").and_then(|ip| ip.parse::<Ipv4Addr>().ok()));
        source.ipv6.extend(node.text("ipv6").and_then(|ip| ip.parse::<Ipv6Addr>().ok()));
    }
    let related = members.text("ips/related_ips").unwrap_or_default().into_owned();
    source.ipv6.extend(related.split_whitespace().filter_map(|ip| ip.parse::<Ipv6Addr>().ok()));
    // A home of one component, or none, would take in other accounts' homes.
    let homes = homes.iter().filter_map(|h| AbsPath::parse(h.trim()).ok());
    source.homes = homes.filter(|h| h.as_str().matches('/').count() >= 2).collect();
    source
}

/// Behind NAT, the record tells a private address, and the zones the public one.
fn with_public_address(
    mut source: SourceServer,
    main: &DomainName,
    zones: &[Zone],
) -> SourceServer {
    if source.ipv4.iter().any(|ip| !ip.is_private()) {
        return source;
    }
    let apex = format!("{main}.");
    let sets = zones.iter().filter(|z| z.name == *main).flat_map(|z| &z.records);
    for set in sets.filter(|s| s.rtype == "A" && s.name == apex) {
        source.ipv4.extend(set.records.iter().filter_map(|r| r.parse::<Ipv4Addr>().ok()));
    }
    source
}

/// Hosts that mean the source itself in a database user's name.
fn local_hosts(source: &SourceServer) -> BTreeSet<String> {
    let mut hosts: BTreeSet<String> =
        ["localhost", "127.0.0.1", "::1", "localhost.localdomain"].map(str::to_owned).into();
    hosts.extend(source.hostname.as_ref().map(|h| h.to_ascii_lowercase()));
    hosts.extend(source.ipv4.iter().map(ToString::to_string));
    hosts.extend(source.ipv6.iter().map(ToString::to_string));
    hosts
}

fn zones(members: &Members, domains: &[Domain], findings: &mut Findings) -> Vec<Zone> {
    let mut zones = Vec::new();
    for (file, bytes) in members.below("dnszones") {
        let Some(name) = file.strip_suffix(".db") else { continue };
        let item = format!("zone:{name}");
        let known = DomainName::parse(name).ok().filter(|n| domains.iter().any(|d| d.name == *n));
        let Some(name) = known else {
            findings
                .lost(&item, "It is of no domain of the account: a removed one, or not a domain.");
            continue;
        };
        match zone::parse(&name, bytes, findings) {
            Ok(zone) => zones.push(zone),
            Err(why) => findings.lost(&item, format!("The file is refused: {why}.")),
        }
    }
    zones.sort_by(|a, b| a.name.cmp(&b.name));
    zones
}

fn cron(members: &Members, user: &Username, findings: &mut Findings) -> Vec<CronJob> {
    for (name, _) in members.below("cron").filter(|(name, _)| *name != user.as_str()) {
        findings.lost(&format!("cron:{name}"), "It is another user's crontab.");
    }
    let text = members.text(&format!("cron/{user}")).unwrap_or_default();
    crontab::parse(&text, findings)
}

/// Members whose content has no place on the target.
const LOSSES: &[(&str, &str, &str)] = &[
    ("mm", "mailing_lists", "Mailing lists are not taken over."),
    ("mma", "mailing_list_archives", "Archives of mailing lists are not taken over."),
    ("psql", "postgresql", "There is no PostgreSQL on the target."),
    (
        "dnssec_keys",
        "dnssec_keys",
        "Remove the DS records at the registrar before the name servers change.",
    ),
    ("resellerconfig", "reseller", "Rights of a reseller are never taken from an archive."),
    ("team", "team_users", "Team users are not taken over."),
    ("ccs", "calendars", "Calendars and contacts are not taken over."),
    ("httpfiles", "apache_includes", "Apache configuration of the source is not taken over."),
    ("digestshadow", "web_disk", "Web Disk logins are not taken over."),
    ("customizations", "customizations", "cPanel's look is not taken over."),
    ("authnlinks", "external_logins", "Links to external logins are not taken over."),
    ("webcalls.json", "dynamic_dns", "Dynamic DNS is not taken over."),
    ("logs", "logs", "Access logs of the source are not taken over."),
];

fn losses(
    members: &Members,
    totals: &Totals,
    record: &Record,
    domains: &[Domain],
    findings: &mut Findings,
) {
    for (top, item, why) in LOSSES {
        if members.holds(top) {
            findings.lost(item, *why);
        }
    }
    if members.ssh_keys {
        findings.lost(
            "file:.ssh/authorized_keys",
            "SSH keys that open the account are not taken over.",
        );
    }
    for name in &record.domains {
        if !domains.iter().any(|d| d.name == *name || d.internal.as_ref() == Some(name)) {
            let message = "The account's record has it, but it has no site in the archive.";
            findings.lost(&format!("domain:{name}"), message);
        }
    }
    if totals.outside > 0 {
        let message = format!(
            "{} members of the archive lie beside the account and are not read. If another account \
             is among them, put it into an archive of its own.",
            totals.outside
        );
        findings.lost("members_outside", message);
    }
}

/// The files that are restored, those of sites in odd places with them. The others are named.
fn files(members: &Members, sites: &home::Sites, findings: &mut Findings) -> Files {
    let mut files = members.files;
    let mut behind: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (directory, left) in &members.left {
        if sites.hold(directory) {
            files.entries = files.entries.saturating_add(left.entries);
            files.bytes = files.bytes.saturating_add(left.bytes);
            continue;
        }
        let top = directory.split(|b| *b == b'/').next().unwrap_or_default();
        let (count, bytes) = behind.entry(String::from_utf8_lossy(top).into_owned()).or_default();
        *count = count.saturating_add(left.files);
        *bytes = bytes.saturating_add(left.bytes);
    }
    behind.retain(|_, (count, _)| *count > 0);
    let mut of_panel = Vec::new();
    for (name, (count, bytes)) in behind {
        match home::why_left_behind(&name) {
            Some(why) => {
                let files = counted(count);
                let text = format!("{files} of {bytes} bytes left behind: {why}.");
                findings.lost(&format!("left_behind:{name}"), text);
            }
            None => of_panel.push(format!("{name} ({})", counted(count))),
        }
    }
    if !of_panel.is_empty() {
        let list = of_panel.join(", ");
        let text = format!("These belong to the source's panel and are left behind: {list}.");
        findings.warn("panel_files", "", text);
    }
    files
}

fn counted(files: u64) -> String {
    if files == 1 { "1 file".to_owned() } else { format!("{files} files") }
}

fn presence(members: &Members, account: &Account) -> BTreeMap<Component, Presence> {
    let state = |present: bool, told: bool| match (present, told) {
        (true, _) => Presence::Present,
        (false, true) => Presence::Empty,
        (false, false) => Presence::Absent,
    };
    let any = |names: &[&str]| names.iter().any(|n| members.has(n));
    let mail = &account.mail;
    let has_mail = !mail.mailboxes.is_empty() || !mail.forwarders.is_empty();
    BTreeMap::from([
        (Component::Files, state(account.files.entries > 0, members.home)),
        (Component::Databases, state(!account.databases.is_empty(), any(&["mysql", "mysql.sql"]))),
        (Component::Email, state(has_mail, any(&["va", "homedir/etc", "homedir/mail"]))),
        (Component::Dns, state(!account.zones.is_empty(), any(&["dnszones"]))),
        (Component::Ssl, state(!account.certificates.is_empty(), any(&["apache_tls", "sslcerts"]))),
    ])
}
