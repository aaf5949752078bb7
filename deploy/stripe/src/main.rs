//! The sandbox as a program: `migrapanel-stripe-sandbox --listen 127.0.0.1:0 --key sk_test_…`.

use std::io::{Error, Write};

use stripe_sandbox::{Config, start};

const USAGE: &str = "Usage: migrapanel-stripe-sandbox [--listen ADDRESS:PORT] [--key sk_test_…] [--webhook URL=SECRET]…";

fn read(mut arguments: impl Iterator<Item = String>) -> Option<Config> {
    let mut config = Config::default();
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--listen" => config.listen = value,
            "--key" => config.key = value,
            "--webhook" => {
                let (url, secret) = value.rsplit_once('=')?;
                config.webhooks.push((url.to_owned(), secret.to_owned()));
            }
            _ => return None,
        }
    }
    Some(config)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let config = read(std::env::args().skip(1)).ok_or_else(|| Error::other(USAGE))?;
    let sandbox = start(config).await?;
    writeln!(std::io::stdout(), "{}", sandbox.base_url)?;
    sandbox.wait().await
}
