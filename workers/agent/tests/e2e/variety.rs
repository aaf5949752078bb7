//! What real accounts have beside the ordinary: made on top of the shop, and used by clients.

use crate::clients::{get, imap, messages, send_mail, sql};
use crate::road::everything_works;
use crate::target::{BACKUPS, Job, Target, eventually, expectations, fixture};
use cpanel::plan::{Options, Ownership};
use cpanel::protocol::{Call, CheckStatus, ItemReport, Outcome, Verification};
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

const SHOP: &str = "cpmove-shopco.tar.gz";

#[expect(clippy::disallowed_methods, reason = "tests make archives with tar themselves")]
pub fn sh(dir: &Path, line: &str, input: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut command = Command::new("bash");
    command.arg("-euc").arg(line).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}");
    output.stdout
}

/// The shop's archive unpacked, to be changed and packed again.
pub struct Account {
    dir: tempfile::TempDir,
}

impl Account {
    pub fn shop() -> Self {
        let dir = tempfile::tempdir().unwrap();
        sh(dir.path(), &format!("tar -xzf {}", fixture(SHOP).display()), b"");
        Self { dir }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("cpmove-shopco").join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn prepend(&self, name: &str, text: &str) {
        let old = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        self.write(name, &(text.to_owned() + &old));
    }

    pub fn append(&self, name: &str, text: &str) {
        let old = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        self.write(name, &(old + text));
    }

    pub fn packed(&self) -> Vec<u8> {
        sh(self.dir.path(), "tar -czf - cpmove-shopco", b"")
    }
}

const SCHEMES: [(&str, &str); 6] = [
    ("sha256", "$5$saltsha256$CaNUhdkRN3k9rg/96h5wz475Ac9fdmb9ohlTaSDW6H0"),
    ("des", "abxd94h8D/WtM"),
    ("yescrypt", "$y$j9T$salt12345678$eZsX.ku7jQ6qjp1Zdgv8byxQDfJZcArcNweEyoSnJ51"),
    ("bcrypt", "$2y$05$abcdefghijklmnopqrstuuB0yRAr.6Wih3is.55qv1IC4deMAgceW"),
    (
        "rounds",
        "$6$rounds=6000$saltrounds$a4GjoAtjon.e4rfz7MW/6akUIXIuzJwMzzEcAx96cUS5TQm24aWOvh0OvF1IqkYTmD58edseNNbMYLLvJxSS9.",
    ),
    ("locked", "!$5$saltsha256$CaNUhdkRN3k9rg/96h5wz475Ac9fdmb9ohlTaSDW6H0"),
];

const FILTER: &str = "--- \nfilter: \n  - \n    actions: \n      - \n        action: save\n        dest: $home/mail/shopco.example/info/.Lists\n    enabled: 1\n    filtername: lists\n    rules: \n      - \n        match: contains\n        opt: or\n        part: '$header_subject:'\n        val: hello\nversion: '2.2'\n";

fn mail(account: &Account, target: &Target) {
    for (name, hash) in SCHEMES {
        account.append(
            "homedir/etc/shopco.example/passwd",
            &format!("{name}:x:1004:1006::/home/shopco/mail/shopco.example/{name}:/home/shopco\n"),
        );
        account
            .append("homedir/etc/shopco.example/shadow", &format!("{name}:{hash}:19000::::::\n"));
    }
    account.write("homedir/etc/shopco.example/info/filter.yaml", FILTER);
    account.append("homedir/etc/shopco.example/passwd", "box:x:1:1::/x:/x\n");
    account.append(
        "homedir/etc/shopco.example/shadow",
        &format!("box:{}:19000::::::\n", SCHEMES[0].1),
    );
    let old = std::fs::read_to_string(account.path("va/shopco.example")).unwrap();
    account.write(
        "va/shopco.example",
        &format!(
            "news@shopco.example: \"|/usr/local/cpanel/bin/autorespond news@shopco.example /home/shopco/.autorespond\"\n{old}"
        ),
    );
    account.write(
        "homedir/.autorespond/news@shopco.example",
        "From: \"Shop\" <news@shopco.example>\nSubject: Re: %subject%\nContent-type: text/plain\n\nDear %from%\n",
    );
    account.write("homedir/.autorespond/news@shopco.example.json", "{\"interval\":0}");
    account.write("vad/shopco-alias.example", "shopco-alias.example: shopco.example\n");
    // A message as the zlib plugin of the source stored it.
    let message = "From: a@b.example\r\nSubject: packed\r\n\r\nThis text was compressed.\r\n";
    let name = format!("1767225700.M9P9.src,S={}:2,S", message.len());
    let packed = sh(account.dir.path(), "gzip -c", message.as_bytes());
    let to = account.path("homedir/mail/shopco.example/rounds/cur");
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(to.join(name), packed).unwrap();
    mdbox(account, target);
}

/// A real mdbox, made by the server's own Dovecot.
fn mdbox(account: &Account, target: &Target) {
    let script = r#"set -e; rm -rf /tmp/md; mkdir -p /tmp/md/src/{cur,new,tmp} /tmp/md/src/.Sent.Old/{cur,new,tmp}
for i in 1 2 3; do printf 'From: a@x.example\nSubject: m%s\n\nbody\n' $i > "/tmp/md/src/cur/170000000$i.M1P1.h:2,S"; done
printf 'From: a@x.example\nSubject: sent\n\nbody\n' > "/tmp/md/src/.Sent.Old/cur/1700000009.M1P1.h:2,RS"
printf 'mail_location = maildir:~\nlog_path = /dev/stderr\nssl = no\nfirst_valid_uid = 33\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n  separator = .\n}\n' > /tmp/md/conf
chmod 755 /tmp/md; chown -R www-data: /tmp/md
HOME=/tmp/md setpriv --reuid 33 --regid 33 --clear-groups doveadm -c /tmp/md/conf -o mail_location=maildir:/tmp/md/src backup mdbox:/tmp/md/box
tar -C /tmp/md/box -cf - . ; rm -rf /tmp/md"#;
    let tar = target.bytes(&format!("bash -c '{}'", script.replace('\'', "'\\''")));
    let to = account.path("homedir/mail/shopco.example/box");
    std::fs::create_dir_all(&to).unwrap();
    sh(&to, "tar -xf -", &tar);
    std::fs::write(to.join("mailbox_format.cpanel"), "mdbox").unwrap();
}

fn sites(account: &Account) {
    let main = std::fs::read_to_string(account.path("userdata/main")).unwrap();
    account.write(
        "userdata/main",
        &format!("{main}  - '*.shopco.example'\n  - dev_x.shopco.example\n"),
    );
    account.write(
        "userdata/_wildcard_.shopco.example",
        "--- \ndocumentroot: /home/shopco/wild\nservername: '*.shopco.example'\n",
    );
    account.write(
        "userdata/dev_x.shopco.example",
        "--- \ndocumentroot: /home/shopco/dev\nservername: dev_x.shopco.example\n",
    );
    account.write("homedir/wild/index.html", "wild");
    account.write("homedir/dev/index.html", "dev");
    account.write("homedir/public_html/.user.ini", "auto_prepend_file = /home/shopco/pre.php\n");
    account.write("homedir/pre.php", "<?php header('X-Pre: yes');");
    sh(
        &account.path("homedir"),
        "echo begin >disk.img; truncate -s 64M disk.img; truncate -s 64M hole.img; echo end >>disk.img",
        b"",
    );
}

fn databases(account: &Account) {
    account.write(
        "mysql.sql-auth.json",
        r#"{"shopco_new": {"localhost": {"auth_plugin": "caching_sha2_password", "pass_hash": "$A$005$x"}},
            "legacy.user": {"localhost": {"auth_plugin": "mysql_native_password", "pass_hash": "*610FEEC0938AEDE921A2FE6B8834663E40D7400A"}}}"#,
    );
    account.append(
        "mysql.sql",
        "GRANT USAGE ON *.* TO 'shopco_new'@'localhost';\n\
         GRANT ALL PRIVILEGES ON `shopco\\_wp`.* TO 'shopco_new'@'localhost';\n\
         GRANT USAGE ON *.* TO 'legacy.user'@'localhost';\n\
         GRANT SELECT ON `legacy-db.1`.* TO 'legacy.user'@'localhost';\n\
         GRANT SELECT, INSERT ON `shopco\\_gad`.* TO 'legacy.user'@'localhost';\n",
    );
    account.write(
        "mysql/legacy-db.1.create",
        "CREATE DATABASE `legacy-db.1` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci */ /*!80016 DEFAULT ENCRYPTION='N' */;\n",
    );
    account.write(
        "mysql/legacy-db.1.sql",
        "CREATE TABLE `t` (`a` varchar(50) COLLATE utf8mb4_0900_ai_ci DEFAULT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;\nINSERT INTO `t` VALUES ('utf8mb4_0900_ai_ci DEFINER=`root`@`localhost`');\nDELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET NEW.a = UPPER(NEW.a) */;;\nDELIMITER ;\n-- Dump completed on 2026-01-02  3:04:05\n",
    );
    account.write(
        "homedir/public_html/app/.env",
        "DB_HOST=localhost\nDB_DATABASE=shopco_wp\nDB_USERNAME=shopco_new\nDB_PASSWORD=\"the old one\"\n",
    );
    account.write(
        "homedir/public_html/app/index.php",
        "<?php $e = parse_ini_file(__DIR__ . '/.env'); $m = new mysqli($e['DB_HOST'], $e['DB_USERNAME'], $e['DB_PASSWORD'], $e['DB_DATABASE']); echo $m->query('SELECT COUNT(*) FROM posts')->fetch_row()[0];",
    );
}

#[test]
fn what_real_accounts_have_works() {
    let target = Target::enrolled("variety");
    let account = Account::shop();
    mail(&account, &target);
    sites(&account);
    databases(&account);
    account.append("cron/shopco", "@daily /usr/local/cpanel/scripts/x\n");
    // As `pkgacct --split` leaves it.
    target.shell(&format!("mkdir {BACKUPS}/split; cat >{BACKUPS}/whole"), &account.packed());
    target.shell(
        &format!("cd {BACKUPS}; split -d -a 5 --numeric-suffixes=1 -b 9000 whole split/cpmove-shopco.tar.gz.part; rm whole"),
        b"",
    );
    let before = target.snapshot();
    let job = Job::new(&target, &format!("{BACKUPS}/split"), "shopco");
    let preview = job.begin(Options::default(), Ownership::Free);
    let reports = job.apply();
    let items: Vec<ItemReport> = reports.into_iter().flat_map(|r| r.items).collect();
    let item = |id: &str| {
        let found = items.iter().find(|i| i.id == id);
        found.unwrap_or_else(|| panic!("{id} in {items:#?}"))
    };
    everything_works(&target, &expectations(SHOP));

    assert_eq!(
        target.shell(
            "cd /home/shopco; stat -c %s disk.img hole.img; head -n 1 disk.img | tr -d '\\0'; tail -n 1 disk.img \
             | tr -d '\\0'; [ $(du -k disk.img | cut -f 1) -lt 1000 ] && [ $(du -k hole.img | cut -f 1) -eq 0 ]",
            b""
        ),
        "67108868\n67108864\nbegin\nend\n"
    );
    assert_eq!(get(&target, "any.shopco.example", "/").1, "wild");
    assert_eq!(get(&target, "dev_x.shopco.example", "/").1, "dev");
    assert_eq!(get(&target, "shopco.example", "/app/"), (200, "4".to_owned()));
    let new = item("database_user:shopco_new");
    assert_eq!(new.outcome, Outcome::Adapted);
    assert!(new.detail.contains("public_html/app/.env"), "{}", new.detail);
    assert_eq!(get(&target, "shopco.example", "/app/.env").0, 403);
    let legacy = json!({"name": "legacy-db.1", "user": "legacy.user", "password": "Db-Pass-2!"});
    let row = sql(&target, &legacy, "SELECT a FROM t");
    assert_eq!(row.trim(), "utf8mb4_0900_ai_ci DEFINER=`root`@`localhost`");
    assert!(sql(&target, &legacy, "INSERT INTO t VALUES ('x')").contains("ERROR"));
    assert!(sql(&target, &legacy, "SELECT COUNT(*) FROM shopco_gad.posts").contains('2'));
    assert!(sql(&target, &legacy, "SELECT * FROM shopco_wp.posts").contains("ERROR"));

    let converted = item("mailbox:box@shopco.example");
    assert_eq!(converted.detail, "Converted from mdbox to maildir.");
    mail_works(&target);
    let cron = item("cron:shopco:1");
    assert_eq!(cron.outcome, Outcome::Disabled);
    let lost: Vec<&str> = preview.plan.not_transferred.iter().map(|n| n.item.as_str()).collect();
    assert!(lost.contains(&"cron:shopco:3"), "{lost:?}");
    let verified: Verification = job.ask(Call::Verify { ipv4: target.host.parse().unwrap() });
    let bad: Vec<_> = verified.checks.iter().filter(|c| c.status == CheckStatus::Fail).collect();
    assert!(bad.is_empty(), "{bad:?}");
    cron_is_confirmed(&target, &job);
    job.undo(false);
    assert_eq!(before, target.snapshot());
}

fn mail_works(target: &Target) {
    for (name, _) in SCHEMES {
        let opened = imap(target, &format!("{name}@shopco.example"), "Any-Pass-1", &[]);
        assert_eq!(opened.is_some(), name != "locked", "{name}");
    }
    let count = |login: &str, password: &str, folder: &str| {
        messages(target, login, password, folder).unwrap_or_default()
    };
    for (folder, wanted) in [("INBOX", 3), ("Sent.Old", 1)] {
        assert_eq!(count("box@shopco.example", "Any-Pass-1", folder), wanted, "{folder}");
    }
    let read = imap(
        target,
        "rounds@shopco.example",
        "Any-Pass-1",
        &["SELECT INBOX", "FETCH 1 BODY.PEEK[TEXT]"],
    );
    assert!(read.unwrap()[1].contains("This text was compressed."));
    assert_eq!(send_mail(target, "info@shopco.example"), 250);
    eventually("the filter files it", || {
        count("info@shopco.example", "Mail-Pass-1!", "Lists") == 1
    });
    assert_eq!(send_mail(target, "sales@shopco-alias.example"), 250);
    eventually("the domain's mail goes on", || {
        count("sales@shopco.example", "Mail-Pass-2!", "INBOX") == 2
    });
    // An answer to the server's own mailbox comes back.
    let letter =
        "From: \"Ann A\" <ann@gadgets.example>\nTo: news@shopco.example\nSubject: What?\n\nx\n";
    let send = "/usr/sbin/sendmail -i -f ann@gadgets.example news@shopco.example";
    target.shell(send, letter.as_bytes());
    eventually("the autoresponder answers", || {
        count("ann@gadgets.example", "Mail-Pass-3!", "INBOX") == 1
    });
    let answer = imap(
        target,
        "ann@gadgets.example",
        "Mail-Pass-3!",
        &["SELECT INBOX", "FETCH 1 BODY.PEEK[]"],
    );
    let answer = answer.unwrap().concat();
    assert!(answer.contains("Subject: Re: What?"), "{answer}");
    assert!(answer.contains("Dear \"Ann A\"") || answer.contains("Dear Ann A"), "{answer}");
}

fn cron_is_confirmed(target: &Target, job: &Job<'_>) {
    let crontab = || target.shell("crontab -l -u shopco 2>/dev/null", b"");
    assert_eq!(crontab(), "");
    let items = ["cron:shopco:2".to_owned()].into();
    for _ in 0..2 {
        let report: cpanel::protocol::StepReport =
            job.ask(Call::Confirm { items: std::collections::BTreeSet::clone(&items) });
        assert_eq!(report.items[0].outcome, Outcome::Migrated);
    }
    let text = crontab();
    let lines: Vec<&str> = text.lines().filter(|l| !l.contains("=\"")).collect();
    assert_eq!(lines, ["@daily /usr/bin/php8.2 -q /home/shopco/bin/daily.php"]);
}
