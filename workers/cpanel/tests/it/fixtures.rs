//! The sample archives and what they must show.

use cpanel::analyze::{Parsed, read_account};
use cpanel::archive::Source;
use cpanel::stream::Limits;
use serde_json::Value;
use std::io::Cursor;

/// Archive files by name.
pub const NAMES: [&str; 3] =
    ["cpmove-plain.tar", "cpmove-shopco.tar.gz", "backup-1.2.2026_03-04-05_arielstudio01.tar.gz"];

pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/fixtures/{name}")).unwrap()
}

pub fn expectations(name: &str) -> Value {
    serde_json::from_slice(&bytes(&format!("{name}.expect.json"))).unwrap()
}

pub fn read(bytes: Vec<u8>) -> Result<Parsed, cpanel::Error> {
    let limits = Limits::default();
    read_account(Source::File(Box::new(Cursor::new(bytes))), &limits, &mut |_| Ok(()))
}

pub fn account(name: &str) -> Parsed {
    read(bytes(name)).unwrap()
}
