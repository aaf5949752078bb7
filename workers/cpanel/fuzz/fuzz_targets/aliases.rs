//! Alias files: what comes out are addresses of the file's domain, and addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use values::MailAddress;

fuzz_target!(|text: &str| {
    for (address, destinations) in cpanel::fuzzing::forwards(text) {
        assert_eq!(address.domain(), "shop.example");
        assert!(!destinations.is_empty() && !destinations.contains(&address));
        for to in destinations {
            assert_eq!(MailAddress::parse(to.as_str()).as_ref(), Ok(&to));
        }
    }
});
