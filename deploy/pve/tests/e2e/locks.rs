//! The lock in a configuration: there while an operation runs, gone after it, and left by one that is
//! killed.

use crate::node::{Node, wait_for};

/// Runs a command on the node and gives the locks that stood in the configuration meanwhile.
fn locks_during(node: &Node, words: &[&str]) -> Vec<String> {
    let watch = "\"$@\" >/dev/null 2>&1 & work=$!
        while kill -0 $work 2>/dev/null; do sed -n 's/^lock: //p' /etc/pve/nodes/*/lxc/101.conf 2>/dev/null; done | sort -u
        wait $work";
    let mut all = vec!["bash", "-c", watch, "watch"];
    all.extend(words);
    node.ok(&all).lines().map(str::to_owned).collect()
}

#[test]
fn each_operation_holds_its_lock_while_it_runs() {
    let (node, other) =
        (Node::start_in("lock-1", "e2e-lock"), Node::start_in("lock-2", "e2e-lock"));
    let words = node.create_words("101", 50);
    let create: Vec<&str> = words.iter().map(String::as_str).collect();
    let backup = format!("/nodes/{}/vzdump", node.get("NODE"));
    // What is over between two looks is not seen.
    let mut caught = 0;
    for (words, lock) in [
        (&create[..], "create"),
        (&["pct", "snapshot", "101", "one"], "snapshot"),
        (&["pct", "rollback", "101", "one", "--start"], "rollback"),
        (&["pct", "delsnapshot", "101", "one"], "snapshot-delete"),
        (&["pvesh", "create", &backup, "--vmid", "101", "--storage", "local"], "backup"),
        (&["pct", "migrate", "101", other.get("NODE"), "--restart"], "migrate"),
    ] {
        let seen = locks_during(&node, words);
        assert!(seen.iter().all(|one| one == lock), "{words:?}: {seen:?}");
        caught += seen.len();
    }
    assert!(caught >= 2, "no operation was caught with its lock");
    assert!(!other.ok(&["pct", "config", "101"]).contains("lock:"));
    let seen = locks_during(&other, &["pct", "destroy", "101", "--force"]);
    assert!(seen.iter().all(|one| one == "destroyed"), "{seen:?}");
}

#[test]
fn a_killed_operation_leaves_its_lock_and_its_task_says_so() {
    let node = Node::start("killed");
    node.create("101", 50);
    node.answer(&node.address(50), "true");
    let name = node.get("NODE");
    let backup = format!(
        "(pvesh create /nodes/{name}/vzdump --vmid 101 --storage local >/dev/null 2>&1 &) ; exit 0"
    );
    // So slow that it can be caught.
    node.answer(
        &node.address(50),
        "dd if=/dev/urandom of=/root/much bs=1M count=300 status=none; sync",
    );
    node.ok(&["sh", "-c", &backup]);
    wait_for("the backup begins", || node.ok(&["pct", "list"]).contains("backup"));
    let kill =
        "pid=$(ls /var/log/pve/tasks | grep :vzdump: | cut -d: -f3); kill -KILL -- -$((16#$pid))";
    node.ok(&["bash", "-c", kill]);
    assert!(node.ok(&["pct", "list"]).contains("backup"));
    assert_eq!(node.refused(&["pct", "set", "101", "--cores", "2"]), "CT is locked (backup)");
    wait_for("the task is over", || {
        let tasks = node.ask(&format!("/nodes/{name}/tasks"));
        tasks
            .as_array()
            .unwrap()
            .iter()
            .any(|task| task["type"] == "vzdump" && task["status"] == "unexpected status")
    });
    node.ok(&["pct", "unlock", "101"]);
    node.ok(&["pct", "set", "101", "--cores", "2"]);
    assert_eq!(node.answer(&node.address(50), "hostname"), "ct101");
}
