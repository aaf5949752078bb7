//! Configuration files of applications, where a database or its user got another name or password.

use crate::beneath::Beneath;
use crate::error::Result;
use crate::job::{Job, read_json, write_json};
use crate::layout;
use cpanel::plan::{Credential, Plan, Resource};
use cpanel::secret::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Larger files are no configuration.
pub const SIZE_MAX: u64 = 256 << 10;

/// What is written anew: old name → new one, and old name of a user → its new password.
#[derive(Debug, Default)]
pub struct Rewrites {
    databases: BTreeMap<String, String>,
    users: BTreeMap<String, String>,
    passwords: BTreeMap<String, Secret>,
}

/// Below the job's staging.
pub const PASSWORDS: &str = "new-passwords.json";

fn passwords_file(job: &Job<'_>) -> PathBuf {
    layout::staging(job.id).join(PASSWORDS)
}

/// New passwords for the plan's users whose old one cannot be used, by their old name. Made once for
/// the job, so that a repeated step uses the same.
pub fn new_passwords(job: &Job<'_>, plan: &Plan) -> Result<BTreeMap<String, Secret>> {
    if let Some(known) = read_json(&passwords_file(job))? {
        return Ok(known);
    }
    let mut made = BTreeMap::new();
    for operation in &plan.operations {
        if let Resource::DatabaseUser { source, credential: Credential::New, .. } =
            &operation.resource
        {
            let secret = Secret::new(hex::encode(rand::random::<[u8; 16]>()));
            made.insert(source.to_string(), secret);
        }
    }
    Beneath::private_dir(&layout::staging(job.id))?;
    write_json(&passwords_file(job), &made)?;
    Ok(made)
}

impl Rewrites {
    /// What the plan changes.
    pub fn of(job: &Job<'_>, plan: &Plan) -> Result<Self> {
        let mut all = Self { passwords: new_passwords(job, plan)?, ..Self::default() };
        for operation in &plan.operations {
            match &operation.resource {
                Resource::Database { name, source, .. } if name != source => {
                    all.databases.insert(source.to_string(), name.to_string());
                }
                Resource::DatabaseUser { name, source, .. } if name.as_str() != source.as_str() => {
                    all.users.insert(source.to_string(), name.to_string());
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// The file with new names and passwords, and the old name of the user that got a new password in
    /// it; none when it has none of the old ones.
    pub fn apply(&self, bytes: &[u8]) -> Option<(Vec<u8>, Option<&str>)> {
        let text = std::str::from_utf8(bytes).ok()?;
        let users = self.users.keys().chain(self.passwords.keys());
        let user = users.into_iter().find(|u| has_word(text, u));
        if user.is_none() && !self.databases.keys().any(|d| has_word(text, d)) {
            return None;
        }
        let password = user.and_then(|u| self.passwords.get(u));
        let lines = text.split_inclusive('\n').map(|line| self.line(line, password));
        let new = lines.collect::<String>();
        let with_password = user.filter(|_| password.is_some()).map(String::as_str);
        (new != text).then(|| (new.into_bytes(), with_password))
    }

    /// A user may be called as its database is: what the line is about decides.
    fn line(&self, line: &str, password: Option<&Secret>) -> String {
        let lower = line.to_ascii_lowercase();
        if let Some(password) = password
            && ["pass", "pwd"].iter().any(|w| lower.contains(w))
            && let Some(new) = with_value(line, password.reveal())
        {
            return new;
        }
        let (first, second) = if lower.contains("user") || lower.contains("login") {
            (&self.users, &self.databases)
        } else {
            (&self.databases, &self.users)
        };
        for (old, new) in first.iter().chain(second) {
            if has_word(line, old) {
                return replace_word(line, old, new);
            }
        }
        line.to_owned()
    }
}

/// By its name, a file in which applications keep how they reach their database.
pub fn is_config(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_ascii_lowercase();
    if name.starts_with(".env") {
        return true;
    }
    let kind = name.rsplit('.').next().unwrap_or_default();
    ["php", "inc", "ini", "yml", "yaml", "json", "xml", "env", "conf", "cfg"].contains(&kind)
        && ["conf", "setting", "env", "database", "db", "parameters", "conn", "local"]
            .iter()
            .any(|w| name.contains(w))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.$".contains(c)
}

fn has_word(text: &str, word: &str) -> bool {
    find_word(text, word).is_some()
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = text.get(..*at).and_then(|t| t.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|t| t.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn replace_word(text: &str, old: &str, new: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = find_word(rest, old) {
        out.push_str(rest.get(..at).unwrap_or_default());
        out.push_str(new);
        rest = rest.get(at + old.len()..).unwrap_or_default();
    }
    out + rest
}

/// The line with its value replaced: the last quoted text, or what stands behind `=` or `:`.
fn with_value(line: &str, value: &str) -> Option<String> {
    let body = line.trim_end();
    let end = line.get(body.len()..)?;
    let closing = body.rfind(['\'', '"']);
    if let Some(closing) = closing {
        let quote = body.get(closing..)?.chars().next()?;
        let opening = body.get(..closing)?.rfind(quote)?;
        let (head, tail) = (body.get(..=opening)?, body.get(closing..)?);
        return Some(format!("{head}{value}{tail}{end}"));
    }
    let at = body.find(['=', ':'])?;
    let head = body.get(..=at)?;
    let gap = if body.get(at + 1..)?.starts_with(' ') { " " } else { "" };
    Some(format!("{head}{gap}{value}{end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrites() -> Rewrites {
        Rewrites {
            databases: BTreeMap::from([("shop_wp".into(), "shop_wp_2".into())]),
            users: BTreeMap::from([("shop_wp".into(), "shop_u".into())]),
            passwords: BTreeMap::from([("shop_wp".into(), Secret::new("n3w"))]),
        }
    }

    #[test]
    fn names_and_passwords_go_where_they_belong() {
        let old = "<?php\ndefine('DB_NAME', 'shop_wp');\ndefine( 'DB_USER', 'shop_wp' );\n\
                   define('DB_PASSWORD', 'o\"ld');\n$x = 'shop_wp_backup';\n";
        let new = String::from_utf8(rewrites().apply(old.as_bytes()).unwrap().0).unwrap();
        assert!(new.contains("define('DB_NAME', 'shop_wp_2');"), "{new}");
        assert!(new.contains("define( 'DB_USER', 'shop_u' );"), "{new}");
        assert!(new.contains("define('DB_PASSWORD', 'n3w');"), "{new}");
        assert!(new.contains("'shop_wp_backup'"), "{new}");
        let env = "DB_DATABASE=shop_wp\nDB_USERNAME=shop_wp\nDB_PASSWORD=old\nAPP_KEY=x\n";
        let new = String::from_utf8(rewrites().apply(env.as_bytes()).unwrap().0).unwrap();
        assert_eq!(new, "DB_DATABASE=shop_wp_2\nDB_USERNAME=shop_u\nDB_PASSWORD=n3w\nAPP_KEY=x\n");
    }

    #[test]
    fn other_files_stay() {
        assert!(rewrites().apply(b"define('DB_NAME', 'other');").is_none());
        assert!(is_config(Path::new("a/wp-config.php")) && is_config(Path::new(".env.local")));
        assert!(!is_config(Path::new("index.php")) && !is_config(Path::new("db.sql")));
    }
}
