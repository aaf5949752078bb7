//! The agent dies just before each change that it makes to the disk, and while programs that it has
//! started are at work; it is asked again, or to take back what there is: all ends in the same state.

use crate::road::everything_works;
use crate::target::{Job, STEPS, Target, expectations};
use cpanel::plan::{Options, Ownership};
use cpanel::protocol::{Call, Event};

/// Asks again and again; the agent dies at its first change, its second, its third, then at wider
/// steps, until it gets to its end before. Gives how often it died.
fn until_it_survives(job: &Job<'_>, call: &Call, after_death: impl Fn(u32)) -> u32 {
    let (mut died, mut nth) = (0, 1);
    loop {
        match job.target.converse_dying(Some(job.id), call.clone(), nth).end() {
            None => died += 1,
            Some(Event::Done { .. }) => return died,
            other => panic!("{call:?}, dying at change {nth}: {other:?}"),
        }
        after_death(died);
        nth += 1 + nth / 3;
    }
}

#[test]
fn killed_at_any_moment_it_ends_the_same() {
    let target = Target::enrolled("kills");
    target.put_strace();
    let archive = target.put_archive("cpmove-shopco.tar.gz");
    let before = target.snapshot();
    let job = Job::new(&target, &archive, "shopco");
    job.begin(Options::default(), Ownership::Free);
    let mut died = 0;
    for step in STEPS {
        died += until_it_survives(&job, &Call::Apply { step }, |times| {
            // Every other time the job is given up instead; its undo dies, too.
            if times % 2 == 0 {
                let undo = Call::Undo { step, park: false };
                let nth = u64::from(times);
                drop(target.converse_dying(Some(job.id), undo.clone(), nth).end());
                let _: serde_json::Value = job.ask(undo);
            }
        });
    }
    assert!(died > 60, "it died only {died} times");
    everything_works(&target, &expectations("cpmove-shopco.tar.gz"));
    let mut died = 0;
    for step in STEPS.into_iter().rev() {
        died += until_it_survives(&job, &Call::Undo { step, park: true }, |_| ());
    }
    assert!(died > 30, "it died only {died} times");
    // Nothing is left to take back, and asking again is well.
    job.undo(false);
    assert_eq!(before, target.snapshot());
}
