//! The provisioner is killed while a node carries its command out: another takes over when the lease is
//! over, and finds what the node has made of it by then.

use super::bed::Bed;
use super::crew::Crew;
use super::slates::assert_same;
use crate::gates::{self, Database};
use crate::program::wait_for;
use entities::cloudpods::{Act, Status};
use entities::ids::BackupId;
use entities::tables::cloudpod;
use entities::values::{SnapshotName, Title};
use std::time::Duration;

/// Shorter than a lease: what the dead have ordered happens before another looks.
const SECS: u32 = 3;

impl Bed {
    /// Lets the next call for a pod's container take its time: before its effect, or after it.
    fn hold_up(&self, pod: &cloudpod::Model, words: &str, kind: &str) {
        let node = self.node_of(pod);
        let (vmid, name) = (pod.vmid.unwrap().to_string(), node.get("PVE_NODE"));
        node.fault(&words.replace("VMID", &vmid).replace("NODE", name), kind, 1, SECS);
    }

    /// Waits until no more than so many calls are still to be held up.
    async fn held_up(&self, left: usize) {
        let waiting = |node: &super::bed::Node| {
            let files = std::fs::read_dir(node.get("PVE_FAULTS")).unwrap();
            files.filter(|file| !file.as_ref().unwrap().file_name().is_empty()).count()
        };
        wait_for("calls that are held up", Duration::from_secs(60), async || {
            (self.nodes.iter().map(waiting).sum::<usize>() <= left).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_node_does_for_a_dead_provisioner_is_taken_up_and_not_done_twice() {
    let bed = Bed::open("blows", 2).await;
    gates::install(&bed);
    let clean = bed.slates();
    let mut crew = Crew::start(&bed, "blows");
    let made = crew.make(&bed, ["grows", "snaps", "saves", "moves"]).await;
    let mut ids = made.each_ref().map(|pod| pod.id).to_vec();
    for (nth, kind) in ["slow", "late"].into_iter().enumerate() {
        let [grows, snaps, saves, moves] = &made;
        let now = bed.pod(moves.id).await;
        bed.hold_up(grows, "pct resize VMID", kind);
        bed.hold_up(snaps, "pct snapshot VMID", kind);
        bed.hold_up(saves, "pvesh create /nodes/NODE/vzdump --vmid VMID", kind);
        bed.hold_up(&now, "pct migrate VMID", kind);
        // One of the two is met.
        bed.nodes.iter().for_each(|node| node.fault("pct create", kind, 1, SECS));
        let disk_mib = Some(3072 + 1024 * u32::try_from(nth).unwrap());
        let resize = Act::Resize { cpu_cores: None, memory_mib: None, disk_mib };
        let name = SnapshotName::parse(kind).unwrap();
        crew.ask(&bed, grows.id, resize).await;
        crew.ask(&bed, snaps.id, Act::Snapshot { name, description: None }).await;
        crew.ask(&bed, saves.id, Act::Backup { scheduled: false }).await;
        crew.ask(&bed, moves.id, Act::Move { server: None }).await;
        ids.push(bed.ask_for(&format!("comes-{kind}")).await);
        bed.held_up(1).await;
        crew.replace();
        crew.idle(&bed).await;
        bed.nodes.iter().for_each(super::bed::Node::clear_faults);

        let mut pods = Vec::new();
        for id in &ids {
            let pod = bed.pod(*id).await;
            assert_eq!((pod.status, pod.error.as_deref()), (Status::Active, None), "{kind}");
            pods.push(pod);
        }
        bed.assert_only(&pods.iter().collect::<Vec<_>>(), kind);
        assert_ne!(bed.pod(moves.id).await.server_id, now.server_id);
        let config = bed.node_of(grows).sh(&format!("pct config {}", grows.vmid.unwrap()));
        assert!(config.contains(&format!("size={}G", nth + 3)), "{config}");
        let rows = bed.sql("SELECT volume FROM cloudpod_backup WHERE state = 'ready' ORDER BY 1");
        assert_eq!(rows.lines().collect::<Vec<_>>(), bed.backups());
        assert_eq!(bed.backups().len(), nth + 1);
        let host = bed.host_slate();
        assert_eq!(host.iter().filter(|line| line.contains(" snapshot ")).count(), nth + 1);
    }
    for id in ids {
        crew.delete(&bed, id).await;
    }
    bed.assert_as_before(&clean, "all");
    take_back_through_a_death(&bed, &mut crew).await;
    bed.assert_as_before(&clean, "taken back");
    crew.end(bed).await;
}

/// The provisioner dies while the node removes what an attempt has made.
async fn take_back_through_a_death(bed: &Bed, crew: &mut Crew) {
    gates::refuse(bed, "ready:done");
    bed.nodes.iter().for_each(|node| node.fault("pct destroy", "slow", 1, SECS));
    let id = bed.ask_for("goes").await;
    bed.held_up(1).await;
    crew.replace();
    crew.idle(bed).await;
    bed.nodes.iter().for_each(super::bed::Node::clear_faults);
    gates::open(bed, "ready:done");
    assert_eq!(bed.pod(id).await.status, Status::Pending);
    crew.delete(bed, id).await;
}

#[tokio::test]
async fn what_was_to_become_equal_does_so_whoever_dies_on_the_way() {
    let bed = Bed::open("falls", 1).await;
    let clean = bed.slates();
    let mut crew = Crew::start(&bed, "falls");
    let names = ["restored", "rolled", "anew", "keyed", "booted", "gone"];
    let [restored, rolled, anew, keyed, booted, gone] = crew.make(&bed, names).await;
    let name = SnapshotName::parse("back").unwrap();
    let snapshot = Act::Snapshot { name: name.clone(), description: None };
    crew.ask(&bed, rolled.id, snapshot).await;
    crew.ask(&bed, restored.id, Act::Backup { scheduled: false }).await;
    crew.ask(&bed, keyed.id, Act::Stop { force: true }).await;
    crew.idle(&bed).await;
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    let before = bed.slate();

    bed.hold_up(&restored, "pct restore VMID", "slow");
    bed.hold_up(&rolled, "pct rollback VMID", "slow");
    bed.hold_up(&anew, "pct create VMID", "late");
    bed.hold_up(&keyed, "pct push VMID", "late");
    bed.hold_up(&booted, "pct reboot VMID", "late");
    bed.hold_up(&gone, "pct destroy VMID", "slow");
    crew.ask(&bed, restored.id, Act::Restore { backup }).await;
    crew.ask(&bed, rolled.id, Act::Rollback { name }).await;
    crew.ask(&bed, anew.id, Act::Reinstall { template: None, ssh_keys: None }).await;
    let ssh_keys = serde_json::from_value(keyed.ssh_keys.clone()).unwrap();
    crew.ask(&bed, keyed.id, Act::RootKeys { ssh_keys }).await;
    crew.ask(&bed, booted.id, Act::Reboot).await;
    let wish = (gone.id, entities::cloudpods::Desired::Deleted);
    let why = Title::parse("A test wants it").unwrap();
    entities::cloudpods::request(bed.db(), &bed.ctx, wish, Some(&why)).await.unwrap();
    bed.held_up(0).await;
    crew.replace();
    crew.idle(&bed).await;

    assert_eq!(bed.pod(gone.id).await.status, Status::Deleted);
    assert_eq!(bed.pod(keyed.id).await.status, Status::Stopped);
    for id in [restored.id, rolled.id, anew.id, booted.id] {
        let pod = bed.pod(id).await;
        assert_eq!((pod.status, pod.error.as_deref()), (Status::Active, None), "{}", pod.hostname);
    }
    let of_gone = [gone.id.0.to_string(), format!("\"{}\"", gone.ipv4.as_deref().unwrap())];
    let of_others = |line: &String| !of_gone.iter().any(|name| line.contains(name));
    let before = before.into_iter().filter(of_others).collect();
    assert_same(&before, &bed.slate(), "whoever dies");
    for pod in [&restored, &rolled, &anew, &keyed, &booted] {
        crew.delete(&bed, pod.id).await;
    }
    bed.assert_as_before(&clean, "all");
    crew.end(bed).await;
}
