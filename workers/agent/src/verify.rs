//! Real checks against the running services: what the plan restored is asked for as a client would.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::job::{Begun, Job};
use crate::program::{Program, run};
use crate::{changes, layout, mariadb, people};
use cpanel::plan::{Operation, Resource, StepName};
use cpanel::protocol::{Check, CheckStatus, Verification};
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use uuid::Uuid;
use values::{DatabaseName, DomainName, MailAddress, Username};

const PATIENCE: Duration = Duration::from_secs(20);

/// Checks everything that the job restored, over the given address of this server.
pub fn verify(job: &Job<'_>, ipv4: Ipv4Addr) -> Result<Verification> {
    Ok(Verification { checks: checks(job, &job.begun()?, ipv4)? })
}

/// A check with its operation's place in the plan.
type Placed = (usize, Check);

/// The checks themselves, in the plan's order: sites, mail and databases side by side. Their names
/// are none of operations.
pub fn checks(job: &Job<'_>, begun: &Begun, ipv4: Ipv4Addr) -> Result<Vec<Check>> {
    job.check()?;
    job.events.progress(0, 1, "Checking sites, mailboxes and databases")?;
    let id = job.id;
    let broken = || Err(Error::internal("a check broke off"));
    let found = thread::scope(|scope| {
        let sites = scope.spawn(|| sites(begun, ipv4));
        let mail = scope.spawn(|| mail(id, begun));
        let databases = databases(begun);
        [
            sites.join().unwrap_or_else(|_| broken()),
            mail.join().unwrap_or_else(|_| broken()),
            databases,
        ]
    });
    job.check()?;
    let mut all: Vec<Placed> = Vec::new();
    for part in found {
        all.extend(part?);
    }
    all.sort_by_key(|(place, _)| *place);
    Ok(all.into_iter().map(|(_, check)| check).collect())
}

fn check(name: String, status: CheckStatus, message: impl Into<String>) -> Check {
    Check { name, status, message: message.into() }
}

fn sites(begun: &Begun, ipv4: Ipv4Addr) -> Result<Vec<Placed>> {
    let mut found = Vec::new();
    for (place, operation) in begun.plan.operations.iter().enumerate() {
        let check = match &operation.resource {
            Resource::Home { path, .. } => home(begun, Path::new(path.as_str()))?,
            Resource::Website { domain, wildcard: false, suspended, .. } => {
                http(domain, ipv4, *suspended)
            }
            Resource::Website { domain, suspended, .. } => {
                http(&DomainName::parse(&format!("any.{domain}"))?, ipv4, *suspended)
            }
            Resource::PhpPool { user, version } => pool(user, version),
            Resource::Certificate { domain, sha256, .. } => tls(domain, sha256, ipv4)?,
            _ => continue,
        };
        found.push((place, check));
    }
    Ok(found)
}

fn pool(user: &Username, version: &str) -> Check {
    let name = format!("php:{version}");
    match connect_patiently(&layout::pool_socket(user, version)) {
        Ok(_) => check(name, CheckStatus::Pass, "PHP takes requests."),
        Err(e) => {
            let text = format!("PHP {version} of {user} takes no requests ({e}).");
            check(name, CheckStatus::Fail, text)
        }
    }
}

fn mail(job: Uuid, begun: &Begun) -> Result<Vec<Placed>> {
    let boxes =
        begun.plan.operations.iter().enumerate().filter_map(|(place, o)| match &o.resource {
            Resource::Mailbox { address, maildir, messages, .. } => {
                Some((place, address, maildir, *messages))
            }
            _ => None,
        });
    let boxes: Vec<_> = boxes.collect();
    let addresses: Vec<&MailAddress> = boxes.iter().map(|(_, address, ..)| *address).collect();
    let counted = counted(job, &addresses)?;
    let mut routed = BTreeSet::new();
    let mut found = Vec::new();
    for (place, address, maildir, messages) in boxes {
        let count = counted.get(address.as_str()).copied();
        found.push((place, mailbox(address, Path::new(maildir.as_str()), messages, count)?));
        if routed.insert(address.domain()) {
            found.extend(route(address)?.map(|check| (place, check)));
        }
    }
    Ok(found)
}

/// What MariaDB has, asked in two goes for all databases of a job.
#[derive(Default)]
struct Held {
    databases: BTreeSet<String>,
    users: BTreeSet<String>,
    /// User and database, as the table of rights has it.
    rights: BTreeSet<(String, String)>,
    /// Table or view, and whether it is a view, by database.
    tables: BTreeMap<String, Vec<(String, bool)>>,
    /// Those of which a row can be read, or could be if there were one.
    readable: BTreeSet<(String, String)>,
}

fn held(names: &[&DatabaseName]) -> Result<Held> {
    let mut held = Held::default();
    let mut sql = String::from(
        "SELECT 'u', User, '', '' FROM mysql.user WHERE Host = 'localhost';\n\
         SELECT 'r', User, Db, '' FROM mysql.db WHERE Host = 'localhost';\n",
    );
    if !names.is_empty() {
        let list = mariadb::list(names.iter().copied());
        sql.push_str(&format!(
            "SELECT 'd', SCHEMA_NAME, '', '' FROM information_schema.SCHEMATA \
             WHERE SCHEMA_NAME IN {list};\n\
             SELECT 't', TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA IN {list};\n"
        ));
    }
    let mut readable = String::new();
    for row in mariadb::query(&sql)? {
        let [kind, first, second, third] = row.as_slice() else { continue };
        match kind.as_str() {
            "u" => drop(held.users.insert(first.clone())),
            "r" => drop(held.rights.insert((first.clone(), second.clone()))),
            "d" => drop(held.databases.insert(first.clone())),
            _ => {
                let (database, table) = (mariadb::text(first), mariadb::text(second));
                let full = format!("{}.{}", mariadb::name(first), mariadb::name(second));
                readable.push_str(&format!(
                    "SELECT {database}, {table}, COUNT(*) FROM (SELECT 1 FROM {full} LIMIT 1) r;\n"
                ));
                let tables = held.tables.entry(first.clone()).or_default();
                tables.push((second.clone(), third.ends_with("VIEW")));
            }
        }
    }
    for row in mariadb::query_each(&readable)? {
        if let [database, table, ..] = row.as_slice() {
            held.readable.insert((database.clone(), table.clone()));
        }
    }
    Ok(held)
}

fn databases(begun: &Begun) -> Result<Vec<Placed>> {
    let operations = || begun.plan.operations.iter().enumerate();
    let of_databases = |o: &Operation| o.step == StepName::Databases;
    if !begun.plan.operations.iter().any(of_databases) {
        return Ok(Vec::new());
    }
    let names: Vec<&DatabaseName> = operations()
        .filter_map(|(_, o)| match &o.resource {
            Resource::Database { name, .. } => Some(name),
            _ => None,
        })
        .collect();
    let held = held(&names)?;
    let mut found = Vec::new();
    for (place, operation) in operations() {
        let (name, good, pass, fail) = match &operation.resource {
            Resource::Database { name, .. } => {
                found.push((place, database(name, &held)));
                continue;
            }
            Resource::DatabaseUser { name, .. } => (
                format!("sql_user:{name}"),
                held.users.contains(name.as_str()),
                "The user exists.",
                format!("The database user {name} is missing."),
            ),
            Resource::Grant { user, database, .. } => (
                format!("sql_rights:{user}:{database}"),
                held.rights.contains(&(user.to_string(), mariadb::escaped(database))),
                "The rights are given.",
                format!("{user} has no rights on {database}."),
            ),
            _ => continue,
        };
        found.push((
            place,
            match good {
                true => check(name, CheckStatus::Pass, pass),
                false => check(name, CheckStatus::Fail, fail),
            },
        ));
    }
    Ok(found)
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

fn http(domain: &DomainName, ipv4: Ipv4Addr, suspended: bool) -> Check {
    let name = format!("http:{domain}");
    match http_status(domain, ipv4) {
        Ok(Some(503)) if suspended => {
            let text = format!("http://{domain}/ answers 503: the account is suspended.");
            check(name, CheckStatus::Pass, text)
        }
        Ok(Some(status)) if suspended => {
            let text = format!("http://{domain}/ answers {status} though it is suspended.");
            check(name, CheckStatus::Fail, text)
        }
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
    let (root, rest) = Beneath::place(&layout::tls_pair(domain.as_str()))?;
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
fn database(database: &DatabaseName, held: &Held) -> Check {
    let name = format!("sql:{database}");
    if !held.databases.contains(database.as_str()) {
        return check(name, CheckStatus::Fail, format!("The database {database} is missing."));
    }
    let all = held.tables.get(database.as_str()).map(Vec::as_slice).unwrap_or_default();
    let (mut views, mut tables) = (Vec::new(), Vec::new());
    for (table, is_view) in all {
        if !held.readable.contains(&(database.to_string(), table.clone())) {
            if *is_view { &mut views } else { &mut tables }.push(table.as_str());
        }
    }
    match (all.len(), tables.as_slice(), views.as_slice()) {
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
    }
}

/// How many messages Dovecot counts in each mailbox that it can open: asked for all in one go.
fn counted(job: Uuid, addresses: &[&MailAddress]) -> Result<BTreeMap<String, u64>> {
    if addresses.is_empty() {
        return Ok(BTreeMap::new());
    }
    let users: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    // Dovecot reads the list at places of its own choice: it must be a file.
    let dir = Beneath::private_dir(&layout::job(job))?;
    dir.write("mailboxes", users.as_bytes(), Owner::root(0o600))?;
    let said = run(Program::Doveadm)
        .args(["-f", "tab", "mailbox", "status", "-F"])
        .arg(layout::job(job).join("mailboxes"))
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
    if said.code().is_some_and(|c| c < 2) {
        return Ok(Some(check(name, CheckStatus::Pass, format!("Mail for {address} is taken."))));
    }
    let routes = said.text();
    Ok(Some(if delivers(&routes, address) {
        let dead = dead_ends(&routes).join(", ");
        let text = format!("Mail for {address} is taken, but its copies for {dead} are refused.");
        check(name, CheckStatus::Warn, text)
    } else {
        check(name, CheckStatus::Fail, format!("Mail for {address} would be refused."))
    }))
}

/// Whether what `exim -bt` says delivers to the address itself. Each destination begins a line, and what
/// becomes of it is indented below.
fn delivers(routes: &str, address: &MailAddress) -> bool {
    let mut is_own = false;
    routes.lines().any(|line| {
        if !line.starts_with(' ') {
            is_own = line.eq_ignore_ascii_case(address.as_str());
        }
        is_own && line.trim_start().starts_with("router = ")
    })
}

/// Destinations that exist nowhere.
fn dead_ends(routes: &str) -> Vec<&str> {
    routes.lines().filter_map(|line| Some(line.split_once(" is undeliverable")?.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_for_an_address_that_is_gone_does_not_refuse_the_mailbox() {
        let bob: MailAddress = "bob@two.example".parse().unwrap();
        let copies = "ann@two.example is undeliverable: Unrouteable address\n    <-- bob@two.example\n\
                      y@elsewhere.example cannot be resolved at this time: host lookup did not complete\n    <-- bob@two.example\n\
                      bob@two.example\n    <-- bob@two.example\n  router = hosted_mailbox, transport = dovecot\n";
        assert!(delivers(copies, &bob));
        assert_eq!(dead_ends(copies), ["ann@two.example"]);
        let none =
            "ann@two.example is undeliverable: Unrouteable address\n    <-- bob@two.example\n";
        assert!(!delivers(none, &bob));
        let others = "bob@two.example is undeliverable: Unrouteable address\nann@two.example\n    <-- bob@two.example\n  router = hosted_mailbox, transport = dovecot\n";
        assert!(!delivers(others, &bob));
    }
}
