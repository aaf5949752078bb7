//! The account of a service: made by the steps of a migration, from a template instead of an archive.

use crate::error::Result;
use crate::facts::{Named, control_facts};
use crate::ledger;
use crate::runner;
use crate::saga::{Cx, Progress, Saga, Step};
use crate::sagas::steps::{self, OnServer, PostValidation, PublishZones, TakeNames};
use cpanel::plan::StepName;
use cpanel::protocol::{Call, Level, Preview, StepReport, Terminated, Termination};
use entities::dns::restore::{self, ZoneBefore};
use entities::error::{Code, Error};
use entities::servers;
use entities::services::{self, Made};
use entities::tables::service;
use entities::values::DomainName;
use serde::Serialize;
use serde_json::{Value, json};

/// The function of the saga that makes an account.
pub async fn provision(saga: &mut Saga) -> Result<Value> {
    let operations = saga.step(Prepare).await?;
    saga.step(TakeNames).await?;
    for step in
        [StepName::CreateUser, StepName::CreateDirectories, StepName::RestoreHome, StepName::Mail]
    {
        saga.step(OnServer { step }).await?;
    }
    saga.step(PublishZones).await?;
    saga.step(PostValidation).await?;
    Ok(json!({ "operations": operations }))
}

/// Makes the account of a service suspended, open again, or gone. May run any number of times.
pub async fn converge(cx: &Cx) -> Result<Value> {
    let tx = cx.world.db.system().await?;
    let row = services::load_claimed(&tx, &cx.claim).await?;
    servers::load_usable_server(&tx, cx.claim.server).await?;
    drop(tx);
    let user = services::username(&row)?;
    match cx.claim.phase.as_str() {
        "suspend" => ask(cx, Call::Suspend { user }).await,
        "unsuspend" => ask(cx, Call::Unsuspend { user }).await,
        "terminate" => terminate(cx, row).await,
        phase => Err(Error::internal(format!("nobody knows how to {phase} an account"))),
    }
}

/// The account goes from its server, with a last backup there; then its zones go, and its rows with the
/// end of the job.
async fn terminate(cx: &Cx, row: service::Model) -> Result<Value> {
    let named = Named::of_service(&row, &cx.world.config.accounts_domain)?;
    let mut domains = named.domains.clone();
    let tx = cx.world.db.system().await?;
    if let Some(account) = row.account_id {
        domains.extend(entities::hosting::load_domains(&tx, account).await?);
    }
    domains.sort();
    domains.dedup();
    let zones = restore::load_zones(&tx, cx.claim.tenant, &domains).await?;
    drop(tx);
    let dirs = servers::backup_dirs(&cx.server)?;
    let none = || Error::internal("a server without a directory of backups");
    let [domain] = named.domains.as_slice() else {
        return Err(Error::internal("an account with other than one main domain"));
    };
    let call = Call::Terminate(Termination {
        user: named.user,
        service: row.id.0,
        domain: domain.clone(),
        ipv4: cx.server.ipv4.parse().map_err(Error::internal)?,
        zones,
        backup_dir: dirs.first().ok_or_else(none)?.clone(),
    });
    cx.log(Level::Info, "terminate", "Begins.").await?;
    let ended: Terminated = runner::ask_patiently(cx, "terminate", call).await?;
    cx.log(Level::Info, "terminate", &format!("The last backup is {}.", ended.backup)).await?;
    let zones = domains.into_iter().map(|name| ZoneBefore { name, records: None });
    steps::restore_zones(cx, &zones.collect::<Vec<_>>()).await?;
    Ok(json!({ "backup": ended.backup }))
}

async fn ask(cx: &Cx, call: Call) -> Result<Value> {
    let verb = call.verb();
    cx.log(Level::Info, verb, "Begins.").await?;
    let report: StepReport = runner::ask_patiently(cx, verb, call).await?;
    for item in &report.items {
        cx.log(Level::Info, verb, &format!("{}: {}", item.id, item.detail)).await?;
    }
    Ok(json!({ "changed": report.items.len() }))
}

/// Plans the account on its server and keeps the plan.
#[derive(Debug, Serialize)]
struct Prepare;

impl Step for Prepare {
    /// How many operations there are.
    type Output = usize;

    fn name(&self) -> &'static str {
        "prepare"
    }

    async fn run(&self, cx: &Cx) -> Result<usize> {
        ledger::begin(cx, self.name(), 1).await?;
        let tx = cx.world.db.system().await?;
        servers::load_usable_server(&tx, cx.claim.server).await?;
        drop(tx);
        let named = ledger::names(cx).await?;
        let [domain] = named.domains.as_slice() else {
            return Err(Error::internal("a new account with other than one domain"));
        };
        refuse_ours(cx, domain)?;
        let control = control_facts(&cx.world, cx.claim.tenant, &named, &cx.server).await?;
        let (user, domain) = (named.user.clone(), domain.clone());
        let call = Call::Prepare { user, domain: domain.clone(), control };
        let preview: Preview = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        let operations = preview.plan.operations;
        let tx = cx.world.db.system().await?;
        let made = Made { domain: &domain, operations: &operations };
        services::record_operations(&tx, &cx.claim, &made).await?;
        tx.commit().await?;
        Ok(operations.len())
    }

    async fn undo(&self, cx: &Cx, _: Option<usize>) -> Result<()> {
        cx.ask_agent(self.name(), Call::Cleanup, Progress::Silent).await
    }
}

/// Nobody gets a name above or below those of our own machines: its zone would answer for them.
fn refuse_ours(cx: &Cx, domain: &DomainName) -> Result<()> {
    let mut ours = cx.world.config.nameservers.clone();
    ours.extend(DomainName::parse(&cx.server.hostname));
    if ours.iter().any(|name| name == domain || name.is_below(domain) || domain.is_below(name)) {
        let text = format!("The domain {domain} belongs to this installation: choose another.");
        return Err(Error::refused(Code::Conflict, text));
    }
    Ok(())
}
