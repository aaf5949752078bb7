//! Real checks against the running services: what the plan restored is asked for as a client would.

use crate::beneath::{Beneath, Owner};
use crate::error::Result;
use crate::job::{Begun, Job};
use crate::program::{Program, run};
use crate::{changes, layout, mariadb, people};
use cpanel::plan::{Operation, Resource};
use cpanel::protocol::{Check, CheckStatus, Verification};
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use values::{DatabaseName, DomainName, MailAddress};

const PATIENCE: Duration = Duration::from_secs(20);

/// Checks everything that the job restored, over the given address of this server.
pub fn verify(job: &Job<'_>, ipv4: Ipv4Addr) -> Result<Verification> {
    Ok(Verification { checks: checks(job, &job.begun()?, ipv4)? })
}

/// The checks themselves, in the plan's order. Their names are none of operations.
pub fn checks(job: &Job<'_>, begun: &Begun, ipv4: Ipv4Addr) -> Result<Vec<Check>> {
    let mut found = Vec::new();
    let mut routed = BTreeSet::new();
    let boxes = begun.plan.operations.iter().filter_map(|o| match &o.resource {
        Resource::Mailbox { address, .. } => Some(address),
        _ => None,
    });
    let counted = counted(job, &boxes.collect::<Vec<_>>())?;
    let total = u64::try_from(begun.plan.operations.len()).unwrap_or(u64::MAX);
    for (done, operation) in (0_u64..).zip(&begun.plan.operations) {
        job.check()?;
        job.events.progress(done, total, &format!("Checking {}", operation.id))?;
        found.extend(one(begun, operation, ipv4, &counted)?);
        if let Resource::Mailbox { address, .. } = &operation.resource
            && routed.insert(address.domain().to_owned())
        {
            found.extend(route(address)?);
        }
    }
    Ok(found)
}

fn check(name: String, status: CheckStatus, message: impl Into<String>) -> Check {
    Check { name, status, message: message.into() }
}

fn one(
    begun: &Begun,
    operation: &Operation,
    ipv4: Ipv4Addr,
    counted: &BTreeMap<String, u64>,
) -> Result<Option<Check>> {
    Ok(match &operation.resource {
        Resource::Home { path, .. } => Some(home(begun, Path::new(path.as_str()))?),
        Resource::Website { domain, wildcard: false, .. } => Some(http(domain, ipv4)),
        Resource::Website { domain, .. } => {
            let any = DomainName::parse(&format!("any.{domain}"))?;
            Some(http(&any, ipv4))
        }
        Resource::PhpPool { user, version } => {
            let socket = layout::pool_socket(user, version);
            let name = format!("php:{version}");
            Some(match connect_patiently(&socket) {
                Ok(_) => check(name, CheckStatus::Pass, "PHP takes requests."),
                Err(e) => {
                    let text = format!("PHP {version} of {user} takes no requests ({e}).");
                    check(name, CheckStatus::Fail, text)
                }
            })
        }
        Resource::Certificate { domain, sha256, .. } => Some(tls(domain, sha256, ipv4)?),
        Resource::Database { name, .. } => Some(database(name)?),
        Resource::DatabaseUser { name: user, .. } => {
            let name = format!("sql_user:{user}");
            Some(if mariadb::has_user(user.as_str())? {
                check(name, CheckStatus::Pass, "The user exists.")
            } else {
                check(name, CheckStatus::Fail, format!("The database user {user} is missing."))
            })
        }
        Resource::Grant { user, database, .. } => {
            let name = format!("sql_rights:{user}:{database}");
            let given = !mariadb::grant_statements(user, database)?.is_empty();
            Some(if given {
                check(name, CheckStatus::Pass, "The rights are given.")
            } else {
                let text = format!("{user} has no rights on {database}.");
                check(name, CheckStatus::Fail, text)
            })
        }
        Resource::Mailbox { address, maildir, messages, .. } => {
            let counted = counted.get(address.as_str()).copied();
            Some(mailbox(address, Path::new(maildir.as_str()), *messages, counted)?)
        }
        _ => None,
    })
}

/// PHP-FPM opens new sockets only when the requests that are under way have ended.
fn connect_patiently(socket: &Path) -> io::Result<UnixStream> {
    let end = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Err(_) if Instant::now() < end => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

/// Only the account enters its home, and what others could read in it is named.
fn home(begun: &Begun, path: &Path) -> Result<Check> {
    let name = "permissions:home".to_owned();
    let (root, rest) = Beneath::place(path)?;
    let person = people::account(&begun.source.target_user)?;
    let Some(stat) = root.stat(&rest)? else {
        return Ok(check(name, CheckStatus::Fail, "The home directory is missing."));
    };
    if stat.st_uid != person.uid || stat.st_mode & 0o7777 != 0o711 {
        let text = "The home directory has another owner or mode than 0711.";
        return Ok(check(name, CheckStatus::Fail, text));
    }
    let mut left = 20_000_u32;
    match open_to_others(&root.dir(&rest)?, Path::new(""), &mut left)? {
        Some(found) => {
            let shown = cpanel::member::shown(found.as_os_str().as_encoded_bytes());
            let text = format!("Other accounts can read {shown}: take the right away.");
            Ok(check(name, CheckStatus::Warn, text))
        }
        None => Ok(check(name, CheckStatus::Pass, "Nobody else can read the home.")),
    }
}

fn open_to_others(dir: &Beneath, at: &Path, left: &mut u32) -> Result<Option<std::path::PathBuf>> {
    for (name, kind) in dir.list()? {
        let Some(rest) = left.checked_sub(1) else { return Ok(None) };
        *left = rest;
        let path = at.join(&name);
        let mode = dir.stat(&name)?.map_or(0, |s| s.st_mode);
        if kind != FileType::Symlink && mode & 0o004 != 0 {
            return Ok(Some(path));
        }
        // What lies in a closed directory is out of reach, whatever its own mode.
        if kind == FileType::Directory
            && mode & 0o001 != 0
            && let Some(found) = open_to_others(&dir.dir(&name)?, &path, left)?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn http(domain: &DomainName, ipv4: Ipv4Addr) -> Check {
    let name = format!("http:{domain}");
    match http_status(domain, ipv4) {
        Ok(Some(status @ 200..=399)) => {
            check(name, CheckStatus::Pass, format!("http://{domain}/ answers {status}."))
        }
        Ok(Some(status)) => {
            let text =
                format!("http://{domain}/ answers {status}: compare it with the old server.");
            check(name, CheckStatus::Warn, text)
        }
        Ok(None) => check(name, CheckStatus::Fail, format!("http://{domain}/ gives no answer.")),
        Err(e) => {
            check(name, CheckStatus::Fail, format!("http://{domain}/ cannot be reached ({e})."))
        }
    }
}

fn http_status(domain: &DomainName, ipv4: Ipv4Addr) -> io::Result<Option<u16>> {
    let mut stream = connect(ipv4, 80)?;
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: migrapanel\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Ok(status)
}

fn connect(ipv4: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(IpAddr::V4(ipv4), port), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn tls(domain: &DomainName, sha256: &str, ipv4: Ipv4Addr) -> Result<Check> {
    let name = format!("tls:{domain}");
    let (root, rest) = Beneath::place(&layout::tls(domain.as_str()).join("fullchain.pem"))?;
    if root.stat(&rest)?.is_none() {
        // The step says why.
        let text = format!("The archive's certificate for {domain} is not installed.");
        return Ok(check(name, CheckStatus::Warn, text));
    }
    let shown = run(Program::OpenSsl)
        .args(["s_client", "-connect", &format!("{ipv4}:443"), "-servername", domain.as_str()])
        .stdin(b"")
        .limit(PATIENCE)
        .output()?;
    let print = run(Program::OpenSsl)
        .args(["x509", "-noout", "-fingerprint", "-sha256"])
        .stdin(&shown.stdout)
        .output()?
        .text();
    let print = print.trim().rsplit('=').next().unwrap_or_default().replace(':', "");
    Ok(if print.eq_ignore_ascii_case(sha256) {
        check(name, CheckStatus::Pass, format!("https://{domain}/ shows the imported certificate."))
    } else {
        check(name, CheckStatus::Fail, format!("https://{domain}/ shows another certificate."))
    })
}

/// Every table and view can be read.
fn database(database: &DatabaseName) -> Result<Check> {
    let name = format!("sql:{database}");
    if !mariadb::has_database(database)? {
        return Ok(check(name, CheckStatus::Fail, format!("The database {database} is missing.")));
    }
    let quoted = mariadb::text(database.as_str());
    let rows = mariadb::query(&format!(
        "SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = {quoted};"
    ))?;
    let readable = readable(database, &rows)?;
    let (mut views, mut tables) = (Vec::new(), Vec::new());
    for row in &rows {
        let Some(table) = row.first().filter(|table| !readable.contains(*table)) else { continue };
        let is_view = row.get(1).is_some_and(|kind| kind.ends_with("VIEW"));
        if is_view { &mut views } else { &mut tables }.push(table.as_str());
    }
    Ok(match (rows.len(), tables.as_slice(), views.as_slice()) {
        (0, _, _) => check(name, CheckStatus::Warn, "The database has no tables."),
        (n, [], []) => check(name, CheckStatus::Pass, format!("{n} tables and views can be read.")),
        // A view may rest on something that was gone on the old server, too.
        (_, [], views) => {
            let text = format!("These views cannot be read in {database}: {}.", views.join(", "));
            check(name, CheckStatus::Warn, text)
        }
        (_, tables, _) => {
            let text = format!("These tables cannot be read in {database}: {}.", tables.join(", "));
            check(name, CheckStatus::Fail, text)
        }
    })
}

/// The tables and views of which a row can be read, or could be if there were one: asked in one go.
fn readable(database: &DatabaseName, tables: &[Vec<String>]) -> Result<BTreeSet<String>> {
    let mut sql = String::new();
    for table in tables.iter().filter_map(|row| row.first()) {
        let full = format!("{}.{}", mariadb::name(database.as_str()), mariadb::name(table));
        let table = mariadb::text(table);
        sql.push_str(&format!("SELECT {table}, COUNT(*) FROM (SELECT 1 FROM {full} LIMIT 1) r;\n"));
    }
    let found = mariadb::query_each(&sql)?;
    Ok(found.into_iter().filter_map(|row| row.into_iter().next()).collect())
}

/// How many messages Dovecot counts in each mailbox that it can open: asked for all in one go.
fn counted(job: &Job<'_>, addresses: &[&MailAddress]) -> Result<BTreeMap<String, u64>> {
    if addresses.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    // Dovecot reads the list at places of its own choice: it must be a file.
    let dir = Beneath::private_dir(&layout::job(job.id))?;
    dir.write("mailboxes", users.as_bytes(), Owner::root(0o600))?;
    let said = run(Program::Doveadm)
        .args(["-f", "tab", "mailbox", "status", "-F"])
        .arg(layout::job(job.id).join("mailboxes"))
        .args(["-t", "messages", "*"])
        .limit(Duration::from_secs(3600))
        .output()?
        .text();
    dir.remove("mailboxes")?;
    // The first line has the columns' names.
    let fields = said.lines().skip(1).filter_map(|line| line.split_once('\t'));
    let found = fields.filter_map(|(user, count)| Some((user.to_owned(), count.parse().ok()?)));
    Ok(found.collect())
}

/// Every message of the archive is there, and Dovecot opens the mailbox and counts them.
fn mailbox(
    address: &MailAddress,
    maildir: &Path,
    expected: u64,
    counted: Option<u64>,
) -> Result<Check> {
    let name = format!("imap:{address}");
    let there = changes::count_messages(maildir, None)?;
    if there < expected {
        let text = format!("{address} has {there} messages, but {expected} were in the archive.");
        return Ok(check(name, CheckStatus::Fail, text));
    }
    Ok(match counted {
        Some(n) if n >= expected => check(name, CheckStatus::Pass, format!("{n} messages.")),
        Some(n) => {
            let text =
                format!("{address} shows {n} of {expected} messages: look at the others' names.");
            check(name, CheckStatus::Warn, text)
        }
        None => check(name, CheckStatus::Fail, format!("The mailbox {address} does not open.")),
    })
}

/// Exim would deliver mail for the address to its mailbox; not asked of domains that take none.
fn route(address: &MailAddress) -> Result<Option<Check>> {
    let (root, rest) = Beneath::place(&layout::mail_active(address.domain()))?;
    if root.stat(rest)?.is_none() {
        return Ok(None);
    }
    let name = format!("smtp:{}", address.domain());
    let said = run(Program::Exim).args(["-bt", address.as_str()]).output()?;
    // 1: a copy goes to another server, which cannot be found right now.
    Ok(Some(if said.code().is_some_and(|c| c < 2) {
        check(name, CheckStatus::Pass, format!("Mail for {address} is taken."))
    } else {
        check(name, CheckStatus::Fail, format!("Mail for {address} would be refused."))
    }))
}
