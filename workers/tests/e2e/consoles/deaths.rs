//! Processes that die, or are asked to end, while somebody is at a console.

use super::stage::Stage;
use std::time::Duration;

/// By when the one side knows that the other has died.
const NOTICED: Duration = Duration::from_secs(35);

#[tokio::test]
async fn nobody_is_left_in_a_terminal_when_a_process_dies() {
    let mut stage = Stage::open("cdeaths", 1).await;
    stage.served().await;
    let mut terminal = stage.shell(0).await;
    terminal.type_text("exit\r").await;
    terminal.shows("login:").await;
    assert!(stage.in_terminals().contains("lxc-console"));
    stage.take_provisioner().kill();
    // What nobody takes any more is not shown elsewhere, either.
    terminal.type_text("typed-after-the-end").await;
    let (code, reason) = terminal.ended(NOTICED).await;
    let bytes = format!("{:?}", "typed-after".as_bytes());
    assert!(!stage.log("api").contains(bytes.trim_matches(['[', ']'])), "the API logs bytes");
    assert_eq!(code, 1011, "{reason}");
    stage.nobody_in_a_terminal(NOTICED).await;

    stage.start_provisioner();
    stage.served().await;
    let mut terminal = stage.shell(0).await;
    terminal.type_text("exit\r").await;
    terminal.shows("login:").await;
    stage.take_api().kill();
    let (code, _) = terminal.ended(NOTICED).await;
    assert_eq!(code, 0, "nobody closes it");
    stage.nothing_on_the_node(NOTICED).await;
    stage.end().await;
}

#[tokio::test]
async fn whoever_is_at_a_console_is_told_that_a_process_ends() {
    let mut stage = Stage::open("cends", 1).await;
    stage.served().await;
    let mut terminal = stage.shell(0).await;
    terminal.type_text("exit\r").await;
    terminal.shows("login:").await;
    let provisioner = stage.take_provisioner();
    provisioner.signal("TERM");
    let (code, reason) = terminal.ended(NOTICED).await;
    assert!(code == 1011 && reason.contains("worker"), "{code} {reason}");
    provisioner.ended(NOTICED).await;
    stage.nobody_in_a_terminal(NOTICED).await;

    stage.start_provisioner();
    stage.served().await;
    let mut terminal = stage.shell(0).await;
    let api = stage.take_api();
    api.signal("TERM");
    let (code, reason) = terminal.ended(NOTICED).await;
    assert_eq!(code, 1001, "{reason}");
    api.ended(NOTICED).await;
    stage.nobody_in_a_terminal(NOTICED).await;
    stage.end().await;
}
