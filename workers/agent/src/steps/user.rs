//! The account's system user.

use super::{Done, migrated};
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::journal::Effect;
use crate::layout;
use crate::people;
use crate::program::{Program, run};
use cpanel::plan::Action;
use cpanel::protocol::Outcome;
use std::time::Duration;
use values::Username;

/// Makes the user with the password's hash from the archive, without a login shell.
pub fn create(work: &mut Work<'_>, action: Action) -> Result<Done> {
    let name = work.user();
    if name.is_reserved() {
        let text = format!("{name} is a name of the system: choose another user name.");
        return Err(Error::new("reserved_user", text));
    }
    let ours = work.done().any(|e| matches!(e, Effect::User { .. }));
    let mut made = ours;
    match people::user(name.as_str())? {
        Some(person) if people::is_account(&person)? && !ours => {
            if action != Action::Replace {
                return Ok((Outcome::Adapted, "The account was there and is used.".to_owned()));
            }
            let known = work.done().any(|e| matches!(e, Effect::Password { .. }));
            if !known && work.account.password.hash().is_some() {
                let old = password(name)?;
                work.record(Effect::Password { user: name.clone(), old })?;
            }
        }
        Some(_) if !ours => {
            let text =
                format!("A user {name} that is no hosting account has appeared on the server.");
            return Err(Error::new("plan_changed", text));
        }
        // useradd was cut off between its files.
        Some(_) if people::group(name.as_str())?.is_none() => {
            remove(name)?;
            add(name)?;
        }
        Some(_) => {}
        None => {
            work.record(Effect::User { user: name.clone() })?;
            add(name)?;
            made = true;
        }
    }
    // Not by useradd: a death between the two is made good here.
    run(Program::UserMod).args(["-a", "-G", layout::ACCOUNT_GROUP, name.as_str()]).ok()?;
    let Some(hash) = work.account.password.hash() else {
        if made && work.begun.plan.suspended {
            let text = "The account is suspended: its login is locked.";
            return Ok((Outcome::Disabled, text.to_owned()));
        }
        return Ok((Outcome::Adapted, without_password(made).to_owned()));
    };
    set_password(name, hash.reveal())?;
    Ok(migrated())
}

/// What is said when no password was set: a new account is locked, an old one keeps what it has.
const fn without_password(made: bool) -> &'static str {
    if made {
        "The archive has no usable password: the account's login is locked."
    } else {
        "The account was there and is used."
    }
}

/// Gives the user this hash; a user that is gone needs none.
pub fn set_password(name: &Username, hash: &str) -> Result<()> {
    if people::user(name.as_str())?.is_none() {
        return Ok(());
    }
    let line = format!("{name}:{hash}\n");
    run(Program::ChPasswd).arg("-e").stdin(line.as_bytes()).ok().map(drop)
}

/// The password's hash of a user; `!` when there is none.
pub fn password(name: &Username) -> Result<String> {
    let path = "/etc/shadow";
    let text = std::fs::read_to_string(path).map_err(Error::at(path))?;
    let line = text.lines().find(|l| l.split(':').next() == Some(name.as_str()));
    let hash = line.and_then(|l| l.split(':').nth(1)).unwrap_or("!");
    Ok(hash.to_owned())
}

fn add(name: &Username) -> Result<()> {
    let range = layout::ACCOUNT_UIDS;
    run(Program::UserAdd)
        .args(["--no-create-home", "--user-group", "--shell", "/usr/sbin/nologin", "--home-dir"])
        .arg(name.home())
        .args([
            "-K",
            &format!("UID_MIN={}", range.start()),
            "-K",
            &format!("UID_MAX={}", range.end()),
        ])
        .args([
            "-K",
            &format!("GID_MIN={}", range.start()),
            "-K",
            &format!("GID_MAX={}", range.end()),
        ])
        .arg(name.as_str())
        .ok()
        .map(drop)
}

/// Removes the user, if it is an account, with its group and everything that still runs as it.
pub fn remove(name: &Username) -> Result<()> {
    if let Some(person) = people::user(name.as_str())? {
        if !layout::ACCOUNT_UIDS.contains(&person.uid) {
            return Err(Error::internal(format!("{name} is not one of our accounts")));
        }
        end_processes(person.uid)?;
        // A crontab would be that of the next user of this name.
        run(Program::Crontab).args(["-r", "-u", name.as_str()]).output()?;
        run(Program::UserDel).args(["--force", name.as_str()]).ok()?;
    }
    // userdel takes the group along, unless it was cut off, and so was useradd before the user.
    match people::group(name.as_str())? {
        Some((gid, _)) if layout::ACCOUNT_UIDS.contains(&gid) => {
            run(Program::GroupDel).arg(name.as_str()).ok().map(drop)
        }
        _ => Ok(()),
    }
}

/// Ends every process of the user, so that a later account with its number inherits none.
pub fn end_processes(uid: u32) -> Result<()> {
    for _ in 0..50 {
        let running = processes_of(uid)?;
        if running.is_empty() {
            return Ok(());
        }
        for pid in running {
            match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => return Err(e.into()),
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Error::new("processes_remain", "Processes of the account cannot be ended."))
}

fn processes_of(uid: u32) -> Result<Vec<rustix::process::Pid>> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
        let Some(pid) = number.and_then(rustix::process::Pid::from_raw) else { continue };
        // A process that ends meanwhile has no directory any more. The dead that nobody has waited
        // for run no longer.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let dead = status.lines().any(|l| l.starts_with("State:\tZ"));
        if !dead && entry.metadata().is_ok_and(|m| m.uid() == uid) {
            found.push(pid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_account_is_called_locked() {
        assert!(without_password(true).contains("no usable password"));
        assert!(!without_password(false).contains("password"));
    }
}
