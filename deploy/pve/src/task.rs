//! Tasks: a worker of its own session does the work, so that it goes on when the caller's connection
//! ends; what it prints is kept in a log, and its end in the list of tasks.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Stdio, exit};
use std::sync::OnceLock;

use chrono::Utc;

use crate::error::{Result, failure};
use crate::node::Node;
use crate::program;

const FOLDER: &str = "/var/log/pve/tasks";
/// Tells the worker which task it is.
pub const WORKER: &str = "PVE_SANDBOX_WORKER";
/// The task that this process works on.
static CURRENT: OnceLock<Task> = OnceLock::new();

/// A task by what its identity says.
#[derive(Debug, Clone)]
pub struct Task {
    pub upid: String,
    pub node: String,
    pub pid: u32,
    pub pstart: u64,
    pub starttime: i64,
    pub kind: String,
    pub id: String,
    pub user: String,
}

impl Task {
    /// Reads an identity such as `UPID:pve1:0003E2B4:01A2B3C4:65F1E2D3:vzcreate:101:root@pam:`.
    pub fn parse(upid: &str) -> Option<Task> {
        let parts: Vec<&str> = upid.split(':').collect();
        let [head, node, pid, pstart, starttime, kind, id, user, ""] = parts.as_slice() else {
            return None;
        };
        (*head == "UPID").then(|| {
            Some(Task {
                upid: upid.to_owned(),
                node: (*node).to_owned(),
                pid: u32::from_str_radix(pid, 16).ok()?,
                pstart: u64::from_str_radix(pstart, 16).ok()?,
                starttime: i64::from_str_radix(starttime, 16).ok()?,
                kind: (*kind).to_owned(),
                id: (*id).to_owned(),
                user: (*user).to_owned(),
            })
        })?
    }

    /// Where its log lies.
    pub fn log(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.upid)
    }

    fn end(&self) -> PathBuf {
        Path::new(FOLDER).join(format!(".{}.end", self.upid))
    }

    /// How it ended: the time and `OK` or the error's words; nothing while it runs.
    pub fn ended(&self) -> Option<(i64, String)> {
        if let Ok(text) = fs::read_to_string(self.end()) {
            let (time, words) = text.split_once(' ')?;
            return Some((time.parse().ok()?, words.trim_end().to_owned()));
        }
        // Killed: nobody wrote its end.
        (process_start(self.pid) != Some(self.pstart))
            .then(|| (self.starttime, "unexpected status".to_owned()))
    }
}

/// When a process was started, in the kernel's ticks; nothing when there is none of this number.
pub fn process_start(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// All tasks of this node, the newest first.
pub fn all() -> Vec<Task> {
    let mut tasks: Vec<Task> = crate::node::names_in(Path::new(FOLDER))
        .iter()
        .filter_map(|name| Task::parse(name))
        .collect();
    tasks.sort_by_key(|task| std::cmp::Reverse((task.starttime, task.pid)));
    tasks
}

/// Does some work as a task and gives its identity when it is over.
///
/// The program starts itself again with the same words: the second time, in a session of its own, this
/// function runs `work` and ends the process. The first passes on what the worker prints; an error has
/// been printed when it returns.
pub fn run(node: &Node, kind: &str, id: &str, work: impl FnOnce() -> Result<()>) -> Result<String> {
    fs::create_dir_all(FOLDER)?;
    if worker_marker() {
        return work_as_task(node, kind, id, work);
    }
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let mut child = program::command("/proc/self/exe")
        .arg0(name)
        .args(words)
        .env(WORKER, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut upid = None;
    let mut out = std::io::stdout();
    if let Some(pipe) = child.stdout.take() {
        for line in BufReader::new(pipe).lines().map_while(std::result::Result::ok) {
            if upid.is_none() && line.starts_with("UPID:") {
                upid = Some(line);
            } else {
                // Nobody may be listening any more; the work goes on.
                drop(writeln!(out, "{line}"));
            }
        }
    }
    let status = child.wait()?;
    let upid = upid.ok_or_else(|| failure("worker did not start"))?;
    if status.success() { Ok(upid) } else { exit(status.code().unwrap_or(255)) }
}

fn worker_marker() -> bool {
    env::var_os(WORKER).is_some()
}

fn work_as_task(
    node: &Node,
    kind: &str,
    id: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<String> {
    // Fails only for a leader of a session, which is what it is to become.
    program::leave_session();
    let pid = std::process::id();
    let upid = format!(
        "UPID:{}:{pid:08X}:{:08X}:{:08X}:{kind}:{id}:root@pam:",
        node.name,
        process_start(pid).unwrap_or_default(),
        Utc::now().timestamp(),
    );
    let task = Task::parse(&upid).ok_or_else(|| failure("the task has no identity"))?;
    fs::File::create(task.log())?;
    let task = CURRENT.get_or_init(|| task);
    say_raw(&upid);
    let outcome = work();
    let words = match &outcome {
        Ok(()) => "OK".to_owned(),
        Err(why) => why.to_string(),
    };
    say_to_log(
        task,
        &if outcome.is_ok() { "TASK OK".to_owned() } else { format!("TASK ERROR: {words}") },
    );
    let new = task.end().with_extension("new");
    fs::write(&new, format!("{} {}\n", Utc::now().timestamp(), words.replace('\n', " ")))?;
    fs::rename(&new, task.end())?;
    if let Err(why) = outcome {
        drop(writeln!(std::io::stderr(), "{why}"));
        exit(255);
    }
    exit(0);
}

fn say_raw(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

fn say_to_log(task: &Task, line: &str) {
    if let Ok(mut file) = fs::File::options().append(true).open(task.log()) {
        drop(writeln!(file, "{line}"));
    }
}

/// Says a line: in the task's log, and to the caller if it still listens.
pub fn say(line: &str) {
    say_raw(line);
    if let Some(task) = CURRENT.get() {
        say_to_log(task, line);
    }
}
