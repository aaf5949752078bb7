//! The processes of a test's installation: what all of them read, and how it is begun.

use crate::bed::{binary, given};
use crate::client::Client;
use crate::program::{Process, program, run, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// As the platform's owner is called in every test's database.
pub const OWNER: &str = "owner@platform.test";
pub const PASSWORD: &str = "Correct-Horse-1!";
pub const SEALING_KEYS: &str = "e2e:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
pub const STRIPE_KEY: &str = "sk_test_e2e";
pub const WEBHOOK_SECRET: &str = "whsec_ZTJl";

/// One of our programs with the settings of an installation in which nothing is paid for. Whatever a
/// test has otherwise it sets after these.
pub fn process(name: &str, database: &str, amqp: &str) -> Command {
    let mut command = program(binary(name));
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", amqp)
        .env("REDIS_URL", given("TEST_REDIS_URL"))
        .env("MIGRAPANEL__JWT_KEYS", "e2e:0123456789abcdef0123456789abcdef")
        .env("MIGRAPANEL__TOKEN_KEYS", "e2e:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
        .env("MIGRAPANEL__SEALING_KEYS", SEALING_KEYS)
        .env("MIGRAPANEL__AGENT", binary("agent"))
        .env("STRIPE_API_BASE", "http://127.0.0.1:1/")
        .env("STRIPE_SECRET_KEY", STRIPE_KEY)
        .env("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
        .env("PDNS_API_URL", given("TEST_PDNS_API_URL"))
        .env("PDNS_API_KEY", given("TEST_PDNS_API_KEY"))
        .env("DNS_ADDR", given("TEST_DNS_ADDR"))
        .env("MIGRAPANEL__RESOLVER", given("TEST_DNS_ADDR"));
    command
}

/// Makes the platform and its owner.
pub fn bootstrap(mut api: Command) {
    api.env("MIGRAPANEL__OWNER_EMAIL", OWNER).env("MIGRAPANEL__OWNER_PASSWORD", PASSWORD);
    run(api.arg("bootstrap"));
}

/// Lets the API listen, and waits until it answers.
pub async fn serve(mut api: Command, port: u16, client: &Client, log: &Path) -> Process {
    api.env("MIGRAPANEL__LISTEN", format!("127.0.0.1:{port}")).arg("serve");
    let process = Process::start(&mut api, log);
    wait_for("the API's readiness", Duration::from_secs(30), async || {
        client.is_ready().await.then_some(())
    })
    .await;
    process
}

/// A failed test shows the ends of its processes' logs and says where the whole lies.
pub fn show_logs(dir: &Path, names: &[&str]) {
    for name in names {
        let file = dir.join(format!("{name}.log"));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(|l| l.chars().take(300).collect()).collect();
        let end = lines[lines.len().saturating_sub(20)..].join("\n");
        #[expect(clippy::print_stderr, reason = "what a person needs who looks at a failed test")]
        {
            eprintln!("== the end of {}:\n{end}", file.display());
        }
    }
}
