//! A first look at an archive and the server, before anything is read in full. Writes nothing.

use crate::error::{Error, Result};
use crate::health;
use crate::layout;
use crate::people;
use crate::source;
use crate::stamp::Stamp;
use cpanel::peek::peek;
use cpanel::protocol::{Check, CheckStatus, Format, InspectReport, Source};
use values::Username;

/// Checks the archive, the user's name, the space and the services; one line each. Fails only when
/// the path may not even be looked at.
pub fn inspect(source: &Source) -> Result<InspectReport> {
    let mut report = InspectReport { checks: Vec::new(), format: None, size_bytes: 0 };
    if archive(source, &mut report)? {
        structure(source, &mut report)?;
    }
    report.checks.push(user(&source.target_user)?);
    report.checks.push(space(report.size_bytes)?);
    services(&mut report.checks)?;
    Ok(report)
}

fn check(name: impl Into<String>, status: CheckStatus, message: impl Into<String>) -> Check {
    Check { name: name.into(), status, message: message.into() }
}

/// Whether the archive is there and may be opened.
fn archive(source: &Source, report: &mut InspectReport) -> Result<bool> {
    let seen = Stamp::of(source);
    match seen {
        Ok(stamp) => {
            report.size_bytes = stamp.size();
            let text = format!("{} is there, {} bytes.", source.path, stamp.size());
            report.checks.push(check("archive_exists", CheckStatus::Pass, text));
            Ok(true)
        }
        Err(e) if e.code() == "path_outside_backup_dirs" => Err(e),
        Err(e) => {
            report.checks.push(check("archive_exists", CheckStatus::Fail, e.to_string()));
            Ok(false)
        }
    }
}

fn structure(source: &Source, report: &mut InspectReport) -> Result<()> {
    let seen = match peek(source::open(source)?) {
        Ok(seen) => seen,
        Err(e) => {
            let name = if e.code() == "not_an_archive" { "magic" } else { "structure" };
            report.checks.push(check(name, CheckStatus::Fail, e.to_string()));
            return Ok(());
        }
    };
    report.format = seen.format;
    let kind = match seen.format {
        Some(Format::Cpmove) => "a compressed cpmove archive",
        Some(Format::Cpbackup) => "a compressed full backup",
        Some(Format::Uncompressed) => "an uncompressed tar archive",
        Some(Format::Directory) => "an unpacked account",
        None => "an archive",
    };
    report.checks.push(check("magic", CheckStatus::Pass, format!("It is {kind}.")));
    let line = match seen.user {
        None => {
            let text = "The account's record is not among its first members; analysis will tell.";
            check("structure", CheckStatus::Warn, text)
        }
        Some(name) => match Username::parse(&name) {
            Ok(name) => {
                let text = format!("It holds the cPanel account {name}.");
                check("structure", CheckStatus::Pass, text)
            }
            Err(invalid) => {
                let text =
                    format!("The account's name {name:?} is none of cPanel's: the {invalid}.");
                check("structure", CheckStatus::Fail, text)
            }
        },
    };
    report.checks.push(line);
    Ok(())
}

fn user(name: &Username) -> Result<Check> {
    let id = "user_name";
    if name.is_reserved() {
        let text = format!("{name} is a name of the system: choose another target user.");
        return Ok(check(id, CheckStatus::Fail, text));
    }
    Ok(match people::user(name.as_str())? {
        None => {
            check(id, CheckStatus::Pass, format!("The user name {name} is free on the server."))
        }
        Some(person) if people::is_account(&person)? => {
            let text =
                format!("A hosting account {name} is on the server: the archive would go into it.");
            check(id, CheckStatus::Warn, text)
        }
        Some(_) => {
            let text = format!("{name} is another user of the server: choose another target user.");
            check(id, CheckStatus::Fail, text)
        }
    })
}

/// Text and databases unpack to some times their packed size; the real size is known after analysis.
fn space(size: u64) -> Result<Check> {
    let free = free_bytes()?;
    let wanted = size.saturating_mul(4);
    let id = "disk_space";
    Ok(if free >= wanted {
        check(id, CheckStatus::Pass, format!("{} MiB are free for homes.", free >> 20))
    } else {
        let text = format!(
            "Only {} MiB are free for homes; the archive has {} MiB and unpacks to some times that: free some space.",
            free >> 20,
            size >> 20
        );
        check(id, CheckStatus::Warn, text)
    })
}

/// Free bytes where homes live.
pub fn free_bytes() -> Result<u64> {
    let stat = rustix::fs::statvfs(layout::HOMES).map_err(Error::at(layout::HOMES))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Services that a restore cannot do without.
const NEEDED: &[&str] = &["apache", "dovecot", "exim", "mariadb", "php-fpm"];

fn services(checks: &mut Vec<Check>) -> Result<()> {
    let running = health::services()?;
    for name in NEEDED {
        let id = format!("service_{}", name.replace('-', "_"));
        checks.push(if running.get(*name).copied().unwrap_or(false) {
            check(id, CheckStatus::Pass, format!("{name} is running."))
        } else {
            let text = format!(
                "{name} is not running: start it on the server, or enrol the server again."
            );
            check(id, CheckStatus::Fail, text)
        });
    }
    Ok(())
}
