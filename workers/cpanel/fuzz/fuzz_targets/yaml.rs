//! YAML of `userdata/`: never deeper than what cPanel writes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    assert!(cpanel::fuzzing::yaml_depth(text).is_none_or(|depth| depth <= 33));
});
