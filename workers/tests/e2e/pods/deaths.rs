//! The provisioner is killed at each boundary, and another one goes on.

use super::actions::ways;
use super::bed::Bed;
use super::crew::Crew;
use super::undone::STEPS;
use crate::gates::{self, Database};
use entities::cloudpods::Status;

/// Just before and just after each of these steps, and before the end.
fn forward(steps: &[&str], phase: &str) -> Vec<String> {
    let mut all: Vec<String> =
        steps.iter().flat_map(|step| [format!("{step}:started"), format!("{step}:done")]).collect();
    all.push(format!("{phase}:ended"));
    all
}

/// The same for their undos, newest first.
fn back(steps: &[&str], phase: &str) -> Vec<String> {
    let mut all: Vec<String> = steps
        .iter()
        .rev()
        .flat_map(|step| [format!("{step}:undoing"), format!("{step}:undone")])
        .collect();
    all.push(format!("{phase}:ended"));
    all
}

#[tokio::test]
async fn provisioners_die_at_each_boundary_of_making_a_pod_and_of_taking_it_back() {
    let bed = Bed::open("dies", 1).await;
    gates::install(&bed);
    let before = bed.slates();
    let mut crew = Crew::start(&bed, "dies");

    let boundaries = forward(&STEPS, "provision");
    gates::close(&bed, &boundaries);
    let id = bed.ask_for("dies").await;
    crew.die_at(&bed, &boundaries).await;
    crew.idle(&bed).await;
    let pod = bed.pod(id).await;
    assert_eq!((pod.status, pod.error.as_deref()), (Status::Active, None));
    bed.assert_only(&[&pod], "forward");
    crew.delete(&bed, id).await;
    bed.assert_as_before(&before, "forward");

    let boundaries = back(&STEPS, "provision");
    gates::close(&bed, &boundaries);
    gates::refuse(&bed, "ready:done");
    let id = bed.ask_for("dies-twice").await;
    crew.die_at(&bed, &boundaries).await;
    crew.idle(&bed).await;
    gates::open(&bed, "ready:done");
    let attempt = "SELECT count(*) FROM job WHERE phase = 'provision' AND state = 'failed'";
    assert_eq!(bed.sql_text(attempt), "1");
    crew.delete(&bed, id).await;
    bed.assert_as_before(&before, "back");
    assert_eq!(bed.sql("SELECT payload FROM dead_letter"), "");
    crew.end(bed).await;
}

#[tokio::test]
async fn provisioners_die_at_each_boundary_of_what_is_done_with_a_pod() {
    let bed = Bed::open("dying", 2).await;
    gates::install(&bed);
    let clean = bed.slates();
    let mut crew = Crew::start(&bed, "dying");
    let [pod] = crew.make(&bed, ["dying"]).await;
    for way in ways() {
        let before = bed.slates();
        let boundaries = back(way.steps, way.phase);
        gates::close(&bed, &boundaries);
        gates::refuse(&bed, &way.last_done());
        crew.ask(&bed, pod.id, way.act.clone()).await;
        crew.die_at(&bed, &boundaries).await;
        crew.idle(&bed).await;
        gates::open(&bed, &way.last_done());
        let now = bed.pod(pod.id).await;
        assert!(now.status == Status::Active && now.error.is_some(), "{}: {now:?}", way.phase);
        bed.assert_as_before(&before, way.phase);

        let boundaries = forward(way.steps, way.phase);
        gates::close(&bed, &boundaries);
        crew.ask(&bed, pod.id, way.whole()).await;
        crew.die_at(&bed, &boundaries).await;
        crew.idle(&bed).await;
        way.assert_done(&bed, &pod, &bed.pod(pod.id).await);
    }
    crew.delete(&bed, pod.id).await;
    bed.assert_as_before(&clean, "all");
    crew.end(bed).await;
}
