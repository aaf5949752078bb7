//! What is left of nodes that end: nothing, however they end.

use std::fs;

use pve_sandbox::program::command;

use crate::node::{Node, script, text, wait_for};

/// Everything on this machine that has to do with a node: its mounts, loops, groups, links, processes.
fn traces(node: &Node) -> String {
    let look = format!(
        "mount | grep -F '/{0}/' ; losetup -a | grep -F '/{0}/' ; find /sys/fs/cgroup -maxdepth 2 -name '{1}' ; ip -o link | grep -F '{1}' ; pgrep -af '[p]ve-node.*/{0} ' ; true",
        node.name,
        machine(&node.name),
    );
    let output = command("sh").args(["-c", &look]).output().unwrap();
    text(&output.stdout)
}

/// The name of a node's link and groups, as the script makes it.
fn machine(name: &str) -> String {
    let checkout =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let sum = format!("printf '%s %s' '{}' '{name}' | sha256sum | cut -c1-8", checkout.display());
    let output = command("sh").args(["-c", &sum]).output().unwrap();
    format!("mv{}", text(&output.stdout).trim())
}

fn first_process(node: &Node) -> String {
    let text = fs::read_to_string(node.folder().join("init")).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

#[test]
fn nothing_is_left_of_a_node_that_was_stopped_or_killed() {
    let mut node = Node::start("left");
    node.create("101", 50);
    assert_ne!(traces(&node), "", "a node that runs is seen");
    for process in ["init", "pid"] {
        let known = fs::read_to_string(node.folder().join(process)).unwrap();
        let output =
            command("kill").args(["-KILL", known.split(' ').next().unwrap()]).output().unwrap();
        assert!(output.status.success());
        let end = format!("/proc/{}", first_process(&node));
        wait_for("the node ends", || !std::path::Path::new(&end).exists());
        // The kernel takes the rest down behind it.
        wait_for("mounts and loops go", || {
            !traces(&node).contains("/dev/loop") && !traces(&node).contains(" type ")
        });
        assert!(script(&["start", &node.name]).status.success());
        node.read_env();
        assert_eq!(node.ok(&["pct", "status", "101"]), "status: stopped\n");
        node.ok(&["pct", "start", "101"]);
        assert_eq!(node.answer(&node.address(50), "hostname"), "ct101");
    }
    assert!(script(&["stop", &node.name]).status.success());
    assert_eq!(traces(&node), "");
    assert!(!node.folder().exists());
}

#[test]
fn a_kept_node_is_the_same_when_it_starts_again() {
    let mut node = Node::start("kept");
    node.create("101", 50);
    node.ok(&["pct", "set", "101", "--onboot", "1"]);
    node.answer(&node.address(50), "echo kept >/root/state; sync");
    let before = (node.get("HOST").to_owned(), node.get("HOST_KEY_FINGERPRINT").to_owned());
    assert!(script(&["stop", "--keep", &node.name]).status.success());
    assert_eq!(traces(&node), "");
    let gateway = format!(" {}/", node.get("GATEWAY4"));
    let links = text(&command("ip").args(["-4", "-o", "addr"]).output().unwrap().stdout);
    assert!(!links.contains(&gateway), "{links}");
    assert!(script(&["start", &node.name]).status.success());
    node.read_env();
    assert_eq!(before, (node.get("HOST").to_owned(), node.get("HOST_KEY_FINGERPRINT").to_owned()));
    assert_eq!(node.answer(&node.address(50), "cat /root/state"), "kept");
}
