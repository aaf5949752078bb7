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

/// Gives the confirmed jobs to cron, each once, beside what is there. May be repeated; it goes back
/// with the files of the migration.
pub fn confirm(job: &Job<'_>, items: &BTreeSet<String>) -> Result<StepReport> {
    let begun = job.begun()?;
    let user = &begun.source.target_user;
    let _lock = job.lock(user)?;
    let jobs: Vec<(&str, &str, &BTreeMap<String, String>)> = begun
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
    let Some((first, _, settings)) = jobs.first() else { return Ok(StepReport::default()) };
    let old = read(user)?;
    let mut text = old.clone().unwrap_or_default();
    if old.is_none() {
        for (name, value) in *settings {
            writeln!(text, "{name}=\"{value}\"").map_err(Error::internal)?;
        }
    }
    for (_, line, _) in &jobs {
        if !text.lines().any(|l| l == *line) {
            writeln!(text, "{line}").map_err(Error::internal)?;
        }
    }
    let mut journal = Journal::open(job.id)?;
    if !journal.entries().iter().any(|e| matches!(e.what, Effect::Crontab { .. })) {
        let what = Effect::Crontab { user: user.clone(), old };
        journal.record(StepName::RestoreHome, first, what)?;
    }
    write(user, &text)?;
    let items = jobs.into_iter().map(|(id, ..)| ItemReport {
        id: id.to_owned(),
        outcome: Outcome::Migrated,
        detail: "Confirmed: cron runs it.".to_owned(),
    });
    Ok(StepReport { items: items.collect() })
}

/// The user's crontab; none when there is none.
fn read(user: &Username) -> Result<Option<String>> {
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
