//! A container from its creation to its end.

use crate::node::{Node, text, wait_for};

#[test]
fn a_container_lives_and_leaves_nothing() {
    let node = Node::start("life");
    node.create("101", 50);
    let (four, six) = (node.address(50), node.address6(50));
    assert_eq!(node.answer(&four, "hostname"), "ct101");
    assert_eq!(node.answer(&six, "hostname"), "ct101");
    assert_eq!(node.ok(&["pct", "status", "101"]), "status: running\n");
    assert!(node.ok(&["pct", "config", "101"]).contains("\ndescription: made by a test%0A\n"));
    frozen(&node, &four);
    resized(&node, &four);
    back_in_time(&node, &four);
    restored(&node, &four);
    filtered(&node, &four, &six);
    node.ok(&["pct", "stop", "101"]);
    node.ok(&["pct", "destroy", "101", "--purge", "--destroy-unreferenced-disks"]);
    node.ok(&["pct", "destroy", "102", "--force"]);
    assert_eq!(node.ok(&["pct", "list"]), "");
    assert_eq!(
        node.ok(&["ls", "/var/lib/pve-sandbox/local-lvm", "/etc/pve/lxc"]).matches("10").count(),
        0
    );
    assert_eq!(node.ok(&["sh", "-c", "mount | grep -c /var/lib/lxc/ || true"]), "0\n");
}

fn frozen(node: &Node, four: &str) {
    node.ok(&["pct", "suspend", "101"]);
    assert!(!node.in_container(four, "true").status.success());
    node.ok(&["pct", "resume", "101"]);
    assert_eq!(node.answer(four, "echo awake"), "awake");
}

fn resized(node: &Node, four: &str) {
    node.ok(&["pct", "resize", "101", "rootfs", "+1G"]);
    assert_eq!(node.answer(four, "df -B1G --output=size / | tail -n 1 | tr -d ' '"), "3");
    assert!(node.ok(&["pct", "config", "101"]).contains("size=3G"));
    assert_eq!(node.current("101", "maxdisk"), 3u64 << 30);
    node.ok(&["pct", "set", "101", "--memory", "384", "--cores", "2"]);
    assert_eq!(node.current("101", "maxmem"), 384u64 << 20);
    let look = "lxc-cgroup -n 101 memory.limit_in_bytes || lxc-cgroup -n 101 memory.max";
    let limit = node.ok(&["sh", "-c", look]);
    assert_eq!(limit.trim(), (384u64 << 20).to_string());
}

fn back_in_time(node: &Node, four: &str) {
    node.answer(four, "echo before >/root/state");
    node.ok(&["pct", "snapshot", "101", "first", "--description", "one"]);
    node.answer(four, "echo after >/root/state");
    assert!(node.ok(&["pct", "listsnapshot", "101"]).contains("first"));
    node.ok(&["pct", "rollback", "101", "first", "--start"]);
    assert_eq!(node.answer(four, "cat /root/state"), "before");
    node.ok(&["pct", "delsnapshot", "101", "first"]);
    assert!(!node.ok(&["pct", "listsnapshot", "101"]).contains("first"));
}

fn restored(node: &Node, four: &str) {
    let name = node.get("NODE");
    node.answer(four, "echo kept >/root/state; rm /usr/bin/curl; sync");
    let told = node.ok(&[
        "pvesh",
        "create",
        &format!("/nodes/{name}/vzdump"),
        "--vmid",
        "101",
        "--storage",
        "local",
        "--output-format",
        "json",
    ]);
    let upid: String = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    let task = node.ask(&format!("/nodes/{name}/tasks/{upid}/status"));
    assert_eq!(
        (task["status"].as_str(), task["exitstatus"].as_str()),
        (Some("stopped"), Some("OK"))
    );
    let backups = node.ask(
        &format!("/nodes/{name}/storage/local/content?content=backup")
            .replace("?content=backup", ""),
    );
    let volume = backups.as_array().unwrap().iter().find(|row| row["content"] == "backup").unwrap()
        ["volid"]
        .as_str()
        .unwrap();
    let card =
        format!("name=eth0,bridge=vmbr0,ip={}/24,gw={}", node.address(51), node.get("GATEWAY4"));
    node.ok(&[
        "pct",
        "restore",
        "102",
        volume,
        "--storage",
        "local-lvm",
        "--unique",
        "--net0",
        &card,
    ]);
    node.ok(&["pct", "start", "102"]);
    assert_eq!(
        node.answer(
            &node.address(51),
            "cat /root/state; ls /usr/bin/curl 2>/dev/null || echo gone"
        ),
        "kept\ngone"
    );
    assert!(node.ok(&["pct", "config", "102"]).contains("size=3G"));
}

fn filtered(node: &Node, four: &str, six: &str) {
    let options = format!("/nodes/{}/lxc/101/firewall/options", node.get("NODE"));
    let gateway = node.get("GATEWAY4");
    let spoof = format!(
        "ip addr replace {0}/24 dev eth0; ping -qc1 -W1 -I {0} {gateway}",
        node.address(77)
    );
    assert!(
        node.in_container(four, &spoof).status.success(),
        "without a filter anything may be sent"
    );
    node.ok(&[
        "pvesh",
        "set",
        &options,
        "--enable",
        "1",
        "--ipfilter",
        "1",
        "--macfilter",
        "1",
        "--policy_in",
        "ACCEPT",
    ]);
    let output = node.in_container(four, &spoof);
    assert!(!output.status.success(), "{}", text(&output.stdout));
    assert!(
        node.in_container(
            four,
            &format!("ping -qc1 -W1 {gateway} && ping -qc1 -W1 {}", node.get("GATEWAY6"))
        )
        .status
        .success()
    );
    assert_eq!(node.answer(six, "echo six"), "six");
    // Without rules Proxmox lets nothing in.
    node.ok(&["pvesh", "set", &options, "--policy_in", "DROP"]);
    assert!(!node.in_container(four, "true").status.success());
    let rules = format!("/nodes/{}/lxc/101/firewall/rules", node.get("NODE"));
    node.ok(&[
        "pvesh", "create", &rules, "--type", "in", "--action", "ACCEPT", "--proto", "tcp",
        "--dport", "22", "--enable", "1",
    ]);
    assert_eq!(node.answer(four, "echo in"), "in");
    wait_for("the filter is there after a new start", || {
        node.ok(&["pct", "reboot", "101"]);
        node.answer(four, "true");
        !node.in_container(four, &spoof).status.success()
    });
}

#[test]
fn terminals_and_files_reach_into_a_container() {
    let node = Node::start("inside");
    node.create("101", 50);
    assert_eq!(node.ok(&["pct", "exec", "101", "--", "sh", "-c", "echo $((6 * 7))"]), "42\n");
    assert_eq!(
        node.run(&["pct", "exec", "101", "--", "sh", "-c", "exit 7"]).status.code(),
        Some(7)
    );
    node.ok(&["sh", "-c", "echo secret >/root/file"]);
    node.ok(&["pct", "push", "101", "/root/file", "/root/there", "--perms", "0600"]);
    assert_eq!(
        node.ok(&["pct", "exec", "101", "--", "stat", "-c", "%a %u", "/root/there"]),
        "600 0\n"
    );
    node.ok(&["pct", "pull", "101", "/root/there", "/root/again"]);
    assert_eq!(node.ok(&["cat", "/root/again"]), "secret\n");
    let shown = node.ok(&["sh", "-c", "(sleep 1; echo; sleep 1; printf '\\001q') | timeout 20 script -qec 'pct console 101' /dev/null; true"]);
    assert!(shown.contains("login:"), "{shown}");
    assert!(node.ok(&["pct", "df", "101"]).contains("local-lvm:vm-101-disk-0"));
    node.ok(&["pct", "stop", "101"]);
    assert!(
        node.ok(&["pct", "mount", "101"]).contains("mounted CT 101 in '/var/lib/lxc/101/rootfs'")
    );
    assert_eq!(node.refused(&["pct", "start", "101"]), "CT is locked (mounted)");
    node.ok(&["pct", "unmount", "101"]);
    node.ok(&["pct", "clone", "101", "150", "--hostname", "copy"]);
    node.ok(&["pct", "start", "150"]);
    assert_eq!(node.answer(&node.address(50), "hostname"), "copy");
    node.ok(&["pct", "shutdown", "150"]);
    assert_eq!(node.ok(&["pct", "status", "150"]), "status: stopped\n");
}

#[test]
fn a_backup_is_restored_over_its_container_or_nothing_is_lost() {
    let node = Node::start("again");
    node.create("101", 50);
    let four = node.address(50);
    node.answer(&four, "echo one >/root/state; sync");
    let path = format!("/nodes/{}/vzdump", node.get("NODE"));
    for _ in 0..2 {
        node.ok(&[
            "pvesh",
            "create",
            &path,
            "--vmid",
            "101",
            "--storage",
            "local",
            "--prune-backups",
            "keep-last=1",
        ]);
        // Their names have the second in them.
        node.ok(&["sleep", "1"]);
    }
    let content = format!("/nodes/{}/storage/local/content", node.get("NODE"));
    let rows = node.ask(&content);
    let backups: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["content"] == "backup")
        .filter_map(|row| row["volid"].as_str())
        .collect();
    let [volume] = backups.as_slice() else { panic!("{backups:?}") };
    node.answer(&four, "echo two >/root/state; sync");
    let restore = ["pct", "restore", "101", volume, "--storage", "local-lvm"];
    let forced: Vec<&str> = restore.iter().copied().chain(["--force"]).collect();
    assert_eq!(
        node.refused(&restore),
        format!("CT 101 already exists on node '{}'", node.get("NODE"))
    );
    assert_eq!(
        node.refused(&forced),
        "unable to restore CT 101 - can't overwrite running container"
    );
    node.ok(&["pct", "stop", "101"]);
    let damaged = "local:backup/vzdump-lxc-101-2020_01_01-00_00_00.tar.zst";
    node.ok(&[
        "sh",
        "-c",
        "echo broken >/var/lib/vz/dump/vzdump-lxc-101-2020_01_01-00_00_00.tar.zst",
    ]);
    node.refused(&["pct", "restore", "101", damaged, "--storage", "local-lvm", "--force"]);
    node.ok(&["pct", "start", "101"]);
    assert_eq!(node.answer(&four, "cat /root/state"), "two");
    node.ok(&["pct", "stop", "101"]);
    node.ok(&forced);
    node.ok(&["pct", "start", "101"]);
    assert_eq!(node.answer(&four, "cat /root/state"), "one");
    assert_eq!(node.ok(&["pvesm", "list", "local-lvm"]).matches("vm-101").count(), 1);
    node.ok(&["pvesh", "delete", &format!("{content}/{volume}")]);
    assert!(
        node.refused(&["pvesh", "get", &format!("{content}/{volume}")]).contains("does not exist")
    );
}
