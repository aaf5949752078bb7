//! The account of a service, as its visitors see it: made, suspended, opened again, ended.

use crate::expect::{fetch, messages, resolve};
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

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// Offers a plan; its price.
async fn offer(stack: &Stack) -> String {
    let client = &stack.client;
    let plan = json!({"kind": "hosting_plan", "disk_mib": 1024, "domains": 1, "mailboxes": 5, "databases": 1});
    let product = json!({"name": "Plan", "specification": plan});
    let product = id(&client.post("/api/products", product).await.data(201));
    let price = json!({"product_id": product, "money": {"amount": 999, "currency": "eur"}, "interval": "month"});
    id(&client.post("/api/prices", price).await.data(201))
}

/// Orders and pays an account with this domain; its service, whose job is queued.
async fn buy(stack: &Stack, price: &str, domains: &[&str]) -> ServiceId {
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

async fn want(stack: &Stack, id: ServiceId, desired: Desired) {
    let tx = stack.db().system().await.unwrap();
    services::want(&tx, id, desired, Some("A test wants it.")).await.unwrap();
    tx.commit().await.unwrap();
}

async fn wait(stack: &Stack, id: ServiceId, state: State) -> service::Model {
    let what = format!("the service to be {state:?}");
    wait_for(&what, Duration::from_secs(120), async || {
        let row = look(stack, id).await;
        assert!(row.error.is_none(), "{row:#?}\n{}", stack.migrator_log());
        (row.state == state).then_some(row)
    })
    .await
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
        false => said.lines().filter(|l| l.starts_with("< ")).last().unwrap_or(&said).to_owned(),
    }
}

/// Whether a mail client gets in.
fn logs_in(stack: &Stack, address: &str) -> bool {
    let mut curl = program("curl");
    curl.args(["-sS", "--max-time", "20", "-K", "-"]).arg(format!("imap://{}/", stack.server.host));
    let config = format!("user = \"{address}:{PASSWORD}\"\n");
    run_with(&mut curl, config.as_bytes()).status.success()
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

fn assert_answered(stack: &Stack, domain: &str) {
    let host = stack.server.host.as_str();
    for name in ["", "www.", "mail."] {
        assert_eq!(resolve(&format!("{name}{domain}"), "A"), [host]);
    }
    assert_eq!(resolve(domain, "MX"), [format!("10 mail.{domain}.")]);
    assert_eq!(resolve(domain, "NS").len(), 2);
    assert_eq!(resolve(domain, "TXT"), [format!("v=spf1 a mx ip4:{host} ~all")]);
    let key = resolve(&format!("default._domainkey.{domain}"), "TXT");
    assert!(key.len() == 1 && key[0].starts_with("v=DKIM1; k=rsa; p="), "{key:?}");
}

#[tokio::test]
async fn an_account_is_made_suspended_and_opened_again() {
    let stack = Stack::start("hosting", &[]).await;
    let price = offer(&stack).await;
    let domain = "shop-hosting-e2e.example";
    let service = buy(&stack, &price, &[domain]).await;
    let other = buy(&stack, &price, &[]).await;
    let (made, neighbour) =
        (wait(&stack, service, State::Active).await, wait(&stack, other, State::Active).await);
    let user = made.username.as_deref().unwrap();
    let next_door = (neighbour.username.as_deref().unwrap(), neighbour.domain.as_deref().unwrap());
    assert_eq!(next_door.1, format!("{}.hosted.internal", next_door.0));
    assert_open(&stack, user, domain).await;
    assert_open(&stack, next_door.0, next_door.1).await;
    let order = stack.client.get(&format!("/api/orders/{}", made.order_id)).await.data(200);
    assert_eq!(order["status"], "active");

    move_in(&stack, user, domain);
    let address = format!("{user}@{domain}");
    let login = (address.as_str(), PASSWORD);
    let (_, page) = fetch(&stack.server, domain, "/who.php").await;
    assert!(page.starts_with(&format!("runs as {user}")), "{page}");
    assert_eq!(messages(&stack.server, login, "INBOX"), 1);
    assert_eq!(send(&stack, &format!("postmaster@{domain}")), "250");
    let open = Snapshot::of(&stack.server);

    // Twice, as after a death whose answer was lost.
    for _ in 0..2 {
        want(&stack, service, Desired::Suspended).await;
        wait(&stack, service, State::Suspended).await;
        stack.sql("UPDATE service SET state = 'active', next_at = now() WHERE state = 'suspended'");
        stack.sql("UPDATE service SET desired = 'active' WHERE desired = 'suspended'");
    }
    for path in ["/", "/who.php", "/nothing"] {
        let (status, body) = fetch(&stack.server, domain, path).await;
        assert!(status == 503 && body.contains("suspended"), "{path}: {status} {body}");
    }
    let said = send(&stack, &address);
    assert!(said.starts_with("< 451") && said.contains("suspended"), "{said}");
    assert!(!logs_in(&stack, &address));
    let left = stack
        .server
        .sh(&format!("pgrep -u {user} || true; crontab -l -u {user} 2>/dev/null || true"));
    assert_eq!(left, "", "something of it still runs");
    assert_answered(&stack, domain);
    assert_open(&stack, next_door.0, next_door.1).await;

    stack.sql(&format!("UPDATE service SET state = 'suspended' WHERE id = '{service}'"));
    for _ in 0..2 {
        want(&stack, service, Desired::Suspended).await;
        want(&stack, service, Desired::Active).await;
        wait(&stack, service, State::Active).await;
    }
    assert_open(&stack, user, domain).await;
    let (_, page) = fetch(&stack.server, domain, "/who.php").await;
    assert!(page.starts_with(&format!("runs as {user}")), "{page}");
    assert_eq!(messages(&stack.server, login, "INBOX"), 3);
    let crontab = stack.server.sh(&format!("crontab -l -u {user}"));
    assert!(crontab.contains("@yearly /bin/true"), "{crontab}");
    drop(open);
    stack.assert_idle().await;
    stack.end().await;
}
