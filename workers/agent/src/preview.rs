//! The plan, made from the account that was analyzed and the facts of now.

use crate::error::{Error, Result};
use crate::facts;
use crate::job::{Analyzed, Begun, Job, write_json};
use crate::journal::Journal;
use crate::layout;
use crate::space;
use cpanel::account::{Account, MailFormat};
use cpanel::plan::{Conflict, ControlFacts, Facts, Options, Plan, Resource};
use cpanel::planner::{Input, plan};
use cpanel::protocol::Preview;

/// The operations of apply, against the facts of now. Writes nothing.
pub fn preview(job: &Job<'_>, control: &ControlFacts, options: &Options) -> Result<Preview> {
    let (_, preview) = compute(job, control, options)?;
    Ok(preview)
}

/// Plans again and keeps the plan for the steps, if it is still the one with this digest: its archive,
/// the server and the choices are as they were. A repetition after the first step has begun answers
/// with the plan that was kept, since the facts are the job's own doing then.
pub fn begin(
    job: &Job<'_>,
    control: &ControlFacts,
    options: &Options,
    digest: &str,
) -> Result<Preview> {
    let analyzed = job.analyzed()?;
    let _lock = job.lock(&analyzed.source.target_user)?;
    if let Some(kept) = job.begun_if()?.filter(|b| b.digest == digest)
        && !Journal::open(job.id)?.entries().is_empty()
    {
        let expanded_bytes = kept.archive.expanded_bytes;
        return Ok(Preview { plan: kept.plan, digest: kept.digest, expanded_bytes });
    }
    let (analyzed, preview) = compute(job, control, options)?;
    if preview.digest != digest {
        let text = "The server or the archive is no longer as it was previewed: preview again.";
        return Err(Error::new("plan_changed", text));
    }
    if let Some(conflict) = preview.plan.conflicts.iter().find(|c| c.id == DISK_SPACE) {
        return Err(Error::new("disk_full", conflict.message.as_str()));
    }
    if let Some(conflict) = preview.plan.conflicts.first() {
        let text =
            format!("Conflicts are not settled: {} Preview with resolutions.", conflict.message);
        return Err(Error::new("conflicts_unresolved", text));
    }
    let begun = Begun {
        source: analyzed.source,
        archive: analyzed.analysis.archive,
        options: options.clone(),
        digest: preview.digest.clone(),
        ipv4: control.ipv4,
        plan: preview.plan.clone(),
        template: false,
    };
    space::reserve(job.id)?;
    write_json(&layout::plan(job.id), &begun)?;
    Ok(preview)
}

/// The id of the conflict that only more space settles.
const DISK_SPACE: &str = "disk_space";

fn compute(
    job: &Job<'_>,
    control: &ControlFacts,
    options: &Options,
) -> Result<(Analyzed, Preview)> {
    let analyzed = job.analyzed()?;
    analyzed.stamp.check(&analyzed.source)?;
    let account = job.account()?;
    let target_user = &analyzed.source.target_user;
    let facts = facts::gather(&account, target_user, options)?;
    let now = chrono::Utc::now();
    let input = Input { account: &account, target_user, facts: &facts, control, options, now };
    let mut plan = plan(&input);
    check_space(&analyzed, &account, &facts, &mut plan);
    let archive = &analyzed.analysis.archive;
    let digest = plan.digest(&archive.sha256, &facts, control)?;
    let expanded_bytes = archive.expanded_bytes;
    Ok((analyzed, Preview { plan, digest, expanded_bytes }))
}

/// Staging holds all once, and home and mail move out of it by renames; tables take half as much again
/// as their dumps, and converted mailboxes as much again as they are. Beside that there is what must
/// stay free, and what undoing may need.
fn check_space(analyzed: &Analyzed, account: &Account, facts: &Facts, plan: &mut Plan) {
    let is_mdbox = account.mail.mailboxes.iter().any(|m| m.format == MailFormat::Mdbox);
    let beside = plan.operations.iter().map(|operation| match &operation.resource {
        Resource::Database { bytes, .. } => bytes.saturating_add(bytes / 2),
        Resource::Mailbox { bytes, .. } if is_mdbox => *bytes,
        _ => 0,
    });
    let needed = beside
        .fold(analyzed.analysis.archive.expanded_bytes, u64::saturating_add)
        .saturating_add(space::FLOOR + space::RESERVE);
    if facts.free_bytes >= needed {
        return;
    }
    let message = format!(
        "{} MiB are free for homes and {} MiB are needed, for what the archive unpacks to, the tables of its databases and what must stay free: free some space.",
        facts.free_bytes >> 20,
        needed >> 20
    );
    plan.conflicts.push(Conflict { id: DISK_SPACE.to_owned(), message, resolutions: Vec::new() });
}
