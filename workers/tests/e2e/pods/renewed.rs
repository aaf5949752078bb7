//! Containers that are made anew, and what is left of them when that does not come to its end.

use super::bed::Bed;
use crate::gates;
use entities::cloudpods::{self, Act, Desired, Status};
use entities::ids::BackupId;
use entities::values::{SnapshotName, TemplateCode, Title};
use workers::reconcile;

const REINSTALL: Act = Act::Reinstall { template: None, ssh_keys: None };

#[tokio::test]
async fn what_a_dead_restore_has_left_is_told_restored_and_removed() {
    let bed = Bed::open("torso", 1).await;
    let pod = bed.make("torso").await;
    let (id, node) = (pod.id, &bed.nodes[0]);
    bed.act(id, Act::Backup { scheduled: false }).await;
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    let vmid = pod.vmid.unwrap();
    let torso = format!(
        "pct stop {vmid}; pct destroy {vmid}; echo 'lock: create' >/etc/pve/lxc/{vmid}.conf"
    );

    // Nothing was ever made anew for it: it may be somebody else's, who is about to make one.
    node.sh(&torso);
    assert!(bed.act(id, Act::Start).await.error.unwrap().contains("is not ours"));
    node.sh(&format!("rm /etc/pve/lxc/{vmid}.conf"));
    assert_eq!(bed.act(id, Act::Restore { backup }).await.error, None);

    node.sh(&torso);
    reconcile::look_at_all(&bed.world).await.unwrap();
    let now = bed.pod(id).await;
    assert_eq!(now.status, Status::Stopped);
    assert!(now.error.unwrap().contains("is not on its node"));
    let findings = "SELECT kind FROM finding WHERE ended_at IS NULL";
    assert_eq!(bed.sql_text(findings), "ghost");
    assert!(bed.act(id, Act::Start).await.error.unwrap().contains("ended half-way"));
    let restored = bed.act(id, Act::Restore { backup }).await;
    assert_eq!((restored.status, restored.error.as_deref()), (Status::Stopped, None));
    assert_eq!(bed.act(id, Act::Start).await.status, Status::Active);
    node.sh(&torso);
    assert_eq!(bed.act(id, REINSTALL).await.error, None);
    node.sh(&torso);
    assert_eq!(bed.want(id, Desired::Deleted).await.status, Status::Deleted);
    assert!(node.vmids().is_empty());
    bed.end().await;
}

#[tokio::test]
async fn nothing_is_lost_before_there_is_something_to_install() {
    let bed = Bed::open("anew", 1).await;
    let pod = bed.make("anew").await;
    let (id, node) = (pod.id, &bed.nodes[0]);
    let name = SnapshotName::parse("kept").unwrap();
    bed.act(id, Act::Snapshot { name, description: None }).await;
    bed.inside(&pod, "echo kept >/root/note");
    let code = TemplateCode::parse("nowhere-1").unwrap();
    let archive = "nowhere-1-standard_1.0-1_amd64.tar.zst".parse().unwrap();
    let named = (&Title::parse("Nowhere").unwrap(), &archive);
    cloudpods::templates::put_template(bed.db(), &bed.ctx, &code, named).await.unwrap();
    let missing = bed.act(id, Act::Reinstall { template: Some(code), ssh_keys: None }).await;
    assert!(missing.error.is_some());
    assert_eq!(missing.status, Status::Active);
    assert_eq!(bed.inside(&pod, "cat /root/note"), "kept\n");

    // What goes in the middle has no container, and no snapshots.
    node.fault("pct create", "full", 1, 0);
    let gone = bed.act(id, REINSTALL).await;
    assert!(gone.error.is_some());
    assert_eq!((gone.status, bed.sql_count("cloudpod_snapshot")), (Status::Stopped, 0));
    let anew = bed.act(id, REINSTALL).await;
    assert_eq!((anew.status, anew.error.as_deref()), (Status::Active, None));
    bed.end().await;
}

#[tokio::test]
async fn what_was_written_after_going_back_is_kept_when_a_worker_dies() {
    let bed = Bed::open("after", 1).await;
    gates::install(&bed);
    let pod = bed.make("after").await;
    let name = SnapshotName::parse("back").unwrap();
    bed.act(pod.id, Act::Snapshot { name: name.clone(), description: None }).await;
    bed.act(pod.id, Act::Backup { scheduled: false }).await;
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    for (phase, act) in [("rollback", Act::Rollback { name }), ("restore", Act::Restore { backup })]
    {
        gates::lose(&bed, &format!("{phase}:ended"));
        cloudpods::act(bed.db(), &bed.ctx, pod.id, act).await.unwrap();
        bed.work().await;
        let state = format!("SELECT state FROM job WHERE phase = '{phase}'");
        assert_eq!(bed.sql_text(&state), "running", "its end was lost");
        bed.inside(&pod, "echo new >/root/note");
        gates::open(&bed, &format!("{phase}:ended"));
        bed.work_through().await;
        let row = bed.pod(pod.id).await;
        assert_eq!((row.status, row.error), (Status::Active, None), "{phase}");
        assert_eq!(bed.inside(&pod, "cat /root/note; rm /root/note"), "new\n", "{phase}");
    }
    bed.end().await;
}

#[tokio::test]
async fn what_went_with_the_old_container_is_not_shown_when_the_new_one_does_not_start() {
    let bed = Bed::open("rows", 1).await;
    let pod = bed.make("rows").await;
    let (id, node) = (pod.id, &bed.nodes[0]);
    let snapshot = async || {
        let name = SnapshotName::parse("old").unwrap();
        bed.act(id, Act::Snapshot { name, description: None }).await;
        assert_eq!(bed.sql_count("cloudpod_snapshot"), 1);
    };
    bed.act(id, Act::Backup { scheduled: false }).await;
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    for act in
        [Act::Restore { backup }, Act::Reinstall { template: None, ssh_keys: Some(Vec::new()) }]
    {
        snapshot().await;
        node.fault("pct start", "fail", 9, 0);
        assert!(bed.act(id, act).await.error.is_some());
        node.clear_faults();
        assert_eq!(bed.sql_count("cloudpod_snapshot"), 0);
        assert_eq!(bed.act(id, Act::Start).await.status, Status::Active);
    }
    assert_eq!(bed.pod(id).await.ssh_keys, serde_json::json!([]));
    bed.end().await;
}
