//! One pass over the archive: into the job's staging goes the account that it describes, and nothing
//! else.

use crate::beneath::Beneath;
use crate::error::{Error, Result};
use crate::job::{Analyzed, Job, write_json};
use crate::layout;
use crate::leftovers;
use crate::source;
use crate::stamp::Stamp;
use cpanel::analyze::read_account;
use cpanel::protocol::{Analysis, ArchiveIdentity, Source};
use cpanel::stream::Limits;
use cpanel::summary::summarize;
use std::io;
use std::path::Path;

/// Reads the archive and keeps what it describes for the job. Repeating it starts afresh; a death on
/// the way leaves nothing that a later call would take for whole.
pub fn analyze(job: &Job<'_>, source: &Source) -> Result<Analysis> {
    if source.target_user.is_reserved() {
        let text =
            format!("{} is a name of the system: choose another target user.", source.target_user);
        return Err(Error::new("reserved_user_name", text));
    }
    let stamp = Stamp::of(source)?;
    Beneath::private_dir(Path::new(layout::STAGING))?.remove(job.id.to_string())?;
    leftovers::sweep(job.id)?;
    Beneath::private_dir(&layout::staging(job.id))?;
    let size = stamp.size();
    let mut progress = |read: u64| {
        let told = job
            .check()
            .and_then(|()| job.events.progress(read, size.max(read), "Reading the archive"));
        told.map_err(io::Error::other)
    };
    let limits = Limits::default();
    let read = read_account(source::open(source)?, &limits, &mut progress);
    // A stop inside the reader comes back as a failed read.
    job.check()?;
    let parsed = read?;
    stamp.check(source)?;
    let totals = parsed.totals;
    let analysis = Analysis {
        archive: ArchiveIdentity {
            path: source.path.clone(),
            format: totals.format,
            sha256: totals.sha256,
            size_bytes: totals.size_bytes,
            expanded_bytes: totals.expanded_bytes,
            members: totals.members,
        },
        summary: summarize(&parsed.account),
    };
    write_json(&layout::account(job.id), &parsed.account)?;
    // Last: its presence says that the analysis is whole.
    let analyzed = Analyzed { source: source.clone(), analysis: analysis.clone(), stamp };
    write_json(&layout::analysis(job.id), &analyzed)?;
    Ok(analysis)
}
