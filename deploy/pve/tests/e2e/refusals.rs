//! What a node says when it does not do what was asked.

use crate::node::Node;

#[test]
fn refusals_have_proxmox_words() {
    let node = Node::start("words");
    let name = node.get("NODE");
    let unknown = format!("Configuration file 'nodes/{name}/lxc/999.conf' does not exist");
    for words in [
        &["pct", "status", "999"][..],
        &["pct", "config", "999"],
        &["pct", "start", "999"],
        &["pct", "destroy", "999"],
        &["pct", "set", "999", "--cores", "2"],
        &["pct", "resize", "999", "rootfs", "9G"],
        &["pct", "snapshot", "999", "x1"],
        &["pct", "unlock", "999"],
        &["pct", "exec", "999", "--", "true"],
        &["pvesh", "get", &format!("/nodes/{name}/lxc/999/status/current")],
    ] {
        assert_eq!(node.refused(words), unknown, "{words:?}");
    }
    node.create("101", 50);
    let again = node.create_words("101", 51);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    assert_eq!(node.refused(&again), format!("CT 101 already exists on node '{name}'"));
    for (words, expected) in [
        (&["pct", "start", "101"][..], "CT 101 already running"),
        (&["pct", "resume", "101"], "CT 101 already running"),
        (&["pct", "destroy", "101"], "unable to destroy CT 101 - container is running"),
        (&["pct", "resize", "101", "rootfs", "1G"], "unable to shrink disk size"),
        (&["pct", "resize", "101", "rootfs", "2G"], "disk is already at specified size"),
        (&["pct", "rollback", "101", "nothing"], "snapshot 'nothing' does not exist"),
        (&["pct", "delsnapshot", "101", "nothing"], "snapshot 'nothing' does not exist"),
        (
            &["pct", "snapshot", "101", "current"],
            "unable to use snapshot name 'current' (reserved name)",
        ),
        (&["pct", "migrate", "101", "pve9", "--restart"], "no such cluster node 'pve9'"),
        (&["pct", "set", "101"], "no options specified"),
        (&["pct", "template", "101"], "you can't convert a CT to template if the CT is running"),
        (&["pvesm", "path", "nfs:x"], "storage 'nfs' does not exist"),
    ] {
        assert_eq!(node.refused(words), expected, "{words:?}");
    }
    held(&node);
    stopped(&node);
}

fn held(node: &Node) {
    node.ok(&["sh", "-c", "sed -i '1i lock: backup' /etc/pve/lxc/101.conf"]);
    for words in [
        &["pct", "stop", "101"][..],
        &["pct", "set", "101", "--cores", "2"],
        &["pct", "snapshot", "101", "x1"],
        &["pct", "resize", "101", "rootfs", "9G"],
    ] {
        assert_eq!(node.refused(words), "CT is locked (backup)", "{words:?}");
    }
    assert!(node.ok(&["pct", "list"]).contains("backup"));
    node.ok(&["pct", "unlock", "101"]);
    node.ok(&["pct", "set", "101", "--protection", "1"]);
}

fn stopped(node: &Node) {
    node.ok(&["pct", "stop", "101"]);
    for (words, expected) in [
        (&["pct", "stop", "101"][..], "CT 101 not running"),
        (&["pct", "shutdown", "101"], "CT 101 not running"),
        (&["pct", "reboot", "101"], "VM 101 not running"),
        (&["pct", "suspend", "101"], "CT 101 not running"),
        (&["pct", "exec", "101", "--", "true"], "container '101' not running!"),
        (&["pct", "destroy", "101"], "can't remove CT 101 - protection mode enabled"),
    ] {
        assert_eq!(node.refused(words), expected, "{words:?}");
    }
    // Whoever holds the lock is waited for, and then no longer.
    node.ok(&["sh", "-c", "flock /run/lock/lxc/pve-config-101.lock sleep 30 >/dev/null 2>&1 &"]);
    let words = node.refused(&["pct", "set", "101", "--cores", "2"]);
    assert_eq!(words, "can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout");
}
