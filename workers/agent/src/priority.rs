//! How hard a migration may work the server: the sites that are there come first.

use crate::beneath::Beneath;
use crate::error::Result;
use crate::layout;
use std::path::Path;

/// Below `/etc/migrapanel`: a number from 0 (as everybody else) to 19 (only what nobody wants).
const FILE: &str = "priority";
const DEFAULT: i32 = 10;

/// Lowers the priority of this call and of the programs that it starts. The kernel takes the one for
/// the disks from it (ioprio_set(2)).
pub fn lower() -> Result<()> {
    let text = Beneath::open(layout::ETC)?.read(Path::new(FILE), 64)?;
    let wanted = text.as_deref().and_then(nice).unwrap_or(DEFAULT);
    Ok(rustix::process::setpriority_process(None, wanted)?)
}

fn nice(text: &[u8]) -> Option<i32> {
    let number = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    (0..=19).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_a_priority_count() {
        assert_eq!(nice(b" 0\n"), Some(0));
        assert_eq!(nice(b"19"), Some(19));
        for text in [&b"-5"[..], b"20", b"", b"high", b"\xff"] {
            assert_eq!(nice(text), None);
        }
    }
}
