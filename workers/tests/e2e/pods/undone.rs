//! The saga that makes a container: each step runs twice, each fails in turn, each undo runs twice.

use super::bed::Bed;
use crate::gates::{self, Database};
use entities::cloudpods::{Desired, Status};

pub const STEPS: [&str; 6] = ["template", "create", "guard", "start", "names", "ready"];

#[tokio::test]
async fn each_step_that_fails_is_undone_with_all_before_it_and_the_next_attempt_works() {
    let bed = Bed::open("fails", 1).await;
    gates::install(&bed);
    let before = bed.slates();
    for (nth, step) in STEPS.iter().enumerate() {
        let boundary = format!("{step}:done");
        gates::refuse(&bed, &boundary);
        let id = bed.ask_for(&format!("fails-{nth}")).await;
        bed.work().await;
        let pod = bed.pod(id).await;
        assert_eq!(pod.status, Status::Pending, "{step}: {pod:?}");
        assert_eq!((pod.vmid, pod.attempts), (None, 1), "{step}");
        assert_eq!(bed.host_slate(), before.1, "{step} left something");
        let failed = format!(
            "SELECT name FROM job_step WHERE job_id = '{}' ORDER BY seq DESC LIMIT 1",
            pod.job_id.unwrap()
        );
        assert_eq!(bed.sql_text(&failed), *step, "another step has failed");
        gates::open(&bed, &boundary);
        bed.sweep().await;
        let pod = bed.pod(id).await;
        assert_eq!(pod.status, Status::Active, "{step}: {pod:?}");
        assert_eq!(bed.nodes[0].vmids().len(), 1, "{step}");
        assert_eq!(bed.want(id, Desired::Deleted).await.status, Status::Deleted);
        bed.assert_as_before(&before, step);
    }
    assert_eq!(bed.sql("SELECT name FROM job_step WHERE state = 'undo_failed'"), "");
    bed.end().await;
}

#[tokio::test]
async fn each_step_and_each_undo_runs_twice_and_comes_to_the_same() {
    let bed = Bed::open("twice", 1).await;
    gates::install(&bed);
    let before = bed.slates();
    let id = bed.ask_for("twice").await;
    for step in STEPS {
        // Its effect is there, and the database goes away before that is written down.
        gates::lose(&bed, &format!("{step}:done"));
    }
    for _ in STEPS {
        bed.work().await;
        bed.sql("UPDATE job SET lease_until = now() - interval '1 second' WHERE state = 'running'");
        bed.revive().await;
    }
    let pod = bed.pod(id).await;
    assert_eq!(pod.status, Status::Active, "{pod:?}");
    assert_eq!(bed.nodes[0].vmids().len(), 1);
    assert_eq!(bed.want(id, Desired::Deleted).await.status, Status::Deleted);

    for step in STEPS {
        gates::open(&bed, &format!("{step}:done"));
    }

    // The last step fails, and each undo is lost once before it is written down.
    gates::refuse(&bed, "ready:done");
    for step in STEPS {
        gates::lose(&bed, &format!("{step}:undone"));
    }
    let id = bed.ask_for("back-and-forth").await;
    for _ in STEPS {
        bed.work().await;
        bed.sql(
            "UPDATE job SET lease_until = now() - interval '1 second' WHERE state = 'unwinding'",
        );
        bed.revive().await;
    }
    assert_eq!(bed.pod(id).await.status, Status::Pending);
    assert!(bed.nodes[0].vmids().is_empty());
    gates::open(&bed, "ready:done");
    assert_eq!(bed.want(id, Desired::Deleted).await.status, Status::Deleted);
    bed.assert_as_before(&before, "undos");
    bed.end().await;
}
