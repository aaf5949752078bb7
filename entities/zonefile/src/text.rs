//! Zone files as tokens (RFC 1035 section 5.1): comments, parentheses, quotes and escapes.

use crate::file::Broken;

/// The most tokens of one entry: far beyond any record that a message can carry, and few enough to hold
/// at once.
const TOKENS_MAX: usize = 5000;

/// One token of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// As it stands, without its quotes; names need their escapes.
    pub raw: Vec<u8>,
    /// With escapes resolved.
    pub bytes: Vec<u8>,
    pub quoted: bool,
    /// Stands right behind the token before, without white space: `alpn="h2"` is two tokens.
    pub glued: bool,
}

impl Token {
    /// The token as plain ASCII text; none for a quoted one and for one with escapes.
    pub(crate) fn plain(&self) -> Option<&str> {
        if self.quoted || self.raw != self.bytes || !self.bytes.is_ascii() {
            return None;
        }
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// A logical line: parentheses join what stands between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1; where the entry begins.
    pub number: usize,
    /// Begins with white space: the owner is the one before.
    pub indented: bool,
    pub tokens: Vec<Token>,
}

impl Line {
    /// The line as a report shows it: shortened, without control characters.
    pub(crate) fn shown(&self) -> String {
        let mut out = String::new();
        for token in &self.tokens {
            if !out.is_empty() && !token.glued {
                out.push(' ');
            }
            let text = String::from_utf8_lossy(&token.raw);
            let text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
            let quote = if token.quoted { "\"" } else { "" };
            out.push_str(quote);
            out.extend(text.take(200));
            out.push_str(quote);
            if out.len() > 800 {
                break;
            }
        }
        out.chars().take(200).collect()
    }
}

/// Splits a zone file into its entries, one after the other.
pub(crate) struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
    number: usize,
    /// Whether anything but tokens was met: a comment, a parenthesis, a second line.
    pub(crate) decorated: bool,
}

impl<'b> Lines<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0, number: 1, decorated: false }
    }

    /// The next entry that has a token.
    pub(crate) fn next_line(&mut self) -> Result<Option<Line>, Broken> {
        while self.peek().is_some() {
            let line = self.line()?;
            if !line.tokens.is_empty() {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    fn broken<T>(&self, line: usize, why: &str) -> Result<T, Broken> {
        Err(Broken { line, why: why.to_owned() })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Whether a line ends here: at a line feed, or at a carriage return that stands alone.
    fn ends(&self) -> bool {
        match self.peek() {
            Some(b'\n') => true,
            Some(b'\r') => self.bytes.get(self.at + 1) != Some(&b'\n'),
            _ => false,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        if self.ends() {
            self.number += 1;
        }
        self.at += 1;
        Some(byte)
    }

    fn line(&mut self) -> Result<Line, Broken> {
        let indented = matches!(self.peek(), Some(b' ' | b'\t'));
        let mut line = Line { number: self.number, indented, tokens: Vec::new() };
        let mut open: Vec<usize> = Vec::new();
        let mut glued = false;
        while let Some(byte) = self.peek() {
            let at = self.number;
            if self.ends() {
                self.next();
                self.decorated = true;
                if open.is_empty() {
                    return Ok(line);
                }
                glued = false;
                continue;
            }
            match byte {
                b' ' | b'\t' | b'\r' => {
                    self.next();
                }
                b';' => {
                    self.decorated = true;
                    while self.peek().is_some() && !self.ends() {
                        self.next();
                    }
                }
                b'(' | b')' => {
                    self.decorated = true;
                    self.next();
                    if byte == b'(' {
                        open.push(at);
                    } else if open.pop().is_none() {
                        return self.broken(at, "a ) without a (");
                    }
                }
                _ => {
                    if line.tokens.is_empty() {
                        line.number = at;
                    }
                    if line.tokens.len() >= TOKENS_MAX {
                        return self.broken(line.number, "an entry that is too long");
                    }
                    line.tokens.push(self.token(glued)?);
                    glued = true;
                    continue;
                }
            }
            glued = false;
        }
        match open.first() {
            Some(at) => self.broken(*at, "a ( that does not close"),
            None => Ok(line),
        }
    }

    fn token(&mut self, glued: bool) -> Result<Token, Broken> {
        let begin = self.number;
        let quoted = self.peek() == Some(b'"');
        if quoted {
            self.next();
        }
        let mut token = Token { raw: Vec::new(), bytes: Vec::new(), quoted, glued };
        loop {
            let from = self.at;
            match self.peek() {
                None if quoted => return self.broken(begin, "a quote that does not close"),
                None => return Ok(token),
                Some(b'"') if quoted => {
                    self.next();
                    return Ok(token);
                }
                Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"') if !quoted => {
                    return Ok(token);
                }
                Some(_) if self.ends() => return self.broken(begin, "a quote that does not close"),
                Some(b'\\') => {
                    self.next();
                    let byte = self.escape()?;
                    token.bytes.push(byte);
                }
                Some(byte) => {
                    self.next();
                    token.bytes.push(byte);
                }
            }
            token.raw.extend(self.bytes.get(from..self.at).unwrap_or_default());
        }
    }

    /// What follows a backslash: three decimal digits, or any character for itself.
    fn escape(&mut self) -> Result<u8, Broken> {
        let at = self.number;
        if self.ends() {
            return self.broken(at, "a backslash at the end of a line");
        }
        match self.next() {
            None => self.broken(at, "a backslash at the end"),
            Some(first) if !first.is_ascii_digit() => Ok(first),
            Some(first) => {
                let mut value = u16::from(first - b'0');
                for _ in 0..2 {
                    match self.peek().filter(u8::is_ascii_digit) {
                        Some(digit) => value = value * 10 + u16::from(digit - b'0'),
                        None => return self.broken(at, "an escape with fewer than three digits"),
                    }
                    self.next();
                }
                match u8::try_from(value) {
                    Ok(byte) => Ok(byte),
                    Err(_range) => self.broken(at, "an escape over 255"),
                }
            }
        }
    }
}

/// The tokens of one record's data as a caller writes it: one line, without comments.
pub(crate) fn record_tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut lines = Lines::new(text.as_bytes());
    let line = lines.next_line().map_err(|broken| format!("has {}", broken.why))?;
    if lines.decorated {
        return Err("must put values with ; ( ) or a line break into quotes".to_owned());
    }
    Ok(line.map(|l| l.tokens).unwrap_or_default())
}

/// The octets of a TXT record's strings, joined: what a resolver's user sees. None when `text` is
/// not in presentation form.
#[must_use]
pub fn txt_value(text: &str) -> Option<Vec<u8>> {
    let tokens = record_tokens(text).ok()?;
    Some(tokens.into_iter().flat_map(|token| token.bytes).collect())
}

/// The presentation form of a TXT record with these octets: strings of 255 each.
#[must_use]
pub fn txt_record(value: &[u8]) -> String {
    if value.is_empty() {
        return quote(value);
    }
    value.chunks(255).map(quote).collect::<Vec<_>>().join(" ")
}

/// A string in quotes, with `"`, `\` and everything that is not printable ASCII escaped.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03}")),
        }
    }
    out.push('"');
    out
}
