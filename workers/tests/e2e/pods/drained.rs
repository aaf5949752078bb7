//! A node that is to become empty.

use super::bed::Bed;
use crate::gates::Database;
use entities::cloudpods::draining::{self, Progress};
use entities::cloudpods::{Desired, Status};

async fn remaining(bed: &Bed, nth: usize) -> Vec<(String, Progress)> {
    let tx = bed.db().system().await.unwrap();
    let list = draining::list_remaining(&tx, bed.servers[nth], 10).await.unwrap();
    list.into_iter().map(|pod| (pod.hostname, pod.progress)).collect()
}

#[tokio::test]
async fn a_node_that_drains_becomes_empty_one_pod_after_another() {
    let bed = Bed::open("drain", 2).await;
    bed.sql(&format!("UPDATE server SET maintenance = true WHERE id = '{}'", bed.servers[1]));
    let (runs, closed) = (bed.make("runs").await, bed.make("closed").await);
    bed.inside(&runs, "echo kept >/root/note");
    assert_eq!(bed.want(closed.id, Desired::Suspended).await.status, Status::Suspended);
    bed.sql(&format!("UPDATE server SET draining = true WHERE id = '{}'", bed.servers[0]));

    // Nowhere to go: it is said, and looked at again later.
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 0);
    let both = remaining(&bed, 0).await;
    assert!(both.iter().all(|(_, progress)| *progress == Progress::NoRoom), "{both:?}");
    bed.sql("UPDATE server SET maintenance = false; UPDATE cloudpod SET next_at = now() - interval '1 s'");

    // A move that fails lets the other go first.
    bed.nodes[0].fault("pct migrate", "fail", 1, 0);
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 1);
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 0, "one at a time");
    let moving = remaining(&bed, 0).await;
    assert_eq!(moving.iter().filter(|(_, p)| *p == Progress::Moving).count(), 1, "{moving:?}");
    bed.work().await;
    let failed = remaining(&bed, 0).await;
    assert_eq!(failed.iter().filter(|(_, p)| *p == Progress::Failed).count(), 1, "{failed:?}");
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 1);
    bed.work().await;
    assert_eq!(remaining(&bed, 0).await.len(), 1);
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 0, "the failed one rests");
    bed.sql("UPDATE cloudpod SET next_at = now() - interval '1 second'");
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 1);
    bed.work().await;

    assert!(remaining(&bed, 0).await.is_empty());
    assert!(bed.nodes[0].vmids().is_empty());
    assert_eq!(bed.nodes[1].vmids().len(), 2);
    let runs = bed.pod(runs.id).await;
    assert_eq!((runs.status, runs.server_id), (Status::Active, Some(bed.servers[1])));
    assert_eq!(bed.inside(&runs, "cat /root/note"), "kept\n");
    let closed = bed.want(closed.id, Desired::Active).await;
    assert_eq!((closed.status, closed.server_id), (Status::Active, Some(bed.servers[1])));
    assert_eq!(draining::move_due(bed.db(), 10).await.unwrap(), 0);
    bed.end().await;
}
