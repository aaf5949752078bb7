//! `mysql.sql` and `mysql.sql-auth.json`: database users, how they prove themselves, what they may do.

use crate::account::{Database, DatabaseAuth, DatabaseLogin};
use crate::findings::Findings;
use crate::members::Members;
use crate::secret::Secret;
use crate::sql_statement::{Kind, Token, tokens};
use std::collections::{BTreeMap, BTreeSet};
use values::{DatabaseName, DatabaseUser, Username};

/// Privileges on a database that are taken over; `ALL PRIVILEGES` stays what it is.
pub const PRIVILEGES: &[&str] = &[
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "INDEX", "ALTER", "REFERENCES",
    "CREATE TEMPORARY TABLES", "LOCK TABLES", "EXECUTE", "CREATE VIEW", "SHOW VIEW",
    "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER", "DELETE HISTORY",
];

/// What is known of one user at one host.
#[derive(Debug, Default)]
struct At {
    /// Plugin, and hash as the archive writes it.
    auth: Option<(String, String)>,
    /// Database pattern → privileges.
    grants: Vec<(String, BTreeSet<String>)>,
}

type Users = BTreeMap<String, BTreeMap<String, At>>;

/// Reads the users in the order of their names. `local_hosts` are the source's own names and
/// addresses: a user there becomes one at `localhost`. The account's own system user is left out:
/// cPanel gives it every database for its tools.
#[must_use]
pub(crate) fn parse(
    members: &Members,
    system_user: &Username,
    local_hosts: &BTreeSet<String>,
    databases: &[Database],
    findings: &mut Findings,
) -> Vec<DatabaseLogin> {
    let mut users = Users::new();
    let bytes = members.texts.get("mysql.sql").map(Vec::as_slice).unwrap_or_default();
    for statement in statements(bytes) {
        read_statement(&statement, &mut users, findings);
    }
    let bytes = members.texts.get("mysql.sql-auth.json").map(Vec::as_slice).unwrap_or_default();
    read_auth_json(bytes, &mut users, findings);
    let mut logins = Vec::new();
    for (name, hosts) in users {
        if name == system_user.as_str() {
            continue;
        }
        match DatabaseUser::parse(&name) {
            Ok(name) => logins.extend(login(name, hosts, local_hosts, databases, findings)),
            Err(invalid) => findings.lost(&format!("database_user:{name}"), format!("The {invalid}.")),
        }
    }
    logins
}

fn login(
    name: DatabaseUser,
    hosts: BTreeMap<String, At>,
    local_hosts: &BTreeSet<String>,
    databases: &[Database],
    findings: &mut Findings,
) -> Option<DatabaseLogin> {
    let mut remote_hosts = BTreeSet::new();
    let mut auth = None;
    let mut grants: BTreeMap<DatabaseName, BTreeSet<String>> = BTreeMap::new();
    let mut local = false;
    // `localhost` first: its password is the one that the account's applications use.
    let rank = |host: &str| if host == "localhost" { 0 } else { 1 };
    let mut ordered: Vec<(String, At)> = hosts.into_iter().collect();
    ordered.sort_by_key(|(host, _)| rank(host));
    for (host, at) in ordered {
        let everywhere = host == "%";
        if !everywhere && !local_hosts.contains(&host) {
            remote_hosts.insert(host);
            continue;
        }
        if everywhere {
            remote_hosts.insert(host);
        }
        local = true;
        if auth.is_none() {
            auth = at.auth.map(|(plugin, hash)| usable(&plugin, &hash));
        }
        for (pattern, privileges) in at.grants {
            for database in matching(&pattern, databases, &name, findings) {
                grants.entry(database).or_default().extend(privileges.iter().cloned());
            }
        }
    }
    for host in &remote_hosts {
        findings.lost(&format!("database_host:{name}@{host}"), "Users are made at localhost only.");
    }
    if !local {
        return None;
    }
    for privileges in grants.values_mut() {
        if privileges.contains("ALL PRIVILEGES") {
            privileges.retain(|p| p == "ALL PRIVILEGES");
        }
    }
    let auth = auth.unwrap_or_else(|| DatabaseAuth::Unusable("it has no password".to_owned()));
    if let DatabaseAuth::Unusable(why) = &auth {
        let message = format!("The old password cannot be kept ({why}); a new one is made.");
        findings.warn("database_password_new", name.as_str(), message);
    }
    Some(DatabaseLogin { name, auth, grants, remote_hosts })
}

/// Brings a hash to the one form that MariaDB verifies, or says why it cannot.
fn usable(plugin: &str, hash: &str) -> DatabaseAuth {
    let unusable = |why: &str| DatabaseAuth::Unusable(why.to_owned());
    if !plugin.is_empty() && !plugin.eq_ignore_ascii_case("mysql_native_password") {
        return unusable("its kind of password is not known to MariaDB");
    }
    if hash.is_empty() {
        return unusable("it has no password");
    }
    // The JSON file has the text `*HEX` once more in hex.
    let decoded = hex::decode(hash).ok().and_then(|b| String::from_utf8(b).ok());
    let text = match decoded {
        Some(inner) if inner.starts_with('*') || inner.starts_with('-') => inner,
        _ => hash.to_owned(),
    };
    let digits = text.strip_prefix(['*', '-']).unwrap_or_default();
    if digits.len() == 40 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return DatabaseAuth::Native(Secret::new(format!("*{}", digits.to_ascii_uppercase())));
    }
    unusable("its hash is of a form that MariaDB refuses")
}

/// The account's databases that a grant's pattern means. Only databases of the archive can be meant,
/// and no pattern is passed on: on a shared server `shop_%` would reach a neighbour's `shopx`.
fn matching(
    pattern: &str,
    databases: &[Database],
    user: &DatabaseUser,
    findings: &mut Findings,
) -> Vec<DatabaseName> {
    let literal: String = pattern.replace("\\_", "_").replace("\\%", "%");
    if let Some(exact) = databases.iter().find(|d| d.name.as_str() == literal) {
        return vec![exact.name.clone()];
    }
    let found: Vec<DatabaseName> =
        databases.iter().map(|d| &d.name).filter(|n| like(pattern, n.as_str())).cloned().collect();
    if found.is_empty() {
        let item = format!("grant:{user}:{literal}");
        findings.lost(&item, "The archive holds no such database.");
    } else {
        let message = format!("Its rights on {literal} are given on each of the account's databases that match.");
        findings.warn("grant_pattern", user.as_str(), message);
    }
    found
}

/// SQL's LIKE over a short name, without backtracking beyond the last `%`.
fn like(pattern: &str, text: &str) -> bool {
    let mut parts: Vec<(char, bool)> = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => parts.extend(chars.next().map(|c| (c, true))),
            c => parts.push((c, false)),
        }
    }
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(c) = text.get(t) {
        match parts.get(p) {
            Some(('%', false)) => {
                star = Some((p, t));
                p += 1;
            }
            Some(('_', false)) => (p, t) = (p + 1, t + 1),
            Some((want, _)) if want == c => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    parts.iter().skip(p).all(|part| *part == ('%', false))
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
        let found = self
            .peek()
            .is_some_and(|(kind, t)| *kind != Kind::Quoted && t.eq_ignore_ascii_case(word.as_bytes()));
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
            return self.accept("PASSWORD").then(|| self.text()).flatten().map(|h| (String::new(), h));
        }
        if self.accept("WITH") || self.accept("VIA") {
            let plugin = self.text()?;
            let hash = if self.accept("AS") || self.accept("USING") { self.text()? } else { String::new() };
            return Some((plugin, hash));
        }
        None
    }
}

fn read_statement(tokens: &[Token<'_>], users: &mut Users, findings: &mut Findings) {
    let mut cursor = Cursor { tokens, at: 0 };
    if cursor.accept("GRANT") {
        if read_grant(&mut cursor, users, findings).is_none() {
            findings.warn("grant_unread", "mysql.sql", "A grant is out of form and is left out.");
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
    } else if cursor.accept("SET") && cursor.accept("PASSWORD") && cursor.accept("FOR")
        && let Some((user, host)) = cursor.account() {
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

fn read_grant(cursor: &mut Cursor<'_, '_>, users: &mut Users, findings: &mut Findings) -> Option<()> {
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
        && [&b"TABLE"[..], b"PROCEDURE", b"FUNCTION"].iter().any(|w| word.eq_ignore_ascii_case(w)) {
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
            _ => findings.lost(&format!("{item}:{privilege}"), "The right is not known or not given."),
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
        findings.warn("database_auth_unreadable", "mysql.sql-auth.json", message);
        return;
    };
    for (user, hosts) in all {
        let Some(hosts) = hosts.as_object() else { continue };
        for (host, auth) in hosts {
            let field = |key: &str| auth.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::DumpState;
    use proptest::prelude::*;

    fn read(sql: &str, json: &str, databases: &[&str]) -> (Vec<DatabaseLogin>, Findings) {
        let mut members = Members::default();
        members.texts.insert("mysql.sql".to_owned(), sql.as_bytes().to_vec());
        members.texts.insert("mysql.sql-auth.json".to_owned(), json.as_bytes().to_vec());
        let databases: Vec<Database> = databases
            .iter()
            .map(|name| Database {
                name: DatabaseName::parse(name).unwrap(),
                charset: None,
                collation: None,
                member: None,
                dump: DumpState::Full,
                bytes: 0,
            })
            .collect();
        let local = ["localhost", "192.0.2.10"].map(str::to_owned).into();
        let user = Username::parse("shop").unwrap();
        let mut findings = Findings::default();
        let logins = parse(&members, &user, &local, &databases, &mut findings);
        (logins, findings)
    }

    const HASH: &str = "*3B8C43D917F6C9960FA7AD6B0E0A29F3AED701D0";

    #[test]
    fn hosts_collapse_and_the_system_user_goes() {
        let sql = format!(
            "GRANT USAGE ON *.* TO 'shop'@'localhost' IDENTIFIED BY PASSWORD '{HASH}';\n\
             GRANT USAGE ON *.* TO 'shop_u'@'localhost' IDENTIFIED BY PASSWORD '{HASH}';\n\
             GRANT USAGE ON *.* TO 'shop_u'@'192.0.2.10' IDENTIFIED BY PASSWORD '{HASH}';\n\
             GRANT SELECT, CREATE TEMPORARY TABLES, SUPER ON `shop\\_wp`.* TO 'shop_u'@'192.0.2.10' WITH GRANT OPTION;\n\
             GRANT ALL PRIVILEGES ON `shop\\_wp`.* TO 'shop_u'@'203.0.113.9';\n\
             GRANT ALL PRIVILEGES ON *.* TO 'shop_u'@'localhost';\n\
             GRANT ALL ON `mysql`.* TO 'shop_u'@'localhost';"
        );
        let (logins, findings) = read(&sql, "", &["shop_wp"]);
        assert_eq!(logins.len(), 1);
        let grants: Vec<_> = logins[0].grants.values().next().unwrap().iter().cloned().collect();
        assert_eq!(grants, ["CREATE TEMPORARY TABLES", "SELECT"]);
        assert_eq!(logins[0].auth, DatabaseAuth::Native(Secret::new(HASH)));
        assert_eq!(findings.not_transferable.len(), 4, "{findings:?}");
    }

    #[test]
    fn hashes_of_mysql_8() {
        let json = r#"{"a":{"localhost":{"auth_plugin":"mysql_native_password","pass_hash":"2A33423843343344393137463643393936304641374144364230453041323946334145443730314430"}},
            "b":{"localhost":{"auth_plugin":"caching_sha2_password","pass_hash":"$A$005$x"}},
            "c":{"localhost":{"auth_plugin":"mysql_native_password","pass_hash":"*3b8c43d917f6c9960fa7ad6b0e0a29f3aed701d0"}},
            "d":{"localhost":{"auth_plugin":"","pass_hash":"0123456789abcdef"}}}"#;
        let (logins, findings) = read("", json, &[]);
        assert_eq!(logins[0].auth, DatabaseAuth::Native(Secret::new(HASH)));
        assert_eq!(logins[2].auth, DatabaseAuth::Native(Secret::new(HASH)));
        assert!(matches!(logins[1].auth, DatabaseAuth::Unusable(_)));
        assert!(matches!(logins[3].auth, DatabaseAuth::Unusable(_)));
        assert_eq!(findings.warnings.len(), 2);
        let (logins, _) = read(
            &format!("CREATE USER IF NOT EXISTS `x`@`localhost` IDENTIFIED WITH 'mysql_native_password' AS '{HASH}' REQUIRE NONE;"),
            "",
            &[],
        );
        assert_eq!(logins[0].auth, DatabaseAuth::Native(Secret::new(HASH)));
    }

    #[test]
    fn patterns_reach_the_accounts_databases_only() {
        let sql = "GRANT ALL PRIVILEGES ON `shop\\_%`.* TO 'u'@'localhost'; GRANT SELECT ON `shop_a`.* TO 'v'@'localhost'";
        let (logins, _) = read(sql, "", &["shop_a", "shop_b", "shopxa"]);
        let names = |at: usize| logins[at].grants.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(0), ["shop_a", "shop_b"]);
        assert_eq!(names(1), ["shop_a"]);
    }

    proptest! {
        #[test]
        fn any_text(sql in "(GRANT|ON|TO|IDENTIFIED|BY|PASSWORD|'|`|@|\\.|\\*|,|;|\\(|\\)| |\\\\|a){0,60}") {
            read(&sql, &sql, &["a"]);
        }

        #[test]
        fn like_ends(pattern in "[a%_]{0,40}", text in "[ab]{0,40}") {
            let _matched = like(&pattern, &text);
        }
    }
}
