//! The crontab: kept where cron does not look, and given to cron line by line once somebody has
//! confirmed it.

use super::Done;
use crate::beneath::Owner;
use crate::effects::Work;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::journal::{Effect, Journal};
use crate::program::{Program, run};
use crate::{layout, people};
use cpanel::plan::{Resource, StepName};
use cpanel::protocol::{ItemReport, Outcome, StepReport};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use values::Username;

/// Keeps the account's cron jobs for somebody to look at.
pub fn keep(work: &mut Work<'_>, resource: &Resource) -> Result<Done> {
    let Resource::CronJob { line, source, .. } = resource else {
        return Err(Error::internal("not a cron job"));
    };
    let mut text = format!("# {}\n", layout::OURS);
    for operation in &work.begun.plan.operations {
        if let Resource::CronJob { line, .. } = &operation.resource {
            writeln!(text, "# {}: {line}", operation.id).map_err(Error::internal)?;
        }
    }
    let path = layout::cron(work.user(), work.job.id);
    work.put(&path, text.as_bytes(), Owner::root(0o600), None)?;
    let mut detail = "It runs only after it was confirmed.".to_owned();
    if line != source {
        detail = format!("{detail} It was: {source}");
    }
    Ok((Outcome::Disabled, detail))
}

/// A confirmed job: its operation's id, its line, and the settings in force for it.
type Confirmed<'c> = (&'c str, &'c str, &'c BTreeMap<String, String>);

/// What holds where a crontab sets nothing: written when something else stands above the line.
const DEFAULTS: [(&str, &str); 2] = [("PATH", "/usr/bin:/bin"), ("SHELL", "/bin/sh")];

/// Gives the confirmed jobs to cron, each once, beside what is there and under the settings that it
/// had. A line that cron does not take is named, and the others run. May be repeated; it goes back
/// with the files of the migration.
pub fn confirm(job: &Job<'_>, items: &BTreeSet<String>) -> Result<StepReport> {
    let begun = job.begun()?;
    let user = &begun.source.target_user;
    let _lock = job.lock(user)?;
    if begun.plan.suspended {
        let text = "The account is suspended, and its cron jobs stay off: preview and apply with \
                    \"suspended\": \"activate\" first.";
        return Err(Error::new("account_suspended", text));
    }
    let jobs: Vec<Confirmed<'_>> = begun
        .plan
        .operations
        .iter()
        .filter(|o| items.contains(&o.id))
        .filter_map(|o| match &o.resource {
            Resource::CronJob { line, settings, .. } => {
                Some((o.id.as_str(), line.as_str(), settings))
            }
            _ => None,
        })
        .collect();
    let Some((first, ..)) = jobs.first() else { return Ok(StepReport::default()) };
    let old = read(user)?;
    let mut text = old.clone().unwrap_or_default();
    let mut report = StepReport::default();
    for confirmed in &jobs {
        let with = with_job(&text, confirmed, user)?;
        let (outcome, detail) = match refusal(user, &with)? {
            None => {
                text = with;
                (Outcome::Migrated, "Confirmed: cron runs it.".to_owned())
            }
            Some(why) => (Outcome::Failed, format!("Cron does not take this line: {why}")),
        };
        report.items.push(ItemReport { id: confirmed.0.to_owned(), outcome, detail });
    }
    if old.as_ref() == Some(&text) || text.is_empty() {
        return Ok(report);
    }
    let mut journal = Journal::open(job.id)?;
    if !journal.entries().iter().any(|e| matches!(e.what, Effect::Crontab { .. })) {
        let what = Effect::Crontab { user: user.clone(), old };
        journal.record(StepName::RestoreHome, first, what)?;
    }
    write(user, &text)?;
    Ok(report)
}

/// The crontab with a job at its end, below what makes its settings hold there.
fn with_job(text: &str, (_, line, settings): &Confirmed<'_>, user: &Username) -> Result<String> {
    let mut text = text.to_owned();
    if text.lines().any(|l| l == *line) {
        return Ok(text);
    }
    let before = text.clone();
    let in_force = settings_of(&before);
    let unset = DEFAULTS.into_iter().chain([("MAILTO", user.as_str())]);
    let mut wanted: BTreeMap<&str, &str> =
        unset.filter(|(name, _)| in_force.contains_key(name)).collect();
    wanted.extend(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    for (name, value) in wanted {
        if in_force.get(name) != Some(&value) {
            writeln!(text, "{name}=\"{value}\"").map_err(Error::internal)?;
        }
    }
    writeln!(text, "{line}").map_err(Error::internal)?;
    Ok(text)
}

/// The settings in force at the end of a crontab.
fn settings_of(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let named = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    pairs
        .map(|(name, value)| (name.trim(), value.trim().trim_matches(|c| c == '"' || c == '\'')))
        .filter(|(name, _)| named(name) && !name.is_empty())
        .collect()
}

/// What cron says against a crontab; none when it takes it. Nothing is changed.
fn refusal(user: &Username, text: &str) -> Result<Option<String>> {
    let tried = run(Program::Crontab).args(["-u", user.as_str(), "-n", "-"]);
    let tried = tried.stdin(text.as_bytes()).output()?;
    Ok((!tried.success()).then(|| cpanel::member::shown(tried.complaint().as_bytes())))
}

/// The user's crontab; none when there is none.
pub fn read(user: &Username) -> Result<Option<String>> {
    let shown = run(Program::Crontab).args(["-l", "-u", user.as_str()]).output()?;
    Ok(shown.success().then(|| shown.text()))
}

fn write(user: &Username, text: &str) -> Result<()> {
    let done = run(Program::Crontab).args(["-u", user.as_str(), "-"]).stdin(text.as_bytes());
    done.ok().map(drop)
}

/// Puts the crontab back that stood before; the crontab of a user that is gone needs nothing.
pub fn restore(user: &Username, old: Option<&str>) -> Result<()> {
    if people::user(user.as_str())?.is_none() {
        return Ok(());
    }
    match old {
        Some(text) => write(user, text),
        None if read(user)?.is_some() => {
            run(Program::Crontab).args(["-r", "-u", user.as_str()]).ok().map(drop)
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_runs_under_the_settings_that_it_had() {
        let user: Username = "shop".parse().unwrap();
        let none = BTreeMap::new();
        let some = BTreeMap::from([
            ("MAILTO".to_owned(), "a@b.example".to_owned()),
            ("PATH".to_owned(), "/home/shop/bin:/usr/bin".to_owned()),
        ]);
        let mut text = "# mine\nA=b\n".to_owned();
        for (line, settings) in
            [("@daily 1", &none), ("@daily 2", &some), ("@daily 3", &some), ("@daily 4", &none)]
        {
            for _ in 0..2 {
                text = with_job(&text, &("id", line, settings), &user).unwrap();
            }
        }
        let wanted = "# mine\nA=b\n@daily 1\nMAILTO=\"a@b.example\"\n\
                      PATH=\"/home/shop/bin:/usr/bin\"\n@daily 2\n@daily 3\nMAILTO=\"shop\"\n\
                      PATH=\"/usr/bin:/bin\"\n@daily 4\n";
        assert_eq!(text, wanted);
    }
}
