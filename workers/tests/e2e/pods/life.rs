//! A container's life from the first answer to its end.

use super::bed::Bed;
use crate::gates::Database;
use entities::cloudpods::{self, Act, Desired, Status};
use entities::error::Code;
use entities::values::SnapshotName;

#[tokio::test]
async fn a_pod_lives_through_all_that_can_be_done_with_it() {
    let bed = Bed::open("life", 1).await;
    let before = bed.slate();
    let pod = bed.make("web-1.example").await;
    let (id, node) = (pod.id, &bed.nodes[0]);
    assert!(pod.dns_note.as_deref().unwrap().contains("No zone of yours"), "{:?}", pod.dns_note);
    let greeting = node.sh(&format!(
        "timeout 5 bash -c 'head -c 4 </dev/tcp/{}/22'",
        pod.ipv4.as_deref().unwrap()
    ));
    assert_eq!(greeting, "SSH-");
    assert!(bed.inside(&pod, "cat /root/.ssh/authorized_keys").contains("AAAAC3Nza"));

    let stopped = bed.act(id, Act::Stop { force: false }).await;
    assert_eq!(stopped.status, Status::Stopped, "{stopped:?}");
    assert_eq!(bed.act(id, Act::Start).await.status, Status::Active);
    assert_eq!(bed.act(id, Act::Reboot).await.status, Status::Active);

    let resize = Act::Resize { cpu_cores: Some(2), memory_mib: Some(256), disk_mib: Some(3072) };
    let larger = bed.act(id, resize).await;
    assert_eq!(larger.error, None);
    assert_eq!(larger.specification["disk_mib"], 3072);
    let config = node.sh(&format!("pct config {}", pod.vmid.unwrap()));
    assert!(config.contains("cores: 2") && config.contains("memory: 256"), "{config}");
    assert!(config.contains("size=3G") || config.contains("size=3072M"), "{config}");

    bed.inside(&pod, "echo kept >/root/note");
    let name = SnapshotName::parse("before").unwrap();
    bed.act(id, Act::Snapshot { name: name.clone(), description: None }).await;
    bed.inside(&pod, "echo lost >/root/note");
    let back = bed.act(id, Act::Rollback { name: name.clone() }).await;
    assert_eq!((back.status, back.error.as_deref()), (Status::Active, None));
    assert_eq!(bed.inside(&pod, "cat /root/note"), "kept\n");
    bed.act(id, Act::DeleteSnapshot { name }).await;
    assert_eq!(bed.sql_count("cloudpod_snapshot"), 0);

    bed.act(id, Act::Backup { scheduled: false }).await;
    bed.inside(&pod, "rm /root/note");
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = entities::ids::BackupId(backup.parse().unwrap());
    let restored = bed.act(id, Act::Restore { backup }).await;
    assert_eq!((restored.status, restored.error.as_deref()), (Status::Active, None));
    assert_eq!(bed.inside(&pod, "cat /root/note"), "kept\n");

    let anew = bed.act(id, Act::Reinstall { template: None, ssh_keys: None }).await;
    assert_eq!((anew.status, anew.error.as_deref()), (Status::Active, None));
    assert_eq!(bed.inside(&pod, "ls /root/note 2>&1 | wc -l; hostname").trim(), "1\nweb-1");
    let keys = Act::RootKeys { ssh_keys: Vec::new() };
    assert_eq!(bed.act(id, keys).await.error, None);
    assert_eq!(bed.inside(&pod, "wc -c </root/.ssh/authorized_keys").trim(), "0");

    let suspended = bed.want(id, Desired::Suspended).await;
    assert_eq!(suspended.status, Status::Suspended, "{suspended:?}");
    assert!(node.sh("pct list").contains("stopped"));
    assert_eq!(bed.want(id, Desired::Active).await.status, Status::Active);

    let gone = bed.want(id, Desired::Deleted).await;
    assert_eq!(gone.status, Status::Deleted, "{gone:?}");
    assert_eq!(node.vmids().len(), 0);
    assert_eq!(node.sh("pvesm list local --content backup").lines().count(), 1, "only the head");
    assert_eq!(bed.slate(), before);
    bed.end().await;
}

#[tokio::test]
async fn a_pod_moves_to_another_node_and_its_room_with_it() {
    let bed = Bed::open("move", 2).await;
    let pod = bed.make("mover").await;
    bed.inside(&pod, "echo kept >/root/note");
    // Where its addresses are not used it could not be reached.
    bed.sql("UPDATE ip_pool SET location = 'here'");
    bed.sql(&format!(
        "UPDATE server SET location = CASE WHEN id = '{}' THEN 'here' ELSE 'there' END",
        pod.server_id.unwrap()
    ));
    for server in [None, bed.servers.iter().copied().find(|id| Some(*id) != pod.server_id)] {
        let astray = cloudpods::act(bed.db(), &bed.ctx, pod.id, Act::Move { server }).await;
        assert_eq!(astray.unwrap_err().code(), Code::NoCapacity);
    }
    bed.sql("UPDATE server SET location = 'here'");
    let moved = bed.act(pod.id, Act::Move { server: None }).await;
    assert_eq!((moved.status, moved.error.as_deref()), (Status::Active, None));
    assert_ne!(moved.server_id, pod.server_id);
    assert_eq!((moved.vmid, &moved.ipv4), (pod.vmid, &pod.ipv4));
    assert_eq!(bed.inside(&moved, "cat /root/note"), "kept\n");
    let places = bed.sql_text("SELECT count(*) FROM placement WHERE released_at IS NULL");
    assert_eq!(places, "1");
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    assert!(bed.nodes.iter().all(|node| node.vmids().is_empty()));
    bed.end().await;
}
