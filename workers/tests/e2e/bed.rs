//! What `deploy/test` gives the tests.

use entities::config;
use secrecy::ExposeSecret;
use std::path::PathBuf;

/// A variable that `deploy/test` sets.
pub fn given(name: &str) -> String {
    let Ok(value) = config::secret(name) else { panic!("{name} is missing: run deploy/test") };
    value.expose_secret().to_owned()
}

/// A program of ours.
pub fn binary(name: &str) -> PathBuf {
    PathBuf::from(given("TEST_BIN")).join(format!("migrapanel-{name}"))
}

/// A script of the sandbox.
pub fn sandbox(name: &str) -> PathBuf {
    PathBuf::from(given("TEST_SANDBOX")).join(name)
}

/// Where the sandbox keeps what it runs.
pub fn local() -> PathBuf {
    PathBuf::from(given("TEST_SANDBOX")).join("../../.local").canonicalize().unwrap()
}
