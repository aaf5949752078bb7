//! More output than anybody reads.

use super::stage::Stage;
use crate::program::wait_for;
use std::time::{Duration, Instant};

/// By how much a process may grow for one console, in KiB: what is on the way, and what the
/// allocator keeps.
const GROWS: u64 = 24 << 10;

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_and_is_given_up() {
    let stage = Stage::open("cflood", 2).await;
    stage.served().await;
    let mut other = stage.shell(1).await;
    let mut deaf = stage.shell(0).await;
    let before = stage.memory();
    stage.bed().inside(&stage.pods[0], "head -c 50000000 /dev/urandom | base64 -w 80 >/root/much");
    deaf.type_text("cat /root/much /root/much /root/much\r").await;
    // Others work as ever while it reads nothing, until it is given up: without a sign of life for a
    // minute.
    let began = Instant::now();
    let (mut slowest, mut most) = (Duration::ZERO, [0, 0]);
    while stage.rows() == 2 {
        let asked = Instant::now();
        assert_eq!(other.run("echo still here").await, "still here");
        slowest = slowest.max(asked.elapsed());
        let now = stage.memory();
        most = [0, 1].map(|nth| now[nth].saturating_sub(before[nth]).max(most[nth]));
        assert!(began.elapsed() < Duration::from_secs(90), "it is never given up");
    }
    assert!(began.elapsed() > Duration::from_secs(50), "given up after {:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(20), "others wait {slowest:?}");
    assert!(most.iter().all(|grown| *grown < GROWS), "API and provisioner grew by {most:?} KiB");
    assert_eq!(other.run("echo still here").await, "still here");
    // Not even its connection is kept for it.
    wait_for("the end of a deaf connection", Duration::from_secs(90), async || {
        (stage.connections() == 1).then_some(())
    })
    .await;
    drop(deaf);
    other.close().await;
    stage.nobody_in_a_terminal(Duration::from_secs(20)).await;
    stage.end().await;
}
