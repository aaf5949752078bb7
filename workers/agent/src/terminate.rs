//! The end of an account: a last backup, and then everything of it goes. Nothing is removed before the
//! backup lies whole on the disk. What is to go is written down then, so that a call after a death
//! goes on with it, and takes no second backup of what is half gone.

use crate::backup::{self, Content};
use crate::belongings;
use crate::beneath::Beneath;
use crate::error::Result;
use crate::job::{Begun, Job, read_json, write_json};
use crate::journal::{Effect, Journal};
use crate::services::{self, Service};
use crate::steps::{definer, end_processes, password, remove_user};
use crate::{guard, layout, lines, mariadb, people, suspend};
use cpanel::protocol::{Terminated, Termination};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use values::{AbsPath, DatabaseName, DatabaseUser, DomainName, Username};

/// Everything of an account that is not below its home.
#[derive(Debug, Serialize, Deserialize)]
struct Doomed {
    uid: u32,
    sites: Vec<PathBuf>,
    /// Of its sites and its mail.
    domains: BTreeSet<DomainName>,
    mail_domains: Vec<DomainName>,
    databases: BTreeSet<DatabaseName>,
    users: BTreeSet<DatabaseUser>,
}

/// Below the server's backup directory.
const PLACE: &str = "terminated";

/// Ends the account; where its last backup lies. May be repeated after a death at any point, and after
/// its end.
pub fn terminate(job: &Job<'_>, wanted: &Termination) -> Result<Terminated> {
    let user = &wanted.user;
    let _lock = job.lock(user)?;
    let dir = Path::new(wanted.backup_dir.as_str()).join(PLACE);
    let area = Beneath::private_dir(&dir)?;
    let name = format!("cpmove-{user}-{}.tar.gz", wanted.service);
    let note = layout::doomed(wanted.service);
    let doomed = match read_json(&note)? {
        Some(doomed) => doomed,
        None if people::user(user.as_str())?.is_none() && area.stat(&name)?.is_some() => {
            return answer(&dir, &name);
        }
        None => {
            let doomed = keep(job, wanted, (&area, &name))?;
            write_json(&note, &doomed)?;
            doomed
        }
    };
    remove(job, user, &doomed)?;
    let (root, rest) = Beneath::place(&note)?;
    root.remove(rest)?;
    answer(&dir, &name)
}

fn answer(dir: &Path, name: &str) -> Result<Terminated> {
    Ok(Terminated { backup: AbsPath::parse(&dir.join(name).to_string_lossy())? })
}

/// Takes the account out of use, so that nothing writes any more, and makes the backup.
fn keep(job: &Job<'_>, wanted: &Termination, (area, name): (&Beneath, &str)) -> Result<Doomed> {
    let user = &wanted.user;
    let uid = people::account(user)?.uid;
    suspend::take_out(job, user)?;
    let sites = backup::open_sites(user)?;
    let mail_domains = belongings::mail_domains(user)?;
    let (databases, users) = databases(user)?;
    let password = password(user)?;
    let content = Content {
        wanted,
        sites: &sites,
        mail_domains: &mail_domains,
        databases: &databases,
        users: &users,
        password: &password,
    };
    backup::write(job, area, name, &content)?;
    let domains = sites.iter().filter_map(|site| site.domain()).chain(mail_domains.iter().cloned());
    Ok(Doomed {
        uid,
        domains: domains.collect(),
        sites: sites.iter().map(|site| site.path()).collect(),
        mail_domains,
        databases,
        users,
    })
}

/// Databases and users of the account: what its migrations made, and what has its name before the
/// underscore and was not made for another account.
fn databases(user: &Username) -> Result<(BTreeSet<DatabaseName>, BTreeSet<DatabaseUser>)> {
    let owners = owners()?;
    let prefix = format!("{user}_");
    let is_own = |kind: &str, name: &str| match owners.get(&(kind.to_owned(), name.to_owned())) {
        Some(owner) => owner == user,
        None => name.starts_with(&prefix),
    };
    let standing = mariadb::standing()?;
    let databases = standing.databases.iter().filter(|name| is_own("database", name));
    let users = standing.users.iter().filter(|name| is_own("user", name));
    Ok((
        databases.filter_map(|name| DatabaseName::parse(name).ok()).collect(),
        users.filter_map(|name| DatabaseUser::parse(name).ok()).collect(),
    ))
}

/// Whose the databases and their users are that migrations made here.
fn owners() -> Result<BTreeMap<(String, String), Username>> {
    let mut owners = BTreeMap::new();
    let jobs = Beneath::private_dir(&Path::new(layout::STATE).join("jobs"))?;
    for (name, _) in jobs.list()? {
        let Some(id) = name.to_str().and_then(|name| Uuid::parse_str(name).ok()) else { continue };
        let Some(begun) = read_json::<Begun>(&layout::plan(id))? else { continue };
        for entry in Journal::open(id)?.entries() {
            let made = match &entry.what {
                Effect::Database { name, .. } => ("database".to_owned(), name.to_string()),
                Effect::DatabaseUser { name, .. } => ("user".to_owned(), name.to_string()),
                _ => continue,
            };
            owners.insert(made, begun.source.target_user.clone());
        }
    }
    Ok(owners)
}

fn remove(job: &Job<'_>, user: &Username, doomed: &Doomed) -> Result<()> {
    services::will_change(Service::Apache, job.id)?;
    services::will_change(Service::PhpFpm, job.id)?;
    services::will_change(Service::Dovecot, job.id)?;
    for path in &doomed.sites {
        clear(path)?;
    }
    for version in layout::PHP_VERSIONS {
        clear(&layout::pool(user, version))?;
    }
    for domain in &doomed.mail_domains {
        let name = domain.as_str();
        clear(&layout::mail_active(name))?;
        clear(&layout::mail_suspended(name))?;
        clear(&layout::mail(name))?;
        clear(&layout::dkim_key(name))?;
        clear(&layout::dkim_selector(name))?;
    }
    lines::set(&layout::plain_logins(), user.as_str(), None)?;
    for domain in &doomed.domains {
        clear(&layout::dovecot_tls(domain.as_str()))?;
    }
    // Nothing reads a certificate or writes a log of the account any more.
    services::apply_changes(job.id)?;
    for domain in &doomed.domains {
        clear(&layout::tls(domain.as_str()))?;
        layout::site_logs(domain).iter().try_for_each(|log| clear(log))?;
    }
    job.check()?;
    drop_databases(doomed)?;
    end_processes_of(user, doomed.uid)?;
    Beneath::open(layout::HOMES)?.remove(user.as_str())?;
    remove_user(user)?;
    forget_crontabs(user)?;
    suspend::forget(user)
}

fn clear(path: &Path) -> Result<()> {
    let _lock = guard::changing_configuration()?;
    let (root, rest) = Beneath::place(path)?;
    root.clear(rest)
}

/// Once its user is gone, its number may be another's.
fn end_processes_of(user: &Username, uid: u32) -> Result<()> {
    match people::user(user.as_str())? {
        Some(person) if person.uid == uid => end_processes(uid),
        _ => Ok(()),
    }
}

fn drop_databases(doomed: &Doomed) -> Result<()> {
    let mut sql = String::new();
    for database in &doomed.databases {
        let definer = mariadb::at_localhost(definer(database)?.as_str());
        let database = mariadb::name(database.as_str());
        sql.push_str(&format!(
            "DROP DATABASE IF EXISTS {database};\nDROP USER IF EXISTS {definer};\n"
        ));
    }
    for user in &doomed.users {
        let user = mariadb::at_localhost(user.as_str());
        sql.push_str(&format!("DROP USER IF EXISTS {user};\n"));
    }
    mariadb::execute(&sql)
}

/// Those that migrations have kept for somebody to confirm.
fn forget_crontabs(user: &Username) -> Result<()> {
    let place = Beneath::private_dir(&Path::new(layout::STATE).join("cron"))?;
    let prefix = format!("{user}.");
    for (name, _) in place.list()? {
        if name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
            place.remove(&name)?;
        }
    }
    Ok(())
}
