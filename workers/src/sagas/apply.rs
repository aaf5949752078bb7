//! Applying a previewed migration. The same function, replayed backwards, is its rollback.

use crate::error::Result;
use crate::facts::{Named, control_facts};
use crate::ledger;
use crate::saga::{Cx, Progress, Saga, Step};
use crate::sagas::steps::{OnServer, PostValidation, PublishZones, TakeNames, check_zones};
use cpanel::plan::{Operation, Options, Plan, StepName};
use cpanel::protocol::{Call, Check, ItemReport, Outcome, Preview, Verification};
use entities::error::Error;
use entities::migrations::{self, State};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The function of the saga.
pub async fn apply(saga: &mut Saga, digest: String, options: Options) -> Result<Value> {
    let losses = saga.step(CheckPlan { digest, options }).await?;
    saga.step(TakeNames).await?;
    for step in [
        StepName::CreateUser,
        StepName::CreateDirectories,
        StepName::RestoreHome,
        StepName::Databases,
        StepName::Mail,
    ] {
        saga.step(OnServer { step }).await?;
    }
    saga.step(PublishZones).await?;
    saga.step(OnServer { step: StepName::Certificates }).await?;
    saga.step(PostValidation).await?;
    Ok(json!({ "not_transferred": losses }))
}

/// Plans again against the server of now; refuses when the outcome is another than was previewed.
#[derive(Debug, Serialize)]
struct CheckPlan {
    digest: String,
    options: Options,
}

impl Step for CheckPlan {
    /// How many things of the archive are not transferred.
    type Output = usize;

    fn name(&self) -> &'static str {
        "check_plan"
    }

    async fn run(&self, cx: &Cx) -> Result<usize> {
        ledger::begin(cx, self.name(), 1).await?;
        let tx = cx.world.db.system().await?;
        let row = migrations::load_migration(&tx, cx.claim.job).await?;
        drop(tx);
        let named = Named::of_migration(&row)?;
        let control = control_facts(&cx.world, cx.claim.tenant, &named, &cx.server).await?;
        let call =
            Call::Begin { control, options: self.options.clone(), digest: self.digest.clone() };
        let preview: Preview = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        let plan = &preview.plan;
        let lost = foreseen(plan);
        let tx = cx.world.db.system().await?;
        migrations::record_operations(&tx, &cx.claim, &plan.operations).await?;
        migrations::record_items(&tx, &cx.claim, &plan.operations, &lost).await?;
        tx.commit().await?;
        Ok(plan.not_transferred.len())
    }

    async fn undo(&self, _: &Cx, _: Option<usize>) -> Result<()> {
        Ok(())
    }
}

/// What the report says before anything is done: one entry an item, with all that there is to say
/// of it.
fn foreseen(plan: &Plan) -> Vec<ItemReport> {
    let notes = plan.notes.iter().map(|note| (&note.item, note.outcome, &note.detail));
    let lost = plan.not_transferred.iter().map(|l| (&l.item, Outcome::NotTransferred, &l.reason));
    let mut items: BTreeMap<&String, ItemReport> = BTreeMap::new();
    for (id, outcome, detail) in notes.chain(lost) {
        let new = || ItemReport { id: id.clone(), outcome, detail: String::new() };
        let item = items.entry(id).or_insert_with(new);
        item.outcome = outcome;
        item.detail = format!("{} {detail}", item.detail).trim_start().to_owned();
    }
    items.into_values().collect()
}

/// Checks the account on its server, and its zones at the DNS server.
pub async fn verify(cx: &Cx, operations: &[Operation]) -> Result<Vec<Check>> {
    let call = Call::Verify { ipv4: cx.server.ipv4.parse().map_err(Error::internal)? };
    let verification: Verification =
        cx.ask_agent("post_validation", call, Progress::Silent).await?;
    let mut checks = verification.checks;
    checks.extend(check_zones(cx, operations).await);
    Ok(checks)
}

/// How a finished apply is to be called: complete only when nothing was left behind.
#[must_use]
pub fn ending_state(losses: u64) -> State {
    if losses == 0 { State::Completed } else { State::CompletedWithLosses }
}
