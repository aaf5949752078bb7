//! Databases, their users and rights.

use super::load::{self, BEFORE_DUMP, LOAD_LIMIT, Load};
use super::{Done, migrated};
use crate::beneath::{Beneath, Owner};
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::journal::Effect;
use crate::mariadb::{self, Standing, at_localhost, execute, has_user, name, pattern, text};
use crate::program::{Program, run};
use crate::{appconfig, layout, space, unpack};
use cpanel::account::{DatabaseAuth, DumpState};
use cpanel::plan::{Action, Operation, PRIVILEGES, Resource};
use cpanel::protocol::{ItemReport, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use values::{DatabaseName, DatabaseUser};

/// The end of the names of our own users; no account may have such a user.
const DEFINER: &str = ".definer";

/// The locked user that a database's views run as, and that loads its dump: it has rights on this
/// database and on nothing else.
pub fn definer(database: &DatabaseName) -> Result<DatabaseUser> {
    Ok(DatabaseUser::parse(&format!("{database}{DEFINER}"))?)
}

/// Carries out the whole step. MariaDB is asked and told many things at once: each of its clients
/// takes longer to start than its statement takes.
pub fn restore(work: &mut Work<'_>, operations: &[&Operation]) -> Result<Vec<ItemReport>> {
    let mut items = load_all(work, operations)?;
    let standing = mariadb::standing()?;
    let mut sql = String::new();
    for operation in operations {
        work.begin(operation);
        let (outcome, detail) = match &operation.resource {
            Resource::DatabaseUser { .. } => user(work, operation, &standing, &mut sql)?,
            Resource::Grant { .. } => grant(work, operation, &standing, &mut sql)?,
            _ => continue,
        };
        items.push(ItemReport { id: operation.id.clone(), outcome, detail });
    }
    work.job.check()?;
    execute(&sql)?;
    Ok(items)
}

/// Makes the databases and loads their dumps.
fn load_all(work: &mut Work<'_>, operations: &[&Operation]) -> Result<Vec<ItemReport>> {
    let standing = mariadb::standing()?;
    let mut sql = String::new();
    let mut items = Vec::new();
    let mut loads = Vec::new();
    let mut made = Vec::new();
    for operation in operations {
        let Resource::Database { name, source, bytes, .. } = &operation.resource else { continue };
        work.job.check()?;
        space::check()?;
        work.begin(operation);
        let (outcome, detail) = match prepare(work, operation, &standing, &mut sql)? {
            Some(done) => done,
            None => {
                loads.push(Load { name: name.clone(), source: source.clone(), bytes: *bytes });
                made.push((items.len(), name.clone()));
                loaded(work, source)
            }
        };
        items.push(ItemReport { id: operation.id.clone(), outcome, detail });
    }
    execute(&sql)?;
    load::load(work, loads, &standing)?;
    let events = switch_off_events(&made)?;
    for (at, database) in made {
        let count = events.get(database.as_str()).copied().unwrap_or(0);
        if let Some(item) = items.get_mut(at).filter(|_| count > 0) {
            item.outcome = Outcome::Adapted;
            let also = format!("{count} events are there, but switched off. {}", item.detail);
            item.detail = also.trim_end().to_owned();
        }
    }
    Ok(items)
}

/// Events come switched off: each would go on running as nobody's login. Gives how many, by database.
fn switch_off_events(made: &[(usize, DatabaseName)]) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    if made.is_empty() {
        return Ok(counts);
    }
    let rows = mariadb::query(&format!(
        "SELECT EVENT_SCHEMA, EVENT_NAME, SQL_MODE, TIME_ZONE, CHARACTER_SET_CLIENT, \
         COLLATION_CONNECTION FROM information_schema.EVENTS \
         WHERE STATUS = 'ENABLED' AND EVENT_SCHEMA IN {};",
        mariadb::list(made.iter().map(|(_, name)| name))
    ))?;
    let mut sql = String::new();
    for row in &rows {
        let [database, event, mode, zone, charset, collation] = row.as_slice() else { continue };
        let who = at_localhost(definer(&DatabaseName::parse(database)?)?.as_str());
        let (schema, quoted) = (name(database), name(event));
        // An event that is altered takes over what the session has. A name that is not ASCII would be
        // read by the event's character set, and not be found.
        let charset = if event.is_ascii() { charset.as_str() } else { "utf8mb4" };
        sql.push_str(&format!(
            "SET sql_mode = {}, time_zone = {}, character_set_client = {}, collation_connection = {};\n\
             ALTER DEFINER = {who} EVENT {schema}.{quoted} DISABLE;\n\
             SET NAMES utf8mb4;\n",
            text(mode),
            text(zone),
            text(charset),
            text(collation),
        ));
        let count: &mut u64 = counts.entry(database.clone()).or_default();
        *count = count.saturating_add(1);
    }
    execute(&sql)?;
    Ok(counts)
}

/// Makes an empty database, with what is added to `sql`; or says what was done when nothing is to be
/// loaded.
fn prepare(
    work: &mut Work<'_>,
    operation: &Operation,
    standing: &Standing,
    sql: &mut String,
) -> Result<Option<Done>> {
    let Resource::Database { name: new, charset, collation, .. } = &operation.resource else {
        return Err(Error::internal("not a database"));
    };
    let ours = work.done().any(|e| matches!(e, Effect::Database { name, .. } if name == new));
    let stands = standing.databases.contains(new.as_str());
    match (stands, ours, operation.action) {
        (true, false, Action::Merge) => {
            let text = "The database was there and stays as it is.";
            return Ok(Some((Outcome::Adapted, text.to_owned())));
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
    // A client of a call that died may still hold the tables.
    let loader = definer(new)?;
    if standing.users.contains(loader.as_str()) {
        sql.push_str(&format!("KILL HARD USER {};\n", at_localhost(loader.as_str())));
    }
    sql.push_str(&make_empty(new, charset.as_deref(), collation.as_deref()));
    Ok(None)
}

/// What is to be said of a database once its dump is loaded.
fn loaded(work: &Work<'_>, source: &DatabaseName) -> Done {
    let known = work.account.databases.iter().find(|d| d.name == *source);
    match known.map_or(DumpState::Placeholder, |d| d.dump) {
        DumpState::Full => migrated(),
        DumpState::WithoutData => {
            (Outcome::Adapted, "The archive has its tables without rows.".into())
        }
        DumpState::Placeholder => (Outcome::Adapted, "The archive has its name only.".into()),
        DumpState::Incomplete => (Outcome::Adapted, "Its dump in the archive is cut off.".into()),
    }
}

/// What is there now is dumped aside before it is replaced.
fn keep(work: &Work<'_>, database: &DatabaseName) -> Result<PathBuf> {
    let dir = layout::kept_dumps(work.job.id);
    Beneath::private_dir(&dir)?;
    let path = dir.join(format!("{database}.sql"));
    // With its character set, which is not part of its content.
    dump(database, &path, &["--databases", "--add-drop-database"])?;
    Ok(path)
}

/// Dumps a database's content into a file, whole or not at all; a file that is there already stays.
pub fn dump_to(database: &DatabaseName, path: &Path) -> Result<()> {
    dump(database, path, &[])
}

fn dump(database: &DatabaseName, path: &Path, how: &[&str]) -> Result<()> {
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
        .args(how)
        .args(["--default-character-set=utf8mb4", "--", database.as_str()])
        .stdout_to(file.try_clone()?)
        .limit(LOAD_LIMIT)
        .ok()?;
    file.sync_all()?;
    root.rename(&new, &root, &rest)
}

/// A client of a call that died may still hold the tables.
fn end_loading(database: &DatabaseName) -> Result<()> {
    let user = definer(database)?;
    if !has_user(user.as_str())? {
        return Ok(());
    }
    execute(&format!("KILL HARD USER {};", at_localhost(user.as_str())))
}

fn make_empty(database: &DatabaseName, charset: Option<&str>, collation: Option<&str>) -> String {
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
    sql + ";\n"
}

fn mariadb_charset(charset: &str) -> &str {
    if charset.eq_ignore_ascii_case("utf8mb3") { "utf8" } else { charset }
}

/// Makes a database user with the old password.
fn user(
    work: &mut Work<'_>,
    operation: &Operation,
    standing: &Standing,
    sql: &mut String,
) -> Result<Done> {
    let Resource::DatabaseUser { name: new, source, .. } = &operation.resource else {
        return Err(Error::internal("not a database user"));
    };
    if new.as_str().ends_with(DEFINER) {
        let text = format!("Names that end in {DEFINER} are the server's own.");
        return Ok((Outcome::NotTransferred, text));
    }
    let ours = work.done().any(|e| matches!(e, Effect::DatabaseUser { name, .. } if name == new));
    if !ours {
        let stands = standing.users.contains(new.as_str());
        let old = if stands { mariadb::user_statements(new)? } else { None };
        if old.is_some() && operation.action == Action::Merge {
            return Ok((Outcome::Adapted, "The user was there and stays as it is.".to_owned()));
        }
        work.record(Effect::DatabaseUser { name: new.clone(), old })?;
    }
    let known = work.account.database_users.iter().find(|u| u.name == *source);
    let who = at_localhost(new.as_str());
    let lock = if work.begun.plan.suspended { "ACCOUNT LOCK" } else { "ACCOUNT UNLOCK" };
    match known.map(|u| &u.auth) {
        Some(DatabaseAuth::Native(hash)) => {
            // The text has been checked when it was read; it is quoted all the same.
            let hash = text(hash.reveal());
            let via = format!("IDENTIFIED VIA mysql_native_password USING {hash}");
            sql.push_str(&format!(
                "CREATE USER IF NOT EXISTS {who} {via} {lock};\nALTER USER {who} {via} {lock};\n"
            ));
            if work.begun.plan.suspended {
                let text = "It is locked, since the account is suspended.";
                return Ok((Outcome::Disabled, text.to_owned()));
            }
            Ok(migrated())
        }
        _ => {
            let made = appconfig::new_passwords(work.job, &work.begun.plan)?;
            let Some(password) = made.get(source.as_str()) else {
                return Err(Error::internal(format!("no new password for {source}")));
            };
            let via = format!("IDENTIFIED BY {}", text(password.reveal()));
            sql.push_str(&format!(
                "CREATE USER IF NOT EXISTS {who} {via} {lock};\nALTER USER {who} {via} {lock};\n"
            ));
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
fn grant(
    work: &mut Work<'_>,
    operation: &Operation,
    standing: &Standing,
    sql: &mut String,
) -> Result<Done> {
    let Resource::Grant { user, database, privileges } = &operation.resource else {
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
        let old = match standing.users.contains(user.as_str()) {
            true => mariadb::grant_statements(user, database)?,
            false => Vec::new(),
        };
        work.record(Effect::Grants { user: user.clone(), database: database.clone(), old })?;
    }
    let list = known.iter().copied().collect::<Vec<_>>().join(", ");
    let who = at_localhost(user.as_str());
    let on = pattern(database);
    let stands = standing.users.contains(user.as_str());
    if operation.action == Action::Replace
        && stands
        && !mariadb::grant_statements(user, database)?.is_empty()
    {
        sql.push_str(&format!("REVOKE ALL PRIVILEGES ON {on}.* FROM {who};\n"));
    }
    sql.push_str(&format!("GRANT {list} ON {on}.* TO {who};\n"));
    if known.len() < privileges.len() {
        return Ok((Outcome::Adapted, format!("Only {list} exist here.")));
    }
    Ok(migrated())
}

/// Takes an effect on MariaDB back.
pub fn undo(what: &Effect) -> Result<()> {
    match what {
        Effect::Database { name: database, kept } => undo_database(database, kept.as_deref()),
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

fn undo_database(database: &DatabaseName, kept: Option<&Path>) -> Result<()> {
    let quoted = name(database.as_str());
    let Some(kept) = kept else {
        end_loading(database)?;
        let definer = at_localhost(definer(database)?.as_str());
        let sql = format!("DROP DATABASE IF EXISTS {quoted};\nDROP USER IF EXISTS {definer};");
        return execute(&sql);
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
