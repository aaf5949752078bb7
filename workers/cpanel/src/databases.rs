//! `mysql/`: which databases there are, and what their dumps hold.

use crate::account::{Database, DumpState};
use crate::findings::Findings;
use crate::members::Members;
use crate::sql_statement::{Kind, tokens};
use std::collections::{BTreeMap, BTreeSet};
use values::{DatabaseName, RelPath};

/// Data of the webmail and of cPanel itself, which can lie among the customer's.
const OF_CPANEL: &[&str] =
    &["roundcube", "horde", "openfileslimit", "cphulkd", "eximstats", "leechprotect", "modsec"];

/// Reads the databases in the order of their names.
#[must_use]
pub(crate) fn parse(members: &Members, findings: &mut Findings) -> Vec<Database> {
    let mut stems: BTreeSet<String> = BTreeSet::new();
    let mut dumps: BTreeMap<String, String> = BTreeMap::new();
    for path in members.dumps.keys() {
        if let Some(stem) = stem(path) {
            dumps.entry(stem.to_owned()).or_insert_with(|| path.clone());
            stems.insert(stem.to_owned());
        }
    }
    for (file, _) in members.below("mysql") {
        stems.extend(file.strip_suffix(".create").map(str::to_owned));
    }
    let mut databases = Vec::new();
    for stem in stems {
        if OF_CPANEL.contains(&stem.as_str()) {
            findings
                .lost(&format!("database:{stem}"), "It belongs to cPanel's webmail or services.");
            continue;
        }
        match DatabaseName::parse(&stem) {
            Ok(name) => databases.push(database(name, dumps.get(&stem), members, findings)),
            Err(invalid) => findings.lost(&format!("database:{stem}"), format!("The {invalid}.")),
        }
    }
    databases
}

/// `mysql/NAME.sql` or `mysql/NAME.sql.gz`.
fn stem(path: &str) -> Option<&str> {
    let file = path.strip_prefix("mysql/")?;
    file.strip_suffix(".sql").or_else(|| file.strip_suffix(".sql.gz"))
}

fn database(
    name: DatabaseName,
    path: Option<&String>,
    members: &Members,
    findings: &mut Findings,
) -> Database {
    let create = members.text(&format!("mysql/{name}.create")).unwrap_or_default();
    let (charset, collation) = defaults(create.as_bytes());
    let scanned = path.and_then(|p| members.dumps.get(p));
    let dump = scanned.map_or(DumpState::Placeholder, |d| d.state());
    match dump {
        DumpState::Full => {}
        DumpState::WithoutData => {
            findings.warn(
                "dump_without_data",
                name.as_str(),
                "Its dump holds tables without rows.",
            );
        }
        DumpState::Placeholder => {
            findings.warn(
                "dump_placeholder",
                name.as_str(),
                "Its dump holds neither tables nor rows.",
            );
        }
        DumpState::Incomplete => {
            let message = "Its dump lacks the line that ends a dump: rows may be missing.";
            findings.warn("dump_incomplete", name.as_str(), message);
        }
    }
    if let Some(foreign) = scanned.map(|d| &d.seen.foreign).filter(|f| !f.is_empty()) {
        let list: Vec<String> = foreign.iter().map(|(word, n)| format!("{word} ({n})")).collect();
        let message = format!(
            "Its dump holds statements that no dump has. They are not carried out: {}.",
            list.join(", ")
        );
        findings.lost(&format!("statements:{name}"), message);
    }
    let bytes = scanned.map_or(0, |d| d.bytes);
    let member = path.and_then(|p| RelPath::parse(p).ok());
    Database { name, charset, collation, member, dump, bytes }
}

/// Charset and collation of a `CREATE DATABASE`; the statement itself is never run.
fn defaults(create: &[u8]) -> (Option<String>, Option<String>) {
    let words: Vec<String> = tokens(create)
        .into_iter()
        .filter(|(kind, _)| *kind == Kind::Word)
        .map(|(_, t)| String::from_utf8_lossy(t).into_owned())
        .collect();
    let after = |names: &[&str]| {
        let at = words.windows(names.len()).position(|w| {
            w.iter().zip(names).all(|(word, name)| word.eq_ignore_ascii_case(name))
        })?;
        let value = words.get(at + names.len())?.to_ascii_lowercase();
        let clean =
            value.len() <= 64 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        clean.then_some(value)
    };
    (after(&["CHARACTER", "SET"]).or_else(|| after(&["CHARSET"])), after(&["COLLATE"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_a_create_file() {
        let text = b"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci */ /*!80016 DEFAULT ENCRYPTION='N' */;";
        assert_eq!(defaults(text), (Some("utf8mb4".into()), Some("utf8mb4_0900_ai_ci".into())));
        assert_eq!(defaults(b""), (None, None));
    }
}
