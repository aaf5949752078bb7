//! Certificates as visitors and mail clients see them, from a real certificate authority that looks at
//! our name servers and at the server itself.

use crate::bed::given;
use crate::client::Got;
use crate::expect::{fetch, resolve};
use crate::gates;
use crate::hosting::{buy, fresh, offer, wait, want};
use crate::program::{program, run, run_with, wait_for};
use crate::roads::Road;
use crate::stack::Stack;
use entities::services::{Desired, State};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const UNTIL_ISSUED: Duration = Duration::from_secs(120);

/// The authority's root, which it makes anew each time that it starts.
fn root(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("root.pem");
    let url = format!("{}/roots/0", given("TEST_ACME_MANAGEMENT"));
    let pem = run(program("curl").args(["-sSfk", "--max-time", "20", &url]));
    std::fs::write(&path, pem).unwrap();
    path
}

/// Whether a client that trusts the authority alone is content with what it is shown for the host.
fn is_trusted(stack: &Stack, root: &Path, host: &str, port: u16) -> bool {
    let mut client = program("openssl");
    client.args([
        "s_client",
        "-verify_return_error",
        "-verify_hostname",
        host,
        "-servername",
        host,
    ]);
    client.arg("-connect").arg(format!("{}:{port}", stack.server.host)).arg("-CAfile").arg(root);
    run_with(&mut client, b"").status.success()
}

async fn order(stack: &Stack, names: &[&str]) -> Got {
    stack.client.post("/api/certificates", json!({ "names": names })).await
}

async fn see(stack: &Stack, id: &str) -> Value {
    stack.client.get(&format!("/api/certificates/{id}")).await.data(200)
}

/// As if the tenant had shown that the domain is theirs.
fn verify(stack: &Stack, domain: &str) {
    stack.sql(&format!("UPDATE dns_zone SET verified_at = now() WHERE name = '{domain}'"));
}

/// Orders a certificate and waits until it is shown.
async fn obtain(stack: &Stack, names: &[&str]) -> Value {
    let ordered = order(stack, names).await.data(202);
    assert!(ordered["job_id"].is_string(), "{ordered}");
    shown(stack, ordered["id"].as_str().unwrap(), None).await
}

/// Waits until a certificate is shown, another one than that of this serial.
async fn shown(stack: &Stack, id: &str, other: Option<&Value>) -> Value {
    wait_for("the certificate", UNTIL_ISSUED, async || {
        let seen = see(stack, id).await;
        assert!(seen["error"].is_null(), "{seen:#}\n{}", stack.migrator_log());
        (seen["state"] == "active" && Some(&seen["serial"]) != other).then_some(seen)
    })
    .await
}

/// Waits until an attempt has failed.
async fn failed(stack: &Stack, id: &str, code: &str) -> Value {
    let what = format!("the failure {code}");
    wait_for(&what, Duration::from_secs(180), async || {
        let seen = see(stack, id).await;
        let at_work = ["issuing", "renewing"].contains(&seen["state"].as_str().unwrap());
        (!at_work && seen["error_code"] == code).then_some(seen)
    })
    .await
}

/// Lets the next attempt, or the renewal, be due.
fn make_due(stack: &Stack) {
    stack.sql("UPDATE certificate SET next_at = now()");
}

/// Nothing of a challenge is left, in the rows, in the zone or on the server.
async fn assert_taken_down(stack: &Stack, domain: &str) {
    let left = "SELECT answers FROM certificate WHERE answers IS NOT NULL
        UNION ALL SELECT records FROM dns_record_set WHERE name LIKE '\\_acme-challenge.%'";
    assert_eq!(stack.sql(left), "");
    wait_for("the zone without challenges", Duration::from_secs(30), async || {
        resolve(&format!("_acme-challenge.{domain}"), "TXT").is_empty().then_some(())
    })
    .await;
    assert_eq!(stack.server.sh("ls /etc/migrapanel/acme-challenge"), "");
}

#[tokio::test]
async fn a_site_and_its_mail_show_a_certificate_that_is_renewed_and_removed() {
    let stack = Stack::start("certificates", &[]).await;
    let dir = tempfile::tempdir().unwrap();
    let root = root(&dir);
    let price = offer(&stack).await;
    let domain: &str = format!("{}.example", fresh("shop")).leak();
    let service = buy(&stack, &price, &[domain]).await;
    wait(&stack, service, State::Active).await;
    let (www, mail) = (format!("www.{domain}"), format!("mail.{domain}"));
    let wildcard = format!("*.{domain}");

    order(&stack, &["www.elsewhere.example"]).await.refused(400, "invalid_request");
    order(&stack, &[&wildcard]).await.refused(400, "invalid_request");
    order(&stack, &[domain]).await.refused(409, "domain_unverified");
    verify(&stack, domain);
    let made = obtain(&stack, &[domain, &wildcard]).await;
    assert_eq!(
        (&made["challenge"], &made["names"]),
        (&json!("dns-01"), &json!([domain, wildcard]))
    );
    order(&stack, &[domain]).await.refused(409, "conflict");
    let is_shown =
        || is_trusted(&stack, &root, domain, 443) && is_trusted(&stack, &root, &www, 443);
    assert!(is_shown(), "{made:#}");
    assert!(is_trusted(&stack, &root, &mail, 993) && is_trusted(&stack, &root, domain, 993));
    assert!(is_trusted(&stack, &root, &mail, 465) && is_trusted(&stack, &root, domain, 465));
    assert!(!is_trusted(&stack, &root, &format!("x.y.{domain}"), 443));
    assert_taken_down(&stack, domain).await;
    let key = stack.sql("SELECT sealed_key FROM certificate");
    assert!(key.starts_with("e2e.") && !stack.sql("SELECT * FROM certificate").contains("PRIVATE"));
    assert!(!stack.logs().contains("PRIVATE KEY"));
    let entries =
        "SELECT kind FROM audit_log WHERE kind LIKE 'CERTIFICATE%' ORDER BY created_at, id";
    assert_eq!(stack.sql(entries), "CERTIFICATE_REQUESTED\nCERTIFICATE_ISSUED\n");

    let id = made["id"].as_str().unwrap();
    let renewed = renew_under_visits(&stack, &root, &made, &www).await;
    assert!(is_shown(), "{renewed:#}");
    let (from, until) = (&renewed["not_before"], &renewed["not_after"]);
    let at = |value: &Value| -> chrono::DateTime<chrono::Utc> {
        serde_json::from_value(value.clone()).unwrap()
    };
    let part = (at(&renewed["renew_at"]) - at(from)).num_seconds() * 100
        / (at(until) - at(from)).num_seconds();
    assert!((64..=66).contains(&part), "{renewed:#}");

    assert_challenges_are_answered(&stack, domain).await;
    // Suspended, it is renewed all the same, and what is shown afterwards is the site.
    want(&stack, service, Desired::Suspended).await;
    wait(&stack, service, State::Suspended).await;
    assert_challenges_are_answered(&stack, domain).await;
    make_due(&stack);
    let renewed = shown(&stack, id, Some(&renewed["serial"])).await;
    assert!(is_shown(), "{renewed:#}");
    want(&stack, service, Desired::Active).await;
    wait(&stack, service, State::Active).await;
    let mut curl = program("curl");
    curl.args(["-sSf", "--max-time", "10", "--resolve"]);
    curl.arg(format!("{www}:443:{}", stack.server.host)).arg("--cacert").arg(&root);
    assert!(run(curl.arg(format!("https://{www}/"))).contains(domain));

    let job =
        stack.client.post(&format!("/api/certificates/{id}/renew"), json!({})).await.data(202);
    assert!(job["job_id"].is_string());
    shown(&stack, id, Some(&renewed["serial"])).await;
    remove(&stack, id, domain).await;
    assert!(!is_trusted(&stack, &root, domain, 443));
    stack.assert_idle().await;
    stack.end().await;
}

/// Renews a certificate; whoever comes meanwhile is shown the old one or the new one.
async fn renew_under_visits(stack: &Stack, root: &Path, made: &Value, www: &str) -> Value {
    let id = made["id"].as_str().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let visitor = std::thread::spawn({
        let (over, root, www) = (Arc::clone(&over), root.to_owned(), www.to_owned());
        let url = format!("https://{www}/");
        let to = format!("{www}:443:{}", stack.server.host);
        move || {
            let mut visits = 0;
            while !over.load(Ordering::SeqCst) {
                let mut curl = program("curl");
                curl.args(["-sSf", "--max-time", "10", "-o", "/dev/null", "--resolve", &to]);
                run(curl.arg("--cacert").arg(&root).arg(&url));
                visits += 1;
            }
            visits
        }
    });
    make_due(stack);
    let renewed = shown(stack, id, Some(&made["serial"])).await;
    over.store(true, Ordering::SeqCst);
    assert!(visitor.join().unwrap() > 3);
    renewed
}

/// Removes a certificate, and waits until nothing of it is left.
async fn remove(stack: &Stack, id: &str, domain: &str) {
    let path = format!("/api/certificates/{id}");
    assert_eq!(stack.client.method("DELETE", &path).await, 202);
    wait_for("the certificate's end", Duration::from_secs(60), async || {
        (stack.client.get(&path).await.status == 404).then_some(())
    })
    .await;
    let left = stack.server.sh("ls /etc/migrapanel/tls /etc/migrapanel/tls-sites /etc/migrapanel/dovecot-tls | grep -c example || true");
    assert_eq!(left.trim(), "0");
    assert_eq!(fetch(&stack.server, domain, "/").await.0, 200);
}

/// An authority gets its answer for every name, whatever a customer or a suspension has put there.
async fn assert_challenges_are_answered(stack: &Stack, domain: &str) {
    stack.server.sh(
        "printf right >/etc/migrapanel/acme-challenge/Tok-en_1
         for dir in /home/*/public_html; do
            printf 'Redirect 301 / https://elsewhere.example/\\nRequire all denied\\n' >$dir/.htaccess
            mkdir -p $dir/.well-known/acme-challenge; printf wrong >$dir/.well-known/acme-challenge/Tok-en_1
         done",
    );
    for host in [domain, &format!("www.{domain}"), "nobodys.example"] {
        let path = "/.well-known/acme-challenge/Tok-en_1";
        assert_eq!(fetch(&stack.server, host, path).await, (200, "right".to_owned()), "{host}");
        assert_eq!(fetch(&stack.server, host, "/.well-known/acme-challenge/x").await.0, 404);
        let listed = fetch(&stack.server, host, "/.well-known/acme-challenge/").await;
        assert!(listed.0 >= 400, "{host}: {listed:?}");
    }
    stack.server.sh("rm /etc/migrapanel/acme-challenge/Tok-en_1
         rm -r /home/*/public_html/.htaccess /home/*/public_html/.well-known");
}

/// A record that stands beside what we have made, in the name server itself.
fn put_record(zone: &str, rtype: &str, content: Option<&str>) {
    let change = match content {
        Some(content) => json!({"changetype": "REPLACE", "ttl": 5,
            "records": [{"content": content, "disabled": false}]}),
        None => json!({"changetype": "DELETE"}),
    };
    let mut set = json!({"name": format!("{zone}."), "type": rtype});
    set.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let url = format!("{}/api/v1/servers/localhost/zones/{zone}.", given("TEST_PDNS_API_URL"));
    let key = format!("X-API-Key: {}", given("TEST_PDNS_API_KEY"));
    let body = json!({ "rrsets": [set] }).to_string();
    run(program("curl").args(["-sSf", "-X", "PATCH", "-H", &key, "-d", &body, &url]));
}

#[tokio::test]
async fn a_name_whose_dns_is_elsewhere_is_shown_by_its_server_unless_caa_forbids() {
    let ours: &str = format!("{}.internal", fresh("hosted")).leak();
    let mut stack =
        Stack::start("certificates-http", &[("MIGRAPANEL__ACCOUNTS_DOMAIN", ours)]).await;
    let dir = tempfile::tempdir().unwrap();
    let root = root(&dir);
    let price = offer(&stack).await;
    let service = buy(&stack, &price, &[]).await;
    let made = wait(&stack, service, State::Active).await;
    let domain: &str = made.domain.unwrap().leak();
    let www = format!("www.{domain}");
    // From here on the zone is somebody else's.
    stack.sql("DELETE FROM dns_zone");

    // An authority that is away: said, and tried again later.
    stack.replace_migrator_with("MIGRAPANEL__ACME_DIRECTORY", "https://127.0.0.1:1/dir");
    let ordered = order(&stack, &[domain, &www]).await.data(202);
    assert_eq!(ordered["challenge"], "http-01");
    let id = ordered["id"].as_str().unwrap();
    order(&stack, &[&format!("shop.{domain}"), &format!("*.shop.{domain}")])
        .await
        .refused(400, "invalid_request");
    let away = failed(&stack, id, "ca_unavailable").await;
    assert_eq!((&away["state"], &away["attempts"]), (&json!("failed"), &json!(1)), "{away:#}");
    assert_eq!(
        stack.sql("SELECT next_at > now() + interval '5 minutes' FROM certificate").trim(),
        "t"
    );

    // It is back, and forbidden.
    put_record(domain, "CAA", Some("0 issue \"other.example\""));
    let directory: &str = given("TEST_ACME_DIRECTORY").leak();
    stack.replace_migrator_with("MIGRAPANEL__ACME_DIRECTORY", directory);
    make_due(&stack);
    let forbidden = failed(&stack, id, "caa_forbids").await;
    let error = forbidden["error"].as_str().unwrap();
    assert!(error.contains("0 issue \"other.example\"") && error.contains(domain), "{error}");
    assert_eq!(stack.sql("SELECT count(*) FROM certificate_order").trim(), "0");

    // Allowed, but not to be found: the authority's own words are shown.
    put_record(domain, "CAA", Some("0 issue \"letsencrypt.org; validationmethods=http-01\""));
    put_record(domain, "A", Some("127.0.0.2"));
    make_due(&stack);
    let refused = failed(&stack, id, "ca_refused").await;
    assert!(
        refused["error"].as_str().unwrap().contains("urn:ietf:params:acme:error:"),
        "{refused:#}"
    );
    assert_taken_down(&stack, domain).await;

    put_record(domain, "A", Some(&stack.server.host));
    stack.sql("UPDATE certificate SET error = NULL, error_code = NULL, next_at = now()");
    let made = shown(&stack, id, None).await;
    assert_eq!((&made["challenge"], &made["attempts"]), (&json!("http-01"), &json!(0)));
    assert!(is_trusted(&stack, &root, domain, 443) && is_trusted(&stack, &root, &www, 443));
    assert_taken_down(&stack, domain).await;

    // A renewal that is forbidden leaves what is shown.
    put_record(domain, "CAA", Some("0 issue \";\""));
    make_due(&stack);
    let kept = failed(&stack, id, "caa_forbids").await;
    assert_eq!((&kept["state"], &kept["serial"]), (&json!("active"), &made["serial"]));
    assert!(is_trusted(&stack, &root, domain, 443));

    // With the account its certificate goes, and its names are free.
    want(&stack, service, Desired::Terminated).await;
    wait(&stack, service, State::Terminated).await;
    assert_eq!(see(&stack, id).await["account_id"], Value::Null);
    assert_eq!(stack.sql("SELECT name FROM certificate_name"), "");
    assert_eq!(stack.client.method("DELETE", &format!("/api/certificates/{id}")).await, 202);
    assert_eq!(stack.sql("SELECT id FROM certificate"), "");
    stack.assert_idle().await;
    stack.end().await;
}

/// The steps of obtaining a certificate, in their order.
const STEPS: [&str; 10] = [
    "check_names",
    "place_order",
    "put_up",
    "await_served",
    "validate",
    "take_down",
    "make_key",
    "finalize",
    "install",
    "look",
];

#[tokio::test]
async fn whoever_dies_while_it_is_obtained_nothing_is_left_or_ordered_twice() {
    let (url, road) = Road::to(&format!(
        "{}/",
        given("TEST_PDNS_API_URL").trim_end_matches('/').replace("http://", "http://road@")
    ));
    let url: &str = url.leak();
    let mut stack = Stack::start("certificates-deaths", &[("PDNS_API_URL", url)]).await;
    let dir = tempfile::tempdir().unwrap();
    let root = root(&dir);
    let price = offer(&stack).await;
    let domain: &str = format!("{}.example", fresh("shop")).leak();
    let service = buy(&stack, &price, &[domain]).await;
    wait(&stack, service, State::Active).await;
    verify(&stack, domain);
    gates::install(&stack);
    let tls = "ls /etc/migrapanel/tls /etc/migrapanel/tls-sites /etc/migrapanel/dovecot-tls";
    let before = stack.server.sh(tls);
    let orders = "SELECT count(DISTINCT url) FROM certificate_order";

    // The name server is away: it is waited for.
    road.cut();
    gates::refuse(&stack, "validate:started");
    let ordered = order(&stack, &[domain]).await.data(202);
    let id = ordered["id"].as_str().unwrap();
    wait_for("the wait for the name server", Duration::from_secs(60), async || {
        let step = "SELECT state FROM job_step WHERE name = 'await_served'";
        (stack.sql(step).trim() == "started").then_some(())
    })
    .await;
    assert_eq!(see(&stack, id).await["state"], "issuing");
    road.mend();
    // Each step fails in turn; the order is the same all the time.
    for step in STEPS.iter().skip(4) {
        let report = if *step == "validate" { "started" } else { "done" };
        let report = format!("{step}:{report}");
        if *step != "validate" {
            gates::refuse(&stack, &report);
            stack.sql("UPDATE certificate SET attempts = 0, error_code = NULL, next_at = now()");
        }
        let row = wait_for("the attempt's end", Duration::from_secs(90), async || {
            let seen = see(&stack, id).await;
            (seen["state"] == "failed" && seen["attempts"] == 1).then_some(seen)
        })
        .await;
        assert!(row["error"].is_string(), "{step}: {row:#}");
        gates::open(&stack, &report);
        assert_taken_down(&stack, domain).await;
        assert_eq!(stack.server.sh(tls), before, "{step}");
        assert_eq!(stack.sql(orders).trim(), "1", "{step}");
    }
    // The worker dies before and after each step.
    let boundaries: Vec<String> =
        STEPS.iter().flat_map(|step| [format!("{step}:started"), format!("{step}:done")]).collect();
    gates::close(&stack, &boundaries);
    stack.sql("UPDATE certificate SET attempts = 0, error = NULL, error_code = NULL, order_url = NULL, next_sealed_key = NULL, next_chain = NULL, next_at = now()");
    for boundary in &boundaries {
        gates::reached(&stack, boundary).await;
        stack.replace_migrator();
        gates::open_for_others(&stack, boundary);
        stack.end_leases();
    }
    let made = shown(&stack, id, None).await;
    assert!(is_trusted(&stack, &root, domain, 443), "{made:#}");
    assert_taken_down(&stack, domain).await;
    assert_eq!(stack.sql(orders).trim(), "2");
    stack.assert_idle().await;
    stack.end().await;
}
