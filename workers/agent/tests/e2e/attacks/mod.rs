//! 160 ways to attack a server by a restore, and by the account that was restored. `deploy/attacks`
//! runs them and prints this table.

mod audit;
mod authentication;
mod cryptography;
mod enemy;
mod escalation;
mod execution;
mod exhaustion;
mod integrity;
mod paths;
mod scene;
mod second;
mod table;

use crate::target::{Job, Target};
use cpanel::plan::{Options, Ownership};
use scene::{Failures, Stage};
use table::{Attack, Row};

/// All rows, in the order of their numbers.
fn rows() -> Vec<&'static Row> {
    [
        paths::ROWS,
        authentication::ROWS,
        integrity::ROWS,
        execution::ROWS,
        escalation::ROWS,
        exhaustion::ROWS,
        cryptography::ROWS,
        audit::ROWS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[path = "../../../../tests/e2e/attacks/numbers.rs"]
mod road;

#[test]
#[expect(clippy::print_stdout, reason = "the table is what a person reads")]
fn every_attack_has_its_row() {
    let rows = rows();
    let numbers: Vec<u16> = rows.iter().map(|r| r.number).collect();
    assert_eq!(numbers, (1..=160).collect::<Vec<_>>());
    let on_the_road: Vec<u16> = rows
        .iter()
        .filter(|r| r.attacks.iter().any(|a| matches!(a, Attack::OverTheRoad(_))))
        .map(|r| r.number)
        .collect();
    assert_eq!(on_the_road, road::NUMBERS);
    for row in rows {
        assert!(!row.attacks.is_empty(), "{}", row.number);
        let verdicts: Vec<String> = row.attacks.iter().map(Attack::verdict).collect();
        println!("{:>3}  {}  →  {}", row.number, row.name, verdicts.join(" | "));
    }
}

#[test]
fn what_is_refused_leaves_nothing() {
    let target = Target::enrolled("attacks-refused");
    let stage = Stage { target: &target };
    let before = target.snapshot();
    let mut failures = Failures::default();
    for row in rows() {
        stage.before(row, &mut failures);
    }
    target.shell("rm -f /var/backups/migrations/*", b"");
    assert!(failures.0.is_empty(), "{}", failures.0.join("\n"));
    assert_eq!(before, target.snapshot());
}

#[test]
fn what_is_restored_reaches_nobody_else() {
    let target = Target::enrolled("attacks-restored");
    let victim = target.put_archive("cpmove-shopco.tar.gz");
    let victim = Job::new(&target, &victim, "shopco");
    victim.begin(Options::default(), Ownership::Free);
    victim.apply();
    let stage = Stage { target: &target };
    let rows = rows();
    let before = target.snapshot();
    let watch = audit::watch_processes(&target);
    let restored = stage.restore(&rows);
    audit::stop_watching(&target, watch);
    let mut failures = Failures::default();
    for row in &rows {
        restored.after(row, &mut failures);
    }
    second::merged_again(&restored, &mut failures);
    second::rolled_back(&restored, &mut failures);
    target.shell("rm -f /var/backups/migrations/*enemy* /var/backups/migrations/again.tar", b"");
    assert!(failures.0.is_empty(), "{}", failures.0.join("\n"));
    assert_eq!(before, target.snapshot());
}
