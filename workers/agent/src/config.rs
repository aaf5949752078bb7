//! Configuration files: made from templates, checked, and put in place whole.

use crate::beneath::{Beneath, Owner};
use crate::enroll::Changes;
use crate::error::{Error, Result};
use crate::layout;
use crate::services::{self, Service};
use std::path::Path;

/// A file of the layout that enrolment writes.
struct ConfigFile {
    path: &'static str,
    template: &'static str,
    service: Service,
}

const FILES: &[ConfigFile] = &[
    ConfigFile {
        path: "/etc/apache2/conf-enabled/migrapanel.conf",
        template: include_str!("../../../deploy/target/apache.conf"),
        service: Service::Apache,
    },
    ConfigFile {
        path: "/etc/php/8.2/fpm/pool.d/00-migrapanel.conf",
        template: include_str!("../../../deploy/target/php-fpm.conf"),
        service: Service::PhpFpm,
    },
    ConfigFile {
        path: "/etc/mysql/mariadb.conf.d/90-migrapanel.cnf",
        template: include_str!("../../../deploy/target/mariadb.cnf"),
        service: Service::MariaDb,
    },
    ConfigFile {
        path: "/etc/dovecot/dovecot.conf",
        template: include_str!("../../../deploy/target/dovecot.conf"),
        service: Service::Dovecot,
    },
    ConfigFile {
        path: "/etc/exim4/exim4.conf",
        template: include_str!("../../../deploy/target/exim.conf"),
        service: Service::Exim,
    },
    ConfigFile {
        path: "/etc/ssh/sshd_config.d/migrapanel.conf",
        template: include_str!("../../../deploy/target/sshd.conf"),
        service: Service::Ssh,
    },
];

/// What Debian switches on and an account must not meet: the first web site would answer for names
/// that are nobody's, and any `.htaccess` could show the status page with everybody's visitors.
const DEBIANS_OWN: &[&str] = &[
    "/etc/apache2/sites-enabled/000-default.conf",
    "/etc/apache2/mods-enabled/status.conf",
    "/etc/apache2/mods-enabled/status.load",
];

/// Puts every file in place that differs. What a service's check refuses is taken back.
pub fn write_all(hostname: &str, changes: &mut Changes<'_>) -> Result<()> {
    for file in FILES {
        let text = fill(file.template, &[("ours", layout::OURS), ("hostname", hostname)]);
        let (root, rest) = Beneath::place(Path::new(file.path))?;
        let old = root.read(&rest, 1 << 20)?;
        if old.as_deref() == Some(text.as_bytes()) {
            continue;
        }
        services::will_change(file.service, services::ENROLMENT)?;
        root.write(&rest, text.as_bytes(), Owner::root(0o644))?;
        if let Err(e) = services::check(file.service) {
            match old {
                Some(old) => root.write(&rest, &old, Owner::root(0o644))?,
                None => root.remove(&rest)?,
            }
            return Err(e);
        }
        changes.add(format!("Wrote {}.", file.path))?;
    }
    for path in DEBIANS_OWN {
        let (root, rest) = Beneath::place(Path::new(path))?;
        if root.stat(&rest)?.is_some() {
            services::will_change(Service::Apache, services::ENROLMENT)?;
            root.remove(&rest)?;
            changes.add(format!("Switched off Debian's own {path}."))?;
        }
    }
    Ok(())
}

/// A template with its `{{name}}`s replaced. Values are ours or checked ones; none is read as a
/// template again.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            out.push_str("{{");
            rest = after;
            continue;
        };
        match values.iter().find(|(n, _)| *n == name) {
            Some((_, value)) => out.push_str(value),
            // Exim's expressions end in braces, too.
            None => {
                out.push_str("{{");
                rest = after;
                continue;
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// A value that stands between quotes in Apache's configuration. Fails for what cannot.
pub fn quotable(text: &str) -> Result<&str> {
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\' || c == '$' || c == '%') {
        let shown = cpanel::member::shown(text.as_bytes());
        return Err(Error::new(
            "unusable_path",
            format!("A web server cannot serve from {shown}."),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_once() {
        assert_eq!(fill("a {{x}} {{{{y}}", &[("x", "{{y}}"), ("y", "1")]), "a {{y}} {{1");
        assert_eq!(fill("${if {{eq {1}{1}}}}", &[]), "${if {{eq {1}{1}}}}");
    }
}
