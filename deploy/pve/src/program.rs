//! The one door through which other programs are started.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::error::{Failure, Result, failure};

/// A program that is about to be started.
#[expect(clippy::disallowed_methods, reason = "this is the one door of this crate")]
pub fn command(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env_remove(crate::task::WORKER);
    command
}

/// Runs a program to its end and gives what it printed; in its own words when it fails.
pub fn run<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> Result<String> {
    answer(name, command(name).args(arguments).stdin(Stdio::null()).output()?)
}

/// Runs a program that reads this.
pub fn run_with<S: AsRef<OsStr>>(name: &str, arguments: &[S], input: &[u8]) -> Result<String> {
    let mut child = command(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input)?;
    }
    answer(name, child.wait_with_output()?)
}

fn answer(name: &str, output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(words_of(name, &output))
}

fn words_of(name: &str, output: &Output) -> Failure {
    let words = String::from_utf8_lossy(&output.stderr);
    failure(format!("command '{name}' failed: {} ({})", words.trim(), output.status))
}

/// Leaves the session of the caller, so that the end of its connection ends nothing here. Whether there
/// was one to leave.
pub fn leave_session() -> bool {
    rustix::process::setsid().is_ok()
}
