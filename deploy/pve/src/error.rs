//! The one error of this crate: what Proxmox would print, and with which status.

use std::fmt;

/// Why a call did not do what was asked, in Proxmox' words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status that Proxmox' API gives it; 500 stands for a plain `die`.
    pub status: u16,
    /// The sentence, without a status and without a newline at its end.
    pub text: String,
    /// What is wrong with which parameter, in the order of their names.
    pub fields: Vec<(String, String)>,
}

pub type Result<T> = std::result::Result<T, Failure>;

/// A plain failure with this sentence.
pub fn failure(text: impl Into<String>) -> Failure {
    Failure { status: 500, text: text.into(), fields: Vec::new() }
}

/// The refusal of one parameter.
pub fn bad_parameter(name: &str, why: impl Into<String>) -> Failure {
    bad_parameters(vec![(name.to_owned(), why.into())])
}

/// The refusal of several parameters at once.
pub fn bad_parameters(mut fields: Vec<(String, String)>) -> Failure {
    fields.sort();
    Failure { status: 400, text: "Parameter verification failed.".to_owned(), fields }
}

impl Failure {
    /// The same failure with words before its sentence, as Proxmox chains them.
    pub fn after(mut self, words: &str) -> Failure {
        self.text = format!("{words} {}", self.text);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.status != 500 {
            write!(out, "{} ", self.status)?;
        }
        write!(out, "{}", self.text.trim_end())?;
        for (name, why) in &self.fields {
            write!(out, "\n{name}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        failure(words_of(&error))
    }
}

/// The system's words alone, as Perl has them.
pub fn words_of(error: &std::io::Error) -> String {
    let words = error.to_string();
    words.split_once(" (os error").map_or(words.clone(), |(words, _)| words.to_owned())
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        failure(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Failure {
        failure(std::io::Error::from(error).to_string())
    }
}
