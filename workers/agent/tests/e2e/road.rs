//! Archives come alive on a server, and go again.

use crate::clients::{certificate, get, imap, messages, send_mail, sql};
use crate::target::{Job, Target, eventually, expectations};
use cpanel::plan::{Options, Ownership};
use cpanel::protocol::{Call, Changes, CheckStatus, EnrollReport, Verification};
use serde_json::Value;

/// Everything that the archive's expectations say of sites, mail, databases and certificates.
pub fn everything_works(target: &Target, expected: &Value) {
    let list = |name: &str| expected[name].as_array().unwrap().clone();
    let text = |v: &Value, name: &str| v[name].as_str().unwrap().to_owned();
    for site in list("http") {
        let host = text(&site, "host");
        let (status, body) = get(target, &host, &text(&site, "path"));
        assert_eq!(Value::from(status), site["status"], "{host}: {body}");
        for part in site["contains"].as_array().into_iter().flatten() {
            assert!(body.contains(part.as_str().unwrap()), "{host} lacks {part}: {body}");
        }
        if let Some(other) = site["same_as"].as_str() {
            assert_eq!(body, get(target, other, &text(&site, "path")).1);
        }
    }
    for mailbox in list("mailboxes") {
        let (address, password) = (text(&mailbox, "address"), text(&mailbox, "password"));
        let mut logins = vec![address.clone()];
        if mailbox["default"] == true {
            logins.push(address.split('@').next().unwrap().to_owned());
        }
        for login in logins {
            for (folder, count) in [("INBOX", "messages"), ("Sent", "sent"), ("INBOX.Sent", "sent")]
            {
                let found = messages(target, &login, &password, folder);
                assert_eq!(
                    found.map(Value::from).as_ref(),
                    Ok(&mailbox[count]),
                    "{login} {folder}"
                );
            }
            assert!(imap(target, &login, "wrong", &[]).is_none());
        }
    }
    for database in list("databases") {
        for (table, rows) in database["rows"].as_object().unwrap() {
            let seen = sql(target, &database, &format!("SELECT COUNT(*) FROM {table}"));
            assert_eq!(seen.trim(), rows.to_string());
        }
        let tables = sql(target, &database, "SHOW FULL TABLES");
        let views: Vec<&str> = tables.lines().filter_map(|l| l.strip_suffix("\tVIEW")).collect();
        assert_eq!(Value::from(views.len()), database["views"], "{tables}");
        for view in views {
            assert!(!sql(target, &database, &format!("SELECT * FROM {view}")).contains("ERROR"));
        }
        let grants = sql(target, &database, "SHOW GRANTS");
        assert!(grants.contains(&format!("GRANT {} ON", text(&database, "privs"))), "{grants}");
    }
    for tls in list("ssl") {
        for port in [443, 993, 465] {
            let seen = certificate(target, port, &text(&tls, "domain"));
            assert_eq!(seen, text(&tls, "sha256_der"), "port {port}");
        }
    }
}

#[test]
fn archives_come_alive_and_go_again() {
    let target = Target::bare("road");
    let report: EnrollReport = target.ask(None, target.enrolment());
    assert!(report.os.contains("bookworm") && !report.changes.is_empty());
    let again: EnrollReport = target.ask(None, target.enrolment());
    assert_eq!(again.changes, Vec::<String>::new());
    assert_eq!(get(&target, "nobody.example", "/").0, 404);

    let archives = [("cpmove-plain.tar", "plain"), ("cpmove-shopco.tar.gz", "shopco")];
    let paths = archives.map(|(name, _)| target.put_archive(name));
    let before = target.snapshot();
    let jobs = [0, 1].map(|n| Job::new(&target, &paths[n], archives[n].1));
    for (job, (name, _)) in jobs.iter().zip(archives) {
        job.begin(Options::default(), Ownership::Free);
        job.apply();
        everything_works(&target, &expectations(name));
        let seen: Verification = job.ask(Call::Verify { ipv4: target.host.parse().unwrap() });
        let bad: Vec<_> = seen.checks.iter().filter(|c| c.status == CheckStatus::Fail).collect();
        assert!(bad.is_empty(), "{bad:?}");
        let none: Changes = job.ask(Call::Changes);
        assert_eq!(none.items, []);
    }
    mail_arrives(&target);
    what_came_since_is_seen_and_parked(&target, &jobs[1]);
    for job in jobs.iter().rev() {
        job.undo(false);
    }
    assert_eq!(before, target.snapshot());
}

fn mail_arrives(target: &Target) {
    for (to, code) in [
        ("info@shopco.example", 250),
        ("sales+tag@shopco.example", 250),
        ("unknown@shopco.example", 250),
        ("ann@gadgets.example", 250),
    ] {
        assert_eq!(send_mail(target, to), code, "{to}");
    }
    assert_eq!(
        target.shell("exim4 -bt nobody@gadgets.example; echo $?", b"").trim().lines().last(),
        Some("2")
    );
    // info@ has its own, and is the catch-all.
    let count = || messages(target, "info@shopco.example", "Mail-Pass-1!", "INBOX").unwrap();
    eventually("mail arrives", || count() == 4);
}

fn what_came_since_is_seen_and_parked(target: &Target, job: &Job<'_>) {
    let database = &expectations("cpmove-shopco.tar.gz")["databases"][0];
    sql(target, database, "INSERT INTO posts (title) VALUES ('new')");
    target.shell("su -s /bin/sh shopco -c 'echo x > ~/public_html/new.txt'", b"");
    let seen: Changes = job.ask(Call::Changes);
    let mut seen: Vec<(String, String)> =
        seen.items.into_iter().map(|c| (c.item, c.what)).collect();
    seen.sort();
    let expected = [
        ("database:shopco_wp", "table posts: 5 rows, 4 at the migration"),
        ("file:public_html/new.txt", "new or changed"),
        ("mailbox:ann@gadgets.example", "1 new messages"),
        ("mailbox:info@shopco.example", "2 new messages"),
        ("mailbox:sales@shopco.example", "1 new messages"),
    ];
    assert_eq!(seen, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    job.undo(true);
    let parked = format!("/var/lib/migrapanel/parked/{}", job.id.id);
    let list = target.shell(
        &format!(
            "cd {parked}; for f in *.tar; do tar tf $f; done; grep -c \"'new'\" shopco_wp.sql"
        ),
        b"",
    );
    assert!(list.contains("shopco/public_html/new.txt"), "{list}");
    assert!(list.contains("shopco/mail/gadgets.example/ann/new/"), "{list}");
    assert!(list.ends_with("1\n"), "{list}");
}
