//! The agent may die at any moment, and be asked again: all ends in the same state.

use crate::road::everything_works;
use crate::target::{Job, STEPS, Target, expectations};
use cpanel::plan::{Options, Ownership};
use cpanel::protocol::{Call, Event};
use std::time::Duration;

/// Asks until the agent gets to the end, killing it a little later each time. Gives how often it died.
fn against_kills(job: &Job<'_>, call: &Call) -> u32 {
    let mut died = 0;
    for attempt in 0..4_u64 {
        let wait = Duration::from_millis(attempt * 40);
        let talk = job.target.converse(Some(job.id), call.clone());
        match talk.kill_after(job.target, wait) {
            None => died += 1,
            Some(Event::Done { .. }) => break,
            other => panic!("{call:?}: {other:?}"),
        }
    }
    let _: serde_json::Value = job.ask(call.clone());
    died
}

#[test]
fn killed_at_any_moment_it_ends_the_same() {
    let target = Target::enrolled("kills");
    let archive = target.put_archive("cpmove-shopco.tar.gz");
    let before = target.snapshot();
    let job = Job::new(&target, &archive, "shopco");
    job.begin(Options::default(), Ownership::Free);
    let mut died = 0;
    for step in STEPS {
        died += against_kills(&job, &Call::Apply { step });
    }
    assert!(died > 0, "no kill came in time");
    everything_works(&target, &expectations("cpmove-shopco.tar.gz"));
    for step in STEPS.into_iter().rev() {
        against_kills(&job, &Call::Undo { step, park: true });
    }
    // Nothing is left to take back, and asking again is well.
    job.undo(false);
    assert_eq!(before, target.snapshot());
}
