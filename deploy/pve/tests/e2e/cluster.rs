//! Two nodes that share their configuration.

use crate::node::{Node, text, wait_for};

#[test]
fn a_container_moves_to_the_other_node_and_keeps_its_files() {
    let (one, two) = (Node::start_in("move-1", "e2e-move"), Node::start_in("move-2", "e2e-move"));
    one.create("101", 50);
    let address = one.address(50);
    one.answer(&address, "echo mine >/root/state; sync");
    let other = two.get("NODE");
    let why = one.refused(&["pct", "migrate", "101", other]);
    assert_eq!(why, "can't migrate running container without --online or --restart");
    assert_eq!(
        one.refused(&["pct", "migrate", "101", "pve9", "--restart"]),
        "no such cluster node 'pve9'"
    );
    one.ok(&["pct", "snapshot", "101", "before"]);
    let output = one.run(&["pct", "migrate", "101", other, "--restart"]);
    assert_eq!(text(&output.stderr), "migration aborted\n");
    let told = text(&output.stdout);
    assert!(told.contains("non-migratable snapshot exists"), "{told}");
    assert_eq!(one.ok(&["pct", "status", "101"]), "status: running\n");
    one.ok(&["pct", "delsnapshot", "101", "before"]);
    one.ok(&["pct", "migrate", "101", other, "--restart"]);
    assert_eq!(one.ok(&["pct", "list"]), "");
    assert_eq!(
        one.refused(&["pct", "status", "101"]),
        format!("Configuration file 'nodes/{}/lxc/101.conf' does not exist", one.get("NODE"))
    );
    assert_eq!(one.answer(&address, "cat /root/state"), "mine");
    // The number is taken in the whole cluster.
    let words = one.create_words("101", 60);
    let why = one.refused(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(why, format!("CT 101 already exists on node '{other}'"));
    seen_from_both(&one, &two);
}

fn seen_from_both(one: &Node, two: &Node) {
    for node in [one, two] {
        let guests = node.ask("/cluster/resources");
        let row = guests.as_array().unwrap().iter().find(|row| row["id"] == "lxc/101").unwrap();
        assert_eq!((&row["status"], &row["node"]), (&"running".into(), &two.get("NODE").into()));
        let nodes = node.ask("/nodes");
        assert!(
            nodes.as_array().unwrap().iter().all(|row| row["maxmem"] == 16u64 << 30),
            "{nodes}"
        );
        let status = node.ask("/cluster/status");
        assert_eq!(status[0]["nodes"], 2);
        // Whichever node is asked, the one that has the answer gives it.
        let row = node.ask(&format!("/nodes/{}/lxc/101/status/current", two.get("NODE")));
        assert_eq!(row["status"], "running");
    }
    wait_for("the counters move", || two.current("101", "netin").as_u64().unwrap() > 0);
}

#[test]
fn a_foreign_machine_s_number_is_respected() {
    let node = Node::start("foreign");
    node.ok(&[
        "sh",
        "-c",
        "printf 'name: theirs\\nmemory: 2048\\n' >/etc/pve/local/qemu-server/100.conf",
    ]);
    let words = node.create_words("100", 50);
    let why = node.refused(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(why, format!("VM 100 already exists on node '{}'", node.get("NODE")));
    assert_eq!(node.ask("/cluster/nextid"), "101");
    let rows = node.ask("/cluster/resources");
    assert!(
        rows.as_array()
            .unwrap()
            .iter()
            .any(|row| row["id"] == "qemu/100" && row["name"] == "theirs")
    );
}
