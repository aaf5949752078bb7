//! Plans of the sample archives against the expectations, and conflicts.

use crate::fixtures::{NAMES, account, expectations};
use chrono::{DateTime, Utc};
use cpanel::account::Account;
use cpanel::plan::*;
use cpanel::planner::{Input, plan};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use values::{DatabaseName, DatabaseUser, DomainName, Username};

const TARGET: &str = "203.0.113.7";

struct Setting {
    user: Username,
    facts: Facts,
    control: ControlFacts,
    options: Options,
    now: DateTime<Utc>,
}

impl Setting {
    /// An empty server.
    fn of(account: &Account) -> Self {
        Self {
            user: account.user.clone(),
            facts: Facts {
                wildcards: BTreeMap::new(),
                user: None,
                home_exists: false,
                databases: BTreeSet::new(),
                database_users: BTreeSet::new(),
                grants: BTreeSet::new(),
                vhosts: BTreeMap::new(),
                sites: BTreeSet::new(),
                pools: BTreeSet::new(),
                forwarders: BTreeSet::new(),
                scripts: BTreeSet::new(),
                login: None,
                dkim: BTreeSet::new(),
                mail_domains: BTreeMap::new(),
                mailboxes: BTreeSet::new(),
                certificates: BTreeSet::new(),
                php_versions: BTreeSet::from(["8.2".to_owned()]),
                free_bytes: 1 << 40,
                hostname: "web1.hosting.example".to_owned(),
            },
            control: ControlFacts {
                ipv4: TARGET.parse().unwrap(),
                ipv6: None,
                nameservers: vec![DomainName::parse("ns1.migrapanel.example").unwrap()],
                ownership: BTreeMap::new(),
                account: Ownership::Free,
                activate_domains: true,
                answer_zones: false,
                proven: BTreeSet::new(),
            },
            options: Options::default(),
            now: DateTime::from_timestamp(1_790_000_000, 0).unwrap(),
        }
    }

    /// A server where the account stands already.
    fn standing(account: &Account) -> Self {
        let mut setting = Self::of(account);
        setting.facts.user = Some(UserFact { uid: 2001, is_account: true });
        setting.facts.home_exists = true;
        setting.control.account = Ownership::Own;
        setting
    }

    fn plan(&self, account: &Account) -> Plan {
        let Self { user, facts, control, options, now } = self;
        plan(&Input { account, target_user: user, facts, control, options, now: *now })
    }
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.operations.iter().map(|o| o.id.as_str()).collect()
}

fn conflicts(plan: &Plan) -> Vec<&str> {
    plan.conflicts.iter().map(|c| c.id.as_str()).collect()
}

fn operation<'p>(plan: &'p Plan, id: &str) -> &'p Operation {
    plan.operations.iter().find(|o| o.id == id).unwrap_or_else(|| panic!("{id} in {:?}", ids(plan)))
}

fn shop() -> Account {
    account("cpmove-shopco.tar.gz").account
}

#[test]
fn zones_are_as_expected() {
    for name in NAMES {
        let account = account(name).account;
        let plan = Setting::of(&account).plan(&account);
        for want in expectations(name)["dns"].as_array().unwrap() {
            let zone = format!("zone:{}", want["zone"].as_str().unwrap());
            let Resource::Zone { records, .. } = &operation(&plan, &zone).resource else {
                panic!()
            };
            let owner = format!("{}.", want["name"].as_str().unwrap());
            let set = records.iter().find(|s| s.name == owner && want["type"] == s.rtype.as_str());
            match (&want["value"], set) {
                (Value::Null, set) => assert!(set.is_none(), "{want}"),
                (Value::String(value), Some(set)) => {
                    let found = set.records.first().unwrap();
                    assert_eq!(set.records.len(), 1);
                    if set.rtype == "TXT" {
                        let joined =
                            found.trim_matches('"').replace("\" \"", "").replace("\\\"", "\"");
                        assert_eq!(&joined, value);
                    } else {
                        assert_eq!(found, &value.replace("TARGET_IP", TARGET));
                    }
                }
                other => panic!("{other:?}"),
            }
            assert!(records.iter().all(|s| s.rtype != "SOA" && s.rtype != "SRV"));
            assert!(records.iter().all(|s| s.records.iter().all(|r| !r.contains("192.0.2.10"))));
            let ns = records.iter().find(|s| s.rtype == "NS").unwrap();
            assert_eq!(ns.records.first().unwrap(), "ns1.migrapanel.example.");
        }
    }
}

#[test]
fn spf_is_rewritten_in_place() {
    let account = shop();
    let plan = Setting::of(&account).plan(&account);
    let Resource::Zone { records, .. } = &operation(&plan, "zone:shopco.example").resource else {
        panic!()
    };
    let txt = records.iter().find(|s| s.name == "shopco.example." && s.rtype == "TXT").unwrap();
    assert_eq!(
        txt.records.first().unwrap(),
        "\"v=spf1 +a +mx +ip4:203.0.113.7 include:_spf.mailer.example ~all\""
    );
}

#[test]
fn the_shop_on_an_empty_server() {
    let account = shop();
    let plan = Setting::of(&account).plan(&account);
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
    assert_eq!(
        ids(&plan),
        [
            "user:shopco",
            "home:shopco",
            "files:home",
            "php_pool:8.2",
            "website:blog.shopco.example",
            "website:gadgets.example",
            "website:shopco.example",
            "cron:shopco:1",
            "cron:shopco:2",
            "database:shopco_gad",
            "database:shopco_wp",
            "database_user:shopco_g",
            "database_user:shopco_wp",
            "grant:shopco_g:shopco_gad",
            "grant:shopco_wp:shopco_wp",
            "mail_domain:gadgets.example",
            "mail_domain:shopco-alias.example",
            "mail_domain:shopco.example",
            "mailbox:ann@gadgets.example",
            "mailbox:info@shopco.example",
            "mailbox:sales@shopco.example",
            "mailbox:shopco@shopco.example",
            "vacation:info@shopco.example",
            "forwarder:boss@shopco.example",
            "dkim:gadgets.example",
            "dkim:shopco-alias.example",
            "dkim:shopco.example",
            "zone:gadgets.example",
            "zone:shopco-alias.example",
            "zone:shopco.example",
            "certificate:shopco.example",
        ]
    );
    let Resource::Website { aliases, docroot, php, .. } =
        &operation(&plan, "website:shopco.example").resource
    else {
        panic!()
    };
    assert_eq!((docroot.as_str(), php.as_str()), ("/home/shopco/public_html", "8.2"));
    for alias in ["www.shopco.example", "mail.shopco.example", "shopco-alias.example"] {
        assert!(aliases.iter().any(|a| a.as_str() == alias), "{aliases:?}");
    }
    let Resource::Mailbox { maildir, login_aliases, .. } =
        &operation(&plan, "mailbox:shopco@shopco.example").resource
    else {
        panic!()
    };
    assert_eq!(
        (maildir.as_str(), login_aliases.len()),
        ("/home/shopco/mail/shopco.example/shopco", 1)
    );
    let Resource::MailDomain { catch_all, active, .. } =
        &operation(&plan, "mail_domain:shopco.example").resource
    else {
        panic!()
    };
    assert!(matches!(catch_all, Some(CatchAll::Address(a)) if a.as_str() == "info@shopco.example"));
    assert!(*active);
    assert!(plan.operations.windows(2).all(|w| w[0].step <= w[1].step));
    assert!(plan.warnings.iter().any(|w| w.code == "certificate_self_signed"));
    assert_eq!(plan.totals.mailboxes, 4);
}

#[test]
fn another_user_name_moves_paths_and_keeps_names() {
    let account = account("backup-1.2.2026_03-04-05_arielstudio01.tar.gz").account;
    let mut setting = Setting::of(&account);
    setting.user = Username::parse("ariel").unwrap();
    let plan = setting.plan(&account);
    let Resource::Website { docroot, php, php_source, .. } =
        &operation(&plan, "website:photos.example").resource
    else {
        panic!()
    };
    assert_eq!(docroot.as_str(), "/home/ariel/photos.example/web");
    assert_eq!((php.as_str(), php_source.as_deref()), ("8.2", Some("ea-php81")));
    assert!(plan.warnings.iter().any(|w| w.code == "php_version_mapped"));
    let Resource::Database { collation, .. } =
        &operation(&plan, "database:arielstudio01_main").resource
    else {
        panic!()
    };
    assert_eq!(collation.as_deref(), Some("utf8mb4_unicode_ci"));
    let Resource::Mailbox { maildir, .. } =
        &operation(&plan, "mailbox:arielstudio01@ariel-studio.example").resource
    else {
        panic!()
    };
    assert_eq!(maildir.as_str(), "/home/ariel/mail/ariel-studio.example/arielstudio01");
}

#[test]
fn plans_are_deterministic_and_digests_notice_facts() {
    let account = shop();
    let setting = Setting::of(&account);
    let (a, b) = (setting.plan(&account), setting.plan(&account));
    let digest = |plan: &Plan, facts: &Facts| plan.digest("x", facts, &setting.control).unwrap();
    assert_eq!(digest(&a, &setting.facts), digest(&b, &setting.facts));
    let mut later = setting.facts.clone();
    later.free_bytes = 7;
    assert_eq!(digest(&a, &setting.facts), digest(&b, &later));
    later.databases.insert(DatabaseName::parse("shopco_wp").unwrap());
    assert_ne!(digest(&a, &setting.facts), digest(&b, &later));
    let text = serde_json::to_string(&a).unwrap();
    assert!(!text.contains("$6$") && !text.contains("PRIVATE KEY") && !text.contains("*3B8C43"));
}

#[test]
fn users_that_cannot_be_taken() {
    let account = shop();
    let mut setting = Setting::of(&account);
    setting.user = Username::parse("root").unwrap();
    assert_eq!(conflicts(&setting.plan(&account)), ["user:root"]);
    let mut setting = Setting::of(&account);
    setting.facts.user = Some(UserFact { uid: 33, is_account: false });
    assert_eq!(conflicts(&setting.plan(&account)), ["user:shopco"]);
    setting.facts.user = Some(UserFact { uid: 2000, is_account: true });
    assert_eq!(conflicts(&setting.plan(&account)), ["user:shopco"], "an account of nobody we know");
    let mut setting = Setting::of(&account);
    setting.control.account = Ownership::Taken;
    assert_eq!(conflicts(&setting.plan(&account)), ["user:shopco"]);
    let mut setting = Setting::of(&account);
    setting.facts.home_exists = true;
    assert_eq!(conflicts(&setting.plan(&account)), ["home:shopco"]);
    setting.options.resolutions.insert("home:shopco".into(), Resolution::Replace);
    let plan = setting.plan(&account);
    assert!(plan.conflicts.is_empty());
    assert_eq!(operation(&plan, "home:shopco").action, Action::Replace);
}

#[test]
fn domains_of_others() {
    let account = shop();
    let mut setting = Setting::of(&account);
    let domain = DomainName::parse("gadgets.example").unwrap();
    setting.control.ownership.insert(domain.clone(), Ownership::Taken);
    setting
        .facts
        .mail_domains
        .insert(DomainName::parse("shopco-alias.example").unwrap(), "other".into());
    let plan = setting.plan(&account);
    assert_eq!(conflicts(&plan), ["domain:gadgets.example", "domain:shopco-alias.example"]);
    for id in ["domain:gadgets.example", "domain:shopco-alias.example"] {
        setting.options.resolutions.insert(id.into(), Resolution::Skip);
    }
    let plan = setting.plan(&account);
    assert!(plan.conflicts.is_empty());
    assert!(ids(&plan).iter().all(|id| !id.contains("gadgets.example") && !id.contains("alias")));
    let Resource::Website { aliases, .. } = &operation(&plan, "website:shopco.example").resource
    else {
        panic!()
    };
    assert!(aliases.iter().all(|a| !a.as_str().ends_with("shopco-alias.example")));

    let mut setting = Setting::of(&account);
    setting.facts.hostname = "shopco.example".into();
    let plan = setting.plan(&account);
    assert_eq!(conflicts(&plan), ["domain:shopco.example"]);
    assert!(
        ids(&plan).iter().all(|id| !id.contains("blog.shopco.example")),
        "what lies below goes, too"
    );
}

#[test]
fn databases_that_exist() {
    let account = shop();
    let mut setting = Setting::of(&account);
    setting.facts.databases.insert(DatabaseName::parse("shopco_wp").unwrap());
    setting.facts.database_users.insert(DatabaseUser::parse("shopco_wp").unwrap());
    let plan = setting.plan(&account);
    assert_eq!(conflicts(&plan), ["database:shopco_wp", "database_user:shopco_wp"]);
    assert_eq!(plan.conflicts[0].resolutions[1], Resolution::Rename("shopco_wp_2".into()));
    let choose = |setting: &mut Setting, id: &str, r: Resolution| {
        setting.options.resolutions.insert(id.into(), r);
    };
    choose(&mut setting, "database:shopco_wp", Resolution::Rename("shopco_new".into()));
    choose(&mut setting, "database_user:shopco_wp", Resolution::Replace);
    choose(&mut setting, "database:nonsense", Resolution::Skip);
    let plan = setting.plan(&account);
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
    operation(&plan, "grant:shopco_wp:shopco_new");
    assert_eq!(operation(&plan, "database_user:shopco_wp").action, Action::Replace);
    assert!(plan.warnings.iter().any(|w| w.code == "resolution_unknown"));

    choose(&mut setting, "database:shopco_wp", Resolution::Rename("shopco_gad".into()));
    assert_eq!(conflicts(&setting.plan(&account)), ["database:shopco_wp"]);
    choose(&mut setting, "database:shopco_wp", Resolution::Skip);
    let plan = setting.plan(&account);
    assert!(!ids(&plan).iter().any(|id| id.ends_with("shopco_wp") && !id.starts_with("mail")));

    // Under another user, nothing that stands is ever replaced.
    let mut setting = Setting::of(&account);
    setting.user = Username::parse("other").unwrap();
    setting.facts.databases.insert(DatabaseName::parse("shopco_wp").unwrap());
    choose(&mut setting, "database:shopco_wp", Resolution::Replace);
    assert_eq!(conflicts(&setting.plan(&account)), ["database:shopco_wp"]);
}

#[test]
fn a_lesser_dump_replaces_nothing() {
    let mut account = shop();
    account.databases[1].dump = cpanel::account::DumpState::Placeholder;
    let mut setting = Setting::standing(&account);
    setting.options.mode = Mode::Overwrite;
    setting.facts.databases.insert(DatabaseName::parse("shopco_wp").unwrap());
    assert_eq!(conflicts(&setting.plan(&account)), ["dump:shopco_wp"]);
    setting.options.resolutions.insert("dump:shopco_wp".into(), Resolution::Skip);
    let plan = setting.plan(&account);
    assert!(plan.conflicts.is_empty() && !ids(&plan).contains(&"database:shopco_wp"));
}

#[test]
fn an_account_that_stands() {
    let account = shop();
    let mut setting = Setting::standing(&account);
    let main = DomainName::parse("shopco.example").unwrap();
    setting.facts.vhosts.insert(main.clone(), "shopco".into());
    setting.facts.mail_domains.insert(main.clone(), "shopco".into());
    setting.facts.mailboxes.insert("info@shopco.example".parse().unwrap());
    setting.facts.sites.insert(main.clone());
    setting.facts.certificates.insert(main);
    let plan = setting.plan(&account);
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
    for id in [
        "user:shopco",
        "home:shopco",
        "files:home",
        "website:shopco.example",
        "mailbox:info@shopco.example",
    ] {
        assert_eq!(operation(&plan, id).action, Action::Merge, "{id}");
    }
    assert!(!ids(&plan).contains(&"certificate:shopco.example"));
    setting.options.mode = Mode::Overwrite;
    let plan = setting.plan(&account);
    for id in [
        "files:home",
        "website:shopco.example",
        "mailbox:info@shopco.example",
        "certificate:shopco.example",
    ] {
        assert_eq!(operation(&plan, id).action, Action::Replace, "{id}");
    }
    assert_eq!(operation(&plan, "home:shopco").action, Action::Merge);
}

#[test]
fn a_selection() {
    let account = shop();
    let mut setting = Setting::of(&account);
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<String>>();
    setting.options.components.insert(Component::Databases, names(&["shopco_gad"]));
    setting
        .options
        .components
        .insert(Component::Email, names(&["ann@gadgets.example", "nobody@x.example"]));
    let plan = setting.plan(&account);
    assert_eq!(
        ids(&plan),
        [
            "user:shopco",
            "home:shopco",
            "database:shopco_gad",
            "database_user:shopco_g",
            "grant:shopco_g:shopco_gad",
            "mail_domain:gadgets.example",
            "mailbox:ann@gadgets.example",
        ]
    );
    let unknown: Vec<&str> = plan.conflicts.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(unknown, ["selection:nobody@x.example"], "a misspelt name stops the plan");
    let mut setting = Setting::of(&account);
    setting.options.components.insert(Component::Files, names(&["public_html/index.php"]));
    let plan = setting.plan(&account);
    assert_eq!(ids(&plan), ["user:shopco", "home:shopco", "files:home"]);
    assert!(plan.conflicts.is_empty());
    for wrong in ["../x", "", "/public_html", "mail/shopco.example/info", "etc"] {
        let mut setting = Setting::of(&account);
        setting.options.components.insert(Component::Files, names(&[wrong]));
        let plan = setting.plan(&account);
        assert_eq!(plan.conflicts.len(), 1, "{wrong} must never become the whole home");
    }
}

#[test]
fn time_and_dormancy() {
    let account = shop();
    let mut setting = Setting::of(&account);
    setting.now = DateTime::from_timestamp(9_000_000_000, 0).unwrap();
    setting.control.activate_domains = false;
    let plan = setting.plan(&account);
    assert!(!ids(&plan).contains(&"certificate:shopco.example"));
    for operation in &plan.operations {
        if let Resource::Zone { active, .. } | Resource::MailDomain { active, .. } =
            operation.resource
        {
            assert!(!active);
        }
    }
}

#[test]
fn an_action_says_what_stands_of_the_very_thing() {
    let account = shop();
    let mut setting = Setting::standing(&account);
    setting.options.mode = Mode::Overwrite;
    let shop: DomainName = "shopco.example".parse().unwrap();
    // The domain and a mailbox stand, another site answers to the name, a user has other rights.
    setting.facts.mail_domains.insert(shop.clone(), "shopco".to_owned());
    setting.facts.mailboxes.insert("info@shopco.example".parse().unwrap());
    setting.facts.vhosts.insert(shop.clone(), "shopco".to_owned());
    setting.facts.database_users.insert("shopco_wp".parse().unwrap());
    let beside = [
        "website:shopco.example",
        "php_pool:8.2",
        "forwarder:boss@shopco.example",
        "vacation:info@shopco.example",
        "dkim:shopco.example",
        "grant:shopco_wp:shopco_wp",
    ];
    let plan = setting.plan(&account);
    let [site, others @ ..] = beside;
    assert_eq!(others.map(|id| operation(&plan, id).action), [Action::Create; 5]);
    // Of two sites that answer to one name Apache would show whichever comes first.
    assert!(!ids(&plan).contains(&site) && !ids(&plan).contains(&"certificate:shopco.example"));
    assert!(
        plan.not_transferred.iter().any(|lost| lost.item == site),
        "{:?}",
        plan.not_transferred
    );
    setting.facts.sites.insert(shop.clone());
    setting.facts.pools.insert("8.2".to_owned());
    setting.facts.forwarders.insert("boss@shopco.example".parse().unwrap());
    setting.facts.scripts.insert("info@shopco.example".parse().unwrap());
    setting.facts.dkim.insert(shop);
    setting.facts.grants.insert(("shopco_wp".parse().unwrap(), "shopco_wp".parse().unwrap()));
    let plan = setting.plan(&account);
    let found = beside.map(|id| operation(&plan, id).action);
    let mut expected = [Action::Replace; 6];
    expected[1] = Action::Merge;
    assert_eq!(found, expected);
}

#[test]
fn the_accounts_own_login_is_led_elsewhere_only_by_an_overwrite() {
    let account = shop();
    let mut setting = Setting::standing(&account);
    let aliases = |setting: &Setting| {
        let plan = setting.plan(&account);
        let found = &operation(&plan, "mailbox:shopco@shopco.example").resource;
        let Resource::Mailbox { login_aliases, .. } = found else { panic!("{found:?}") };
        (login_aliases.len(), plan.warnings.iter().any(|w| w.code == "login_kept"))
    };
    assert_eq!(aliases(&setting), (1, false));
    setting.facts.login = Some("shopco@shopco.example".parse().unwrap());
    assert_eq!(aliases(&setting), (1, false));
    setting.facts.login = Some("shopco@older.example".parse().unwrap());
    assert_eq!(aliases(&setting), (0, true));
    setting.options.mode = Mode::Overwrite;
    assert_eq!(aliases(&setting), (1, false));
}
