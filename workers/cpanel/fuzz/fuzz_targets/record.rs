//! `cp/USER`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    assert!(cpanel::fuzzing::record_domains(text) <= text.lines().count());
});
