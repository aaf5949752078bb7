//! What a zone file means is asked of BIND.

use crate::zones::{any_zone, soa, zone};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::Write;
use std::process::{Command, Stdio};
use values::DomainName;
use zonefile::{RecordSet, check_zone, read, write};

/// Integrity and host names are not what a file means.
pub const LENIENT: &[&str] = &["-i", "none", "-k", "ignore", "-n", "ignore"];

const CASES: u32 = 150;

/// BIND's own writing of a zone file, or what it says against it.
#[expect(clippy::disallowed_methods, reason = "the judge")]
pub fn compiled(zone: &DomainName, arguments: &[&str], file: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("named-compilezone")
        .args(arguments)
        .args(["-D", "-F", "text", "-s", "full", "-o", "-", zone.as_str(), "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let file = file.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&file));
    let output = child.wait_with_output().unwrap();
    // BIND may have seen enough before the end.
    let _written = writer.join().unwrap();
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// ALIAS is PowerDNS' own.
fn without_alias(mut sets: Vec<RecordSet>) -> Vec<RecordSet> {
    sets.retain(|set| set.rtype != "ALIAS");
    sets.sort();
    sets
}

#[test]
fn what_passes_our_checks_passes_binds_and_means_the_same() {
    let mut runner = TestRunner::new(Config {
        cases: CASES / 2,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&any_zone(), |sets| {
            let sets = without_alias(sets);
            let text = write(&zone(), &soa(), &sets);
            // BIND knows no host with an underscore, and PowerDNS and cPanel do.
            let strict = ["-i", "local", "-k", "warn", "-n", "fail", "-M", "fail", "-S", "fail"];
            let compiled = match compiled(&zone(), &strict, text.as_bytes()) {
                Ok(compiled) => compiled,
                Err(why) => return Err(TestCaseError::fail(format!("{why}\n{text}"))),
            };
            let file = read(&zone(), &compiled).unwrap();
            prop_assert!(file.left_out.is_empty(), "{:?}", file.left_out);
            prop_assert_eq!(file.soa, Some(soa()));
            prop_assert_eq!(file.sets, sets);
            Ok(())
        })
        .unwrap();
}

const OWNERS: &[&str] = &[
    "",
    "",
    "",
    "@",
    "a",
    "a",
    "b",
    "*",
    "www.x.example.",
    "c\\046d",
    "\\097",
    "In",
    "1h",
    "b.other.",
    "e+f",
    "x..y",
];
const TTLS: &[&str] = &["", "", "", "60", "1h", "0", "1w2d", "4294967295", "2y"];
const CLASSES: &[&str] = &["", "", "IN", "in", "CLASS1", "CH"];
/// No two of these are the same record.
const DATA: &[&str] = &[
    "A 192.0.2.1",
    "a 192.0.2.2 ; x",
    "A ( 192.0.2.3\n )",
    "TYPE1 \\# 4 C0000209",
    "A 192.0.2.300",
    "A 192.0.2.1 x",
    "AAAA 2001:DB8::1",
    "MX 10 a",
    "MX 20 @",
    "MX ( 30\n\tb ) ; y",
    "CNAME www",
    "CNAME @",
    "NS ns.test.",
    "TXT x y",
    "TXT \"a;b\" c\\;d",
    "TXT \"\\000\\\"\"",
    "TXT (\"a\"\"b\")",
    "TXT",
    "TXT ;",
    "TXT \\# 2 01 61",
    "TXT a\"b\"c",
    "( TXT x )",
    "TXT @ $TTL",
    "TXT \"open",
    "CAA 0 issue ca.test",
    "CAA 0 Issue \"\"",
    "SRV 1 2 3 @",
    "HTTPS 1 . alpn=\"h2\" port=1",
    "HTTPS 0 @",
    "PTR \\097.\\098.test.",
    "PTR a\\.b\\032c",
    "TLSA 3 1 1 ( 00\n 01 )",
    "SSHFP 1 1 0102030405060708090a0b0c0d0e0f 1011121314",
    "NAPTR 1 2 s \"\" \"\" .",
    "HINFO a \"b c\"",
    "RP . a",
    "URI 1 1 \"u\"",
    "OPENPGPKEY QUJD QUJD",
    "DNAME y.test.",
    "DS 1 13 1 0102030405060708090a0b0c0d0e0f1011121314",
    "LOC 1 N 1 E 1m",
    "FOO bar",
    "SPF x",
    "",
];
const OTHERS: &[&str] = &[
    "$TTL 5\n",
    "$TTL 1h ; c\n",
    "$ORIGIN b\n",
    "$ORIGIN x.example.\n",
    "$ORIGIN .\n",
    "$origin c.x.example.\n",
    "$ORIGIN q\\.r\n",
    "\n",
    "   \n",
    "; c\n",
    "\t; c\n",
    "\r\n",
];

/// A zone file of lines by chance, no record twice: of two that differ in their TTL only, BIND keeps the
/// first one's and we the smaller.
fn any_file() -> impl Strategy<Value = String> {
    let of = proptest::sample::select::<&str>;
    let record = (of(OWNERS), of(TTLS), of(CLASSES), any::<bool>());
    let data = proptest::sample::subsequence(DATA, 1..7).prop_shuffle();
    let lines = data.prop_flat_map(move |data| {
        let records = proptest::collection::vec(record.clone(), data.len());
        let others =
            proptest::collection::vec(proptest::option::weighted(0.2, of(OTHERS)), data.len());
        (Just(data), records, others)
    });
    let head = of(&["", "$TTL 77\n"]);
    (head, lines).prop_map(|(head, (data, records, others))| {
        let mut text = format!("{head}@ SOA a. b. 1 2 3 4 5\n@ NS a.\n");
        for ((data, (owner, ttl, class, swapped)), other) in data.iter().zip(records).zip(others) {
            let (first, second) = if swapped { (class, ttl) } else { (ttl, class) };
            text.push_str(other.unwrap_or_default());
            text.push_str(&format!("{owner} {first} {second} {data}\n"));
        }
        text
    })
}

/// Sets of several records may have had several TTLs.
fn with_certain_ttls(mut sets: Vec<RecordSet>) -> Vec<RecordSet> {
    sets.iter_mut().filter(|set| set.records.len() > 1).for_each(|set| set.ttl = 0);
    sets
}

#[test]
fn lines_by_chance_mean_what_bind_makes_of_them() {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let taken = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&any_file(), |text| {
        let theirs = compiled(&zone(), LENIENT, text.as_bytes());
        match (theirs, read(&zone(), text.as_bytes())) {
            (Ok(theirs), Ok(ours)) => {
                taken.set(taken.get() + 1);
                let theirs = read(&zone(), &theirs).unwrap();
                prop_assert_eq!(ours.soa, theirs.soa);
                let (ours, theirs) = (with_certain_ttls(ours.sets), with_certain_ttls(theirs.sets));
                prop_assert_eq!(ours, theirs, "{}", text);
            }
            (Ok(_), Err(broken)) => prop_assert!(false, "BIND takes it: {broken}\n{text}"),
            // What BIND refuses is said, here or by the checks of the zone.
            (Err(why), Ok(ours)) => {
                let said = !ours.left_out.is_empty() || !check_zone(&zone(), &ours.sets).is_empty();
                prop_assert!(said, "{why}\n{text}");
            }
            (Err(_), Err(_)) => {}
        }
        Ok(())
    });
    outcome.unwrap();
    // Both sides of the comparison are met.
    assert!((CASES / 10..CASES * 9 / 10).contains(&taken.get()), "{}", taken.get());
}
