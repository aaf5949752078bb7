//! Master files as tokens (RFC 1035 section 5.1): comments, parentheses, quotes and escapes.

/// One token of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// With escapes resolved.
    pub bytes: Vec<u8>,
    pub quoted: bool,
    /// Whether there was an escape in it.
    pub escaped: bool,
}

impl Token {
    /// The token as plain ASCII text; none for a quoted one and for one with escapes.
    pub(crate) fn plain(&self) -> Option<&str> {
        if self.quoted || self.escaped || !self.bytes.is_ascii() {
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
    /// The line as a report shows it.
    pub(crate) fn shown(&self) -> String {
        let words: Vec<String> =
            self.tokens.iter().map(|t| crate::member::shown(&t.bytes)).collect();
        words.join(" ").chars().take(200).collect()
    }
}

/// Splits a master file. Fails on quotes and parentheses that do not close.
pub(crate) fn lines(bytes: &[u8]) -> Result<Vec<Line>, &'static str> {
    let mut reader = Reader { bytes, at: 0, number: 1 };
    let mut lines = Vec::new();
    while reader.peek().is_some() {
        let line = reader.line()?;
        if !line.tokens.is_empty() {
            lines.push(line);
        }
    }
    Ok(lines)
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    number: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b'\n' {
            self.number += 1;
        }
        Some(byte)
    }

    fn line(&mut self) -> Result<Line, &'static str> {
        let indented = matches!(self.peek(), Some(b' ' | b'\t'));
        let mut line = Line { number: self.number, indented, tokens: Vec::new() };
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.next();
                    if depth == 0 {
                        return Ok(line);
                    }
                }
                b' ' | b'\t' | b'\r' => {
                    self.next();
                }
                b';' => {
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.next();
                    }
                }
                b'(' => {
                    depth += 1;
                    self.next();
                }
                b')' => {
                    depth = depth.checked_sub(1).ok_or("a ) without a (")?;
                    self.next();
                }
                _ => line.tokens.push(self.token()?),
            }
        }
        if depth > 0 { Err("a ( that does not close") } else { Ok(line) }
    }

    fn token(&mut self) -> Result<Token, &'static str> {
        let quoted = self.peek() == Some(b'"');
        if quoted {
            self.next();
        }
        let mut token = Token { bytes: Vec::new(), quoted, escaped: false };
        loop {
            match self.peek() {
                None if quoted => return Err("a quote that does not close"),
                None => return Ok(token),
                Some(b'"') if quoted => {
                    self.next();
                    return Ok(token);
                }
                Some(b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"') if !quoted => {
                    return Ok(token);
                }
                Some(b'\n') => return Err("a quote that does not close"),
                Some(b'\\') => {
                    self.next();
                    token.escaped = true;
                    token.bytes.push(self.escape()?);
                }
                Some(byte) => {
                    self.next();
                    token.bytes.push(byte);
                }
            }
        }
    }

    /// What follows a backslash: three decimal digits, or any character for itself.
    fn escape(&mut self) -> Result<u8, &'static str> {
        let first = self.next().ok_or("a backslash at the end")?;
        if !first.is_ascii_digit() {
            return Ok(first);
        }
        let mut value = u16::from(first - b'0');
        for _ in 0..2 {
            let digit = self.next().filter(u8::is_ascii_digit).ok_or("an escape of few digits")?;
            value = value * 10 + u16::from(digit - b'0');
        }
        u8::try_from(value).ok().ok_or("an escape over 255")
    }
}

/// A string of a TXT record in presentation form: quoted, with `"`, `\` and everything that is not
/// printable ASCII escaped.
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
