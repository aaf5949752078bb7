//! Nothing is lost without a word: what an archive has and the server does not get, or gets in another
//! form, is in the plan, which becomes the report.

use crate::clients::{get, imap, messages, send_mail, sql};
use crate::target::{BACKUPS, Job, Target, eventually};
use crate::variety::{Account, sh};
use cpanel::plan::{Mode, Options, Ownership, Plan, Suspended};
use cpanel::protocol::{Call, ItemReport, Outcome, StepReport};
use serde_json::json;
use std::collections::BTreeSet;

/// Sites where cPanel's own files lie, and one that would publish the mail.
fn sites(account: &Account) {
    let main = std::fs::read_to_string(account.path("userdata/main")).unwrap();
    let mut subs = String::new();
    for (name, root) in [("odd", "tmp/site"), ("past", "logs"), ("leak", "mail/shopco.example")] {
        subs.push_str(&format!("  - {name}.shopco.example\n"));
        account.write(
            &format!("userdata/{name}.shopco.example"),
            &format!(
                "--- \ndocumentroot: /home/shopco/{root}\nservername: {name}.shopco.example\n"
            ),
        );
    }
    account.write("userdata/main", &(main + &subs));
    account.write("homedir/tmp/site/index.html", "odd");
    account.write("homedir/tmp/awstats/x.txt", "statistics");
    account.write("homedir/logs/index.html", "past");
    account.write("homedir/lscache/1", "cached");
    account.write("homedir/.spamassassinenable", "");
    account.write("homedir/.lastlogin", "192.0.2.1");
    account.write("homedir/public_html/shell.php", "<?php echo 'owned';");
    account.write("homedir/quarantine/x.php", "<?php echo 'owned';");
    sh(&account.path("homedir"), "chmod 0 public_html/shell.php quarantine", b"");
}

fn mail(account: &Account) {
    account.write("va/gadgets.example", "*: ann@gadgets.example, info@shopco.example\n");
    account.prepend(
        "va/shopco.example",
        "-oX@shopco.example: a@b.example\nq1@shopco.example: \"sales@shopco.example\",\"/dev/null\"\n\
         news@shopco.example: \"|/usr/local/cpanel/bin/autorespond news@shopco.example /home/shopco/.autorespond\"\n",
    );
    account.write(
        "homedir/.autorespond/news@shopco.example",
        "From: \"Grüße vom Shop\" <news@shopco.example>\nSubject: Danke\nContent-type: text/html; charset=utf-8\n\n<b>Danke</b>\n",
    );
    account.write("homedir/.autorespond/news@shopco.example.json", "{\"interval\":0}");
    account.write("homedir/etc/shopco.example/sales/filter.yaml", "--- \nfilter: [\n");
    account.write("homedir/etc/shopco.example/quota", "info:99999999999999999999\nsales:1048576\n");
    let message = "From: a@b.example\nSubject: old\n\nold\n";
    for folder in [".INBOX.Old", ".Old"] {
        let name = format!("1767225{}.M1P1.src:2,S", folder.len() + 600);
        account.write(&format!("homedir/mail/shopco.example/info/{folder}/cur/{name}"), message);
    }
}

fn databases(account: &Account) {
    account.prepend(
        "mysql/shopco_wp.sql",
        "DO SLEEP(100000);\n/*!50001 SELECT SLEEP(100000) */;\nDELIMITER ;;\n\
         CREATE DEFINER=`root`@`localhost` PROCEDURE noted()\nBEGIN\n  -- why it is so\n  SELECT 1; /* and this */\nEND ;;\n\
         SET character_set_client = latin1 ;;\nSET collation_connection = latin1_german1_ci ;;\n\
         CREATE DEFINER=`root`@`localhost` EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM posts WHERE id < 0 ;;\n\
         SET NAMES utf8mb4 ;;\nDELIMITER ;\n",
    );
}

/// What must be said to be lost, with a word of the reason.
const LOST: &[(&str, &str)] = &[
    ("statements:shopco_wp", "DO (1), SELECT (1)"),
    ("record:shopco.example:22", "LOC"),
    ("record:shopco.example:23", "999.1.1.1"),
    ("record:shopco.example:24", "elsewhere.example."),
    ("cron_line:5", "5/15 is no minute"),
    ("cron_setting:LD_PRELOAD", "left out"),
    ("alias:bank.example", "below no domain"),
    ("catch_all:gadgets.example", "several places"),
    ("members_outside", "members of the archive lie beside"),
    ("docroot:leak.shopco.example", "mail, keys or passwords"),
    ("left_behind:tmp", "1 file of"),
    ("left_behind:lscache", "1 file of"),
    ("left_behind:.spamassassinenable", "SpamAssassin"),
    ("forward:-oX@shopco.example", "a hyphen"),
    ("filter:sales@shopco.example:all", "cannot be read"),
];

fn everything_lost_is_said(plan: &Plan) {
    for (item, word) in LOST {
        let found = plan.not_transferred.iter().find(|l| l.item == *item);
        let found = found.unwrap_or_else(|| panic!("{item} in {:#?}", plan.not_transferred));
        assert!(found.reason.contains(word), "{found:?}");
    }
    // What came over is not said to be lost.
    for item in ["left_behind:logs", "forward:q1@shopco.example", "left_behind:.lastlogin"] {
        assert!(plan.not_transferred.iter().all(|l| l.item != item), "{item}");
    }
    assert!(plan.warnings.iter().any(|w| w.message.contains(".lastlogin")));
}

#[test]
fn what_is_lost_or_changed_is_said() {
    let target = Target::enrolled("losses");
    let account = Account::shop();
    sites(&account);
    mail(&account);
    databases(&account);
    account.append(
        "dnszones/shopco.example.db",
        "svc IN HTTPS 1 . alpn=h2\nhere IN LOC 52 22 23.000 N 4 53 32.000 E -2.00m\nbad IN A 999.1.1.1\n\
         both IN CNAME elsewhere.example.\nboth IN TXT \"x\"\n",
    );
    account.append(
        "cron/shopco",
        "5/15 * * * * /bin/true bad\nLD_PRELOAD=/home/shopco/x.so\nMAILTO=\"\"\nPATH=/home/shopco/bin:/usr/bin:/bin\n@hourly /bin/true other\n",
    );
    let vhost = std::fs::read_to_string(account.path("userdata/shopco.example")).unwrap();
    let vhost = vhost.replace("serveralias: ", "serveralias: bank.example ");
    account.write("userdata/shopco.example", &vhost);
    std::fs::create_dir(account.path("../other")).unwrap();
    std::fs::write(account.path("../other/x"), "x").unwrap();
    // As a tape pads it.
    let mut packed = sh(&account.path(".."), "tar -czf - cpmove-shopco other", b"");
    packed.resize(packed.len() + 9000, 0);
    target.shell(&format!("cat >{BACKUPS}/losses.tar.gz"), &packed);
    let before = target.snapshot();
    let job = Job::new(&target, &format!("{BACKUPS}/losses.tar.gz"), "shopco");
    let plan = job.begin(Options::default(), Ownership::Free).plan;
    everything_lost_is_said(&plan);
    let items: Vec<ItemReport> = job.apply().into_iter().flat_map(|r| r.items).collect();
    let item = |id: &str| items.iter().find(|i| i.id == id).unwrap();

    let info = item("mailbox:info@shopco.example");
    assert_eq!(info.outcome, Outcome::Adapted, "{info:?}");
    assert!(info.detail.contains("unlimited") && info.detail.contains("INBOX.Old"), "{info:?}");
    assert_eq!(messages(&target, "info@shopco.example", "Mail-Pass-1!", "Old"), Ok(2));
    let files = item("files:home");
    assert!(files.detail.contains("2 files or directories that nobody may open"), "{files:?}");
    assert!(files.detail.contains("public_html/shell.php"), "{files:?}");
    let modes = target.shell(
        "cd /home/shopco; stat -c %a public_html/shell.php quarantine; ls tmp logs lscache 2>/dev/null",
        b"",
    );
    assert_eq!(modes, "0\n0\nlogs:\nindex.html\n\ntmp:\nsite\n");
    assert_eq!(get(&target, "odd.shopco.example", "/").1, "odd");
    assert_eq!(get(&target, "past.shopco.example", "/").1, "past");
    assert_ne!(get(&target, "leak.shopco.example", "/info/cur/").0, 200);
    assert_ne!(get(&target, "shopco.example", "/shell.php").1, "owned");
    let body = target.shell("mariadb -N -e 'SHOW CREATE PROCEDURE shopco_wp.noted'", b"");
    assert!(body.contains("-- why it is so") && body.contains("/* and this */"), "{body}");
    let event = target.shell(
        "mariadb -N -e \"SELECT COLLATION_CONNECTION, STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'nightly'\"",
        b"",
    );
    assert_eq!(event, "latin1_german1_ci\tDISABLED\n");
    answers_are_html(&target);
    cron_keeps_its_settings(&target, &job);
    job.undo(false);
    assert_eq!(before, target.snapshot());
}

fn answers_are_html(target: &Target) {
    let letter = "From: Ann <ann@gadgets.example>\nTo: news@shopco.example\nSubject: x\n\nx\n";
    target.shell(
        "/usr/sbin/sendmail -i -f ann@gadgets.example news@shopco.example",
        letter.as_bytes(),
    );
    let ann = ("ann@gadgets.example", "Mail-Pass-3!");
    eventually("the answer comes", || messages(target, ann.0, ann.1, "INBOX") == Ok(1));
    let commands = ["SELECT INBOX", "FETCH 1 BODY.PEEK[]"];
    let answer = imap(target, ann.0, ann.1, &commands).unwrap().concat();
    assert!(answer.contains("<b>Danke</b>"), "{answer}");
    assert!(answer.to_lowercase().contains("content-type: text/html"), "{answer}");
    assert!(answer.contains("=?utf-8?") && answer.contains("<news@shopco.example>"), "{answer}");
}

fn cron_keeps_its_settings(target: &Target, job: &Job<'_>) {
    let all: BTreeSet<String> = (1..=3).map(|n| format!("cron:shopco:{n}")).collect();
    for _ in 0..2 {
        let report: StepReport = job.ask(Call::Confirm { items: all.clone() });
        assert!(report.items.iter().all(|i| i.outcome == Outcome::Migrated), "{report:?}");
        assert_eq!(report.items.len(), 3);
    }
    let wanted = "MAILTO=\"owner@shopco.example\"\nSHELL=\"/bin/sh\"\n\
                  */15 * * * * /usr/bin/php8.2 /home/shopco/public_html/cron.php >/dev/null 2>&1\n\
                  @daily /usr/bin/php8.2 -q /home/shopco/bin/daily.php\n\
                  MAILTO=\"\"\nPATH=\"/home/shopco/bin:/usr/bin:/bin\"\n@hourly /bin/true other\n";
    assert_eq!(target.shell("crontab -l -u shopco", b""), wanted);
}

#[test]
fn a_suspended_account_stays_suspended_until_somebody_opens_it() {
    let target = Target::enrolled("suspended");
    let account = Account::shop();
    account.append("cp/shopco", "SUSPENDED=1\n");
    target.shell(&format!("cat >{BACKUPS}/suspended.tar.gz"), &account.packed());
    let path = format!("{BACKUPS}/suspended.tar.gz");
    let database = json!({"name": "shopco_wp", "user": "shopco_wp", "password": "Db-Pass-1!"});
    let opens = || imap(&target, "info@shopco.example", "Mail-Pass-1!", &[]).is_some();

    let job = Job::new(&target, &path, "shopco");
    let plan = job.begin(Options::default(), Ownership::Free).plan;
    let note = plan.notes.iter().find(|n| n.item == "suspended:shopco").unwrap();
    assert_eq!(note.outcome, Outcome::Disabled);
    assert!(note.detail.contains("\"suspended\": \"activate\""), "{note:?}");
    let items: Vec<ItemReport> = job.apply().into_iter().flat_map(|r| r.items).collect();
    for id in [
        "website:shopco.example",
        "mail_domain:shopco.example",
        "mailbox:info@shopco.example",
        "database_user:shopco_wp",
        "user:shopco",
    ] {
        let found = items.iter().find(|i| i.id == id).unwrap();
        assert_eq!(found.outcome, Outcome::Disabled, "{found:?}");
    }
    let (status, page) = get(&target, "shopco.example", "/");
    assert!(status == 503 && page.contains("suspended"), "{status} {page}");
    assert_eq!(get(&target, "blog.shopco.example", "/index.html").0, 503);
    assert!(!opens());
    assert_ne!(send_mail(&target, "info@shopco.example"), 250);
    assert!(sql(&target, &database, "SELECT 1").contains("locked"));
    let confirm = Call::Confirm { items: ["cron:shopco:1".to_owned()].into() };
    assert_eq!(target.refusal(Some(job.id), confirm), "account_suspended");

    let again = Job::new(&target, &path, "shopco");
    let options =
        Options { mode: Mode::Overwrite, suspended: Suspended::Activate, ..Options::default() };
    let plan = again.begin(options, Ownership::Own).plan;
    let note = plan.notes.iter().find(|n| n.item == "suspended:shopco").unwrap();
    assert_eq!(note.outcome, Outcome::Adapted);
    again.apply();
    assert_eq!(get(&target, "blog.shopco.example", "/index.html").0, 200);
    assert!(opens());
    assert_eq!(send_mail(&target, "info@shopco.example"), 250);
    assert_eq!(sql(&target, &database, "SELECT 1").trim(), "1");
}
