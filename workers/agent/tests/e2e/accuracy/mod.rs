//! The dry run is always accurate: for random accounts, targets and options, the operations of the
//! preview are the operations that are done, and these are the difference of the server before and
//! after.
//!
//! The same accounts and choices each time, so that a check goes red for the change that it checks;
//! `TEST_ACCURACY_SEED` and `TEST_ACCURACY_ROUNDS` try others, or more of them.

mod observe;
mod random;

use crate::target::{BACKUPS, Job, STEPS, Target};
use cpanel::plan::{
    Action, Component, ControlFacts, Mode, Options, Ownership, Resolution, Resource, StepName,
};
use cpanel::protocol::{Analysis, Call, ItemReport, Outcome, Preview, StepReport};
use observe::{Area, Seen, difference, observe};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use random::{Account, Keys};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[expect(clippy::disallowed_methods, reason = "a run is repeated by its seed")]
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "a failed run is repeated by its seed")]
fn say(line: &str) {
    println!("{line}");
}

/// A job that stands, with what was there before it.
struct Done<'t> {
    job: Job<'t>,
    before: Seen,
    /// Whether something was changed by hand since.
    touched: bool,
}

const SEED: u64 = 15_692_746_255_855_524_766;

#[test]
fn the_dry_run_is_always_accurate() {
    let seed = given("TEST_ACCURACY_SEED").unwrap_or(SEED);
    let rounds = given("TEST_ACCURACY_ROUNDS").unwrap_or(6);
    say(&format!("TEST_ACCURACY_SEED={seed} TEST_ACCURACY_ROUNDS={rounds}"));
    let mut rng = StdRng::seed_from_u64(seed);
    let target = Target::enrolled("accuracy");
    let keys = Keys::made();
    stand_before(&target, &mut rng);
    let first = observe(&target);
    let mut stack: Vec<Done<'_>> = Vec::new();
    for round in 0..rounds {
        if rng.random_bool(0.5) && change_by_hand(&target, &mut rng, &first) {
            stack.iter_mut().for_each(|done| done.touched = true);
        }
        let account = Account::random(&mut rng, &keys);
        let before = observe(&target);
        say(&format!("round {round}: {}", account.user));
        let job = restored(&target, &mut rng, &account, &before);
        stack.push(Done { job, before, touched: false });
        while rng.random_bool(0.3) && !stack.is_empty() {
            take_back(&target, stack.pop().unwrap(), rng.random_bool(0.5));
        }
    }
    while let Some(done) = stack.pop() {
        take_back(&target, done, true);
    }
    same("all rounds were taken back", &first, &observe(&target));
    let left = "find /home/.migrapanel /etc/migrapanel/kept ! -type d 2>/dev/null";
    assert_eq!(target.shell(left, b""), "", "what was kept is in its place again");
}

fn same(when: &str, one: &Seen, two: &Seen) {
    let difference = difference(one, two);
    assert!(difference.is_empty(), "{when}: {difference:#?}");
}

fn take_back(target: &Target, done: Done<'_>, park: bool) {
    done.job.undo(park || done.touched);
    if !done.touched {
        same("a round was taken back", &done.before, &observe(target));
    }
}

/// What an administrator may have made before the first migration.
fn stand_before(target: &Target, rng: &mut StdRng) {
    let all = [
        "mariadb -e \"create database alpha_wp charset latin1; create table alpha_wp.old (a int); \
         insert into alpha_wp.old values (1)\"",
        "mariadb -e \"create database legacy; create user legacyuser@localhost identified by 'x'; \
         grant select on legacy.* to legacyuser@localhost\"",
        "mariadb -e \"create user beta_u@localhost identified by 'y'; create database other; \
         grant insert, select on other.* to beta_u@localhost\"",
        "mkdir -p /home/beta/public_html; echo old >/home/beta/public_html/index.html",
    ];
    for line in all {
        if rng.random_bool(0.5) {
            target.shell(line, b"");
        }
    }
}

/// What people do meanwhile; gives whether there was anybody to do it.
fn change_by_hand(target: &Target, rng: &mut StdRng, first: &Seen) -> bool {
    let users = target.shell("getent group mpaccount | cut -d: -f4", b"");
    let Some(user) = users.trim().split(',').filter(|u| !u.is_empty()).choose(rng) else {
        return false;
    };
    let as_user = |line: &str| format!("cd /home/{user}; runuser -u {user} -- bash -c '{line}'");
    let rows = format!("{user}_wp {user}_shop {user}_wp_2");
    let rows: Vec<&str> =
        rows.split(' ').filter(|d| !first.contains_key(&format!("db:{d}"))).collect();
    let changes = [
        as_user("mkdir -p public_html; echo mine >public_html/index.html"),
        as_user("mkdir -p data/new; echo new >data/new/n.txt; rm -rf public_html/blog"),
        as_user(
            "for m in mail/*/*/new; do [ ! -d $m ] || printf \"Subject: new\\n\\nx\\n\" >$m/1999999999.M1P1.here; done",
        ),
        as_user("echo \"@daily /usr/bin/true\" | crontab -"),
        format!(
            "for d in {}; do mariadb -f $d -e \"insert into t (title) values ('by hand'); \
             create table made_by_hand (a int)\"; done 2>/dev/null",
            rows.join(" ")
        ),
    ];
    for line in changes.iter().choose_multiple(rng, 2) {
        say(&format!("by hand: {line}"));
        target.shell(line, b"");
    }
    true
}

fn control(target: &Target, analysis: &Analysis, account: Ownership, active: bool) -> ControlFacts {
    let names = analysis.summary.domains.iter().map(|d| (d.name.clone(), account));
    ControlFacts {
        ipv4: target.host.parse().unwrap(),
        ipv6: None,
        nameservers: vec!["ns1.panel.example".parse().unwrap()],
        ownership: names.collect(),
        account,
        activate_domains: active,
        answer_zones: false,
        proven: BTreeSet::new(),
    }
}

/// Everything, or some components, or some names of these.
fn options(rng: &mut StdRng, account: &Account, analysis: &Analysis) -> Options {
    let mode = if rng.random_bool(0.5) { Mode::Overwrite } else { Mode::Merge };
    let mut components = BTreeMap::new();
    let summary = &analysis.summary;
    let parts = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..4) };
    for component in Component::ALL.into_iter().choose_multiple(rng, parts) {
        let mut names: BTreeSet<String> = match component {
            Component::Files => account.some_paths(rng),
            Component::Databases => summary.databases.iter().map(|d| d.name.clone()).collect(),
            Component::Email => {
                let boxes = summary.mailboxes.iter().map(|m| m.address.clone());
                boxes.chain(summary.zones.iter().map(|z| z.name.to_string())).collect()
            }
            Component::Dns => summary.zones.iter().map(|z| z.name.to_string()).collect(),
            Component::Ssl => summary.certificates.iter().map(|c| c.domain.clone()).collect(),
        };
        if rng.random_bool(0.6) {
            names.clear();
        } else {
            names = names.into_iter().choose_multiple(rng, 3).into_iter().collect();
        }
        components.insert(component, names);
    }
    Options { mode, components, ..Options::default() }
}

/// One round: previewed, done, and compared with what was seen.
fn restored<'t>(target: &'t Target, rng: &mut StdRng, account: &Account, before: &Seen) -> Job<'t> {
    let path = format!("{BACKUPS}/{}.tar", account.user);
    target.shell(&format!("umask 077; cat >{path}"), &account.packed());
    let job = Job::new(target, &path, account.user);
    let analysis: Analysis = job.ask(Call::Analyze(job.source()));
    let stands = before.contains_key(&format!("passwd:{}", account.user));
    let own = if stands { Ownership::Own } else { Ownership::Free };
    let control = control(target, &analysis, own, rng.random_bool(0.8));
    let mut options = options(rng, account, &analysis);
    let preview = settled(&job, rng, &control, &mut options);
    say(&format!("{options:?}"));
    same("a preview changes nothing", before, &observe(target));
    let mode = options.mode;
    let call = Call::Begin { control, options, digest: preview.digest.clone() };
    assert_eq!(job.ask::<Preview>(call), preview);
    let mut items = Vec::new();
    for step in STEPS {
        let report: StepReport = job.ask(Call::Apply { step });
        if step == StepName::PostValidation {
            let named = |i: &&ItemReport| preview.plan.operations.iter().any(|o| o.id == i.id);
            assert_eq!(report.items.iter().find(named), None, "a check is no operation");
        } else {
            items.extend(report.items);
        }
    }
    let _: Value = job.ask(Call::Cleanup);
    compare(&preview, &items, (&job, account, mode), (before, &observe(target)));
    let other = target.shell(TLS_DIFFERS, b"");
    assert_eq!(other, "", "a site is the same over TLS");
    job
}

/// Previews, answers each conflict by one of the ways out that are offered, and previews again.
fn settled(
    job: &Job<'_>,
    rng: &mut StdRng,
    control: &ControlFacts,
    options: &mut Options,
) -> Preview {
    for _ in 0..6 {
        let call = Call::Preview { control: control.clone(), options: options.clone() };
        let preview: Preview = job.ask(call);
        if preview.plan.conflicts.is_empty() {
            return preview;
        }
        for conflict in preview.plan.conflicts {
            let chosen: &Resolution = conflict
                .resolutions
                .choose(rng)
                .unwrap_or_else(|| panic!("no way out of {conflict:?} with {options:?}"));
            options.resolutions.insert(conflict.id.clone(), chosen.clone());
        }
    }
    panic!("the conflicts never end: {options:?}");
}

/// Virtual hosts over TLS that are not their site.
const TLS_DIFFERS: &str = r#"cd /etc/migrapanel; for f in tls-sites/*.conf; do [ ! -e "$f" ] || bash -c 'diff <(grep -E "Server|DocumentRoot|Assign" "$0") <(grep -E "Server|DocumentRoot|Assign" "sites/${0#*/}")' "$f"; done"#;

fn compare(
    preview: &Preview,
    items: &[ItemReport],
    (job, account, mode): (&Job<'_>, &Account, Mode),
    seen: (&Seen, &Seen),
) {
    let operations = preview.plan.operations.iter();
    let mut planned: Vec<&str> = operations
        .clone()
        .filter(|o| !matches!(o.resource, Resource::Zone { .. }))
        .map(|o| o.id.as_str())
        .collect();
    let mut reported: Vec<&str> = items.iter().map(|i| i.id.as_str()).collect();
    planned.sort_unstable();
    reported.sort_unstable();
    assert_eq!(planned, reported, "each operation is reported once");

    let (before, after) = seen;
    let mut wrong = Vec::new();
    let mut areas = Vec::new();
    for operation in operations {
        let Some(item) = items.iter().find(|i| i.id == operation.id) else { continue };
        if matches!(item.outcome, Outcome::NotTransferred | Outcome::Failed) {
            continue;
        }
        let area = Area::of(operation, account.user, job.id.id);
        if let Some(heart) = &area.heart {
            let (was, is) = (before.contains_key(heart), after.contains_key(heart));
            if !is || was != (operation.action != Action::Create) {
                wrong.push(format!(
                    "{:?} {item:?}: there before: {was}, after: {is}",
                    operation.action
                ));
            }
        }
        areas.push((operation.action, area));
    }
    let tops = account.top_names();
    let home = format!("file:/home/{}/", account.user);
    for (key, change) in difference(before, after) {
        let of_group = key == "group:mpaccount" || key == "gshadow:mpaccount";
        // The account's bare login has one line, whatever mailbox it opens.
        let login = format!("line:/etc/migrapanel/mail/passwd:{}", account.user);
        let of_login = key == login && mode == Mode::Overwrite;
        let action_of = |action| if of_login { Action::Replace } else { action };
        if !of_group
            && !areas.iter().any(|(action, area)| area.explains(action_of(*action), key, change))
        {
            wrong.push(format!("{key}: {change:?} by no operation"));
        }
        // What is replaced goes only where the archive has something in its place.
        let top = key.strip_prefix(&home).map(|rest| rest.split('/').next().unwrap_or_default());
        let new_home =
            preview.plan.operations.iter().any(|o| {
                matches!(o.resource, Resource::Home { .. }) && o.action == Action::Replace
            });
        if change.1.is_none() && !new_home && top.is_some_and(|t| !tops.contains(t)) {
            wrong.push(format!("{key} went, and is not in the archive"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{:#?}\n{items:#?}", preview.plan.operations);
}
