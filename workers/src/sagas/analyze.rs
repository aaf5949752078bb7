//! Analysing an archive: one pass on the server, then the plan against the server as it is.

use crate::error::Result;
use crate::facts::{Named, control_facts};
use crate::saga::{Cx, Progress, Saga, Step};
use cpanel::plan::Options;
use cpanel::protocol::{Analysis, Call, Level, Preview, Source};
use entities::migrations::{self, State};
use entities::servers;
use entities::values::{AbsPath, Username};
use serde::Serialize;
use serde_json::{Value, json};

/// The function of the saga.
pub async fn analyze(saga: &mut Saga) -> Result<Value> {
    let members = saga.step(ReadArchive).await?;
    let conflicts = saga.step(FindConflicts).await?;
    Ok(json!({ "members": members, "conflicts": conflicts }))
}

/// Reads the archive in one pass. What it writes lies in the job's staging only.
#[derive(Debug, Serialize)]
struct ReadArchive;

impl Step for ReadArchive {
    /// How many members the archive has.
    type Output = u64;

    fn name(&self) -> &'static str {
        "read_archive"
    }

    async fn run(&self, cx: &Cx) -> Result<u64> {
        let tx = cx.world.db.system().await?;
        let row = migrations::load_migration(&tx, cx.claim.job).await?;
        migrations::set_progress(
            &tx,
            &cx.claim,
            Some(State::Analyzing),
            Some("read_archive"),
            None,
        )
        .await?;
        tx.commit().await?;
        let source = Source {
            path: AbsPath::parse(&row.source_path)?,
            target_user: Username::parse(&row.target_user)?,
            backup_dirs: servers::backup_dirs(&cx.server)?,
        };
        cx.log(Level::Info, "read_archive", &format!("Reading {}.", source.path)).await?;
        let progress = Progress::Of { from: 0, width: 90 };
        let analysis: Analysis =
            cx.ask_agent("read_archive", Call::Analyze(source), progress).await?;
        let tx = cx.world.db.system().await?;
        migrations::record_analysis(&tx, &cx.claim, &analysis).await?;
        tx.commit().await?;
        let summary = &analysis.summary;
        let found = format!(
            "Read {} members, {} bytes unpacked: {} domains, {} mailboxes, {} databases, {} zones.",
            analysis.archive.members,
            analysis.archive.expanded_bytes,
            summary.domains.len(),
            summary.mailboxes.len(),
            summary.databases.len(),
            summary.zones.len(),
        );
        cx.log(Level::Info, "read_archive", &found).await?;
        Ok(analysis.archive.members)
    }

    async fn undo(&self, cx: &Cx, _: Option<u64>) -> Result<()> {
        cx.ask_agent("read_archive", Call::Cleanup, Progress::Silent).await
    }
}

/// Plans with the default options to see what stands in the way.
#[derive(Debug, Serialize)]
struct FindConflicts;

impl Step for FindConflicts {
    /// How many there are.
    type Output = usize;

    fn name(&self) -> &'static str {
        "find_conflicts"
    }

    async fn run(&self, cx: &Cx) -> Result<usize> {
        let tx = cx.world.db.system().await?;
        let row = migrations::load_migration(&tx, cx.claim.job).await?;
        drop(tx);
        let named = Named::of_migration(&row)?;
        let control = control_facts(&cx.world, cx.claim.tenant, &named, &cx.server).await?;
        let call = Call::Preview { control, options: Options::default() };
        let preview: Preview = cx.ask_agent("find_conflicts", call, Progress::Silent).await?;
        let tx = cx.world.db.system().await?;
        migrations::record_conflicts(&tx, &cx.claim, &preview).await?;
        tx.commit().await?;
        for conflict in &preview.plan.conflicts {
            cx.log(Level::Warn, "find_conflicts", &conflict.message).await?;
        }
        Ok(preview.plan.conflicts.len())
    }

    async fn undo(&self, _: &Cx, _: Option<usize>) -> Result<()> {
        Ok(())
    }
}
