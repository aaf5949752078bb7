//! Domains take mail once control of them is proven.

use crate::error::Result;
use crate::runner;
use crate::saga::Cx;
use cpanel::protocol::{Call, Level, StepReport};
use entities::activation;
use entities::error::Error;
use entities::jobs::{self, Ending};
use entities::servers;
use serde_json::{Value, json};

/// Lets the job's domains take mail, and ends it. May run any number of times.
pub async fn run(cx: &Cx) -> Result<()> {
    let outcome = activate(cx).await;
    if let Err(error) = &outcome
        && runner::is_no_verdict(error)
    {
        return outcome.map(|_| ());
    }
    end(cx, outcome).await
}

/// Ends it.
pub async fn end(cx: &Cx, outcome: Result<Value, Error>) -> Result<()> {
    let tx = cx.world.db.system().await?;
    activation::settle(&tx, &cx.claim, outcome.is_ok()).await?;
    let ending = match outcome {
        Ok(result) => Ending::Done { result },
        Err(error) => {
            tracing::warn!(cause = %error.chain(), "activation.failed");
            Ending::Failed { code: error.code().as_str(), message: error.to_string() }
        }
    };
    jobs::finish(&tx, &cx.claim, &ending).await?;
    tx.commit().await
}

async fn activate(cx: &Cx) -> Result<Value> {
    let tx = cx.world.db.system().await?;
    let waking = activation::load(&tx, &cx.claim).await?;
    servers::load_usable_server(&tx, cx.claim.server).await?;
    drop(tx);
    let Some(waking) = waking else { return Ok(json!({ "domains": 0 })) };
    let count = waking.mail.len();
    if count > 0 {
        let call = Call::ActivateMail { user: waking.user, domains: waking.mail };
        let report: StepReport = runner::ask_patiently(cx, "activate", call).await?;
        for item in &report.items {
            cx.log(Level::Info, "activate", &format!("{}: {}", item.id, item.detail)).await?;
        }
    }
    Ok(json!({ "domains": count }))
}
