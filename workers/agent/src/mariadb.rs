//! Talking to the server's MariaDB through its own client: statements on standard input, as root over
//! the socket, so that no password exists and nothing stands in arguments.

use crate::error::{Error, Result};
use crate::program::{Output, Program, Run, run};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;
use values::{DatabaseName, DatabaseUser};

/// Runs statements; gives the rows of all of them, a field a text.
pub fn query(statements: &str) -> Result<Vec<Vec<String>>> {
    let output = client("root").stdin(statements.as_bytes()).output()?;
    if !output.success() {
        return Err(refused(&output));
    }
    Ok(rows(&output.text()))
}

/// Runs statements that may each fail by themselves; gives the rows of the others.
pub fn query_each(statements: &str) -> Result<Vec<Vec<String>>> {
    let output = client("root").arg("--force").stdin(statements.as_bytes()).output()?;
    Ok(rows(&output.text()))
}

/// Runs statements of which no rows are expected.
pub fn execute(statements: &str) -> Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    query(statements).map(drop)
}

/// What MariaDB's client says when the server is gone, goes, or has no room for one more: cannot connect,
/// gone away, lost during a query, shutting down, too many connections, killed
/// (mariadb.com/kb/en/mariadb-error-codes). The same may work in a moment.
const AWAY: [&str; 6] =
    ["ERROR 2002 ", "ERROR 2006 ", "ERROR 2013 ", "ERROR 1053 ", "ERROR 1040 ", "ERROR 1927 "];

/// Whoever hears that the server is away tries again for a while.
fn refused(output: &Output) -> Error {
    let said = complaint(output);
    if AWAY.iter().any(|away| said.starts_with(away)) {
        let text = "The server's MariaDB does not answer. Look whether it runs.";
        return Error::new("unavailable", text).because(output.complaint());
    }
    Error::new("database_failed", "The server's MariaDB refused a statement.")
        .because(output.complaint())
}

/// The first thing that MariaDB's client complained about: one line of at most 300 characters.
pub fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    match first_complaint(&said) {
        Some(line) => line,
        None => "its client ended without a word".to_owned(),
    }
}

/// An error before any warning, behind the statement that the client repeats between two rules;
/// control characters are left out.
fn first_complaint(said: &str) -> Option<String> {
    let said = said.rsplit_once("--------------\n").map_or(said, |(_, behind)| behind);
    let lines = || said.lines().filter(|l| !l.trim().is_empty());
    let line = lines().find(|l| l.starts_with("ERROR")).or_else(|| lines().next())?;
    Some(line.chars().filter(|c| !c.is_control()).take(300).collect())
}

/// The client as this database user, prepared to read statements.
pub fn client(user: &str) -> Run<'static> {
    run(Program::Mariadb)
        .args(["--no-defaults", "--protocol=socket", "--sandbox", "--local-infile=0"])
        .args([
            "--binary-mode",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
        ])
        .arg(format!("--user={user}"))
        .limit(Duration::from_secs(3600))
}

/// Fields are apart by tabs; the client escapes those inside.
fn rows(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split('\t').map(unescaped).collect()).collect()
}

fn unescaped(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('0') => out.push('\0'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

/// A name between backticks.
pub fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

/// A database's name where MariaDB reads a pattern: the rights are on this one alone.
pub fn pattern(database: &DatabaseName) -> String {
    name(&escaped(database))
}

/// The same as it stands in the table of rights.
pub fn escaped(database: &DatabaseName) -> String {
    database.as_str().replace('_', "\\_").replace('%', "\\%")
}

/// A text between quotes.
pub fn text(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A user as statements name it: from this server only.
pub fn at_localhost(user: &str) -> String {
    format!("{}@'localhost'", text(user))
}

/// What is there, asked in one go.
#[derive(Debug, Default)]
pub struct Standing {
    pub databases: BTreeSet<String>,
    /// At `localhost`.
    pub users: BTreeSet<String>,
}

/// The server's databases and users.
pub fn standing() -> Result<Standing> {
    let rows = query(
        "SELECT 'd', SCHEMA_NAME FROM information_schema.SCHEMATA;\n\
         SELECT 'u', User FROM mysql.user WHERE Host = 'localhost';",
    )?;
    let mut standing = Standing::default();
    for row in rows {
        match row.as_slice() {
            [kind, name] if kind == "d" => standing.databases.insert(name.clone()),
            [_, name] => standing.users.insert(name.clone()),
            _ => false,
        };
    }
    Ok(standing)
}

/// Several names between parentheses, for `IN`.
pub fn list<'n>(names: impl Iterator<Item = &'n DatabaseName>) -> String {
    let names: Vec<String> = names.map(|n| text(n.as_str())).collect();
    format!("({})", names.join(", "))
}

/// Whether the database exists.
pub fn has_database(database: &DatabaseName) -> Result<bool> {
    let sql = "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ";
    Ok(!query(&format!("{sql}{};", text(database.as_str())))?.is_empty())
}

/// Whether the user exists at `localhost`.
pub fn has_user(user: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM mysql.user WHERE Host = 'localhost' AND User = ";
    Ok(!query(&format!("{sql}{};", text(user)))?.is_empty())
}

/// The statements that make a user with all its rights again; none when there is no such user.
pub fn user_statements(user: &DatabaseUser) -> Result<Option<Vec<String>>> {
    if !has_user(user.as_str())? {
        return Ok(None);
    }
    let who = at_localhost(user.as_str());
    let rows = query(&format!("SHOW CREATE USER {who};\nSHOW GRANTS FOR {who};"))?;
    Ok(Some(rows.into_iter().filter_map(|row| row.into_iter().next()).collect()))
}

/// The statements that give a user its present rights on a database.
pub fn grant_statements(user: &DatabaseUser, database: &DatabaseName) -> Result<Vec<String>> {
    let on = format!(" ON {}.* TO ", pattern(database));
    let all = user_statements(user)?.unwrap_or_default();
    Ok(all.into_iter().filter(|s| s.starts_with("GRANT ") && s.contains(&on)).collect())
}

/// A table's name, rows and checksum.
pub type TableSum = (String, u64, String);

/// Rows and checksum of each table of some databases, so that a later look can tell what has changed.
pub fn table_sums(databases: &[DatabaseName]) -> Result<BTreeMap<DatabaseName, Vec<TableSum>>> {
    let mut sums: BTreeMap<DatabaseName, Vec<TableSum>> =
        databases.iter().map(|name| (name.clone(), Vec::new())).collect();
    if databases.is_empty() {
        return Ok(sums);
    }
    let tables = query(&format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES \
         WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA IN {} ORDER BY TABLE_SCHEMA, TABLE_NAME;",
        list(databases.iter())
    ))?;
    let mut sql = String::new();
    for row in &tables {
        let [database, table] = row.as_slice() else { continue };
        let full = format!("{}.{}", name(database), name(table));
        writeln!(sql, "SELECT COUNT(*) FROM {full};\nCHECKSUM TABLE {full};")
            .map_err(Error::internal)?;
    }
    let found = query(&sql)?;
    for (row, pair) in tables.iter().zip(found.chunks(2)) {
        let [database, table] = row.as_slice() else { continue };
        let field = |row: usize, at: usize| pair.get(row).and_then(|r| r.get(at)).cloned();
        let count = field(0, 0).and_then(|c| c.parse().ok()).unwrap_or(0);
        let sum = (table.clone(), count, field(1, 1).unwrap_or_default());
        if let Some(sums) = DatabaseName::parse(database).ok().and_then(|d| sums.get_mut(&d)) {
            sums.push(sum);
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_told_in_one_short_line() {
        let said = "WARNING: old\n\nERROR 1064 (42000) at line 2: near '\u{1b}[2Jx'\nERROR 2\n";
        let told = "ERROR 1064 (42000) at line 2: near '[2Jx'";
        assert_eq!(first_complaint(said).as_deref(), Some(told));
        let said = format!("--------------\nSELEC\nERROR 3\n--------------\n\n{said}");
        assert_eq!(first_complaint(&said).as_deref(), Some(told));
        assert_eq!(first_complaint(&"é".repeat(900)).unwrap().chars().count(), 300);
        assert_eq!(first_complaint("\n \n"), None);
    }

    #[test]
    fn texts_and_names_cannot_end_early() {
        assert_eq!(text("a'b\\"), "'a''b\\\\'");
        assert_eq!(name("a`b"), "`a``b`");
        let database = DatabaseName::parse("shop_wp").unwrap();
        assert_eq!(pattern(&database), "`shop\\_wp`");
        assert_eq!(rows("a\\tb\tc\\\\d\n"), [["a\tb", "c\\d"]]);
    }
}
