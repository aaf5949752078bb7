//! Applying a previewed migration. The same function, replayed backwards, is its rollback.

use crate::error::Result;
use crate::facts::control_facts;
use crate::powerdns;
use crate::saga::{Cx, Progress, Saga, Step, Undoing};
use cpanel::plan::{Operation, Options, Plan, RecordSet, Resource, StepName};
use cpanel::protocol::{
    Call, Check, CheckStatus, ItemReport, Level, Outcome, Preview, StepReport, Verification,
};
use entities::dns::{self, Restored, WantedZone, ZoneBefore};
use entities::error::{Code, Error};
use entities::hosting::{self, Possession};
use entities::migrations::{self, State};
use entities::values::{DomainName, Username};
use hickory_proto::rr::RecordType;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

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

/// A step's name and where the whole stands when it begins, of 100.
fn place(step: StepName) -> (&'static str, i32) {
    match step {
        StepName::CreateUser => ("create_user", 5),
        StepName::CreateDirectories => ("create_directories", 10),
        StepName::RestoreHome => ("restore_home", 15),
        StepName::Databases => ("databases", 45),
        StepName::Mail => ("mail", 65),
        StepName::Dns => ("dns", 80),
        StepName::Certificates => ("certificates", 85),
        StepName::PostValidation => ("post_validation", 90),
    }
}

async fn begin(cx: &Cx, step: &'static str, percent: i32) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let progress = Some((percent, ""));
    migrations::set_progress(&tx, &cx.claim, None, Some(step), progress).await?;
    tx.commit().await?;
    cx.log(Level::Info, step, "Begins.").await
}

async fn operations(cx: &Cx) -> Result<Vec<Operation>> {
    let tx = cx.world.db.system().await?;
    let row = migrations::load_migration(&tx, cx.claim.job).await?;
    Ok(serde_json::from_value(row.operations.unwrap_or_else(|| json!([])))?)
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
        begin(cx, self.name(), 1).await?;
        let tx = cx.world.db.system().await?;
        let row = migrations::load_migration(&tx, cx.claim.job).await?;
        drop(tx);
        let control = control_facts(&cx.world, cx.claim.tenant, &row, &cx.server).await?;
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

/// Makes the account's name and its domains the tenant's, before anything is made on the server.
#[derive(Debug, Serialize)]
struct TakeNames;

impl Step for TakeNames {
    /// The domains that are new.
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        "take_names"
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<String>> {
        begin(cx, self.name(), 3).await?;
        let operations = operations(cx).await?;
        let tx = cx.world.db.system().await?;
        let row = migrations::load_migration(&tx, cx.claim.job).await?;
        let user = Username::parse(&row.target_user)?;
        let served = served_names(&operations);
        let domains: Vec<DomainName> = migrations::planned_domains(&row)?
            .into_iter()
            .filter(|name| served.contains(name.as_str()))
            .collect();
        let wanted = Possession { user: &user, domains: &domains, active: row.activate_domains };
        let added = hosting::take(&tx, &cx.claim, &wanted).await?;
        tx.commit().await?;
        Ok(added)
    }

    async fn undo(&self, cx: &Cx, _: Option<Vec<String>>) -> Result<()> {
        let tx = cx.world.db.system().await?;
        hosting::give_up(&tx, &cx.claim).await?;
        tx.commit().await
    }
}

/// Every name that the operations serve in some way.
fn served_names(operations: &[Operation]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for operation in operations {
        match &operation.resource {
            Resource::Website { domain, aliases, .. } => {
                names.insert(domain.to_string());
                names.extend(aliases.iter().map(ToString::to_string));
            }
            Resource::MailDomain { domain, .. } | Resource::Dkim { domain, .. } => {
                names.insert(domain.to_string());
            }
            Resource::Zone { name, .. } => {
                names.insert(name.to_string());
            }
            _ => {}
        }
    }
    names
}

/// A step that the agent carries out on the server.
#[derive(Debug, Serialize)]
struct OnServer {
    step: StepName,
}

impl Step for OnServer {
    type Output = StepReport;

    fn name(&self) -> &'static str {
        place(self.step).0
    }

    async fn run(&self, cx: &Cx) -> Result<StepReport> {
        let (name, percent) = place(self.step);
        begin(cx, name, percent).await?;
        let progress = Progress::Of { from: u64::try_from(percent).unwrap_or(0), width: 10 };
        let report: StepReport =
            cx.ask_agent(name, Call::Apply { step: self.step }, progress).await?;
        let operations = operations(cx).await?;
        let tx = cx.world.db.system().await?;
        migrations::record_items(&tx, &cx.claim, &operations, &report.items).await?;
        tx.commit().await?;
        for item in report.items.iter().filter(|item| !item.detail.is_empty()) {
            cx.log(Level::Info, name, &format!("{}: {}", item.id, item.detail)).await?;
        }
        Ok(report)
    }

    async fn undo(&self, cx: &Cx, _: Option<StepReport>) -> Result<()> {
        let call = Call::Undo { step: self.step, park: cx.undoing == Undoing::Park };
        let report: StepReport = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        for item in report.items.iter().filter(|item| !item.detail.is_empty()) {
            cx.log(Level::Info, self.name(), &format!("{}: {}", item.id, item.detail)).await?;
        }
        Ok(())
    }
}

/// Writes the zones into our rows and makes the DNS server equal to them.
#[derive(Debug, Serialize)]
struct PublishZones;

impl PublishZones {
    /// Zones of domains that nobody has verified are kept, but not answered.
    fn zones(operations: &[Operation]) -> Vec<(&Operation, &DomainName, &[RecordSet], bool)> {
        operations
            .iter()
            .filter_map(|operation| match &operation.resource {
                Resource::Zone { name, records, active } => {
                    Some((operation, name, records.as_slice(), *active))
                }
                _ => None,
            })
            .collect()
    }
}

impl Step for PublishZones {
    /// What stood in the zones before.
    type Output = Vec<ZoneBefore>;

    fn name(&self) -> &'static str {
        place(StepName::Dns).0
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<ZoneBefore>> {
        begin(cx, self.name(), place(StepName::Dns).1).await?;
        let operations = operations(cx).await?;
        let zones = Self::zones(&operations);
        let names: Vec<DomainName> = zones.iter().map(|(_, name, ..)| (*name).clone()).collect();
        let before = saved_before(cx, &names).await?;
        for (operation, name, records, active) in zones {
            refuse_strangers_zone(cx, name).await?;
            let tx = cx.world.db.system().await?;
            let zone = WantedZone { name, action: operation.action, records, active };
            let wanted = dns::write_zone(&tx, &cx.claim, &zone).await?;
            tx.commit().await?;
            let synced =
                if active { cx.world.powerdns.put_zone(name, &wanted).await } else { Ok(()) };
            let tx = cx.world.db.system().await?;
            let error = synced.as_ref().err().map(ToString::to_string);
            dns::record_sync(&tx, &cx.claim, name, error).await?;
            let item = ItemReport {
                id: operation.id.clone(),
                outcome: if active { Outcome::Migrated } else { Outcome::Disabled },
                detail: if active {
                    String::new()
                } else {
                    "kept, and answered as soon as the domain is verified".to_owned()
                },
            };
            migrations::record_items(&tx, &cx.claim, &operations, &[item]).await?;
            tx.commit().await?;
            synced?;
        }
        Ok(before)
    }

    async fn undo(&self, cx: &Cx, output: Option<Vec<ZoneBefore>>) -> Result<()> {
        let before = match output {
            Some(before) => before,
            None => {
                let operations = operations(cx).await?;
                let names: Vec<DomainName> =
                    Self::zones(&operations).iter().map(|(_, name, ..)| (*name).clone()).collect();
                saved_before(cx, &names).await?
            }
        };
        for zone in before.iter().rev() {
            let tx = cx.world.db.system().await?;
            let restored = dns::restore_zone(&tx, &cx.claim, zone).await?;
            tx.commit().await?;
            match restored {
                Restored::Untouched => {}
                Restored::Put(records) => cx.world.powerdns.put_zone(&zone.name, &records).await?,
                Restored::Delete => {
                    cx.world.powerdns.delete_zone(&zone.name).await?;
                    let tx = cx.world.db.system().await?;
                    dns::forget_zone(&tx, &cx.claim, &zone.name).await?;
                    tx.commit().await?;
                }
            }
        }
        Ok(())
    }
}

/// A zone that the DNS server has and our rows do not know is somebody's work: it is neither
/// replaced nor, in an undo, removed.
async fn refuse_strangers_zone(cx: &Cx, name: &DomainName) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let known = dns::is_known(&tx, name).await?;
    drop(tx);
    if !known && cx.world.powerdns.has_zone(name).await? {
        return Err(Error::refused(
            Code::DnsFailed,
            format!(
                "The DNS server has a zone {name} that was not made here. Remove it there, or leave the zone out of the restore."
            ),
        ));
    }
    Ok(())
}

/// What stood in the zones before this run touched them: kept before the first change, so that a
/// repetition after a death does not take our own work for what stood before.
async fn saved_before(cx: &Cx, names: &[DomainName]) -> Result<Vec<ZoneBefore>> {
    let tx = cx.world.db.system().await?;
    let before = dns::keep_before(&tx, &cx.claim, names).await?;
    tx.commit().await?;
    Ok(before)
}

/// Real checks against the running services; one that fails undoes the migration.
#[derive(Debug, Serialize)]
struct PostValidation;

impl Step for PostValidation {
    /// The checks that passed with a warning.
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        place(StepName::PostValidation).0
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<String>> {
        begin(cx, self.name(), place(StepName::PostValidation).1).await?;
        let operations = operations(cx).await?;
        let call = Call::Apply { step: StepName::PostValidation };
        let report: StepReport = cx.ask_agent(self.name(), call, Progress::Silent).await?;
        let mut warned = Vec::new();
        for item in &report.items {
            let level = if item.outcome == Outcome::Migrated { Level::Info } else { Level::Warn };
            cx.log(level, self.name(), &format!("{}: {}", item.id, item.detail)).await?;
            if level == Level::Warn {
                warned.push(item.id.clone());
            }
        }
        let checks = check_zones(cx, &operations).await;
        let failed: Vec<&Check> = checks.iter().filter(|c| c.status == CheckStatus::Fail).collect();
        for check in &checks {
            let level = if check.status == CheckStatus::Fail { Level::Error } else { Level::Info };
            cx.log(level, self.name(), &format!("{}: {}", check.name, check.message)).await?;
        }
        if failed.is_empty() {
            return Ok(warned);
        }
        let names: Vec<&str> = failed.iter().map(|c| c.name.as_str()).collect();
        Err(Error::refused(
            Code::PostValidationFailed,
            format!(
                "These checks failed after the restore: {}. The job's log has the details.",
                names.join(", ")
            ),
        ))
    }

    async fn undo(&self, _: &Cx, _: Option<Vec<String>>) -> Result<()> {
        Ok(())
    }
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

async fn check_zones(cx: &Cx, operations: &[Operation]) -> Vec<Check> {
    let mut checks = Vec::new();
    for (_, name, records, active) in PublishZones::zones(operations) {
        if active {
            checks.push(check_zone(cx, name, records).await);
        }
    }
    checks
}

/// Asks the DNS server for the zone's apex addresses, or its SOA when there are none.
async fn check_zone(cx: &Cx, name: &DomainName, records: &[RecordSet]) -> Check {
    let apex = format!("{name}.");
    let wanted = records.iter().find(|set| set.name == apex && set.rtype == "A");
    let rtype = if wanted.is_some() { RecordType::A } else { RecordType::SOA };
    let answered = powerdns::query(cx.world.config.dns_addr, &apex, rtype).await;
    let (status, message) = match (answered, wanted) {
        (Err(error), _) => {
            (CheckStatus::Fail, format!("the DNS server does not answer: {}", error.chain()))
        }
        (Ok(found), Some(set)) => {
            let found: BTreeSet<String> = found.into_iter().collect();
            if found == set.records {
                (CheckStatus::Pass, format!("the DNS server answers {}", join(&found)))
            } else {
                let wanted = join(&set.records);
                (
                    CheckStatus::Fail,
                    format!("the DNS server answers {}, not {wanted}", join(&found)),
                )
            }
        }
        (Ok(found), None) if found.is_empty() => {
            (CheckStatus::Fail, "the DNS server does not know the zone".to_owned())
        }
        (Ok(_), None) => (CheckStatus::Pass, "the DNS server answers for the zone".to_owned()),
    };
    Check { name: format!("dns:{name}"), status, message }
}

fn join(records: &BTreeSet<String>) -> String {
    if records.is_empty() {
        return "nothing".to_owned();
    }
    records.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// How a finished apply is to be called: complete only when nothing was left behind.
#[must_use]
pub fn ending_state(losses: u64) -> State {
    if losses == 0 { State::Completed } else { State::CompletedWithLosses }
}
