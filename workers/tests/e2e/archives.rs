//! The archives that are moved, and what of them must be found afterwards.

use crate::bed::local;
use crate::program::{program, run, run_with};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

pub const PLAIN: &str = "cpmove-plain.tar";
pub const SHOPCO: &str = "cpmove-shopco.tar.gz";
pub const ARIEL: &str = "backup-1.2.2026_03-04-05_arielstudio01.tar.gz";

/// Where an archive lies.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cpanel/tests/fixtures").join(name)
}

/// What it must show.
pub fn expected(name: &str) -> Value {
    let text = std::fs::read(file(&format!("{name}.expect.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The archive's zones in the DNS server that all tests share: held from preview to rollback. A test
/// that needs several takes them in the order of the names above.
pub fn hold_zones(name: &str) -> File {
    let lock = File::create(local().join(format!("e2e-{name}.lock"))).unwrap();
    lock.lock().unwrap();
    lock
}

/// Unpacks an archive into a directory.
pub fn unpack(name: &str, into: &Path) {
    run(program("tar").arg("-C").arg(into).arg("-xf").arg(file(name)));
}

/// The directory's content as a compressed archive.
pub fn pack(dir: &Path) -> Vec<u8> {
    let mut tar = program("bash");
    tar.arg("-c").arg(r#"cd "$0" && tar -czf - *"#).arg(dir);
    let output = run_with(&mut tar, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
