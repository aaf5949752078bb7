//! Dumps on their way into MariaDB: rewritten where a statement defines something, never in data.
//!
//! A dump is tokenised just enough to know strings, comments and statements. Statements other than
//! `INSERT` and `REPLACE` are held until they are whole and rewritten; those two stream through, so
//! that memory does not grow with the data.

use crate::sql_statement::{Statement, rewrite};
use std::collections::BTreeMap;
use std::io::{self, Write};
use values::DatabaseUser;

pub use crate::sql_statement::collation;

/// What was seen in a dump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// A statement that adds rows.
    pub rows: bool,
    /// A `CREATE TABLE`.
    pub tables: bool,
    /// The comment that ends each dump, with nothing but comments behind it.
    pub completed: bool,
    /// Statements that were left out as those of a whole server: `USE`, `CREATE DATABASE`.
    pub left_out: u64,
    /// Statements that no dump has and that were left out: how many, by their first word.
    pub foreign: BTreeMap<String, u64>,
}

/// The longest statement that is held, and the longest name or keyword.
const STATEMENT_MAX: usize = 16 << 20;
const WORD_MAX: usize = 4096;
/// The client cuts longer ones off.
const DELIMITER_MAX: usize = 15;
/// Kinds of foreign statements that are told apart.
const FOREIGN_MAX: usize = 20;
/// Bytes that must be at hand before a step in code is decided.
const LOOK_AHEAD: usize = 32;

/// Names of the client's own commands: none stands in a dump, and some start programs.
const CLIENT_COMMANDS: &[&str] = &[
    "SOURCE",
    "SYSTEM",
    "TEE",
    "NOTEE",
    "PAGER",
    "NOPAGER",
    "EDIT",
    "CONNECT",
    "PROMPT",
    "EXIT",
    "QUIT",
    "CHARSET",
    "RESETCONNECTION",
    "EGO",
    "GO",
    "REHASH",
    "STATUS",
    "PRINT",
    "CLEAR",
    "HELP",
    "WARNINGS",
    "NOWARNING",
    "SANDBOX",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    /// In quotes that end with this byte.
    Quoted(u8),
    LineComment,
    BlockComment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// No code of a statement was seen yet.
    Start,
    Held,
    Streamed,
}

/// Rewrites a dump that is written into it, and writes the result to `out`.
///
/// In definitions, collations that only MySQL 8 knows become ones that MariaDB has, and every definer
/// becomes the given user at `localhost`. `CREATE`, `DROP` and `ALTER DATABASE`, `USE`, global
/// settings and those of replication are left out, and so is every statement that dumps do not have:
/// `DO`, `SELECT`, `CALL`, `GRANT`, … A command of the client is an error.
/// [`DumpFilter::finish`] must be called at the end.
pub struct DumpFilter<W> {
    out: W,
    definer: String,
    pending: Vec<u8>,
    state: State,
    mode: Mode,
    /// Inside `/*!NNNNN … */`, whose content is code.
    executable: bool,
    held: Vec<u8>,
    delimiter: Vec<u8>,
    /// The beginning of a line comment.
    comment: Vec<u8>,
    seen: Seen,
}

impl<W: Write> DumpFilter<W> {
    /// A filter that makes `definer` at `localhost` the definer of views, triggers and routines.
    pub fn new(out: W, definer: &DatabaseUser) -> Self {
        Self {
            out,
            definer: format!("`{definer}`@`localhost`"),
            pending: Vec::new(),
            state: State::Code,
            mode: Mode::Start,
            executable: false,
            held: Vec::new(),
            delimiter: b";".to_vec(),
            comment: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Writes what is left. Fails when the dump ends inside a string or a comment.
    pub fn finish(mut self) -> io::Result<(W, Seen)> {
        self.run(true)?;
        if self.state == State::LineComment {
            self.end_comment()?;
        }
        if self.state != State::Code || self.executable {
            return Err(refused("it ends in the middle of a statement"));
        }
        self.end_statement()?;
        self.out.flush()?;
        Ok((self.out, self.seen))
    }

    fn run(&mut self, last: bool) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while !rest.is_empty() {
            let used = match self.state {
                State::Code if !last && rest.len() < LOOK_AHEAD => break,
                State::Code => self.code(rest, last)?,
                State::Quoted(quote) => self.quoted(rest, quote, last)?,
                State::LineComment => self.line_comment(rest)?,
                State::BlockComment => self.block_comment(rest, last)?,
            };
            if used == 0 {
                break;
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    /// One step in code; gives the bytes used, none when more are needed.
    fn code(&mut self, rest: &[u8], last: bool) -> io::Result<usize> {
        let Some(byte) = rest.first().copied() else { return Ok(0) };
        if !self.executable && rest.starts_with(&self.delimiter) {
            let length = self.delimiter.len();
            let delimiter = self.delimiter.clone();
            self.end_statement_with(&delimiter)?;
            return Ok(length);
        }
        if byte.is_ascii_whitespace() {
            return self.emit(rest, 1);
        }
        if byte == b'#' || is_dashes(rest, last) {
            self.state = State::LineComment;
            self.comment.clear();
            return self.line_comment(rest);
        }
        if rest.starts_with(b"/*") {
            return self.open_comment(rest);
        }
        if self.executable && rest.starts_with(b"*/") {
            self.executable = false;
            return self.emit(rest, 2);
        }
        if byte == b'\\' {
            let letter = rest.get(1..2).unwrap_or_default();
            return Err(client_command(&format!("\\{}", letter.escape_ascii())));
        }
        if byte == b';' && self.mode == Mode::Streamed {
            return self.split_here();
        }
        if self.mode == Mode::Streamed {
            let length = rest.iter().skip(1).take_while(|b| is_dull(**b)).count() + 1;
            let length = if is_dull(byte) { self.before_delimiter(rest, length) } else { 1 };
            if matches!(byte, b'\'' | b'"' | b'`') {
                self.state = State::Quoted(byte);
            }
            return self.emit(rest, length);
        }
        if is_word(byte) {
            return self.word(rest, last);
        }
        self.begin(Mode::Held);
        if matches!(byte, b'\'' | b'"' | b'`') {
            self.state = State::Quoted(byte);
        }
        self.emit(rest, 1)
    }

    fn word(&mut self, rest: &[u8], last: bool) -> io::Result<usize> {
        let length = rest.iter().take_while(|b| is_word(**b)).count();
        if length == rest.len() && !last && length < WORD_MAX {
            return Ok(0);
        }
        let length = self.before_delimiter(rest, length);
        if self.mode != Mode::Start {
            return self.emit(rest, length);
        }
        let word = rest.get(..length).unwrap_or_default().to_ascii_uppercase();
        match word.as_slice() {
            b"INSERT" | b"REPLACE" => {
                self.begin(Mode::Streamed);
                self.seen.rows = true;
                let held = std::mem::take(&mut self.held);
                self.out.write_all(&held)?;
            }
            b"DELIMITER" if !self.executable => return self.set_delimiter(rest, last),
            _ if CLIENT_COMMANDS.iter().any(|c| c.as_bytes() == word) => {
                return Err(client_command(&String::from_utf8_lossy(&word)));
            }
            _ => self.begin(Mode::Held),
        }
        self.emit(rest, length)
    }

    /// `DELIMITER ;;` reaches to the end of its line.
    fn set_delimiter(&mut self, rest: &[u8], last: bool) -> io::Result<usize> {
        let end = rest.iter().position(|b| *b == b'\n');
        let Some(end) = end.or(last.then_some(rest.len())) else {
            return if rest.len() < WORD_MAX { Ok(0) } else { Err(refused("a line is too long")) };
        };
        let line = rest.get(..end).unwrap_or_default();
        let argument = line.get(b"DELIMITER".len()..).unwrap_or_default().trim_ascii();
        // mysqldump writes `;;`, phpMyAdmin `$$` or `//`. None of these opens or closes anything else.
        let sign = |b: &u8| b";$/|@_~^!%&:".contains(b);
        if argument.is_empty() || argument.len() > DELIMITER_MAX || !argument.iter().all(sign) {
            return Err(refused("it holds a DELIMITER that is not one to 15 plain signs"));
        }
        self.delimiter = argument.to_vec();
        let held = std::mem::take(&mut self.held);
        self.out.write_all(&held)?;
        self.out.write_all(line)?;
        Ok(end)
    }

    /// How much of a run of plain bytes stands before the delimiter, or before what may become one
    /// with the bytes that follow. The client, too, finds it in the middle of a word.
    fn before_delimiter(&self, rest: &[u8], length: usize) -> usize {
        let delimiter = self.delimiter.as_slice();
        if self.executable || !delimiter.first().is_some_and(|b| is_dull(*b)) {
            return length;
        }
        let begins = |at: &usize| {
            let tail = rest.get(*at..).unwrap_or_default();
            tail.starts_with(delimiter) || delimiter.starts_with(tail)
        };
        (1..length).find(begins).unwrap_or(length)
    }

    fn open_comment(&mut self, rest: &[u8]) -> io::Result<usize> {
        let marker: &[u8] = if rest.starts_with(b"/*M!") { b"/*M!" } else { b"/*!" };
        let version = rest.strip_prefix(marker).unwrap_or_default();
        // The sandbox line is a comment to every server; it must stay in front of all else.
        if rest.starts_with(marker) && !version.starts_with(b"999999") {
            if self.executable {
                return Err(refused("executable comments are nested"));
            }
            self.executable = true;
            let digits = version.iter().take(6).take_while(|b| b.is_ascii_digit()).count();
            return self.emit(rest, marker.len() + digits);
        }
        self.state = State::BlockComment;
        self.emit(rest, 2)
    }

    fn quoted(&mut self, rest: &[u8], quote: u8, last: bool) -> io::Result<usize> {
        let escapes = quote != b'`';
        let plain = rest.iter().take_while(|b| **b != quote && !(escapes && **b == b'\\')).count();
        if plain > 0 {
            return self.emit(rest, plain);
        }
        if rest.first() == Some(&quote) {
            self.state = State::Code; // a doubled quote opens the next string at once
            return self.emit(rest, 1);
        }
        if rest.len() < 2 && !last {
            return Ok(0);
        }
        self.emit(rest, 2.min(rest.len()))
    }

    fn line_comment(&mut self, rest: &[u8]) -> io::Result<usize> {
        let length = rest.iter().take_while(|b| **b != b'\n').count();
        let room = 64_usize.saturating_sub(self.comment.len());
        self.comment.extend(rest.iter().take(length.min(room)));
        if length < rest.len() {
            self.emit(rest, length + 1)?;
            self.end_comment()?;
            return Ok(length + 1);
        }
        self.emit(rest, length)
    }

    fn end_comment(&mut self) -> io::Result<()> {
        self.state = State::Code;
        if self.mode == Mode::Start && self.comment.starts_with(b"-- Dump completed") {
            self.seen.completed = true;
        }
        self.release_comment()
    }

    fn block_comment(&mut self, rest: &[u8], last: bool) -> io::Result<usize> {
        match rest.windows(2).position(|w| w == b"*/") {
            Some(at) => {
                self.state = State::Code;
                self.emit(rest, at + 2)?;
                self.release_comment()?;
                Ok(at + 2)
            }
            None if last => self.emit(rest, rest.len()),
            None => self.emit(rest, rest.len().saturating_sub(1)),
        }
    }

    /// A comment before any code does not wait for the statement behind it.
    fn release_comment(&mut self) -> io::Result<()> {
        if self.mode == Mode::Start && !self.executable {
            let held = std::mem::take(&mut self.held);
            self.out.write_all(&held)?;
        }
        Ok(())
    }

    fn begin(&mut self, mode: Mode) {
        if self.mode == Mode::Start {
            self.mode = mode;
            self.seen.completed = false;
        }
    }

    fn emit(&mut self, rest: &[u8], length: usize) -> io::Result<usize> {
        let bytes = rest.get(..length).unwrap_or_default();
        if self.mode == Mode::Streamed {
            self.out.write_all(bytes)?;
        } else if self.held.len() + bytes.len() > STATEMENT_MAX {
            return Err(refused("a statement without rows is longer than 16 MiB"));
        } else {
            self.held.extend_from_slice(bytes);
        }
        Ok(length)
    }

    /// A semicolon that is not the delimiter still ends a statement for the server: here, too, so that
    /// the next one is looked at.
    fn split_here(&mut self) -> io::Result<usize> {
        if self.executable {
            return Err(refused("an executable comment of it holds the end of a statement"));
        }
        // Apart from what stands before it, with which it could be another delimiter: `_$` and `$$`.
        let delimiter = [b" ".as_slice(), self.delimiter.as_slice()].concat();
        self.end_statement_with(&delimiter)?;
        Ok(1)
    }

    /// The delimiter is no part of what is rewritten: it could be taken for the end of a name.
    fn end_statement_with(&mut self, delimiter: &[u8]) -> io::Result<()> {
        if self.end_statement()? { self.out.write_all(delimiter) } else { Ok(()) }
    }

    /// Whether the statement was kept.
    fn end_statement(&mut self) -> io::Result<bool> {
        let held = std::mem::take(&mut self.held);
        let mut kept = true;
        match self.mode {
            Mode::Start => self.out.write_all(&held)?,
            Mode::Held => match rewrite(&held, &self.definer) {
                Statement::Kept { text, table } => {
                    self.seen.tables |= table;
                    self.out.write_all(&text)?;
                }
                left_out => {
                    self.leave_out(left_out);
                    self.out.write_all(b"\n")?;
                    kept = false;
                }
            },
            Mode::Streamed => {}
        }
        self.mode = Mode::Start;
        Ok(kept)
    }

    fn leave_out(&mut self, statement: Statement) {
        let Statement::Foreign(word) = statement else {
            self.seen.left_out += 1;
            return;
        };
        let room = self.seen.foreign.len() < FOREIGN_MAX || self.seen.foreign.contains_key(&word);
        let word = if room { word } else { "others".to_owned() };
        *self.seen.foreign.entry(word).or_default() += 1;
    }
}

impl<W: Write> Write for DumpFilter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(data);
        self.run(false)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The reason is told to whoever migrates, after "the dump was not loaded:".
fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn client_command(name: &str) -> io::Error {
    refused(&format!("it holds a command of the MySQL client ({name}), which is never run"))
}

/// `--` begins a comment only before white space or the end.
pub(crate) fn is_dashes(rest: &[u8], last: bool) -> bool {
    rest.starts_with(b"--")
        && rest.get(2).map_or(last, |b| b.is_ascii_whitespace() || b.is_ascii_control())
}

pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Bytes that can neither open nor close anything in streamed data.
const fn is_dull(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b',' | b'(' | b')' | b' ' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filtered(dump: &str, chunk: usize) -> io::Result<(String, Seen)> {
        let user = DatabaseUser::parse("shop_u").map_err(io::Error::other)?;
        let mut filter = DumpFilter::new(Vec::new(), &user);
        for part in dump.as_bytes().chunks(chunk) {
            filter.write_all(part)?;
        }
        let (out, seen) = filter.finish()?;
        Ok((String::from_utf8(out).unwrap(), seen))
    }

    #[test]
    fn delimiters_of_other_signs_end_statements() {
        for sign in ["$$", "//", "$", "|", "_$_", "@@@@@@@@@@@@@@@"] {
            let dump = format!(
                "DELIMITER {sign}\nCREATE DEFINER=`root`@`%` PROCEDURE p() BEGIN INSERT INTO t \
                 VALUES ('{sign}'); END{sign}\nINSERT INTO t VALUES (1){sign}\n\
                 CREATE TABLE t (a int) COLLATE utf8mb4_0900_bin{sign}\nUSE other{sign}\n\
                 DELIMITER ;\nUSE other;\n"
            );
            let (out, seen) = filtered(&dump, 3).unwrap();
            assert_eq!((seen.rows, seen.tables, seen.left_out), (true, true, 2), "{sign}");
            assert!(out.contains("DEFINER=`shop_u`@`localhost` PROCEDURE"), "{out}");
            assert!(out.contains(&format!("END{sign}\nINSERT INTO t VALUES (1){sign}\n")), "{out}");
            assert!(out.contains(&format!("COLLATE utf8mb4_bin{sign}\n")), "{out}");
            assert!(out.trim_end().ends_with("\nDELIMITER ;") && !out.contains("USE"), "{out}");
        }
    }

    #[test]
    fn refusals_name_what_they_are_about() {
        let why = |dump: &str| filtered(dump, 5).unwrap_err().to_string();
        assert!(why("SELECT 1; \\! id\n").contains("(\\!)"));
        assert!(why("system id\n").contains("(SYSTEM)"));
        for argument in ["", "\\", "'", "a", "; ;", "@@@@@@@@@@@@@@@@"] {
            assert!(why(&format!("DELIMITER {argument}\nSELECT 1")).contains("DELIMITER"));
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            dump in "([A-Z$]{1,6}|'|;|-|\\$\\$|//|#|\n| |INSERT|USE |DELIMITER (\\$\\$|//|;)\n){0,40}",
            chunk in 1_usize..40,
        ) {
            let whole = filtered(&dump, usize::MAX).ok();
            prop_assert_eq!(whole, filtered(&dump, chunk).ok());
        }
    }
}
