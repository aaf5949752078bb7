//! Whom the agent listens to: the bound key, the newest claim, a whole binary.

use crate::target::{Job, Target};
use cpanel::plan::{Options, Ownership, StepName};
use cpanel::protocol::{Call, Event, Health, JobRef, StepReport};

#[test]
fn only_the_newest_claim_acts() {
    let target = Target::enrolled("trust");
    let archive = target.put_archive("cpmove-plain.tar");
    let mut job = Job::new(&target, &archive, "plain");
    let step = Call::Apply { step: StepName::CreateUser };
    assert_eq!(target.refusal(Some(job.id), step.clone()), "not_begun");
    job.begin(Options::default(), Ownership::Free);
    let old = job.id;
    job.id = JobRef { fence: 2, ..old };
    let _: StepReport = job.ask(step.clone());
    assert_eq!(target.refusal(Some(old), step.clone()), "stale_fence");
    assert_eq!(target.refusal(None, step), "bad_request");

    // A worker that is gone: the agent stops, and the next call finds the account free.
    let talk = target.converse(Some(job.id), Call::Apply { step: StepName::RestoreHome });
    let ended = talk.hang_up();
    assert!(matches!(ended, Some(Event::Failed { .. } | Event::Done { .. }) | None), "{ended:?}");
    job.apply();
    job.undo(false);

    // The key opens the agent only; other lines of the file stay.
    let said = target.as_worker("cat /etc/shadow");
    assert!(said.starts_with("{\"protocol\":") && !said.contains("root:"), "{said}");
    let keys = target.shell("cat /root/.ssh/authorized_keys", b"");
    assert_eq!(keys.lines().count(), 2, "{keys}");

    let health: Health = target.ask(None, Call::Health);
    assert!(health.services.values().all(|runs| *runs), "{health:?}");
    let upgrade = Call::Upgrade { sha256: "00".repeat(32), size: 0 };
    assert_eq!(target.refusal(None, upgrade), "agent_damaged");
}
