//! Where attacks happen: a server with a victim on it, and the enemy's restored account.

use super::enemy::{Archive, PASSWORD, SQL_PASSWORD, gzip};
use super::table::{Attack, Proof, Row};
use crate::clients::get;
use crate::target::{BACKUPS, Job, STEPS, Target};
use cpanel::plan::{ControlFacts, Mode, Options, Ownership, Plan, Resolution};
use cpanel::protocol::{Analysis, Call, Event, Preview, StepReport};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use values::DomainName;

/// A server on which `shopco` is restored.
pub struct Stage<'t> {
    pub target: &'t Target,
}

/// The enemy's account on it.
pub struct Restored<'s, 't> {
    pub stage: &'s Stage<'t>,
    pub analysis: Analysis,
    pub plan: Plan,
    pub reports: Vec<StepReport>,
    pub job: Job<'t>,
}

/// What failed, a line each.
#[derive(Default)]
pub struct Failures(pub Vec<String>);

impl Failures {
    /// Notes a panic of a check.
    pub fn guard(&mut self, row: &Row, check: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let what = text.unwrap_or_default();
            self.0.push(format!("{} {}: {what}", row.number, row.name));
        }
    }
}

impl<'t> Stage<'t> {
    /// Puts an archive among the backups.
    pub fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = format!("{BACKUPS}/{name}");
        let all = gzip_if_large(bytes);
        self.target.shell(&format!("umask 077; rm -f {path}; gzip -dc > {path}"), &all);
        path
    }

    /// The enemy's archive with something planted.
    pub fn planted(&self, name: &str, plant: impl Fn(&mut Archive)) -> String {
        let mut archive = Archive::honest();
        plant(&mut archive);
        self.put(name, &archive.tar())
    }

    /// What the control plane would tell of this analysis.
    pub fn control(&self, analysis: &Analysis, account: Ownership) -> ControlFacts {
        let names = analysis.summary.domains.iter().map(|d| d.name.clone());
        ControlFacts {
            ipv4: self.target.host.parse().unwrap(),
            ipv6: None,
            nameservers: vec!["ns1.panel.example".parse().unwrap()],
            ownership: names.map(|n| (n, account)).collect::<BTreeMap<DomainName, _>>(),
            account,
            activate_domains: true,
            answer_zones: false,
            proven: BTreeSet::new(),
        }
    }

    /// Preview of an archive as a user.
    pub fn preview(&self, job: &Job<'t>, account: Ownership, options: Options) -> Preview {
        let analysis: Analysis = job.ask(Call::Analyze(job.source()));
        let control = self.control(&analysis, account);
        job.ask(Call::Preview { control, options })
    }

    /// Whether analysis refuses these bytes with the code.
    pub fn refuses(&self, code: &str, bytes: &[u8]) {
        let path = self.put("refused.tar", bytes);
        let job = Job::new(self.target, &path, "enemy");
        let event = self.target.event(Some(job.id), Call::Analyze(job.source()));
        let _: serde_json::Value = job.ask(Call::Cleanup);
        match event {
            Some(Event::Failed { code: seen, .. }) => assert_eq!(seen, code),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A dump in an archive, loaded as far as it is, and everything taken back: what was planned, and
    /// how the load ended.
    fn loads_dump(&self, dump: &[u8]) -> (Plan, Option<Event>) {
        let path = self.planted("dump.tar", |a| a.put("mysql/enemy_db.sql", dump));
        let job = Job::new(self.target, &path, "enemy");
        let options = Options {
            components: BTreeMap::from([(cpanel::plan::Component::Databases, BTreeSet::new())]),
            ..Options::default()
        };
        let plan = job.begin(options, Ownership::Free).plan;
        let steps = &STEPS[..4];
        let mut last = None;
        for step in steps {
            last = self.target.event(Some(job.id), Call::Apply { step: *step });
        }
        job.undo(false);
        let left = self.target.shell("mariadb -N -e \"show databases like 'enemy%'\"", b"");
        assert_eq!(left, "");
        (plan, last)
    }

    /// A dump that is refused.
    fn refuses_dump(&self, said: &str, dump: &[u8]) {
        match self.loads_dump(dump).1 {
            Some(Event::Failed { code, message, .. }) => {
                assert_eq!(code, "dump_refused");
                assert!(message.contains(said), "{message}");
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A dump that is loaded without a statement.
    fn leaves_out(&self, word: &str, dump: &[u8]) {
        let (plan, ended) = self.loads_dump(dump);
        let lost = plan.not_transferred.iter().find(|l| l.item == "statements:enemy_db");
        assert!(lost.is_some_and(|l| l.reason.contains(&format!("{word} (1)"))), "{lost:?}");
        assert!(matches!(ended, Some(Event::Done { .. })), "{ended:?}");
    }

    /// Attacks that end before anything is restored.
    pub fn before(&self, row: &Row, failures: &mut Failures) {
        for attack in row.attacks {
            failures.guard(row, || match attack {
                Attack::Refused(code, plant) => {
                    let mut archive = Archive::honest();
                    plant(&mut archive);
                    self.refuses(code, &archive.tar());
                }
                Attack::RefusedBytes(code, make) => self.refuses(code, &make()),
                Attack::Conflict(user, id, plant) => {
                    let path = self.planted("conflict.tar", plant);
                    let job = Job::new(self.target, &path, user);
                    let free = Ownership::Free;
                    let preview = self.preview(&job, free, Options::default());
                    let _: serde_json::Value = job.ask(Call::Cleanup);
                    let ids: Vec<&str> =
                        preview.plan.conflicts.iter().map(|c| c.id.as_str()).collect();
                    assert!(ids.contains(id), "{ids:?}");
                }
                Attack::Dump(said, dump) => self.refuses_dump(said, &dump()),
                Attack::LeftOut(word, dump) => self.leaves_out(word, &dump()),
                Attack::Alone(_, attack) => attack(self),
                _ => {}
            });
        }
    }

    /// Restores the enemy's account with everything planted.
    pub fn restore(&self, rows: &[&Row]) -> Restored<'_, 't> {
        let path = self.planted("cpmove-enemy.tar", |archive| {
            let planted = rows.iter().flat_map(|r| r.attacks);
            planted.for_each(|a| {
                if let Attack::Planted(plant, _) = a {
                    plant(archive)
                }
            });
        });
        let job = Job::new(self.target, &path, "enemy");
        let analysis: Analysis = job.ask(Call::Analyze(job.source()));
        let control = self.control(&analysis, Ownership::Free);
        let mut options = Options::default();
        let preview: Preview =
            job.ask(Call::Preview { control: control.clone(), options: options.clone() });
        for conflict in preview.plan.conflicts {
            assert!(conflict.resolutions.contains(&Resolution::Skip), "{conflict:?}");
            options.resolutions.insert(conflict.id, Resolution::Skip);
        }
        let preview: Preview =
            job.ask(Call::Preview { control: control.clone(), options: options.clone() });
        assert_eq!(preview.plan.conflicts, []);
        let digest = preview.digest;
        let begun: Preview = job.ask(Call::Begin { control, options, digest });
        let reports = job.apply();
        Restored { stage: self, analysis, plan: begun.plan, reports, job }
    }
}

/// Bytes travel packed: some rows are made of zeros.
fn gzip_if_large(bytes: &[u8]) -> Vec<u8> {
    gzip(bytes)
}

fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Restored<'_, '_> {
    /// What root sees on the server.
    pub fn seen(&self, command: &str) -> String {
        joined(&self.stage.target.shell(&format!("exec 2>&1; {command}"), b""))
    }

    /// What the enemy sees on it.
    pub fn tried(&self, command: &str) -> String {
        let line = "su -s /bin/bash enemy 2>&1";
        let text = format!("cd; exec 2>&1\n{command}\n");
        joined(&self.stage.target.shell(line, text.as_bytes()))
    }

    /// What the enemy's database user is told.
    pub fn sql(&self, statement: &str) -> String {
        let command = "read -r MYSQL_PWD; export MYSQL_PWD; mariadb --local-infile=1 -h 127.0.0.1 -N -u enemy_u enemy_db 2>&1";
        let input = format!("{SQL_PASSWORD}\n{statement}\n");
        self.stage.target.shell(command, input.as_bytes())
    }

    /// Those of the logins, with a password each, that Dovecot's authentication lets in. Asked at once
    /// and on the server: it makes clients wait longer and longer after each refusal.
    pub fn open(&self, logins: &[(&str, &str)]) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut script = String::new();
        for (user, password) in logins {
            let (user, password) = (quoted(user), quoted(password));
            script.push_str(&format!(
                "doveadm auth test {user} {password} 2>&1 | grep -q succeeded && echo {user} & "
            ));
        }
        let mut seen: Vec<String> =
            self.seen(&format!("{script} wait")).split(' ').map(str::to_owned).collect();
        seen.sort();
        seen.join(" ")
    }

    /// Those mailboxes of the enemy's domain that its own password opens, by local part.
    pub fn open_by_own(&self, locals: &[&str]) -> String {
        let names: Vec<String> = locals.iter().map(|l| format!("{l}@enemy.example")).collect();
        let logins: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), PASSWORD)).collect();
        self.open(&logins)
    }

    fn prove(&self, proof: &Proof) {
        match proof {
            Proof::Lost(item) => {
                let all: Vec<&str> =
                    self.plan.not_transferred.iter().map(|l| l.item.as_str()).collect();
                assert!(all.contains(item), "{item} is not among {all:?}");
            }
            Proof::Warned(code, subject) => {
                let all = &self.plan.warnings;
                let found = all.iter().any(|w| w.code == *code && w.subject == *subject);
                assert!(found, "{code} {subject} is not among {all:#?}");
            }
            Proof::Said(text) => {
                let mut items = self.reports.iter().flat_map(|r| &r.items);
                assert!(items.any(|i| i.detail.contains(text)), "{:#?}", self.reports);
            }
            Proof::Seen(command, seen) => assert_eq!(self.seen(command), *seen, "{command}"),
            Proof::Tried(command, seen) => assert_eq!(self.tried(command), *seen, "{command}"),
            Proof::Sql(statement, seen) => {
                let said = self.sql(statement);
                assert!(said.contains(seen), "{statement}: {said}");
            }
            Proof::Web(path, status, body) => {
                let got = get(self.stage.target, "enemy.example", path);
                // What stands on a page of an error is the server's affair.
                let said = if got.0 == 200 { joined(&got.1) } else { String::new() };
                assert_eq!((got.0, said), (*status, (*body).to_owned()), "{path}");
            }
            Proof::Holds(_, check) => check(self),
        }
    }

    /// Everything that must hold once the account is restored.
    pub fn after(&self, row: &Row, failures: &mut Failures) {
        for attack in row.attacks {
            match attack {
                Attack::Planted(_, proofs) => {
                    proofs.iter().for_each(|p| failures.guard(row, || self.prove(p)));
                }
                Attack::Again(_, plant, check) => failures.guard(row, || {
                    let path = self.stage.planted("again.tar", plant);
                    let job = Job::new(self.stage.target, &path, "enemy");
                    let mode = Mode::Overwrite;
                    let options = Options { mode, ..Options::default() };
                    let preview = self.stage.preview(&job, Ownership::Own, options);
                    let _: serde_json::Value = job.ask(Call::Cleanup);
                    check(&preview);
                }),
                _ => {}
            }
        }
    }
}
