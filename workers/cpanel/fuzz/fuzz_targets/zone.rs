//! Zone files: what is read is of few kinds, and reads back as itself once it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use values::DomainName;
use zonefile::{Soa, TYPES, read, write};

fuzz_target!(|bytes: &[u8]| {
    let zone = DomainName::parse("shop.example").unwrap();
    let Ok(file) = read(&zone, bytes) else { return };
    for set in &file.sets {
        assert!(TYPES.contains(&set.rtype.as_str()), "{}", set.rtype);
        assert!(set.name == "shop.example." || set.name.ends_with(".shop.example."), "{set:?}");
        assert!(set.records.iter().all(|r| !r.contains(|c: char| c.is_control())), "{set:?}");
    }
    let soa = file.soa.unwrap_or_else(|| Soa {
        primary: "ns.shop.example.".to_owned(),
        hostmaster: "hostmaster.shop.example.".to_owned(),
        serial: 1,
        refresh: 1,
        retry: 1,
        expire: 1,
        minimum: 1,
        ttl: 1,
    });
    let text = write(&zone, &soa, &file.sets);
    let again = read(&zone, text.as_bytes()).unwrap();
    assert!(again.left_out.is_empty(), "{:?}", again.left_out);
    assert_eq!((again.soa, again.sets), (Some(soa), file.sets), "{text}");
});
