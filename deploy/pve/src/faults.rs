//! Disturbances: files in the sandbox's folder of faults say which calls hang, answer late, lose their
//! connection or fail, and how often.

use std::env;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio, exit};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::lock;
use crate::node::{SANDBOX, names_in};
use crate::program::command;
use crate::task::process_start;

/// Tells the program that it has met its fault already.
const MET: &str = "PVE_SANDBOX_FAULT_MET";

struct Fault {
    kind: String,
    seconds: u64,
    message: String,
}

/// Meets the fault that waits for these words, if one does. It returns when the call is to go on as
/// usual, and ends the process when there is nothing more to do.
pub fn meet(words: &[String]) -> Result<()> {
    let folder = Path::new(SANDBOX).join("faults");
    if env::var_os(MET).is_some() || names_in(&folder).is_empty() {
        return Ok(());
    }
    let Some(fault) = take(&folder, words)? else { return Ok(()) };
    let pause = Duration::from_secs(fault.seconds);
    match fault.kind.as_str() {
        "hang" => hang(),
        "slow" => sleep(pause),
        "late" => {
            let output = run_in_full()?;
            sleep(pause);
            answer(&output);
        }
        "lost" => {
            cut_connection();
            run_in_full()?;
            exit(255);
        }
        "lost_before" => {
            cut_connection();
            exit(255);
        }
        "fail_after" => {
            run_in_full()?;
            refuse(&fault.message);
        }
        "full" => refuse(&no_space(words)),
        _ => refuse(&fault.message),
    }
    Ok(())
}

/// Takes one time off the first fault that fits, under a lock, so that each is met as often as it says.
fn take(folder: &Path, words: &[String]) -> Result<Option<Fault>> {
    let _lock = lock::take(&format!("{SANDBOX}/faults.lock"), Duration::from_secs(30))?;
    for name in names_in(folder) {
        let path = folder.join(&name);
        let Some(known) = read(&path) else { continue };
        let matched: Vec<&str> = known
            .get("match")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let fits = matched.len() <= words.len()
            && matched.iter().zip(words).all(|(wanted, word)| wanted == word);
        let times = known.get("times").and_then(Value::as_u64).unwrap_or(1);
        if !fits || times == 0 {
            continue;
        }
        count_down(&path, known.clone(), times)?;
        let text =
            |key: &str| known.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        return Ok(Some(Fault {
            kind: text("kind"),
            seconds: known.get("secs").and_then(Value::as_u64).unwrap_or(5),
            message: Some(text("message"))
                .filter(|words| !words.is_empty())
                .unwrap_or_else(|| timeout(words)),
        }));
    }
    Ok(None)
}

fn read(path: &Path) -> Option<Value> {
    let name = path.file_name()?.to_str()?;
    // Half written, or on its way.
    if name.starts_with('.') || path.extension().is_some_and(|last| last == "new") {
        return None;
    }
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn count_down(path: &Path, mut known: Value, times: u64) -> Result<()> {
    if times <= 1 {
        fs::remove_file(path)?;
        return Ok(());
    }
    if let Some(map) = known.as_object_mut() {
        map.insert("times".to_owned(), (times - 1).into());
    }
    let mut new = PathBuf::from(path);
    new.set_extension("new");
    fs::write(&new, known.to_string())?;
    fs::rename(new, path)?;
    Ok(())
}

fn timeout(words: &[String]) -> String {
    let vmid = words.iter().find(|word| word.parse::<u64>().is_ok()).map_or("100", String::as_str);
    format!("can't lock file '/run/lock/lxc/pve-config-{vmid}.lock' - got timeout")
}

fn no_space(words: &[String]) -> String {
    let vmid = words.iter().find(|word| word.parse::<u64>().is_ok()).map_or("100", String::as_str);
    let volume = format!("pve/vm-{vmid}-disk-0");
    let cause = format!(
        "lvcreate '{volume}' error:   Cannot create new thin volume, free space in thin pool pve/data reached threshold."
    );
    match words.get(1).map(String::as_str) {
        Some("create") if words.first().is_some_and(|name| name == "pct") => {
            format!("unable to create CT {vmid} - {cause}")
        }
        Some("restore") => format!("unable to restore CT {vmid} - {cause}"),
        _ => cause,
    }
}

/// Does the call itself, to its end, and keeps its answer.
fn run_in_full() -> Result<Output> {
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    Ok(command("/proc/self/exe")
        .arg0(name)
        .args(words)
        .env(MET, "1")
        .stdin(Stdio::inherit())
        .output()?)
}

fn answer(output: &Output) {
    drop(std::io::stdout().write_all(&output.stdout));
    drop(std::io::stderr().write_all(&output.stderr));
    exit(output.status.code().unwrap_or(255));
}

fn refuse(message: &str) {
    drop(writeln!(std::io::stderr(), "{message}"));
    exit(255);
}

/// Never answers, but does not outlive the connection either.
fn hang() {
    let connection = connection();
    while connection.is_none_or(|(pid, start)| process_start(pid) == Some(start)) {
        sleep(Duration::from_millis(200));
    }
    exit(255);
}

/// The process of sshd that serves this connection.
fn connection() -> Option<(u32, u64)> {
    let mut pid = std::process::id();
    while pid > 1 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
        let parent: u32 = field("PPid:")?.parse().ok()?;
        if field("Name:")?.starts_with("sshd") {
            return Some((pid, process_start(pid)?));
        }
        pid = parent;
    }
    None
}

/// Ends the connection that this call came by, as a broken network would.
fn cut_connection() {
    crate::program::leave_session();
    if let Some((pid, _)) = connection() {
        drop(crate::program::run("kill", &["-KILL", &pid.to_string()]));
    }
}
