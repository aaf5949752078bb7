//! What is done with a container and taken back when it fails: each step runs twice, each fails in
//! turn, each undo runs twice.

use super::bed::Bed;
use crate::gates::{self, Database};
use entities::cloudpods::{Act, Desired, Status};
use entities::tables::cloudpod;
use entities::values::SnapshotName;

/// A saga with its steps, in their order.
pub struct Way {
    pub phase: &'static str,
    pub steps: &'static [&'static str],
    pub act: Act,
}

/// All sagas that work on a container that there is. The one that cannot be done once there is a
/// snapshot comes before it.
pub fn ways() -> [Way; 4] {
    let name = SnapshotName::parse("kept").unwrap();
    [
        Way { phase: "resize", steps: &["cores_and_memory", "disk"], act: larger(None) },
        Way { phase: "backup", steps: &["look", "backup"], act: Act::Backup { scheduled: false } },
        Way { phase: "move", steps: &["migrate", "ready"], act: Act::Move { server: None } },
        Way {
            phase: "snapshot",
            steps: &["snapshot"],
            act: Act::Snapshot { name, description: None },
        },
    ]
}

/// Its disk is left out where all is to be as it was: a disk never shrinks.
pub fn larger(disk_mib: Option<u32>) -> Act {
    Act::Resize { cpu_cores: Some(2), memory_mib: Some(256), disk_mib }
}

impl Way {
    /// What is asked for when it is to be done.
    pub fn whole(&self) -> Act {
        if self.phase == "resize" { larger(Some(3072)) } else { self.act.clone() }
    }

    pub fn last_done(&self) -> String {
        format!("{}:done", self.steps.last().unwrap())
    }

    /// Ends the test unless it was done, once.
    pub fn assert_done(&self, bed: &Bed, before: &cloudpod::Model, now: &cloudpod::Model) {
        assert_eq!((now.status, now.error.as_deref()), (Status::Active, None), "{}", self.phase);
        let vmid = now.vmid.unwrap();
        let count = |table: &str| bed.sql_text(&format!("SELECT count(*) FROM {table}"));
        match self.phase {
            "resize" => {
                let config = bed.node_of(now).sh(&format!("pct config {vmid}"));
                assert!(config.contains("cores: 2") && config.contains("size=3"), "{config}");
                assert_eq!(now.specification["disk_mib"], 3072);
            }
            "backup" => {
                let rows = bed.sql_text("SELECT volume FROM cloudpod_backup WHERE state = 'ready'");
                assert_eq!(bed.backups(), [rows]);
            }
            "move" => assert_ne!(now.server_id, before.server_id),
            _ => {
                assert_eq!(count("cloudpod_snapshot WHERE state = 'ready'"), "1");
                let host = bed.host_slate();
                let kept = host.iter().filter(|line| line.contains(" snapshot kept")).count();
                assert_eq!(kept, 1, "{host:#?}");
            }
        }
        bed.assert_only(&[now], self.phase);
    }
}

impl Bed {
    /// The backups that all nodes have.
    pub fn backups(&self) -> Vec<String> {
        let list = |node: &super::bed::Node| {
            node.sh("pvesm list local --content backup | tail -n +2 | awk '{print $1}'")
        };
        let all: Vec<String> = self.nodes.iter().map(list).collect();
        all.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
    }

    /// Runs the jobs to their end, however often they are let go of.
    pub async fn work_through(&self) {
        let lost = "SELECT count(*) FROM job WHERE state IN ('queued', 'running', 'unwinding')";
        self.work().await;
        for _ in 0..50 {
            if self.sql_text(lost) == "0" {
                return;
            }
            self.sql(
                "UPDATE job SET lease_until = now() - interval '1 second'
                 WHERE state IN ('running', 'unwinding')",
            );
            self.revive().await;
            self.work().await;
        }
        panic!("jobs are let go of again and again");
    }
}

#[tokio::test]
async fn each_step_of_an_action_that_fails_is_undone_with_all_before_it() {
    let bed = Bed::open("turn", 2).await;
    gates::install(&bed);
    let clean = bed.slates();
    let pod = bed.make("turned").await;
    for way in ways() {
        for step in way.steps {
            let what = format!("{} {step}", way.phase);
            let before = bed.slates();
            let boundary = format!("{step}:done");
            gates::refuse(&bed, &boundary);
            let now = bed.act(pod.id, way.act.clone()).await;
            gates::open(&bed, &boundary);
            assert_eq!(now.status, Status::Active, "{what}");
            assert!(now.error.is_some(), "{what}");
            let last = format!(
                "SELECT name || ' ' || state FROM job_step WHERE job_id = '{}' ORDER BY seq DESC LIMIT 1",
                now.job_id.unwrap()
            );
            assert_eq!(bed.sql_text(&last), format!("{step} undone"));
            bed.assert_as_before(&before, &what);
        }
    }
    // What a disk has grown stays, and is told and counted.
    gates::refuse(&bed, "disk:done");
    let now = bed.act(pod.id, larger(Some(3072))).await;
    gates::open(&bed, "disk:done");
    let mut grown = pod.specification.clone();
    grown["disk_mib"] = 3072.into();
    assert_eq!(now.specification, grown);
    assert_eq!(bed.sql_text("SELECT disk_mib FROM placement WHERE released_at IS NULL"), "3072");
    let config = bed.node_of(&now).sh(&format!("pct config {}", now.vmid.unwrap()));
    assert!(config.contains("cores: 1") && config.contains("size=3"), "{config}");
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    bed.assert_as_before(&clean, "all");
    bed.end().await;
}

#[tokio::test]
async fn each_step_of_an_action_and_each_undo_runs_twice_and_comes_to_the_same() {
    let bed = Bed::open("again", 2).await;
    gates::install(&bed);
    let clean = bed.slates();
    let pod = bed.make("again").await;
    for way in ways() {
        // The last step fails, and each undo is lost once before it is written down.
        let before = bed.slates();
        gates::refuse(&bed, &way.last_done());
        let mut boundaries: Vec<String> =
            way.steps.iter().map(|step| format!("{step}:undone")).collect();
        boundaries.push(format!("{}:ended", way.phase));
        boundaries.iter().for_each(|boundary| gates::lose(&bed, boundary));
        entities::cloudpods::act(bed.db(), &bed.ctx, pod.id, way.act.clone()).await.unwrap();
        bed.work_through().await;
        boundaries.iter().for_each(|boundary| gates::open(&bed, boundary));
        gates::open(&bed, &way.last_done());
        assert!(bed.pod(pod.id).await.error.is_some(), "{}", way.phase);
        bed.assert_as_before(&before, way.phase);

        // Its effect is there, and the database goes away before that is written down.
        let mut boundaries: Vec<String> =
            way.steps.iter().map(|step| format!("{step}:done")).collect();
        boundaries.push(format!("{}:ended", way.phase));
        boundaries.iter().for_each(|boundary| gates::lose(&bed, boundary));
        entities::cloudpods::act(bed.db(), &bed.ctx, pod.id, way.whole()).await.unwrap();
        bed.work_through().await;
        boundaries.iter().for_each(|boundary| gates::open(&bed, boundary));
        way.assert_done(&bed, &pod, &bed.pod(pod.id).await);
    }
    assert_eq!(bed.want(pod.id, Desired::Deleted).await.status, Status::Deleted);
    bed.assert_as_before(&clean, "all");
    bed.end().await;
}
