//! One account in every form in which people pack it: what is read is always the same.

use crate::fixtures::account;
use cpanel::account::Account;
use cpanel::analyze::read_account;
use cpanel::archive::Source;
use cpanel::stream::Limits;
use std::path::Path;
use std::process::Command;

const SHOP: &str = "cpmove-shopco.tar.gz";

/// Runs a line of the shell in a directory.
#[expect(clippy::disallowed_methods, reason = "archives are made by the programs that people use")]
fn sh(dir: &Path, line: &str) {
    let status = Command::new("bash").arg("-euc").arg(line).current_dir(dir).status().unwrap();
    assert!(status.success(), "{line}");
}

fn read(path: &Path) -> Account {
    let source = if path.is_dir() {
        Source::Directory(path.to_owned())
    } else {
        Source::File(Box::new(std::fs::File::open(path).unwrap()))
    };
    read_account(source, &Limits::default(), &mut |_| Ok(())).unwrap().account
}

/// The shop unpacked, without its wrapper.
fn unpacked() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = Path::new("tests/fixtures").join(SHOP).canonicalize().unwrap();
    sh(dir.path(), &format!("mkdir a; tar --strip-components=1 -C a -xzf {}", archive.display()));
    dir
}

#[test]
fn every_packing_gives_the_same_account() {
    let wanted = account(SHOP).account;
    for line in [
        "tar -C a -czf out .",
        "cd a && tar -czf ../out *",
        "mkdir -p w/cpmove-shopco && mv a/* w/cpmove-shopco/ && tar -C w -czf out cpmove-shopco",
        "mkdir -p w/x/renamed && mv a/* w/x/renamed/ && tar -C w -cf out ./x/renamed",
        "tar -C a --format=posix -czf out .",
        "tar -C a --format=ustar -cf out .",
        "tar -C a --format=v7 -cf out .",
        "tar -C a -cf whole . && split -n 5 whole p. && for f in p.*; do gzip -c $f; done >out",
        "tar -C a/homedir -cf n . && rm -r a/homedir && mv n a/homedir.tar && tar -C a -czf out .",
        "tar -C a -cf n homedir && rm -r a/homedir && mv n a/homedir.tar && tar -C a -czf out .",
        "mkdir -p r/home3 && mv a/homedir r/home3/shopco && tar -C r -cf a/homedir.tar home3/shopco \
         && tar -C a -czf out .",
        "tar -C a/homedir -cf n . && rm -r a/homedir && mv n a/homedir.tar && mv a out",
        "mv a out",
    ] {
        let dir = unpacked();
        sh(dir.path(), line);
        let found = read(&dir.path().join("out"));
        // The entry of the home itself is a member or not.
        assert_eq!(found, wanted, "{line}");
    }
}

#[test]
fn long_names_and_holes_are_read() {
    for line in [
        "tar --format=posix --sparse -czf ../out .",
        "tar --format=gnu --sparse -czf ../out .",
        "tar --format=oldgnu --sparse -czf ../out .",
    ] {
        let dir = unpacked();
        let long = "l".repeat(120);
        sh(
            dir.path(),
            &format!(
                "cd a && mkdir -p homedir/{long}/{long} && echo x >homedir/{long}/{long}/{long} && \
                 truncate -s 3M homedir/holes && printf end >>homedir/holes && {line}"
            ),
        );
        let found = read(&dir.path().join("out"));
        let wanted = account(SHOP).account.files;
        assert_eq!(found.files.entries, wanted.entries + 4, "{line}");
        assert_eq!(found.files.bytes, wanted.bytes + 2 + (3 << 20) + 3, "{line}");
    }
}

#[test]
fn a_site_keeps_its_own_certificate_and_the_others_are_named() {
    let dir = unpacked();
    let own = account(SHOP).account.certificates;
    // One for an alias sorts before the site's own, one for the same name after it.
    let made = "for name in aaa-alias.example shopco-alias.example; do
        openssl req -x509 -newkey rsa:2048 -nodes -keyout k -out c -subj /CN=shopco.example \
            -addext subjectAltName=DNS:shopco.example -days 30 2>/dev/null
        cat k c >a/apache_tls/$name
    done
    sed -i 's/  - shopco-alias.example/  - aaa-alias.example\\n&/' a/userdata/main";
    sh(dir.path(), made);
    let found = read(&dir.path().join("a"));
    assert_eq!(found.certificates, own);
    let lost: Vec<&str> = found
        .not_transferable
        .iter()
        .map(|lost| lost.item.as_str())
        .filter(|item| item.starts_with("certificate:"))
        .collect();
    assert_eq!(lost, ["certificate:shopco-alias.example", "certificate:aaa-alias.example"]);
}
