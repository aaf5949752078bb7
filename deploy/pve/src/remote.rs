//! The other nodes of the cluster, over SSH with the cluster's own keys.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::{Result, failure};
use crate::node::Member;
use crate::program::command;

/// SSH to a member, ready for the words of a command.
pub fn ssh(member: &Member) -> Command {
    let mut ssh = command("ssh");
    ssh.args(["-e", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o"])
        .arg(format!("HostKeyAlias={}", member.name))
        .args(["-o", "UserKnownHostsFile=/etc/pve/priv/known_hosts", "-o", "LogLevel=ERROR"])
        .arg(format!("root@{}", member.address));
    ssh
}

/// A word as the shell at the other end must see it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs a command on a member and gives what it printed.
pub fn run(member: &Member, words: &[&str]) -> Result<String> {
    let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let output = ssh(member).arg(line.join(" ")).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failure(words.trim().to_owned()))
}

/// Asks a member's API.
pub fn ask(member: &Member, path: &str) -> Result<Value> {
    let text = run(member, &["pvesh", "get", path, "--noproxy", "--output-format", "json"])?;
    Ok(serde_json::from_str(&text)?)
}
