//! Steps that make an account, from whatever its operations came: names, the server, zones, checks.

use crate::dns::{converge, query};
use crate::error::Result;
use crate::facts;
use crate::ledger;
use crate::saga::{Cx, Progress, Step, Undoing};
use cpanel::plan::{Operation, RecordSet, Resource, StepName};
use cpanel::protocol::{Call, Check, CheckStatus, ItemReport, Level, Outcome, StepReport};
use entities::dns::restore::{self, WantedZone, ZoneBefore};
use entities::error::{Code, Error};
use entities::hosting::{self, Possession};
use entities::values::DomainName;
use hickory_proto::rr::RecordType;
use serde::Serialize;
use std::collections::BTreeSet;

/// A step's name and where the whole stands when it begins, of 100.
pub(super) fn place(step: StepName) -> (&'static str, i32) {
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

/// Makes the account's name and its domains the tenant's, before anything is made on the server.
#[derive(Debug, Serialize)]
pub(super) struct TakeNames;

impl Step for TakeNames {
    /// The domains that are new.
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        "take_names"
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<String>> {
        ledger::begin(cx, self.name(), 3).await?;
        let operations = ledger::operations(cx).await?;
        let named = ledger::names(cx).await?;
        let served = served_names(&operations);
        let domains: Vec<DomainName> =
            named.domains.into_iter().filter(|name| served.contains(name.as_str())).collect();
        let tx = cx.world.db.system().await?;
        let active = match named.vouched {
            true => domains.iter().cloned().collect(),
            false => facts::proven(&tx, cx.claim.tenant, &domains).await?,
        };
        let wanted = Possession { user: &named.user, domains: &domains, active: &active };
        let added = hosting::take(&tx, &cx.claim, &wanted).await?;
        ledger::record_account(cx, &tx).await?;
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
pub(super) struct OnServer {
    pub(super) step: StepName,
}

impl Step for OnServer {
    type Output = StepReport;

    fn name(&self) -> &'static str {
        place(self.step).0
    }

    async fn run(&self, cx: &Cx) -> Result<StepReport> {
        let (name, percent) = place(self.step);
        ledger::begin(cx, name, percent).await?;
        let progress = Progress::Of { from: u64::try_from(percent).unwrap_or(0), width: 10 };
        let report: StepReport =
            cx.ask_agent(name, Call::Apply { step: self.step }, progress).await?;
        let operations = ledger::operations(cx).await?;
        let tx = cx.world.db.system().await?;
        ledger::record_items(cx, &tx, &operations, &report.items).await?;
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
pub(super) struct PublishZones;

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
        ledger::begin(cx, self.name(), place(StepName::Dns).1).await?;
        let operations = ledger::operations(cx).await?;
        let zones = Self::zones(&operations);
        let names: Vec<DomainName> = zones.iter().map(|(_, name, ..)| (*name).clone()).collect();
        let before = saved_before(cx, &names).await?;
        for (operation, name, records, active) in zones {
            refuse_strangers_zone(cx, name).await?;
            let tx = cx.world.db.system().await?;
            let zone = WantedZone { name, action: operation.action, records, active };
            let id = restore::write_zone(&tx, &cx.claim, &zone).await?;
            tx.commit().await?;
            converge::converge_now(&cx.world.dns, id).await?;
            let item = ItemReport {
                id: operation.id.clone(),
                outcome: if active { Outcome::Migrated } else { Outcome::Disabled },
                detail: if active {
                    String::new()
                } else {
                    "kept, and answered as soon as the domain is verified".to_owned()
                },
            };
            let tx = cx.world.db.system().await?;
            ledger::record_items(cx, &tx, &operations, &[item]).await?;
            tx.commit().await?;
        }
        Ok(before)
    }

    async fn undo(&self, cx: &Cx, output: Option<Vec<ZoneBefore>>) -> Result<()> {
        let before = match output {
            Some(before) => before,
            None => {
                let operations = ledger::operations(cx).await?;
                let names: Vec<DomainName> =
                    Self::zones(&operations).iter().map(|(_, name, ..)| (*name).clone()).collect();
                saved_before(cx, &names).await?
            }
        };
        restore_zones(cx, &before).await
    }
}

/// Puts zones back to what they were, the last first; those that were not there go.
pub(super) async fn restore_zones(cx: &Cx, before: &[ZoneBefore]) -> Result<()> {
    for zone in before.iter().rev() {
        let tx = cx.world.db.system().await?;
        let restored = restore::restore_zone(&tx, &cx.claim, zone).await?;
        tx.commit().await?;
        if let Some(id) = restored {
            converge::converge_now(&cx.world.dns, id).await?;
        }
    }
    Ok(())
}

/// A zone that the DNS server has and our rows do not know is somebody's work: it is neither
/// replaced nor, in an undo, removed.
async fn refuse_strangers_zone(cx: &Cx, name: &DomainName) -> Result<()> {
    let tx = cx.world.db.system().await?;
    let known = restore::is_known(&tx, name).await?;
    drop(tx);
    if !known && cx.world.dns.primary.api.has_zone(name).await? {
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
    let before = restore::keep_before(&tx, &cx.claim, names).await?;
    tx.commit().await?;
    Ok(before)
}

/// Real checks against the running services; one that fails undoes the migration.
#[derive(Debug, Serialize)]
pub(super) struct PostValidation;

impl Step for PostValidation {
    /// The checks that passed with a warning.
    type Output = Vec<String>;

    fn name(&self) -> &'static str {
        place(StepName::PostValidation).0
    }

    async fn run(&self, cx: &Cx) -> Result<Vec<String>> {
        ledger::begin(cx, self.name(), place(StepName::PostValidation).1).await?;
        let operations = ledger::operations(cx).await?;
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

pub(super) async fn check_zones(cx: &Cx, operations: &[Operation]) -> Vec<Check> {
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
    let answered = query::query(cx.world.dns.primary.address, &apex, rtype).await;
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
