//! A fresh Debian 12 server, gone with the test.

use crate::bed;
use crate::program::{program, run, run_with, said};
use std::path::Path;
use std::process::{Command, Output};

#[derive(Debug)]
pub struct Server {
    name: String,
    pub host: String,
    pub fingerprint: String,
    ssh: String,
}

/// Where archives lie on it.
pub const BACKUPS: &str = "/var/backups/migrations";

impl Server {
    /// Boots one under this name; what a killed run left of it goes first.
    pub fn start(name: &str) -> Self {
        Self::boot(name, program(bed::sandbox("target")).args(["start", name]))
    }

    /// The same with a disk of so many MiB for all that it writes.
    pub fn start_with_disk(name: &str, mib: u32) -> Self {
        let mut start = program(bed::sandbox("target"));
        Self::boot(name, start.args(["start", name]).env("TARGET_DISK_MIB", mib.to_string()))
    }

    fn boot(name: &str, start: &mut Command) -> Self {
        run(program(bed::sandbox("target")).args(["stop", name]));
        run(start);
        let env = bed::local().join("targets").join(name).join("env");
        let script = r#". "$0"; printf '%s\n' "$TARGET_HOST" "$TARGET_HOST_KEY_FINGERPRINT" "$TARGET_ADMIN_SSH""#;
        let text = run(program("sh").arg("-c").arg(script).arg(env));
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap();
        Self { name: name.to_owned(), host: next(), fingerprint: next(), ssh: next() }
    }

    /// Runs a script as root on the server; what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "on the server failed:\n{script}\n{errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, when it may fail.
    pub fn try_sh(&self, script: &str) -> Output {
        let command = format!("{} bash -se", self.ssh);
        run_with(program("sh").arg("-c").arg(command), script.as_bytes())
    }

    /// The same without SSH.
    #[track_caller]
    pub fn inside(&self, script: &str) -> String {
        let mut command = program(bed::sandbox("target"));
        command.args(["exec", &self.name, "bash", "-c", script]);
        run(&mut command)
    }

    /// Kills every SSH connection to it, where it ends.
    pub fn cut_ssh(&self) {
        self.inside("pkill -KILL -f '^sshd: root' || true");
    }

    /// Takes its power away at once, and boots it again from its disk.
    pub fn cut_power(&self) {
        run(program(bed::sandbox("target")).args(["reset", &self.name]));
    }

    /// What lies unpacked on it, but for what analyzed archives leave for another try.
    pub fn staging(&self) -> String {
        self.sh("find /home/.migrapanel -mindepth 1 ! -name kept")
    }

    /// Puts a file among the backups; its path there.
    pub fn put(&self, file: &Path) -> String {
        let name = file.file_name().unwrap().to_str().unwrap();
        self.put_bytes(&std::fs::read(file).unwrap(), name)
    }

    /// The same with this content.
    pub fn put_bytes(&self, bytes: &[u8], name: &str) -> String {
        let path = format!("{BACKUPS}/{name}");
        let command = format!("{} 'umask 077; cat >{path}'", self.ssh);
        let mut command = {
            let mut sh = program("sh");
            sh.arg("-c").arg(command);
            sh
        };
        let output = run_with(&mut command, bytes);
        said(&command, &output);
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        run_with(program(bed::sandbox("target")).args(["stop", &self.name]), b"");
    }
}
