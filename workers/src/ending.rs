//! How a saga's job ends: where its migration or its service stands now, in one transaction with the
//! job's own end.

use crate::acme;
use crate::error::Result;
use crate::ledger;
use crate::saga::Cx;
use crate::sagas::{apply, cloudpod};
use entities::audit::Audit;
use entities::certificates;
use entities::cloudpods;
use entities::db::SystemTx;
use entities::error::{Code, Error};
use entities::jobs::{self, Ending};
use entities::migrations::{self, State};
use entities::services::{self, Outcome};
use serde_json::Value;

/// What a run came to.
#[derive(Debug)]
pub enum End {
    Done(Value),
    /// What it did was taken back.
    Failed {
        code: String,
        message: String,
    },
    /// Taking back has failed, too: what stands is for an operator, or for another try.
    UndoFailed {
        code: String,
        message: String,
    },
    /// It was to take back what an earlier run did, and has.
    TakenBack,
}

/// Ends the job.
pub async fn end(cx: &Cx, end: End) -> Result<()> {
    let power = if ledger::is_of_pod(cx) { cloudpod::power(cx).await } else { None };
    let tx = cx.world.db.system().await?;
    if ledger::is_of_pod(cx) {
        cloudpods::settle(&tx, &cx.claim, pod_outcome(&end), power).await?;
    } else if ledger::is_of_service(cx) {
        services::settle(&tx, &cx.claim, outcome(cx, &end)?).await?;
    } else if ledger::is_of_certificate(cx) {
        let outcome = certificate_outcome(cx, &tx, &end).await?;
        certificates::settle(&tx, &cx.claim, outcome).await?;
    } else {
        settle_migration(cx, &tx, &end).await?;
    }
    let ending = match end {
        End::Done(result) => Ending::Done { result },
        End::TakenBack => Ending::Done { result: jobs::nothing() },
        End::Failed { code, message } | End::UndoFailed { code, message } => {
            Ending::Failed { code, message }
        }
    };
    jobs::finish(&tx, &cx.claim, &ending).await?;
    tx.commit().await
}

fn pod_outcome(end: &End) -> cloudpods::Outcome {
    let (code, message) = match end {
        End::Done(result) => return cloudpods::Outcome::Done(result.clone()),
        End::TakenBack => return cloudpods::Outcome::Done(Value::Null),
        End::Failed { code, message } | End::UndoFailed { code, message } => {
            (code.clone(), message.clone())
        }
    };
    match end {
        End::UndoFailed { .. } => cloudpods::Outcome::Unclean { code, message },
        _ => cloudpods::Outcome::Failed { code, message },
    }
}

fn outcome(cx: &Cx, end: &End) -> Result<Outcome> {
    Ok(match end {
        End::Done(result) if cx.claim.phase == "terminate" => {
            let backup = result.get("backup").and_then(Value::as_str);
            let backup =
                backup.ok_or_else(|| Error::internal("an account that went without a backup"))?;
            Outcome::Removed { backup: backup.to_owned() }
        }
        End::Done(_) | End::TakenBack => Outcome::Done,
        End::Failed { message, .. } => Outcome::Failed { message: message.clone() },
        End::UndoFailed { message, .. } => Outcome::Unclean { message: message.clone() },
    })
}

async fn certificate_outcome(cx: &Cx, tx: &SystemTx, end: &End) -> Result<certificates::Outcome> {
    Ok(match end {
        End::Done(_) if cx.claim.phase == "remove" => certificates::Outcome::Removed,
        End::Done(_) | End::TakenBack => {
            let row = certificates::load_claimed(tx, &cx.claim).await?;
            let chain = row.next_chain.unwrap_or_default();
            certificates::Outcome::Installed(acme::read_chain(chain)?)
        }
        End::Failed { code, message } | End::UndoFailed { code, message } => {
            certificates::Outcome::Failed { code: code.clone(), message: message.clone() }
        }
    })
}

async fn settle_migration(cx: &Cx, tx: &SystemTx, end: &End) -> Result<()> {
    let analyzes = cx.claim.phase == "analyze";
    let job = cx.claim.job.to_string();
    let (state, entry) = match end {
        End::Done(_) if analyzes => (State::Analyzed, None),
        End::Done(_) => {
            let losses = migrations::count_losses(tx, cx.claim.job).await?;
            (apply::ending_state(losses), Some(Audit::MigrationCompleted { job, losses }))
        }
        End::Failed { code, .. } => {
            let cancelled = analyzes && *code == Code::Cancelled.as_str();
            let state = if cancelled { State::Cancelled } else { State::Failed };
            (state, Some(Audit::MigrationFailed { job, code: code.clone() }))
        }
        End::UndoFailed { code, .. } => {
            (State::UndoFailed, Some(Audit::MigrationFailed { job, code: code.clone() }))
        }
        End::TakenBack => (State::RolledBack, Some(Audit::MigrationRolledBack { job })),
    };
    migrations::settle(tx, &cx.claim, state, entry).await
}
