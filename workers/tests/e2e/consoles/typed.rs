//! A console as its user sees it.

use super::stage::{ROOT, Stage};
use super::terminal::Terminal;
use crate::program::wait_for;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_is_typed_reaches_the_container_and_what_it_shows_comes_back() {
    // Whatever our libraries log at their most talkative has no byte of a console.
    let stage = Stage::open_logging("ctyped", 1, "trace").await;
    stage.served().await;
    let mut terminal = stage.shell(0).await;
    assert_eq!(terminal.run("hostname; stty size").await, "c1\n24 80");
    terminal.resize(132, 43).await;
    resized(&mut terminal, "43 132").await;

    // More than there is ever on the way, in both directions.
    let lines: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(terminal.run("seq 1 100000").await, lines.trim());
    let pasted: Vec<u8> = (0..400_000u32).map(|n| u8::try_from(33 + n % 90).unwrap()).collect();
    terminal.type_text("stty raw -echo; echo GO; head -c 400000 | sha256sum; stty sane\r").await;
    terminal.shows("GO\n").await;
    for piece in pasted.chunks(60_000) {
        terminal.send(Message::binary(piece.to_vec())).await;
    }
    let sum = Sha256::digest(&pasted).iter().fold(String::new(), |s, b| format!("{s}{b:02x}"));
    terminal.shows(&sum).await;

    let opened = "SELECT count(*) FROM audit_log WHERE kind = 'CLOUDPOD_CONSOLE_OPENED'";
    assert_eq!(stage.bed().sql_text(opened), "2");
    terminal.send(Message::text("[]")).await;
    assert_eq!(terminal.ended(SOON).await.0, 1007);
    stage.nobody_in_a_terminal(SOON).await;

    let mut terminal = reopened(&stage).await;
    terminal.send(Message::binary(vec![b'x'; 65_537])).await;
    assert_eq!(terminal.ended(SOON).await.0, 1009);
    stage.nobody_in_a_terminal(SOON).await;

    // What `lxc-console` itself is told ends it, and nothing else.
    let mut terminal = reopened(&stage).await;
    terminal.type_text("\u{1}q").await;
    assert_eq!(terminal.ended(SOON).await, (1000, "The console has ended.".to_owned()));
    stage.nobody_in_a_terminal(SOON).await;
    for name in ["api", "provisioner"] {
        let log = stage.log(name);
        assert!(log.contains("console.closed") && log.contains("\"TRACE\""), "{name}");
        assert!(!log.contains(ROOT), "{name} logs what is typed");
        let bytes = format!("{:?}", ROOT.as_bytes());
        let bytes = bytes.trim_matches(['[', ']']);
        assert!(!log.contains(bytes), "{name} logs the bytes of what is typed");
    }
    stage.end().await;
}

async fn resized(terminal: &mut Terminal, size: &str) {
    let began = std::time::Instant::now();
    while terminal.run("stty size").await != size {
        assert!(began.elapsed() < SOON, "the size does not change");
    }
}

/// The shell goes on when nobody is at it.
async fn reopened(stage: &Stage) -> Terminal {
    let ticket = stage.ticket(0).await;
    let mut terminal = stage.try_open(0, &ticket).await.unwrap();
    terminal.says("READY > ").await;
    terminal
}

#[tokio::test]
async fn a_console_ends_with_its_container() {
    let stage = Stage::open("cstop", 1).await;
    stage.served().await;
    let mut terminal = stage.shell(0).await;
    let vmid = stage.pods[0].vmid.unwrap();
    stage.bed().nodes[0].sh(&format!("pct stop {vmid}"));
    let (code, reason) = terminal.ended(SOON).await;
    assert_eq!(code, 1000, "{reason}");
    wait_for("a refusal", SOON, async || {
        let ticket = stage.ticket(0).await;
        let mut terminal = stage.try_open(0, &ticket).await.unwrap();
        let (code, reason) = terminal.ended(SOON).await;
        assert_eq!(code, 1008, "{reason}");
        reason.contains("does not run").then_some(())
    })
    .await;
    stage.end().await;
}
