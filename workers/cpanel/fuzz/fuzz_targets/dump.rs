//! The filter of dumps: however the bytes arrive, the same comes out, and read again it stays.
#![no_main]

use cpanel::sql::{DumpFilter, Seen};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use values::DatabaseUser;

fn filtered(bytes: &[u8], chunk: usize) -> Option<(Vec<u8>, Seen)> {
    let definer = DatabaseUser::parse("shop.definer").unwrap();
    let mut filter = DumpFilter::new(Vec::new(), &definer);
    for part in bytes.chunks(chunk.max(1)) {
        filter.write_all(part).ok()?;
    }
    filter.finish().ok()
}

fuzz_target!(|input: (u8, &[u8])| {
    let (chunk, bytes) = input;
    let whole = filtered(bytes, bytes.len());
    assert_eq!(whole, filtered(bytes, usize::from(chunk)));
    if let Some((out, _)) = whole {
        let again = filtered(&out, out.len()).map(|(text, seen)| (text, seen.left_out));
        assert_eq!(again, Some((out, 0)));
    }
});
