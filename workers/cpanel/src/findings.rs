//! What a reader notices on its way.

use crate::member::shown;
use crate::plan::{NotTransferred, Warning};

/// Collects warnings and losses; bounded, so that an archive cannot flood the report.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    pub warnings: Vec<Warning>,
    pub not_transferable: Vec<NotTransferred>,
}

/// More of one kind than this are dropped; the last kept one says so.
const MOST: usize = 500;

impl Findings {
    /// Notes something that a person should know. `subject` is cleaned of control characters.
    pub fn warn(&mut self, code: &str, subject: &str, message: impl Into<String>) {
        let warning = Warning {
            code: code.to_owned(),
            subject: shown(subject.as_bytes()),
            message: message.into(),
        };
        let last = Warning {
            code: "more_warnings".to_owned(),
            subject: String::new(),
            message: "There are more warnings than are shown.".to_owned(),
        };
        push(&mut self.warnings, warning, last);
    }

    /// Notes something that is not restored. `item` is cleaned of control characters.
    pub fn lost(&mut self, item: &str, reason: impl Into<String>) {
        let lost = NotTransferred { item: shown(item.as_bytes()), reason: reason.into() };
        let last = NotTransferred {
            item: "more".to_owned(),
            reason: "There are more losses than are shown.".to_owned(),
        };
        push(&mut self.not_transferable, lost, last);
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T, last: T) {
    match list.len() {
        n if n < MOST && !list.contains(&item) => {
            list.push(item);
        }
        MOST => list.push(last),
        _ => {}
    }
}
