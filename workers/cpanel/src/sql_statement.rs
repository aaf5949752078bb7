//! One statement of a dump that is not data: kept, rewritten or left out.

use crate::sql::{is_dashes, is_word};

/// What becomes of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Kept {
        text: Vec<u8>,
        /// Makes a table.
        table: bool,
    },
    /// Dumps have it, but it has no place here.
    LeftOut,
    /// No dump has it; it is called so in the report.
    Foreign(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Word,
    /// In any of the three quotes.
    Quoted,
    /// White space, comments, and the marks around executable comments.
    Gap,
    Sign,
}

pub(crate) type Token<'s> = (Kind, &'s [u8]);

/// The collation of MariaDB that stands in for one of MySQL 8; none when the name is MariaDB's own.
#[must_use]
pub fn collation(name: &str) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase();
    if !lower.starts_with("utf8mb4_") || !lower.contains("0900_") {
        return None;
    }
    Some(if lower.ends_with("_bin") { "utf8mb4_bin" } else { "utf8mb4_unicode_ci" })
}

/// Rewrites a whole statement. `definer` is the text that replaces each definer.
///
/// What is judged is the text that will be sent: a definer called `TRIGGER` makes no trigger.
pub(crate) fn rewrite(statement: &[u8], definer: &str) -> Statement {
    let text = rewritten(statement, definer);
    let tokens = tokens(&text);
    let mut words = tokens.iter().filter(|(kind, _)| *kind != Kind::Gap).map(|(_, t)| upper(t));
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match fate(&tokens, &first, &second) {
        Fate::Kept => Statement::Kept { table: first == b"CREATE" && second == b"TABLE", text },
        Fate::LeftOut => Statement::LeftOut,
        Fate::Foreign => Statement::Foreign(shown(&first)),
    }
}

/// The statement with the definer and collations that it gets here.
fn rewritten(statement: &[u8], definer: &str) -> Vec<u8> {
    let tokens = tokens(statement);
    let mut text = Vec::with_capacity(statement.len());
    let mut at = 0;
    while let Some((kind, token)) = tokens.get(at) {
        if *kind == Kind::Word
            && token.eq_ignore_ascii_case(b"DEFINER")
            && let Some(end) = end_of_definer(&tokens, at + 1)
        {
            text.extend_from_slice(b"DEFINER=");
            text.extend_from_slice(definer.as_bytes());
            at = end;
            continue;
        }
        let name = if *kind == Kind::Word { std::str::from_utf8(token).unwrap_or("") } else { "" };
        match collation(name) {
            Some(known) => text.extend_from_slice(known.as_bytes()),
            None => text.extend_from_slice(token),
        }
        at += 1;
    }
    text
}

/// What a statement is to a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    LeftOut,
    Foreign,
}

/// What a dump makes, and beside it what only whoever runs the server makes.
const MADE: &[&str] = &[
    "TABLE",
    "VIEW",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "EVENT",
    "INDEX",
    "KEY",
    "SEQUENCE",
    "PACKAGE",
];
const NEVER_MADE: &[&str] =
    &["USER", "ROLE", "SERVER", "TABLESPACE", "LOGFILE", "UNDO", "INSTANCE"];
/// Of these, a body may hold statements of its own.
const WITH_BODY: &[&str] = &["TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE"];
/// Settings of servers and of replication, which a dump carries along.
const SERVER_SETTINGS: &[&str] =
    &["GLOBAL", "PERSIST", "PERSIST_ONLY", "GTID_PURGED", "SQL_LOG_BIN", "PASSWORD"];
/// Would lift the limit that keeps a dump from computing for ever; also from inside a routine.
const TIME_LIMIT: &[&str] = &["MAX_STATEMENT_TIME"];

fn fate(tokens: &[Token<'_>], first: &[u8], second: &[u8]) -> Fate {
    let has = |names: &[&str]| tokens.iter().any(|token| is_one_of(token, names));
    let bare = |token: &'_ [u8]| {
        token.strip_prefix(b"`").and_then(|t| t.strip_suffix(b"`")).map(<[u8]>::to_vec)
    };
    let lifts = |token: &[u8]| {
        is_any(token, TIME_LIMIT) || bare(token).is_some_and(|t| is_any(&t, TIME_LIMIT))
    };
    if tokens.iter().any(|(_, token)| lifts(token)) {
        return Fate::Foreign;
    }
    let makes = matches!(first, b"CREATE" | b"ALTER" | b"DROP");
    // The client sends what stands between two delimiters in one go, and the server would carry out
    // each of several statements in it.
    if is_several(tokens) && !(makes && has(WITH_BODY)) {
        return Fate::Foreign;
    }
    let kept_if = |kept: bool| if kept { Fate::Kept } else { Fate::Foreign };
    match first {
        b"CREATE" | b"DROP" | b"ALTER" if matches!(second, b"DATABASE" | b"SCHEMA") => {
            Fate::LeftOut
        }
        b"CREATE" | b"DROP" | b"ALTER" => {
            let of_server = NEVER_MADE.iter().any(|n| n.as_bytes() == second);
            kept_if(!of_server && has(MADE))
        }
        b"USE" | b"CHANGE" | b"FLUSH" | b"RESET" | b"PURGE" => Fate::LeftOut,
        b"SET" if has(SERVER_SETTINGS) => Fate::LeftOut,
        b"SET" => kept_if(second != b"STATEMENT" && !computes(tokens)),
        b"DO" | b"SELECT" => kept_if(sets_sequence(tokens)),
        b"START" => kept_if(second == b"TRANSACTION"),
        b"ANALYZE" => kept_if(second == b"TABLE"),
        // Not `BEGIN NOT ATOMIC`, behind which a whole program may stand.
        b"BEGIN" => kept_if(matches!(second, b"" | b"WORK")),
        b"LOCK" | b"UNLOCK" | b"COMMIT" | b"ROLLBACK" | b"TRUNCATE" => Fate::Kept,
        _ => Fate::Foreign,
    }
}

fn is_one_of(token: &Token<'_>, names: &[&str]) -> bool {
    token.0 == Kind::Word && is_any(token.1, names)
}

fn is_any(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|n| word.eq_ignore_ascii_case(n.as_bytes()))
}

/// Whether something stands behind a semicolon.
fn is_several(tokens: &[Token<'_>]) -> bool {
    let mut code = tokens.iter().filter(|(kind, _)| *kind != Kind::Gap);
    code.any(|(_, t)| *t == b";") && code.next().is_some()
}

/// Whether a setting calls functions other than those by which programs fall back on a default.
fn computes(tokens: &[Token<'_>]) -> bool {
    let code: Vec<&Token<'_>> = tokens.iter().filter(|(kind, _)| *kind != Kind::Gap).collect();
    let known = |before: Option<&&Token<'_>>| before.is_some_and(|t| is_one_of(t, &["IFNULL"]));
    let called = code.iter().enumerate().filter(|(_, t)| t.1 == b"(");
    called.into_iter().any(|(at, _)| !known(at.checked_sub(1).and_then(|n| code.get(n))))
}

/// `SELECT SETVAL(name, 1, 0)`: where a sequence of MariaDB's stands.
fn sets_sequence(tokens: &[Token<'_>]) -> bool {
    let mut code = tokens.iter().filter(|(kind, _)| *kind != Kind::Gap).skip(1);
    if !code.next().is_some_and(|t| is_one_of(t, &["SETVAL"])) {
        return false;
    }
    let rest: Vec<&[u8]> = code.map(|(_, t)| *t).filter(|t| *t != b";").collect();
    let number = |t: &[u8]| !t.is_empty() && t.iter().all(u8::is_ascii_digit);
    matches!(rest.as_slice(), [b"(", name, b",", value, b",", round, b")"]
        if name.first() == Some(&b'`') && number(value) && number(round))
}

/// A keyword as a report names it.
fn shown(word: &[u8]) -> String {
    let word: String = String::from_utf8_lossy(word).chars().take(20).collect();
    if word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !word.is_empty() {
        word
    } else {
        "others".to_owned()
    }
}

/// Where a definer ends that begins after the word: `= account`, else none.
fn end_of_definer(tokens: &[Token<'_>], from: usize) -> Option<usize> {
    let equals = skip_gaps(tokens, from);
    if tokens.get(equals)?.1 != b"=" {
        return None;
    }
    let name = skip_gaps(tokens, equals + 1);
    if !matches!(tokens.get(name)?.0, Kind::Word | Kind::Quoted) {
        return None;
    }
    let at = skip_gaps(tokens, name + 1);
    match tokens.get(at).map(|t| t.1) {
        Some(b"@") => {
            let host = skip_gaps(tokens, at + 1);
            matches!(tokens.get(host)?.0, Kind::Word | Kind::Quoted).then_some(host + 1)
        }
        // CURRENT_USER()
        Some(b"(") => Some(skip_gaps(tokens, at + 1) + 1),
        _ => Some(name + 1),
    }
}

fn skip_gaps(tokens: &[Token<'_>], from: usize) -> usize {
    let gaps = tokens.iter().skip(from).take_while(|(kind, t)| *kind == Kind::Gap && is_space(t));
    from + gaps.count()
}

fn is_space(token: &[u8]) -> bool {
    token.iter().all(u8::is_ascii_whitespace)
}

fn upper(token: &[u8]) -> Vec<u8> {
    token.to_ascii_uppercase()
}

/// Cuts a statement into tokens that, joined, are the statement again.
pub(crate) fn tokens(mut rest: &[u8]) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    while let Some(byte) = rest.first().copied() {
        let (kind, length) = match byte {
            b'\'' | b'"' | b'`' => (Kind::Quoted, quoted(rest, byte)),
            b'#' => (Kind::Gap, line(rest)),
            b'-' if is_dashes(rest, true) => (Kind::Gap, line(rest)),
            b'/' if rest.starts_with(b"/*") => (Kind::Gap, comment(rest)),
            b'*' if rest.starts_with(b"*/") => (Kind::Gap, 2),
            _ if byte.is_ascii_whitespace() => {
                (Kind::Gap, rest.iter().take_while(|b| b.is_ascii_whitespace()).count())
            }
            _ if is_word(byte) => (Kind::Word, rest.iter().take_while(|b| is_word(**b)).count()),
            _ => (Kind::Sign, 1),
        };
        let (token, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        tokens.push((kind, token));
        rest = tail;
    }
    tokens
}

fn line(rest: &[u8]) -> usize {
    rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |at| at + 1)
}

/// The mark of an executable comment, or a plain comment whole.
fn comment(rest: &[u8]) -> usize {
    for marker in [&b"/*!"[..], b"/*M!"] {
        if let Some(version) = rest.strip_prefix(marker)
            && !version.starts_with(b"999999")
        {
            let digits = version.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
            return marker.len() + digits;
        }
    }
    let body = rest.get(2..).unwrap_or_default();
    body.windows(2).position(|w| w == b"*/").map_or(rest.len(), |at| at + 4)
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        at += 1;
        if *byte == b'\\' && quote != b'`' {
            at += 1;
        } else if *byte == quote {
            return at;
        }
    }
    rest.len()
}
