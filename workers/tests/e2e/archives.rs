//! The archives that are moved, and what of them must be found afterwards.

use crate::bed::{given, local};
use crate::program::{program, run, run_with, said};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};

pub const PLAIN: &str = "cpmove-plain.tar";
pub const SHOPCO: &str = "cpmove-shopco.tar.gz";
pub const ARIEL: &str = "backup-1.2.2026_03-04-05_arielstudio01.tar.gz";

/// Where an archive lies; Cargo runs tests in their package's directory.
pub fn file(name: &str) -> PathBuf {
    Path::new("cpanel/tests/fixtures").join(name).canonicalize().unwrap()
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

/// The account of [`SHOPCO`] under a user's name of six letters, which its domains have, too: the
/// archive, and what of it must be found. Such accounts share nothing, so that tests that have their
/// own need no turn.
pub fn like_shopco(user: &str) -> (Vec<u8>, Value) {
    assert_eq!(user.len(), "shopco".len(), "lengths stand in serialized values and file names");
    let work = tempfile::tempdir().unwrap();
    unpack(SHOPCO, work.path());
    let addon = format!("{user}x");
    let certificate = work.path().join(format!("cpmove-{user}/apache_tls/{user}.example"));
    run(program("bash").arg("-ec").arg(RENAME).arg(work.path()).args([user, &addon]));
    let mut wanted: Value = {
        let text = std::fs::read_to_string(file(&format!("{SHOPCO}.expect.json"))).unwrap();
        serde_json::from_str(&text.replace("shopco", user).replace("gadgets", &addon)).unwrap()
    };
    let mut read = program("openssl");
    read.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(certificate);
    let printed = run(&mut read);
    let hash = printed.rsplit('=').next().unwrap().trim().replace(':', "").to_lowercase();
    for known in wanted["ssl"].as_array_mut().unwrap() {
        known["sha256_der"] = hash.as_str().into();
    }
    for zone in [user, &format!("{user}-alias"), &addon] {
        forget_zone(&format!("{zone}.example."));
    }
    (pack(work.path()), wanted)
}

/// Removes a zone that a run which failed has left in the DNS server.
fn forget_zone(name: &str) {
    let url = format!("{}/api/v1/servers/localhost/zones/{name}", given("TEST_PDNS_API_URL"));
    let config = format!("header = \"X-API-Key: {}\"\n", given("TEST_PDNS_API_KEY"));
    let mut curl = program("curl");
    let output =
        run_with(curl.args(["-sS", "-K", "-", "-X", "DELETE"]).arg(url), config.as_bytes());
    said(&curl, &output);
}

/// The names in all files and of all files; the certificate is made anew.
const RENAME: &str = r#"
cd "$0"
export LC_ALL=C
names="s/shopco/$1/g; s/gadgets/$2/g"
grep -rlZE 'shopco|gadgets' . | xargs -0 sed -i "$names"
find . -depth \( -name '*shopco*' -o -name '*gadgets*' \) | while IFS= read -r old; do
    name=${old##*/}
    mv "$old" "${old%/*}/$(sed "$names" <<<"$name")"
done
openssl req -x509 -newkey rsa:2048 -nodes -days 300 -subj "/CN=$1.example" -keyout key -out cert \
    -addext "subjectAltName=DNS:$1.example,DNS:www.$1.example" 2>/dev/null
cat key cert >"cpmove-$1/apache_tls/$1.example"
rm key cert
"#;

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
