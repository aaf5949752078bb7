//! Calls that hang, answer late, lose their connection or fail, as a test asks for.

use std::thread;
use std::time::Instant;

use crate::node::{Node, text, wait_for};

fn create(node: &Node, vmid: &str) -> std::process::Output {
    let words = node.create_words(vmid, 50);
    node.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn words_of(output: &std::process::Output) -> String {
    assert_eq!(output.status.code(), Some(255));
    text(&output.stderr).trim_end().to_owned()
}

fn is_there(node: &Node, vmid: &str) -> bool {
    node.run(&["pct", "status", vmid]).status.success()
}

#[test]
fn each_disturbance_does_what_its_name_says() {
    let node = Node::start("faults");
    node.fault(&["pct create", "fail", "1", "0", "unable to create CT 101 - no luck"]);
    assert_eq!(words_of(&create(&node, "101")), "unable to create CT 101 - no luck");
    node.fault(&["pct create 101", "full"]);
    assert!(
        words_of(&create(&node, "101"))
            .contains("unable to create CT 101 - lvcreate 'pve/vm-101-disk-0' error:")
    );
    node.fault(&["pct create", "lost_before"]);
    assert!(words_of(&create(&node, "101")).contains("closed by remote host"));
    assert!(!is_there(&node, "101"));

    node.fault(&["pct create", "lost"]);
    assert!(words_of(&create(&node, "101")).contains("closed by remote host"));
    wait_for("the container is made all the same", || {
        is_there(&node, "101") && node.ok(&["pct", "status", "101"]) == "status: running\n"
    });
    node.fault(&["pct stop", "fail_after"]);
    let words = node.refused(&["pct", "stop", "101"]);
    assert_eq!(words, "can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout");
    assert_eq!(node.ok(&["pct", "status", "101"]), "status: stopped\n");

    node.fault(&["pct start", "late", "1", "2"]);
    let began = Instant::now();
    node.ok(&["pct", "start", "101"]);
    assert!(began.elapsed().as_secs() >= 2);
    node.fault(&["pct stop", "slow", "1", "2"]);
    let began = Instant::now();
    node.ok(&["pct", "stop", "101"]);
    assert!(began.elapsed().as_secs() >= 2);
}

#[test]
fn a_call_that_hangs_ends_with_its_connection_and_has_no_effect() {
    let node = Node::start("hang");
    node.fault(&["pct create", "hang"]);
    let words: Vec<String> = node.create_words("101", 50);
    let line =
        words.iter().map(|word| pve_sandbox::remote::quoted(word)).collect::<Vec<_>>().join(" ");
    let ssh = format!("timeout 2 {} {}", node.get("ADMIN_SSH"), pve_sandbox::remote::quoted(&line));
    let output = pve_sandbox::program::command("sh").args(["-c", &ssh]).output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    assert!(!is_there(&node, "101"));
    wait_for("nothing hangs on", || node.ok(&["sh", "-c", "pgrep -x pct || true"]).is_empty());
}

#[test]
fn a_disturbance_is_met_as_often_as_it_says() {
    let node = Node::start("count");
    node.fault(&["pvesh get /version", "fail", "7", "0", "not now"]);
    let refused: usize = thread::scope(|scope| {
        let calls: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    usize::from(!node.run(&["pvesh", "get", "/version"]).status.success())
                })
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).sum()
    });
    assert_eq!(refused, 7);
}

#[test]
fn the_work_goes_on_when_the_connection_is_cut() {
    let node = Node::start("cut");
    let words = node.create_words("101", 50);
    let line =
        words.iter().map(|word| pve_sandbox::remote::quoted(word)).collect::<Vec<_>>().join(" ");
    // Ends when the first line has come: the volume is made, the rest is not.
    let ssh =
        format!("{} {} | head -n 1", node.get("ADMIN_SSH"), pve_sandbox::remote::quoted(&line));
    let output = pve_sandbox::program::command("sh").args(["-c", &ssh]).output().unwrap();
    assert!(text(&output.stdout).contains("vm-101-disk-0"));
    assert_eq!(node.answer(&node.address(50), "hostname"), "ct101");
    wait_for("the task ends well", || {
        let tasks = node.ask(&format!("/nodes/{}/tasks", node.get("NODE")));
        tasks
            .as_array()
            .unwrap()
            .iter()
            .any(|task| task["type"] == "vzcreate" && task["status"] == "OK")
    });
    assert!(!node.ok(&["pct", "config", "101"]).contains("lock:"));
}
