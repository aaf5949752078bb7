//! What the two sides say to each other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How large a terminal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Sides")]
pub struct Size {
    cols: u16,
    rows: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sides {
    cols: u16,
    rows: u16,
}

impl TryFrom<Sides> for Size {
    type Error = String;

    fn try_from(Sides { cols, rows }: Sides) -> Result<Self, String> {
        let within = |side: &u16| (1..=Self::MOST).contains(side);
        match [cols, rows].iter().all(within) {
            true => Ok(Self { cols, rows }),
            false => Err(format!("cols and rows must be 1 to {}", Self::MOST)),
        }
    }
}

impl Default for Size {
    /// As terminals have always been.
    fn default() -> Self {
        Self { cols: 80, rows: 24 }
    }
}

impl Size {
    /// The most of either side.
    pub const MOST: u16 = 500;

    #[must_use]
    pub fn cols(self) -> u16 {
        self.cols
    }

    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows
    }
}

/// Why a console has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The terminal or its user has ended it.
    Ended,
    /// Whoever has it open may not any more.
    RightsGone,
    /// The node, or the worker at it, does not answer.
    Away,
    /// No worker takes it, now.
    Full,
    /// The process at this end stops.
    Stopping,
    /// Something was sent that is nothing a console knows.
    Unreadable,
    /// Something was sent that is longer than is taken.
    TooLong,
}

/// The end of a console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub why: Why,
    /// For whoever has it open.
    pub text: String,
}

impl End {
    #[must_use]
    pub fn new(why: Why, text: &str) -> Self {
        Self { why, text: text.to_owned() }
    }
}

/// What comes from the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Of the terminal, or for it. Whoever has taken it in hand says so ([`crate::Sender::done`]).
    Bytes(Bytes),
    /// The terminal is to be so large; to be taken in hand like bytes.
    Resize(Size),
    /// Nothing comes after this.
    End(End),
}

impl Heard {
    /// What it takes of the window.
    #[must_use]
    pub fn cost(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len().saturating_add(crate::HEAD),
            Self::Resize(_) => crate::HEAD,
            Self::End(_) => 0,
        }
    }
}

/// What is no bytes, as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Control {
    Alive,
    /// So much was taken in hand.
    Done(usize),
    Resize(Size),
    End(End),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_one_to_five_hundred() {
        for (text, fits) in [
            (r#"{"cols": 1, "rows": 500}"#, true),
            (r#"{"cols": 0, "rows": 24}"#, false),
            (r#"{"cols": 80, "rows": 501}"#, false),
            (r#"{"cols": 80, "rows": -1}"#, false),
            (r#"{"cols": 80}"#, false),
            (r#"{"cols": 80, "rows": 24, "depth": 3}"#, false),
        ] {
            assert_eq!(serde_json::from_str::<Size>(text).is_ok(), fits, "{text}");
        }
    }
}
