//! Statements and JSON of database users: only privileges of the closed list come out.
#![no_main]

use cpanel::plan::PRIVILEGES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    for (user, privilege) in cpanel::fuzzing::privileges(input.0, input.1) {
        assert!(values::DatabaseUser::parse(&user).is_ok());
        let known = privilege == "ALL PRIVILEGES" || PRIVILEGES.contains(&privilege.as_str());
        assert!(known, "{privilege}");
    }
});
