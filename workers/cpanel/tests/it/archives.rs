//! The sample archives, read: the account and its summary against the expectations.

use crate::fixtures::{NAMES, account, expectations};
use cpanel::account::DatabaseAuth;
use cpanel::plan::{Component, Presence};
use cpanel::protocol::Format;
use cpanel::summary::summarize;
use serde_json::{Value, json};

fn list<'v>(value: &'v Value, key: &str) -> &'v Vec<Value> {
    value[key].as_array().unwrap()
}

#[test]
fn identity() {
    for name in NAMES {
        let (parsed, expected) = (account(name), expectations(name));
        let (account, totals) = (&parsed.account, &parsed.totals);
        assert_eq!(account.user.as_str(), expected["username"]);
        assert_eq!(account.main_domain.as_str(), expected["main_domain"]);
        assert!(account.source.homes.iter().any(|h| h.as_str() == expected["source_home"]));
        assert_eq!(totals.sha256, expected["sha256"].as_str().unwrap());
        assert_eq!(totals.size_bytes, expected["size"].as_u64().unwrap());
        assert_eq!(totals.members, expected["members"].as_u64().unwrap(), "{name}");
        assert_eq!(totals.outside, 0);
        let format = match name {
            n if n.ends_with(".tar") => Format::Uncompressed,
            n if n.starts_with("backup-") => Format::Cpbackup,
            _ => Format::Cpmove,
        };
        assert_eq!(totals.format, format);
        assert!(account.password.hash().is_some());
        assert_eq!(account.disk_quota_bytes, Some(20 << 30));
    }
}

#[test]
fn domains() {
    for name in NAMES {
        let summary = serde_json::to_value(summarize(&account(name).account)).unwrap();
        let mut expected = list(&expectations(name), "domains").clone();
        expected.sort_by_key(|d| d["name"].to_string());
        let found: Vec<Value> = list(&summary, "domains")
            .iter()
            .map(|d| {
                let mut line = json!({"name": d["name"], "type": d["type"]});
                for key in ["docroot", "target"] {
                    if !d[key].is_null() {
                        line[key] = d[key].clone();
                    }
                }
                line
            })
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn mailboxes() {
    for name in NAMES {
        let mail = account(name).account.mail;
        let expected = expectations(name);
        let expected = list(&expected, "mailboxes");
        assert_eq!(mail.mailboxes.len(), expected.len(), "{name}");
        for want in expected {
            let found =
                mail.mailboxes.iter().find(|m| m.address.as_str() == want["address"]).unwrap();
            assert_eq!(found.folders.get("").copied(), want["messages"].as_u64(), "{want}");
            assert_eq!(
                found.folders.get("Sent").copied().unwrap_or(0),
                want["sent"].as_u64().unwrap(),
                "{want}"
            );
            assert_eq!(found.quota_bytes, want["quota_bytes"].as_u64());
            assert_eq!(found.default, want["default"] == true);
            assert!(found.password.hash().is_some());
        }
    }
}

#[test]
fn databases_and_their_users() {
    for name in NAMES {
        let account = account(name).account;
        let expected = expectations(name);
        let expected = list(&expected, "databases");
        assert_eq!(account.databases.len(), expected.len());
        assert_eq!(account.database_users.len(), expected.len());
        for want in expected {
            let database =
                account.databases.iter().find(|d| d.name.as_str() == want["name"]).unwrap();
            assert_eq!(database.dump.as_str(), "full");
            assert_eq!(database.charset.as_deref(), Some("utf8mb4"));
            let user =
                account.database_users.iter().find(|u| u.name.as_str() == want["user"]).unwrap();
            assert!(matches!(user.auth, DatabaseAuth::Native(_)));
            let mut privileges: Vec<&str> = want["privs"].as_str().unwrap().split(", ").collect();
            privileges.sort_unstable();
            let granted: Vec<&str> =
                user.grants[&database.name].iter().map(String::as_str).collect();
            assert_eq!(granted, privileges);
        }
    }
}

#[test]
fn the_rest() {
    for name in NAMES {
        let account = account(name).account;
        let expected = expectations(name);
        let cron: Vec<Value> = account.cron.iter().map(|job| json!(job.line)).collect();
        assert_eq!(&cron, list(&expected, "cron"));
        let ftp: Vec<Value> = account.ftp.iter().map(|l| json!([l.login, l.directory])).collect();
        let want: Vec<Value> =
            list(&expected, "ftp").iter().map(|l| json!([l["login"], l["dir"]])).collect();
        assert_eq!(ftp, want);
        let certificates: Vec<Value> = account
            .certificates
            .iter()
            .map(|c| json!([c.domain, c.sha256, c.self_signed]))
            .collect();
        let want: Vec<Value> = list(&expected, "ssl")
            .iter()
            .map(|c| json!([c["domain"], c["sha256_der"], c["self_signed"]]))
            .collect();
        assert_eq!(certificates, want);
        assert!(account.dkim.iter().all(|k| k.bits == 2048));
        assert!(account.warnings.is_empty(), "{name}: {:?}", account.warnings);
        assert_eq!(account.presence[&Component::Files], Presence::Present);
        assert!(account.presence.values().all(|p| *p != Presence::Absent));
    }
}

#[test]
fn forwarders_of_the_shop() {
    let account = account("cpmove-shopco.tar.gz").account;
    let mail = &account.mail;
    assert_eq!(mail.forwarders.len(), 1);
    let to: Vec<&str> = mail.forwarders[0].destinations.iter().map(|d| d.as_str()).collect();
    assert_eq!(to, ["boss@elsewhere.example", "info@shopco.example"]);
    assert_eq!(mail.autoresponders[0].body, "Away.\n");
    assert_eq!(mail.autoresponders[0].interval_hours, 8);
    assert_eq!(mail.pipes[0].command, "/home/shopco/bin/pipe.php");
    assert_eq!(mail.domains.len(), 3, "the subdomain takes no mail");
    let lost: Vec<&str> = account.not_transferable.iter().map(|n| n.item.as_str()).collect();
    assert!(
        lost.contains(&"pipe:hook@shopco.example") && lost.contains(&"ftp:dev@shopco.example"),
        "{lost:?}"
    );
}

#[test]
fn secrets_stay_out_of_the_summary() {
    for name in NAMES {
        let account = account(name).account;
        let text = serde_json::to_string(&summarize(&account)).unwrap();
        for secret in ["$6$", "$1$", "PRIVATE KEY", "*3B8C43"] {
            assert!(!text.contains(secret), "{secret}");
            assert!(!format!("{account:?}").contains(secret), "{secret}");
        }
        let stored = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<cpanel::account::Account>(&stored).unwrap(), account);
    }
}
