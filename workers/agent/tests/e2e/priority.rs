//! How hard a migration works the server: what is there already comes first.

use crate::target::{BACKUPS, Job, STEPS, Target, eventually};
use crate::variety::Account;
use cpanel::plan::{Options, Ownership, StepName};
use cpanel::protocol::Call;

/// The priorities of the agents and of the account's own client that loads a dump; empty while none
/// is loaded.
fn priorities(target: &Target) -> String {
    target.shell(
        "if pgrep -x -u shopco mariadb >/dev/null; then \
         (ps -o ni= -C migrapanel-agen; ps -o ni= -u shopco) | tr -d ' ' | sort -u | tr '\\n' ' '; fi",
        b"",
    )
}

#[test]
fn a_migration_and_its_programs_have_the_priority_that_the_operator_sets() {
    let target = Target::enrolled("priority");
    let account = Account::shop();
    account.prepend("mysql/shopco_wp.sql", "CREATE TABLE slow AS SELECT SLEEP(600);\n");
    target.shell(&format!("cat >{BACKUPS}/slow.tar.gz"), &account.packed());
    let job = Job::new(&target, &format!("{BACKUPS}/slow.tar.gz"), "shopco");
    job.begin(Options::default(), Ownership::Free);
    for step in STEPS.into_iter().take_while(|step| *step != StepName::Databases) {
        let _: serde_json::Value = job.ask(Call::Apply { step });
    }
    for (set, expected) in [("", "10 "), ("19", "19 "), ("0", "0 "), ("-20", "10 ")] {
        target.shell(&format!("echo '{set}' >/etc/migrapanel/priority"), b"");
        let loading = target.converse(Some(job.id), Call::Apply { step: StepName::Databases });
        eventually(&format!("{set:?} gives {expected}"), || priorities(&target) == expected);
        drop(loading.hang_up());
        eventually("nothing is loaded", || priorities(&target).is_empty());
    }
    job.undo(false);
}
