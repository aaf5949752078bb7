//! Archives that are cut off, hostile, or not what they should be.

use crate::fixtures::{NAMES, bytes, read};
use cpanel::analyze::read_account;
use cpanel::archive::Source;
use cpanel::protocol::Format;
use cpanel::stream::Limits;
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use std::io::{Read, Write};
use tar::{Builder, EntryType, Header};

#[test]
fn peeking_finds_account_and_format() {
    let peek =
        |bytes: Vec<u8>| cpanel::peek::peek(Source::File(Box::new(std::io::Cursor::new(bytes))));
    for (name, user, format) in [
        ("cpmove-plain.tar", "plain", Format::Uncompressed),
        ("cpmove-shopco.tar.gz", "shopco", Format::Cpmove),
        ("backup-1.2.2026_03-04-05_arielstudio01.tar.gz", "arielstudio01", Format::Cpbackup),
    ] {
        let seen = peek(bytes(name)).unwrap();
        assert_eq!((seen.user.as_deref(), seen.format), (Some(user), Some(format)));
        // What follows is left unread.
        assert!(peek(bytes(name)[..bytes(name).len() / 2].to_vec()).is_ok());
    }
    assert_eq!(peek(tar(&[("a/b", "")])).unwrap_err().code(), "invalid_account");
    assert_eq!(peek(b"GIF89a".to_vec()).unwrap_err().code(), "not_an_archive");
}

fn code(bytes: Vec<u8>) -> &'static str {
    read(bytes).map_or_else(|e| e.code(), |_| "ok")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn plain(name: &str) -> Vec<u8> {
    let packed = bytes(name);
    if name.ends_with(".tar") {
        return packed;
    }
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut out).unwrap();
    out
}

fn tar(members: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, text) in members {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(u64::try_from(text.len()).unwrap());
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

const RECORD: (&str, &str) = ("x/cp/shop", "DNS=shop.example\nUSER=shop\n");

#[test]
fn every_cut_is_noticed() {
    for name in NAMES {
        let whole = bytes(name);
        // The padding behind the two blocks that end a plain tar file may be missing.
        let padding = whole.iter().rev().take_while(|b| **b == 0).count();
        let end = if name.ends_with(".tar") {
            whole.len() - padding / 512 * 512 + 1023
        } else {
            whole.len() - 1
        };
        for at in (0..end).step_by(512).chain([1, 17, end]) {
            let found = code(whole[..at].to_vec());
            assert!(matches!(found, "truncated" | "not_an_archive"), "{name} {at}: {found}");
        }
        assert_eq!(code(whole), "ok");
    }
}

#[test]
fn a_gzip_whose_tar_is_cut_is_noticed() {
    let whole = plain("cpmove-shopco.tar.gz");
    for at in [whole.len() / 2, 512 * 20, whole.len() - 9728] {
        assert_eq!(code(gzip(&whole[..at])), "truncated");
    }
    let mut damaged = bytes("cpmove-shopco.tar.gz");
    let last = damaged.len() - 5;
    damaged[last] ^= 1;
    assert_eq!(code(damaged), "truncated");
}

#[test]
fn gzip_of_many_members_and_zstd() {
    let whole = plain("cpmove-shopco.tar.gz");
    let (a, b) = whole.split_at(whole.len() / 3);
    assert_eq!(code([gzip(a), gzip(b)].concat()), "ok");
    assert_eq!(code(zstd::encode_all(whole.as_slice(), 1).unwrap()), "ok");
    let zstd = zstd::encode_all(whole.as_slice(), 1).unwrap();
    assert_eq!(code(zstd[..zstd.len() / 2].to_vec()), "truncated");
}

#[test]
fn what_is_no_account() {
    assert_eq!(code(b"PK\x03\x04".to_vec()), "not_an_archive");
    assert_eq!(code(vec![0; 10_240]), "not_an_archive");
    assert_eq!(code(gzip(b"hello")), "truncated");
    assert_eq!(code(tar(&[("x/public_html/index.php", "")])), "invalid_account");
    assert_eq!(code(tar(&[("backup/config/cp/shop", RECORD.1)])), "jetbackup_layout");
    assert_eq!(code(tar(&[("a/jetbackup.configs/x", "")])), "jetbackup_layout");
    assert_eq!(code(tar(&[RECORD])), "ok");
    assert_eq!(code(tar(&[("./x/y/cp/shop", RECORD.1)])), "ok");
    assert_eq!(code(tar(&[("cp/shop", RECORD.1)])), "ok");
}

#[test]
fn members_that_climb_or_stand_twice() {
    assert_eq!(code(tar(&[RECORD, ("x/homedir/../../../etc/passwd", "")])), "unsafe_member");
    assert_eq!(code(tar(&[RECORD, ("/etc/passwd", "")])), "unsafe_member");
    assert_eq!(code(tar(&[RECORD, RECORD])), "unsafe_member");
    assert_eq!(code(tar(&[RECORD, ("x/cp/other", RECORD.1)])), "unsafe_member");
    assert_eq!(code(tar(&[("x/cp/../shop", RECORD.1)])), "unsafe_member");
    let mut behind = tar(&[RECORD]);
    behind.extend(tar(&[("x/shadow", "$6$a$b")]));
    assert_eq!(code(behind), "unsafe_member");
    assert_eq!(code(tar(&[("x/cp/root;id", RECORD.1)])), "invalid_account");
}

#[test]
fn headers_cannot_fill_the_memory() {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(50 << 20);
    header.set_cksum();
    builder.append(&header, std::io::repeat(b'a').take(50 << 20)).unwrap();
    assert_eq!(code(builder.into_inner().unwrap()), "unsafe_member");
}

#[test]
fn holes_are_counted_and_not_read() {
    let sparse = |size: u64| {
        let mut header = Header::new_gnu();
        header.set_path("x/homedir/hole").unwrap();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(size);
        gnu.sparse[0].set_offset(size);
        gnu.sparse[0].set_length(0);
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, std::io::empty()).unwrap();
        let mut record = Header::new_gnu();
        record.set_path(RECORD.0).unwrap();
        record.set_size(u64::try_from(RECORD.1.len()).unwrap());
        record.set_cksum();
        builder.append(&record, RECORD.1.as_bytes()).unwrap();
        builder.into_inner().unwrap()
    };
    let parsed = read(sparse(1 << 40)).unwrap();
    assert!(parsed.totals.expanded_bytes > 1 << 40);
    assert_eq!(parsed.account.files.bytes, 1 << 40);
    assert_eq!(code(sparse(1 << 60)), "archive_too_large");
}

#[test]
fn limits() {
    let read_with = |limits: Limits, bytes: Vec<u8>| {
        let source = Source::File(Box::new(std::io::Cursor::new(bytes)));
        read_account(source, &limits, &mut |_| Ok(())).map_or_else(|e| e.code(), |_| "ok")
    };
    let default = Limits::default();
    let whole = bytes("cpmove-shopco.tar.gz");
    assert_eq!(read_with(Limits { entries: 10, ..default }, whole.clone()), "archive_too_large");
    assert_eq!(
        read_with(Limits { expanded_bytes: 9999, ..default }, whole.clone()),
        "archive_too_large"
    );
    assert_eq!(
        read_with(Limits { metadata_bytes: 999, ..default }, whole.clone()),
        "archive_too_large"
    );
    assert_eq!(
        read_with(Limits { metadata_file_bytes: 99, ..default }, whole),
        "archive_too_large"
    );
}

#[test]
fn a_directory_reads_like_its_archive() {
    let place = tempfile::tempdir().unwrap();
    tar::Archive::new(plain("cpmove-shopco.tar.gz").as_slice()).unpack(place.path()).unwrap();
    let limits = Limits::default();
    let expected = read(bytes("cpmove-shopco.tar.gz")).unwrap();
    for directory in [place.path().to_owned(), place.path().join("cpmove-shopco")] {
        let parsed = read_account(Source::Directory(directory), &limits, &mut |_| Ok(())).unwrap();
        assert_eq!(parsed.account, expected.account);
        assert_eq!(parsed.totals.format, Format::Directory);
    }
}

#[test]
fn a_stopped_reader_stops() {
    let limits = Limits::default();
    let source = Source::File(Box::new(std::io::Cursor::new(bytes("cpmove-plain.tar"))));
    let stop = &mut |_| Err(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, "gone"));
    let error = read_account(source, &limits, stop).unwrap_err();
    assert!(matches!(error, cpanel::Error::Io(_)), "{error:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A flipped byte may be read, refused or reported, but never panics or hangs.
    #[test]
    fn flipped_bytes(at in 0_usize..61_440, value in any::<u8>()) {
        let mut whole = bytes("cpmove-plain.tar");
        whole[at] = value;
        code(whole);
    }

    #[test]
    fn any_metadata(text in "\\PC{0,300}", path in "(userdata/main|userdata/shop.example|mysql.sql|va/shop.example|dnszones/shop.example.db|apache_tls/shop.example|cron/shop|proftpdpasswd|addons|homedir/etc/shop.example/passwd|userdata/cache.json|mysql.sql-auth.json)") {
        code(tar(&[RECORD, (&format!("x/{path}"), &text)]));
    }
}
