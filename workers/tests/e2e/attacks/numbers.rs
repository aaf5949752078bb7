//! The rows of the table of attacks that are carried out over the API; the table itself is in
//! `workers/agent/tests/e2e/attacks/`, which reads this list, too.

/// In the order of the table.
pub const NUMBERS: &[u16] = &[41, 42, 43, 44, 119, 151, 152, 154, 155, 156, 157, 158];
