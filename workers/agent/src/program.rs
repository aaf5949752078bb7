//! The one door for starting programs: a closed list of absolute paths, arguments as an array, a
//! clean environment, a time limit, and never a shell. Secrets go through standard input.

use crate::error::{Error, Result};
use crate::guard::Stop;
use cpanel::secret::Secret;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    A2EnMod,
    ApacheCtl,
    AptGet,
    ChPasswd,
    Crontab,
    Doveadm,
    Doveconf,
    Dpkg,
    DpkgQuery,
    Exim,
    GroupAdd,
    GroupDel,
    Mariadb,
    MariadbDump,
    OpenSsl,
    PhpFpm82,
    Sievec,
    Sshd,
    Systemctl,
    UserAdd,
    UserDel,
    UserMod,
}

impl Program {
    const fn path(self) -> &'static str {
        match self {
            Self::A2EnMod => "/usr/sbin/a2enmod",
            Self::ApacheCtl => "/usr/sbin/apache2ctl",
            Self::AptGet => "/usr/bin/apt-get",
            Self::ChPasswd => "/usr/sbin/chpasswd",
            Self::Crontab => "/usr/bin/crontab",
            Self::Doveadm => "/usr/bin/doveadm",
            Self::Doveconf => "/usr/bin/doveconf",
            Self::Dpkg => "/usr/bin/dpkg",
            Self::DpkgQuery => "/usr/bin/dpkg-query",
            Self::Exim => "/usr/sbin/exim4",
            Self::GroupAdd => "/usr/sbin/groupadd",
            Self::GroupDel => "/usr/sbin/groupdel",
            Self::Mariadb => "/usr/bin/mariadb",
            Self::MariadbDump => "/usr/bin/mariadb-dump",
            Self::OpenSsl => "/usr/bin/openssl",
            Self::PhpFpm82 => "/usr/sbin/php-fpm8.2",
            Self::Sievec => "/usr/bin/sievec",
            Self::Sshd => "/usr/sbin/sshd",
            Self::Systemctl => "/usr/bin/systemctl",
            Self::UserAdd => "/usr/sbin/useradd",
            Self::UserDel => "/usr/sbin/userdel",
            Self::UserMod => "/usr/sbin/usermod",
        }
    }
}

/// A program to be run. Unless told otherwise it reads nothing, may take a minute and is run by root.
pub struct Run<'a> {
    program: Program,
    arguments: Vec<OsString>,
    stdin: Input<'a>,
    stdout: Option<File>,
    limit: Duration,
    stop: Stop,
    ids: Option<(u32, u32)>,
    person: (String, PathBuf),
    secret: Option<(&'static str, Secret)>,
}

enum Input<'a> {
    Nothing,
    Bytes(&'a [u8]),
    Reader(&'a mut dyn Read),
}

/// What a program said.
#[derive(Debug)]
pub struct Output {
    program: Program,
    status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// At most so much is kept: the beginning of the output, and about the end of the errors. The rest
/// is read and dropped.
const OUTPUT_BYTES: u64 = 4 << 20;

/// How often a running program's end is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Prepares a program.
pub fn run(program: Program) -> Run<'static> {
    Run {
        program,
        arguments: Vec::new(),
        stdin: Input::Nothing,
        stdout: None,
        limit: Duration::from_secs(60),
        stop: Stop::default(),
        ids: None,
        person: ("root".to_owned(), PathBuf::from("/root")),
        secret: None,
    }
}

impl<'a> Run<'a> {
    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// What it reads.
    pub fn stdin<'b>(self, bytes: &'b [u8]) -> Run<'b>
    where
        'a: 'b,
    {
        Run { stdin: Input::Bytes(bytes), ..self }
    }

    /// What it reads, as it comes. When reading fails, the program is ended.
    pub fn stdin_from<'b>(self, reader: &'b mut dyn Read) -> Run<'b>
    where
        'a: 'b,
    {
        Run { stdin: Input::Reader(reader), ..self }
    }

    /// Sends its standard output into a file.
    pub fn stdout_to(mut self, file: File) -> Self {
        self.stdout = Some(file);
        self
    }

    /// How long it may take.
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Ends it when the work must stop, also while it reads nothing.
    pub fn stopped_by(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Runs it as this user and group, and no other group.
    pub const fn ids(mut self, uid: u32, gid: u32) -> Self {
        self.ids = Some((uid, gid));
        self
    }

    /// Whom it takes itself for, and where that one is at home; root unless somebody is named.
    pub fn person(mut self, name: &str, home: &Path) -> Self {
        self.person = (name.to_owned(), home.to_owned());
        self
    }

    /// A secret in its environment, which only root and its own user can look at.
    pub fn secret(mut self, name: &'static str, value: Secret) -> Self {
        self.secret = Some((name, value));
        self
    }

    /// Runs it and gives what it said, however it ended. Fails when it could not start, when reading
    /// its input failed, or when its time was over.
    pub fn output(self) -> Result<Output> {
        let program = self.program;
        let limit = self.limit;
        let mut child = self.command().spawn().map_err(Error::at(program.path()))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect_end);
        let stdin = child.stdin.take();
        let child = Arc::new(Mutex::new(child));
        let (done, watchdog) = watch(Arc::clone(&child), limit, self.stop.clone());
        let fed = match (stdin, self.stdin) {
            (Some(pipe), Input::Bytes(bytes)) => feed(pipe, &mut &*bytes),
            (Some(pipe), Input::Reader(reader)) => feed(pipe, reader),
            _ => Ok(()),
        };
        if fed.is_err() {
            end(&child);
        }
        // The end of its outputs is heard at once; its own end has to be asked for.
        let stdout = stdout.map(joined).unwrap_or_default();
        let stderr = stderr.map(joined).unwrap_or_default();
        let status = wait(&child);
        drop(done);
        let late = watchdog.join().unwrap_or(false);
        if late {
            let text = format!("{} took longer than {} s.", program.path(), limit.as_secs());
            return Err(Error::new("program_too_slow", text));
        }
        fed.map_err(Error::internal)?;
        Ok(Output { program, status: status?, stdout, stderr })
    }

    /// Runs it; fails unless it ended well.
    pub fn ok(self) -> Result<Output> {
        self.output()?.ok()
    }

    fn command(&self) -> Command {
        #[expect(clippy::disallowed_methods, reason = "this is the one door for starting programs")]
        let mut command = Command::new(self.program.path());
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("USER", &self.person.0)
            .env("HOME", &self.person.1)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir("/")
            .process_group(0)
            .stderr(Stdio::piped());
        command.stdin(match self.stdin {
            Input::Nothing => Stdio::null(),
            _ => Stdio::piped(),
        });
        match &self.stdout {
            Some(file) => match file.try_clone() {
                Ok(file) => command.stdout(file),
                Err(_) => command.stdout(Stdio::null()),
            },
            None => command.stdout(Stdio::piped()),
        };
        if let Some((name, value)) = &self.secret {
            command.env(name, value.reveal());
        }
        if let Some((uid, gid)) = self.ids {
            command.gid(gid).uid(uid);
        }
        command
    }
}

impl Output {
    /// Whether the program ended with status 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The program's exit status; none when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless the program ended with status 0; the cause has the end of what it said.
    pub fn ok(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        let text = format!("{} failed on the server ({}).", self.program.path(), self.status);
        Err(Error::new("program_failed", text).because(self.complaint()))
    }

    /// The end of its standard error, or of its output when it was silent there.
    pub fn complaint(&self) -> String {
        let bytes = if self.stderr.is_empty() { &self.stdout } else { &self.stderr };
        let text = String::from_utf8_lossy(bytes);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines
            .into_iter()
            .rev()
            .map(|l| cpanel::member::shown(l.as_bytes()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Its standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn feed(mut pipe: impl Write, reader: &mut dyn Read) -> io::Result<()> {
    let mut buffer = vec![0_u8; 64 << 10];
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        match pipe.write_all(buffer.get(..n).unwrap_or_default()) {
            Ok(()) => {}
            // It has heard enough; its status tells why.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let whole = pipe.by_ref().take(OUTPUT_BYTES).read_to_end(&mut kept);
        if whole.is_ok() && io::copy(&mut pipe, &mut io::sink()).is_err() {
            kept.clear();
        }
        kept
    })
}

/// A client may repeat a statement of any length before it says what is wrong with it.
fn collect_end(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut older, mut newer) = (Vec::new(), Vec::new());
        loop {
            let mut next = Vec::new();
            let read = pipe.by_ref().take(OUTPUT_BYTES / 2).read_to_end(&mut next);
            if next.is_empty() {
                break;
            }
            older = std::mem::replace(&mut newer, next);
            if read.is_err() {
                break;
            }
        }
        older.append(&mut newer);
        older
    })
}

fn joined(handle: JoinHandle<Vec<u8>>) -> Vec<u8> {
    handle.join().unwrap_or_default()
}

/// Ends the program when its time is over; the answer of the thread is whether that happened.
fn watch(child: Arc<Mutex<Child>>, limit: Duration, stop: Stop) -> (Sender<()>, JoinHandle<bool>) {
    let (done, ended) = channel();
    let handle = thread::spawn(move || {
        let begun = Instant::now();
        loop {
            let rest = limit.saturating_sub(begun.elapsed());
            match ended.recv_timeout(rest.min(LOOK_EVERY)) {
                Err(RecvTimeoutError::Timeout) if stop.is_set() => {
                    end(&child);
                    return false;
                }
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= limit => {
                    end(&child);
                    return true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                _ => return false,
            }
        }
    });
    (done, handle)
}

/// Ends the program with all that it started, unless it is over.
fn end(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let ended =
        group.map(|g| rustix::process::kill_process_group(g, rustix::process::Signal::KILL));
    if !matches!(ended, Some(Ok(()))) && child.kill().is_err() {
        // It has just ended by itself.
    }
}

fn wait(child: &Mutex<Child>) -> Result<ExitStatus> {
    let mut pause = Duration::from_micros(50);
    loop {
        let seen = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait()?;
        if let Some(status) = seen {
            return Ok(status);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_errors_is_kept() {
        let half = usize::try_from(OUTPUT_BYTES / 2).unwrap();
        for length in [0, 5, half, half * 2, half * 5 + 7] {
            let mut said = vec![b'x'; length];
            said.extend(b"ERROR");
            let kept = joined(collect_end(io::Cursor::new(said)));
            assert!(kept.ends_with(b"ERROR") && kept.len() <= half * 2, "{length}");
            assert!(kept.len() >= (length + 5).min(half), "{length}");
        }
    }

    #[test]
    fn input_output_status_and_time() {
        let out = run(Program::OpenSsl).args(["dgst", "-sha256", "-r"]).stdin(b"abc").ok().unwrap();
        assert!(out.text().starts_with("ba7816bf"));
        assert!(run(Program::OpenSsl).arg("nonsense").ok().is_err());
        let slow = run(Program::OpenSsl).args(["speed", "sha256"]).limit(Duration::from_millis(50));
        assert_eq!(slow.ok().unwrap_err().code(), "program_too_slow");
    }
}
