//! Text that people write for people.

use crate::{Invalid, checked_text};
use serde::{Deserialize, Serialize};

/// Whether a character shows nothing, or changes how its neighbours are shown: controls, marks of
/// direction (Unicode's Bidi_Control, by which a text reads as another), separators of lines, and the
/// mark of byte order. Joiners stay, since Persian, Hindi and emoji need them.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// Whether a character takes room, or none, and shows nothing.
#[must_use]
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{206f}')
}

/// A name or another single line: 1 to 200 characters, not all of them blanks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Title(String);

impl Title {
    /// The most characters that it has.
    pub const MAX: usize = 200;

    /// Reads a line as it stands.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "text";
        if text.chars().all(is_blank) {
            return Err(Invalid { what, rule: "must have something to read in it" });
        }
        if text.chars().count() > Self::MAX {
            return Err(Invalid { what, rule: "is longer than 200 characters" });
        }
        if text.chars().any(is_hidden) {
            return Err(Invalid {
                what,
                rule: "must not hold control or bidirectional characters",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// A text of several lines, or none: at most 2000 characters that can be seen, tabs and line feeds.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prose(String);

impl Prose {
    /// The most characters that it has.
    pub const MAX: usize = 2000;

    /// Reads a text as it stands.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "text";
        if text.chars().count() > Self::MAX {
            return Err(Invalid { what, rule: "is longer than 2000 characters" });
        }
        if text.chars().any(|c| is_hidden(c) && !matches!(c, '\n' | '\t')) {
            return Err(Invalid {
                what,
                rule: "must not hold control or bidirectional characters",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

checked_text!(Title, Prose);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_stands_in_no_text() {
        for hidden in [
            '\0', '\u{7}', '\r', '\u{85}', '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}',
            '\u{202e}', '\u{2028}', '\u{2066}', '\u{2069}', '\u{feff}',
        ] {
            assert!(Title::parse(&format!("a{hidden}b")).is_err(), "{hidden:?}");
            assert!(Prose::parse(&format!("a{hidden}b")).is_err(), "{hidden:?}");
        }
        assert!(Title::parse("two\nlines").is_err());
        assert!(Prose::parse("two\nlines\tand a tab").is_ok());
        for good in ["Größe M", "می\u{200c}خواهم", "👩\u{200d}💻 plan", "a  b ", "שלום"]
        {
            assert_eq!(Title::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_title_has_something_to_read_and_ends_after_200_characters() {
        for blank in ["", " ", "\u{a0}", "\u{3000} ", "\u{200b}", "\u{2060}"] {
            assert!(Title::parse(blank).is_err(), "{blank:?}");
        }
        assert!(Title::parse(&"é".repeat(200)).is_ok());
        assert!(Title::parse(&"é".repeat(201)).is_err());
        assert!(Prose::parse("").is_ok());
        assert!(Prose::parse(&"é".repeat(2000)).is_ok());
        assert!(Prose::parse(&"é".repeat(2001)).is_err());
    }
}
