//! Owner names.

use crate::{Field, Problem};
use values::DomainName;

/// A name as somebody writes it (`@`, relative to the zone, or absolute with a final dot; Unicode
/// becomes A-labels) as an absolute one in lower case.
///
/// # Errors
/// The rule that the name breaks, at [`Field::Name`].
pub fn absolute(zone: &DomainName, text: &str) -> Result<String, Problem> {
    let apex = format!("{zone}.");
    let name = match text.to_ascii_lowercase() {
        name if name == "@" => apex,
        name if name.ends_with('.') => name,
        name => format!("{name}.{apex}"),
    };
    if name.is_empty() {
        return Err(Problem::new(Field::Name, "is empty"));
    }
    Ok(name)
}

/// An absolute name of the zone as people write it: `@` for the apex, `www` for what is below it. A
/// name outside the zone stays as it is.
#[must_use]
pub fn relative<'a>(zone: &DomainName, name: &'a str) -> &'a str {
    let inside = name.strip_suffix('.').and_then(|n| n.strip_suffix(zone.as_str()));
    match inside {
        Some("") => "@",
        Some(rest) => rest.strip_suffix('.').unwrap_or(name),
        None => name,
    }
}
