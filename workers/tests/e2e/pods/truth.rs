//! What is told is so: nodes that hang, jobs that are stopped, inputs that no command takes, and addresses
//! that are somebody else's.

use super::bed::Bed;
use crate::gates::Database;
use crate::program::wait_for;
use entities::cloudpods::{self, Act, Desired, Status};
use entities::error::Code;
use entities::ids::JobId;
use entities::oversight;
use entities::values::Title;
use std::time::Duration;
use workers::reconcile;

fn reason() -> Title {
    Title::parse("A test wants it").unwrap()
}

#[tokio::test]
async fn a_node_that_hangs_is_told_and_not_chosen_and_its_pods_stay_as_they_were() {
    let bed = Bed::open("hangs", 1).await;
    let pod = bed.make("steady").await;
    let node = &bed.nodes[0];
    node.fault("pvesh get", "hang", 1, 0);
    reconcile::look_at_all(&bed.world).await.unwrap();
    let told = bed.sql_text("SELECT last_error FROM server");
    assert!(!told.is_empty() && told.contains("no answer within"), "{told}");
    assert_eq!(bed.pod(pod.id).await.status, Status::Active);
    let refused = cloudpods::create_pod(bed.db(), &bed.ctx, Bed::small("waits")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NoCapacity);

    reconcile::look_at_all(&bed.world).await.unwrap();
    assert_eq!(bed.sql_text("SELECT last_error FROM server"), "");
    node.fault("pct create", "hang", 1, 0);
    let waits = bed.ask_for("waits").await;
    bed.work().await;
    bed.sweep().await;
    let row = bed.pod(waits).await;
    assert_eq!(row.status, Status::Active, "{row:?}");
    assert_eq!(node.vmids(), [pod.vmid.unwrap(), row.vmid.unwrap()].into());
    // A command that hangs on one that runs: it is looked at, and done again.
    node.fault("pct reboot", "hang", 1, 0);
    let row = bed.act(pod.id, Act::Reboot).await;
    assert_eq!((row.status, row.error), (Status::Active, None));
    bed.end().await;
}

#[tokio::test]
async fn a_job_that_is_stopped_leaves_nothing_and_may_be_made_again() {
    let bed = Bed::open("stopped", 1).await;
    let before = bed.slate();
    // Before it began.
    let id = bed.ask_for("stopped").await;
    let job = bed.pod(id).await.job_id.unwrap();
    oversight::cancel(bed.db(), &bed.ctx, job, &reason()).await.unwrap();
    let row = bed.pod(id).await;
    assert_eq!((row.status, row.vmid), (Status::Pending, None));
    bed.work().await;
    assert!(bed.nodes[0].vmids().is_empty());
    // While its container is made.
    bed.nodes[0].fault("pct start", "slow", 1, 3);
    let stopping = async {
        wait_for("its start", Duration::from_secs(60), async || {
            let begun = bed.sql_count("job_step WHERE name = 'start' AND state = 'started'");
            (begun > 0).then_some(())
        })
        .await;
        let job: JobId = bed.pod(id).await.job_id.unwrap();
        oversight::cancel(bed.db(), &bed.ctx, job, &reason()).await.unwrap();
    };
    tokio::join!(bed.sweep(), stopping);
    let row = bed.pod(id).await;
    assert_eq!((row.status, row.vmid), (Status::Pending, None), "{row:?}");
    assert!(row.error.is_some());
    assert!(bed.nodes[0].vmids().is_empty());
    bed.sweep().await;
    assert_eq!(bed.pod(id).await.status, Status::Active);
    // What somebody asked for and failed is asked for again.
    bed.nodes[0].fault("pct reboot", "fail", 1, 0);
    assert!(bed.act(id, Act::Reboot).await.error.is_some());
    let job = bed.sql_text("SELECT id FROM job WHERE phase = 'reboot' AND state = 'failed'");
    let job = JobId(job.parse().unwrap());
    let again = oversight::requeue(bed.db(), &bed.ctx, job, &reason()).await.unwrap_err();
    assert!(again.to_string().contains("asked for again"), "{again}");
    let row = bed.act(id, Act::Reboot).await;
    assert_eq!((row.status, row.error), (Status::Active, None));
    assert_eq!(bed.want(id, Desired::Deleted).await.status, Status::Deleted);
    assert_eq!(bed.slate(), before);
    bed.end().await;
}

#[tokio::test]
async fn an_input_that_no_command_takes_is_refused_and_recorded() {
    let bed = Bed::open("inputs", 1).await;
    for (nth, column) in ["hostname = '$(reboot).example'", "specification = '{\"cpu_cores\": -1}'"]
        .into_iter()
        .enumerate()
    {
        let id = bed.ask_for(&format!("input-{nth}")).await;
        bed.sql(&format!("UPDATE cloudpod SET {column} WHERE id = '{id}'"));
        bed.work().await;
        let row = bed.pod(id).await;
        assert!(row.status != Status::Active && row.error.is_some(), "{row:?}");
        let recorded = format!(
            "SELECT count(*) FROM audit_log WHERE kind = 'CLOUDPOD_PROVISIONING_INPUT_REJECTED'
             AND data::text LIKE '%{id}%'"
        );
        assert_ne!(bed.sql_text(&recorded), "0", "{column}");
        assert!(bed.nodes[0].vmids().is_empty());
        bed.sql(&format!("DELETE FROM placement WHERE cloudpod_id = '{id}'"));
        bed.sql(&format!("UPDATE cloudpod SET status = 'deleted' WHERE id = '{id}'"));
    }
    bed.end().await;
}

#[tokio::test]
async fn a_container_speaks_with_its_own_address_only() {
    let bed = Bed::open("spoof", 1).await;
    let (honest, other) = (bed.make("honest").await, bed.make("other").await);
    let node = &bed.nodes[0];
    let answers = |address: &str| {
        let look = format!("ping -c 1 -W 2 {address} >/dev/null 2>&1 && echo yes || echo no");
        node.sh(&look).trim() == "yes"
    };
    let (own, theirs) = (honest.ipv4.clone().unwrap(), other.ipv4.clone().unwrap());
    assert!(answers(&own) && answers(&theirs));
    // An address that nobody gave it is not heard, nor a neighbour's that is gone for a moment.
    let free = own.rsplit_once('.').map(|(network, _)| format!("{network}.222")).unwrap();
    bed.inside(&honest, &format!("ip address add {free}/24 dev eth0"));
    assert!(!answers(&free));
    bed.act(other.id, Act::Stop { force: true }).await;
    assert!(!answers(&theirs));
    bed.inside(&honest, &format!("ip address add {theirs}/24 dev eth0"));
    node.sh("ip neighbour flush all");
    assert!(!answers(&theirs));
    assert!(answers(&own));
    bed.end().await;
}
