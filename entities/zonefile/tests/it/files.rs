//! Zone files.

use crate::zones::{any_zone, soa, zone};
use proptest::prelude::*;
use zonefile::{File, read, write};

proptest! {
    #[test]
    fn what_is_written_reads_back(sets in any_zone()) {
        let mut sets = sets;
        sets.sort();
        let text = write(&zone(), &soa(), &sets);
        let file = read(&zone(), text.as_bytes()).unwrap();
        prop_assert_eq!(&file, &File { soa: Some(soa()), sets, left_out: Vec::new() });
        prop_assert_eq!(write(&zone(), &soa(), &file.sets), text);
    }
}
