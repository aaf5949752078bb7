//! What a reader notices on its way.

use crate::member::shown;
use crate::plan::{NotTransferred, Note, Warning};
use crate::protocol::Outcome;

/// Collects warnings and losses; bounded, so that an archive cannot flood the report.
#[derive(Debug, Default, Clone)]
pub struct Findings {
    pub warnings: Vec<Warning>,
    pub not_transferable: Vec<NotTransferred>,
    pub notes: Vec<Note>,
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

    /// Notes something that comes over in another form than the archive has it: a warning, and an
    /// `adapted` item `KIND:SUBJECT` of the report.
    pub fn adapt(&mut self, code: &str, kind: &str, subject: &str, message: impl Into<String>) {
        let message = message.into();
        self.warn(code, subject, message.as_str());
        let item = format!("{kind}:{}", shown(subject.as_bytes()));
        let note = Note { item, outcome: Outcome::Adapted, detail: message };
        let last = Note {
            item: "more_changes".to_owned(),
            outcome: Outcome::Adapted,
            detail: "There are more changes than are shown.".to_owned(),
        };
        push(&mut self.notes, note, last);
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
