//! Letters over a real SMTP server, as a person reads them.

use entities::accounts::{self, Asking, Registration};
use entities::config::{self, Notifier};
use entities::error::Code;
use entities::ids::RequestId;
use entities::secrets::SecretKeys;
use entities::tenancy::Origin;
use entities::testing::TestDb;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use workers::notifier::Post;

const KEYS: &str = "k:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn keys() -> SecretKeys {
    SecretKeys::parse(&SecretString::from(KEYS)).unwrap()
}

pub async fn post(db: &TestDb, smtp: &str) -> Post {
    let config = Notifier {
        database_url: db.url.clone(),
        token_keys: keys(),
        smtp_url: SecretString::from(format!("smtp://{smtp}")),
        mail_from: "MigraPanel <panel@migrapanel.test>".to_owned(),
        dashboard_url: "https://panel.migrapanel.test".to_owned(),
        webhooks: entities::webhooks::Reach::Public,
    };
    Post::open(config).await.unwrap()
}

fn asking() -> Asking {
    Asking { request: RequestId::new(), origin: Origin::default() }
}

/// What the sink has for an address, with soft line ends undone.
fn received(to: &str) -> Vec<String> {
    let dir = config::secret("TEST_MAIL_SINK_DIR").expect("TEST_MAIL_SINK_DIR: run deploy/test");
    let new = PathBuf::from(dir.expose_secret()).join("new");
    let files = std::fs::read_dir(new).unwrap();
    let texts = files.filter_map(|f| std::fs::read_to_string(f.unwrap().path()).ok());
    let mine = texts.filter(|t| t.contains(&format!("To: {to}")));
    mine.map(|t| t.replace("=\n", "").replace("=\r\n", "").replace("=3D", "=")).collect()
}

#[tokio::test]
async fn a_letter_arrives_and_its_link_works_once() {
    let smtp =
        config::secret("TEST_SMTP_ADDR").expect("TEST_SMTP_ADDR is missing: run deploy/test");
    let db = TestDb::create().await.unwrap();
    db.platform().await.unwrap();
    let email = format!("jane-{}@shop.test", RequestId::new().0.simple());
    let new = Registration {
        email: email.clone(),
        name: "Jane".to_owned(),
        company: "Shop".to_owned(),
        password_hash: "no hash".to_owned(),
    };
    accounts::register(&db.db, new, &asking()).await.unwrap();
    // With the server away the letter waits.
    let away = post(&db, "127.0.0.1:1").await;
    assert_eq!(away.send_once().await.unwrap(), 1);
    assert_eq!(away.send_once().await.unwrap(), 0);
    assert_eq!(received(&email).len(), 0);
    db.execute("UPDATE mail SET next_at = now()").await.unwrap();
    let post = post(&db, smtp.expose_secret()).await;
    assert_eq!(post.send_once().await.unwrap(), 1);
    assert_eq!(post.send_once().await.unwrap(), 0);
    let letters = received(&email);
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    for line in [
        "Subject: Confirm your address",
        "From: MigraPanel <panel@migrapanel.test>",
        "Auto-Submitted: auto-generated",
        "Message-ID: <",
    ] {
        assert!(letter.contains(line), "{line} is not in {letter}");
    }
    let token = letter.split("#token=").nth(1).unwrap().split_whitespace().next().unwrap();
    accounts::verify_email(&db.db, &keys(), token, &asking()).await.unwrap();
    let again = accounts::verify_email(&db.db, &keys(), token, &asking()).await;
    assert_eq!(again.unwrap_err().code(), Code::LinkInvalid);
    db.remove().await.unwrap();
}
