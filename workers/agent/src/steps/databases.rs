//! Databases, their users and rights. A dump is loaded by a user that has rights on that one database
//! and on nothing else; the same user, locked, is the definer of its views and routines afterwards.

use super::{Done, migrated};
use crate::beneath::{Beneath, Owner};
use crate::dump::Filtered;
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::journal::Effect;
use crate::mariadb::{self, at_localhost, execute, has_database, has_user, name, pattern, text};
use crate::program::{Program, run};
use crate::{appconfig, layout, unpack};
use cpanel::account::{DatabaseAuth, DumpState};
use cpanel::plan::{Action, Operation, PRIVILEGES, Resource};
use cpanel::protocol::Outcome;
use cpanel::secret::Secret;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use values::{DatabaseName, DatabaseUser, Username};

/// What a dump may not change, and what MariaDB 10.11 is stricter about than the servers it is from.
const BEFORE_DUMP: &str = "--init-command=SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO', \
                           foreign_key_checks=0, unique_checks=0";
const LOAD_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The end of the names of our own users; no account may have such a user.
const DEFINER: &str = ".definer";

/// The locked user that an account's views run as.
pub fn definer(user: &Username) -> Result<DatabaseUser> {
    Ok(DatabaseUser::parse(&format!("{user}{DEFINER}"))?)
}

/// Makes a database and loads its dump.
pub fn database(work: &mut Work<'_>, operation: &Operation) -> Result<Done> {
    let Resource::Database { name: new, source, charset, collation, bytes } = &operation.resource
    else {
        return Err(Error::internal("not a database"));
    };
    let ours = work.done().any(|e| matches!(e, Effect::Database { name, .. } if name == new));
    let stands = has_database(new)?;
    match (stands, ours, operation.action) {
        (true, false, Action::Merge) => {
            return Ok((Outcome::Adapted, "The database was there and stays as it is.".to_owned()));
        }
        (true, false, Action::Create) => {
            let text = format!("A database {new} has appeared on the server: preview again.");
            return Err(Error::new("plan_changed", text));
        }
        (true, false, Action::Replace) => {
            let kept = keep(work, new)?;
            work.record(Effect::Database { name: new.clone(), kept: Some(kept) })?;
        }
        (_, true, _) => {}
        (false, false, _) => work.record(Effect::Database { name: new.clone(), kept: None })?,
    }
    let known = work.account.databases.iter().find(|d| d.name == *source);
    let state = known.map_or(DumpState::Placeholder, |d| d.dump);
    end_loading(work.user())?;
    make_empty(new, charset.as_deref(), collation.as_deref())?;
    load(work, (new, *bytes), source)?;
    let events = switch_off_events(new, work.user())?;
    Ok(match state {
        DumpState::Full if events > 0 => {
            (Outcome::Adapted, format!("{events} events are there, but switched off."))
        }
        DumpState::Full => migrated(),
        DumpState::WithoutData => {
            (Outcome::Adapted, "The archive has its tables without rows.".into())
        }
        DumpState::Placeholder => (Outcome::Adapted, "The archive has its name only.".into()),
        DumpState::Incomplete => (Outcome::Adapted, "Its dump in the archive is cut off.".into()),
    })
}

/// What is there now is dumped aside before it is replaced.
fn keep(work: &Work<'_>, database: &DatabaseName) -> Result<PathBuf> {
    let dir = layout::kept_dumps(work.job.id);
    Beneath::private_dir(&dir)?;
    let path = dir.join(format!("{database}.sql"));
    dump_to(database, &path)?;
    Ok(path)
}

/// Dumps a database into a file, whole or not at all; a file that is there already stays.
pub fn dump_to(database: &DatabaseName, path: &Path) -> Result<()> {
    let (root, rest) = Beneath::place(path)?;
    if root.stat(&rest)?.is_some() {
        return Ok(());
    }
    let new = rest.with_extension("new");
    root.remove(&new)?;
    let file = root.create(&new, Owner::root(0o600))?;
    run(Program::MariadbDump)
        .args(["--no-defaults", "--protocol=socket", "--user=root", "--single-transaction"])
        .args(["--routines", "--triggers", "--events", "--hex-blob", "--quick"])
        .args(["--default-character-set=utf8mb4", "--", database.as_str()])
        .stdout_to(file.try_clone()?)
        .limit(LOAD_LIMIT)
        .ok()?;
    file.sync_all()?;
    root.rename(&new, &root, &rest)
}

/// A client of a call that died may still hold the tables.
fn end_loading(account: &Username) -> Result<()> {
    let user = definer(account)?;
    if !has_user(user.as_str())? {
        return Ok(());
    }
    execute(&format!("KILL HARD USER {};", at_localhost(user.as_str())))
}

fn make_empty(
    database: &DatabaseName,
    charset: Option<&str>,
    collation: Option<&str>,
) -> Result<()> {
    let name = name(database.as_str());
    let mut sql = format!("DROP DATABASE IF EXISTS {name};\nCREATE DATABASE {name}");
    let word = |w: &&str| w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if let Some(charset) = charset.filter(word) {
        sql.push_str(&format!(" CHARACTER SET {}", mariadb_charset(charset)));
    }
    if let Some(collation) = collation.filter(word) {
        let known = cpanel::sql::collation(collation).unwrap_or(collation);
        sql.push_str(&format!(" COLLATE {known}"));
    }
    execute(&format!("{sql};"))
}

fn mariadb_charset(charset: &str) -> &str {
    if charset.eq_ignore_ascii_case("utf8mb3") { "utf8" } else { charset }
}

/// How long a dump may take: a quarter of an hour, and a second for each 256 KiB. Its statements could
/// compute for ever, and could lift any limit that MariaDB sets for a session.
fn load_limit(bytes: u64) -> Duration {
    LOAD_LIMIT.min(Duration::from_secs(15 * 60 + bytes / (256 << 10)))
}

/// Events come switched off: each would go on running as nobody's login.
fn switch_off_events(database: &DatabaseName, account: &Username) -> Result<usize> {
    let sql = "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' AND EVENT_SCHEMA = ";
    let rows = mariadb::query(&format!("{sql}{};", text(database.as_str())))?;
    let who = at_localhost(definer(account)?.as_str());
    for event in rows.iter().flatten() {
        let (database, event) = (name(database.as_str()), name(event));
        execute(&format!("ALTER DEFINER = {who} EVENT {database}.{event} DISABLE;"))?;
    }
    Ok(rows.len())
}

/// Loads the dump as the account's definer, whose rights end at this database.
fn load(
    work: &mut Work<'_>,
    (database, bytes): (&DatabaseName, u64),
    source: &DatabaseName,
) -> Result<()> {
    unpack::ensure(work)?;
    let dumps = Beneath::open(layout::staging(work.job.id))?.dir(unpack::DUMPS)?;
    if dumps.stat(source.as_str())?.is_none() {
        return Ok(());
    }
    let person = work.person()?;
    let (user, password) = open_definer(work, database)?;
    let who = at_localhost(user.as_str());
    let job = work.job;
    let check = || job.check();
    let mut filtered = Filtered::open(dumps.file(source.as_str())?, &user, &check)?;
    let loaded = mariadb::client(user.as_str())
        .arg(BEFORE_DUMP)
        .arg("--max-allowed-packet=1G")
        .arg(format!("--database={database}"))
        .ids(person.uid, person.gid)
        .secret("MYSQL_PWD", password)
        .stdin_from(&mut filtered)
        .stopped_by(job.stop)
        .limit(load_limit(bytes))
        .output();
    // A statement goes on without its client; nothing of the dump may outlive the call.
    execute(&format!("ALTER USER {who} ACCOUNT LOCK;\nKILL HARD USER {who};"))?;
    work.job.check()?;
    if let Some(why) = filtered.refusal() {
        return Err(dump_refused(source, why));
    }
    let loaded = loaded?;
    if loaded.success() {
        return Ok(());
    }
    let why = format!("MariaDB says: {}", mariadb::complaint(&loaded));
    Err(dump_refused(source, &why).because(loaded.complaint()))
}

fn dump_refused(database: &DatabaseName, why: &str) -> Error {
    let why = why.trim_end_matches('.');
    let text = format!(
        "The dump of {database} was not loaded: {why}. Export this database again with mysqldump or \
         phpMyAdmin, put that dump into the archive and analyze it again, or migrate without this \
         database."
    );
    Error::new("dump_refused", text)
}

/// The definer may log in while a dump is loaded, with a password that only this call knows.
fn open_definer(work: &mut Work<'_>, database: &DatabaseName) -> Result<(DatabaseUser, Secret)> {
    let user = definer(work.user())?;
    if !has_user(user.as_str())? {
        work.record(Effect::DatabaseUser { name: user.clone(), old: None })?;
    }
    let who = at_localhost(user.as_str());
    let password = Secret::new(hex::encode(rand::random::<[u8; 24]>()));
    let via = format!("IDENTIFIED BY {}", text(password.reveal()));
    execute(&format!(
        "CREATE USER IF NOT EXISTS {who} {via} ACCOUNT LOCK;\n\
         ALTER USER {who} {via} ACCOUNT UNLOCK;\n\
         GRANT ALL PRIVILEGES ON {}.* TO {who};",
        pattern(database)
    ))?;
    Ok((user, password))
}

/// Makes a database user with the old password.
pub fn user(work: &mut Work<'_>, operation: &Operation) -> Result<Done> {
    let Resource::DatabaseUser { name: new, source, .. } = &operation.resource else {
        return Err(Error::internal("not a database user"));
    };
    if new.as_str().ends_with(DEFINER) {
        let text = format!("Names that end in {DEFINER} are the server's own.");
        return Ok((Outcome::NotTransferred, text));
    }
    let ours = work.done().any(|e| matches!(e, Effect::DatabaseUser { name, .. } if name == new));
    if !ours {
        let old = mariadb::user_statements(new)?;
        if old.is_some() && operation.action == Action::Merge {
            return Ok((Outcome::Adapted, "The user was there and stays as it is.".to_owned()));
        }
        work.record(Effect::DatabaseUser { name: new.clone(), old })?;
    }
    let known = work.account.database_users.iter().find(|u| u.name == *source);
    let who = at_localhost(new.as_str());
    match known.map(|u| &u.auth) {
        Some(DatabaseAuth::Native(hash)) => {
            // The text has been checked when it was read; it is quoted all the same.
            let hash = text(hash.reveal());
            let via = format!("IDENTIFIED VIA mysql_native_password USING {hash}");
            execute(&format!("CREATE USER IF NOT EXISTS {who} {via};\nALTER USER {who} {via};"))?;
            Ok(migrated())
        }
        _ => {
            let made = appconfig::new_passwords(work.job, &work.begun.plan)?;
            let Some(password) = made.get(source.as_str()) else {
                return Err(Error::internal(format!("no new password for {source}")));
            };
            let via = format!("IDENTIFIED BY {}", text(password.reveal()));
            execute(&format!("CREATE USER IF NOT EXISTS {who} {via};\nALTER USER {who} {via};"))?;
            let files = unpack::ensure(work)?.passwords.remove(source.as_str()).unwrap_or_default();
            let text = "MariaDB cannot verify its old password: it got a new one";
            let text = match files.is_empty() {
                true => format!(
                    "{text}, and no configuration file names it: set a password for it where it is used."
                ),
                false => format!("{text}, which stands in {} now.", files.join(", ")),
            };
            Ok((Outcome::Adapted, text))
        }
    }
}

/// Gives a user its rights on a database.
pub fn grant(work: &mut Work<'_>, resource: &Resource) -> Result<Done> {
    let Resource::Grant { user, database, privileges } = resource else {
        return Err(Error::internal("not a grant"));
    };
    let exists = |p: &&str| *p == "ALL PRIVILEGES" || PRIVILEGES.contains(p);
    let known: BTreeSet<&str> = privileges.iter().map(String::as_str).filter(exists).collect();
    if known.is_empty() || user.as_str().ends_with(DEFINER) {
        return Ok((Outcome::NotTransferred, "None of these rights exists here.".to_owned()));
    }
    let ours = work.done().any(
        |e| matches!(e, Effect::Grants { user: u, database: d, .. } if u == user && d == database),
    );
    if !ours {
        let old = mariadb::grant_statements(user, database)?;
        work.record(Effect::Grants { user: user.clone(), database: database.clone(), old })?;
    }
    let list = known.iter().copied().collect::<Vec<_>>().join(", ");
    let who = at_localhost(user.as_str());
    execute(&format!("GRANT {list} ON {}.* TO {who};", pattern(database)))?;
    if known.len() < privileges.len() {
        return Ok((Outcome::Adapted, format!("Only {list} exist here.")));
    }
    Ok(migrated())
}

/// Takes an effect on MariaDB back.
pub fn undo(what: &Effect, account: &Username) -> Result<()> {
    match what {
        Effect::Database { name: database, kept } => {
            undo_database(database, kept.as_deref(), account)
        }
        Effect::DatabaseUser { name, old } => {
            let who = at_localhost(name.as_str());
            let mut sql = format!("DROP USER IF EXISTS {who};\n");
            for statement in old.iter().flatten() {
                sql.push_str(&format!("{statement};\n"));
            }
            execute(&sql)
        }
        Effect::Grants { user, database, old } => {
            if !has_user(user.as_str())? {
                return Ok(());
            }
            let who = at_localhost(user.as_str());
            let on = pattern(database);
            if !mariadb::grant_statements(user, database)?.is_empty() {
                execute(&format!("REVOKE ALL PRIVILEGES ON {on}.* FROM {who};"))?;
            }
            old.iter().try_for_each(|statement| execute(&format!("{statement};")))
        }
        _ => Ok(()),
    }
}

fn undo_database(database: &DatabaseName, kept: Option<&Path>, account: &Username) -> Result<()> {
    let quoted = name(database.as_str());
    let Some(kept) = kept else {
        end_loading(account)?;
        // The definer's rights on it go with it, or the next of that name would have them.
        let definer = definer(account)?;
        if has_user(definer.as_str())? && !mariadb::grant_statements(&definer, database)?.is_empty()
        {
            let who = at_localhost(definer.as_str());
            execute(&format!("REVOKE ALL PRIVILEGES ON {}.* FROM {who};", pattern(database)))?;
        }
        return execute(&format!("DROP DATABASE IF EXISTS {quoted};"));
    };
    execute(&format!("DROP DATABASE IF EXISTS {quoted};\nCREATE DATABASE {quoted};"))?;
    let (root, rest) = Beneath::place(kept)?;
    // Our own dump, whose definers are as they were: root may name them.
    mariadb::client("root")
        .arg(BEFORE_DUMP)
        .arg(format!("--database={database}"))
        .stdin_from(&mut root.file(rest)?)
        .limit(LOAD_LIMIT)
        .ok()
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_dump_is_named_with_the_reason() {
        let error = dump_refused(&DatabaseName::parse("shop_wp").unwrap(), "it is cut off.");
        assert_eq!(error.code(), "dump_refused");
        assert!(
            error.to_string().starts_with("The dump of shop_wp was not loaded: it is cut off.")
        );
    }
}
