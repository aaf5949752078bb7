//! `vzdump` of containers: archives of a root and its configuration, and their way back.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::Local;
use serde_json::Value;

use crate::arguments::Parameters;
use crate::config::Config;
use crate::container;
use crate::error::{Result, bad_parameter, failure};
use crate::lifecycle::{self, locked};
use crate::node::{self, Node};
use crate::program::{command, run};
use crate::property;
use crate::storage;
use crate::task;

const KEPT_CONFIG: &str = "./etc/vzdump/pct.conf";

/// The configuration that a backup holds.
pub fn configuration(archive: &Path) -> Result<Config> {
    let path = archive.to_string_lossy();
    let text = run("tar", &["--zstd", "--occurrence=1", "-xOf", path.as_ref(), KEPT_CONFIG])
        .map_err(|why| why.after("no configuration in the archive:"))?;
    Ok(Config::parse(&text))
}

/// Unpacks an archive into an empty root.
pub fn unpack(archive: &Path, root: &Path) -> Result<()> {
    let (archive, root) = (archive.to_string_lossy(), root.to_string_lossy());
    run(
        "tar",
        &["--zstd", "--numeric-owner", "--xattrs", "-C", root.as_ref(), "-xpf", archive.as_ref()],
    )?;
    drop(fs::remove_dir_all(Path::new(root.as_ref()).join("etc/vzdump")));
    Ok(())
}

/// `POST /nodes/{node}/vzdump`.
pub fn vzdump(node: &Node, parameters: &Parameters) -> Result<Value> {
    let guests: Vec<u64> = if parameters.is_set("all") {
        node::guests()
            .into_iter()
            .filter(|g| g.node == node.name && g.is_container)
            .map(|g| g.vmid)
            .collect()
    } else {
        let listed = property::list(parameters.get("vmid").unwrap_or_default());
        listed.into_iter().filter_map(|text| text.parse().ok()).collect()
    };
    if guests.is_empty() {
        return Err(failure("no VMs specified"));
    }
    let place = storage::find(parameters.get("storage").unwrap_or("local"))?;
    if !place.takes("backup") {
        return Err(failure(format!("storage '{}' does not support backups", place.name)));
    }
    let keep = kept(parameters)?;
    let id = match guests.as_slice() {
        [only] => only.to_string(),
        _ => String::new(),
    };
    let upid = task::run(node, "vzdump", &id, || {
        let mut failed = false;
        for vmid in guests {
            let began = std::time::Instant::now();
            task::say(&format!("INFO: Starting Backup of VM {vmid} (lxc)"));
            match back_up(node, vmid, parameters).and_then(|()| prune(vmid, keep)) {
                Ok(()) => task::say(&format!(
                    "INFO: Finished Backup of VM {vmid} (00:00:{:02})",
                    began.elapsed().as_secs().min(59)
                )),
                Err(why) => {
                    failed = true;
                    task::say(&format!("ERROR: Backup of VM {vmid} failed - {why}"));
                }
            }
        }
        task::say(if failed {
            "INFO: Backup job finished with errors"
        } else {
            "INFO: Backup job finished successfully"
        });
        if failed { Err(failure("job errors")) } else { Ok(()) }
    })?;
    Ok(Value::String(upid))
}

/// How many backups of a container are to stay; nothing means all.
fn kept(parameters: &Parameters) -> Result<Option<usize>> {
    let Some(text) = parameters.get("prune-backups") else { return Ok(None) };
    let parts = property::parse(text, "");
    match parts.as_slice() {
        [(key, value)] if key == "keep-all" && value == "1" => Ok(None),
        [(key, value)] if key == "keep-last" => match value.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(bad_parameter("prune-backups", "invalid format - format error\n")),
        },
        _ => Err(bad_parameter("prune-backups", "only keep-last and keep-all are known here")),
    }
}

/// Removes the oldest backups of a container; protected ones are neither counted nor removed.
fn prune(vmid: u64, keep: Option<usize>) -> Result<()> {
    let Some(keep) = keep else { return Ok(()) };
    let folder = Path::new(storage::LOCAL).join("dump");
    // Their names have the time in them.
    let all = node::names_in(&folder);
    let own = all.iter().filter(|name| is_backup(name) && guest_of(name) == Some(vmid));
    let mut own: Vec<PathBuf> = own.map(|name| folder.join(name)).collect();
    own.retain(|archive| !with_suffix(archive, ".protected").exists());
    let surplus = own.len().saturating_sub(keep);
    for archive in own.into_iter().take(surplus) {
        task::say(&format!("INFO: removing backup '{}'", archive.display()));
        remove(&archive)?;
    }
    Ok(())
}

/// Removes a backup and what is kept beside it.
pub fn remove(archive: &Path) -> Result<()> {
    fs::remove_file(archive)?;
    drop(fs::remove_file(with_suffix(archive, ".notes")));
    let name = archive.to_string_lossy();
    drop(fs::remove_file(format!("{}.log", name.trim_end_matches(".tar.zst"))));
    Ok(())
}

fn back_up(node: &Node, vmid: u64, parameters: &Parameters) -> Result<()> {
    let mode = parameters.get("mode").unwrap_or("snapshot");
    let was_running = container::is_running(vmid);
    task::say(&format!("INFO: status = {}", if was_running { "running" } else { "stopped" }));
    task::say(&format!("INFO: backup mode: {}", if was_running { mode } else { "stop" }));
    locked(node, vmid, "backup", |known| {
        task::say(&format!("INFO: CT Name: {}", known.get("hostname").unwrap_or_default()));
        if was_running && mode == "stop" {
            lifecycle::end_softly(vmid, std::time::Duration::from_secs(60), true)?;
        }
        if was_running && mode == "suspend" {
            container::freeze(vmid, true)?;
        }
        let outcome = write_archive(vmid, known, parameters);
        if was_running && mode == "suspend" {
            container::freeze(vmid, false)?;
        }
        outcome
    })?;
    if was_running && mode == "stop" { lifecycle::start_now(node, vmid) } else { Ok(()) }
}

fn write_archive(vmid: u64, known: &Config, parameters: &Parameters) -> Result<()> {
    let folder = Path::new(storage::LOCAL).join("dump");
    fs::create_dir_all(&folder)?;
    let name = format!("vzdump-lxc-{vmid}-{}", Local::now().format("%Y_%m_%d-%H_%M_%S"));
    let archive = folder.join(format!("{name}.tar.zst"));
    if archive.exists() {
        return Err(failure(format!(
            "unable to create archive '{}' - file exists",
            archive.display()
        )));
    }
    let part = folder.join(format!("{name}.tar.dat"));
    task::say(&format!("INFO: creating vzdump archive '{}'", archive.display()));
    let mut kept = known.clone();
    kept.values.remove("lock");
    kept.snapshots.clear();
    kept.pending.clear();
    let side = folder.join(format!("{name}.tmp"));
    fs::create_dir_all(side.join("etc/vzdump"))?;
    fs::write(side.join("etc/vzdump/pct.conf"), kept.print())?;
    let outcome = container::with_root(vmid, known, |root| pack(root, &side, &part));
    drop(fs::remove_dir_all(&side));
    if let Err(why) = outcome {
        drop(fs::remove_file(&part));
        return Err(why);
    }
    fs::rename(&part, &archive)?;
    if let Some(notes) = parameters.get("notes-template") {
        let text = notes
            .replace("{{guestname}}", known.get("hostname").unwrap_or_default())
            .replace("{{vmid}}", &vmid.to_string());
        fs::write(with_suffix(&archive, ".notes"), text)?;
    }
    if parameters.is_set("protected") {
        fs::write(with_suffix(&archive, ".protected"), "")?;
    }
    fs::write(folder.join(format!("{name}.log")), format!("INFO: Finished Backup of VM {vmid}\n"))?;
    let size = fs::metadata(&archive)?.len();
    task::say(&format!("INFO: archive file size: {}MB", size >> 20));
    Ok(())
}

/// Files that change while they are read are as a snapshot would have them; sockets are left out.
fn pack(root: &Path, side: &Path, to: &Path) -> Result<()> {
    let arguments = [
        "--zstd".as_ref(),
        "--numeric-owner".as_ref(),
        "--xattrs".as_ref(),
        "--one-file-system".as_ref(),
        "--warning=none".as_ref(),
        "--ignore-failed-read".as_ref(),
        "-cf".as_ref(),
        to.as_os_str(),
        "-C".as_ref(),
        side.as_os_str(),
        KEPT_CONFIG.as_ref(),
        "-C".as_ref(),
        root.as_os_str(),
        ".".as_ref(),
    ];
    let output = command("tar").args(arguments).stdin(std::process::Stdio::null()).output()?;
    match output.status.code() {
        Some(0 | 1) => Ok(()),
        _ => {
            Err(failure(format!("tar failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
    }
}

/// The file beside an archive that has something to say of it.
pub fn with_suffix(archive: &Path, suffix: &str) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a file in the folder of backups is one of a container.
pub fn is_backup(name: &str) -> bool {
    name.starts_with("vzdump-lxc-") && name.ends_with(".tar.zst")
}

/// The number of the container that a backup is of.
pub fn guest_of(name: &str) -> Option<u64> {
    name.strip_prefix("vzdump-lxc-")?.split('-').next()?.parse().ok()
}
