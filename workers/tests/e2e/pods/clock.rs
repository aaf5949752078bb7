//! What the clock does with pods: backups and how many are kept, traffic, and that one that cannot be
//! worked on holds up nobody else.

use super::bed::Bed;
use crate::gates::Database;
use entities::cloudpods::backups::{self, Schedule};
use entities::cloudpods::{self, Status};
use workers::reconcile;

async fn back_up_now(bed: &Bed) {
    bed.sql(
        "UPDATE cloudpod SET next_at = now() - interval '1 second',
        backup_next_at = backup_next_at - interval '2 hours' WHERE backup_next_at IS NOT NULL",
    );
    backups::back_up_due(bed.db(), 100).await.unwrap();
    bed.work().await;
    // What is too many by now goes with the next look.
    backups::back_up_due(bed.db(), 100).await.unwrap();
    bed.work().await;
}

#[tokio::test]
async fn backups_are_made_by_the_clock_and_so_many_are_kept() {
    let bed = Bed::open("clock", 1).await;
    let pod = bed.make("saved").await;
    let manual = cloudpods::Act::Backup { scheduled: false };
    bed.act(pod.id, manual).await;
    let schedule = Some(Schedule { every_hours: 1, keep: 2 });
    backups::set_schedule(bed.db(), &bed.ctx, pod.id, schedule).await.unwrap();
    backups::back_up_due(bed.db(), 100).await.unwrap();
    assert_eq!(bed.sql_count("job WHERE phase = 'backup'"), 1, "none is due yet");
    let mut kept = Vec::new();
    for nth in 1..=4 {
        back_up_now(&bed).await;
        let of_clock = "SELECT volume FROM cloudpod_backup WHERE scheduled AND state = 'ready' ORDER BY created_at";
        let volumes: Vec<String> = bed.sql(of_clock).lines().map(str::to_owned).collect();
        assert_eq!(volumes.len(), nth.min(2), "{volumes:?}");
        if nth == 4 {
            assert_eq!(volumes.first(), kept.last(), "the oldest went");
        }
        kept = volumes;
    }
    // Those of the customer's own stay, and the storage has the same.
    let ours = "SELECT volume FROM cloudpod_backup WHERE state = 'ready'";
    let mut ours: Vec<String> = bed.sql(ours).lines().map(str::to_owned).collect();
    let stored = bed.nodes[0].sh("pvesm list local --content backup");
    let mut stored: Vec<String> = stored
        .lines()
        .skip(1)
        .filter_map(|l| l.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    ours.sort();
    stored.sort();
    assert_eq!(ours.len(), 3);
    assert_eq!(ours, stored);
    bed.end().await;
}

#[tokio::test]
async fn backups_one_right_after_another_have_names_of_their_own() {
    let bed = Bed::open("swift", 1).await;
    let pod = bed.make("swift").await;
    for nth in 1..=4 {
        bed.act(pod.id, cloudpods::Act::Backup { scheduled: false }).await;
        // The next would be called by this second.
        let now = bed.nodes[0].sh("date +vzdump-lxc-%Y_%m_%d-%H_%M_%S");
        let now = now.trim().replace("lxc-", &format!("lxc-{}-", pod.vmid.unwrap()));
        let volumes = "SELECT DISTINCT volume FROM cloudpod_backup WHERE state = 'ready'";
        let volumes = bed.sql(volumes);
        assert_eq!(volumes.lines().count(), nth);
        assert!(!volumes.contains(&now), "{now}: {volumes}");
    }
    assert_eq!(bed.nodes[0].sh("pvesm list local --content backup").lines().skip(1).count(), 4);
    bed.end().await;
}

#[tokio::test]
async fn one_pod_that_cannot_be_worked_on_holds_up_nobody_else() {
    let bed = Bed::open("broken", 1).await;
    let (full, other) = (bed.make("full").await, bed.make("other").await);
    let schedule = Some(Schedule { every_hours: 1, keep: 2 });
    for pod in [&full, &other] {
        backups::set_schedule(bed.db(), &bed.ctx, pod.id, schedule).await.unwrap();
    }
    // It has as many as it may have, and another's row is one that nobody can read.
    bed.sql(&format!(
        "INSERT INTO cloudpod_backup (id, tenant_id, cloudpod_id, state, scheduled, created_at)
         SELECT gen_random_uuid(), tenant_id, id, 'making', false, now()
         FROM cloudpod, generate_series(1, 100) WHERE id = '{}'",
        full.id
    ));
    let waiting = bed.ask_for("unreadable").await;
    bed.work().await;
    bed.sql(&format!(
        "UPDATE cloudpod SET desired = 'suspended', service_id = NULL, status = 'pending',
            specification = '{{}}', created_at = now() - interval '1 day' WHERE id = '{waiting}'"
    ));
    back_up_now(&bed).await;
    let due = bed.ask_for("next").await;
    bed.sweep().await;
    assert_eq!(bed.pod(due).await.status, Status::Active);
    let saved = format!("cloudpod_backup WHERE cloudpod_id = '{}' AND state = 'ready'", other.id);
    assert_eq!(bed.sql_count(&saved), 1);
    let said = bed.pod(full.id).await.error.unwrap();
    assert!(said.contains("was not made") && said.contains("at most 100"), "{said}");
    bed.end().await;
}

#[tokio::test]
async fn traffic_is_counted_once_and_over_a_restart() {
    let bed = Bed::open("traffic", 1).await;
    let pod = bed.make("busy").await;
    let node = &bed.nodes[0];
    let tx = bed.db().system().await.unwrap();
    let server = entities::servers::load_server(&tx, bed.servers[0]).await.unwrap();
    drop(tx);
    let send = format!(
        "for i in 1 2 3 4; do head -c 262144 /dev/zero | timeout 20 bash -c 'cat >/dev/tcp/{}/22' || true; done",
        pod.ipv4.as_deref().unwrap()
    );
    let received = || -> u64 {
        bed.sql_text("SELECT coalesce(sum(bytes_in), 0) FROM cloudpod_traffic").parse().unwrap()
    };
    reconcile::look_at(&bed.world, &server).await.unwrap();
    let first = received();
    node.sh(&send);
    reconcile::look_at(&bed.world, &server).await.unwrap();
    let second = received();
    assert!(second > first + 50_000, "{first}, {second}");
    // Its counters begin anew.
    bed.act(pod.id, cloudpods::Act::Reboot).await;
    reconcile::look_at(&bed.world, &server).await.unwrap();
    let third = received();
    assert!(third >= second && third < second + 1_000_000, "{second}, {third}");
    node.sh(&send);
    reconcile::look_at(&bed.world, &server).await.unwrap();
    assert!(received() > third + 50_000);
    bed.end().await;
}
