//! The pass over a tar file: members stay below the account's root, and sums are right.
#![no_main]

use cpanel::analyze::read_account;
use cpanel::archive::{self, Entry, Source};
use cpanel::stream::Limits;
use libfuzzer_sys::fuzz_target;
use std::io::Read;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { entries: 1000, expanded_bytes: 64 << 20, ..Limits::default() };
    let mut total = 0_u64;
    let source = || Source::File(Box::new(bytes));
    let visit = |entry: Entry<'_>| {
        assert!(entry.path.components().all(|c| c != b".." && c != b"." && !c.contains(&0)));
        assert_eq!(entry.mode & !0o777, 0);
        let read = std::io::copy(&mut entry.body.take(1 << 20), &mut std::io::sink());
        total += read.map_err(cpanel::Error::Io)?;
        Ok::<_, cpanel::Error>(())
    };
    if let Ok(read) = archive::read(source(), &limits, &mut |_| Ok(()), visit) {
        assert!(total <= read.expanded_bytes && read.members <= limits.entries);
    }
    drop(read_account(source(), &limits, &mut |_| Ok(())));
    drop(cpanel::peek::peek(source()));
});
