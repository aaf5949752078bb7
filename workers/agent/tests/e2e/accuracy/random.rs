//! Random small accounts. Names come from small pools, so that rounds collide with what stands.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

pub const USERS: [&str; 2] = ["alpha", "beta"];
const DOMAINS: [&str; 3] = ["one.example", "two.example", "six.example"];
const BOXES: [&str; 3] = ["ann", "bob", "eve"];
/// Of `Any-Pass-1`.
const HASHES: [&str; 2] = [
    "$5$saltsha256$CaNUhdkRN3k9rg/96h5wz475Ac9fdmb9ohlTaSDW6H0",
    "$2y$05$abcdefghijklmnopqrstuuB0yRAr.6Wih3is.55qv1IC4deMAgceW",
];
const SQL_HASHES: [&str; 2] =
    ["*610FEEC0938AEDE921A2FE6B8834663E40D7400A", "*D1D97FE192D214C2EFB48B09D0C12FB0E4FC89B1"];
const RIGHTS: [&str; 3] = ["ALL PRIVILEGES", "SELECT, INSERT", "SELECT, UPDATE, CREATE, DROP"];
const CHARSETS: [&str; 3] = [
    "utf8mb4 COLLATE utf8mb4_unicode_ci",
    "latin1 COLLATE latin1_german1_ci",
    "utf8 COLLATE utf8_general_ci",
];
const CRON: [&str; 3] = [
    "5 4 * * * /usr/bin/true\n",
    "@daily /usr/local/bin/php /home/USER/daily.php\n",
    "*/9 * * * * /usr/bin/id >/dev/null\n",
];
const FILTER: &str = "--- \nfilter: \n  - \n    actions: \n      - \n        action: save\n        dest: $home/mail/DOMAIN/LOCAL/.Lists\n    enabled: 1\n    filtername: lists\n    rules: \n      - \n        match: contains\n        opt: or\n        part: '$header_subject:'\n        val: WORD\nversion: '2.2'\n";

/// Key and certificates that accounts draw from, made once.
pub struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    pub fn made() -> Self {
        let keys = Self { dir: tempfile::tempdir().unwrap() };
        for key in 0..2 {
            keys.openssl(&format!("genrsa -out {key}.key 2048"));
            for domain in DOMAINS {
                keys.openssl(&format!(
                    "req -x509 -new -key {key}.key -subj /CN={domain} -days 30 -out {domain}.{key} \
                     -addext subjectAltName=DNS:{domain},DNS:www.{domain}"
                ));
            }
        }
        keys
    }

    #[expect(clippy::disallowed_methods, reason = "tests make keys with OpenSSL themselves")]
    fn openssl(&self, arguments: &str) {
        let mut openssl = Command::new("openssl");
        let done = openssl.args(arguments.split(' ')).current_dir(self.dir.path()).output();
        assert!(done.unwrap().status.success(), "{arguments}");
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

/// An archive in the making.
pub struct Account {
    pub user: &'static str,
    members: BTreeMap<String, String>,
}

/// A subset in which each has a chance of two in three.
fn some<'a, T>(rng: &mut StdRng, all: &'a [T]) -> Vec<&'a T> {
    all.iter().filter(|_| rng.random_ratio(2, 3)).collect()
}

fn pick<'a, T>(rng: &mut StdRng, all: &'a [T]) -> &'a T {
    all.choose(rng).unwrap()
}

impl Account {
    pub fn random(rng: &mut StdRng, keys: &Keys) -> Self {
        let user = *pick(rng, &USERS);
        let mut account = Self { user, members: BTreeMap::new() };
        let mut names: Vec<&str> = DOMAINS.to_vec();
        let main = names.remove(rng.random_range(0..names.len()));
        account.put("version", "pkgacct version: 10\narchive version: 4\n");
        account.put("homedir_paths", &format!("/home/{user}\n"));
        account.put("cp/".to_owned() + user, &format!("DNS={main}\nIP=192.0.2.10\nUSER={user}\n"));
        let hash = *pick(rng, &HASHES);
        account.put("shadow", hash);
        let mut domains = account.domains(rng, main, &names);
        account.files(rng);
        domains.push(main.to_owned());
        for domain in &domains {
            account.mail(rng, domain);
            account.zone(domain);
            if rng.random_bool(0.5) {
                let number = rng.random_range(0..2);
                let pem =
                    keys.text(&format!("{number}.key")) + &keys.text(&format!("{domain}.{number}"));
                account.put(format!("apache_tls/{domain}"), &pem);
            }
            if rng.random_bool(0.5) {
                let key = keys.text(&format!("{}.key", rng.random_range(0..2)));
                account.put(format!("domainkeys/private/{domain}"), &key);
            }
        }
        account.databases(rng);
        let lines: String = some(rng, &CRON).into_iter().copied().collect();
        account.put(format!("cron/{user}"), &lines.replace("USER", user));
        account
    }

    fn put(&mut self, path: impl Into<String>, text: &str) {
        self.members.insert(path.into(), text.to_owned());
    }

    /// Sites of all kinds; gives the domains beside the main one.
    fn domains(&mut self, rng: &mut StdRng, main: &str, others: &[&str]) -> Vec<String> {
        let user = self.user;
        let (mut addons, mut parked, mut subs) = (String::new(), String::new(), String::new());
        let mut domains = Vec::new();
        let mut host = |name: &str, root: &str, aliases: &str| {
            let text = format!(
                "--- \ndocumentroot: /home/{user}/{root}\nserveralias: {aliases}\nservername: '{name}'\nuser: {user}\n"
            );
            self.members.insert(format!("userdata/{}", name.replace('*', "_wildcard_")), text);
        };
        host(main, "public_html", &format!("www.{main} mail.{main}"));
        for other in others {
            match rng.random_range(0..3) {
                0 => {
                    let inner = format!("{}.{main}", other.replace(".example", ""));
                    addons.push_str(&format!("  {other}: {inner}\n"));
                    subs.push_str(&format!("  - {inner}\n"));
                    host(&inner, other, &format!("{other} www.{other}"));
                    domains.push((*other).to_owned());
                }
                1 => {
                    parked.push_str(&format!("  - {other}\n"));
                    domains.push((*other).to_owned());
                }
                _ => {}
            }
        }
        for (name, root) in [("blog", "public_html/blog"), ("dev", "dev"), ("*", "wild")] {
            if rng.random_bool(0.4) {
                subs.push_str(&format!("  - '{name}.{main}'\n"));
                host(&format!("{name}.{main}"), root, "");
            }
        }
        let text = format!(
            "--- \naddon_domains: \n{addons}main_domain: {main}\nparked_domains: \n{parked}sub_domains: \n{subs}"
        );
        self.put(
            "userdata/main",
            &text.replace(": \nmain", ": {}\nmain").replace(": \nsub", ": []\nsub"),
        );
        domains
    }

    fn files(&mut self, rng: &mut StdRng) {
        let all = [
            "public_html/index.html",
            "public_html/a.txt",
            "public_html/blog/index.html",
            "public_html/blog/deep/er/x.txt",
            "dev/index.html",
            "wild/index.html",
            "two.example/index.html",
            "data/notes.txt",
            ".profile-of-mine",
        ];
        for path in some(rng, &all) {
            let text = format!("{path} {}\n", rng.random_range(0..9));
            self.put(format!("homedir/{path}"), &text);
        }
    }

    fn mail(&mut self, rng: &mut StdRng, domain: &str) {
        let user = self.user;
        let (mut passwd, mut shadow, mut aliases) = (String::new(), String::new(), String::new());
        for local in some(rng, &BOXES) {
            passwd.push_str(&format!(
                "{local}:x:1:1::/home/{user}/mail/{domain}/{local}:/home/{user}\n"
            ));
            let lock = if rng.random_bool(0.2) { "!" } else { "" };
            shadow.push_str(&format!("{local}:{lock}{}:19000::::::\n", pick(rng, &HASHES)));
            for number in 0..rng.random_range(0..4) {
                let (part, flags) = *pick(rng, &[("cur", "2,S"), ("cur", "2,RS"), ("new", "2,")]);
                let folder = pick(rng, &["", ".Sent/"]);
                let text = format!("From: a@b.example\r\nSubject: {number}\r\n\r\nbody\r\n");
                let path = format!(
                    "homedir/mail/{domain}/{local}/{folder}{part}/176722560{number}.M0P1.src:{flags}"
                );
                self.put(path, &text);
            }
            if rng.random_bool(0.3) {
                let word = pick(rng, &["hello", "news"]);
                let text = FILTER.replace("DOMAIN", domain).replace("LOCAL", local);
                self.put(
                    format!("homedir/etc/{domain}/{local}/filter.yaml"),
                    &text.replace("WORD", word),
                );
            }
        }
        for local in ["bob", "sales", "all"] {
            if rng.random_bool(0.4) {
                let to =
                    pick(rng, &["x@elsewhere.example", "ann@two.example, y@elsewhere.example"]);
                aliases.push_str(&format!("{local}@{domain}: {to}\n"));
            }
        }
        for local in ["ann", "away"] {
            if rng.random_bool(0.3) {
                let of = format!("{local}@{domain}");
                aliases.push_str(&format!(
                    "{of}: \"|/usr/local/cpanel/bin/autorespond {of} /home/{user}/.autorespond\"\n"
                ));
                let text = format!(
                    "From: {of}\nSubject: Re: %subject%\nContent-type: text/plain\n\nAway {}.\n",
                    rng.random_range(0..3)
                );
                self.put(format!("homedir/.autorespond/{of}"), &text);
                self.put(format!("homedir/.autorespond/{of}.json"), "{\"interval\":8}");
            }
        }
        let rest = ["\":fail: No\"", ":blackhole:", "x@elsewhere.example"];
        aliases.push_str(&format!("*: {}\n", pick(rng, &rest)));
        self.put(format!("va/{domain}"), &aliases);
        self.put(format!("homedir/etc/{domain}/passwd"), &passwd);
        self.put(format!("homedir/etc/{domain}/shadow"), &shadow);
    }

    fn zone(&mut self, domain: &str) {
        let text = format!(
            "$TTL 14400\n{domain}. 86400 IN SOA ns1.src.example. a.src.example. (1 3600 1800 1209600 86400)\n\
             {domain}. 86400 IN NS ns1.src.example.\n{domain}. 14400 IN A 192.0.2.10\n\
             {domain}. 14400 IN MX 0 {domain}.\n"
        );
        self.put(format!("dnszones/{domain}.db"), &text);
    }

    fn databases(&mut self, rng: &mut StdRng) {
        let user = self.user;
        let names = [format!("{user}_wp"), format!("{user}_shop"), "legacy".to_owned()];
        let logins = [format!("{user}_wp"), format!("{user}_u"), "legacyuser".to_owned()];
        let mut grants = String::new();
        let names: Vec<String> = some(rng, &names).into_iter().cloned().collect();
        for name in &names {
            let charset = pick(rng, &CHARSETS);
            let create =
                format!("CREATE DATABASE `{name}` /*!40100 DEFAULT CHARACTER SET {charset} */;\n");
            self.put(format!("mysql/{name}.create"), &create);
            let table = "CREATE TABLE `t` (`id` int NOT NULL AUTO_INCREMENT, `title` varchar(50), PRIMARY KEY (`id`)) ENGINE=InnoDB;\n";
            let rows: String = (1..rng.random_range(2..6))
                .map(|n| format!("INSERT INTO `t` VALUES ({n},'row {n}');\n"))
                .collect();
            let view = "/*!50001 CREATE VIEW `last` AS select `t`.`id` AS `id` from `t` */;\n";
            let end = "-- Dump completed on 2026-01-02  3:04:05\n";
            let dump = match rng.random_range(0..5) {
                0 => Some(format!("{table}{end}")),
                1 => Some(end.to_owned()),
                2 => None,
                3 => Some(format!("{table}{rows}{end}")),
                _ => Some(format!("{table}{rows}{view}{end}")),
            };
            if let Some(dump) = dump {
                self.put(format!("mysql/{name}.sql"), &dump);
            }
        }
        for login in some(rng, &logins) {
            let hash = pick(rng, &SQL_HASHES);
            grants.push_str(&format!(
                "GRANT USAGE ON *.* TO '{login}'@'localhost' IDENTIFIED BY PASSWORD '{hash}';\n"
            ));
            for name in some(rng, &names) {
                let (name, rights) = (name.replace('_', "\\_"), pick(rng, &RIGHTS));
                grants
                    .push_str(&format!("GRANT {rights} ON `{name}`.* TO '{login}'@'localhost';\n"));
            }
        }
        self.put("mysql.sql", &grants);
    }

    /// Names at the top of the home in the archive.
    pub fn top_names(&self) -> BTreeSet<String> {
        let below = self.members.keys().filter_map(|k| k.strip_prefix("homedir/"));
        below.map(|path| path.split('/').next().unwrap().to_owned()).collect()
    }

    /// Some paths of the home that can be selected.
    pub fn some_paths(&self, rng: &mut StdRng) -> BTreeSet<String> {
        let below = self.members.keys().filter_map(|k| k.strip_prefix("homedir/"));
        let own = below.filter(|p| !p.starts_with("mail/") && !p.starts_with("etc/"));
        let chosen = own.choose_multiple(rng, 2).into_iter();
        chosen
            .map(|p| if rng.random_bool(0.5) { p } else { p.split('/').next().unwrap() }.to_owned())
            .collect()
    }

    pub fn packed(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in &self.members {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_mtime(1_700_000_000);
            header.set_size(u64::try_from(text.len()).unwrap());
            let path = format!("cpmove-{}/{path}", self.user);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }
}
