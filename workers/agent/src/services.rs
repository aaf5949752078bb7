//! The services of the layout: their configuration is checked before they read it, and they read it
//! once. That a service must read its configuration again is noted on the disk before a file of it
//! changes, so that a crash in between is made good by the next call. Each job has notes of its own:
//! one that reads another's note early would let the other's change go unread.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::guard;
use crate::layout;
use crate::program::{Program, Run, run};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// A service whose configuration we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    PhpFpm,
    Apache,
    MariaDb,
    Dovecot,
    Exim,
    Ssh,
}

impl Service {
    const ALL: [Self; 6] =
        [Self::PhpFpm, Self::Apache, Self::MariaDb, Self::Dovecot, Self::Exim, Self::Ssh];

    const fn unit(self) -> &'static str {
        match self {
            Self::PhpFpm => "php8.2-fpm.service",
            Self::Apache => "apache2.service",
            Self::MariaDb => "mariadb.service",
            Self::Dovecot => "dovecot.service",
            Self::Exim => "exim4.service",
            Self::Ssh => "ssh.service",
        }
    }

    fn check(self) -> Option<Run<'static>> {
        match self {
            Self::PhpFpm => Some(run(Program::PhpFpm82).arg("-t")),
            Self::Apache => Some(run(Program::ApacheCtl).arg("configtest")),
            Self::MariaDb => None,
            Self::Dovecot => Some(run(Program::Doveconf).arg("-n")),
            Self::Exim => Some(run(Program::Exim).arg("-bV")),
            Self::Ssh => Some(run(Program::Sshd).arg("-t")),
        }
    }
}

/// Whose notes: a job's id, or this for enrolment.
pub const ENROLMENT: Uuid = Uuid::nil();

fn notes(whose: Uuid) -> PathBuf {
    PathBuf::from(layout::STATE).join("reload").join(whose.to_string())
}

/// Notes that the service must read its configuration again. Called before the change.
pub fn will_change(service: Service, whose: Uuid) -> Result<()> {
    let dir = Beneath::private_dir(&notes(whose))?;
    if dir.stat(service.unit())?.is_none() {
        dir.write(service.unit(), b"", Owner::root(0o600))?;
    }
    Ok(())
}

/// Fails with what the service's own check says when it would not accept its configuration.
pub fn check(service: Service) -> Result<()> {
    let Some(check) = service.check() else { return Ok(()) };
    let output = check.output()?;
    if output.success() {
        return Ok(());
    }
    let text = format!("The new configuration of {} is not accepted by it.", service.unit());
    Err(Error::new("configuration_refused", text).because(output.complaint()))
}

/// The same for several, side by side: each program takes its time to read its configuration.
fn check_all(services: &[Service]) -> Result<()> {
    std::thread::scope(|scope| {
        let checks: Vec<_> =
            services.iter().map(|service| scope.spawn(|| check(*service))).collect();
        checks.into_iter().try_for_each(|check| {
            check.join().unwrap_or_else(|_| Err(Error::internal("a check of a service broke off")))
        })
    })
}

/// The SSH server starts itself anew when it reads its configuration, and refuses connections
/// meanwhile: the worker's next one must not be among them.
fn wait_for_ssh() -> Result<()> {
    let settings = run(Program::Sshd).arg("-T").ok()?.text();
    let port = settings.lines().find_map(|l| l.strip_prefix("port ")?.trim().parse().ok());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(22)));
    let mut greeted = 0_u8;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        greeted = if greets(&address) { greeted.saturating_add(1) } else { 0 };
        if greeted == 3 {
            break;
        }
    }
    Ok(())
}

fn greets(address: &SocketAddr) -> bool {
    let patience = Duration::from_secs(2);
    let mut greeting = [0_u8; 4];
    let heard = TcpStream::connect_timeout(address, patience).and_then(|mut stream| {
        stream.set_read_timeout(Some(patience))?;
        stream.read_exact(&mut greeting)
    });
    heard.is_ok() && greeting == *b"SSH-"
}

/// Which file of its process id Apache has now: it writes a new one each time that it has read its
/// configuration and opened its logs.
fn apache_generation() -> Option<(u64, i64, i64)> {
    let file = std::fs::metadata("/run/apache2/apache2.pid").ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Apache reads its configuration after the reload has returned. Until then it answers as before, and
/// loses a second signal.
fn wait_for_apache(before: Option<(u64, i64, i64)>) -> Result<()> {
    for _ in 0..6000 {
        if apache_generation() != before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = "Apache was told to read its configuration and has not done so within a minute: look \
                at /var/log/apache2/error.log.";
    Err(Error::new("apache_reload", text))
}

/// Lets every service that was noted read its configuration, and starts those that stand still.
pub fn apply_changes(whose: Uuid) -> Result<()> {
    let path = notes(whose);
    if !std::fs::exists(&path).map_err(Error::at(&path))? {
        return Ok(());
    }
    let dir = Beneath::open(&path)?;
    let mut noted = Vec::new();
    for service in Service::ALL {
        if dir.stat(service.unit())?.is_some() {
            noted.push(service);
        }
    }
    let _lock = guard::reading_configuration()?;
    check_all(&noted)?;
    // MariaDB reads its configuration when it starts only.
    let (restarted, reloaded): (Vec<Service>, Vec<Service>) =
        noted.iter().partition(|s| **s == Service::MariaDb);
    let before = apache_generation();
    for (verb, services) in [("restart", restarted), ("reload-or-restart", reloaded)] {
        if !services.is_empty() {
            let units = services.iter().map(|s| s.unit());
            run(Program::Systemctl).arg(verb).args(units).ok()?;
        }
    }
    if noted.contains(&Service::Ssh) {
        wait_for_ssh()?;
    }
    if noted.contains(&Service::Apache) {
        wait_for_apache(before)?;
    }
    let (root, rest) = Beneath::place(&path)?;
    root.remove(rest)
}
