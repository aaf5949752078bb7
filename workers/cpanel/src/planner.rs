//! The planner: an account, the target's facts and the user's choices become ordered operations.
//!
//! The same input gives the same plan, byte for byte. Conflicts that no resolution settles leave the
//! operations that they concern out and stop the plan from being applied.

use crate::account::{Account, Domain};
use crate::plan::{
    Action, Component, Conflict, ControlFacts, Facts, Mode, NotTransferred, Note, Operation,
    Options, Ownership, Plan, Presence, Resolution, Resource, StepName, Suspended, Totals, Warning,
};
use crate::protocol::Outcome;
use crate::{plan_databases, plan_dns, plan_mail, plan_sites, plan_tls};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use values::{AbsPath, DomainName, RelPath, Username};

/// All that a plan rests on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub account: &'a Account,
    /// The user that the account becomes on the target.
    pub target_user: &'a Username,
    pub facts: &'a Facts,
    pub control: &'a ControlFacts,
    pub options: &'a Options,
    /// Decides which certificates and autoresponders are over.
    pub now: DateTime<Utc>,
}

/// Plans the restore of an account.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let suspended = input.account.suspended && input.options.suspended == Suspended::Keep;
    let mut locked: Account;
    let mut input = *input;
    if suspended {
        locked = input.account.clone();
        locked.lock_logins();
        input.account = &locked;
    }
    let mut draft = Draft::new(input);
    draft.suspended = suspended;
    draft.tell_of_suspension();
    draft.settle_domains();
    plan_sites::plan(&mut draft);
    plan_databases::plan(&mut draft);
    plan_mail::plan(&mut draft);
    plan_dns::plan(&mut draft);
    plan_tls::plan(&mut draft);
    draft.finish()
}

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub input: Input<'a>,
    /// Domains that are left out, by choice or until a conflict is settled.
    pub skipped: BTreeSet<DomainName>,
    /// The account was suspended on the source and stays so.
    pub suspended: bool,
    operations: Vec<Operation>,
    warnings: BTreeSet<Warning>,
    lost: Vec<NotTransferred>,
    notes: Vec<Note>,
    conflicts: BTreeMap<String, Conflict>,
    /// Ids of conflicts that came up, settled or not.
    met: BTreeSet<String>,
}

impl<'a> Draft<'a> {
    fn new(input: Input<'a>) -> Self {
        Self {
            input,
            skipped: BTreeSet::new(),
            suspended: false,
            operations: Vec::new(),
            warnings: input.account.warnings.iter().cloned().collect(),
            lost: input.account.not_transferable.clone(),
            notes: input.account.notes.clone(),
            conflicts: BTreeMap::new(),
            met: BTreeSet::new(),
        }
    }

    fn tell_of_suspension(&mut self) {
        if !self.input.account.suspended {
            return;
        }
        let user = self.input.target_user.as_str();
        let (outcome, detail) = if self.suspended {
            let text = "The account was suspended on the source and stays so: its sites answer 503, \
                        its mail is refused, its logins and database users are locked, its cron jobs \
                        stay off. To open it, preview again with \"suspended\": \"activate\" (once it \
                        was applied, with \"mode\": \"overwrite\", too) and apply.";
            (Outcome::Disabled, text)
        } else {
            let text = "The account was suspended on the source and is open here, by choice. Logins \
                        that are locked in the archive need a new password.";
            (Outcome::Adapted, text)
        };
        self.warn("account_suspended", user, detail);
        let item = format!("suspended:{user}");
        self.note(Note { item, outcome, detail: detail.to_owned() });
    }

    /// Whether the target has the account already, and it is the one that is restored into.
    pub(crate) fn is_own(&self) -> bool {
        let is_account = self.input.facts.user.as_ref().is_some_and(|u| u.is_account);
        is_account && self.input.control.account == Ownership::Own
    }

    /// The action on something of the account that may stand already.
    pub(crate) fn action(&self, exists: bool) -> Action {
        match (exists, self.input.options.mode) {
            (false, _) => Action::Create,
            (true, Mode::Merge) => Action::Merge,
            (true, Mode::Overwrite) => Action::Replace,
        }
    }

    /// Whether the archive has a password of the account that can be used.
    pub(crate) fn has_password(&self) -> bool {
        self.input.account.password.hash().is_some()
    }

    /// Whether a component is wanted and in the archive.
    pub(crate) fn wants(&self, component: Component) -> bool {
        self.input.options.wants(component)
            && self.input.account.presence.get(&component) != Some(&Presence::Absent)
    }

    /// A path below the account's home on the target.
    pub(crate) fn home(&self, below: Option<&RelPath>) -> Option<AbsPath> {
        let home = self.input.target_user.home();
        let text = below.map_or_else(|| home.clone(), |path| format!("{home}/{path}"));
        AbsPath::parse(&text).ok()
    }

    pub(crate) fn add(
        &mut self,
        id: String,
        (step, component): (StepName, Component),
        action: Action,
        (summary, resource): (String, Resource),
    ) {
        self.operations.push(Operation { id, step, component, action, summary, resource });
    }

    pub(crate) fn warn(&mut self, code: &str, subject: &str, message: impl Into<String>) {
        self.warnings.insert(Warning {
            code: code.to_owned(),
            subject: subject.to_owned(),
            message: message.into(),
        });
    }

    pub(crate) fn lose(&mut self, item: String, reason: impl Into<String>) {
        let lost = NotTransferred { item, reason: reason.into() };
        if !self.lost.contains(&lost) {
            self.lost.push(lost);
        }
    }

    /// Says of an item of the report that it comes over in another form, and warns of it.
    pub(crate) fn adapt(
        &mut self,
        code: &str,
        kind: &str,
        subject: &str,
        detail: impl Into<String>,
    ) {
        let detail = detail.into();
        self.warn(code, subject, detail.as_str());
        self.note(Note { item: format!("{kind}:{subject}"), outcome: Outcome::Adapted, detail });
    }

    pub(crate) fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The chosen way out of a conflict, when it is one of those offered; else the conflict stands.
    pub(crate) fn settle(
        &mut self,
        id: String,
        message: String,
        offered: Vec<Resolution>,
    ) -> Option<Resolution> {
        self.met.insert(id.clone());
        let chosen = self.input.options.resolutions.get(&id).cloned();
        let kind = std::mem::discriminant::<Resolution>;
        if let Some(chosen) = chosen
            && offered.iter().any(|o| kind(o) == kind(&chosen))
        {
            return Some(chosen);
        }
        self.oppose(id, message, offered);
        None
    }

    /// A conflict that stands.
    pub(crate) fn oppose(&mut self, id: String, message: String, resolutions: Vec<Resolution>) {
        self.met.insert(id.clone());
        self.conflicts.insert(id.clone(), Conflict { id, message, resolutions });
    }

    /// Whether a conflict stands.
    pub(crate) fn opposes(&self, id: &str) -> bool {
        self.conflicts.contains_key(id)
    }

    /// Whether a name is a domain of the account that is restored.
    pub(crate) fn restores(&self, name: &str) -> bool {
        self.input.account.domains.iter().any(|d| d.name.as_str() == name)
            && !self.skipped.iter().any(|s| s.as_str() == name)
    }

    /// Finds the domains that cannot be restored: somebody else has them, here or elsewhere.
    fn settle_domains(&mut self) {
        for domain in &self.input.account.domains {
            let Some(why) = self.obstacle(domain) else { continue };
            let name = &domain.name;
            let message = format!("The domain {name} {why}: leave it out, or free it first.");
            self.settle(format!("domain:{name}"), message, vec![Resolution::Skip]);
            self.skipped.insert(name.clone());
        }
        let below: Vec<DomainName> = self
            .input
            .account
            .domains
            .iter()
            .map(|d| &d.name)
            .filter(|n| self.skipped.iter().any(|s| n.is_below(s)))
            .cloned()
            .collect();
        self.skipped.extend(below);
        for name in self.skipped.clone() {
            self.lose(format!("domain:{name}"), "It is left out, with its site, mail and zone.");
        }
    }

    fn obstacle(&self, domain: &Domain) -> Option<&'static str> {
        let Input { facts, control, .. } = self.input;
        let name = &domain.name;
        let own = |owner: &String| *owner == self.input.target_user.as_str() && self.is_own();
        let ours = |n: &str| name.as_str() == n || !control.activate_domains && is_near(name, n);
        if ours(&facts.hostname) {
            Some("is this server's own name")
        } else if control.nameservers.iter().any(|n| ours(n.as_str())) {
            Some("is the name of a name server of this installation")
        } else if psl::domain(name.as_str().as_bytes()).is_none() {
            Some("is a suffix below which anybody registers domains")
        } else if control.ownership.get(name) == Some(&Ownership::Taken) {
            Some("belongs to another account of this installation")
        } else if facts.vhosts.get(name).is_some_and(|owner| !own(owner)) {
            Some("is a site of another account on this server")
        } else if facts.mail_domains.get(name).is_some_and(|owner| !own(owner)) {
            Some("takes mail for another account on this server")
        } else {
            None
        }
    }

    fn finish(mut self) -> Plan {
        self.check_choices();
        // Stable: within a step, the order in which the parts of the planner added them.
        self.operations.sort_by_key(|o| o.step);
        let totals = totals(&self.operations);
        Plan {
            operations: self.operations,
            totals,
            warnings: self.warnings.into_iter().collect(),
            not_transferred: self.lost,
            notes: self.notes,
            suspended: self.suspended,
            conflicts: self.conflicts.into_values().collect(),
        }
    }

    /// Choices that concern nothing are said, since they are mostly misspelt.
    fn check_choices(&mut self) {
        let options = self.input.options;
        for id in options
            .resolutions
            .keys()
            .filter(|id| !self.met.contains(*id))
            .cloned()
            .collect::<Vec<_>>()
        {
            self.warn("resolution_unknown", &id, "There is no such conflict.");
        }
        for (component, names) in &options.components {
            if self.input.account.presence.get(component) == Some(&Presence::Absent) {
                let text = serde_json::to_value(component).ok();
                let text = text.as_ref().and_then(|v| v.as_str()).unwrap_or_default().to_owned();
                self.warn(
                    "component_absent",
                    &text,
                    "The archive does not hold this part of the account.",
                );
            }
            let known = known_names(self.input.account, *component);
            for name in
                names.iter().filter(|n| *component != Component::Files && !known.contains(*n))
            {
                self.oppose(
                    format!("selection:{name}"),
                    format!(
                        "The archive holds nothing called {name:?}: leave it out of the selection."
                    ),
                    Vec::new(),
                );
            }
        }
    }
}

/// Whether one of the names lies below the other: whoever has the upper one can make the lower.
fn is_near(name: &DomainName, ours: &str) -> bool {
    DomainName::parse(ours).is_ok_and(|o| name.is_below(&o) || o.is_below(name))
}

/// Names that a selection of a component can hold.
fn known_names(account: &Account, component: Component) -> BTreeSet<String> {
    match component {
        Component::Files => BTreeSet::new(),
        Component::Databases => account.databases.iter().map(|d| d.name.to_string()).collect(),
        Component::Email => {
            let mail = &account.mail;
            let domains = mail.domains.keys().map(ToString::to_string);
            let boxes = mail.mailboxes.iter().map(|m| m.address.to_string());
            let forwards = mail.forwarders.iter().map(|f| f.address.to_string());
            domains.chain(boxes).chain(forwards).collect()
        }
        Component::Dns => account.zones.iter().map(|z| z.name.to_string()).collect(),
        Component::Ssl => account.certificates.iter().map(|c| c.domain.to_string()).collect(),
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn totals(operations: &[Operation]) -> Totals {
    let mut totals = Totals { operations: count(operations.len()), ..Totals::default() };
    for operation in operations {
        match &operation.resource {
            Resource::Website { .. } => totals.websites += 1,
            Resource::Files { entries, bytes, .. } => {
                totals.files = totals.files.saturating_add(*entries);
                totals.file_bytes = totals.file_bytes.saturating_add(*bytes);
            }
            Resource::Database { bytes, .. } => {
                totals.databases += 1;
                totals.database_bytes = totals.database_bytes.saturating_add(*bytes);
            }
            Resource::Mailbox { messages, .. } => {
                totals.mailboxes += 1;
                totals.messages = totals.messages.saturating_add(*messages);
            }
            Resource::Zone { records, .. } => {
                totals.zones += 1;
                totals.records += count(records.iter().map(|s| s.records.len()).sum());
            }
            Resource::Certificate { .. } => totals.certificates += 1,
            _ => {}
        }
    }
    totals
}
