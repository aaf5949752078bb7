//! What is not provably ours is kept, and what was sold stays whole.

use super::bed::Bed;
use crate::gates::Database;
use entities::cloudpods::record::{self, Seen};
use entities::cloudpods::settle::Power;
use entities::cloudpods::{self, Act, Desired, Status};
use entities::ids::BackupId;
use entities::values::SnapshotName;
use workers::reconcile;

fn last_backup(bed: &Bed) -> BackupId {
    let newest =
        "SELECT id FROM cloudpod_backup WHERE state = 'ready' ORDER BY created_at DESC LIMIT 1";
    BackupId(bed.sql_text(newest).parse().unwrap())
}

#[tokio::test]
async fn copies_that_people_make_stay_and_take_no_node_out_of_sale() {
    let bed = Bed::open("copies", 1).await;
    let pod = bed.make("saved").await;
    bed.act(pod.id, Act::Backup { scheduled: false }).await;
    let volume = bed.sql_text("SELECT volume FROM cloudpod_backup");
    let node = &bed.nodes[0];
    node.sh(&format!("pct restore 500 {volume} --storage local-lvm; pct set 500 --protection 1"));
    for _ in 0..2 {
        reconcile::look_at_all(&bed.world).await.unwrap();
        assert_eq!(node.vmids(), [500, pod.vmid.unwrap()].into());
        let told = bed.sql_text("SELECT what FROM finding WHERE vmid = 500 AND ended_at IS NULL");
        assert_eq!(told, "copy");
        assert_eq!(bed.sql_text("SELECT last_error FROM server"), "");
    }
    // A node that refuses a repair is told, and is as well as before.
    node.sh(&format!("pct set {} --memory 300", pod.vmid.unwrap()));
    node.fault("pct set", "fail", 1, 0);
    reconcile::look_at_all(&bed.world).await.unwrap();
    let told = "SELECT what FROM finding WHERE cloudpod_id IS NOT NULL AND vmid <> 500 AND ended_at IS NULL";
    assert_eq!(bed.sql_text(told), "refused");
    assert_eq!(bed.sql_text("SELECT last_error FROM server"), "");
    bed.make("next").await;
    bed.end().await;
}

#[tokio::test]
async fn a_container_that_has_lost_its_mark_is_not_called_gone() {
    let bed = Bed::open("marks", 1).await;
    let pod = bed.make("noted").await;
    let (node, vmid) = (&bed.nodes[0], pod.vmid.unwrap());
    let config = node.sh(&format!("pct config {vmid} | grep ^description | cut -d' ' -f2-"));
    let mark = config.trim().replace("%3A", ":").replace("%0A", "");
    node.sh(&format!("pct set {vmid} --description 'Bob: the customer has called'"));
    let row = bed.want(pod.id, Desired::Deleted).await;
    assert_eq!(row.status, Status::Deleting);
    assert!(row.error.as_deref().unwrap().contains("has lost the mark"), "{:?}", row.error);
    assert_eq!(node.vmids(), [vmid].into());
    let held = "SELECT count(*) FROM ip_address a JOIN placement p ON p.id = a.placement_id
        WHERE p.released_at IS NULL";
    assert_eq!(bed.sql_text(held), "1");
    // A note above the mark is no matter.
    node.sh(&format!("pct set {vmid} --description $'Bob: the customer has called\\n{mark}'"));
    bed.sweep().await;
    assert_eq!(bed.pod(pod.id).await.status, Status::Deleted);
    assert!(node.vmids().is_empty());
    bed.end().await;
}

#[tokio::test]
async fn a_disk_that_was_sold_is_there_after_going_back() {
    let bed = Bed::open("disks", 1).await;
    let pod = bed.make("grows").await;
    let (id, node) = (pod.id, &bed.nodes[0]);
    let name = SnapshotName::parse("small").unwrap();
    bed.act(id, Act::Snapshot { name: name.clone(), description: None }).await;
    bed.act(id, Act::Backup { scheduled: false }).await;
    let resize = |mib| Act::Resize { cpu_cores: None, memory_mib: None, disk_mib: Some(mib) };
    let disk = || {
        let config = node.sh(&format!("pct config {}", pod.vmid.unwrap()));
        config.split("size=").nth(1).unwrap().split(['\n', ',']).next().unwrap().to_owned()
    };
    assert_eq!(bed.act(id, resize(3072)).await.error, None);
    assert_eq!(bed.act(id, Act::Rollback { name }).await.error, None);
    assert!(["3G", "3072M"].contains(&disk().as_str()), "{}", disk());
    assert_eq!(bed.act(id, Act::Restore { backup: last_backup(&bed) }).await.error, None);
    assert!(["3G", "3072M"].contains(&disk().as_str()), "{}", disk());
    // One that is refused leaves it running.
    node.fault("pct restore", "full", 1, 0);
    let row = bed.act(id, Act::Restore { backup: last_backup(&bed) }).await;
    assert!(row.error.is_some());
    assert_eq!(row.status, Status::Active, "{row:?}");
    bed.end().await;
}

#[tokio::test]
async fn a_suspension_that_needs_two_attempts_is_opened_as_it_was() {
    let bed = Bed::open("twotimes", 1).await;
    let pod = bed.make("runs").await;
    let node = &bed.nodes[0];
    node.fault("pct shutdown", "fail_after", 1, 0);
    node.fault("pct stop", "fail_after", 1, 0);
    let row = bed.want(pod.id, Desired::Suspended).await;
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert!(row.status == Status::Active || row.status == Status::Suspended, "{row:?}");
    bed.sweep().await;
    assert_eq!(bed.pod(pod.id).await.status, Status::Suspended);
    // One that somebody starts is stopped again, and one that was opened meanwhile is not.
    node.sh(&format!("pct start {}", pod.vmid.unwrap()));
    reconcile::look_at_all(&bed.world).await.unwrap();
    bed.work().await;
    assert!(node.sh("pct list").contains("stopped"));
    assert_eq!(bed.pod(pod.id).await.status, Status::Suspended);
    // Not again and again when its node refuses that.
    bed.sql("UPDATE cloudpod SET next_at = now() + interval '1 minute'");
    let tx = bed.db().system().await.unwrap();
    assert!(!cloudpods::converge::stop_again(&tx, pod.id).await.unwrap());
    drop(tx);
    let opened = bed.want(pod.id, Desired::Active).await;
    assert_eq!((opened.status, opened.error), (Status::Active, None));
    let tx = bed.db().system().await.unwrap();
    assert!(!cloudpods::converge::stop_again(&tx, pod.id).await.unwrap());
    drop(tx);
    assert!(node.sh(&format!("pct config {}", pod.vmid.unwrap())).contains("onboot: 1"));
    bed.end().await;
}

#[tokio::test]
async fn one_that_is_opened_between_two_attempts_at_suspending_it_runs() {
    let bed = Bed::open("opened", 1).await;
    let pod = bed.make("opened").await;
    let node = &bed.nodes[0];
    node.fault("pct shutdown", "fail_after", 1, 0);
    let row = bed.want(pod.id, Desired::Suspended).await;
    assert!(row.error.is_some() && row.status != Status::Suspended, "{row:?}");
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(bed.pod(pod.id).await.status, Status::Stopped);
    node.fault("pct start", "fail", 1, 0);
    let row = bed.want(pod.id, Desired::Active).await;
    assert!(row.error.is_some());
    bed.sweep().await;
    let row = bed.pod(pod.id).await;
    assert_eq!((row.status, row.action, row.error), (Status::Active, None, None));
    assert!(node.sh(&format!("pct config {}", pod.vmid.unwrap())).contains("onboot: 1"));
    bed.end().await;
}

#[tokio::test]
async fn what_was_seen_before_something_was_done_counts_for_nothing() {
    let bed = Bed::open("stale", 2).await;
    let looked_at = bed.make("stale").await;
    let runs = Seen {
        power: Power::Running,
        cpu_cores: None,
        memory_mib: None,
        disk_mib: None,
        uptime_secs: 1,
    };
    assert_eq!(bed.act(looked_at.id, Act::Stop { force: true }).await.status, Status::Stopped);
    let tx = bed.db().system().await.unwrap();
    assert!(!record::record_seen(&tx, &looked_at, &runs).await.unwrap());
    tx.commit().await.unwrap();
    let stopped = bed.pod(looked_at.id).await;
    assert_eq!(stopped.status, Status::Stopped);
    let moved = bed.act(looked_at.id, Act::Move { server: None }).await;
    assert_ne!(moved.server_id, looked_at.server_id);
    let tx = bed.db().system().await.unwrap();
    assert!(!record::record_missing(&tx, &stopped).await.unwrap());
    // What was told of a container that is there again is forgotten.
    assert!(record::record_missing(&tx, &moved).await.unwrap());
    tx.commit().await.unwrap();
    assert!(bed.pod(looked_at.id).await.error.is_some());
    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(bed.pod(looked_at.id).await.error, None);
    bed.end().await;
}

#[tokio::test]
async fn a_pod_ends_without_the_node_that_has_an_old_backup_of_it() {
    let mut bed = Bed::open("retired", 2).await;
    bed.sql(&format!("UPDATE server SET maintenance = true WHERE id = '{}'", bed.servers[1]));
    let pod = bed.make("moved").await;
    bed.act(pod.id, Act::Backup { scheduled: false }).await;
    bed.sql("UPDATE server SET maintenance = false");
    let moved = bed.act(pod.id, Act::Move { server: None }).await;
    assert_eq!(moved.server_id, Some(bed.servers[1]));
    drop(bed.nodes.remove(0));
    bed.servers.remove(0);
    let row = bed.want(pod.id, Desired::Deleted).await;
    assert_eq!(row.status, Status::Deleted, "{row:?}");
    assert!(bed.nodes[0].vmids().is_empty());
    assert_eq!(bed.sql_text("SELECT count(*) FROM placement WHERE released_at IS NULL"), "0");
    bed.end().await;
}
