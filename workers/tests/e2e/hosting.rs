//! The account of a service, as its visitors see it: made, suspended, opened again, ended.

use crate::expect::{fetch, messages, resolve};
use crate::gates;
use crate::program::{program, run_with, wait_for};
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use entities::ids::{OrderId, ServiceId};
use entities::services::{self, Desired, State};
use entities::tables::service;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const PASSWORD: &str = "New-Mail-1!";

/// A name that no zone of an earlier run has: they share a DNS server.
pub fn fresh(name: &str) -> String {
    format!("{name}-{}", Uuid::now_v7().simple())
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Offers a plan; its price.
pub async fn offer(stack: &Stack) -> String {
    let client = &stack.client;
    let plan = json!({"kind": "hosting_plan", "disk_mib": 1024, "domains": 1, "mailboxes": 5, "databases": 1});
    let product = json!({"name": "Plan", "specification": plan});
    let product = id(&client.post("/api/products", product).await.data(201));
    let price = json!({"product_id": product, "money": {"amount": 999, "currency": "eur"}, "interval": "month"});
    id(&client.post("/api/prices", price).await.data(201))
}

/// Orders and pays an account with this domain; its service, whose job is queued.
pub async fn buy(stack: &Stack, price: &str, domains: &[&str]) -> ServiceId {
    let client = &stack.client;
    let items = json!([{"price_id": price, "quantity": 1, "domains": domains}]);
    let order = id(&client.post("/api/orders", json!({"items": items})).await.data(201));
    let path = format!("/api/orders/{order}/mark-paid");
    client.post(&path, json!({"reason": "A test pays."})).await.data(200);
    let tx = stack.db().system().await.unwrap();
    let order = OrderId(Uuid::parse_str(&order).unwrap());
    let made = services::make_for_order(&tx, order).await.unwrap();
    tx.commit().await.unwrap();
    made[0].id
}

async fn look(stack: &Stack, id: ServiceId) -> service::Model {
    let tx = stack.db().system().await.unwrap();
    services::load_service(&tx, id).await.unwrap()
}

pub async fn want(stack: &Stack, id: ServiceId, desired: Desired) {
    let tx = stack.db().system().await.unwrap();
    services::want(&tx, id, desired, Some("A test wants it.")).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn wait(stack: &Stack, id: ServiceId, state: State) -> service::Model {
    let what = format!("the service to be {state:?}");
    wait_for(&what, Duration::from_secs(120), async || {
        let row = look(stack, id).await;
        assert!(row.error.is_none(), "{row:#?}\n{}", stack.migrator_log());
        (row.state == state).then_some(row)
    })
    .await
}

/// Lets the last job's work be done a second time, as after a death whose answer was lost.
async fn again(stack: &Stack, id: ServiceId, before: State) {
    let now = look(stack, id).await.state;
    let was = before.as_str();
    stack.sql(&format!("UPDATE service SET state = '{was}', next_at = now() WHERE id = '{id}'"));
    wait(stack, id, now).await;
}

/// What the server says to a letter for the address: `250`, or the refusal.
fn send(stack: &Stack, to: &str) -> String {
    let mut curl = program("curl");
    curl.args(["-sS", "--max-time", "20", "--mail-from", "friend@elsewhere.example"])
        .args(["--mail-rcpt", to, "-v", "-T", "-", "--crlf"])
        .arg(format!("smtp://{}/elsewhere.example", stack.server.host));
    let output = run_with(&mut curl, b"Subject: Hello\n\nHello.\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => "250".to_owned(),
        false => said
            .lines()
            .find(|l| l.starts_with("< 4") || l.starts_with("< 5"))
            .unwrap_or(&said)
            .to_owned(),
    }
}

/// Whether a mail client gets in.
fn logs_in(stack: &Stack, address: &str) -> bool {
    let mut curl = program("curl");
    curl.args(["-sS", "--max-time", "20", "-K", "-"]).arg(format!("imap://{}/", stack.server.host));
    let config = format!("user = \"{address}:{PASSWORD}\"\n");
    run_with(&mut curl, config.as_bytes()).status.success()
}

/// Control of the domain is proven; a job lets it take mail then.
async fn prove(stack: &Stack, user: &str, domain: &str) {
    stack.sql(&format!("UPDATE dns_zone SET verified_at = now() WHERE name = '{domain}'"));
    wait_for("its mail", Duration::from_secs(60), async || {
        (send(stack, &format!("{user}@{domain}")) == "250").then_some(())
    })
    .await;
    wait_for("its row", Duration::from_secs(30), async || {
        let sql = format!("SELECT active FROM domain WHERE name = '{domain}'");
        (stack.sql(&sql).trim() == "t").then_some(())
    })
    .await;
}

/// Gives the account's own mailbox a password, and the account what a customer would have.
fn move_in(stack: &Stack, user: &str, domain: &str) {
    stack.server.sh(&format!(
        "hash=$(openssl passwd -6 '{PASSWORD}')
         sed -i \"s|^{user}:{{CRYPT}}!:|{user}:{{CRYPT}}$hash:|\" /etc/migrapanel/mail/{domain}/passwd
         echo '<?php echo \"runs as \", get_current_user(), posix_getuid();' >/home/{user}/public_html/who.php
         chown {user}: /home/{user}/public_html/who.php
         echo '@yearly /bin/true' | crontab -u {user} -
         mariadb -e \"CREATE DATABASE {user}_shop; CREATE TABLE {user}_shop.t (a int); INSERT INTO {user}_shop.t VALUES (7); CREATE USER '{user}_shop'@'localhost' IDENTIFIED BY 'x'; GRANT ALL ON \\`{user}\\\\_shop\\`.* TO '{user}_shop'@'localhost'\"
         setpriv --reuid {user} --regid {user} --clear-groups sleep 3000 >/dev/null 2>&1 &"
    ));
}

/// A visitor sees the site, a correspondent is heard, a resolver gets answers.
async fn assert_open(stack: &Stack, user: &str, domain: &str) {
    for host in [domain.to_owned(), format!("www.{domain}")] {
        let (status, body) = fetch(&stack.server, &host, "/").await;
        assert!(status == 200 && body.contains(domain), "{host}: {status} {body}");
    }
    assert_eq!(send(stack, &format!("{user}@{domain}")), "250");
    assert_answered(stack, domain);
}

#[track_caller]
fn assert_answered(stack: &Stack, domain: &str) {
    let host = stack.server.host.as_str();
    for name in ["", "www.", "mail."] {
        assert_eq!(resolve(&format!("{name}{domain}"), "A"), [host], "{name}");
    }
    assert_eq!(resolve(domain, "MX"), [format!("10 mail.{domain}.")]);
    assert_eq!(resolve(domain, "NS").len(), 2);
    assert_eq!(resolve(domain, "TXT"), [format!("v=spf1 a mx ip4:{host} ~all")]);
    let key = resolve(&format!("default._domainkey.{domain}"), "TXT");
    assert!(key.len() == 1 && key[0].starts_with("v=DKIM1; k=rsa; p="), "{key:?}");
}

#[tokio::test]
async fn an_account_is_made_suspended_opened_and_ended() {
    let ours: &str = format!("{}.internal", fresh("hosted")).leak();
    let stack = Stack::start("hosting", &[("MIGRAPANEL__ACCOUNTS_DOMAIN", ours)]).await;
    let price = offer(&stack).await;
    let other = buy(&stack, &price, &[]).await;
    let neighbour = wait(&stack, other, State::Active).await;
    let next_door = (neighbour.username.as_deref().unwrap(), neighbour.domain.as_deref().unwrap());
    assert_eq!(next_door.1, format!("{}.{ours}", next_door.0));
    assert_open(&stack, next_door.0, next_door.1).await;
    let before = Snapshot::of(&stack.server);

    let domain = format!("{}.example", fresh("shop"));
    let domain = domain.as_str();
    let service = buy(&stack, &price, &[domain]).await;
    let made = wait(&stack, service, State::Active).await;
    let user = made.username.as_deref().unwrap();
    // Nobody has proven yet that the domain is the buyer's: mail for it is somebody else's.
    let refused = send(&stack, &format!("{user}@{domain}"));
    assert!(refused.starts_with("< 5"), "{refused}");
    prove(&stack, user, domain).await;
    assert_open(&stack, user, domain).await;
    let order = stack.client.get(&format!("/api/orders/{}", made.order_id)).await.data(200);
    assert_eq!(order["status"], "active");
    move_in(&stack, user, domain);
    assert_lives(&stack, user, domain, 2).await;
    assert_eq!(send(&stack, &format!("postmaster@{domain}")), "250");

    want(&stack, service, Desired::Suspended).await;
    wait(&stack, service, State::Suspended).await;
    again(&stack, service, State::Active).await;
    assert_closed(&stack, user, domain).await;
    assert_answered(&stack, domain);
    assert_eq!(fetch(&stack.server, next_door.1, "/").await.0, 200);

    want(&stack, service, Desired::Active).await;
    wait(&stack, service, State::Active).await;
    again(&stack, service, State::Suspended).await;
    assert_open(&stack, user, domain).await;
    assert_lives(&stack, user, domain, 4).await;

    want(&stack, service, Desired::Terminated).await;
    let ended = wait(&stack, service, State::Terminated).await;
    let backup = ended.backup_path.unwrap();
    before.assert_same(&Snapshot::of(&stack.server).without("var/backups/migrations"));
    // What it does not know the DNS server remembers for a while: asked for here alone.
    assert_eq!(resolve(domain, "SOA"), [""; 0]);
    assert_eq!(fetch(&stack.server, next_door.1, "/").await.0, 200);
    assert_answered(&stack, next_door.1);

    // The backup is an archive like any other, and the names are free.
    let job = stack.analyze(&backup, user).await;
    stack.apply(&job).await;
    assert_open(&stack, user, domain).await;
    stack.server.sh(&format!("echo '@yearly /bin/true' | crontab -u {user} -"));
    assert_lives(&stack, user, domain, 5).await;
    stack.roll_back(&job, true).await;
    let anew = buy(&stack, &price, &[domain]).await;
    let anew = wait(&stack, anew, State::Active).await;
    assert_ne!(anew.username.as_deref(), Some(user), "two services never share a name");
    assert_answered(&stack, domain);
    stack.assert_idle().await;
    stack.end().await;
}

/// What [`move_in`] brought is there, with so many letters.
async fn assert_lives(stack: &Stack, user: &str, domain: &str, letters: u64) {
    let (_, page) = fetch(&stack.server, domain, "/who.php").await;
    assert!(page.starts_with(&format!("runs as {user}")), "{page}");
    let address = format!("{user}@{domain}");
    // Dovecot looks once a second whether a file of logins has changed.
    wait_for("the login", Duration::from_secs(30), async || logs_in(stack, &address).then_some(()))
        .await;
    assert_eq!(messages(&stack.server, (&address, PASSWORD), "INBOX"), letters);
    let crontab = stack.server.sh(&format!("crontab -l -u {user}"));
    assert!(crontab.contains("@yearly /bin/true"), "{crontab}");
    let row = format!("mariadb -N -u {user}_shop -px {user}_shop -e 'SELECT a FROM t'");
    assert_eq!(stack.server.sh(&row).trim(), "7");
}

/// Nothing answers but that it is suspended, and nothing of it runs.
async fn assert_closed(stack: &Stack, user: &str, domain: &str) {
    for path in ["/", "/who.php", "/nothing"] {
        let (status, body) = fetch(&stack.server, domain, path).await;
        assert!(status == 503 && body.contains("suspended"), "{path}: {status} {body}");
    }
    for to in [user, "postmaster", "nobody"] {
        let said = send(stack, &format!("{to}@{domain}"));
        assert!(said.starts_with("< 451") && said.contains("suspended"), "{to}: {said}");
    }
    assert!(!logs_in(stack, &format!("{user}@{domain}")));
    let left = format!("pgrep -u {user} || true; crontab -l -u {user} 2>/dev/null || true");
    assert_eq!(stack.server.sh(&left), "", "something of it still runs");
}

/// The steps of making an account, in their order.
const STEPS: [&str; 8] = [
    "prepare",
    "take_names",
    "create_user",
    "create_directories",
    "restore_home",
    "mail",
    "dns",
    "post_validation",
];

#[tokio::test]
async fn whoever_dies_while_it_is_made_or_ended_nothing_is_left_or_lost() {
    let mut stack = Stack::start("hosting-deaths", &[]).await;
    let price = offer(&stack).await;
    gates::install(&stack);
    let before = Snapshot::of(&stack.server);
    let domain = format!("{}.example", fresh("shop"));
    let service = buy_later(&stack, &price, &domain).await;
    // Each step fails in turn.
    for step in STEPS {
        let report = format!("{step}:done");
        gates::refuse(&stack, &report);
        stack.sql("UPDATE service SET attempts = 0, next_at = now()");
        let row = wait_for("the attempt's end", Duration::from_secs(60), async || {
            let row = look(&stack, service).await;
            (row.attempts == 1 && row.state == State::Pending).then_some(row)
        })
        .await;
        assert!(row.error.is_some() && row.account_id.is_none(), "{step}: {row:#?}");
        gates::open(&stack, &report);
        before.assert_same(&Snapshot::of(&stack.server));
        let names = "SELECT name FROM domain UNION SELECT name FROM dns_zone UNION SELECT username FROM hosting_account";
        assert_eq!(stack.sql(names), "", "{step}");
        assert_eq!(resolve(&domain, "A"), [""; 0], "{step}");
    }
    // The worker dies before and after each step.
    let boundaries: Vec<String> =
        STEPS.iter().flat_map(|step| [format!("{step}:started"), format!("{step}:done")]).collect();
    gates::close(&stack, &boundaries);
    stack.sql("UPDATE service SET attempts = 0, error = NULL, next_at = now()");
    for boundary in &boundaries {
        gates::reached(&stack, boundary).await;
        stack.replace_migrator();
        gates::open_for_others(&stack, boundary);
        stack.end_leases();
    }
    let made = wait(&stack, service, State::Active).await;
    let user = made.username.as_deref().unwrap();
    prove(&stack, user, &domain).await;
    assert_open(&stack, user, &domain).await;
    assert_eq!(stack.sql("SELECT count(*) FROM hosting_account").trim(), "1");

    // The agent dies again and again while it ends the account, and then the worker, too.
    move_in(&stack, user, &domain);
    stack.server.sh(&format!(
        "cd /home/{user}/public_html; for i in $(seq 3000); do echo $i >$i.txt; done; chown -R {user}: ."
    ));
    want(&stack, service, Desired::Terminated).await;
    let killing = "for i in $(seq 12); do pkill -KILL -f '[m]igrapanel-agent serve' || true; sleep 0.$((RANDOM % 5 + 1)); done";
    stack.server.inside(killing);
    stack.replace_migrator();
    stack.end_leases();
    let ended = wait_for("the account's end", Duration::from_secs(120), async || {
        stack.sql("UPDATE service SET next_at = now()");
        let row = look(&stack, service).await;
        (row.state == State::Terminated).then_some(row)
    })
    .await;
    before.assert_same(&Snapshot::of(&stack.server).without("var/backups/migrations"));
    let listed = stack.server.sh(&format!("tar -tzf {}", ended.backup_path.unwrap()));
    let files = listed.lines().filter(|line| line.ends_with(".txt")).count();
    assert_eq!(files, 3000);
    assert!(listed.contains(&format!("mysql/{user}_shop.sql")), "{listed}");
    assert_eq!(resolve(&domain, "A"), [""; 0]);
    stack.assert_idle().await;
    stack.end().await;
}

/// Orders and pays an account that is not begun before its time is set.
async fn buy_later(stack: &Stack, price: &str, domain: &str) -> ServiceId {
    stack.sql("UPDATE server SET maintenance = true");
    let service = buy(stack, price, &[domain]).await;
    stack.sql("UPDATE server SET maintenance = false");
    service
}
