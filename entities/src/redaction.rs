//! What of a job's inputs, outputs, errors and logs may be shown: everything but what could be a secret.
//! Steps keep none, and sealed secrets are worth nothing without their key; this is the lock behind
//! those locks, and rather hides too much.

use serde_json::{Map, Value};

/// Stands where something was that is not shown.
pub const HIDDEN: &str = "[redacted]";

/// What a name has in it that may stand for a secret.
const SECRET: &[&str] = &[
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "hash",
    "salt",
    "seal",
    "credential",
    "auth",
    "cookie",
    "private",
    "signature",
    "otp",
    "recovery",
    "seed",
    "nonce",
    "bearer",
    "dsn",
    "cert_pem",
];
/// Names of what is compared, and opens nothing.
const FINGERPRINTS: &[&str] = &["digest", "sha256", "checksum", "fingerprint", "serial"];
/// What our own and others' secrets begin with.
const PREFIXES: &[&str] = &[
    "sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "mpk_", "eyJ", "ghp_", "xoxb-",
    "AKIA", "{SHA", "{SSHA", "{CRYPT", "{BLF", "{ARGON", "{PLAIN",
];
/// The shortest run of characters that is taken for a secret by its look alone.
const OPAQUE_MIN: usize = 24;

fn is_named(name: &str, parts: &[&str]) -> bool {
    let name = name.to_lowercase();
    parts.iter().any(|part| name.contains(part))
        || (parts == SECRET && name.trim_start_matches('-') == "pin")
}

/// A value without what could be a secret, by its name and by its look.
#[must_use]
pub fn redact(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(object(fields)),
        Value::Array(items) => Value::Array(list(items)),
        Value::String(text) => Value::String(redact_text(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Whether something is there tells no secret.
fn hide(value: &Value) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        _ => Value::String(HIDDEN.to_owned()),
    }
}

fn object(fields: &Map<String, Value>) -> Map<String, Value> {
    // `{"name": "password", "value": …}` names a secret, too.
    let labelled = ["name", "field", "variable", "setting", "option"].iter().any(|label| {
        fields.get(*label).and_then(Value::as_str).is_some_and(|name| is_named(name, SECRET))
    });
    let is_content = |name: &str| ["value", "values", "content", "data", "text"].contains(&name);
    let shown = fields.iter().map(|(name, value)| {
        let shown = if is_named(name, SECRET) || (labelled && is_content(name)) {
            hide(value)
        } else if is_named(name, FINGERPRINTS) && value.as_str().is_some_and(is_hex) {
            value.clone()
        } else {
            redact(value)
        };
        (redact_text(name), shown)
    });
    shown.collect()
}

/// In a list of arguments, what follows `--password` is one.
fn list(items: &[Value]) -> Vec<Value> {
    let mut after_option = false;
    let mut shown = Vec::with_capacity(items.len());
    for item in items {
        shown.push(if after_option { hide(item) } else { redact(item) });
        let option = item.as_str().filter(|text| text.starts_with('-') && !text.contains('='));
        after_option = option.is_some_and(|text| is_named(text, SECRET));
    }
    shown
}

fn is_hex(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_hexdigit())
}

/// A text without what could be a secret.
#[must_use]
pub fn redact_text(text: &str) -> String {
    if text.contains("PRIVATE KEY") {
        return HIDDEN.to_owned();
    }
    without_opaque(&without_assigned(&without_logins(text)))
}

/// Takes `USER:PASSWORD@` out of addresses.
fn without_logins(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = |c: char| c.is_whitespace() || "/?#\"'<>".contains(c);
        let (authority, tail) = split(after, end);
        rest = match authority.rsplit_once('@') {
            Some((_, host)) => {
                shown.push_str(HIDDEN);
                shown.push('@');
                shown.push_str(host);
                tail
            }
            None => {
                shown.push_str(authority);
                tail
            }
        };
    }
    shown.push_str(rest);
    shown
}

/// Splits before the first character of these.
fn split(text: &str, end: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at_checked(text.find(end).unwrap_or(text.len())).unwrap_or((text, ""))
}

/// Takes out what a secret's name is followed by: `password=…`, `"token": "…"`, `IDENTIFIED BY '…'`.
fn without_assigned(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, String::new());
    while !rest.is_empty() {
        let (word, tail) = split(rest, |c| !(c.is_alphanumeric() || c == '_' || c == '-'));
        if word.is_empty() {
            let mut chars = rest.chars();
            shown.extend(chars.next());
            rest = chars.as_str();
            continue;
        }
        shown.push_str(word);
        rest = tail;
        let word = word.to_lowercase();
        let by = word == "by" && before == "identified";
        if is_named(&word, SECRET) || by {
            let plain = word == "bearer" || word.starts_with("--");
            rest = skip_value(tail, plain, &mut shown);
        }
        before = word;
    }
    shown
}

/// What comes after the value that is assigned here; all of it when none is. `plain`: a blank assigns.
fn skip_value<'t>(tail: &'t str, plain: bool, shown: &mut String) -> &'t str {
    let (sign, value) = split(tail, |c| !" \t:=>'\"`\\".contains(c));
    let quoted = sign.starts_with([' ', '\t']) && sign.contains(['\'', '"', '`']);
    let assigns = sign.contains([':', '=']) || quoted || (plain && sign.starts_with(' '));
    if !assigns || value.is_empty() {
        return tail;
    }
    shown.push_str(sign);
    shown.push_str(HIDDEN);
    // Where a list or an object ends is not worth finding out.
    if value.starts_with(['[', '{', '(']) {
        return "";
    }
    let quote = sign.chars().next_back().filter(|c| "'\"`".contains(*c));
    let ends = |c: char| match quote {
        Some(quote) => c == quote || c == '\\',
        None => c.is_whitespace() || ",;&)]}".contains(c),
    };
    split(value, ends).1
}

/// Takes out what looks like a secret wherever it stands.
fn without_opaque(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    let between = |c: char| c.is_whitespace() || "\"'`,;()[]<>|".contains(c);
    while !rest.is_empty() {
        let (chunk, tail) = split(rest, between);
        shown.push_str(if looks_secret(chunk) { HIDDEN } else { chunk });
        let mut chars = tail.chars();
        shown.extend(chars.next());
        rest = chars.as_str();
    }
    shown
}

fn looks_secret(chunk: &str) -> bool {
    // Also behind a name: `user:$6$…`, `id.BASE64`.
    let begins = |part: &str| PREFIXES.iter().any(|prefix| part.starts_with(prefix));
    let mut parts = chunk.split([':', '=', '.', '@']);
    if begins(chunk) || parts.any(begins) || is_crypt(chunk) {
        return true;
    }
    let of_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    chunk.split(|c| !of_base64(c)).any(|run| {
        // Of a path, each name by itself.
        if run.starts_with('/') { run.split('/').any(is_opaque) } else { is_opaque(run) }
    })
}

/// `$6$…`, `$2y$10$…`, and MariaDB's `*` with 40 digits.
fn is_crypt(chunk: &str) -> bool {
    let mut parts = chunk.split('$').skip(1);
    let scheme = parts.next().is_some_and(|id| (1..=12).contains(&id.len()));
    let mariadb = chunk.split('*').skip(1).any(|hash| hash.len() == 40 && is_hex(hash));
    (scheme && parts.next().is_some()) || mariadb
}

/// Whether nobody would write this by hand: long, and letters and digits mixed as no word has them.
fn is_opaque(run: &str) -> bool {
    let count = |is: fn(&char) -> bool| run.chars().filter(is).count();
    let digits = count(char::is_ascii_digit);
    let (lower, upper) = (count(char::is_ascii_lowercase), count(char::is_ascii_uppercase));
    let joined = run.contains(['-', '_', '/']);
    let mixed = digits > 0 && lower > 0 && upper > 0;
    let letters = lower + upper;
    run.len() >= OPAQUE_MIN && (mixed || (!joined && digits >= 4 && letters >= 4) || letters > 40)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each is a secret, in a form in which one of our systems or their neighbours has it.
    const SECRETS: &[&str] = &[
        "correct-horse-1",
        "$6$rounds=5000$abcdefgh$Zq2Xv0Yz8kP1mN4bV7cR3tW6uJ9hL5sD",
        "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        "{SHA512-CRYPT}$6$abc$def",
        "*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29",
        "k1.3q2+7wAAAAAAAAAAAAAAAAECAwQFBgcICQoLDA0ODw==",
        "mpk_0197f3a25b0c7c1e9a433f6f0d2b8e51_x",
        "sk_test_51Qy",
        "whsec_abc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----",
    ];

    #[test]
    fn nothing_that_is_named_like_a_secret_is_shown() {
        for name in [
            "password",
            "new_password",
            "dbPasswd",
            "PASSPHRASE",
            "pwd",
            "secret",
            "client-secret",
            "token",
            "approval_token",
            "refreshToken",
            "key",
            "api_key",
            "private_key",
            "sealed_key",
            "hash",
            "password_hash",
            "salt",
            "credentials",
            "Authorization",
            "cookie",
            "otp",
            "pin",
            "signature",
            "recovery_codes",
            "next_sealed_key",
            "access_key_id",
        ] {
            for secret in SECRETS {
                for value in [
                    json!({ name: secret }),
                    json!({ "deep": [{ name: [secret, { "x": secret }] }] }),
                    json!({ "name": name, "value": secret }),
                    json!(["program", format!("--{name}"), secret]),
                ] {
                    let shown = redact(&value).to_string();
                    assert!(!shown.contains(secret), "{value} is shown as {shown}");
                }
            }
            assert_eq!(redact(&json!({ name: 123_456 })), json!({ name: HIDDEN }));
            assert_eq!(redact(&json!({ name: null })), json!({ name: null }));
            assert_eq!(redact(&json!({ name: true })), json!({ name: true }));
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_not_shown_whatever_it_is_called() {
        for secret in SECRETS.iter().skip(1) {
            for value in [
                json!({ "detail": secret }),
                json!([secret]),
                json!(format!("The program said: {secret}.")),
                json!({ *secret: "as a name" }),
                json!(format!("user:{secret}")),
            ] {
                let shown = redact(&value).to_string();
                assert!(!shown.contains(secret), "{value} is shown as {shown}");
            }
            let shown = redact(&json!({ "digest": secret })).to_string();
            assert!(is_hex(secret) || !shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn a_text_loses_what_a_secrets_name_is_followed_by() {
        for text in [
            "password=hunter2",
            "password = hunter2, and more",
            "PASSWORD: hunter2",
            "the password 'hunter2' is wrong",
            r#"{"password":"hunter2"}"#,
            r#"{\"token\": \"hunter2\"}"#,
            "CREATE USER 'a'@'localhost' IDENTIFIED BY 'hunter2'",
            "Authorization: hunter2",
            "Bearer hunter2",
            "mysql --password hunter2",
            "tokens: [a, hunter2]",
            "amqp://guest:hunter2@127.0.0.1:5672/vhost",
            "see https://u:hunter2@host.example/x?y=1",
            "GET /x?api_key=hunter2&b=1",
        ] {
            let shown = redact_text(text);
            assert!(!shown.contains("hunter2") && shown.contains(HIDDEN), "{text} as {shown}");
        }
        assert_eq!(redact_text("a=1 token=x&b=2"), format!("a=1 token={HIDDEN}&b=2"));
        assert_eq!(redact_text("redis://:pw@h:1/0"), format!("redis://{HIDDEN}@h:1/0"));
    }

    #[test]
    fn what_operators_need_stays() {
        for text in [
            "Reading /var/backups/migrations/cpmove-sunrise.tar.gz.",
            "/var/backups/migrations/0197f3a2-5b0c-7c1e-9a43-3f6f0d2b8e51/backup-11.22.2026_user.tar.gz",
            "0197f3a2-5b0c-7c1e-9a43-3f6f0d2b8e51",
            "The server web1.hosting.example cannot be reached over SSH (Connection refused).",
            "Copied 1234567890123 of 9876543210987 bytes to /home/shopco/public_html.",
            "2026-11-23T02:51:05.123456Z",
            "mailbox:info@a-very-long-name-of-a-domain.example: migrated",
            "duplicate key value violates unique constraint \"job_one_at_a_time\"",
            "2001:db8:85a3::8a2e:370:7334",
        ] {
            assert_eq!(redact_text(text), text);
        }
        let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let value = json!({"digest": digest, "operations": 3, "step": "create_user", "done": true});
        assert_eq!(redact(&value), value);
    }
}
