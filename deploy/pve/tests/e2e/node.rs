//! A node for one test, started by the sandbox's script and thrown away at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::thread::sleep;
use std::time::{Duration, Instant};

use pve_sandbox::program::command;
use pve_sandbox::remote::quoted;
use serde_json::Value;

pub struct Node {
    pub name: String,
    env: BTreeMap<String, String>,
}

fn checkout() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs the sandbox's script.
pub fn script(words: &[&str]) -> Output {
    command(checkout().join("deploy/sandbox/pve"))
        .args(words)
        .env("PVE_BINARY", env!("CARGO_BIN_EXE_migrapanel-pve-sandbox"))
        .output()
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for something, and says what it was if it does not come.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(50));
    }
}

impl Node {
    pub fn start(name: &str) -> Node {
        Node::join(name, &[])
    }

    pub fn start_in(name: &str, cluster: &str) -> Node {
        Node::join(name, &["--cluster", cluster])
    }

    fn join(name: &str, more: &[&str]) -> Node {
        let name = format!("e2e-{name}");
        let mut words = vec!["start", &name];
        words.extend(more);
        let output = script(&words);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        let mut node = Node { name, env: BTreeMap::new() };
        node.read_env();
        node.pipe(
            &["sh", "-c", "cat >/root/keys.pub"],
            &fs::read(format!("{}.pub", node.get("ADMIN_KEY"))).unwrap(),
        );
        node
    }

    pub fn read_env(&mut self) {
        let known = fs::read_to_string(self.folder().join("env")).unwrap();
        self.env = known
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect();
    }

    pub fn folder(&self) -> PathBuf {
        checkout().join(".local/pve").join(&self.name)
    }

    pub fn get(&self, name: &str) -> &str {
        &self.env[&format!("PVE_{name}")]
    }

    /// The last part of an address of this node's network, as IPv4 and as IPv6.
    pub fn address(&self, last: u8) -> String {
        self.get("NETWORK4").replace(".0/24", &format!(".{last}"))
    }

    pub fn address6(&self, last: u8) -> String {
        self.get("NETWORK6").replace("::/64", &format!("::{last}"))
    }

    fn ssh(&self, words: &[&str]) -> std::process::Command {
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let mut ssh = command("sh");
        ssh.args(["-c", &format!("{} \"$1\"", self.get("ADMIN_SSH")), "sh", &line.join(" ")]);
        ssh
    }

    /// Runs a command on the node, whatever becomes of it.
    pub fn run(&self, words: &[&str]) -> Output {
        self.ssh(words).output().unwrap()
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "{words:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs a command that must be refused, and gives the words.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(255), "{words:?}: {}", text(&output.stdout));
        text(&output.stderr).trim_end().to_owned()
    }

    fn pipe(&self, words: &[&str], input: &[u8]) {
        use std::io::Write;
        let mut child = self.ssh(words).stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Asks the API.
    pub fn ask(&self, path: &str) -> Value {
        serde_json::from_str(&self.ok(&["pvesh", "get", path, "--output-format", "json"])).unwrap()
    }

    /// What stands under a key of a container's state.
    pub fn current(&self, vmid: &str, key: &str) -> Value {
        self.ask(&format!("/nodes/{}/lxc/{vmid}/status/current", self.get("NODE")))[key].clone()
    }

    /// The words of a `pct create` for a container with the address `.last`.
    pub fn create_words(&self, vmid: &str, last: u8) -> Vec<String> {
        let card = format!(
            "name=eth0,bridge={},firewall=1,ip={}/24,gw={},ip6={}/64,gw6={}",
            self.get("BRIDGE"),
            self.address(last),
            self.get("GATEWAY4"),
            self.address6(last),
            self.get("GATEWAY6"),
        );
        let hostname = format!("ct{vmid}.example.com");
        let words = [
            "pct",
            "create",
            vmid,
            self.get("TEMPLATE"),
            "--hostname",
            &hostname,
            "--memory",
            "256",
            "--cores",
            "1",
            "--rootfs",
            "local-lvm:2",
            "--net0",
            &card,
            "--ssh-public-keys",
            "/root/keys.pub",
            "--unprivileged",
            "1",
            "--description",
            "made by a test",
            "--start",
            "1",
        ];
        words.map(str::to_owned).to_vec()
    }

    pub fn create(&self, vmid: &str, last: u8) {
        let words = self.create_words(vmid, last);
        self.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Runs a command in a container, over SSH from this machine.
    pub fn in_container(&self, address: &str, line: &str) -> Output {
        command("ssh")
            .args([
                "-i",
                self.get("ADMIN_KEY"),
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=2", "-o", "LogLevel=ERROR"])
            .args(["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"])
            .args([format!("root@{address}").as_str(), line])
            .output()
            .unwrap()
    }

    /// What a command in a container prints, once the container answers.
    pub fn answer(&self, address: &str, line: &str) -> String {
        let mut words = String::new();
        wait_for(&format!("{address} does not answer to {line}"), || {
            let output = self.in_container(address, line);
            words = text(&output.stdout).trim_end().to_owned();
            output.status.success()
        });
        words
    }

    pub fn fault(&self, words: &[&str]) {
        let mut all = vec!["fault", &self.name];
        all.extend(words);
        assert!(script(&all).status.success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        script(&["stop", &self.name]);
    }
}
