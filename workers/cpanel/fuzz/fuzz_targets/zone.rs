//! Zone files: what is served reads back as itself, and is of few kinds.
#![no_main]

use libfuzzer_sys::fuzz_target;

const TYPES: &[&str] = &[
    "A", "AAAA", "CAA", "CNAME", "DNAME", "MX", "NAPTR", "NS", "PTR", "SRV", "SSHFP", "TLSA", "TXT",
];

fuzz_target!(|bytes: &[u8]| {
    let Some(records) = cpanel::fuzzing::zone_records(bytes) else { return };
    let mut text = String::new();
    for set in &records {
        assert!(TYPES.contains(&set.rtype.as_str()), "{}", set.rtype);
        assert!(set.name == "shop.example." || set.name.ends_with(".shop.example."), "{set:?}");
        for record in &set.records {
            assert!(!record.contains('\n'), "{record:?}");
            text.push_str(&format!("{} {} {} {record}\n", set.name, set.ttl, set.rtype));
        }
    }
    let again = cpanel::fuzzing::zone_records(text.as_bytes());
    assert_eq!(again.as_ref(), Some(&records), "{text}");
});
