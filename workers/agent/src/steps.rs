//! Apply and undo: each step's operations, carried out in the plan's order.

mod certificates;
mod cron;
mod databases;
mod home;
mod load;
mod mail;
mod user;
mod web;

use crate::beneath::Beneath;
use crate::effects::{self, Work};
use crate::error::{Error, Result};
use crate::job::{Begun, Job};
use crate::journal::{Effect, Entry, Journal};
use crate::{changes, layout, mariadb, parking, services, space, verify};
use cpanel::plan::{Note, Operation, Resource, StepName};
use cpanel::protocol::{CheckStatus, ItemReport, Outcome, StepReport};
use std::path::Path;
use values::DatabaseName;

pub use certificates::{mail_blocks, pair_text};
pub use cron::{confirm, read as crontab, restore as restore_crontab};
pub use databases::{definer, dump_to};
pub use user::{end_processes, password, remove as remove_user};
pub use web::{suspended_site, with_certificate};

/// What became of an operation, and what there is to say about it.
type Done = (Outcome, String);

const fn migrated() -> Done {
    (Outcome::Migrated, String::new())
}

/// Carries out a step. May be repeated after any death.
pub fn apply(job: &Job<'_>, step: StepName) -> Result<StepReport> {
    let begun = job.begun()?;
    let _lock = job.lock(&begun.source.target_user)?;
    match step {
        StepName::Dns => Ok(StepReport::default()),
        StepName::PostValidation => validate(job, &begun),
        _ => carry_out(job, &begun, step),
    }
}

fn carry_out(job: &Job<'_>, begun: &Begun, step: StepName) -> Result<StepReport> {
    let mut operations: Vec<&Operation> =
        begun.plan.operations.iter().filter(|o| o.step == step).collect();
    if operations.is_empty() {
        return Ok(StepReport::default());
    }
    // What others rest on comes first, whatever the plan's order.
    operations.sort_by_key(|o| rank(&o.resource));
    let mut account = job.account()?;
    if begun.plan.suspended {
        account.lock_logins();
    }
    let mut work = Work::new(job, begun, &account, step)?;
    let total = u64::try_from(operations.len()).unwrap_or(u64::MAX);
    let mut items = Vec::new();
    if step == StepName::Databases {
        job.events.progress(0, total, "Loading databases")?;
        items = databases::restore(&mut work, &operations)?;
        operations.clear();
    }
    let before = u64::try_from(items.len()).unwrap_or(0);
    for (done, operation) in (before..).zip(operations) {
        job.check()?;
        space::check()?;
        job.events.progress(done, total, &operation.summary)?;
        work.begin(operation);
        let (outcome, detail) = one(&mut work, operation)?;
        items.push(ItemReport { id: operation.id.clone(), outcome, detail });
    }
    job.events.progress(total, total, "done")?;
    items.iter_mut().for_each(|item| add_notes(&begun.plan.notes, item));
    Ok(StepReport { items })
}

/// What the plan had to say of an item stands beside what became of it.
fn add_notes(notes: &[Note], item: &mut ItemReport) {
    for note in notes.iter().filter(|n| n.item == item.id) {
        if item.outcome == Outcome::Migrated {
            item.outcome = note.outcome;
        }
        let both = format!("{} {}", item.detail, note.detail);
        item.detail = both.trim().to_owned();
    }
}

const fn rank(resource: &Resource) -> u8 {
    match resource {
        Resource::User { .. } => 0,
        Resource::Home { .. } => 1,
        Resource::Files { .. } => 2,
        Resource::PhpPool { .. } | Resource::Database { .. } | Resource::MailDomain { .. } => 3,
        Resource::Website { .. } | Resource::DatabaseUser { .. } | Resource::Mailbox { .. } => 4,
        _ => 5,
    }
}

fn one(work: &mut Work<'_>, operation: &Operation) -> Result<Done> {
    match &operation.resource {
        Resource::User { .. } => user::create(work, operation.action),
        Resource::Home { .. } => home::create(work, operation.action),
        Resource::Files { only, .. } => home::restore(work, operation.action, only),
        Resource::PhpPool { version, .. } => web::pool(work, version),
        Resource::Website { .. } => web::site(work, &operation.resource),
        Resource::CronJob { .. } => cron::keep(work, &operation.resource),
        // All at once.
        Resource::Database { .. } | Resource::DatabaseUser { .. } | Resource::Grant { .. } => {
            Ok(migrated())
        }
        Resource::MailDomain { .. } => mail::domain(work, &operation.resource),
        Resource::Mailbox { .. } => mail::mailbox(work, operation),
        Resource::Forwarder { .. } => mail::forwarder(work, &operation.resource),
        Resource::Vacation { address, .. } | Resource::Filter { address, .. } => {
            mail::script(work, address, operation.action)
        }
        Resource::Dkim { domain, selector, .. } => mail::dkim(work, domain, selector),
        Resource::Certificate { domain, sha256, .. } => certificates::install(work, domain, sha256),
        // Zones are the control plane's.
        Resource::Zone { .. } => Ok(migrated()),
    }
}

/// The last step lets the services read what the others wrote, once, looks at what runs now, and
/// remembers it for a later rollback.
fn validate(job: &Job<'_>, begun: &Begun) -> Result<StepReport> {
    space::check()?;
    services::apply_changes(job.id)?;
    let databases = begun.plan.operations.iter().filter_map(|o| match &o.resource {
        Resource::Database { name, .. } => Some(name.clone()),
        _ => None,
    });
    let databases: Vec<DatabaseName> = databases.collect();
    // Each looks at everything once: side by side they take half the time.
    let (checks, sums) = std::thread::scope(|scope| {
        let sums = scope.spawn(|| mariadb::table_sums(&databases));
        let checks = verify::checks(job, begun, begun.ipv4);
        let broken = || Err(Error::internal("counting the databases' rows broke off"));
        (checks, sums.join().unwrap_or_else(|_| broken()))
    });
    let (checks, sums) = (checks?, sums?);
    let failed: Vec<&str> = checks
        .iter()
        .filter(|c| c.status == CheckStatus::Fail)
        .map(|c| c.message.as_str())
        .collect();
    if !failed.is_empty() {
        let text = format!("The migrated account does not work: {}", failed.join(" "));
        return Err(Error::new("post_validation_failed", text));
    }
    changes::remember(job, begun, sums)?;
    let items = checks.into_iter().map(|c| ItemReport {
        id: c.name,
        outcome: if c.status == CheckStatus::Pass { Outcome::Migrated } else { Outcome::Adapted },
        detail: c.message,
    });
    Ok(StepReport { items: items.collect() })
}

/// Takes a step back: what this job made goes, what it replaced returns. May be repeated, also when
/// the step never ran. With `park`, what would be lost is dumped first.
pub fn undo(job: &Job<'_>, step: StepName, park: bool) -> Result<StepReport> {
    space::release(job.id)?;
    let Some(begun) = job.begun_if()? else { return Ok(StepReport::default()) };
    let _lock = job.lock(&begun.source.target_user)?;
    let mut journal = Journal::open(job.id)?;
    let entries = journal.backwards(step);
    if park {
        parking::park(job, &entries)?;
    }
    let mut report = StepReport::default();
    for entry in &entries {
        job.check()?;
        undo_one(job, entry)?;
        note_undone(&mut report, entry);
    }
    services::apply_changes(job.id)?;
    web::remove_logs(&entries, job.id)?;
    // What was moved out of staging is gone: a step that is applied again unpacks again.
    crate::unpack::forget(job.id)?;
    journal.undone(step)?;
    if journal.entries().is_empty() {
        // All that was kept is back in its place, and nothing of the staging stands any more.
        crate::unpack::discard(job.id)?;
        for kept in
            [layout::kept_home(job.id), layout::kept_etc(job.id), layout::kept_dumps(job.id)]
        {
            let (root, rest) = Beneath::place(&kept)?;
            root.remove(rest)?;
        }
    }
    Ok(report)
}

fn undo_one(job: &Job<'_>, entry: &Entry) -> Result<()> {
    if effects::undo_files(&entry.what, job.id)? {
        return Ok(());
    }
    match &entry.what {
        Effect::User { user } => user::remove(user),
        Effect::Password { user, old } => user::set_password(user, old),
        Effect::Crontab { user, old } => cron::restore(user, old.as_deref()),
        what => databases::undo(what),
    }
}

fn note_undone(report: &mut StepReport, entry: &Entry) {
    if report.items.iter().all(|i| i.id != entry.operation) {
        let id = entry.operation.clone();
        report.items.push(ItemReport { id, outcome: Outcome::Undone, detail: String::new() });
    }
}

/// Removes what the job unpacked, with the account's secrets. The journal stays, and so does what was
/// replaced.
pub fn cleanup(job: &Job<'_>) -> Result<()> {
    space::release(job.id)?;
    Beneath::open(layout::STAGING)?.remove(Path::new(&job.id.to_string()))
}
