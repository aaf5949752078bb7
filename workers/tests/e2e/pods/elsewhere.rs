//! Containers that somebody has moved by hand, and ones that greet nobody.

use super::bed::Bed;
use crate::gates::Database;
use entities::cloudpods::{Act, Desired, Status};
use entities::ids::{BackupId, ServerId};
use entities::tables::cloudpod;
use workers::reconcile;

/// Moves a container as an operator does, and says where it is then.
fn move_by_hand(bed: &Bed, pod: &cloudpod::Model) -> (usize, ServerId) {
    let from = bed.servers.iter().position(|id| Some(*id) == pod.server_id).unwrap();
    let to = 1 - from;
    let (vmid, name) = (pod.vmid.unwrap(), bed.nodes[to].get("PVE_NODE"));
    bed.nodes[from].sh(&format!("pct migrate {vmid} {name} --restart"));
    (to, bed.servers[to])
}

#[tokio::test]
async fn what_was_moved_by_hand_is_found_where_it_is() {
    let bed = Bed::open("byhand", 2).await;
    let pod = bed.make("moved").await;
    bed.inside(&pod, "echo kept >/root/note");
    let (to, server) = move_by_hand(&bed, &pod);
    for _ in 0..2 {
        reconcile::look_at_all(&bed.world).await.unwrap();
    }
    let row = bed.pod(pod.id).await;
    assert_eq!((row.server_id, row.status, &row.error), (Some(server), Status::Active, &None));
    let place = "SELECT server_id FROM placement WHERE released_at IS NULL";
    assert_eq!(bed.sql_text(place), server.to_string());
    let told = "SELECT DISTINCT what FROM finding WHERE detail LIKE '%has moved it here%'";
    assert_eq!(bed.sql_text(told), "node");
    assert_eq!(bed.sql_text("SELECT count(*) FROM finding WHERE ended_at IS NULL"), "0");
    assert_eq!(bed.inside(&row, "cat /root/note"), "kept\n");
    assert_eq!(bed.act(pod.id, Act::Reboot).await.error, None);
    // And back by itself.
    let back = bed.act(pod.id, Act::Move { server: None }).await;
    assert_eq!((back.server_id, back.error), (pod.server_id, None));
    assert!(bed.nodes[to].vmids().is_empty());
    bed.end().await;
}

#[tokio::test]
async fn what_was_moved_by_hand_is_deleted_where_it_is() {
    let bed = Bed::open("gonebyhand", 2).await;
    let before = bed.slate();
    let pod = bed.make("moved").await;
    let (to, _) = move_by_hand(&bed, &pod);
    assert_eq!(bed.nodes[to].vmids(), [pod.vmid.unwrap()].into());
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    assert!(bed.nodes.iter().all(|node| node.vmids().is_empty()));
    assert_eq!(bed.slate(), before);

    // On a node that nobody has told us of it is not called gone.
    let pod = bed.make("astray").await;
    let (to, server) = move_by_hand(&bed, &pod);
    bed.sql(&format!("UPDATE server SET state = 'pending' WHERE id = '{server}'"));
    let row = bed.want(pod.id, Desired::Deleted).await;
    assert_eq!(row.status, Status::Deleting);
    assert!(row.error.as_deref().unwrap().contains("was moved to"), "{:?}", row.error);
    assert_eq!(bed.nodes[to].vmids(), [pod.vmid.unwrap()].into());
    bed.sql(&format!("UPDATE server SET state = 'enrolled' WHERE id = '{server}'"));
    bed.sweep().await;
    assert_eq!(bed.pod(pod.id).await.status, Status::Deleted);
    assert!(bed.nodes.iter().all(|node| node.vmids().is_empty()));
    bed.end().await;
}

#[tokio::test]
async fn what_greets_nobody_moves_and_is_restored_too() {
    let bed = Bed::open_with("silent", 2, |config| config.ready_secs = 20).await;
    let pod = bed.make("silent").await;
    bed.inside(
        &pod,
        "systemctl disable --now ssh ssh.socket 2>/dev/null || systemctl disable --now ssh",
    );
    let moved = bed.act(pod.id, Act::Move { server: None }).await;
    assert_eq!((moved.status, &moved.error), (Status::Active, &None));
    assert_ne!(moved.server_id, pod.server_id);
    assert_eq!(bed.inside(&moved, "systemctl is-enabled ssh || true").trim(), "disabled");
    bed.act(pod.id, Act::Backup { scheduled: false }).await;
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    let restored = bed.act(pod.id, Act::Restore { backup }).await;
    assert_eq!((restored.status, restored.error), (Status::Active, None));
    let told = "job_log WHERE level = 'warn' AND message LIKE '%does not answer%'";
    assert_eq!(bed.sql_count(told), 1);
    bed.end().await;
}

#[tokio::test]
async fn disks_that_nobody_has_shown_to_be_ours_stay() {
    let bed = Bed::open("kept", 1).await;
    let pod = bed.make("short").await;
    let (node, vmid) = (&bed.nodes[0], pod.vmid.unwrap());
    let disk = format!("vm-{vmid}-disk-9");
    node.sh(&format!("pvesm alloc local-lvm {vmid} {disk} 64M"));
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    let left = node.sh("pvesm list local-lvm");
    assert!(left.contains(&disk) && !left.contains("disk-0"), "{left}");
    bed.end().await;
}

/// Makes a pod, a backup of it, and moves it away from that; its row, the backup and its volume.
async fn moved_from_backup(bed: &Bed, name: &str) -> (cloudpod::Model, BackupId, String) {
    let pod = bed.make(name).await;
    bed.inside(&pod, "echo kept >/root/note");
    assert_eq!(bed.act(pod.id, Act::Backup { scheduled: false }).await.error, None);
    let one = |column: &str| {
        bed.sql_text(&format!(
            "SELECT {column} FROM cloudpod_backup WHERE cloudpod_id = '{}'",
            pod.id
        ))
    };
    let backup = BackupId(one("id").parse().unwrap());
    let now = bed.act(pod.id, Act::Move { server: None }).await;
    assert!(now.error.is_none() && now.server_id != pod.server_id, "{now:?}");
    (now, backup, one("volume"))
}

fn stored(node: &super::bed::Node) -> usize {
    node.sh("pvesm list local --content backup").lines().skip(1).count()
}

#[tokio::test]
async fn a_backup_that_both_nodes_see_is_restored_on_the_other() {
    let bed = Bed::open("shared", 2).await;
    let (pod, backup, volume) = moved_from_backup(&bed, "shared").await;
    let nth = bed.servers.iter().position(|id| Some(*id) == pod.server_id).unwrap();
    let (here, there) = (&bed.nodes[nth], &bed.nodes[1 - nth]);
    bed.inside(&pod, "rm /root/note");
    let refused = bed.act(pod.id, Act::Restore { backup }).await;
    assert!(refused.error.unwrap().contains("cannot be restored from here"));
    // As a storage does that they share.
    let archive = format!("/var/lib/vz/dump/{}", volume.rsplit('/').next().unwrap());
    for file in [archive.clone(), format!("{archive}.notes")] {
        here.sh(&format!(
            "mkdir -p /var/lib/vz/dump; ssh -o BatchMode=yes -o HostKeyAlias={} -o LogLevel=ERROR \
             -o UserKnownHostsFile=/etc/pve/priv/known_hosts root@{} cat {file} >{file}",
            there.get("PVE_NODE"),
            there.get("PVE_HOST")
        ));
    }
    let restored = bed.act(pod.id, Act::Restore { backup }).await;
    assert_eq!(restored.error, None);
    assert_eq!(bed.inside(&restored, "cat /root/note"), "kept\n");
    assert_eq!(bed.act(pod.id, Act::DeleteBackup { backup }).await.error, None);
    assert_eq!((stored(here), bed.sql_count("cloudpod_backup")), (0, 0));
    bed.end().await;
}

#[tokio::test]
async fn a_backup_on_a_node_that_was_away_when_its_pod_went_goes_when_that_is_back() {
    let bed = Bed::open("leftover", 2).await;
    let (pod, _, _) = moved_from_backup(&bed, "leftover").await;
    let nth = bed.servers.iter().position(|id| Some(*id) != pod.server_id).unwrap();
    bed.nodes[nth].fault("pvesm free", "fail", 1, 0);
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    assert_eq!((stored(&bed.nodes[nth]), bed.sql_count("cloudpod_backup")), (1, 1));
    for _ in 0..2 {
        reconcile::look_at_all(&bed.world).await.unwrap();
        assert_eq!((stored(&bed.nodes[nth]), bed.sql_count("cloudpod_backup")), (0, 0));
    }
    bed.end().await;
}

#[tokio::test]
async fn a_host_that_is_another_node_of_its_cluster_is_told() {
    let bed = Bed::open("mistaken", 2).await;
    let names = [0, 1].map(|nth| bed.nodes[nth].get("PVE_NODE"));
    bed.sql(&format!(
        "UPDATE node SET name = 'other' WHERE server_id = '{}';
         UPDATE node SET name = '{}' WHERE server_id = '{}'",
        bed.servers[1], names[1], bed.servers[0]
    ));
    reconcile::look_at_all(&bed.world).await.unwrap();
    let error = format!("SELECT last_error FROM server WHERE id = '{}'", bed.servers[0]);
    let told = bed.sql_text(&error);
    assert!(told.contains(&format!("is the node {} of its cluster", names[0])), "{told}");
    bed.end().await;
}
