//! Sizes, volumes and limits.

use pve_sandbox::config::Config;
use pve_sandbox::groups::{Version, cpu_quota, limits};
use pve_sandbox::lxc::networks;
use pve_sandbox::node::Node;
use pve_sandbox::settings::{apply_pending, as_value};
use pve_sandbox::storage;

fn node() -> Node {
    Node { name: "pve1".to_owned(), cluster: None, cores: 8, memory: 16 << 30, disk: 200 << 30 }
}

#[test]
fn sizes_are_read_and_written_in_the_largest_unit_that_fits() {
    for (text, bytes) in [
        ("8G", 8 << 30),
        ("512M", 512 << 20),
        ("1.5G", 3 << 29),
        ("0.5G", 1 << 29),
        ("100", 100),
        ("2T", 2 << 40),
    ] {
        assert_eq!(storage::parse_size(text), Some(bytes), "{text}");
    }
    for text in ["", "G", "-1G", "1X", "1GG", "1.G2", "99999999999999999999G"] {
        assert_eq!(storage::parse_size(text), None, "{text}");
    }
    assert_eq!(storage::print_size(10 << 30), "10G");
    assert_eq!(storage::print_size(1536 << 20), "1536M");
    assert_eq!(storage::print_size(2 << 40), "2T");
    assert_eq!(storage::print_size(1000), "1000");
}

#[test]
fn a_wanted_size_is_in_gib_unless_it_has_a_unit() {
    for (text, bytes) in [
        ("8", 8 << 30),
        ("0.5", 1 << 29),
        ("0.1", 104_857 << 10),
        ("8G", 8 << 30),
        ("104857K", 104_857 << 10),
    ] {
        assert_eq!(storage::wanted_size(text), Some(bytes), "{text}");
    }
    assert_eq!(storage::wanted_size("vm-101-disk-0"), None);
}

#[test]
fn volumes_lead_to_files_and_nowhere_else() {
    let path = |volume: &str| storage::path(volume).map(|path| path.display().to_string());
    assert_eq!(path("local:vztmpl/x.tar.zst").unwrap(), "/var/lib/vz/template/cache/x.tar.zst");
    assert_eq!(path("local:backup/x.tar.zst").unwrap(), "/var/lib/vz/dump/x.tar.zst");
    assert!(path("local-lvm:vm-101-disk-0").unwrap().ends_with("/vm-101-disk-0"));
    for volume in [
        "local:../x",
        "local:vztmpl/../../etc/passwd",
        "local-lvm:../x",
        "local-lvm:",
        "x",
        "local:vztmpl//x",
    ] {
        assert!(storage::path(volume).is_err(), "{volume}");
    }
    assert_eq!(path("nfs:x").unwrap_err().to_string(), "storage 'nfs' does not exist");
    let refused = storage::for_containers("local").unwrap_err().to_string();
    assert!(
        refused.contains("storage: storage 'local' does not support container directories"),
        "{refused}"
    );
}

#[test]
fn cores_are_a_share_of_time() {
    let mut config = Config::default();
    assert_eq!(cpu_quota(&node(), &config), None);
    config.set("cores", "2");
    assert_eq!(cpu_quota(&node(), &config), Some(200_000));
    config.set("cores", "8");
    assert_eq!(cpu_quota(&node(), &config), None);
    config.set("cpulimit", "0.5");
    assert_eq!(cpu_quota(&node(), &config), Some(50_000));
    config.set("memory", "256");
    let one = limits(Version::One, &node(), &config);
    assert!(one.contains(&("memory.limit_in_bytes", "268435456".to_owned())), "{one:?}");
    assert!(one.contains(&("cpu.cfs_quota_us", "50000".to_owned())), "{one:?}");
    let two = limits(Version::Two, &node(), &config);
    assert!(two.contains(&("memory.max", "268435456".to_owned())), "{two:?}");
    assert!(two.contains(&("cpu.max", "50000 100000".to_owned())), "{two:?}");
}

#[test]
fn the_api_shows_numbers_as_numbers() {
    let config = Config::parse("cores: 2\nhostname: 123\nmemory: 512\nonboot: 1\n");
    let shown = as_value(&config);
    assert_eq!(shown["cores"], 2);
    assert_eq!(shown["hostname"], "123");
    assert_eq!(shown["onboot"], 1);
    assert_eq!(shown["digest"].as_str().unwrap().len(), 40);
}

#[test]
fn what_waited_is_taken_up() {
    let mut config = Config::parse(
        "nameserver: 1.1.1.1\nsearchdomain: a\n\n[pve:pending]\ndelete: searchdomain\nnameserver: 9.9.9.9\n",
    );
    apply_pending(&mut config);
    assert_eq!(config.print(), "nameserver: 9.9.9.9\n");
}

#[test]
fn cards_are_numbered() {
    let config = Config::parse("net1: name=eth1\nnet0: name=eth0\nnetwork: x\n");
    assert_eq!(networks(&config).iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1]);
}
