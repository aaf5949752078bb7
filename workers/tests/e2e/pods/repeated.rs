//! What makes a container equal to its row runs twice, with answers of its node lost on the way, and
//! comes to the same as when nothing is in its way.

use super::bed::Bed;
use super::slates::assert_same;
use super::undone::STEPS;
use crate::gates;
use entities::cloudpods::{self, Act, Desired, Status};
use entities::ids::{BackupId, CloudpodId};
use entities::values::{SnapshotName, Title};
use std::collections::BTreeSet;

/// What may differ from one run to the next: which job has made it, its cards' addresses, and which of
/// two names its disk has.
fn alike(host: &BTreeSet<String>) -> BTreeSet<String> {
    let line = |line: &String| {
        let line = line.replace("%3A", ":");
        if line.contains("description: migrapanel:") {
            return line.rsplit_once(':').unwrap().0.to_owned();
        }
        let parts = line.split(',').filter(|part| !part.starts_with("hwaddr="));
        parts.collect::<Vec<_>>().join(",").replace("-disk-1", "-disk-0")
    };
    let disks = host.iter().filter(|line| line.contains("/local-lvm/vm-")).count();
    host.iter().map(line).chain([format!("{disks} disks")]).collect()
}

#[derive(Clone)]
enum Wish {
    Do(Act),
    Be(Desired),
}

impl Bed {
    async fn wish(&self, id: CloudpodId, wish: Wish) {
        match wish {
            Wish::Do(act) => drop(cloudpods::act(self.db(), &self.ctx, id, act).await.unwrap()),
            Wish::Be(desired) => {
                let why = Title::parse("A test wants it").unwrap();
                let wish = (id, desired);
                cloudpods::request(self.db(), &self.ctx, wish, Some(&why)).await.unwrap();
            }
        }
        self.work_through().await;
        let pod = self.pod(id).await;
        assert_eq!(pod.error, None, "{pod:?}");
    }

    /// The same while calls are lost, before their effect or after it, and with its end lost, so that
    /// all of it is done again.
    async fn wish_through(&self, id: CloudpodId, wish: Wish, phase: &str, lost: &[(&str, &str)]) {
        for (words, kind) in lost {
            self.nodes[0].fault(words, kind, 1, 0);
        }
        gates::lose(self, &format!("{phase}:ended"));
        self.wish(id, wish).await;
        gates::open(self, &format!("{phase}:ended"));
        let unmet = std::fs::read_dir(self.nodes[0].get("PVE_FAULTS")).unwrap().count();
        assert_eq!(unmet, 0, "{phase}: some calls were not made");
    }

    fn alike(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.slate(), alike(&self.host_slate()))
    }

    #[track_caller]
    fn assert_alike(&self, before: &(BTreeSet<String>, BTreeSet<String>), what: &str) {
        self.assert_sound(what);
        assert_same(&before.0, &self.slate(), what);
        assert_same(&before.1, &alike(&self.host_slate()), what);
    }
}

#[tokio::test]
async fn power_and_keys_come_to_the_same_when_they_run_twice() {
    let bed = Bed::open("power", 1).await;
    gates::install(&bed);
    let clean = bed.slates();
    let id = bed.make("power").await.id;
    let keys = || Wish::Do(Act::RootKeys { ssh_keys: Vec::new() });
    bed.wish(id, keys()).await;
    let active = bed.alike();
    bed.wish(id, Wish::Do(Act::Stop { force: false })).await;
    let stopped = bed.alike();
    let lost = [("pct push", "lost_before"), ("pct push", "lost")];
    bed.wish_through(id, keys(), "root_keys", &lost).await;
    bed.assert_alike(&stopped, "root_keys of a stopped one");
    let lost = [("pct start", "lost_before"), ("pct start", "lost")];
    bed.wish_through(id, Wish::Do(Act::Start), "start", &lost).await;
    bed.assert_alike(&active, "start");
    bed.wish_through(id, keys(), "root_keys", &[("pct push", "lost")]).await;
    bed.assert_alike(&active, "root_keys");
    bed.wish_through(id, Wish::Do(Act::Reboot), "reboot", &[("pct reboot", "lost_before")]).await;
    bed.assert_alike(&active, "reboot");
    let lost = [("pct shutdown", "lost_before"), ("pct shutdown", "lost")];
    bed.wish_through(id, Wish::Do(Act::Stop { force: false }), "stop", &lost).await;
    bed.assert_alike(&stopped, "stop");
    bed.wish(id, Wish::Do(Act::Start)).await;

    bed.wish(id, Wish::Be(Desired::Suspended)).await;
    let suspended = bed.alike();
    bed.wish(id, Wish::Be(Desired::Active)).await;
    let lost = [("pct set", "lost"), ("pct shutdown", "lost")];
    bed.wish_through(id, Wish::Be(Desired::Suspended), "suspend", &lost).await;
    bed.assert_alike(&suspended, "suspend");
    let lost = [("pct set", "lost"), ("pct start", "lost")];
    bed.wish_through(id, Wish::Be(Desired::Active), "unsuspend", &lost).await;
    assert_eq!(alike(&bed.host_slate()), active.1, "unsuspend");

    let lost = [("pct stop", "lost"), ("pct destroy", "lost_before"), ("pct destroy", "lost")];
    bed.wish_through(id, Wish::Be(Desired::Deleted), "terminate", &lost).await;
    bed.assert_as_before(&clean, "terminate");
    bed.end().await;
}

#[tokio::test]
async fn what_was_saved_comes_back_the_same_when_it_runs_twice() {
    let bed = Bed::open("data", 1).await;
    gates::install(&bed);
    let clean = bed.slates();
    let pod = bed.make("data").await;
    let id = pod.id;
    let name = SnapshotName::parse("back").unwrap();
    let plain = bed.alike();
    bed.inside(&pod, "echo kept >/root/note");
    bed.wish(id, Wish::Do(Act::Snapshot { name: name.clone(), description: None })).await;
    bed.inside(&pod, "echo lost >/root/note");
    let saved = bed.alike();
    let lost = [("pct rollback", "lost_before"), ("pct rollback", "lost"), ("pct start", "lost")];
    bed.wish_through(id, Wish::Do(Act::Rollback { name: name.clone() }), "rollback", &lost).await;
    bed.assert_alike(&saved, "rollback");
    assert_eq!(bed.inside(&pod, "cat /root/note"), "kept\n");
    let lost = [("pct delsnapshot", "lost_before"), ("pct delsnapshot", "lost")];
    bed.wish_through(id, Wish::Do(Act::DeleteSnapshot { name }), "delete_snapshot", &lost).await;
    bed.assert_alike(&plain, "delete_snapshot");

    bed.wish(id, Wish::Do(Act::Backup { scheduled: false })).await;
    bed.inside(&pod, "rm /root/note");
    let backup = bed.sql_text("SELECT id FROM cloudpod_backup WHERE state = 'ready'");
    let backup = BackupId(backup.parse().unwrap());
    let saved = bed.alike();
    // The node is at work when it is looked at again.
    let lost = [("pct restore", "lost"), ("pct restore", "lost_before")];
    bed.wish_through(id, Wish::Do(Act::Restore { backup }), "restore", &lost).await;
    bed.assert_alike(&saved, "restore");
    assert_eq!(bed.inside(&pod, "cat /root/note"), "kept\n");
    let lost = [("pvesm free", "lost_before"), ("pvesm free", "lost")];
    bed.wish_through(id, Wish::Do(Act::DeleteBackup { backup }), "delete_backup", &lost).await;
    bed.assert_alike(&plain, "delete_backup");

    let anew = Act::Reinstall { template: None, ssh_keys: None };
    let lost = [("pct destroy", "lost"), ("pct create", "lost_before"), ("pct create", "lost")];
    bed.wish_through(id, Wish::Do(anew), "reinstall", &lost).await;
    bed.assert_alike(&plain, "reinstall");
    assert_eq!(bed.inside(&pod, "ls /root/note 2>&1 | wc -l; test ! -e /root/note").trim(), "1");

    bed.wish(id, Wish::Do(Act::Backup { scheduled: false })).await;
    let lost = [("pct destroy", "lost"), ("pvesm free", "lost")];
    bed.wish_through(id, Wish::Be(Desired::Deleted), "terminate", &lost).await;
    bed.assert_as_before(&clean, "terminate");
    bed.end().await;
}

#[tokio::test]
async fn what_could_not_be_taken_back_is_taken_back_later_and_twice() {
    let bed = Bed::open("later", 1).await;
    gates::install(&bed);
    let clean = bed.slates();
    gates::refuse(&bed, "ready:done");
    gates::refuse(&bed, "create:undone");
    let id = bed.ask_for("later").await;
    bed.work_through().await;
    let pod = bed.pod(id).await;
    assert_eq!((pod.status, pod.attempts), (Status::Provisioning, 1), "{pod:?}");
    gates::open(&bed, "create:undone");
    gates::lose(&bed, "take_back:ended");
    for step in STEPS {
        gates::lose(&bed, &format!("{step}:undone"));
    }
    bed.sweep().await;
    bed.work_through().await;
    assert_eq!(bed.pod(id).await.status, Status::Pending);
    assert!(bed.nodes[0].vmids().is_empty());
    bed.wish(id, Wish::Be(Desired::Deleted)).await;
    bed.assert_as_before(&clean, "taken back");
    bed.end().await;
}
