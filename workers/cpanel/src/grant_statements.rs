//! The statements of `mysql.sql` and the entries of `mysql.sql-auth.json`.

use crate::findings::Findings;
use crate::plan::PRIVILEGES;
use crate::sql_statement::{Kind, Token, tokens};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one user at one host.
#[derive(Debug, Default)]
pub(crate) struct At {
    /// Plugin, and hash as the archive writes it.
    pub auth: Option<(String, String)>,
    /// Database pattern → privileges.
    pub grants: Vec<(String, BTreeSet<String>)>,
}

/// User → host → what is known.
pub(crate) type Users = BTreeMap<String, BTreeMap<String, At>>;

/// Reads both files. What the second says goes before the first, which cannot tell the plugins of
/// MySQL 8.
pub(crate) fn read(sql: &[u8], json: &[u8], findings: &mut Findings) -> Users {
    let mut users = Users::new();
    for statement in statements(sql) {
        read_statement(&statement, &mut users, findings);
    }
    read_auth_json(json, &mut users, findings);
    users
}

/// The statements of a file, as their tokens without gaps.
fn statements(bytes: &[u8]) -> Vec<Vec<Token<'_>>> {
    let mut statements = vec![Vec::new()];
    for token in tokens(bytes) {
        match token {
            (Kind::Gap, _) => {}
            (Kind::Sign, b";") => statements.push(Vec::new()),
            _ => statements.last_mut().into_iter().for_each(|s| s.push(token)),
        }
    }
    statements
}

/// Reads tokens one after the other.
struct Cursor<'c, 's> {
    tokens: &'c [Token<'s>],
    at: usize,
}

impl Cursor<'_, '_> {
    fn peek(&self) -> Option<&Token<'_>> {
        self.tokens.get(self.at)
    }

    /// Steps over a keyword or a sign, if it is the next token.
    fn accept(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|(kind, t)| {
            *kind != Kind::Quoted && t.eq_ignore_ascii_case(word.as_bytes())
        });
        self.at += usize::from(found);
        found
    }

    /// The next token's text, out of its quotes.
    fn text(&mut self) -> Option<String> {
        let (kind, token) = self.peek()?;
        let text = if *kind == Kind::Quoted { unquote(token) } else { token.to_vec() };
        self.at += 1;
        String::from_utf8(text).ok()
    }

    /// `'user'@'host'`; the host is `%` when none is named.
    fn account(&mut self) -> Option<(String, String)> {
        let user = self.text()?;
        let host = if self.accept("@") { self.text()? } else { "%".to_owned() };
        Some((user, host.to_ascii_lowercase()))
    }

    /// `IDENTIFIED …` in any of its forms: plugin and hash.
    fn identified(&mut self) -> Option<(String, String)> {
        while self.at < self.tokens.len() && !self.accept("IDENTIFIED") {
            self.at += 1;
        }
        if self.accept("BY") {
            // A password in clear text is not expected, and not read.
            return self
                .accept("PASSWORD")
                .then(|| self.text())
                .flatten()
                .map(|h| (String::new(), h));
        }
        if self.accept("WITH") || self.accept("VIA") {
            let plugin = self.text()?;
            let hash = if self.accept("AS") || self.accept("USING") {
                self.text()?
            } else {
                String::new()
            };
            return Some((plugin, hash));
        }
        None
    }
}

fn read_statement(tokens: &[Token<'_>], users: &mut Users, findings: &mut Findings) {
    let mut cursor = Cursor { tokens, at: 0 };
    if cursor.accept("GRANT") {
        if read_grant(&mut cursor, users, findings).is_none() {
            findings
                .lost("grant:mysql.sql", "A grant in mysql.sql is out of form and is left out.");
        }
    } else if cursor.accept("CREATE") || cursor.accept("ALTER") {
        if !cursor.accept("USER") {
            return;
        }
        for word in ["IF", "NOT", "EXISTS"] {
            cursor.accept(word);
        }
        if let Some((user, host)) = cursor.account() {
            note_auth(users, user, host, cursor.identified());
        }
    } else if cursor.accept("SET")
        && cursor.accept("PASSWORD")
        && cursor.accept("FOR")
        && let Some((user, host)) = cursor.account()
    {
        let hash = cursor.accept("=").then(|| cursor.text()).flatten();
        note_auth(users, user, host, hash.map(|h| (String::new(), h)));
    }
}

fn note_auth(users: &mut Users, user: String, host: String, auth: Option<(String, String)>) {
    let at = users.entry(user).or_default().entry(host).or_default();
    if auth.is_some() {
        at.auth = auth;
    }
}

fn read_grant(
    cursor: &mut Cursor<'_, '_>,
    users: &mut Users,
    findings: &mut Findings,
) -> Option<()> {
    let mut privileges = BTreeSet::new();
    let mut words: Vec<String> = Vec::new();
    let mut columns = false;
    loop {
        if cursor.accept("(") {
            columns = true;
            while !cursor.accept(")") {
                cursor.text()?;
            }
        } else if cursor.accept(",") {
            privileges.insert(std::mem::take(&mut words).join(" "));
        } else if cursor.accept("ON") {
            privileges.insert(words.join(" "));
            break;
        } else {
            words.push(cursor.text()?.to_ascii_uppercase());
        }
    }
    if let Some((Kind::Word, word)) = cursor.peek()
        && [&b"TABLE"[..], b"PROCEDURE", b"FUNCTION"].iter().any(|w| word.eq_ignore_ascii_case(w))
    {
        cursor.at += 1;
    }
    let database = cursor.text()?;
    cursor.accept(".").then_some(())?;
    let table = cursor.text()?;
    cursor.accept("TO").then_some(())?;
    let (user, host) = cursor.account()?;
    let auth = cursor.identified();
    note_auth(users, user.clone(), host.clone(), auth);
    privileges.remove("USAGE");
    if privileges.is_empty() {
        return Some(());
    }
    let item = format!("grant:{user}:{database}.{table}");
    if table != "*" || columns {
        findings.lost(&item, "Rights on single tables and columns are not taken over.");
        return Some(());
    }
    if database == "*" {
        findings.lost(&item, "Rights on the whole server are not given.");
        return Some(());
    }
    let mut kept = BTreeSet::new();
    for privilege in privileges {
        match privilege.as_str() {
            "ALL" | "ALL PRIVILEGES" => {
                kept.insert("ALL PRIVILEGES".to_owned());
            }
            known if PRIVILEGES.contains(&known) => {
                kept.insert(privilege);
            }
            _ => findings
                .lost(&format!("{item}:{privilege}"), "The right is not known or not given."),
        }
    }
    users.entry(user).or_default().entry(host).or_default().grants.push((database, kept));
    Some(())
}

/// `mysql.sql-auth.json`: user → host → plugin and hash. What it says goes before `mysql.sql`, which
/// cannot tell the plugins of MySQL 8.
fn read_auth_json(bytes: &[u8], users: &mut Users, findings: &mut Findings) {
    if bytes.is_empty() {
        return;
    }
    let Ok(serde_json::Value::Object(all)) = serde_json::from_slice(bytes) else {
        let message = "It is not read: no JSON object.";
        findings.lost("database_user:mysql.sql-auth.json", message);
        return;
    };
    for (user, hosts) in all {
        let Some(hosts) = hosts.as_object() else { continue };
        for (host, auth) in hosts {
            let field =
                |key: &str| auth.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
            let auth = (field("auth_plugin"), field("pass_hash"));
            note_auth(users, user.clone(), host.to_ascii_lowercase(), Some(auth));
        }
    }
}

/// What stands in quotes: doubled quotes are one, and in strings a backslash escapes.
fn unquote(token: &[u8]) -> Vec<u8> {
    let Some((quote, rest)) = token.split_first() else { return Vec::new() };
    let body = rest.strip_suffix(&[*quote]).unwrap_or(rest);
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == *quote {
            bytes.next_if_eq(quote);
            out.push(byte);
        } else if byte == b'\\' && *quote != b'`' {
            match bytes.next() {
                // In a name's pattern these two stay escaped, as MySQL keeps them.
                Some(c @ (b'_' | b'%')) => out.extend([b'\\', c]),
                Some(c) => out.push(c),
                None => {}
            }
        } else {
            out.push(byte);
        }
    }
    out
}
