//! Letting domains take mail that slept until control of them was proven.

use crate::beneath::{Beneath, Owner};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::layout;
use cpanel::protocol::{ItemReport, Outcome, StepReport};
use std::collections::BTreeSet;
use values::{DomainName, Username};

/// Lets mail come in for these domains of the account, at once, or when a suspended account is opened
/// again. A domain that is not there, or another account's by now, is left alone.
pub fn activate(
    job: &Job<'_>,
    user: &Username,
    domains: &BTreeSet<DomainName>,
) -> Result<StepReport> {
    let _lock = job.lock(user)?;
    let owner_line = format!("{user}\n");
    let suspended = layout::suspended(user);
    let is_suspended = suspended.try_exists().map_err(Error::at(&suspended))?;
    let mut report = StepReport::default();
    for domain in domains {
        job.check()?;
        let name = domain.as_str();
        let (root, rest) = Beneath::place(&layout::mail_owner(name))?;
        let owner = root.read(rest, 256)?;
        let detail = if owner.as_deref() == Some(owner_line.as_bytes()) {
            // It waits before it comes.
            if is_suspended {
                put(&layout::mail_suspended(name), &owner_line)?;
            }
            put(&layout::mail_active(name), &owner_line)?;
            "takes mail"
        } else {
            "is no mail domain of the account any more"
        };
        report.items.push(ItemReport {
            id: format!("mail_domain:{domain}"),
            outcome: Outcome::Adapted,
            detail: detail.to_owned(),
        });
    }
    Ok(report)
}

fn put(path: &std::path::Path, line: &str) -> Result<()> {
    let (root, rest) = Beneath::place(path)?;
    root.write(rest, line.as_bytes(), Owner::root(0o644))
}
