//! Dumps on their way into MariaDB, some side by side. A dump is loaded by a user that has rights on
//! its one database and on nothing else; the same user, locked, is the definer of that database's
//! views and routines afterwards.

use super::databases::definer;
use crate::beneath::Beneath;
use crate::dump::Filtered;
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::guard::Stop;
use crate::journal::Effect;
use crate::mariadb::{self, Standing, at_localhost, execute, pattern, text};
use crate::people::Person;
use crate::{layout, space, unpack};
use cpanel::secret::Secret;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use values::DatabaseName;

/// What a dump may not change, and what MariaDB 10.11 is stricter about than the servers it is from.
pub const BEFORE_DUMP: &str = "--init-command=SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO', \
                               foreign_key_checks=0, unique_checks=0";
pub const LOAD_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Dumps that are loaded at once, and so connections to MariaDB.
const AT_ONCE: usize = 4;
/// How often whoever waits for a dump looks whether the job may go on.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A database that is there, empty, and the one whose dump goes into it.
pub struct Load {
    pub name: DatabaseName,
    pub source: DatabaseName,
    /// Of the dump, unpacked.
    pub bytes: u64,
}

/// How long a dump may take: a quarter of an hour, and a second for each 256 KiB. Its statements could
/// compute for ever, and could lift any limit that MariaDB sets for a session.
fn load_limit(bytes: u64) -> Duration {
    LOAD_LIMIT.min(Duration::from_secs(15 * 60 + bytes / (256 << 10)))
}

/// How long one statement of a dump may take: a minute, and a second for each MiB of the dump, for
/// indices that are made at the end. The filter leaves out what would lift it.
fn statement_limit(bytes: u64) -> u64 {
    load_limit(bytes).as_secs().min(60 + (bytes >> 20))
}

/// Loads the dumps, the longest first.
pub fn load(work: &mut Work<'_>, loads: Vec<Load>, standing: &Standing) -> Result<()> {
    if loads.is_empty() {
        return Ok(());
    }
    unpack::ensure(work)?;
    let dumps = Beneath::open(layout::staging(work.job.id))?.dir(unpack::DUMPS)?;
    let mut files: Vec<(i64, File, Load)> = Vec::new();
    for load in loads {
        if let Some(stat) = dumps.stat(load.source.as_str())? {
            files.push((stat.st_size, dumps.file(load.source.as_str())?, load));
        }
    }
    files.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
    if files.is_empty() {
        return Ok(());
    }
    let password = Secret::new(hex::encode(rand::random::<[u8; 24]>()));
    let names: Vec<DatabaseName> = files.iter().map(|(.., load)| load.name.clone()).collect();
    open_definers(work, &names, &password, standing)?;
    let at_once = thread::available_parallelism().map_or(1, usize::from).clamp(1, AT_ONCE);
    let loader = Loader {
        at_once: at_once.min(files.len()),
        person: work.person()?,
        password,
        waiting: Mutex::new(files.into_iter().map(|(_, file, load)| (file, load)).collect()),
        halted: Stop::default(),
    };
    let outcome = loader.run(work);
    lock_definers(&names)?;
    work.job.check()?;
    outcome
}

struct Loader {
    at_once: usize,
    person: Person,
    password: Secret,
    waiting: Mutex<VecDeque<(File, Load)>>,
    /// Set when a dump failed or the job must stop: the others need not go on.
    halted: Stop,
}

impl Loader {
    fn run(&self, work: &Work<'_>) -> Result<()> {
        thread::scope(|scope| {
            let (done, ended) = channel();
            for _ in 0..self.at_once {
                let done = done.clone();
                scope.spawn(move || {
                    // Nobody waits only when this whole call has ended.
                    drop(done.send(self.load_waiting()));
                });
            }
            drop(done);
            let mut outcome = Ok(());
            loop {
                match ended.recv_timeout(LOOK_EVERY) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        self.halted.set();
                        // What others say who were halted is no reason.
                        if outcome.is_ok() {
                            outcome = Err(error);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return outcome,
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(error) = work.job.check() {
                            self.halted.set();
                            outcome = Err(error);
                        }
                    }
                }
            }
        })
    }

    fn load_waiting(&self) -> Result<()> {
        loop {
            let next = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((file, load)) = next else { return Ok(()) };
            self.check()?;
            self.load_one(file, &load)?;
        }
    }

    fn check(&self) -> Result<()> {
        self.halted.check()?;
        space::check()
    }

    fn load_one(&self, file: File, load: &Load) -> Result<()> {
        let check = || self.check();
        let user = definer(&load.name)?;
        let mut filtered = Filtered::open(file, &user, &check)?;
        let loaded = mariadb::client(user.as_str())
            .arg(format!("{BEFORE_DUMP}, max_statement_time={}", statement_limit(load.bytes)))
            // Else those inside routines, too, would go.
            .arg("--comments")
            .arg("--max-allowed-packet=1G")
            .arg(format!("--database={}", load.name))
            .ids(self.person.uid, self.person.gid)
            .secret("MYSQL_PWD", self.password.clone())
            .stdin_from(&mut filtered)
            .stopped_by(&self.halted)
            .limit(load_limit(load.bytes))
            .output();
        check()?;
        if let Some(why) = filtered.refusal() {
            return Err(dump_refused(&load.source, why));
        }
        let loaded = loaded?;
        if loaded.success() {
            return Ok(());
        }
        // A server that went is not the dump's fault.
        mariadb::query("SELECT 1")?;
        let why = format!("MariaDB says: {}", mariadb::complaint(&loaded));
        Err(dump_refused(&load.source, &why).because(loaded.complaint()))
    }
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

/// The definers may log in while dumps are loaded, with a password that only this call knows.
fn open_definers(
    work: &mut Work<'_>,
    names: &[DatabaseName],
    password: &Secret,
    standing: &Standing,
) -> Result<()> {
    let via = format!("IDENTIFIED BY {}", text(password.reveal()));
    let mut sql = String::new();
    for name in names {
        let user = definer(name)?;
        if !standing.users.contains(user.as_str()) {
            work.record(Effect::DatabaseUser { name: user.clone(), old: None })?;
        }
        let who = at_localhost(user.as_str());
        sql.push_str(&format!(
            "CREATE USER IF NOT EXISTS {who} {via} ACCOUNT LOCK;\n\
             ALTER USER {who} {via} ACCOUNT UNLOCK;\n\
             GRANT ALL PRIVILEGES ON {}.* TO {who};\n",
            pattern(name)
        ));
    }
    execute(&sql)
}

fn lock_definers(names: &[DatabaseName]) -> Result<()> {
    let mut sql = String::new();
    for name in names {
        let who = at_localhost(definer(name)?.as_str());
        // A statement goes on without its client; nothing of a dump may outlive the call.
        sql.push_str(&format!("ALTER USER {who} ACCOUNT LOCK;\nKILL HARD USER {who};\n"));
    }
    execute(&sql)
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
