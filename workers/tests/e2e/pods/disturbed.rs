//! Nodes that answer late, not at all, with errors, or are full.

use super::bed::Bed;
use crate::bed::sandbox;
use crate::program::program;
use entities::cloudpods::{Act, Desired, Status};
use entities::values::SnapshotName;

#[tokio::test]
async fn a_create_whose_answer_is_lost_makes_one_container() {
    let bed = Bed::open("lost", 1).await;
    let before = bed.slate();
    for kind in ["lost", "lost_before", "late", "fail_after", "slow"] {
        // Longer than the worker waits for an answer.
        let secs = if kind == "late" { 25 } else { 3 };
        bed.nodes[0].fault("pct create", kind, 1, secs);
        let id = bed.ask_for(&format!("pod-{}", kind.replace('_', "-"))).await;
        bed.work().await;
        bed.sweep().await;
        let pod = bed.pod(id).await;
        assert_eq!(pod.status, Status::Active, "{kind}: {pod:?}");
        assert_eq!(bed.nodes[0].vmids(), [pod.vmid.unwrap()].into(), "{kind}");
        assert_eq!(bed.want(id, Desired::Deleted).await.status, Status::Deleted, "{kind}");
        assert!(bed.nodes[0].vmids().is_empty(), "{kind}");
        assert_eq!(bed.slate(), before, "{kind}");
    }
    bed.end().await;
}

#[tokio::test]
async fn a_full_node_explains_itself_and_leaves_nothing() {
    let bed = Bed::open("full", 1).await;
    bed.nodes[0].fault("pct create", "full", 3, 0);
    let id = bed.ask_for("no-room").await;
    bed.work().await;
    for _ in 0..2 {
        bed.sweep().await;
    }
    let pod = bed.pod(id).await;
    assert_eq!(pod.status, Status::Failed, "{pod:?}");
    assert!(pod.error.as_deref().unwrap().contains("pct create was refused"), "{:?}", pod.error);
    assert!(bed.nodes[0].vmids().is_empty());
    assert_eq!(bed.sql_text("SELECT count(*) FROM placement WHERE released_at IS NULL"), "0");
    bed.nodes[0].clear_faults();
    entities::cloudpods::retry(bed.db(), &bed.ctx, id).await.unwrap();
    bed.work().await;
    assert_eq!(bed.pod(id).await.status, Status::Active);
    bed.end().await;
}

#[tokio::test]
async fn a_number_that_somebody_else_has_is_left_alone_and_another_taken() {
    let bed = Bed::open("taken", 1).await;
    let node = &bed.nodes[0];
    let template = node.get("PVE_TEMPLATE");
    node.sh(&format!("pct create 10000 {template} --hostname theirs --storage local-lvm --rootfs local-lvm:1 --unprivileged 1"));
    let pod = bed.make("ours").await;
    assert_eq!(pod.vmid, Some(10001));
    assert!(node.sh("pct config 10000").contains("theirs"));
    let resting = "ip_address WHERE free_at > now()";
    assert_eq!(bed.sql_count(resting), 0, "nobody has used them");
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    assert_eq!(node.vmids(), [10000].into());
    bed.end().await;
}

#[tokio::test]
async fn what_fails_on_a_pod_that_runs_leaves_it_as_it_was_and_says_so() {
    let bed = Bed::open("acts", 1).await;
    let pod = bed.make("steady").await;
    let node = &bed.nodes[0];
    node.fault("pct resize", "fail", 1, 0);
    let resize = Act::Resize { cpu_cores: Some(2), memory_mib: None, disk_mib: Some(4096) };
    let now = bed.act(pod.id, resize).await;
    assert_eq!(now.status, Status::Active);
    assert!(now.error.is_some());
    assert_eq!(now.specification, pod.specification);
    assert!(node.sh(&format!("pct config {}", pod.vmid.unwrap())).contains("cores: 1"));
    assert_eq!(bed.sql_text("SELECT cpu_cores FROM placement WHERE released_at IS NULL"), "1");
    // A disk that grew before the failure stays so, and takes its room.
    node.fault("pct resize", "fail_after", 9, 0);
    let resize = Act::Resize { cpu_cores: Some(2), memory_mib: None, disk_mib: Some(4096) };
    let now = bed.act(pod.id, resize).await;
    node.clear_faults();
    assert!(now.error.is_some() || now.specification["cpu_cores"] == 2, "{now:?}");
    assert_eq!(now.specification["disk_mib"], 4096);
    assert_eq!(bed.sql_text("SELECT disk_mib FROM placement WHERE released_at IS NULL"), "4096");
    // A stop whose answer is lost has stopped it.
    node.fault("pct shutdown", "lost", 1, 0);
    let stopped = bed.act(pod.id, Act::Stop { force: false }).await;
    assert_eq!((stopped.status, stopped.error.as_deref()), (Status::Stopped, None));
    bed.end().await;
}

#[tokio::test]
async fn a_task_that_takes_longer_than_a_command_may_is_waited_for() {
    let bed = Bed::open_with("long", 1, |config| config.node_limit_secs = 5).await;
    let pod = bed.make("large").await;
    // As on a slow disk.
    let slow = "until pkill -STOP -x tar; do sleep 0.02; done; sleep 12; pkill -CONT -x tar";
    let mut disk = program(sandbox("pve"));
    let mut disk = disk.args(["exec", "e2e-long1", "bash", "-c", slow]).spawn().unwrap();
    let row = bed.act(pod.id, Act::Backup { scheduled: false }).await;
    assert!(disk.wait().unwrap().success());
    assert_eq!((row.status, row.error), (Status::Active, None));
    assert_eq!(bed.sql_count("cloudpod_backup WHERE state = 'ready'"), 1);
    assert_eq!(bed.sql_count("job_log WHERE message LIKE '%no answer within%'"), 0);
    assert!(bed.sql_count("job WHERE phase = 'backup' AND completed_at - queued_at > '12 s'") == 1);
    bed.end().await;
}

#[tokio::test]
async fn an_answer_that_is_lost_after_long_work_is_looked_for_once_more() {
    let bed = Bed::open("longer", 1).await;
    let pod = bed.make("saved").await;
    // Longer than the worker waits for an answer, and longer than it is patient.
    bed.nodes[0].fault("pct snapshot", "late", 1, 25);
    let name = SnapshotName::parse("late").unwrap();
    let row = bed.act(pod.id, Act::Snapshot { name, description: None }).await;
    assert_eq!((row.status, row.error), (Status::Active, None));
    assert_eq!(bed.sql_count("cloudpod_snapshot WHERE state = 'ready'"), 1);
    bed.end().await;
}
