//! What runs on the server, and what is free.

use crate::error::{Error, Result};
use crate::layout;
use crate::program::{Program, run};
use cpanel::protocol::Health;
use std::collections::BTreeMap;

/// The services of the hosting layout: as they are called to people, and as systemd calls them.
pub const SERVICES: &[(&str, &str)] = &[
    ("apache", "apache2.service"),
    ("cron", "cron.service"),
    ("dovecot", "dovecot.service"),
    ("exim", "exim4.service"),
    ("mariadb", "mariadb.service"),
    ("php-fpm", "php8.2-fpm.service"),
    ("ssh", "ssh.service"),
];

/// Answers what runs and what is free.
pub fn health() -> Result<Health> {
    let stat = rustix::fs::statvfs(layout::HOMES).map_err(Error::at(layout::HOMES))?;
    Ok(Health {
        services: services()?,
        home_free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        home_total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        load_percent: load_percent()?,
    })
}

/// Each service of the layout, and whether it runs.
pub fn services() -> Result<BTreeMap<String, bool>> {
    let units = SERVICES.iter().map(|(_, unit)| *unit);
    let said = run(Program::Systemctl).arg("is-active").args(units).output()?.text();
    let states = said.lines().chain(std::iter::repeat("unknown"));
    Ok(SERVICES
        .iter()
        .zip(states)
        .map(|((name, _), s)| ((*name).to_owned(), s == "active"))
        .collect())
}

/// `0.52 …` → 52, without going through floating point.
fn load_percent() -> Result<u64> {
    let path = "/proc/loadavg";
    let text = std::fs::read_to_string(path).map_err(Error::at(path))?;
    let first = text.split(' ').next().unwrap_or_default();
    first.replace('.', "").parse().map_err(Error::at(path))
}
