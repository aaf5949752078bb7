//! The crontab: kept for somebody to confirm, never run.

use super::Done;
use crate::beneath::Owner;
use crate::effects::Work;
use crate::error::Result;
use crate::layout;
use cpanel::protocol::Outcome;
use std::fmt::Write;

/// Keeps the account's crontab where cron does not look.
pub fn keep(work: &mut Work<'_>) -> Result<Done> {
    let mut text = String::new();
    for (name, value) in &work.account.cron_settings {
        writeln!(text, "{name}={value}").map_err(crate::error::Error::internal)?;
    }
    for line in &work.account.cron {
        writeln!(text, "{line}").map_err(crate::error::Error::internal)?;
    }
    work.put(&layout::cron(work.user()), text.as_bytes(), Owner::root(0o600), None)?;
    Ok((Outcome::Disabled, "Each line runs only after it was confirmed.".to_owned()))
}
