//! What is on a server, seen by ordinary tools, and which operation may have changed it.

use crate::target::Target;
use cpanel::plan::{Action, Operation, Resource};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Everything that a restore could change: `file:/home/alpha/x` → what is there.
pub type Seen = BTreeMap<String, String>;

pub fn observe(target: &Target) -> Seen {
    let text = target.shell("bash -s", include_bytes!("observe.sh"));
    let mut seen = Seen::new();
    for (key, value) in text.lines().filter_map(|l| l.split_once('\t')) {
        // Line by line instead; several accounts share them.
        let shared = |path: &str| {
            path.starts_with("/etc/migrapanel/mail/")
                && ["/passwd", "/boxes", "/aliases"].iter().any(|n| path.ends_with(n))
        };
        match key.strip_prefix("md5:") {
            Some(path) if shared(path) => {}
            Some(path) => seen.get_mut(&format!("file:{path}")).unwrap().push_str(value),
            None => {
                let old = seen.insert(key.to_owned(), value.to_owned());
                assert!(old.is_none(), "{key} twice");
            }
        }
    }
    assert!(seen.len() > 1000 && seen.contains_key("dbuser:root"), "{text}");
    seen
}

/// A thing that is not as it was: before, after.
pub type Change<'s> = (Option<&'s String>, Option<&'s String>);

pub fn difference<'s>(before: &'s Seen, after: &'s Seen) -> BTreeMap<&'s str, Change<'s>> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let pairs = keys.into_iter().map(|k| (k.as_str(), (before.get(k), after.get(k))));
    pairs.filter(|(_, (old, new))| old != new).collect()
}

/// An operation and what it is about on the server.
pub struct Area {
    /// The very thing: there after it, and before it unless the operation creates it.
    pub heart: Option<String>,
    /// Everything with one of these keys, or below them.
    all: Vec<String>,
    /// Directories on the way, which are only ever made.
    way: Vec<String>,
    /// What of `all` is not its own.
    but: Vec<String>,
}

fn file(path: impl std::fmt::Display) -> String {
    format!("file:{path}")
}

fn mail_line(domain: &str, name: &str, key: &str) -> String {
    format!("line:/etc/migrapanel/mail/{domain}/{name}:{key}")
}

/// The directories above a path, below the home.
fn above(path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(3);
    ends.map(|end| file(path.split_at(end).0)).collect()
}

impl Area {
    pub fn of(operation: &Operation, user: &str, job: Uuid) -> Self {
        let mut area = Self { heart: None, all: vec![], way: vec![], but: vec![] };
        let home = format!("/home/{user}");
        let mut heart = None;
        match &operation.resource {
            Resource::User { .. } => {
                heart = Some(format!("passwd:{user}"));
                for table in ["shadow", "group", "gshadow", "subuid", "subgid"] {
                    area.all.push(format!("{table}:{user}"));
                }
            }
            Resource::Home { .. } if operation.action == Action::Replace => {
                heart = Some(file(home))
            }
            Resource::Home { .. } => {
                area.heart = Some(file(&home));
                area.way =
                    vec![file(&home), file(format!("{home}/tmp")), file(format!("{home}/mail"))];
            }
            Resource::Files { only, .. } if only.is_empty() => {
                area.all = vec![file(&home)];
                area.but = vec![file(format!("{home}/mail")), file(format!("{home}/etc"))];
            }
            Resource::Files { only, .. } => {
                for path in only.iter().map(|p| format!("{home}/{p}")) {
                    area.way.extend(above(&path));
                    area.all.push(file(path));
                }
            }
            Resource::Website { domain, wildcard, docroot, .. } => {
                let rank = 99 - domain.as_str().matches('.').count();
                heart = Some(file(match wildcard {
                    true => format!("/etc/migrapanel/wildcard-sites/{rank}-{domain}.conf"),
                    false => format!("/etc/migrapanel/sites/{domain}.conf"),
                }));
                // The same over TLS.
                area.all.push(file(format!("/etc/migrapanel/tls-sites/{domain}.conf")));
                area.way = above(&format!("{docroot}/"));
                area.way.push(file(docroot));
                area.way.extend(
                    ["access", "error"].map(|l| file(format!("/var/log/apache2/{domain}.{l}.log"))),
                );
            }
            Resource::PhpPool { version, .. } => {
                heart = Some(file(format!("/etc/php/{version}/fpm/pool.d/{user}.conf")));
                area.all.push(file(format!("/run/php/{user}-{version}.sock")));
            }
            Resource::CronJob { .. } => {
                heart = Some(file(format!("/var/lib/migrapanel/cron/{user}.{job}")))
            }
            Resource::Database { name, .. } => {
                heart = Some(format!("db:{name}"));
                area.all.push(format!("charset:{name}"));
                area.all.push(format!("dbuser:{name}.definer"));
                area.all.push(format!("grant:{name}.definer:{name}"));
            }
            Resource::DatabaseUser { name, .. } => heart = Some(format!("dbuser:{name}")),
            Resource::Grant { user, database, .. } => {
                heart = Some(format!("grant:{user}:{database}"))
            }
            Resource::Certificate { domain, .. } => {
                heart = Some(file(format!("/etc/migrapanel/tls/{domain}/pair.pem")));
                area.all.push(file(format!("/etc/migrapanel/tls/{domain}")));
                area.all.push(file(format!("/etc/migrapanel/dovecot-tls/{domain}.conf")));
                area.all.push(file(format!("/etc/migrapanel/tls-sites/{domain}.conf")));
            }
            Resource::Zone { .. } => {}
            resource => heart = Some(area.mail(resource, (&home, user), operation.action)),
        }
        area.all.extend(heart.clone());
        area.heart = area.heart.or(heart);
        area
    }

    /// Of a part of the mail; gives the heart.
    fn mail(&mut self, resource: &Resource, (home, user): (&str, &str), action: Action) -> String {
        match resource {
            Resource::MailDomain { domain, .. } => {
                let dir = format!("/etc/migrapanel/mail/{domain}");
                self.way =
                    ["", "/passwd", "/boxes", "/aliases"].map(|n| file(format!("{dir}{n}"))).into();
                self.all.push(file(format!("/etc/migrapanel/mail-domains/{domain}")));
                self.all.extend(["*", "@"].map(|k| mail_line(domain.as_str(), "aliases", k)));
                file(format!("{dir}/owner"))
            }
            Resource::Mailbox { address, maildir, login_aliases, .. } => {
                let (local, domain) = (address.local(), address.domain());
                self.way = above(maildir.as_str());
                self.all.push(file(maildir));
                // A mailbox is replaced with its filter.
                if action != Action::Replace {
                    let filter = ["sieve", "sieve.active"];
                    self.but = filter.map(|name| file(format!("{maildir}/{name}"))).into();
                }
                self.all.push(mail_line(domain, "boxes", local));
                if !login_aliases.is_empty() {
                    self.all.push(format!("line:/etc/migrapanel/mail/passwd:{user}"));
                    self.way.push(file("/etc/migrapanel/mail/passwd"));
                }
                mail_line(domain, "passwd", local)
            }
            Resource::Forwarder { address, .. } => {
                mail_line(address.domain(), "aliases", address.local())
            }
            Resource::Vacation { address, .. } | Resource::Filter { address, .. } => {
                let dir = format!("{home}/mail/{}/{}", address.domain(), address.local());
                self.all.push(file(format!("{dir}/sieve")));
                file(format!("{dir}/sieve.active"))
            }
            Resource::Dkim { domain, .. } => {
                self.all.push(file(format!("/etc/migrapanel/dkim/{domain}.selector")));
                file(format!("/etc/migrapanel/dkim/{domain}.key"))
            }
            other => panic!("{other:?}"),
        }
    }

    /// Whether this operation, with this action, may have made this change.
    pub fn explains(&self, action: Action, key: &str, change: Change<'_>) -> bool {
        let within = |area: &String| {
            key.strip_prefix(area.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Rights are merged one by one.
        let more = |(old, new): (&String, &String)| {
            let mut pairs = old.chars().zip(new.chars());
            key.starts_with("grant:") && pairs.all(|(o, n)| o == n || (o, n) == ('N', 'Y'))
        };
        let made = change.0.is_none() || change.0.zip(change.1).is_some_and(more);
        // A file of lines goes with its last one.
        let emptied = action == Action::Replace && key.ends_with("/aliases");
        if self.way.iter().any(|w| w == key) && (made || emptied) {
            return true;
        }
        self.all.iter().any(within)
            && !self.but.iter().any(within)
            && (made || action == Action::Replace)
    }
}
