//! `mysql.sql` and `mysql.sql-auth.json`: database users, how they prove themselves, what they may do.

use crate::account::{Database, DatabaseAuth, DatabaseLogin};
use crate::findings::Findings;
use crate::grant_statements::{At, read};
use crate::members::Members;
use crate::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use values::{DatabaseName, DatabaseUser, Username};

/// The end of the names of the locked users that views run as.
const DEFINER: &str = ".definer";

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
    let bytes = |path: &str| members.texts.get(path).map(Vec::as_slice).unwrap_or_default();
    let (sql, json) = (bytes("mysql.sql"), bytes("mysql.sql-auth.json"));
    let users = read(sql, json, findings);
    let mut logins = Vec::new();
    for (name, hosts) in users {
        if name == system_user.as_str() {
            continue;
        }
        match DatabaseUser::parse(&name) {
            Ok(name) if name.as_str().ends_with(DEFINER) => findings.lost(
                &format!("database_user:{name}"),
                "Names of that ending are the server's own.",
            ),
            Ok(name) => logins.extend(login(name, hosts, local_hosts, databases, findings)),
            Err(invalid) => {
                findings.lost(&format!("database_user:{name}"), format!("The {invalid}."))
            }
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
        let message = format!(
            "Its rights on {literal} are given on each of the account's databases that match."
        );
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
            &format!(
                "CREATE USER IF NOT EXISTS `x`@`localhost` IDENTIFIED WITH 'mysql_native_password' AS '{HASH}' REQUIRE NONE;"
            ),
            "",
            &[],
        );
        assert_eq!(logins[0].auth, DatabaseAuth::Native(Secret::new(HASH)));
    }

    #[test]
    fn patterns_reach_the_accounts_databases_only() {
        let sql = "GRANT ALL PRIVILEGES ON `shop\\_%`.* TO 'u'@'localhost'; GRANT SELECT ON `shop_a`.* TO 'v'@'localhost'";
        let (logins, _) = read(sql, "", &["shop_a", "shop_b", "shopxa"]);
        let names =
            |at: usize| logins[at].grants.keys().map(ToString::to_string).collect::<Vec<_>>();
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
