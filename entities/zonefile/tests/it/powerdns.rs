//! The canonical form is PowerDNS' own, asked of a real one.

use crate::corpus::corpus;
use crate::zones::{any_zone, set, zone};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use values::DomainName;
use zonefile::{RecordSet, check_zone, read};

/// A server of its own, gone with the test.
struct Server {
    process: Child,
    api: u16,
    _data: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Server {
    fn start() -> Self {
        // Another process may take a free port before the server does.
        (0..5).find_map(|_| Self::try_start()).expect("PowerDNS starts")
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own server")]
    fn try_start() -> Option<Self> {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().display();
        let schema =
            std::fs::File::open("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql");
        let database = data.path().join("zones.sqlite3");
        let made = Command::new("sqlite3").arg(&database).stdin(schema.unwrap()).status().unwrap();
        assert!(made.success());
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [dns, api] = free.map(|listener| listener.local_addr().unwrap().port());
        let config = format!(
            "launch=gsqlite3\ngsqlite3-database={path}/zones.sqlite3\ngsqlite3-dnssec=yes\n\
             gsqlite3-pragma-synchronous=0\nlocal-address=127.0.0.1\nlocal-port={dns}\napi=yes\n\
             api-key=key\nwebserver=yes\nwebserver-address=127.0.0.1\nwebserver-port={api}\n\
             webserver-allow-from=127.0.0.1\nwebserver-max-bodysize=64\nsocket-dir={path}\n\
             security-poll-suffix=\nwrite-pid=no\ndisable-syslog=yes\n"
        );
        std::fs::write(data.path().join("pdns.conf"), config).unwrap();
        let process = Command::new("/usr/sbin/pdns_server")
            .arg(format!("--config-dir={path}"))
            .args(["--daemon=no", "--guardian=no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { process, api, _data: data };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", api)).is_err() {
            if server.process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(since.elapsed() < Duration::from_secs(30), "PowerDNS does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.api)).unwrap();
        write!(
            stream,
            "{method} /api/v1/servers/localhost/zones{path} HTTP/1.0\r\nX-API-Key: key\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Makes the zone with these sets; what the server gives back for them.
    fn serve(&self, zone: &DomainName, sets: &[RecordSet]) -> Vec<RecordSet> {
        let apex = format!("{zone}.");
        self.call("DELETE", &format!("/{apex}"), &Value::Null);
        let rrsets: Vec<Value> = sets
            .iter()
            .map(|set| {
                let records: Vec<Value> = set
                    .records
                    .iter()
                    .map(|record| json!({"content": record, "disabled": false}))
                    .collect();
                json!({"name": set.name, "type": set.rtype, "ttl": set.ttl,
                       "changetype": "REPLACE", "records": records})
            })
            .collect();
        let new = json!({"name": apex, "kind": "Native", "nameservers": []});
        let (status, answer) = self.call("POST", "", &new);
        assert_eq!(status, 201, "{answer}");
        let (status, answer) =
            self.call("PATCH", &format!("/{apex}"), &json!({ "rrsets": rrsets }));
        assert_eq!(status, 204, "{answer}");
        let (status, answer) = self.call("GET", &format!("/{apex}"), &Value::Null);
        assert_eq!(status, 200);
        let mut served: BTreeMap<(String, String), RecordSet> = BTreeMap::new();
        for set in answer["rrsets"].as_array().unwrap() {
            let text = |key: &str| set[key].as_str().unwrap().to_owned();
            let records = set["records"].as_array().unwrap().iter();
            let records = records.map(|r| r["content"].as_str().unwrap().to_owned()).collect();
            let ttl = u32::try_from(set["ttl"].as_u64().unwrap()).unwrap();
            let set = RecordSet { name: text("name"), rtype: text("type"), ttl, records };
            served.insert((set.name.clone(), set.rtype.clone()), set);
        }
        served.into_values().filter(|set| set.rtype != "SOA").collect()
    }
}

#[test]
fn what_is_written_comes_back_byte_for_byte() {
    let server = Server::start();
    let mut runner =
        TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    runner
        .run(&any_zone(), |mut sets| {
            sets.sort();
            let mut served = server.serve(&zone(), &sets);
            served.sort();
            prop_assert_eq!(served, sets);
            Ok(())
        })
        .unwrap();
}

/// Records where the forms of name servers differ.
const CORNERS: &[(&str, &[&str])] = &[
    ("A", &["0.0.0.0", "255.255.255.255"]),
    (
        "AAAA",
        &[
            "::",
            "::1",
            "::FFFF",
            "2001:db8:0:1:1:1:1:1",
            "2001:db8:0:0:1:0:0:0",
            "1::",
            "64:ff9b::c000:221",
        ],
    ),
    ("MX", &["0 a--b.elsewhere.test.", "65535 xn--bcher-kva.elsewhere.test."]),
    ("TXT", &["\"\"", "\"\" \"a\" \"\"", "a;b", "\"a\\;b\"", "\"\\000\\009\\127\"", "\\ back"]),
    (
        "CAA",
        &[
            "0 issue \"\"",
            "0 issuewild \";\"",
            "128 issue \"ca.test ;a=b\"",
            "0 issuevmc ca.test",
            "0 contactphone \"+49 30 1\"",
        ],
    ),
    ("NAPTR", &["0 0 \"\" \"\" \"\" .", "1 1 \"u\" \"E2U+sip\" \"!^.*$!sip:a\\\\1@b!\" ."]),
    (
        "HTTPS",
        &[
            "0 .",
            "1 .",
            "1 . mandatory=ipv4hint,alpn alpn=\"h2,h3\" ipv4hint=192.0.2.1 no-default-alpn",
            "1 . ipv6hint=2001:DB8::1,::1 port=0",
            "2 . key7=\"/q{?dns}\"",
            "3 . dohpath=/q{?dns}",
            "4 . key65333=\\228x",
            "5 . key65333=\"\"",
            "6 . key1=\\002h2",
        ],
    ),
    ("HINFO", &["PC \"\"", "\"\" Linux"]),
    ("RP", &["john\\.doe.x.example. .", "\\228+.x.example. txt"]),
    ("URI", &["0 0 \"a\\\"b\\\\c\""]),
    ("PTR", &["My\\032Printer._ipp._tcp.x.example."]),
    ("SSHFP", &["4 2 AB0123456789AB0123456789AB0123456789AB0123456789 AB0123456789ABCD"]),
];

#[test]
fn the_corners_of_each_type_come_back_byte_for_byte() {
    let server = Server::start();
    let mut corners = CORNERS.to_vec();
    let long = format!("\"{}\"", "\\255".repeat(255));
    let key = format!("3 0 0 {}", "ab".repeat(5000));
    let (long, key) = ([long.as_str()], [key.as_str()]);
    corners.extend([("SMIMEA", key.as_slice()), ("TLSA", &key), ("TXT", &long)]);
    let mut sets = Vec::new();
    for (at, (rtype, records)) in corners.into_iter().enumerate() {
        let records: Vec<String> = records.iter().map(|&r| r.to_owned()).collect();
        sets.push(set(&format!("n{at}"), rtype, 300, &records));
    }
    sets.sort();
    let mut served = server.serve(&zone(), &sets);
    served.sort();
    assert_eq!(served, sets);
}

#[test]
fn files_that_pass_the_checks_are_served_as_they_were_read() {
    let server = Server::start();
    for (name, bytes) in corpus() {
        let zone = DomainName::parse(&name).unwrap();
        let mut sets = read(&zone, &bytes).unwrap().sets;
        while let Some((at, _)) = check_zone(&zone, &sets).pop() {
            sets.remove(at);
        }
        assert!(!sets.is_empty(), "{name}");
        sets.sort();
        let mut served = server.serve(&zone, &sets);
        served.sort();
        assert_eq!(served, sets, "{name}");
    }
}
