//! Command lines and what is said of wrong ones.

use pve_sandbox::arguments::{Parameters, check, read};
use pve_sandbox::error::Failure;
use pve_sandbox::schema::{Properties, Schema, names};

const CREATE: &str = "POST /nodes/{node}/lxc";

fn properties(key: &str) -> Properties {
    Schema::load().unwrap().properties(key).unwrap().clone()
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn create(line: &str) -> Result<Parameters, Failure> {
    let known = properties(CREATE);
    let mut parameters = read(&words(line), &known, &["vmid", "ostemplate"], false)?.parameters;
    parameters.set("node", "pve1");
    check(&mut parameters, &known)?;
    Ok(parameters)
}

fn complaint(line: &str) -> String {
    create(line).unwrap_err().to_string()
}

#[test]
fn options_come_before_between_and_after_the_words_that_stand_alone() {
    for line in [
        "101 local:vztmpl/x.tar.zst --hostname web --cores 2",
        "--hostname web 101 --cores 2 local:vztmpl/x.tar.zst",
        "--hostname=web -cores 2 101 local:vztmpl/x.tar.zst",
        "-hostname=web -cores=2 -- 101 local:vztmpl/x.tar.zst",
        "--hostn web --COR 2 101 local:vztmpl/x.tar.zst",
    ] {
        let parameters = create(line).unwrap();
        assert_eq!(parameters.get("vmid"), Some("101"), "{line}");
        assert_eq!(parameters.get("ostemplate"), Some("local:vztmpl/x.tar.zst"), "{line}");
        assert_eq!(parameters.get("hostname"), Some("web"), "{line}");
        assert_eq!(parameters.number("cores"), Some(2), "{line}");
    }
}

#[test]
fn truth_values_take_a_word_that_is_no_option() {
    for (line, on) in [
        ("101 t --start --onboot 0", true),
        ("101 t --start 1", true),
        ("101 t --start yes", true),
        ("101 t --start=0", false),
        ("101 t --start off", false),
        ("101 t", false),
    ] {
        assert_eq!(create(line).unwrap().is_set("start"), on, "{line}");
    }
    // The number of the container is taken for the truth value, as Getopt does.
    assert_eq!(complaint("--start 101 t"), "400 not enough arguments");
}

#[test]
fn a_value_may_begin_with_a_hyphen_and_the_last_of_two_counts() {
    let parameters = create("101 t --description --x --hostname a --hostname b").unwrap();
    assert_eq!(parameters.get("description"), Some("--x"));
    assert_eq!(parameters.get("hostname"), Some("b"));
}

#[test]
fn names_with_capitals_are_found_however_they_are_written() {
    let known = properties("POST /nodes/{node}/lxc/{vmid}/status/shutdown");
    for option in ["--forceStop", "--forcestop", "-FORCES"] {
        let line = read(&words(&format!("101 {option} 1")), &known, &["vmid"], false).unwrap();
        assert!(line.parameters.is_set("forceStop"), "{option}");
    }
}

#[test]
fn lists_are_joined() {
    let known = properties("PUT /nodes/{node}/lxc/{vmid}/config");
    let line = read(&words("101 --delete mp0 --delete net1"), &known, &["vmid"], false).unwrap();
    assert_eq!(line.parameters.get("delete"), Some("mp0,net1"));
}

#[test]
fn words_after_two_hyphens_are_for_the_command() {
    let mut known = Properties::new();
    known.insert("vmid".to_owned(), serde_json::json!({"type": "integer"}));
    let line = read(&words("101 -- ls -l /"), &known, &["vmid"], true).unwrap();
    assert_eq!(line.rest, ["ls", "-l", "/"]);
}

#[test]
fn unreadable_lines_are_refused() {
    for (line, words) in [
        ("101 t --foo 1", "Unknown option: foo"),
        ("101 t --hostname", "Option hostname requires an argument"),
        ("101 t --c 1", "Option c is ambiguous (cmode, console, cores, cpulimit, cpuunits)"),
    ] {
        let failure = create(line).unwrap_err();
        assert_eq!(
            (failure.status, failure.text.as_str()),
            (400, "unable to parse option"),
            "{line}"
        );
        assert_eq!(failure.fields.first().unwrap().1, words);
    }
    assert_eq!(complaint("101"), "400 not enough arguments");
    assert_eq!(complaint("101 t more"), "400 too many arguments");
}

#[test]
fn each_wrong_value_is_named_with_its_reason() {
    for (option, words) in [
        ("--cores two", "cores: type check ('integer') failed - got 'two'"),
        ("--cores 0", "cores: value must have a minimum value of 1"),
        ("--memory 15", "memory: value must have a minimum value of 16"),
        ("--cores 8193", "cores: value must have a maximum value of 8192"),
        ("--start maybe", "start: type check ('boolean') failed - got 'maybe'"),
        ("--hostname a_b", "hostname: invalid format - value does not look like a valid DNS name"),
        ("--hostname -a", "hostname: invalid format - value does not look like a valid DNS name"),
        ("--password 1234", "password: value must be at least 5 characters long"),
        (
            "--ostype plan9",
            "ostype: value 'plan9' does not have a value in the enumeration 'debian, devuan, ubuntu, centos, fedora, opensuse, archlinux, alpine, gentoo, nixos, unmanaged'",
        ),
        (
            "--storage l",
            "storage: invalid format - storage ID 'l' cannot be shorter than 2 characters",
        ),
        ("--storage l_", "storage: invalid format - storage ID 'l_' contains illegal characters"),
        (
            "--net0 name=eth0,name=eth1",
            "net0: invalid format - duplicate key in comma-separated list property: name",
        ),
        (
            "--net0 eth0",
            "net0: invalid format - value without key, but schema does not define a default key",
        ),
        ("--net0 name=", "net0: invalid format - missing key in comma-separated list property"),
        (
            "--net0 name=eth0,ip=10.0.0.1",
            "net0: invalid format - format error\nnet0.ip: invalid format - value does not look like a valid ipv4 network configuration",
        ),
        (
            "--net0 bridge=vmbr0",
            "net0: invalid format - format error\nnet0.name: property is missing and it is not optional",
        ),
        (
            "--net0 name=eth0,tag=5000",
            "net0: invalid format - format error\nnet0.tag: value must have a maximum value of 4094",
        ),
        (
            "--net0 name=eth0,hwaddr=01:02:03:04:05:06",
            "net0: invalid format - format error\nnet0.hwaddr: invalid format - value does not look like a valid unicast MAC address",
        ),
        (
            "--net0 name=eth0,ip6=fe80::/999",
            "net0: invalid format - format error\nnet0.ip6: invalid format - value does not look like a valid ipv6 network configuration",
        ),
        (
            "--rootfs local-lvm:8,color=red",
            "rootfs: invalid format - invalid key in comma-separated list property: color",
        ),
        ("--unique 1", "restore: missing property required by 'unique'"),
        ("--tags a,b!", "tags: invalid format - invalid characters in tag"),
    ] {
        let expected = format!("400 Parameter verification failed.\n{words}");
        assert_eq!(complaint(&format!("101 t {option}")).trim_end(), expected, "{option}");
    }
    assert!(
        complaint("99 t").contains("vmid: invalid format - value does not look like a valid VM ID")
    );
    assert!(complaint("1000000000 t").contains("vmid: invalid format"));
}

#[test]
fn several_wrong_values_are_told_at_once_in_order() {
    assert_eq!(
        complaint("101 t --swap -1 --cores x"),
        "400 Parameter verification failed.\ncores: type check ('integer') failed - got 'x'\nswap: value must have a minimum value of 0"
    );
}

#[test]
fn indexed_options_end_where_proxmox_ends_them() {
    let known = names(&properties(CREATE));
    for name in ["net0", "net31", "mp0", "mp255", "dev255", "unused255"] {
        assert!(known.iter().any(|option| option == name), "{name}");
    }
    for name in ["net32", "mp256", "net", "net[n]", "net00"] {
        assert!(!known.iter().any(|option| option == name), "{name}");
    }
}

#[test]
fn addresses_lead_to_calls() {
    let schema = Schema::load().unwrap();
    let call = schema.find("GET", "/nodes/pve1/lxc/101/config").unwrap();
    assert_eq!(call.key, "GET /nodes/{node}/lxc/{vmid}/config");
    assert_eq!(
        call.places,
        [("node".to_owned(), "pve1".to_owned()), ("vmid".to_owned(), "101".to_owned())]
    );
    let volume = schema
        .find("DELETE", "nodes/pve1/storage/local/content/backup/vzdump-lxc-1.tar.zst")
        .unwrap();
    assert_eq!(volume.places.last().unwrap().1, "backup/vzdump-lxc-1.tar.zst");
    assert!(schema.find("PUT", "/version").is_none());
    assert!(schema.find("GET", "/nodes/pve1/nothing").is_none());
}
