//! What a migrated account must show to ordinary clients: a browser, a mail client, a database
//! client, a resolver. Nothing here knows how MigraPanel does it.

use crate::bed::given;
use crate::program::{program, run, run_with, said};
use crate::server::Server;
use serde_json::Value;
use std::net::SocketAddr;

/// Ends the test unless everything of the archive is there; `status` is the job's.
pub async fn assert_moved(server: &Server, wanted: &Value, status: &Value) {
    web_sites(server, wanted).await;
    for mailbox in list(wanted, "mailboxes") {
        mail(server, mailbox);
    }
    for forwarder in list(wanted, "forwarders") {
        forwarding(server, forwarder, status);
    }
    for database in list(wanted, "databases") {
        rows(server, database);
        rights(server, database);
    }
    for record in list(wanted, "dns") {
        dns(server, record);
    }
    for certificate in list(wanted, "ssl") {
        tls(server, certificate);
    }
    crontab(server, wanted, status);
    for login in list(wanted, "ftp") {
        let id = format!("ftp:{}", text(login, "login"));
        assert_eq!(outcome(status, &id), "not_transferred", "{id}");
    }
}

/// Ends the test if a resolver still finds anything of the archive's zones.
pub fn assert_no_zones(wanted: &Value) {
    for record in list(wanted, "dns") {
        let found = resolve(text(record, "name"), text(record, "type"));
        assert!(found.is_empty(), "{record}: {found:?}");
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn outcome<'a>(status: &'a Value, id: &str) -> &'a str {
    let found = list(status, "resources").iter().find(|resource| resource["id"] == id);
    text(found.unwrap_or_else(|| panic!("{id} is not in {:#}", status["resources"])), "outcome")
}

async fn web_sites(server: &Server, wanted: &Value) {
    for page in list(wanted, "http") {
        let (status, body) = fetch(server, text(page, "host"), text(page, "path")).await;
        assert_eq!(Some(u64::from(status)), page["status"].as_u64(), "{page}: {body}");
        for part in page["contains"].as_array().into_iter().flatten() {
            assert!(body.contains(part.as_str().unwrap()), "{page}: {body}");
        }
        if let Some(other) = page["same_as"].as_str() {
            assert_eq!(fetch(server, other, text(page, "path")).await.1, body, "{page}");
        }
    }
}

/// As a visitor whose resolver already knows the new server.
pub async fn fetch(server: &Server, host: &str, path: &str) -> (u16, String) {
    let address = SocketAddr::new(server.host.parse().unwrap(), 80);
    let browser = reqwest::Client::builder()
        .resolve(host, address)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let answer = browser.get(format!("http://{host}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn mail(server: &Server, mailbox: &Value) {
    let login = (text(mailbox, "address"), text(mailbox, "password"));
    assert_eq!(Some(messages(server, login, "INBOX")), mailbox["messages"].as_u64(), "{mailbox}");
    if mailbox["sent"].as_u64() != Some(0) {
        assert_eq!(Some(messages(server, login, "Sent")), mailbox["sent"].as_u64(), "{mailbox}");
    }
}

/// How many messages a mail client finds in a folder.
pub fn messages(server: &Server, (address, password): (&str, &str), folder: &str) -> u64 {
    let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
    let config = format!("user = \"{address}:{quoted}\"\n");
    let mut curl = program("curl");
    curl.args(["-sS", "--max-time", "20", "-K", "-", "-X"])
        .arg(format!("STATUS {folder} (MESSAGES)"))
        .arg(format!("imap://{}/", server.host));
    let output = run_with(&mut curl, config.as_bytes());
    let answer = said(&curl, &output);
    let (_, rest) = answer.split_once("MESSAGES ").unwrap_or_else(|| panic!("{address}: {answer}"));
    rest.trim_end().trim_end_matches(')').parse().unwrap()
}

/// Exim says where it would bring a letter; programs of the old server are not run.
fn forwarding(server: &Server, forwarder: &Value, status: &Value) {
    let (from, to) = (text(forwarder, "from"), text(forwarder, "to"));
    match text(forwarder, "kind") {
        "forward" => {
            let said = server.try_sh(&format!("/usr/sbin/exim -bt {from}"));
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            for address in to.split(", ") {
                assert!(said.contains(address), "{from}: {address} is not in {said}");
            }
        }
        _ if to.contains("autorespond") => {
            assert_eq!(outcome(status, &format!("vacation:{from}")), "migrated", "{from}");
        }
        _ => assert_eq!(outcome(status, &format!("pipe:{from}")), "not_transferred", "{from}"),
    }
}

/// As the site would: with the old user and password.
fn sql(server: &Server, database: &Value, statement: &str) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    server.sh(&format!(
        "MYSQL_PWD={} mariadb --default-character-set=utf8mb4 -N -u {} {} -e {}",
        quote(text(database, "password")),
        quote(text(database, "user")),
        quote(text(database, "name")),
        quote(statement)
    ))
}

fn rows(server: &Server, database: &Value) {
    for kind in [("tables", "BASE TABLE"), ("views", "VIEW")] {
        let listed = sql(server, database, "SHOW FULL TABLES");
        let names = listed.lines().filter_map(|line| line.split_once('\t'));
        let names: Vec<_> = names.filter(|(_, k)| *k == kind.1).map(|(name, _)| name).collect();
        assert_eq!(u64::try_from(names.len()).ok(), database[kind.0].as_u64(), "{names:?}");
        for name in names {
            sql(server, database, &format!("SELECT * FROM `{name}`"));
        }
    }
    for (table, count) in database["rows"].as_object().unwrap() {
        let found = sql(server, database, &format!("SELECT COUNT(*) FROM `{table}`"));
        assert_eq!(found.trim().parse().ok(), count.as_u64(), "{database}");
        let first = sql(server, database, &format!("SELECT * FROM `{table}` LIMIT 1"));
        assert!(first.contains(text(database, "first")), "{first}");
    }
}

fn rights(server: &Server, database: &Value) {
    let granted = sql(server, database, "SHOW GRANTS").replace('\\', "");
    let wanted = format!("GRANT {} ON `{}`.*", text(database, "privs"), text(database, "name"));
    assert!(granted.contains(&wanted), "{wanted}: {granted}");
}

/// What a resolver prints, the strings of a TXT joined.
pub fn resolve(name: &str, rtype: &str) -> Vec<String> {
    let address: SocketAddr = given("TEST_DNS_ADDR").parse().unwrap();
    let answer = run(program("dig")
        .args(["+short", "+tries=3", "-p"])
        .arg(address.port().to_string())
        .arg(format!("@{}", address.ip()))
        .args([name, rtype]));
    let joined = answer.lines().map(|line| line.replace("\" \"", ""));
    let bare = joined.map(|line| match line.strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
        Some(inner) => inner.replace("\\;", ";").replace("\\\"", "\""),
        None => line,
    });
    bare.collect()
}

fn dns(server: &Server, record: &Value) {
    let found = resolve(text(record, "name"), text(record, "type"));
    match record["value"].as_str() {
        Some("TARGET_IP") => assert_eq!(found, [server.host.as_str()], "{record}"),
        Some(value) => assert!(found.iter().any(|f| f == value), "{record}: {found:?}"),
        // Names of the old server's own services: gone, or ours.
        None => assert!(found.iter().all(|f| *f == server.host), "{record}: {found:?}"),
    }
}

fn tls(server: &Server, certificate: &Value) {
    let name = text(certificate, "domain");
    let mut shown = program("openssl");
    shown.args(["s_client", "-connect", &format!("{}:443", server.host), "-servername", name]);
    let pem = run_with(&mut shown, b"");
    let mut read = program("openssl");
    read.args(["x509", "-noout", "-fingerprint", "-sha256"]);
    let output = run_with(&mut read, &pem.stdout);
    let printed = said(&read, &output);
    let hash: String = printed.rsplit('=').next().unwrap().trim().replace(':', "").to_lowercase();
    assert_eq!(hash, text(certificate, "sha256_der"), "{name}");
}

/// Imported, and not run.
fn crontab(server: &Server, wanted: &Value, status: &Value) {
    let user = text(wanted, "username");
    for (number, line) in (1..).zip(list(wanted, "cron")) {
        let id = format!("cron:{user}:{number}");
        assert_eq!(outcome(status, &id), "disabled", "{line}");
    }
    let active = server.sh(&format!("crontab -l -u {user} 2>/dev/null | grep -v '^#' || true"));
    assert_eq!(active.trim(), "", "a line of {user}'s crontab is active");
}
