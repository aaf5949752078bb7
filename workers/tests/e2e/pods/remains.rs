//! What dead tasks and other people leave on a node: locks, halves of snapshots, backups.

use super::actions::ways;
use super::bed::Bed;
use crate::gates::{self, Database};
use crate::program::wait_for;
use entities::cloudpods::{Act, Desired, Status};
use entities::ids::BackupId;
use entities::values::SnapshotName;
use std::time::Duration;

/// The configuration of a container says that a task works on it.
fn lock(vmid: i64, lock: &str) -> String {
    format!("sed -i '1i lock: {lock}' /etc/pve/lxc/{vmid}.conf")
}

#[tokio::test]
async fn what_tasks_that_died_half_way_have_left_is_cleared_and_made_anew() {
    let bed = Bed::open_with("halves", 2, |config| config.node_limit_secs = 8).await;
    gates::install(&bed);
    let clean = bed.slates();
    let pod = bed.make("halves").await;
    let vmid = pod.vmid.unwrap();
    let [_, _, moving, snapshot] = ways();

    // Its number is known here and there by now, and the task that was to let go of it is dead.
    gates::lose(&bed, "migrate:done");
    entities::cloudpods::act(bed.db(), &bed.ctx, pod.id, moving.act.clone()).await.unwrap();
    bed.work().await;
    let there = bed.nodes.iter().find(|node| node.vmids().contains(&vmid)).unwrap();
    assert_ne!(there.get("PVE_NODE"), bed.node_of(&pod).get("PVE_NODE"));
    there.sh(&lock(vmid, "migrate"));
    bed.work_through().await;
    let moved = bed.pod(pod.id).await;
    moving.assert_done(&bed, &pod, &moved);

    // A snapshot that has begun and will never be whole is none.
    let node = bed.node_of(&moved);
    let half = format!(
        "pct snapshot {vmid} kept; sed -i 's/^snaptime:/snapstate: prepare\\nsnaptime:/' /etc/pve/lxc/{vmid}.conf"
    );
    node.sh(&format!("{half}; {}", lock(vmid, "snapshot")));
    let now = bed.act(pod.id, snapshot.act.clone()).await;
    snapshot.assert_done(&bed, &moved, &now);
    assert!(!node.sh(&format!("cat /etc/pve/lxc/{vmid}.conf")).contains("snapstate"));
    let name = SnapshotName::parse("kept").unwrap();
    let back = bed.act(pod.id, Act::Rollback { name }).await;
    assert_eq!((back.status, back.error.as_deref()), (Status::Active, None));
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    bed.assert_as_before(&clean, "all");
    bed.end().await;
}

#[tokio::test]
async fn a_container_that_does_not_start_elsewhere_comes_back_and_runs() {
    let bed = Bed::open("returns", 2).await;
    let pod = bed.make("returns").await;
    let before = bed.slates();
    let here = bed.node_of(&pod).get("PVE_NODE");
    let there = bed.nodes.iter().find(|node| node.get("PVE_NODE") != here).unwrap();
    there.fault("pct start", "fail", 1, 0);
    let now = bed.act(pod.id, Act::Move { server: None }).await;
    assert!(now.error.is_some(), "{now:?}");
    assert_eq!(now.status, Status::Active);
    bed.assert_as_before(&before, "it is back");
    bed.end().await;
}

#[tokio::test]
async fn a_move_to_a_node_that_has_died_ends_at_once() {
    let bed = Bed::open("died", 2).await;
    let pod = bed.make("died").await;
    let before = bed.slates();
    let home = format!("WHERE id <> '{}'", pod.server_id.unwrap());
    // Nobody has noticed yet.
    let port = bed.sql_text(&format!("SELECT ssh_port FROM server {home}"));
    bed.sql(&format!("UPDATE server SET ssh_port = 1 {home}"));
    let now = bed.act(pod.id, Act::Move { server: None }).await;
    assert!(now.error.as_deref().unwrap().contains("It stays where it is"), "{now:?}");
    assert_eq!((now.status, now.server_id), (Status::Active, pod.server_id));
    bed.sql(&format!("UPDATE server SET ssh_port = {port} {home}"));
    bed.assert_as_before(&before, "it has stayed");
    bed.end().await;
}

/// Before its end nothing tells whose container it will be.
#[tokio::test]
async fn a_restore_that_is_at_work_is_waited_for() {
    let bed = Bed::open("atwork", 1).await;
    let pod = bed.make("atwork").await;
    bed.act(pod.id, Act::Backup { scheduled: false }).await;
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    let (node, file) = (&bed.nodes[0], format!("/etc/pve/lxc/{}.conf", pod.vmid.unwrap()));
    node.sh(&format!("cp {file} /root/kept; echo 'lock: create' >{file}"));
    let asked = "SELECT 1 FROM job WHERE phase = 'restore' AND state = 'running'";
    let (now, ()) = tokio::join!(bed.act(pod.id, Act::Restore { backup }), async {
        wait_for("the job", Duration::from_secs(20), async || {
            (!bed.sql(asked).is_empty()).then_some(())
        })
        .await;
        node.sh(&format!("cp /root/kept {file}"));
    });
    assert_eq!((now.status, now.error.as_deref()), (Status::Active, None));
    bed.assert_only(&[&now], "restored");
    bed.end().await;
}

#[tokio::test]
async fn only_backups_that_were_made_for_a_pod_go_with_it() {
    let bed = Bed::open("dumps", 1).await;
    let node = &bed.nodes[0];
    let dump = "/var/lib/vz/dump/vzdump-lxc-10000-2020_01_02-03_04_05.tar.zst";
    // Of a guest that had the number once; and of one in another cluster with the same storage.
    node.sh(&format!("echo theirs >{dump}; touch -d 2020-01-02 {dump}"));
    let pod = bed.make("saved").await;
    assert_eq!(pod.vmid, Some(10000));
    let newer = dump.replace("03_04_05", "04_05_06");
    node.sh(&format!("echo theirs >{newer}; echo 'web server of Bob' >{newer}.notes"));
    let theirs = bed.backups();
    assert_eq!(theirs.len(), 2);

    node.fault("pvesh create", "fail", 1, 0);
    let now = bed.act(pod.id, Act::Backup { scheduled: false }).await;
    assert!(now.error.is_some());
    assert_eq!(bed.backups(), theirs);
    for _ in 0..2 {
        bed.act(pod.id, Act::Backup { scheduled: false }).await;
    }
    assert_eq!(bed.backups().len(), 4);
    // Nobody saw the end of one.
    bed.sql(
        "DELETE FROM cloudpod_backup WHERE id = (SELECT min(id::text)::uuid FROM cloudpod_backup)",
    );
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    assert_eq!(bed.backups(), theirs);
    bed.end().await;
}

#[tokio::test]
async fn a_snapshot_of_another_is_neither_taken_for_ours_nor_removed() {
    let bed = Bed::open("snaps", 1).await;
    let pod = bed.make("snaps").await;
    let (node, vmid) = (&bed.nodes[0], pod.vmid.unwrap());
    let name = || SnapshotName::parse("kept").unwrap();
    let take = || Act::Snapshot { name: name(), description: None };
    node.sh(&format!("pct snapshot {vmid} kept"));
    let refused = bed.act(pod.id, take()).await;
    assert!(refused.error.unwrap().contains("was not made here"));
    assert!(node.sh(&format!("pct listsnapshot {vmid}")).contains("kept"));
    node.sh(&format!("pct delsnapshot {vmid} kept"));
    // One of an earlier job that nobody knows of is not what somebody asks for now.
    assert_eq!(bed.act(pod.id, take()).await.error, None);
    bed.sql("DELETE FROM cloudpod_snapshot");
    bed.inside(&pod, "echo later >/root/note");
    assert_eq!(bed.act(pod.id, take()).await.error, None);
    bed.inside(&pod, "rm /root/note");
    assert_eq!(bed.act(pod.id, Act::Rollback { name: name() }).await.error, None);
    assert_eq!(bed.inside(&pod, "cat /root/note"), "later\n");
    bed.end().await;
}
