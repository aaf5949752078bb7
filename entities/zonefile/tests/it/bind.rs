//! What a zone file means is asked of BIND.

use crate::zones::{any_zone, soa, zone};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::Write;
use std::process::{Command, Stdio};
use values::DomainName;
use zonefile::{RecordSet, read, write};

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
    let mut runner =
        TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
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
