//! Files that are written are read again as they were.

use std::collections::BTreeMap;

use proptest::prelude::*;
use pve_sandbox::config::{Config, decode_text, encode_text};
use pve_sandbox::firewall::{Firewall, link_local};
use pve_sandbox::property;
use pve_sandbox::task::Task;

const FILE: &str = "#job%3A 7
#zweite Zeile %C3%A4
arch: amd64
cores: 2
hostname: web1
lock: snapshot
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=10.0.0.5/24,type=veth
rootfs: local-lvm:vm-101-disk-0,size=8G
lxc.cap.drop: sys_admin
lxc.cap.drop: sys_boot

[pve:pending]
features: nesting=1

[before]
#as it was
arch: amd64
rootfs: local-lvm:vm-101-disk-0,size=8G
snaptime: 1700000000
";

#[test]
fn a_configuration_is_read_and_written_as_proxmox_does() {
    let config = Config::parse(FILE);
    assert_eq!(config.get("description"), Some("job: 7\nzweite Zeile ä\n"));
    assert_eq!(config.raw.len(), 2);
    assert_eq!(config.pending.get("features").map(String::as_str), Some("nesting=1"));
    assert_eq!(config.snapshots["before"]["description"], "as it was\n");
    assert_eq!(config.check_lock().unwrap_err().to_string(), "CT is locked (snapshot)");
    assert_eq!(config.print(), FILE);
}

proptest! {
    #[test]
    fn any_description_survives(text in "\\PC{0,80}(\n\\PC{0,20}){0,3}") {
        let mut config = Config::default();
        config.set("description", text.clone());
        let again = Config::parse(&config.print());
        // Escapes that somebody wrote himself are read as such, as Proxmox reads them.
        let plain = text.trim_end_matches('\n').split('\n').map(decode_text).collect::<Vec<_>>().join("\n");
        prop_assert_eq!(again.get("description").unwrap_or_default().trim_end_matches('\n'), plain.trim_end_matches('\n'));
    }

    #[test]
    fn what_is_encoded_is_one_line_of_ascii(text in any::<String>()) {
        let encoded = encode_text(&text);
        prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b':'));
        prop_assert!(text.contains('%') || decode_text(&encoded) == text);
    }

    #[test]
    fn no_text_breaks_a_parser(text in any::<String>()) {
        let config = Config::parse(&text);
        prop_assert_eq!(Config::parse(&config.print()).print(), config.print());
        Firewall::parse(&text);
        Task::parse(&text);
        property::parse(&text, "volume");
    }
}

#[test]
fn a_firewall_is_read_and_written_as_proxmox_does() {
    let text = "[OPTIONS]

enable: 1
ipfilter: 1

[IPSET ipfilter-net0] # what it may send from

10.0.0.5
!fd00::/64 # not these

[RULES]

IN ACCEPT -source 10.0.0.0/24 -p tcp -dport 22 # ours
|IN SSH(ACCEPT)
OUT DROP -p udp

";
    let firewall = Firewall::parse(text);
    assert!(firewall.is_on("ipfilter", false) && firewall.is_on("macfilter", true));
    assert_eq!(firewall.sets["ipfilter-net0"].1.len(), 2);
    assert_eq!(firewall.rules[0]["dport"], "22");
    assert_eq!(firewall.rules[1]["macro"], "SSH");
    assert_eq!(firewall.rules[1]["enable"], "0");
    assert_eq!(firewall.print(), text);
}

#[test]
fn a_card_s_own_address_follows_from_its_hardware() {
    assert_eq!(link_local("BC:24:11:6C:AF:DE").as_deref(), Some("fe80::be24:11ff:fe6c:afde"));
    assert_eq!(link_local("nonsense"), None);
}

#[test]
fn a_task_is_known_by_its_identity() {
    let task = Task::parse("UPID:pve1:0003E2B4:01A2B3C4:65F1E2D3:vzcreate:101:root@pam:").unwrap();
    assert_eq!((task.pid, task.kind.as_str(), task.id.as_str()), (0x3E2B4, "vzcreate", "101"));
    for wrong in ["", "UPID:pve1", "UPID:pve1:x:y:z:vzcreate:101:root@pam:", "UPID:a:1:1:1:b:c:d:e"]
    {
        assert!(Task::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn property_strings_keep_their_first_word_bare() {
    let parts = property::parse("local-lvm:vm-101-disk-0,size=8G,acl=1", "volume");
    assert_eq!(property::get(&parts, "volume"), Some("local-lvm:vm-101-disk-0"));
    assert_eq!(property::print(&parts, "volume"), "local-lvm:vm-101-disk-0,acl=1,size=8G");
    let known: BTreeMap<_, _> = parts.into_iter().collect();
    assert_eq!(known["size"], "8G");
}
